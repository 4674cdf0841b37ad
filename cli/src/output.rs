//! The two streams: data on standard output, talk on standard error.
//!
//! Owns how both are written: standard output without the line buffer of `std`, so that large pieces go
//! out as they are; standard error one line at a time, and never a reason to fail.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::Value;

use crate::exit::Failure;

/// Data is gathered up to this much before it is written.
const BUFFER_BYTES: usize = 1 << 20;
/// What is done sooner shows no progress bar.
const PROGRESS_DELAY: Duration = Duration::from_secs(1);

/// One line of talk.
pub(crate) fn talk(message: impl Display) {
    // Nobody is left to tell when this fails.
    let _ = writeln!(io::stderr(), "cairnlog: {message}");
}

/// Standard output, unbuffered.
pub(crate) fn raw_stdout() -> Result<File, Failure> {
    let descriptor = io::stdout().as_fd().try_clone_to_owned();
    descriptor.map(File::from).map_err(|error| Failure::output(&error))
}

/// Standard output for much data. Has to be flushed, to hear of errors.
pub(crate) fn stdout() -> Result<BufWriter<File>, Failure> {
    Ok(BufWriter::with_capacity(BUFFER_BYTES, raw_stdout()?))
}

/// Writes the one answer of a command.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let written = raw_stdout()?.write_all(text.as_bytes());
    written.map_err(|error| Failure::output(&error))
}

/// Writes the one answer of a command as JSON, on one line.
pub(crate) fn print_json(value: &Value) -> Result<(), Failure> {
    print(&format!("{value}\n"))
}

/// Whether standard output is a pipe that nobody reads any more.
pub(crate) fn reader_is_gone() -> bool {
    let stdout = io::stdout();
    let mut descriptors = [PollFd::new(&stdout, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut descriptors, Some(&now)).is_ok_and(|ready| ready > 0)
        && descriptors[0].revents().contains(PollFlags::ERR)
}

/// A progress bar on standard error, for what takes longer than a second; nothing where it would get in
/// the way: when standard error is no terminal.
pub(crate) struct Progress {
    /// Counts from the start, and is hidden until it is worth while.
    bar: Option<ProgressBar>,
    start: Instant,
    is_shown: bool,
}

impl Progress {
    /// `is_bytes`: what is counted are bytes, else records.
    pub(crate) fn new(is_bytes: bool, is_allowed: bool) -> Progress {
        let bar = (is_allowed && io::stderr().is_terminal()).then(|| new_bar(is_bytes));
        Progress { bar, start: Instant::now(), is_shown: false }
    }

    /// Shows how far it is.
    pub(crate) fn show(&mut self, done: u64, total: u64) {
        let Some(bar) = &self.bar else { return };
        bar.set_length(total);
        bar.set_position(done);
        if !self.is_shown && self.start.elapsed() > PROGRESS_DELAY {
            self.is_shown = true;
            bar.set_draw_target(ProgressDrawTarget::stderr());
        }
    }

    /// Takes the bar away.
    pub(crate) fn clear(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn new_bar(is_bytes: bool) -> ProgressBar {
    let template = if is_bytes {
        "{bar:40} {bytes}/{total_bytes}, {binary_bytes_per_sec}, {eta} left"
    } else {
        "{bar:40} {human_pos}/{human_len} records, {eta} left"
    };
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
    let style = ProgressStyle::with_template(template);
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}
