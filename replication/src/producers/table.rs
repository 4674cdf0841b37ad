//! What a log says of its producers.
//!
//! Owns [`ProducerTable`]: a function of the runs of a log, in LSN order, up to an LSN. Knows nothing of what is committed
//! or durable; whoever applies runs decides how far. Two nodes that applied the same runs have equal tables.
//!
//! Of each producer it remembers where its newest records are, as stretches: records whose sequences and LSNs both
//! follow each other. The sequences of a producer's stretches follow each other without a gap, so that the start of
//! each says where the one before it ends. A log that was written without such a table may have gaps, or the same
//! sequence twice: then what is in front of the newest run is forgotten.
//!
//! Invariants
//!  T1. Runs are applied in LSN order, each once.                                          asserted in `apply`
//!  T2. What is answered is what a look through the whole log would say of the records that are remembered.
//!                                                                           test `it_is_what_the_log_says`
//!  T3. Whoever appends no more than `APPENDS_IN_FLIGHT_MAX` times without an answer finds every one of these
//!      appends: each is at most one stretch.                                              test `a_window_is_remembered`
//!
//! Units: sequences and LSNs count records. Bounds: [`Limits`]; those appended to least recently go first.

use std::collections::{BTreeMap, HashMap, VecDeque};

use cairnlog_engine::{Lsn, LsnRange};

use crate::wire::request::APPENDS_IN_FLIGHT_MAX;

/// How much is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Producers.
    pub producers: usize,
    /// Stretches of one producer.
    pub stretches_each: usize,
    /// Stretches of all of them together: 16 bytes each.
    pub stretches: usize,
}

impl Default for Limits {
    /// 16,384 producers, for programs that append once and end are producers too, in at most some 20 MiB.
    fn default() -> Limits {
        Limits { producers: 1 << 14, stretches_each: APPENDS_IN_FLIGHT_MAX, stretches: 1 << 20 }
    }
}

/// Consecutive records of one producer, one behind the other in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Who.
    pub producer_id: u128,
    /// Its number of the first of them.
    pub first_sequence: u64,
    /// Which they are; not empty.
    pub lsns: LsnRange,
}

/// What is known of records that somebody wants to append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// They come next.
    New,
    /// They are in the log, there.
    Duplicate(LsnRange),
    /// They are in the log, but not one behind the other: they were appended in other portions.
    Scattered,
    /// The first of them are in the log, but only up to this sequence.
    Partial(u64),
    /// This sequence would come next: records in front of them are missing.
    Gap(u64),
    /// They were appended, so long ago that it is not remembered where they are.
    Forgotten,
    /// The producer is not remembered, and these are not its first ones.
    Unknown,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerTable {
    limits: Limits,
    end_lsn: Lsn,
    producers: HashMap<u128, Remembered>,
    /// By the LSN behind the last record of each.
    by_age: BTreeMap<Lsn, u128>,
    stretches: usize,
    has_forgotten: bool,
}

/// What is remembered of one producer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Remembered {
    pub(super) stretches: VecDeque<Stretch>,
    /// Behind its last record.
    pub(super) next_sequence: u64,
    pub(super) end_lsn: Lsn,
}

/// Records that go on to the start of the next stretch, or to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) first_sequence: u64,
    pub(super) lsn: Lsn,
}

impl Remembered {
    fn check(&self, first_sequence: u64, count: u64) -> Verdict {
        if first_sequence >= self.next_sequence {
            let is_next = first_sequence == self.next_sequence;
            return if is_next { Verdict::New } else { Verdict::Gap(self.next_sequence) };
        }
        let end_sequence = first_sequence.saturating_add(count);
        if end_sequence > self.next_sequence {
            return Verdict::Partial(self.next_sequence);
        }
        let after = self.stretches.partition_point(|s| s.first_sequence <= first_sequence);
        let Some(at) = after.checked_sub(1) else { return Verdict::Forgotten };
        let stretch = self.stretches[at];
        let stretch_end =
            self.stretches.get(after).map_or(self.next_sequence, |s| s.first_sequence);
        if end_sequence > stretch_end {
            return Verdict::Scattered;
        }
        let first = stretch.lsn.plus(first_sequence - stretch.first_sequence);
        Verdict::Duplicate(first..first.plus(count))
    }
}

