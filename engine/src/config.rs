//! Every limit of a log, in one place.
//!
//! Owns [`Config`], its defaults, and the relations between its limits. Units are the last word of each
//! name.

use crate::disk::{BackendChoice, DurableWrite};
use crate::format::batch::{HEADER_BYTES, LENGTH_MAX, ProducerRun, RECORD_PREFIX_BYTES};
use crate::format::segment::data_end;
use crate::format::{block_bytes_are_possible, segment_bytes_are_possible};

/// How a log is opened, and how much of everything it may use.
///
/// `Config::default()` is durable, recycles nothing, keeps everything, and uses at most 64 MiB of
/// memory. The struct is `#[non_exhaustive]`: take the default and change fields.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// Make the directory and the log when they are missing. Default: true.
    pub create: bool,
    /// Length of a segment file. 64 KiB to 4 GiB, whole blocks. Default: 64 MiB. May change between
    /// opens; existing segments keep theirs.
    pub segment_bytes: u64,
    /// Batches start and end on such boundaries. A power of two, 512 to 65536, at least what the device
    /// writes atomically. Default: 4096. Fixed when the log is made; ignored afterwards.
    pub block_bytes: u32,
    /// The largest record. At most 16 MiB, and it must fit into a segment. Default: 16 MiB, or what fits.
    pub record_bytes_max: usize,
    /// Records are gathered into one batch until it has this many bytes; a larger record makes a larger
    /// batch. Default: 1 MiB.
    pub batch_bytes_max: usize,
    /// The most bytes that are written or waiting to be written and not durable yet; appenders wait
    /// beyond it. At least the largest batch and 256 KiB. An open after a crash searches twice as many
    /// bytes behind the end of the log. Default: 17 MiB.
    pub inflight_bytes_max: usize,
    /// The newest durable batches are kept in memory up to this many bytes, for readers at the tail.
    /// Default: 8 MiB.
    pub hot_bytes_max: usize,
    /// Wait so long before writing a batch, so that more records join it. Default: 0.
    pub commit_delay_us: u32,
    /// What is known to be durable is noted beside the log at most this often. Default: 25.
    pub watermark_interval_ms: u32,
    /// When the disk has not answered for so long, the log is poisoned: whoever waits gets the error, and
    /// nothing that comes later is acknowledged. A thread that is itself inside of the system call
    /// returns only with that. 0: wait for ever. Default: 30 seconds.
    pub stall_deadline_ms: u32,
    /// Whether a parity file is written beside each sealed segment, off the write path: 1/32 of its bytes,
    /// and checksums, for which any 32 damaged blocks of 4 KiB in each 4 MiB are rebuilt when they are
    /// read, and by the scrub. Default: true.
    pub parity: bool,
    /// The scrub, and the writing of parity, read at most so many bytes a second. While records are appended
    /// it is a 32nd of that, and an eighth when more than 16 sealed segments wait for their parity. 0 turns
    /// both off. Default: 64 MiB.
    pub scrub_bytes_per_second: u64,
    /// A scrub of all sealed segments is started so long after the one before, and so long after the log
    /// was opened. Default: one day.
    pub scrub_interval_seconds: u64,
    /// A truncation that gives up more bytes of batches than this is refused: they are first copied into
    /// a file beside the log. Default: 1 GiB.
    pub fork_bytes_max: u64,
    /// A file of this length keeps room on the disk, so that a truncation of no more bytes works also
    /// when the disk is full. 0: none. Default: 16 MiB.
    pub fork_reserve_bytes: u64,
    /// So many checkpoints of the embedder are kept, at least 2: a damaged newest one falls back to the
    /// one before it. Default: 2.
    pub checkpoints_kept: usize,
    /// Drop the oldest whole segments while the log is larger than this. Default: keep everything.
    pub retain_bytes: Option<u64>,
    /// Drop whole segments whose last record is older than the newest by more than this, by the wall clock
    /// of the records. A clock that jumps forward by more than an hour drops nothing early: the age of
    /// records grows at most twice as fast as time passes. Default: keep everything.
    pub retain_seconds: Option<u64>,
    /// Dropped segments kept for recycling. Default: 2.
    pub spare_segments_max: usize,
    /// The identity that the log must have, and gets when this open makes it: that of its other replicas.
    /// Default: any, and random when it is made.
    pub log_id: Option<u128>,
    /// The line of succession that the log gets when this open makes it. Default: random.
    pub lineage_id: Option<u128>,
    /// What is being written is kept in memory up to this many bytes, for other replicas. Default: 0.
    pub feed_bytes_max: usize,
    /// Whether the log is one of several replicas: see [`Replica`](crate::Replica), which sets it. An open
    /// takes no epoch then, and nothing is appended before one is begun. Default: false.
    pub is_replica: bool,
    /// Which driver runs writes side by side. Default: io_uring where the kernel gives it.
    pub backend: BackendChoice,
    /// How bytes become durable; `None` measures both ways at open and takes the faster. Default: `None`.
    pub durable_write: Option<DurableWrite>,
}

/// The largest record any log takes.
pub const RECORD_BYTES_MAX: usize = 16 << 20;
/// Buffers of the log are so much larger than a batch, so that batches rarely meet their end.
pub(crate) const BUFFER_BATCHES: usize = 2;

