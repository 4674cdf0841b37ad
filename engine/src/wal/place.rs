//! Places between batches, by which replicas compare their logs.
//!
//! Owns [`Place`]. Holds no logic.

use crate::{Epoch, Lsn};

/// The end of a batch, or the start of the log: two replicas whose logs go through the same place hold the
/// same bytes in front of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The segment that the batch in front of it is in; 0 at the start of a log.
    pub segment: u64,
    /// Where in it the batch ends, or the block of the segment's header when it holds none yet.
    pub offset: u64,
    /// The LSN that comes next.
    pub lsn: Lsn,
    /// The epoch of the batch in front of it.
    pub epoch: Epoch,
    /// Its link in the chain of checksums.
    pub link: u32,
}

impl Place {
    /// Where every log starts.
    pub const START: Place =
        Place { segment: 0, offset: 0, lsn: Lsn::FIRST, epoch: Epoch::NONE, link: 0 };
}

impl Default for Place {
    fn default() -> Place {
        Place::START
    }
}
