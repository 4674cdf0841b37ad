//! The ordinal of a record.
//!
//! Owns [`Lsn`], in which everything else is expressed. Does no I/O.
//!
//! Units: an [`Lsn`] counts records, the first is 1 and 0 means none.
//! Ranges of LSNs are half-open.

use std::fmt;
use std::ops::Range;

/// The ordinal of a record in its log: dense, without gaps, the first is 1.
///
/// As the end of a half-open range (`end_lsn`, `durable_lsn`, `commit_lsn`) it is the first LSN that
/// is *not* in the range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn(u64);

/// A half-open range of LSNs.
pub type LsnRange = Range<Lsn>;

impl Lsn {
    /// No record.
    pub const NONE: Lsn = Lsn(0);
    /// The first record of every log.
    pub const FIRST: Lsn = Lsn(1);
    /// Greater than every LSN that a log can reach.
    pub const MAX: Lsn = Lsn(u64::MAX);

    /// The LSN with this ordinal.
    #[must_use]
    pub const fn new(ordinal: u64) -> Lsn {
        Lsn(ordinal)
    }

    /// The ordinal.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The LSN `records` further; stays at [`Lsn::MAX`] when it would overflow.
    #[must_use]
    pub const fn plus(self, records: u64) -> Lsn {
        Lsn(self.0.saturating_add(records))
    }

    /// The LSN after this one.
    #[must_use]
    pub const fn next(self) -> Lsn {
        self.plus(1)
    }

    /// How many records lie in `earlier..self`; 0 when `earlier` is not earlier.
    #[must_use]
    pub const fn since(self, earlier: Lsn) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<u64> for Lsn {
    fn from(ordinal: u64) -> Lsn {
        Lsn(ordinal)
    }
}

impl From<Lsn> for u64 {
    fn from(lsn: Lsn) -> u64 {
        lsn.0
    }
}
