//! Deciding whether bytes continue the log.
//!
//! Owns the rules by which a batch is accepted at its place: FORMAT.md, "a batch is valid if and only
//! if". Recovery, readers, verify and inspect all ask here, so that they cannot disagree. Reads nothing
//! itself.
//!
//! Invariants
//!  S1. What [`Chain::accept`] accepts carries its own address (log, segment, offset, LSN), continues
//!      the checksum chain, has no older epoch than what precedes it, and is not void by a cut.
//!                                             tests `wrong_addresses_are_refused`, `the_chain_holds`

use crate::format::batch::BatchHeader;
use crate::format::segment::SegmentHeader;
use crate::format::superblock::Cut;
use crate::format::version::Fault;
use crate::{Epoch, Lsn};

/// What the next batch must be like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) log_id: u128,
    pub(crate) cut: Cut,
    pub(crate) segment: u64,
    pub(crate) offset: u64,
    pub(crate) data_end: u64,
    pub(crate) block_bytes: u32,
    pub(crate) lsn: Lsn,
    /// Link of the batch before; `None` when the scan starts in the middle of a segment.
    pub(crate) checksum: Option<u32>,
    pub(crate) epoch: Epoch,
    pub(crate) time_ms: u64,
}

impl Chain {
    /// The chain at the first batch of a segment.
    pub(crate) fn at_segment(header: &SegmentHeader, cut: Cut) -> Chain {
        Chain {
            log_id: header.log_id,
            cut,
            segment: header.segment,
            offset: u64::from(header.block_bytes),
            data_end: header.data_end(),
            block_bytes: header.block_bytes,
            lsn: header.base_lsn,
            checksum: Some(header.prev_checksum),
            epoch: Epoch::NONE,
            time_ms: 0,
        }
    }

    /// Whether the header at the expected place continues the log. Says nothing about its body.
    pub(crate) fn accept_header(&self, bytes: &[u8]) -> Result<BatchHeader, Fault> {
        let header = BatchHeader::decode(bytes)?;
        self.accept(&header)?;
        Ok(header)
    }

    /// The same for a header that was decoded before.
    pub(crate) fn accept(&self, header: &BatchHeader) -> Result<(), Fault> {
        if header.log_id != self.log_id {
            return Err(Fault::ForeignLog);
        }
        if header.segment != self.segment || header.offset != self.offset {
            return Err(Fault::Misplaced);
        }
        if self.cut.voids(header.segment, header.offset, header.epoch) {
            return Err(Fault::Void);
        }
        if header.base_lsn != self.lsn
            || self.checksum.is_some_and(|checksum| header.prev_checksum != checksum)
            || header.epoch < self.epoch
            || header.time_ms < self.time_ms
        {
            return Err(Fault::Chain);
        }
        let block_bytes = u64::from(self.block_bytes);
        let in_blocks = u64::from(header.length).is_multiple_of(block_bytes)
            && header.end_offset().is_multiple_of(block_bytes);
        if !in_blocks || header.end_offset() > self.data_end {
            return Err(Fault::Field);
        }
        Ok(())
    }

    /// Moves on behind an accepted batch whose body is whole.
    pub(crate) fn advance(&mut self, header: &BatchHeader) {
        self.offset = header.end_offset();
        self.lsn = header.end_lsn();
        self.checksum = Some(header.link());
        // A lost range was written long after what follows it.
        if header.lost.is_none() {
            self.epoch = header.epoch;
            self.time_ms = header.time_ms;
        }
    }

    /// Whether the first batch of the next segment continues this one: its header must name the end
    /// that was found here.
    pub(crate) fn continues_in(&self, next: &SegmentHeader) -> bool {
        next.log_id == self.log_id
            && next.segment == self.segment + 1
            && next.base_lsn == self.lsn
            && next.prev_end_offset == self.offset
            && self.checksum == Some(next.prev_checksum)
            && !self.cut.voids(next.segment, 0, next.epoch)
    }

    /// A batch that has its own right address in this segment, at whatever `offset`: proof that
    /// somebody wrote it there, whether or not anything before it is whole.
    pub(crate) fn recognize(&self, bytes: &[u8], offset: u64) -> Option<BatchHeader> {
        let header = BatchHeader::decode(bytes).ok()?;
        let here = header.log_id == self.log_id
            && header.segment == self.segment
            && header.offset == offset
            && !self.cut.voids(header.segment, header.offset, header.epoch);
        here.then_some(header)
    }
}

#[cfg(test)]
#[path = "scan_tests.rs"]
mod tests;
