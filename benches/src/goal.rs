//! Whether the engine reached its goals.
//!
//! Owns the comparison and its wording. Does not know where in the table a verdict stands but for
//! the row it belongs to.

use crate::run::Report;
use crate::table::{figure, time};
use crate::target::Kind;
use crate::workload::Goal;

/// Journal commits for each append that are put down to the passing of time: one in a hundred
/// appends.
const JOURNAL_COMMITS_MAX: f64 = 0.01;

/// A goal beside what was measured.
#[derive(Debug, PartialEq)]
pub struct Verdict {
    /// The goal in words.
    pub goal: String,
    /// Whether it is met; `None` when it could not be told.
    pub is_met: Option<bool>,
    /// What was measured, where the row does not show it anyway.
    pub measured: Option<String>,
}

/// The target in whose row the goal is shown: the one it compares with, or the engine.
#[must_use]
pub fn row_of(goal: &Goal) -> Kind {
    match goal {
        Goal::Ratio { against, .. } | Goal::P50Ratio { against, .. } => *against,
        Goal::P99Below(_) | Goal::AtLeast(_) | Goal::AtMost(_) | Goal::NoJournalCommits => {
            Kind::Engine
        }
    }
}

/// The engine's figure divided by that of `against`.
#[must_use]
pub fn ratio(report: &Report, against: Kind) -> Option<f64> {
    Some(report.summary_of(Kind::Engine)?.value / report.summary_of(against)?.value)
}

/// Holds the engine to `goal`.
#[must_use]
pub fn judge(report: &Report, goal: &Goal) -> Verdict {
    let unit = report.workload.unit;
    let engine = report.summary_of(Kind::Engine);
    match *goal {
        Goal::Ratio { against, at_least } => Verdict {
            goal: format!("≥ {at_least}×"),
            is_met: ratio(report, against).map(|ratio| ratio >= at_least),
            measured: None,
        },
        Goal::P50Ratio { against, at_most } => {
            let other = report.summary_of(against).and_then(|summary| summary.p50_ns);
            let ratio = engine.and_then(|summary| summary.p50_ns).zip(other);
            let ratio = ratio.map(|(engine_ns, other_ns)| engine_ns / other_ns);
            Verdict {
                goal: format!("p50 ≤ {at_most}×"),
                is_met: ratio.map(|ratio| ratio <= at_most),
                measured: ratio.map(|ratio| format!("{ratio:.2}×")),
            }
        }
        Goal::P99Below(bound_ns) => {
            let bound_ns = crate::approximate(bound_ns);
            Verdict {
                goal: format!("p99 < {}", time(bound_ns)),
                is_met: engine.and_then(|summary| summary.p99_ns).map(|p99_ns| p99_ns < bound_ns),
                measured: None,
            }
        }
        Goal::AtLeast(bound) => Verdict {
            goal: format!("≥ {}", figure(bound, unit)),
            is_met: engine.map(|summary| summary.value >= bound),
            measured: None,
        },
        Goal::AtMost(bound) => Verdict {
            goal: format!("≤ {}", figure(bound, unit)),
            is_met: engine.map(|summary| summary.value <= bound),
            measured: None,
        },
        Goal::NoJournalCommits => {
            let commits = engine.and_then(|summary| summary.journal_commits);
            Verdict {
                goal: "no journal commits".to_owned(),
                is_met: commits.map(|commits| commits <= JOURNAL_COMMITS_MAX),
                measured: None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::{Row, Summary};
    use crate::workload::named;

    fn report(name: &str, engine: Summary, other: Summary) -> Report {
        let workload = named(name)[0];
        let row = |case: usize, summary| Row { case: workload.cases[case], summary: Ok(summary) };
        Report { workload, rows: vec![row(0, engine), row(1, other)] }
    }

    fn summary(value: f64, p50_ns: f64) -> Summary {
        Summary { value, p50_ns: Some(p50_ns), ..Summary::default() }
    }

    #[test]
    fn ratios_are_of_the_engine_to_the_other() {
        let report = report("append-1x100", summary(900.0, 110.0), summary(1000.0, 100.0));
        let verdicts: Vec<Verdict> =
            report.workload.goals.iter().map(|goal| judge(&report, goal)).collect();
        assert_eq!(ratio(&report, Kind::Direct), Some(0.9));
        assert_eq!(verdicts[0].is_met, Some(false));
        assert_eq!(verdicts[1].is_met, Some(false));
        assert_eq!(verdicts[1].measured.as_deref(), Some("1.10×"));
    }

    #[test]
    fn bounds_hold_the_engine_and_nobody_else() {
        let report = report("device-bytes-1x1k", summary(4.05, 1.0), summary(9.0, 1.0));
        let verdicts: Vec<Verdict> =
            report.workload.goals.iter().map(|goal| judge(&report, goal)).collect();
        assert_eq!(verdicts[0].is_met, Some(true));
        assert_eq!(verdicts[1].is_met, None, "no journal was read");
        assert_eq!(row_of(&report.workload.goals[0]), Kind::Engine);
    }
}
