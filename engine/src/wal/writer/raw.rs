//! Taking pieces of a log as another replica wrote them, to the same places.
//!
//! Owns the rules by which the writer accepts a piece: as recovery would, and only while it does not lead.
//!
//! Invariants
//!  R1. What is placed continues the log: address, LSN, chain of checksums, epoch.
//!                                                    test `what_does_not_continue_is_refused`
//!  R2. A segment begins where the leader began it, and has the length that it has there.

use std::sync::Arc;

use super::{Placed, Writer};
use crate::disk::Shared;
use crate::format::batch::BatchHeader;
use crate::format::bytes::to_usize;
use crate::format::segment::SegmentHeader;
use crate::format::superblock::Cut;
use crate::format::version::Fault;
use crate::wal::commit::Commit;
use crate::wal::hot::HotBatch;
use crate::wal::place::Place;
use crate::wal::raw::RawPiece;
use crate::wal::scan::Chain;
use crate::wal::steps::{ActiveSegment, Content};

/// What [`Writer::push_raw`] did.
#[derive(Debug)]
pub(crate) enum RawPush {
    /// The piece has its place.
    Pushed,
    /// Prepare the next segment with this length, then push again.
    NeedSegment(u64),
    /// Too much is on its way: wait until something is durable, then push again.
    Backlogged,
    /// The piece does not continue the log.
    Refused(Fault),
}

impl Writer {
    /// Puts a piece at its place; `commit` ends when it is durable.
    pub(crate) fn push_raw(&mut self, piece: &RawPiece, commit: &Arc<Commit>) -> RawPush {
        assert!(!self.leads && self.open.is_none(), "whoever leads takes nothing from others");
        let bytes = match piece {
            RawPiece::Segment(_, bytes) | RawPiece::Batches(_, bytes) => bytes,
        };
        let unacked = self.in_flight_bytes + self.ready_bytes;
        if unacked > 0 && unacked + bytes.len() > self.limits.inflight_bytes_max {
            return RawPush::Backlogged;
        }
        let pushed = match piece {
            RawPiece::Segment(header, _) => self.push_segment(header),
            RawPiece::Batches(headers, bytes) => self.push_batches(headers, bytes),
        };
        match pushed {
            Ok(None) => {}
            Ok(Some(bytes)) => return RawPush::NeedSegment(bytes),
            Err(fault) => return RawPush::Refused(fault),
        }
        let placed: &mut Placed = self.ready.back_mut().expect("added above");
        placed.commit = Some(Arc::clone(commit));
        RawPush::Pushed
    }

    /// The length of the segment that has to be prepared first, if one has.
    fn push_segment(&mut self, header: &SegmentHeader) -> Result<Option<u64>, Fault> {
        if header.log_id != self.log_id {
            return Err(Fault::ForeignLog);
        }
        if header.segment != self.next_segment_number() {
            return Err(Fault::Misplaced);
        }
        let continues = header.base_lsn == self.end_lsn
            && header.prev_checksum == self.checksum
            && header.prev_end_offset == self.end_offset
            && header.epoch >= self.last_epoch
            && header.block_bytes == self.limits.block_bytes;
        if !continues {
            return Err(Fault::Chain);
        }
        let wanted = |next: &mut super::PreparedSegment| next.bytes == header.segment_bytes;
        let Some(next) = self.next_segment.take_if(wanted) else {
            return Ok(Some(header.segment_bytes));
        };
        self.roll(next, header.clone());
        Ok(None)
    }

    fn push_batches(
        &mut self,
        headers: &[BatchHeader],
        bytes: &Shared,
    ) -> Result<Option<u64>, Fault> {
        let Some(active) = self.segment.clone() else { return Err(Fault::Misplaced) };
        let mut chain = Chain {
            log_id: self.log_id,
            cut: Cut::default(),
            segment: active.number,
            offset: active.offset,
            data_end: active.data_end,
            block_bytes: self.limits.block_bytes,
            lsn: self.end_lsn,
            checksum: Some(self.checksum),
            epoch: self.last_epoch,
            time_ms: self.time_ms,
        };
        let mut batches = Vec::with_capacity(headers.len());
        let mut at = 0;
        for header in headers {
            chain.accept(header)?;
            let end = at + to_usize(u64::from(header.length));
            batches.push(HotBatch {
                base_lsn: header.base_lsn,
                end_lsn: header.end_lsn(),
                epoch: header.epoch,
                time_ms: header.time_ms,
                bytes: bytes.slice(at..end),
            });
            at = end;
            chain.advance(header);
        }
        assert_eq!(at, bytes.len(), "the headers stand for all of the bytes");
        (self.last_epoch, self.time_ms, self.end_lsn) = (chain.epoch, chain.time_ms, chain.lsn);
        // Behind a lost range the log goes on farther away than where its bytes end.
        let end = Place {
            segment: active.number,
            offset: chain.offset,
            lsn: chain.lsn,
            epoch: chain.epoch,
            link: chain.checksum.expect("behind a batch"),
        };
        self.add(&active, bytes.clone(), end, Content::Raw(batches));
        self.segment = Some(ActiveSegment { offset: end.offset, ..active });
        Ok(None)
    }
}
