//! Printing LSNs as they are acknowledged.
//!
//! Owns a thread that writes them, so that a slow reader of standard output holds up neither the input
//! nor the log: what is acknowledged and not printed yet is two numbers, with a server two for each run of LSNs
//! that no other client comes between.
//!
//! Invariants
//!  A1. Only LSNs that were published are printed, each once, in order.           test `runs_are_in_order_and_said_once`
//!
//! Crash: an LSN is on standard output as soon as it is printed; nothing stays in a buffer.
//! Threads: one prints; publishing never waits for it.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use cairnlog_engine::LsnRange;

use crate::exit::Failure;
use crate::output;

/// At most so many LSNs are written at once.
const LINES_MAX: u64 = 4096;

#[derive(Debug, Default)]
struct State {
    /// Acknowledged and not printed yet, from and up to: in order, and no two touch.
    runs: VecDeque<(u64, u64)>,
    /// Behind the last LSN that was published; 0 at first.
    end: u64,
    finished: bool,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for LSNs to print; `None` when there are none and no more will come.
    fn take(&self) -> Option<(u64, u64)> {
        let mut state = self.lock();
        while state.runs.is_empty() && !state.finished {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let (start, end) = state.runs.pop_front()?;
        let stop = end.min(start + LINES_MAX);
        if stop < end {
            state.runs.push_front((stop, end));
        }
        Some((start, stop))
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Acks {
    shared: Arc<Shared>,
    printer: JoinHandle<io::Result<()>>,
}

/// Publishes LSNs to be printed.
#[derive(Clone, Debug)]
pub(super) struct Publisher(Arc<Shared>);

impl Publisher {
    /// These were acknowledged.
    pub(super) fn publish(&self, lsns: &LsnRange) {
        let mut state = self.0.lock();
        let (start, end) = (lsns.start.get(), lsns.end.get());
        // With `--ack buffered`, records that a full disk refused give their LSNs back, and the command
        // is about to fail: what was said of them stands, and nothing is said twice.
        if start < state.end || start == end {
            return;
        }
        match state.runs.back_mut() {
            Some((_, last)) if *last == start => *last = end,
            _ => state.runs.push_back((start, end)),
        }
        state.end = end;
        drop(state);
        self.0.changed.notify_one();
    }
}

impl Acks {
    /// Starts printing.
    pub(super) fn start() -> Result<Acks, Failure> {
        let stdout = output::raw_stdout()?;
        let shared = Arc::new(Shared::default());
        let printer = {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new()
                .name("acks".to_owned())
                .spawn(move || print(&shared, stdout))
        };
        let printer = printer.map_err(|error| Failure::io("start a thread", &error))?;
        Ok(Acks { shared, printer })
    }

    pub(super) fn publisher(&self) -> Publisher {
        Publisher(Arc::clone(&self.shared))
    }

    /// Prints what was published and ends. That nobody reads it is no failure.
    pub(super) fn finish(self) -> Result<(), Failure> {
        self.shared.lock().finished = true;
        self.shared.changed.notify_one();
        match self.printer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::output(&error)),
            _ => Ok(()),
        }
    }
}

fn print(shared: &Shared, mut stdout: File) -> io::Result<()> {
    let mut text = Vec::new();
    while let Some((start, end)) = shared.take() {
        text.clear();
        for lsn in start..end {
            writeln!(text, "{lsn}")?;
        }
        stdout.write_all(&text)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairnlog_engine::Lsn;

    #[test]
    fn runs_are_in_order_and_said_once() {
        let shared = Arc::new(Shared::default());
        let publisher = Publisher(Arc::clone(&shared));
        for (start, end) in [(5, 7), (7, 9), (7, 8), (20, 20), (20, 20 + LINES_MAX + 1)] {
            publisher.publish(&(Lsn::new(start)..Lsn::new(end)));
        }
        shared.lock().finished = true;
        let taken: Vec<_> = std::iter::from_fn(|| shared.take()).collect();
        assert_eq!(taken, [(5, 9), (20, 20 + LINES_MAX), (20 + LINES_MAX, 21 + LINES_MAX)]);
    }
}
