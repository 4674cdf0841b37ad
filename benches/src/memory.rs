//! The memory that a target adds to its process.
//!
//! Owns the child process that is watched, so that what earlier workloads left in the allocator
//! does not count, and the subtraction of what the load itself costs: its threads run first on a
//! target that does nothing.
//!
//! What counts: all resident pages, those of mapped files too. The figure is the highest of many
//! looks.

use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::load::{Load, drive, record_of};
use crate::machine::resident_bytes;
use crate::target::{Kind, Target, Writer};
use crate::{Result, measure};

/// The hidden option with which `compare` starts itself.
pub const CHILD_OPTION: &str = "resident-of";

const IDLE_TIME: Duration = Duration::from_millis(200);

/// Bytes that `kind` adds under the load of `workload`, measured in a child process.
pub fn growth_bytes(kind: Kind, workload: &str, dir: &Path, duration: Duration) -> Result<u64> {
    let output = Command::new(std::env::current_exe()?)
        .arg(format!("--{CHILD_OPTION}={}", kind.name()))
        .arg(format!("--only={workload}"))
        .arg(format!("--seconds={}", duration.as_secs_f64()))
        .arg("--dir")
        .arg(dir)
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err(format!("the process that was watched ended with {}", output.status).into());
    }
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}

/// What the child does: returns the bytes that its resident memory grew by in `dir`, an empty
/// directory.
pub fn watch(
    kind: Kind,
    load: Load,
    record_bytes: usize,
    dir: &Path,
    duration: Duration,
) -> Result<u64> {
    let record = record_of(record_bytes);
    let highest_of = |target: &dyn Target, duration| -> Result<u64> {
        let mut highest_bytes = 0;
        let mut look = || highest_bytes = resident_bytes().unwrap_or(0).max(highest_bytes);
        drive(target, load, &record, duration, 0, &mut look)?;
        Ok(highest_bytes)
    };
    let idle_bytes = highest_of(&Idle, IDLE_TIME)?;
    let target = kind.open(dir)?;
    let busy_bytes = highest_of(&*target, measure::WARM_UP + duration)?;
    target.close()?;
    Ok(busy_bytes.saturating_sub(idle_bytes))
}

/// A target that does nothing.
struct Idle;

impl Target for Idle {
    fn durable(&self, _writer_index: usize) -> Result<Box<dyn Writer + '_>> {
        Ok(Box::new(Self))
    }
}

impl Writer for Idle {
    fn append(&mut self, _record: &[u8]) -> Result<()> {
        thread::sleep(Duration::from_millis(1));
        Ok(())
    }
}
