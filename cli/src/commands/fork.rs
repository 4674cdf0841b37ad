//! `fork`: what truncations gave up, and keep beside the log.
//!
//! Owns the list of forks, and which one is meant. How a record is shown is `read`'s.

use std::io::Write;
use std::path::Path;

use cairnlog_engine::{Epoch, ForkError, ForkReader, Lsn};
use serde_json::json;

use super::read::format::{Shown, Sink};
use crate::args::{ForkArgs, RecordFormat};
use crate::exit::{Exit, Failure};
use crate::output::{self, talk};

pub(crate) fn run(args: &ForkArgs) -> Result<Exit, Failure> {
    let directory = &args.directory.path;
    let forks = ForkReader::list(directory)
        .map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
    match args.lsn {
        None => list(directory, &forks, args.format),
        Some(lsn) => {
            let wanted = |(at, epoch): &&(Lsn, Epoch)| {
                *at == lsn && args.epoch.is_none_or(|wanted| epoch.get() == wanted)
            };
            let Some((_, epoch)) = forks.iter().rev().find(wanted) else {
                let message = format!("no fork begins at LSN {lsn}: see the list, without --lsn");
                return Err(Failure::new(Exit::No, message));
            };
            show(directory, lsn, *epoch, args.format)
        }
    }
}

fn list(directory: &Path, forks: &[(Lsn, Epoch)], format: RecordFormat) -> Result<Exit, Failure> {
    let mut exit = Exit::Done;
    let mut output = output::stdout()?;
    for (lsn, epoch) in forks {
        let fork = match ForkReader::open(directory, *lsn, *epoch) {
            Ok(fork) => fork,
            Err(error) => {
                talk(format_args!("{error}"));
                exit = worse(&error);
                continue;
            }
        };
        let header = fork.header();
        let (lsn, end_lsn, epoch) = (lsn.get(), header.end_lsn.get(), epoch.get());
        let records = end_lsn.saturating_sub(lsn);
        let written = match format {
            RecordFormat::Raw => writeln!(
                output,
                "LSN {lsn}..{end_lsn}, {records} records, up to epoch {epoch}, given up at {} ms since 1970",
                header.time_ms
            ),
            RecordFormat::Json => {
                let object = json!({
                    "lsn": lsn,
                    "end_lsn": end_lsn,
                    "records": records,
                    "epoch": epoch,
                    "time_ms": header.time_ms,
                    "bytes": header.content_bytes,
                });
                writeln!(output, "{object}")
            }
        };
        written.map_err(|error| Failure::output(&error))?;
    }
    output.flush().map_err(|error| Failure::output(&error))?;
    Ok(exit)
}

fn show(directory: &Path, lsn: Lsn, epoch: Epoch, format: RecordFormat) -> Result<Exit, Failure> {
    let failed = |error: ForkError| Failure::new(worse(&error), error.to_string());
    let mut fork = ForkReader::open(directory, lsn, epoch).map_err(failed)?;
    let mut sink = Sink::new(output::stdout()?, format);
    loop {
        match fork.next_record() {
            Ok(Some(record)) => sink.write(&Shown::from(&record))?,
            Ok(None) => {
                sink.flush()?;
                return Ok(Exit::Done);
            }
            Err(error) => {
                // What was read is shown.
                sink.flush()?;
                return Err(failed(error));
            }
        }
    }
}

/// Damage is an answer; that a file cannot be read is none.
fn worse(error: &ForkError) -> Exit {
    match error {
        ForkError::Damaged { .. } => Exit::No,
        _ => Exit::Failed,
    }
}
