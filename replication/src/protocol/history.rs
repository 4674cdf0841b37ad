//! Where two logs part.
//!
//! Owns what a replica says of its log ([`Summary`]) and the comparison of two such. Batches of one epoch
//! come from one life of one leader, so that in it one log is a prefix of the other: the last epoch that both
//! hold, and the nearer of its two ends, is where they part. That the bytes in front of it are the same is
//! then checked by its link in the chain of checksums.
//!
//! Invariants
//!  H1. What one log has of a later epoch than the last common one, and what it has behind the end of that in
//!      the other, is behind the place.                          test `logs_part_where_they_part`
//!
//! Bounds: [`EPOCHS_MAX`] epochs in a summary.

use std::collections::BTreeMap;

use cairnlog_engine::{BegunEpoch, Epoch, Lsn, Place, Promise};

use super::node_id::NodeId;
use super::shown::Shown;

/// Epochs in a summary, the newest of the log.
pub const EPOCHS_MAX: usize = 1024;

/// What a replica says of itself and its log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The identity of the log.
    pub log_id: u128,
    /// The line of succession.
    pub lineage_id: u128,
    /// The directory.
    pub incarnation: u128,
    /// How often it was opened for writing.
    pub start_counter: u64,
    /// This life of its process.
    pub nonce: u128,
    /// The greatest promise.
    pub promised: Promise,
    /// Its newest epochs, oldest first.
    pub epochs: Vec<BegunEpoch>,
    /// The end of what is durable.
    pub end: Place,
    /// The oldest record kept.
    pub first_lsn: Lsn,
    /// What it knows to be committed.
    pub commit_lsn: Lsn,
    /// The replicas that count, by their directories; empty before the cluster is made. See `NO_DIRECTORY`.
    pub members: BTreeMap<NodeId, u128>,
    /// What these have shown, as far as this replica knows; the node says so of its own accord.
    pub shown: BTreeMap<NodeId, Shown>,
}

impl Summary {
    /// A replica without any batch.
    #[cfg(test)]
    pub(crate) fn empty(incarnation: u128) -> Summary {
        Summary {
            log_id: 1,
            lineage_id: 2,
            incarnation,
            start_counter: 1,
            nonce: 7,
            promised: Promise::default(),
            epochs: Vec::new(),
            end: Place::START,
            first_lsn: Lsn::FIRST,
            commit_lsn: Lsn::NONE,
            members: BTreeMap::new(),
            shown: BTreeMap::new(),
        }
    }

    fn position(&self) -> (u64, u64) {
        (self.end.segment, self.end.offset)
    }

    /// Where the epoch at this index ends.
    fn end_of(&self, index: usize) -> (u64, u64) {
        self.epochs.get(index + 1).map_or(self.position(), |next| next.after)
    }

    /// Which log holds more, by what a leader may be chosen: the epoch of the last batch, then how far it
    /// goes. Never its length alone.
    #[must_use]
    pub fn rank(&self) -> (u64, u64, u64, u64) {
        let Place { segment, offset, lsn, epoch, .. } = self.end;
        (epoch.get(), lsn.get(), segment, offset)
    }
}

/// The last place, segment and offset, that two logs have in common.
///
/// `None` when they have no epoch in common, as far as the summaries go: the logs are different ones, or have
/// parted too long ago. A log without any batch has its start in common with every other.
#[must_use]
pub fn common_place(one: &Summary, other: &Summary) -> Option<(u64, u64)> {
    if one.log_id != other.log_id {
        return None;
    }
    // There may be the header of its first segment.
    let is_empty = |summary: &Summary| summary.end.epoch == Epoch::NONE;
    if is_empty(one) || is_empty(other) {
        return Some((0, 0));
    }
    for (index, begun) in one.epochs.iter().enumerate().rev() {
        if let Some(same) = other.epochs.iter().rposition(|theirs| theirs == begun) {
            return Some(one.end_of(index).min(other.end_of(same)));
        }
    }
    let begins = |summary: &Summary| summary.epochs.first().is_some_and(|e| e.after == (0, 0));
    (begins(one) && begins(other)).then_some((0, 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairnlog_engine::format::batch::EpochStart;

    /// A log with these epochs: number, whose, how long.
    fn log(epochs: &[(u64, u128, u64)]) -> Summary {
        let mut summary = Summary::empty(3);
        for (epoch, leader, blocks) in epochs {
            let start = EpochStart { lineage_id: 2, incarnation: *leader, nonce: 9 };
            let epoch = Epoch::new(*epoch);
            summary.epochs.push(BegunEpoch { epoch, start, after: summary.position() });
            let offset = summary.end.offset.max(512) + blocks * 512;
            summary.end = Place { segment: 1, offset, lsn: Lsn::new(offset), epoch, link: 1 };
        }
        summary
    }

    fn common(one: &Summary, other: &Summary) -> Option<u64> {
        let place = common_place(one, other);
        assert_eq!(place, common_place(other, one), "from both sides");
        place.map(|(_, offset)| offset)
    }

    #[test]
    fn logs_part_where_they_part() {
        let whole = log(&[(1, 7, 4), (2, 8, 2), (5, 7, 3)]);
        assert_eq!(common(&whole, &whole), Some(whole.end.offset));
        assert_eq!(common(&whole, &log(&[(1, 7, 4), (2, 8, 2)])), Some(512 * 7));
        assert_eq!(common(&whole, &log(&[(1, 7, 4), (2, 8, 1)])), Some(512 * 6));
        assert_eq!(common(&whole, &log(&[(1, 7, 1)])), Some(512 * 2));
        assert_eq!(common(&whole, &log(&[])), Some(0));
        let mut header = log(&[]);
        (header.end.segment, header.end.offset) = (1, 512);
        assert_eq!(common(&whole, &header), Some(0), "no batch is durable behind the header");
        // Another one led in between, or went on alone, or longer.
        assert_eq!(common(&whole, &log(&[(1, 7, 4), (3, 9, 50)])), Some(512 * 5));
        assert_eq!(common(&whole, &log(&[(1, 7, 9)])), Some(512 * 5));
        assert_eq!(common(&whole, &log(&[(1, 7, 4), (2, 8, 1), (4, 9, 1)])), Some(512 * 6));
        // The same number, and not the same leader.
        assert_eq!(common(&whole, &log(&[(1, 7, 4), (2, 9, 2)])), Some(512 * 5));
        assert_eq!(common(&whole, &log(&[(1, 9, 4)])), Some(0));
        // Trimmed on one side.
        let mut trimmed = whole.clone();
        trimmed.epochs.remove(0);
        assert_eq!(common(&trimmed, &log(&[(1, 7, 4), (2, 8, 1)])), Some(512 * 6));
        assert_eq!(common(&trimmed, &log(&[(1, 7, 4)])), None);
        let other = Summary { log_id: 2, ..whole.clone() };
        assert_eq!(common(&whole, &other), None);
    }

    /// Never by length.
    #[test]
    fn a_later_epoch_ranks_higher() {
        let (long, late) = (log(&[(1, 7, 90)]), log(&[(1, 7, 1), (2, 8, 1)]));
        assert!(late.rank() > long.rank());
        assert!(log(&[(1, 7, 3)]).rank() > log(&[(1, 7, 2)]).rank());
    }
}