impl ProducerTable {
    /// The table of a log that begins at an LSN; with another one than the first, of what was trimmed nothing is
    /// known.
    #[must_use]
    pub fn new(limits: Limits, first_lsn: Lsn) -> ProducerTable {
        assert!(limits.producers > 0 && limits.stretches >= limits.stretches_each);
        assert!(limits.stretches_each > 0, "each has a last one");
        ProducerTable {
            limits,
            end_lsn: first_lsn,
            producers: HashMap::new(),
            by_age: BTreeMap::new(),
            stretches: 0,
            has_forgotten: first_lsn > Lsn::FIRST,
        }
    }

    /// Every run below it was applied.
    #[must_use]
    pub fn end_lsn(&self) -> Lsn {
        self.end_lsn
    }

    /// Producers that are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.producers.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.producers.is_empty()
    }

    /// Whether the log may have had producers that are not remembered.
    #[must_use]
    pub fn has_forgotten(&self) -> bool {
        self.has_forgotten
    }

    /// The sequence behind a producer's last record, and that record.
    #[must_use]
    pub fn last(&self, producer_id: u128) -> Option<(u64, LsnRange)> {
        let remembered = self.producers.get(&producer_id)?;
        let last = Lsn::new(remembered.end_lsn.get() - 1);
        Some((remembered.next_sequence, last..remembered.end_lsn))
    }

    /// What is known of `count` records, the first with this sequence.
    #[must_use]
    pub fn check(&self, producer_id: u128, first_sequence: u64, count: u64) -> Verdict {
        match self.producers.get(&producer_id) {
            Some(remembered) => remembered.check(first_sequence, count),
            None if first_sequence == 0 => Verdict::New,
            None => Verdict::Unknown,
        }
    }

    /// There are no more runs below this LSN than were applied.
    pub fn advance(&mut self, end_lsn: Lsn) {
        self.end_lsn = self.end_lsn.max(end_lsn);
    }

    /// Takes the next run of the log in.
    pub fn apply(&mut self, run: Run) {
        let Run { producer_id, first_sequence, lsns } = run;
        assert!(self.end_lsn <= lsns.start && lsns.start < lsns.end, "T1: {lsns:?}");
        self.end_lsn = lsns.end;
        let count = lsns.end.since(lsns.start);
        // Nobody can go on behind the last of all sequences; no server takes such an append.
        let Some(next_sequence) = first_sequence.checked_add(count) else { return };
        let remembered = self.producers.entry(producer_id).or_default();
        if !remembered.stretches.is_empty() {
            self.by_age.remove(&remembered.end_lsn);
        }
        if remembered.next_sequence != first_sequence {
            self.stretches -= remembered.stretches.len();
            remembered.stretches.clear();
        }
        if remembered.stretches.is_empty() || remembered.end_lsn != lsns.start {
            remembered.stretches.push_back(Stretch { first_sequence, lsn: lsns.start });
            self.stretches += 1;
        }
        if remembered.stretches.len() > self.limits.stretches_each {
            remembered.stretches.pop_front();
            self.stretches -= 1;
        }
        (remembered.next_sequence, remembered.end_lsn) = (next_sequence, lsns.end);
        self.by_age.insert(lsns.end, producer_id);
        self.forget();
    }

    /// Forgets those that were appended to least recently, down to the limits.
    fn forget(&mut self) {
        let Limits { producers, stretches, .. } = self.limits;
        while self.producers.len() > producers || self.stretches > stretches {
            let (_, oldest) = self.by_age.pop_first().expect("each is listed by its age");
            let oldest = self.producers.remove(&oldest).expect("who is listed is remembered");
            self.stretches -= oldest.stretches.len();
            self.has_forgotten = true;
        }
    }

    /// All that is remembered, the least recent first.
    pub(super) fn remembered(&self) -> impl Iterator<Item = (u128, &Remembered)> {
        self.by_age.values().map(|id| (*id, &self.producers[id]))
    }

    /// Takes back one that was remembered, behind those that were taken back before. What it is was looked at.
    pub(super) fn take_back(&mut self, producer_id: u128, remembered: Remembered) {
        self.stretches += remembered.stretches.len();
        self.end_lsn = remembered.end_lsn;
        self.by_age.insert(remembered.end_lsn, producer_id);
        let before = self.producers.insert(producer_id, remembered);
        assert!(before.is_none(), "each is there once");
        self.forget();
    }

    /// Something was forgotten before.
    pub(super) fn note_forgotten(&mut self) {
        self.has_forgotten = true;
    }

    /// Whether one is remembered.
    pub(super) fn knows(&self, producer_id: u128) -> bool {
        self.producers.contains_key(&producer_id)
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
