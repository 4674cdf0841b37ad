//! What all handles to one disk share: power, names, faults, space, clock and randomness.
//!
//! Owns the one gate that every operation passes ([`State::begin`]): it counts, cuts the power and
//! injects faults. Does not carry operations out: that is done by `directory`, `file` and `queue`.
//!
//! Invariants
//!  S1. A handle from before a restart changes nothing after it.      test `old_handles_stay_dead`
//!  S2. Each operation but a read is counted once, and may be cut.    test `every_operation_can_be_cut`
//!
//! Threads: any; locks are taken in the order state, then file.

use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::names::Names;
use super::outcome::Outcome;
use super::random::Random;

/// The kind of the errors that an operation gives while the power is out, and a handle from before a
/// power cut for ever. Nothing else gives it.
pub const POWER_CUT: io::ErrorKind = io::ErrorKind::NotConnected;

/// When the simulated clock starts.
const START_MS: u64 = 1_750_000_000_000;
const QUEUE_DEPTH: usize = 4;

/// The operations that can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperationKind {
    /// Making a file.
    Create,
    /// Opening a file.
    Open,
    /// Renaming a file.
    Rename,
    /// Removing a file.
    Remove,
    /// Listing the directory.
    List,
    /// Making names durable.
    SyncDirectory,
    /// Reading or mapping a file.
    Read,
    /// Writing, durably or not; for a queue, the completion of a write.
    Write,
    /// Making a file durable.
    Sync,
    /// Handing a write to a queue.
    Submit,
}

/// What becomes of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Done,
    Failed(io::ErrorKind),
    /// The power went out on the way: it may have happened or not.
    Cut,
}

impl Step {
    /// What is reported in the end.
    pub(super) fn result(self) -> io::Result<()> {
        match self {
            Step::Done => Ok(()),
            Step::Failed(kind) => Err(kind.into()),
            Step::Cut => Err(power_is_out()),
        }
    }

    /// An error if the operation had no effect at all.
    pub(super) fn started(self) -> io::Result<()> {
        if self == Step::Cut { Ok(()) } else { self.result() }
    }

    /// The step, unless something stands in its way.
    pub(super) fn unless(self, hindered: bool, kind: io::ErrorKind) -> Step {
        if self == Step::Done && hindered { Step::Failed(kind) } else { self }
    }
}

struct Fault {
    kind: OperationKind,
    /// How many operations of the kind to go, this one included.
    countdown: u64,
    error: io::ErrorKind,
}

/// See the module.
pub(super) struct State {
    pub(super) names: Names,
    pub(super) random: Random,
    pub(super) now_ms: u64,
    /// Of the clock that never jumps.
    pub(super) elapsed_ms: u64,
    pub(super) queue_depth: usize,
    /// The number of the lock that is held.
    pub(super) lock: Option<u64>,
    /// Room for the files together; without it, no limit.
    pub(super) capacity_bytes: Option<u64>,
    pub(super) operations: u64,
    pub(super) cut_at: Option<u64>,
    has_power: bool,
    /// Raised by every restart.
    generation: u64,
    faults: Vec<Fault>,
    last_number: u64,
}

impl State {
    fn new(seed: u64) -> State {
        State {
            names: Names::default(),
            random: Random::new(seed),
            now_ms: START_MS,
            elapsed_ms: 0,
            queue_depth: QUEUE_DEPTH,
            lock: None,
            capacity_bytes: None,
            operations: 0,
            cut_at: None,
            has_power: true,
            generation: 0,
            faults: Vec::new(),
            last_number: 0,
        }
    }

    /// Whether a handle of this generation still works.
    pub(super) fn check(&self, generation: u64) -> io::Result<()> {
        if generation != self.generation {
            let reason = "the handle is from before a power cut: clone the restarted disk";
            return Err(io::Error::new(POWER_CUT, reason));
        }
        if self.has_power { Ok(()) } else { Err(power_is_out()) }
    }

    /// Lets an operation begin, or not. After a cut, [`Shared::changed`] must be notified.
    pub(super) fn begin(&mut self, generation: u64, kind: OperationKind) -> io::Result<Step> {
        self.check(generation)?;
        // A cut during a read is one during the operation after it.
        if kind != OperationKind::Read {
            self.operations += 1;
            self.now_ms = self.now_ms.saturating_add(1);
            self.elapsed_ms += 1;
            if self.cut_at.is_some_and(|at| self.operations >= at) {
                self.has_power = false;
                return Ok(Step::Cut);
            }
        }
        Ok(self.take_fault(kind).map_or(Step::Done, Step::Failed))
    }

    fn take_fault(&mut self, kind: OperationKind) -> Option<io::ErrorKind> {
        for fault in self.faults.iter_mut().filter(|f| f.kind == kind) {
            fault.countdown = fault.countdown.saturating_sub(1);
        }
        let due = self.faults.iter().position(|f| f.kind == kind && f.countdown == 0)?;
        Some(self.faults.remove(due).error)
    }

    pub(super) fn add_fault(&mut self, kind: OperationKind, nth: u64, error: io::ErrorKind) {
        assert!(nth > 0, "the next operation is the first");
        self.faults.push(Fault { kind, countdown: nth, error });
    }

    /// Lets a step that takes more space fail when there is none.
    pub(super) fn limit(&self, step: Step, bytes: u64) -> Step {
        let Some(capacity) = self.capacity_bytes else { return step };
        let free = capacity.saturating_sub(self.names.used_bytes());
        step.unless(bytes > free, io::ErrorKind::StorageFull)
    }

    /// A number that was not given out before.
    pub(super) fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// The power goes, and comes back; the answer is the new generation.
    fn restart(&mut self, outcome: &mut Outcome) -> u64 {
        self.names = self.names.after_cut(outcome);
        self.generation += 1;
        self.has_power = true;
        self.cut_at = None;
        self.faults.clear();
        self.lock = None;
        self.generation
    }
}

fn power_is_out() -> io::Error {
    io::Error::new(POWER_CUT, "the power is out")
}

/// The state behind its lock.
pub(super) struct Shared {
    state: Mutex<State>,
    /// Notified when a waker is used, and when the power goes or comes.
    pub(super) changed: Condvar,
}

impl Shared {
    pub(super) fn new(seed: u64) -> Shared {
        Shared { state: Mutex::new(State::new(seed)), changed: Condvar::new() }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// [`State::begin`] for whoever does not hold the lock yet.
    pub(super) fn begin(
        &self,
        generation: u64,
        kind: OperationKind,
    ) -> io::Result<(MutexGuard<'_, State>, Step)> {
        let mut state = self.state();
        let step = state.begin(generation, kind)?;
        if step == Step::Cut {
            self.changed.notify_all();
        }
        Ok((state, step))
    }

    pub(super) fn restart(&self, mut outcome: Outcome) -> u64 {
        let generation = self.state().restart(&mut outcome);
        self.changed.notify_all();
        generation
    }
}
