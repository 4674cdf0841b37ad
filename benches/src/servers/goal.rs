//! Whether Cairnlog reached its goals.
//!
//! Owns the comparison and its wording. The goals are in `workload`.

use cairnlog_benches::table::time;

use crate::rounds::{Report, Summary};
use crate::workload::{Goal, Kind};

/// A goal beside what was measured.
#[derive(Debug, PartialEq)]
pub(crate) struct Verdict {
    /// The goal in words.
    pub(crate) goal: String,
    /// Whether it is met, and by what figure; `None` when somebody it needs was not measured.
    pub(crate) met: Option<(bool, String)>,
}

/// The target in whose row the goal is shown: the one it compares with, or Cairnlog where it is the best of
/// several or no other.
pub(crate) fn row_of(goal: Goal) -> Kind {
    match goal {
        Goal::RateOfRedis(_) | Goal::CpuOfRedis(_) => Kind::Redis,
        Goal::P50OfBest(_) | Goal::P99OfBest(_) | Goal::P99Below(_) => Kind::Cairnlog,
    }
}

/// Cairnlog's rate divided by that of `kind`.
pub(crate) fn ratio(report: &Report, kind: Kind) -> Option<f64> {
    ratio_of(report, kind, |summary| summary.rate)
}

fn ratio_of(report: &Report, kind: Kind, figure: fn(&Summary) -> f64) -> Option<f64> {
    Some(figure(report.summary_of(Kind::Cairnlog)?) / figure(report.summary_of(kind)?))
}

/// Cairnlog's figure divided by the lowest one; `None` when a peer is missing, as it might have been the best.
fn ratio_to_best(report: &Report, figure: fn(&Summary) -> f64) -> Option<f64> {
    let of_redis = ratio_of(report, Kind::Redis, figure)?;
    Some(of_redis.max(ratio_of(report, Kind::Postgres, figure)?))
}

/// Holds Cairnlog to `goal`.
pub(crate) fn judge(report: &Report, goal: Goal) -> Verdict {
    let at_most = |ratio: Option<f64>, bound: f64| {
        ratio.map(|ratio| (ratio <= bound, format!("{ratio:.2}×")))
    };
    let (goal, met) = match goal {
        Goal::RateOfRedis(bound) => {
            let ratio = ratio(report, Kind::Redis);
            let met = ratio.map(|ratio| (ratio >= bound, format!("{ratio:.2}×")));
            (format!("≥ {bound}×"), met)
        }
        Goal::CpuOfRedis(bound) => {
            let ratio = ratio_of(report, Kind::Redis, |summary| summary.cpu_seconds);
            (format!("CPU ≤ {bound}×"), at_most(ratio, bound))
        }
        Goal::P50OfBest(bound) => {
            let ratio = ratio_to_best(report, |summary| summary.p50_ns);
            (format!("p50 ≤ {bound}× the best peer's"), at_most(ratio, bound))
        }
        Goal::P99OfBest(bound) => {
            let ratio = ratio_to_best(report, |summary| summary.p99_ns);
            (format!("p99 ≤ {bound}× the best peer's"), at_most(ratio, bound))
        }
        Goal::P99Below(bound_ns) => {
            let p99_ns = report.summary_of(Kind::Cairnlog).map(|summary| summary.p99_ns);
            let met = p99_ns.map(|p99_ns| (p99_ns < bound_ns, time(p99_ns)));
            (format!("p99 < {}", time(bound_ns)), met)
        }
    };
    Verdict { goal, met }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rounds::Row;
    use crate::workload::WORKLOADS;

    fn report(with_postgres: bool) -> Report {
        let summary = |rate, p50_ns, cpu_seconds| Summary {
            rate,
            p50_ns,
            p99_ns: 2.0 * p50_ns,
            cpu_seconds,
            ..Summary::default()
        };
        let row = |kind, summary| Row { kind, summary: Ok(summary) };
        let mut rows = vec![
            row(Kind::Cairnlog, summary(4000.0, 250.0, 1.0)),
            row(Kind::Redis, summary(1000.0, 500.0, 4.0)),
        ];
        if with_postgres {
            rows.push(row(Kind::Postgres, summary(2000.0, 400.0, 8.0)));
        }
        Report { workload: &WORKLOADS[0], rows }
    }

    fn is_met(goal: Goal, with_postgres: bool) -> Option<bool> {
        judge(&report(with_postgres), goal).met.map(|(is_met, _)| is_met)
    }

    #[test]
    fn rates_and_cpu_are_held_against_redis() {
        assert_eq!(is_met(Goal::RateOfRedis(4.0), true), Some(true));
        assert_eq!(is_met(Goal::RateOfRedis(4.1), true), Some(false));
        assert_eq!(is_met(Goal::CpuOfRedis(0.25), false), Some(true));
        assert_eq!(is_met(Goal::CpuOfRedis(0.24), false), Some(false));
    }

    #[test]
    fn latencies_are_held_against_the_best_peer() {
        assert_eq!(is_met(Goal::P50OfBest(0.63), true), Some(true));
        assert_eq!(is_met(Goal::P50OfBest(0.62), true), Some(false));
        assert_eq!(is_met(Goal::P99OfBest(0.5), true), Some(false));
        assert_eq!(is_met(Goal::P50OfBest(0.9), false), None);
        assert_eq!(is_met(Goal::P99Below(501.0), false), Some(true));
        assert_eq!(is_met(Goal::P99Below(500.0), false), Some(false));
    }
}
