//! Faults that wait for their operation.
//!
//! Owns which operation each fault meets, and that it comes once. What a fault does is carried out by
//! `file` and `queue`, which know the bytes.
//!
//! Units: operations of one kind are counted from 1, the next one.

use std::io;
use std::sync::Arc;

use super::file::Inode;
use super::state::OperationKind;

/// What happens to an operation.
pub(super) enum Effect {
    /// It fails, and says so.
    Fail(io::ErrorKind),
    /// A write is acknowledged and never stored.
    Lose,
    /// A write is acknowledged and stored somewhere else.
    Misdirect(Target),
    /// Only so many bytes of a write are stored, and the driver says so.
    Shorten(usize),
    /// It does not end.
    Hang,
}

/// A place that a write was not meant for.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) inode: Arc<Inode>,
    pub(super) offset: usize,
}

struct Fault {
    kind: OperationKind,
    /// How many operations of the kind to go, this one included.
    countdown: u64,
    effect: Effect,
}

/// See the module.
#[derive(Default)]
pub(super) struct Faults {
    pending: Vec<Fault>,
}

impl Faults {
    pub(super) fn add(&mut self, kind: OperationKind, nth: u64, effect: Effect) {
        assert!(nth > 0, "the next operation is the first");
        self.pending.push(Fault { kind, countdown: nth, effect });
    }

    /// Counts an operation; what happens to it, if anything does.
    pub(super) fn take(&mut self, kind: OperationKind) -> Option<Effect> {
        for fault in self.pending.iter_mut().filter(|f| f.kind == kind) {
            fault.countdown = fault.countdown.saturating_sub(1);
        }
        let due = self.pending.iter().position(|f| f.kind == kind && f.countdown == 0)?;
        Some(self.pending.remove(due).effect)
    }

    pub(super) fn clear(&mut self) {
        self.pending.clear();
    }
}
