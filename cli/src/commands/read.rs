//! `read`: records out, beside a writer or without one.
//!
//! Owns the loop over records of a directory, and what it means when that ends early. How a record is shown
//! is in `read::format`, the same from a server in `read::server`.
//!
//! Bounds: one batch and the output's buffer.

pub(super) mod format;
mod server;

use std::io::{self, IsTerminal};
use std::path::Path;
use std::time::Duration;

use cairnlog_engine::{LogReader, Lsn, ReadError, Records, Verdict};

use crate::args::{Place, ReadArgs};
use crate::exit::{Exit, Failure};
use crate::output::{self, Progress};
use format::{Shown, Sink};

/// The progress bar is looked at once in so many records.
const PROGRESS_RECORDS: u64 = 4096;
/// Damage that is seen while a writer lives is looked at again: what is on its way looks like nothing yet.
/// Each look takes its time by itself before it says so.
const LOOKS_MAX: u32 = 2;
const LOOK_PAUSE: Duration = Duration::from_millis(5);

pub(crate) fn run(args: &ReadArgs) -> Result<Exit, Failure> {
    match &args.place {
        Place::Directory(directory) => run_on_directory(args, directory),
        Place::Servers(cluster) => server::run(args, cluster),
    }
}

fn run_on_directory(args: &ReadArgs, directory: &Path) -> Result<Exit, Failure> {
    let opened = LogReader::open(directory);
    let reader = opened.map_err(|error| Failure::open(directory, &error))?;
    let range = reader.range();
    let (from, to) = (args.from.unwrap_or(range.start), args.to.unwrap_or(Lsn::MAX));
    check_order(from, to)?;
    let records = reader.iter(from..to)?;
    let sink = Sink::new(output::stdout()?, args.format);
    let count = args.count.unwrap_or(u64::MAX);
    let mut reading = Reading {
        directory,
        reader,
        records,
        sink,
        to,
        left: count,
        written: 0,
        salvages: args.salvage,
        passed_over: None,
    };
    let mut ended = reading.run(args.follow);
    if ended.is_err() && reading.written == 0 && args.from.is_none() {
        // The oldest segment was dropped since it was looked up: once more from the new start.
        ended = reading.start_again().and_then(|()| reading.run(args.follow));
    }
    // What was read is shown, whatever ended it.
    reading.sink.flush()?;
    if let Some((from, to)) = reading.passed_over {
        say_passed_over(from, to);
        return ended.map(|_| Exit::No);
    }
    ended
}

fn check_order(from: Lsn, to: Lsn) -> Result<(), Failure> {
    if from > to {
        let message = format!("--to {to} is before {from}, where reading starts");
        return Err(Failure::new(Exit::Failed, message));
    }
    Ok(())
}

fn say_passed_over(from: Lsn, to: Lsn) {
    output::talk(format_args!("records {from}..{to} were passed over"));
}

struct Reading<'a> {
    directory: &'a Path,
    reader: LogReader,
    records: Records,
    sink: Sink,
    to: Lsn,
    /// So many may still be shown.
    left: u64,
    written: u64,
    /// Whether damage is passed over.
    salvages: bool,
    /// The records that were passed over last.
    passed_over: Option<(Lsn, Lsn)>,
}

impl Reading<'_> {
    fn run(&mut self, follow: bool) -> Result<Exit, Failure> {
        let is_terminal = io::stdout().is_terminal();
        let mut progress = Progress::new(false, !follow && !is_terminal);
        let whole = self.range_records();
        loop {
            let copied = self.copy(|done| progress.show(done, whole));
            progress.clear();
            copied?;
            if self.left == 0 || self.records.next_lsn() >= self.to {
                return Ok(Exit::Done);
            }
            if !follow {
                return self.check_end();
            }
            self.sink.flush()?;
            if !self.wait()? {
                return Ok(Exit::Done);
            }
        }
    }

    /// How many records there are to show as far as is known.
    fn range_records(&self) -> u64 {
        let end = self.reader.range().end.min(self.to);
        end.since(self.records.next_lsn()).min(self.left)
    }

    /// Shows what there is.
    fn copy(&mut self, mut progress: impl FnMut(u64)) -> Result<(), Failure> {
        while self.left > 0 {
            let record = match self.records.next_ref() {
                Ok(Some(record)) => record,
                Ok(None) => break,
                Err(error) if self.salvages => {
                    self.pass_over(error)?;
                    continue;
                }
                Err(error) => return Err(self.explain(error)),
            };
            self.sink.write(&Shown::from(&record))?;
            self.left -= 1;
            self.written += 1;
            if self.written.is_multiple_of(PROGRESS_RECORDS) {
                progress(self.written);
            }
        }
        Ok(())
    }

    /// Goes on behind records that cannot be had, and says which those are.
    fn pass_over(&mut self, error: ReadError) -> Result<(), Failure> {
        let next = self.records.next_lsn();
        let behind = match &error {
            ReadError::Lost { range } => range.end,
            ReadError::Corrupt(_) | ReadError::Missing { .. } | ReadError::Io(_) => {
                // One more each time: the batch says how many it had only when it is whole.
                next.next()
            }
            _ => return Err(self.explain(error)),
        };
        let end = self.reader.range().end;
        match &mut self.passed_over {
            Some((_, to)) if *to == next => *to = behind,
            passed_over => {
                if let Some((from, to)) = passed_over.replace((next, behind)) {
                    say_passed_over(from, to);
                }
                output::talk(&error);
            }
        }
        self.records = self.reader.iter(behind.min(end)..self.to)?;
        Ok(())
    }

    /// A writer may have dropped what was being read; then that is the reason.
    fn explain(&mut self, error: ReadError) -> Failure {
        let next = self.records.next_lsn();
        if self.reader.refresh().is_ok() && self.reader.range().start > next {
            let first = self.reader.range().start;
            let message = format!(
                "records {next}..{first} were dropped by retention before they were read; go on with \
                 --from {first}"
            );
            return Failure::new(Exit::Failed, message);
        }
        let failure = Failure::from(error);
        if failure.exit == Exit::No {
            return failure.and("later records may be whole: --salvage passes over what is not");
        }
        failure
    }

    fn start_again(&mut self) -> Result<(), Failure> {
        let range = self.reader.range();
        self.records = self.reader.iter(range.start..self.to)?;
        Ok(())
    }

    /// Waits for more records; false when nobody reads the output any more.
    fn wait(&mut self) -> Result<bool, Failure> {
        let mut looks = 0;
        loop {
            let more = self.reader.follow(&mut self.records);
            if more.map_err(|error| Failure::open(self.directory, &error))? {
                return Ok(true);
            }
            if output::reader_is_gone() {
                return Ok(false);
            }
            if is_damage(self.reader.verdict()) {
                looks += 1;
                if looks >= LOOKS_MAX {
                    return self.check_end().map(|_| false);
                }
            } else {
                looks = 0;
            }
        }
    }

    /// The log ends here, unless what comes next is damaged or gone.
    fn check_end(&mut self) -> Result<Exit, Failure> {
        let mut looks = 1;
        while is_damage(self.reader.verdict()) {
            if !self.reader.writer_lives() || looks >= LOOKS_MAX {
                return Err(Failure::new(Exit::No, self.reader.verdict().to_string()));
            }
            looks += 1;
            std::thread::sleep(LOOK_PAUSE);
            self.reader.refresh().map_err(|error| Failure::open(self.directory, &error))?;
        }
        Ok(Exit::Done)
    }
}

fn is_damage(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Damaged(_) | Verdict::LostDurable { .. })
}
