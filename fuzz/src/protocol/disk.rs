//! The log of the node, as far as the node sees it: where its batches end.
//!
//! Owns the order and the epochs of places, and which of them are durable. A replica takes what continues its log, as
//! the engine does; that bytes fit their places is the engine's.

use std::collections::BTreeMap;

use cairnlog_engine::format::batch::EpochStart;
use cairnlog_engine::{BegunEpoch, Epoch, Lsn, Place, Promise};
use cairnlog_replication::protocol::history::Summary;
use cairnlog_replication::protocol::node_id::NodeId;

pub(super) const LOG_ID: u128 = 7;
const BLOCK_BYTES: u64 = 512;

pub(super) struct Disk {
    pub(super) promised: Promise,
    /// The ends of batches, the start first.
    places: Vec<Place>,
    /// So many of them are durable.
    durable: usize,
    pub(super) commit_lsn: Lsn,
    pub(super) leads: bool,
    pub(super) members: BTreeMap<NodeId, u128>,
    incarnation: u128,
}

pub(super) fn position(place: &Place) -> (u64, u64) {
    (place.segment, place.offset)
}

/// What an epoch begins with, in every log: whoever says that it began with something else has another log.
pub(super) fn start_of(epoch: Epoch) -> EpochStart {
    EpochStart { lineage_id: LOG_ID, incarnation: u128::from(epoch.get()), nonce: 1 }
}

/// The epochs of a log with these places.
pub(super) fn epochs_of(places: &[Place]) -> Vec<BegunEpoch> {
    let begins = places.windows(2).filter(|pair| pair[0].epoch != pair[1].epoch);
    let begun = |pair: &[Place]| BegunEpoch {
        epoch: pair[1].epoch,
        start: start_of(pair[1].epoch),
        after: position(&pair[0]),
    };
    begins.map(begun).collect()
}

impl Disk {
    pub(super) fn new(incarnation: u128, members: BTreeMap<NodeId, u128>) -> Disk {
        Disk {
            promised: Promise::default(),
            places: vec![Place::START],
            durable: 1,
            commit_lsn: Lsn::NONE,
            leads: false,
            members,
            incarnation,
        }
    }

    pub(super) fn durable(&self) -> Place {
        self.places[self.durable - 1]
    }

    pub(super) fn end(&self) -> Place {
        self.places[self.places.len() - 1]
    }

    pub(super) fn summary(&self) -> Summary {
        Summary {
            log_id: LOG_ID,
            lineage_id: LOG_ID,
            incarnation: self.incarnation,
            start_counter: 1,
            nonce: 1,
            promised: self.promised,
            epochs: epochs_of(&self.places[..self.durable]),
            end: self.durable(),
            first_lsn: Lsn::FIRST,
            commit_lsn: self.commit_lsn,
            members: self.members.clone(),
            shown: BTreeMap::new(),
        }
    }

    pub(super) fn sync(&mut self) {
        self.durable = self.places.len();
    }

    pub(super) fn promise(&mut self, promise: Promise) {
        self.leads = false;
        self.sync();
        assert!(promise.epoch > self.promised.epoch, "R2: promises grow");
        self.promised = promise;
    }

    /// Whether what stands behind the place was given up.
    pub(super) fn cut(&mut self, at: Place) -> bool {
        let Some(index) = self.places.iter().position(|place| *place == at) else { return false };
        let is_kept = at == self.durable();
        if self.leads || (!is_kept && at.lsn < self.commit_lsn.min(self.end().lsn)) {
            return false;
        }
        self.places.truncate(index + 1);
        self.durable = self.places.len();
        true
    }

    /// Whether pieces continue the log up to a place.
    pub(super) fn append(&mut self, after: (u64, u64), end: Place) -> bool {
        let last = self.end();
        let continues = after == position(&last) && position(&end) > after;
        let grows = end.lsn >= last.lsn && end.epoch >= last.epoch && end.epoch > Epoch::NONE;
        if self.leads || !continues || !grows || end.epoch > self.promised.epoch {
            return false;
        }
        self.places.push(end);
        self.sync();
        true
    }

    /// Whether the epoch has begun.
    pub(super) fn begin(&mut self, promise: Promise) -> bool {
        if self.promised != promise || self.end().epoch >= promise.epoch {
            return false;
        }
        self.leads = true;
        self.push(promise.epoch, 0);
        self.sync();
        true
    }

    /// The leader appends records.
    pub(super) fn grow(&mut self, records: u64) {
        self.push(self.promised.epoch, records);
    }

    fn push(&mut self, epoch: Epoch, records: u64) {
        let Place { segment, offset, lsn, link, .. } = self.end();
        let lsn = Lsn::new(lsn.get().saturating_add(records));
        let offset = offset.saturating_add(BLOCK_BYTES);
        let link = link.wrapping_add(1);
        self.places.push(Place { segment: segment.max(1), offset, lsn, epoch, link });
    }

    /// What a lookup finds.
    pub(super) fn place_at(&self, at: (u64, u64)) -> Option<Place> {
        self.places[..self.durable].iter().find(|place| position(place) == at).copied()
    }

    /// The place behind another; nothing when the log does not go through that.
    pub(super) fn next(&self, from: Place) -> Option<Option<Place>> {
        let index = self.places.iter().position(|place| *place == from)?;
        Some(self.places.get(index + 1).copied())
    }
}
