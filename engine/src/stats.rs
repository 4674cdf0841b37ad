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
    /// Sealed segments that have their digest and, if it is wanted, their parity.
    pub segments_protected: u64,
    /// Sealed segments that still wait for them: the backlog of the scrub.
    pub segments_unprotected: u64,
    /// Bytes that the scrub has read.
    pub scrubbed_bytes: u64,
    /// Scrubs of all sealed segments that were finished.
    pub scrub_rounds: u64,
    /// Segments that the scrub could not read or protect, to be tried again.
    pub scrub_failures: u64,
    /// Damaged units of 4 KiB that the scrub found.
    pub units_damaged: u64,
    /// Those of them that it rebuilt and wrote back.
    pub units_mended: u64,
    /// Batches that a reader got only because parity made up for damage.
    pub mended_reads: u64,
    /// Segments with damage that nothing makes up for: see [`Log::damage`](crate::Log::damage).
    pub segments_damaged: u64,
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
    pub(crate) segments_protected: AtomicU64,
    pub(crate) scrubbed_bytes: AtomicU64,
    pub(crate) scrub_rounds: AtomicU64,
    pub(crate) scrub_failures: AtomicU64,
    pub(crate) units_damaged: AtomicU64,
    pub(crate) units_mended: AtomicU64,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64, value: u64) {
        counter.fetch_add(value, Ordering::Relaxed);
    }

    pub(crate) fn get(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }
}
