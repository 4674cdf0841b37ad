//! Rounds: every target of a workload in turn, again and again, and the medians of it.
//!
//! Owns the order, the directories and the summary. Does not measure (`measure`), judge (`goal`) or
//! print (`table`).
//!
//! Each round begins with the next target, so that nobody always follows the same neighbour. Each
//! measurement has a directory of its own, removed and settled before the next begins.
//! Failure: a target that fails is reported and left out of the remaining rounds of its workload.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::measure::{Observation, measure};
use crate::target::Kind;
use crate::workload::{Case, Workload};
use crate::{Result, machine, scan};

/// How a run is done.
#[derive(Clone, Debug)]
pub struct Settings {
    /// An existing directory of ours alone, on the device that is measured.
    pub dir: PathBuf,
    /// How often each target has its turn.
    pub rounds: usize,
    /// How long a turn takes, after the warm-up.
    pub duration: Duration,
    /// Payload of the log that is scanned.
    pub scan_bytes: u64,
}

/// The outcome of a workload.
#[derive(Debug)]
pub struct Report {
    /// Which one.
    pub workload: &'static Workload,
    /// Its cases that are in this build, in their order.
    pub rows: Vec<Row>,
}

impl Report {
    /// The summary of `kind`, if it was measured.
    #[must_use]
    pub fn summary_of(&self, kind: Kind) -> Option<&Summary> {
        self.rows.iter().find(|row| row.case.kind == kind)?.summary.as_ref().ok()
    }
}

/// The outcome of a case.
#[derive(Debug)]
pub struct Row {
    /// Which one.
    pub case: Case,
    /// The summary, or why there is none.
    pub summary: std::result::Result<Summary, String>,
}

/// Medians over the rounds of a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Summary {
    /// The figure, in the unit of the workload.
    pub value: f64,
    /// Its lowest.
    pub lowest: f64,
    /// Its highest.
    pub highest: f64,
    /// Median of the median latencies.
    pub p50_ns: Option<f64>,
    /// Median of the 99th percentiles.
    pub p99_ns: Option<f64>,
    /// Commits of the file system's journal for each append.
    pub journal_commits: Option<f64>,
    /// FLUSH requests of the device for each append.
    pub flushes: Option<f64>,
}

impl Summary {
    fn of(observations: &[Observation]) -> Self {
        let values = || observations.iter().map(|observation| observation.value);
        let median_of = |figure: fn(&Observation) -> Option<f64>| {
            median(observations.iter().filter_map(figure).collect())
        };
        Self {
            value: median(values().collect()).unwrap_or(f64::NAN),
            lowest: values().fold(f64::INFINITY, f64::min),
            highest: values().fold(f64::NEG_INFINITY, f64::max),
            p50_ns: median_of(|observation| observation.p50_ns.map(crate::approximate)),
            p99_ns: median_of(|observation| observation.p99_ns.map(crate::approximate)),
            journal_commits: median_of(|observation| observation.journal_commits),
            flushes: median_of(|observation| observation.flushes),
        }
    }
}

/// The middle one, or the mean of the two in the middle.
#[must_use]
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = values.get(middle)?;
    let lower = if values.len().is_multiple_of(2) { values.get(middle - 1)? } else { upper };
    Some(f64::midpoint(*lower, *upper))
}

/// Runs `workload`, telling `progress` what is about to happen.
pub fn run(
    workload: &'static Workload,
    settings: &Settings,
    progress: &mut dyn FnMut(&str),
) -> Result<Report> {
    let cases: Vec<Case> =
        workload.cases.iter().copied().filter(|case| case.kind.is_built()).collect();
    let dir = settings.dir.join(workload.name);
    fs::create_dir(&dir)?;
    if workload.is_scan() {
        progress(&format!("{}: writing the log", workload.name));
        scan::prepare(&dir, settings.scan_bytes)?;
    }
    let mut outcomes: Vec<std::result::Result<Vec<Observation>, String>> =
        cases.iter().map(|_| Ok(Vec::new())).collect();
    for turn in turns(cases.len(), settings.rounds) {
        let case = cases[turn.case];
        let Ok(observations) = &mut outcomes[turn.case] else { continue };
        let name = case.kind.name();
        progress(&format!(
            "{}: round {} of {}, {name}",
            workload.name,
            turn.round + 1,
            settings.rounds
        ));
        match in_own_directory(workload, case, &dir, settings) {
            Ok(observation) => observations.push(observation),
            Err(error) => outcomes[turn.case] = Err(error.to_string()),
        }
    }
    fs::remove_dir_all(&dir)?;
    machine::settle(&settings.dir)?;
    let rows = cases.into_iter().zip(outcomes).map(|(case, outcome)| Row {
        case,
        summary: outcome.map(|observations| Summary::of(&observations)),
    });
    Ok(Report { workload, rows: rows.collect() })
}

/// Whose turn it is.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    /// In which round, counted from 0.
    pub round: usize,
    /// Which of the cases.
    pub case: usize,
}

/// All turns in their order: see the module.
pub fn turns(cases: usize, rounds: usize) -> impl Iterator<Item = Turn> {
    (0..rounds).flat_map(move |round| {
        (0..cases).map(move |position| Turn { round, case: (round + position) % cases })
    })
}

fn in_own_directory(
    workload: &Workload,
    case: Case,
    dir: &Path,
    settings: &Settings,
) -> Result<Observation> {
    if workload.is_scan() {
        return measure(workload, case, dir, settings);
    }
    let own_dir = dir.join(case.kind.name());
    fs::create_dir(&own_dir)?;
    let observation = measure(workload, case, &own_dir, settings);
    fs::remove_dir_all(&own_dir)?;
    machine::settle(dir)?;
    observation
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0]), Some(2.5));
        assert_eq!(median(Vec::new()), None);
    }

    #[test]
    fn every_round_has_every_case_once_and_begins_with_another() {
        let order: Vec<usize> = turns(3, 3).map(|turn| turn.case).collect();
        assert_eq!(order, [0, 1, 2, 1, 2, 0, 2, 0, 1]);
    }

    #[test]
    fn a_failure_is_told_and_the_others_go_on() {
        let name = format!("cairnlog-run-{}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        fs::create_dir_all(&dir).expect("the temporary directory is writable");
        let workload: &'static Workload = Box::leak(Box::new(Workload {
            cases: Box::leak(Box::new([Case {
                kind: Kind::Direct,
                task: crate::workload::Task::Append(crate::load::Load::Buffered { writers: 1 }),
            }])),
            ..*crate::workload::named("append-1x100")[0]
        }));
        let duration = Duration::from_millis(1);
        let settings = Settings { dir: dir.clone(), rounds: 2, duration, scan_bytes: 0 };
        let report = run(workload, &settings, &mut |_| ()).expect("a failed case is no failed run");
        fs::remove_dir_all(&dir).expect("ours");
        assert!(report.rows[0].summary.is_err());
        assert!(report.summary_of(Kind::Direct).is_none());
    }
}
