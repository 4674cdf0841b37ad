//! Opening a log for writing, and saying what was found.
//!
//! Owns the lines on standard error about recovery and about the driver.

use std::path::Path;

use cairnlog_engine::{Config, Log, RecoveryReport, Verdict};

use crate::exit::Failure;
use crate::output::talk;

/// Opens the log and tells what deserves to be known.
pub(super) fn open(directory: &Path, config: Config) -> Result<(Log, RecoveryReport), Failure> {
    let (log, report) =
        Log::open(directory, config).map_err(|error| Failure::open(directory, &error))?;
    if report.verdict != Verdict::Clean {
        talk(format_args!("recovered: {}", report.verdict));
    }
    for note in &report.notes {
        talk(format_args!("recovered: {note}"));
    }
    if !report.backend_reason.is_empty() {
        talk(format_args!("the {} driver is in use: {}", report.backend, report.backend_reason));
    }
    Ok((log, report))
}
