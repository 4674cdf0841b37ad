//! Finding a batch in a segment without reading the segment.
//!
//! Owns the sparse list of batch starts. It is derived from the batches and is never evidence about
//! them: whoever follows an entry verifies the batch it finds there.
//!
//! Invariants
//!  X1. Entries ascend in LSN, offset and time.                     asserted in `note`
//!  X2. The first batch that is noted has an entry, so every record lies behind one.
//!
//! Bounds: one entry for every [`INDEX_INTERVAL_BYTES`] of a segment.

use crate::Lsn;
use crate::format::segment::{INDEX_INTERVAL_BYTES, IndexEntry};

/// A sparse index of one segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Index {
    entries: Vec<IndexEntry>,
}

impl Index {
    pub(crate) fn from_entries(entries: Vec<IndexEntry>) -> Index {
        Index { entries }
    }

    pub(crate) fn entries(&self) -> &[IndexEntry] {
        &self.entries
    }

    /// Takes note of a batch with records, if it is far enough from the last one noted.
    pub(crate) fn note(&mut self, lsn: Lsn, offset: u64, time_ms: u64) {
        if let Some(last) = self.entries.last() {
            assert!(last.lsn < lsn && last.offset < offset && last.time_ms <= time_ms);
            if offset / INDEX_INTERVAL_BYTES == last.offset / INDEX_INTERVAL_BYTES {
                return;
            }
        }
        self.entries.push(IndexEntry { lsn, offset, time_ms });
    }

    /// The last entry at or before a record; `None` when it lies before all of them.
    pub(crate) fn find(&self, lsn: Lsn) -> Option<IndexEntry> {
        let after = self.entries.partition_point(|entry| entry.lsn <= lsn);
        Some(self.entries[after.checked_sub(1)?])
    }

    /// The last entry of a batch closed before `time_ms`; `None` when none was.
    pub(crate) fn find_before_time(&self, time_ms: u64) -> Option<IndexEntry> {
        let after = self.entries.partition_point(|entry| entry.time_ms < time_ms);
        Some(self.entries[after.checked_sub(1)?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_entry_before() {
        let mut index = Index::default();
        for batch in 0..64_u64 {
            index.note(Lsn::new(10 + batch * 5), 4096 + batch * 8192, 100 + batch);
        }
        assert_eq!(index.find(Lsn::new(9)), None);
        assert_eq!(index.find(Lsn::new(10)).unwrap().offset, 4096);
        let found = index.find(Lsn::new(200)).unwrap();
        assert!(found.lsn <= Lsn::new(200) && Lsn::new(200).since(found.lsn) <= 8 * 5 + 5);
        assert_eq!(index.find_before_time(100), None);
        assert!(index.find_before_time(u64::MAX).unwrap().time_ms > 150);
        assert!(index.entries().len() <= 9, "one entry per interval");
    }
}