impl Default for Config {
    fn default() -> Config {
        Config {
            create: true,
            segment_bytes: 64 << 20,
            block_bytes: 4096,
            record_bytes_max: RECORD_BYTES_MAX,
            batch_bytes_max: 1 << 20,
            inflight_bytes_max: 17 << 20,
            hot_bytes_max: 8 << 20,
            commit_delay_us: 0,
            watermark_interval_ms: 25,
            stall_deadline_ms: 30_000,
            parity: true,
            scrub_bytes_per_second: 64 << 20,
            scrub_interval_seconds: 24 * 3600,
            fork_bytes_max: 1 << 30,
            fork_reserve_bytes: 16 << 20,
            checkpoints_kept: 2,
            retain_bytes: None,
            retain_seconds: None,
            spare_segments_max: 2,
            log_id: None,
            lineage_id: None,
            feed_bytes_max: 0,
            is_replica: false,
            backend: BackendChoice::Auto,
            durable_write: None,
        }
    }
}

/// Two limits that contradict each other, or one that is out of its range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct ConfigError {
    /// The field to change.
    pub field: &'static str,
    /// What it must be.
    pub reason: String,
}

impl Config {
    /// A configuration for small segments: the record limit and the reserve follow the segment's length.
    #[must_use]
    pub fn with_segment_bytes(segment_bytes: u64) -> Config {
        let mut config = Config { segment_bytes, ..Config::default() };
        config.fork_reserve_bytes = config.fork_reserve_bytes.min(segment_bytes / 4);
        let fits = config.payload_bytes_in_segment().saturating_sub(RECORD_PREFIX_BYTES);
        config.record_bytes_max = config.record_bytes_max.min(fits);
        config.batch_bytes_max = config.batch_bytes_max.min(fits + RECORD_PREFIX_BYTES);
        config
    }

    /// Bytes of payload that the largest batch of an empty segment holds.
    fn payload_bytes_in_segment(&self) -> usize {
        if !segment_bytes_are_possible(self.segment_bytes, self.block_bytes) {
            return 0;
        }
        // The header block, and the epoch start that may come first.
        let overhead = 2 * u64::from(self.block_bytes);
        let data = data_end(self.segment_bytes, self.block_bytes).saturating_sub(overhead);
        let data = usize::try_from(data).unwrap_or(usize::MAX).min(LENGTH_MAX);
        data.saturating_sub(HEADER_BYTES + ProducerRun::BYTES)
    }

    /// The largest payload of one batch.
    pub(crate) fn payload_bytes_max(&self) -> usize {
        self.batch_bytes_max.max(self.record_bytes_max + RECORD_PREFIX_BYTES)
    }

    /// Checks the limits against each other.
    ///
    /// # Errors
    /// The first field that cannot be.
    pub fn check(&self) -> Result<(), ConfigError> {
        let wrong = |field, reason: &str| Err(ConfigError { field, reason: reason.to_owned() });
        if !block_bytes_are_possible(self.block_bytes) {
            return wrong("block_bytes", "a power of two from 512 to 65536");
        }
        if !segment_bytes_are_possible(self.segment_bytes, self.block_bytes) {
            return wrong("segment_bytes", "64 KiB to 4 GiB, in whole blocks, at least 8 blocks");
        }
        if self.record_bytes_max > RECORD_BYTES_MAX {
            return wrong("record_bytes_max", "at most 16 MiB");
        }
        if self.batch_bytes_max < RECORD_PREFIX_BYTES || self.batch_bytes_max > RECORD_BYTES_MAX {
            return wrong("batch_bytes_max", "4 bytes to 16 MiB");
        }
        let fits = self.payload_bytes_in_segment();
        if self.payload_bytes_max() > fits {
            let reason = format!("a segment of this length holds batches of {fits} bytes at most");
            return Err(ConfigError { field: "record_bytes_max, batch_bytes_max", reason });
        }
        if self.inflight_bytes_max < self.payload_bytes_max() + 4 * 65536 {
            return wrong("inflight_bytes_max", "at least the largest batch and 256 KiB");
        }
        if self.checkpoints_kept < crate::checkpoint::KEPT_MIN {
            return wrong("checkpoints_kept", "at least 2");
        }
        if self.watermark_interval_ms == 0 {
            return wrong("watermark_interval_ms", "at least 1");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_and_small_segments_are_consistent() {
        assert_eq!(Config::default().check(), Ok(()));
        for bytes in [64 << 10, 1 << 20, 16 << 20, 4 << 30] {
            assert_eq!(Config::with_segment_bytes(bytes).check(), Ok(()), "{bytes}");
        }
    }

    #[test]
    fn contradictions_are_named() {
        let check = |change: fn(&mut Config)| {
            let mut config = Config::default();
            change(&mut config);
            config.check().unwrap_err().field
        };
        assert_eq!(check(|c| c.block_bytes = 1000), "block_bytes");
        assert_eq!(check(|c| c.segment_bytes = 1), "segment_bytes");
        assert_eq!(check(|c| c.segment_bytes = 1 << 20), "record_bytes_max, batch_bytes_max");
        assert_eq!(check(|c| c.record_bytes_max = 17 << 20), "record_bytes_max");
        assert_eq!(check(|c| c.batch_bytes_max = 0), "batch_bytes_max");
        assert_eq!(check(|c| c.inflight_bytes_max = 1 << 20), "inflight_bytes_max");
        assert_eq!(check(|c| c.checkpoints_kept = 1), "checkpoints_kept");
        assert_eq!(check(|c| c.watermark_interval_ms = 0), "watermark_interval_ms");
    }
}
