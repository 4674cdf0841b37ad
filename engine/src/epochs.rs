//! Which epochs the log holds, and where each of them began.
//!
//! Owns [`StartedEpoch`] and the history of them, which two replicas compare to find where their logs part.
//! It is a function of the log: kept in memory, listed in the engine's checkpoint, and completed at open
//! from the batches behind that.
//!
//! Invariants
//!  O1. Epochs and LSNs grow from front to back, whatever a forged log says.   test `only_growing_epochs`
//!
//! Bounds: [`EPOCHS_MAX`]; the oldest go first.

use std::collections::VecDeque;

use crate::format::batch::{BatchHeader, EpochStart};
use crate::format::superblock::Cut;
use crate::{Epoch, Lsn};

/// So many epochs are known, 5 MiB of them.
pub(crate) const EPOCHS_MAX: usize = 1 << 16;

/// An epoch of the log: it lasts until the next one that the log holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StartedEpoch {
    /// Its number.
    pub epoch: Epoch,
    /// The LSN of its first record.
    pub lsn: Lsn,
    /// The segment in which its epoch start stands; it may have been trimmed.
    pub segment: u64,
    /// The offset of its epoch start there.
    pub offset: u64,
    /// Whose it is.
    pub start: EpochStart,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct EpochHistory {
    started: VecDeque<StartedEpoch>,
}

impl EpochHistory {
    /// The epochs of a table, up to a segment, without what a cut made void; `first` is the epoch that the
    /// log begins with.
    pub(crate) fn of_table(
        first: Option<StartedEpoch>,
        listed: Vec<StartedEpoch>,
        end_segment: u64,
        cut: Cut,
    ) -> EpochHistory {
        let is_known =
            |e: &StartedEpoch| e.segment < end_segment && !cut.voids(e.segment, e.offset, e.epoch);
        let follows = |e: &StartedEpoch| first.is_none_or(|first| first.epoch < e.epoch);
        let listed = listed.into_iter().filter(|e| is_known(e) && follows(e));
        EpochHistory { started: first.into_iter().chain(listed).collect() }
    }

    /// The epoch that a record belongs to.
    pub(crate) fn at(&self, lsn: Lsn) -> Option<StartedEpoch> {
        self.started.iter().rev().find(|started| started.lsn <= lsn).copied()
    }

    /// The epoch of whatever stands in front of a place.
    pub(crate) fn at_place(&self, segment: u64, offset: u64) -> Epoch {
        let before = |e: &&StartedEpoch| (e.segment, e.offset) < (segment, offset);
        self.started.iter().rev().find(before).map_or(Epoch::NONE, |started| started.epoch)
    }

    /// Where an epoch began, if it did.
    pub(crate) fn find(&self, epoch: Epoch) -> Option<&StartedEpoch> {
        self.started.iter().rev().find(|started| started.epoch == epoch)
    }

    /// Takes note of a batch that continues the log: an epoch start begins an epoch.
    pub(crate) fn note(&mut self, header: &BatchHeader, batch: &[u8]) {
        let Some(start) = EpochStart::decode(header, batch) else { return };
        let BatchHeader { epoch, base_lsn: lsn, segment, offset, .. } = *header;
        if self.started.back().is_some_and(|last| last.epoch >= epoch || last.lsn > lsn) {
            return;
        }
        self.started.push_back(StartedEpoch { epoch, lsn, segment, offset, start });
        if self.started.len() > EPOCHS_MAX {
            self.started.pop_front();
        }
    }

    /// Forgets the epochs that ended before `first_lsn` and began in front of the first segment kept: one without a
    /// record, whose start is kept, has not ended before any.
    pub(crate) fn trim(&mut self, first_lsn: Lsn, first_segment: u64) {
        while let (Some(first), Some(next)) = (self.started.front(), self.started.get(1))
            && first.segment < first_segment
            && next.lsn <= first_lsn
        {
            self.started.pop_front();
        }
    }

    /// The newest epoch.
    pub(crate) fn last(&self) -> Epoch {
        self.started.back().map_or(Epoch::NONE, |last| last.epoch)
    }

    /// All of them, oldest first.
    pub(crate) fn list(&self) -> Vec<StartedEpoch> {
        self.started.iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::batch::{HEADER_BYTES, Kind};

    fn batch(epoch: u64, lsn: u64) -> (BatchHeader, Vec<u8>) {
        let header = BatchHeader {
            kind: Kind::EpochStart,
            log_id: 1,
            segment: 1,
            offset: 4096 * lsn,
            base_lsn: Lsn::new(lsn),
            record_count: 0,
            length: 4096,
            payload_bytes: 48,
            producer_run_count: 0,
            epoch: Epoch::new(epoch),
            durable_lsn: Lsn::FIRST,
            commit_lsn: Lsn::FIRST,
            time_ms: 0,
            prev_checksum: 0,
            body_checksum: 0,
            checksum: 0,
            lost: None,
        };
        (header, vec![0; HEADER_BYTES + 48])
    }

    fn epochs(history: &EpochHistory) -> Vec<u64> {
        history.list().iter().map(|started| started.epoch.get()).collect()
    }

    /// An epoch may begin and end without a record, at the start of the log too.
    #[test]
    fn an_epoch_whose_start_is_kept_is_known() {
        let mut history = EpochHistory::default();
        for (epoch, lsn) in [(1, 1), (2, 1), (3, 5)] {
            let (header, bytes) = batch(epoch, lsn);
            history.note(&header, &bytes);
        }
        history.trim(Lsn::new(1), 1);
        assert_eq!(epochs(&history), [1, 2, 3], "nothing was trimmed");
        history.trim(Lsn::new(1), 2);
        assert_eq!(epochs(&history), [2, 3], "the first record is of epoch 2");
    }

    #[test]
    fn only_growing_epochs() {
        let mut history = EpochHistory::default();
        for (epoch, lsn) in [(1, 1), (3, 5), (3, 6), (2, 7), (4, 4), (5, 9), (7, 9)] {
            let (header, bytes) = batch(epoch, lsn);
            history.note(&header, &bytes);
        }
        assert_eq!(epochs(&history), [1, 3, 5, 7]);
        history.trim(Lsn::new(8), 2);
        assert_eq!(epochs(&history), [3, 5, 7], "record 8 is of epoch 3");
        let cut = Cut { lsn: Lsn::new(9), segment: 1, offset: 4096 * 9, epoch: Epoch::new(6) };
        let left = EpochHistory::of_table(None, history.list(), 2, cut);
        assert_eq!(epochs(&left), [3, 7]);
        assert_eq!(left.at(Lsn::new(8)).map(|started| started.lsn), Some(Lsn::new(5)));
        assert_eq!(left.at(Lsn::new(4)), None);
        let first = history.at(Lsn::new(5));
        let behind_a_trim = EpochHistory::of_table(first, history.list(), 1, Cut::default());
        assert_eq!(epochs(&behind_a_trim), [3]);
    }
}
