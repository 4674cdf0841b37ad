//! One measurement: one target, one task, once.
//!
//! Owns opening, warming up, timing and closing, and turns the outcome into the figure of the
//! workload's unit. Does not make or remove directories, and does not repeat (`run`).

use std::path::Path;
use std::time::Duration;

use crate::load::{Load, Outcome, SAMPLES_MAX, drive, record_of};
use crate::machine::{Counters, settle};
use crate::run::Settings;
use crate::target::Kind;
use crate::workload::{Case, Task, Workload};
use crate::{Result, approximate, memory, scan};

/// How long a target works before the clock starts.
pub const WARM_UP: Duration = Duration::from_millis(300);

/// The figures of one measurement; what its task does not take down is `None`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Observation {
    /// The figure, in the unit of the workload.
    pub value: f64,
    /// Median latency.
    pub p50_ns: Option<u64>,
    /// 99th percentile of the latency.
    pub p99_ns: Option<u64>,
    /// Commits of the file system's journal for each append.
    pub journal_commits: Option<f64>,
    /// FLUSH requests of the device for each append.
    pub flushes: Option<f64>,
}

/// Measures `case` of `workload` in `dir`: a new directory, or for a scan the one with the log.
pub fn measure(
    workload: &Workload,
    case: Case,
    dir: &Path,
    settings: &Settings,
) -> Result<Observation> {
    let record = record_of(workload.record_bytes);
    let duration = settings.duration;
    match case.task {
        Task::Append(load) => {
            let (outcome, _counters) = timed(case.kind, load, &record, dir, duration)?;
            let value = outcome.appends_per_second();
            Ok(Observation { value, ..latencies_of(&outcome) })
        }
        Task::DeviceBytes(load) => {
            let (outcome, counters) = timed(case.kind, load, &record, dir, duration)?;
            per_append(&outcome, counters, record.len())
        }
        Task::Memory(_) => {
            let grown_bytes = memory::growth_bytes(case.kind, workload.name, dir, duration)?;
            Ok(Observation { value: approximate(grown_bytes), ..Observation::default() })
        }
        Task::Scan(cache) => {
            let value = scan::bytes_per_second(case.kind, cache, dir, settings.scan_bytes)?;
            Ok(Observation { value, ..Observation::default() })
        }
    }
}

/// Runs a load after a warm-up. The counters are what the device did while the clock ran.
fn timed(
    kind: Kind,
    load: Load,
    record: &[u8],
    dir: &Path,
    duration: Duration,
) -> Result<(Outcome, Counters)> {
    let target = kind.open(dir)?;
    drive(&*target, load, record, WARM_UP, 0, &mut || ())?;
    settle(dir)?;
    let before = Counters::read(dir);
    let outcome = drive(&*target, load, record, duration, SAMPLES_MAX, &mut || ())?;
    let counters = Counters::read(dir).since(before);
    target.close()?;
    Ok((outcome, counters))
}

fn latencies_of(outcome: &Outcome) -> Observation {
    Observation {
        p50_ns: outcome.latencies.percentile_ns(50),
        p99_ns: outcome.latencies.percentile_ns(99),
        ..Observation::default()
    }
}

fn per_append(outcome: &Outcome, counters: Counters, record_bytes: usize) -> Result<Observation> {
    let appends = approximate(outcome.appends);
    let written_bytes = counters.written_bytes.ok_or("this device counts no written bytes")?;
    let payload_bytes = outcome.appends * u64::try_from(record_bytes)?;
    Ok(Observation {
        value: approximate(written_bytes) / approximate(payload_bytes),
        journal_commits: counters.journal_commits.map(|commits| approximate(commits) / appends),
        flushes: counters.flushes.map(|flushes| approximate(flushes) / appends),
        ..latencies_of(outcome)
    })
}
