//! Counters that an embedder can look at without any metrics library.
//!
//! Owns [`Stats`], a copy at one moment, and the atomic counters behind it. Registers nothing anywhere.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Epoch, Lsn};

/// What a log has done since it was opened, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Oldest record kept.
    pub first_lsn: Lsn,
    /// Below it, records survive a power cut.
    pub durable_lsn: Lsn,
    /// Next to be assigned.
    pub end_lsn: Lsn,
    /// Epoch of this open.
    pub epoch: Epoch,
    /// Batches that became durable.
    pub batches: u64,
    /// Records that became durable.
    pub records: u64,
    /// Bytes of batches that became durable, headers and padding included.
    pub batch_bytes: u64,
    /// Durable writes that were made for them, segment headers included.
    pub writes: u64,
    /// Segments in the log.
    pub segments: u64,
    /// Segments made new and pre-written.
    pub segments_created: u64,
    /// Segments taken over from dropped ones.
    pub segments_recycled: u64,
    /// The driver in use.
    pub backend: &'static str,
}

/// Counters behind [`Stats`]; each is only ever added to.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) batches: AtomicU64,
    pub(crate) records: AtomicU64,
    pub(crate) batch_bytes: AtomicU64,
    pub(crate) writes: AtomicU64,
    pub(crate) segments_created: AtomicU64,
    pub(crate) segments_recycled: AtomicU64,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64, value: u64) {
        counter.fetch_add(value, Ordering::Relaxed);
    }

    pub(crate) fn get(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }
}
