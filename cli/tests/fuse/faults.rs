//! What the file system is told to do wrong.
//!
//! Owns the kinds of operation, the faults that are armed, and how often each kind was asked for. Decides
//! and counts; it does not wait, and it knows no files.
//!
//! Invariants
//!  F1. A fault that is not lasting strikes once: on the n-th operation of its kind after it was armed.
//!  F2. Without power every operation fails, whatever else is armed.

use std::collections::BTreeMap;
use std::time::Duration;

use fuser::Errno;

/// A kind of operation that reaches the file system. Questions about attributes are not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Operation {
    Lookup,
    Open,
    Create,
    MakeDirectory,
    List,
    Read,
    Write,
    Sync,
    SyncDirectory,
    Allocate,
    Resize,
    Rename,
    Unlink,
}

impl Operation {
    /// Whether a file system that is mounted read-only refuses it.
    fn changes(self) -> bool {
        !matches!(self, Operation::Lookup | Operation::Open | Operation::List | Operation::Read)
    }
}

/// What happens to an operation instead of what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// It fails. A write leaves its first half behind; a sync makes nothing durable, and like a real
    /// page cache forgets what it should have written.
    Fail(Errno),
    /// A write writes less than it was asked to, and says so.
    Short,
    /// The power is cut in the middle of it: of a write, the first half is on its way.
    PowerOff,
}

#[derive(Clone, Debug)]
struct Fault {
    operation: Operation,
    /// Only for files whose name ends so.
    end_of_name: &'static str,
    left: u64,
    effect: Effect,
    lasts: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    armed: Vec<Fault>,
    /// Kinds of operation that get no answer.
    pub(crate) held: Vec<Operation>,
    /// How long each operation takes at least.
    pub(crate) delay: Option<Duration>,
    /// The most bytes that all files together may have.
    pub(crate) bytes_max: Option<u64>,
    pub(crate) read_only: bool,
    pub(crate) power_is_off: bool,
    counts: BTreeMap<Operation, u64>,
    hits: u64,
}

impl Faults {
    /// The `nth` operation of this kind from now on, on a file whose name ends so, has this effect; with `lasts`, so have all after it.
    pub(crate) fn arm(
        &mut self,
        operation: Operation,
        end_of_name: &'static str,
        nth: u64,
        effect: Effect,
        lasts: bool,
    ) {
        assert!(nth > 0, "counted from 1");
        self.armed.push(Fault { operation, end_of_name, left: nth, effect, lasts });
    }

    /// Makes everything work again, except for a power cut.
    pub(crate) fn lift(&mut self) {
        self.armed.clear();
        self.held.clear();
        self.delay = None;
        self.bytes_max = None;
        self.read_only = false;
    }

    /// How often an armed fault struck.
    pub(crate) fn hits(&self) -> u64 {
        self.hits
    }

    /// How often this kind of operation was asked for.
    pub(crate) fn count(&self, operation: Operation) -> u64 {
        self.counts.get(&operation).copied().unwrap_or(0)
    }

    pub(crate) fn is_held(&self, operation: Operation) -> bool {
        self.held.contains(&operation) && !self.power_is_off
    }

    /// Counts an operation. An error is its answer; an effect changes what it does.
    pub(crate) fn decide(
        &mut self,
        operation: Operation,
        name: &str,
    ) -> Result<Option<Effect>, Errno> {
        *self.counts.entry(operation).or_default() += 1;
        if self.power_is_off {
            return Err(Errno::EIO);
        }
        if self.read_only && operation.changes() {
            return Err(Errno::EROFS);
        }
        let mut effect = None;
        for fault in &mut self.armed {
            if fault.operation != operation || !name.ends_with(fault.end_of_name) {
                continue;
            }
            let strikes = fault.left == 1 || (fault.left == 0 && fault.lasts);
            fault.left = fault.left.saturating_sub(1);
            if strikes {
                self.hits += 1;
                effect = effect.or(Some(fault.effect));
            }
        }
        Ok(effect)
    }
}
