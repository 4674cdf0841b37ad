//! The number of a leadership.
//!
//! Owns [`Epoch`]. Does not decide who leads: on one node every open takes the next epoch, so that
//! batches that an earlier life left unfinished can never be mistaken for those of this one.

use std::fmt;

/// The number of a leadership, written in every batch; the first is 1 and 0 means none.
///
/// An epoch belongs to one life of one process: reopening a log takes a greater one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Epoch(u64);

impl Epoch {
    /// No leadership.
    pub const NONE: Epoch = Epoch(0);

    /// The epoch with this number.
    #[must_use]
    pub const fn new(number: u64) -> Epoch {
        Epoch(number)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The epoch after this one.
    #[must_use]
    pub const fn next(self) -> Epoch {
        Epoch(self.0.saturating_add(1))
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
