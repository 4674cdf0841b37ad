//! What all handles to one disk share: power, names, faults, space, clock and randomness.
//!
//! Owns the one gate that every operation passes ([`State::begin`]): it counts, traces, cuts the power
//! and injects faults. Does not carry operations out: that is done by `directory`, `file` and `queue`.
//!
//! Invariants
//!  S1. A handle from before a restart changes nothing after it.      test `old_handles_stay_dead`
//!  S2. Each operation but a read is counted once, and may be cut.    test `every_operation_can_be_cut`
//!
//! Threads: any; locks are taken in the order state, then file.

use std::io;
use std::thread::ThreadId;

use super::digest::Digest;
use super::faults::{Effect, Faults, Target};
use super::names::Names;
use super::outcome::Outcome;
use super::random::Random;
use crate::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// The kind of the errors that an operation gives while the power is out, and a handle from before a
/// power cut for ever. Nothing else gives it.
pub const POWER_CUT: io::ErrorKind = io::ErrorKind::NotConnected;

/// When the simulated clock starts.
const START_MS: u64 = 1_750_000_000_000;
const QUEUE_DEPTH: usize = 4;
/// What a disk gives that takes no changes any more.
pub(super) const READ_ONLY: io::ErrorKind = io::ErrorKind::ReadOnlyFilesystem;

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

impl OperationKind {
    /// Whether it leaves something on the disk.
    fn changes(self) -> bool {
        !matches!(self, OperationKind::Open | OperationKind::List | OperationKind::Read)
    }

    fn number(self) -> u64 {
        match self {
            OperationKind::Create => 1,
            OperationKind::Open => 2,
            OperationKind::Rename => 3,
            OperationKind::Remove => 4,
            OperationKind::List => 5,
            OperationKind::SyncDirectory => 6,
            OperationKind::Read => 7,
            OperationKind::Write => 8,
            OperationKind::Sync => 9,
            OperationKind::Submit => 10,
        }
    }
}

/// What becomes of an operation.
#[derive(Clone)]
pub(super) enum Step {
    Done,
    Failed(io::ErrorKind),
    /// The power went out on the way: it may have happened or not.
    Cut,
    /// A write that says it is done and is nowhere.
    Lost,
    /// A write that says it is done and is elsewhere.
    Misdirected(Target),
    /// A write of which only so many bytes are there.
    Short(usize),
    /// It does not end before the power does.
    Hung,
}

impl Step {
    fn of(effect: Effect) -> Step {
        match effect {
            Effect::Fail(kind) => Step::Failed(kind),
            Effect::Lose => Step::Lost,
            Effect::Misdirect(target) => Step::Misdirected(target),
            Effect::Shorten(bytes) => Step::Short(bytes),
            Effect::Hang => Step::Hung,
        }
    }

    /// What is reported in the end.
    pub(super) fn result(&self) -> io::Result<()> {
        match self {
            Step::Done | Step::Lost | Step::Misdirected(_) => Ok(()),
            Step::Failed(kind) => Err((*kind).into()),
            Step::Short(_) => Err(io::Error::new(io::ErrorKind::WriteZero, "a short write")),
            Step::Cut | Step::Hung => Err(power_is_out()),
        }
    }

    /// An error if the operation had no effect at all.
    pub(super) fn started(&self) -> io::Result<()> {
        if matches!(self, Step::Cut) { Ok(()) } else { self.result() }
    }

    /// The step, unless something stands in its way.
    pub(super) fn unless(self, hindered: bool, kind: io::ErrorKind) -> Step {
        if matches!(self, Step::Done) && hindered { Step::Failed(kind) } else { self }
    }
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
    /// Who asked for each operation that was let hang.
    pub(super) hung: Vec<ThreadId>,
    pub(super) cut_at: Option<u64>,
    pub(super) kill_at: Option<u64>,
    has_power: bool,
    /// Raised by every restart.
    generation: u64,
    pub(super) faults: Faults,
    pub(super) read_only: bool,
    /// False when no read goes past the cache.
    pub(super) direct_reads: bool,
    /// Of every operation so far, with what it was asked to do.
    pub(super) trace: Digest,
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
            hung: Vec::new(),
            cut_at: None,
            kill_at: None,
            has_power: true,
            generation: 0,
            faults: Faults::default(),
            read_only: false,
            direct_reads: true,
            trace: Digest::default(),
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
            self.trace.number(kind.number());
            if self.kill_at.is_some_and(|at| self.operations >= at) {
                self.kill_process();
                self.check(generation)?;
            }
            if self.cut_at.is_some_and(|at| self.operations >= at) {
                self.has_power = false;
                return Ok(Step::Cut);
            }
        }
        let step = self.faults.take(kind).map_or(Step::Done, Step::of);
        if matches!(step, Step::Hung) {
            self.hung.push(std::thread::current().id());
        }
        Ok(step.unless(self.read_only && kind.changes(), READ_ONLY))
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
        self.kill_at = None;
        self.faults.clear();
        self.read_only = false;
        self.lock = None;
        self.generation
    }

    /// The handles so far are dead; nothing else changes.
    pub(super) fn kill_process(&mut self) -> u64 {
        self.generation += 1;
        self.kill_at = None;
        self.lock = None;
        self.generation
    }

    /// What a restart would make of this state.
    fn after_cut(&self, outcome: &mut Outcome) -> State {
        State {
            names: self.names.after_cut(outcome),
            random: self.random.clone(),
            now_ms: self.now_ms,
            elapsed_ms: self.elapsed_ms,
            queue_depth: self.queue_depth,
            lock: None,
            capacity_bytes: self.capacity_bytes,
            operations: self.operations,
            hung: Vec::new(),
            cut_at: None,
            kill_at: None,
            has_power: true,
            generation: 0,
            faults: Faults::default(),
            read_only: false,
            direct_reads: self.direct_reads,
            trace: self.trace,
            last_number: self.last_number,
        }
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

    /// Another disk, as a power cut would leave this one.
    pub(super) fn after_cut(&self, outcome: &mut Outcome) -> Shared {
        let state = self.state().after_cut(outcome);
        Shared { state: Mutex::new(state), changed: Condvar::new() }
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
        match step {
            Step::Cut => self.changed.notify_all(),
            Step::Hung => {
                let has_power = |state: &mut State| state.check(generation).is_ok();
                let waited = self.changed.wait_while(state, has_power);
                waited.unwrap_or_else(PoisonError::into_inner).check(generation)?;
                return Err(power_is_out());
            }
            _ => {}
        }
        Ok((state, step))
    }

    pub(super) fn restart(&self, mut outcome: Outcome) -> u64 {
        let generation = self.state().restart(&mut outcome);
        self.changed.notify_all();
        generation
    }
}
