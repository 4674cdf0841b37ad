//! What goes into the writer and what comes out of it.
//!
//! Owns the values that cross between the state machine (`writer`) and its callers. Holds no logic.

use std::sync::Arc;

use super::commit::Commit;
use super::hot::HotBatch;
use super::place::Place;
use crate::disk::{DiskFile, Write};
use crate::format::batch::EpochStart;
use crate::format::segment::SegmentHeader;
use crate::{Epoch, Lsn};

/// The sizes that the writer keeps to; checked in `Config::check`.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) block_bytes: u32,
    pub(crate) segment_bytes: u64,
    pub(crate) batch_bytes_max: usize,
    pub(crate) inflight_bytes_max: usize,
}

/// Where the log stands when the writer starts.
#[derive(Clone, Debug)]
pub(crate) struct Start {
    pub(crate) log_id: u128,
    pub(crate) epoch: Epoch,
    /// Written in front of the first batch; `None` while somebody else leads.
    pub(crate) epoch_start: Option<EpochStart>,
    pub(crate) end_lsn: Lsn,
    /// Link of the last batch; 0 when there is none.
    pub(crate) checksum: u32,
    /// Its epoch.
    pub(crate) last_epoch: Epoch,
    pub(crate) time_ms: u64,
    /// The segment that goes on; `None` to start with the one after `segment_number`.
    pub(crate) segment: Option<ActiveSegment>,
    /// Number of the newest segment; 0 when there is none.
    pub(crate) segment_number: u64,
    /// Where the last batch ended, for the header of the next segment.
    pub(crate) end_offset: u64,
}

impl Start {
    /// The end of the log.
    pub(crate) fn place(&self) -> Place {
        Place {
            segment: self.segment_number,
            offset: self.end_offset,
            lsn: self.end_lsn,
            epoch: self.last_epoch,
            link: self.checksum,
        }
    }
}

/// The segment that is being filled.
#[derive(Clone, Debug)]
pub(crate) struct ActiveSegment {
    pub(crate) number: u64,
    pub(crate) file: Arc<dyn DiskFile>,
    /// Where the next batch goes.
    pub(crate) offset: u64,
    pub(crate) data_end: u64,
}

/// A segment file that is ready to be written.
#[derive(Clone, Debug)]
pub(crate) struct PreparedSegment {
    pub(crate) number: u64,
    pub(crate) file: Arc<dyn DiskFile>,
    /// Its length.
    pub(crate) bytes: u64,
}

/// What [`Writer::push`] did.
#[derive(Debug)]
pub(crate) enum Push {
    /// The records are in the open batch, the first with this LSN.
    Pushed(Lsn),
    /// The open batch has no room: close it, then push again.
    Full,
    /// Too much is on its way: wait until something is durable, then push again.
    Backlogged,
}

/// The current segment is full and the next one is not prepared.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NoSegment;

/// What the caller of [`Writer::poll_write`] must do.
#[derive(Debug)]
pub(crate) enum Poll {
    /// Make this durable and hand the result to [`Writer::handle_completion`].
    Write(Write),
    /// Prepare the next segment and hand it to [`Writer::handle_prepared`].
    NeedSegment,
    /// Wait for a completion or for records.
    Nothing,
}

/// A write that became durable, in log order.
#[derive(Debug)]
pub(crate) struct Durable {
    pub(crate) segment: u64,
    pub(crate) content: Content,
    /// Threads that waited for it.
    pub(crate) waiters: u32,
    /// To be finished by the caller, outside of the lock.
    pub(crate) commit: Option<Arc<Commit>>,
}

/// What a write holds.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// The header of a new segment.
    Segment(SegmentHeader, Arc<dyn DiskFile>),
    /// A batch.
    Batch(HotBatch),
    /// Batches that another writer made, one behind the other.
    Raw(Vec<HotBatch>),
}

impl Content {
    /// LSN of the first record, or of the next where there is none; `None` for a header.
    pub(crate) fn base_lsn(&self) -> Option<Lsn> {
        match self {
            Content::Segment(..) => None,
            Content::Batch(batch) => Some(batch.base_lsn),
            Content::Raw(batches) => batches.first().map(|batch| batch.base_lsn),
        }
    }
}

/// Who appends records, and with what number the first of them: see `ProducerRun`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Producer {
    pub(crate) id: u128,
    pub(crate) first_sequence: u64,
}
