//! Rounds: every target in turn, again and again, and the medians of it.
//!
//! Owns the order, the looks at the CPU time while a load runs, and the summary. Does not judge (`goal`) or
//! print (`table`).
//!
//! All targets run all the time, idle but for one: what they cost idle (heartbeats, timers) is the same for
//! everybody. CPU time is looked at twice within a turn, after the warm-up and at its end, so that what
//! is counted is the load and not the connecting: seconds per second, divided by the turn's appends per second.
//! Failure: a target that fails is reported and left out of the remaining rounds of its workload.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use cairnlog_benches::machine::settle;
use cairnlog_benches::run::{median, turns};
use cairnlog_benches::{Error, Result};

use crate::cpu;
use crate::target::{Target, Turn, WARM_UP};
use crate::workload::{FILL, Kind, Workload};

/// Followers and the file system come to rest between turns.
const PAUSE: Duration = Duration::from_millis(500);
/// So long connecting may take; looks at the CPU time come after it.
const CONNECTING: Duration = Duration::from_millis(500);
const FILL_TIME: Duration = Duration::from_secs(3);
/// CPU time is given for so many appends.
const CPU_APPENDS: f64 = 100_000.0;

/// How a run is done.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) rounds: usize,
    /// How long a turn takes, after the warm-up; more than `CONNECTING`.
    pub(crate) duration: Duration,
}

/// A target that runs.
pub(crate) struct Running {
    pub(crate) kind: Kind,
    pub(crate) target: Box<dyn Target>,
}

/// The outcome of a workload.
pub(crate) struct Report {
    pub(crate) workload: &'static Workload,
    pub(crate) rows: Vec<Row>,
}

impl Report {
    /// The summary of `kind`, if it was measured.
    pub(crate) fn summary_of(&self, kind: Kind) -> Option<&Summary> {
        self.rows.iter().find(|row| row.kind == kind)?.summary.as_ref().ok()
    }
}

/// The outcome of a target: the summary, or why there is none.
pub(crate) struct Row {
    pub(crate) kind: Kind,
    pub(crate) summary: std::result::Result<Summary, String>,
}

/// Medians over the rounds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Summary {
    pub(crate) rate: f64,
    pub(crate) rate_lowest: f64,
    pub(crate) rate_highest: f64,
    pub(crate) p50_ns: f64,
    pub(crate) p99_ns: f64,
    /// Seconds of all nodes for 100,000 appends.
    pub(crate) cpu_seconds: f64,
}

/// A turn, and what it cost.
#[derive(Clone, Copy)]
struct Observation {
    turn: Turn,
    cpu_seconds: f64,
}

impl Summary {
    fn of(observations: &[Observation]) -> Option<Self> {
        let of = |figure: fn(&Observation) -> f64| observations.iter().map(figure);
        let rates = || of(|observation| observation.turn.appends_per_second);
        Some(Self {
            rate: median(rates().collect())?,
            rate_lowest: rates().fold(f64::INFINITY, f64::min),
            rate_highest: rates().fold(f64::NEG_INFINITY, f64::max),
            p50_ns: median(of(|observation| observation.turn.p50_ns).collect())?,
            p99_ns: median(of(|observation| observation.turn.p99_ns).collect())?,
            cpu_seconds: median(of(|observation| observation.cpu_seconds).collect())?,
        })
    }
}

/// Fills each target once; an error is that of its first workload too, so it is not lost here.
pub(crate) fn fill(targets: &mut [Running], dir: &Path) {
    for running in targets {
        eprintln!("filling {}", running.kind.name());
        if let Err(error) = measure(&mut *running.target, &FILL, FILL_TIME, dir) {
            eprintln!("{}: {error}", running.kind.name());
        }
    }
}

/// Runs `workload` on all targets.
pub(crate) fn run(
    workload: &'static Workload,
    targets: &mut [Running],
    settings: &Settings,
    dir: &Path,
) -> Report {
    let mut outcomes: Vec<std::result::Result<Vec<Observation>, Error>> =
        targets.iter().map(|_| Ok(Vec::new())).collect();
    for turn in turns(targets.len(), settings.rounds) {
        let Ok(observations) = &mut outcomes[turn.case] else { continue };
        let running = &mut targets[turn.case];
        let (round, name) = (turn.round + 1, running.kind.name());
        eprintln!("{}: round {round} of {}, {name}", workload.name, settings.rounds);
        match measure(&mut *running.target, workload, settings.duration, dir) {
            Ok(observation) => observations.push(observation),
            Err(error) => outcomes[turn.case] = Err(error),
        }
    }
    let rows = targets.iter().zip(outcomes).map(|(running, outcome)| {
        let summary = outcome.map_err(|error| error.to_string());
        let summary = summary.and_then(|all| Summary::of(&all).ok_or("no round".to_owned()));
        Row { kind: running.kind, summary }
    });
    Report { workload, rows: rows.collect() }
}

fn measure(
    target: &mut dyn Target,
    workload: &Workload,
    duration: Duration,
    dir: &Path,
) -> Result<Observation> {
    target.prepare()?;
    settle(dir)?;
    thread::sleep(PAUSE);
    let processes = target.processes().to_vec();
    let (turn, load) = thread::scope(|scope| {
        let looks = scope.spawn(|| cpu_load(&processes, duration));
        let turn = target.turn(workload, duration);
        (turn, looks.join().expect("no panic in it"))
    });
    let (turn, load) = (turn?, load?);
    let cpu_seconds = load / turn.appends_per_second * CPU_APPENDS;
    Ok(Observation { turn, cpu_seconds })
}

/// CPU seconds for each second of a turn that has just begun.
fn cpu_load(processes: &[u32], duration: Duration) -> Result<f64> {
    let counted = duration.checked_sub(CONNECTING).ok_or("the turn is too short")?;
    thread::sleep(WARM_UP + CONNECTING);
    let (before, started) = (cpu::seconds_of(processes)?, Instant::now());
    thread::sleep(counted);
    let after = cpu::seconds_of(processes)?;
    Ok((after - before) / started.elapsed().as_secs_f64())
}
