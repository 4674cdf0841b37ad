//! The newest durable batches, in memory.
//!
//! Owns the queue that readers at the tail are served from, so that they cost no I/O. Holds only what
//! is durable, in LSN order without gaps.
//!
//! Bounds: `bytes_max` bytes of batches; what readers still hold of evicted batches is theirs.
//! Threads: one pushes, any read.

use std::collections::VecDeque;
use std::sync::{PoisonError, RwLock};

use crate::disk::Shared;
use crate::{Epoch, Lsn};

/// One durable batch.
#[derive(Clone, Debug)]
pub(crate) struct HotBatch {
    pub(crate) base_lsn: Lsn,
    pub(crate) end_lsn: Lsn,
    pub(crate) epoch: Epoch,
    pub(crate) time_ms: u64,
    pub(crate) bytes: Shared,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct HotTail {
    bytes_max: usize,
    state: RwLock<State>,
}

#[derive(Debug, Default)]
struct State {
    batches: VecDeque<HotBatch>,
    bytes: usize,
}

impl HotTail {
    pub(crate) fn new(bytes_max: usize) -> HotTail {
        HotTail { bytes_max, state: RwLock::default() }
    }

    pub(crate) fn push(&self, batch: HotBatch) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = state.batches.back() {
            assert_eq!(last.end_lsn, batch.base_lsn, "batches become durable in order");
        }
        state.bytes += batch.bytes.len();
        state.batches.push_back(batch);
        while state.bytes > self.bytes_max {
            let Some(evicted) = state.batches.pop_front() else { break };
            state.bytes -= evicted.bytes.len();
        }
    }

    /// Drops every batch that reaches behind `lsn`.
    pub(crate) fn truncate(&self, lsn: Lsn) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        while state.batches.back().is_some_and(|batch| batch.end_lsn > lsn) {
            let dropped = state.batches.pop_back().expect("looked at above");
            state.bytes -= dropped.bytes.len();
        }
    }

    /// The batch that holds a record; `None` when it is not in memory.
    pub(crate) fn find(&self, lsn: Lsn) -> Option<HotBatch> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let after = state.batches.partition_point(|batch| batch.base_lsn <= lsn);
        let batch = state.batches.get(after.checked_sub(1)?)?;
        (lsn < batch.end_lsn).then(|| batch.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Appendable;

    #[test]
    fn keeps_the_newest_within_bounds() {
        let hot = HotTail::new(3 * 512);
        for n in 1..=5 {
            let mut buffer = Appendable::alone(512);
            buffer.pad_to(512);
            let (base_lsn, end_lsn) = (Lsn::new(n * 10), Lsn::new(n * 10 + 10));
            let bytes = buffer.freeze();
            hot.push(HotBatch { base_lsn, end_lsn, epoch: Epoch::new(1), time_ms: n, bytes });
        }
        assert!(hot.find(Lsn::new(29)).is_none());
        assert_eq!(hot.find(Lsn::new(39)).unwrap().base_lsn, Lsn::new(30));
        assert_eq!(hot.find(Lsn::new(50)).unwrap().time_ms, 5);
        assert!(hot.find(Lsn::new(60)).is_none());
    }
}
