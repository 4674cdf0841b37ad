//! Where the next bytes go: in the segment that is being filled, or in the next.
//!
//! Owns the roll from one segment to the next, and the queue of placed writes. Does not decide what is
//! written.

use std::sync::Arc;

use super::{Placed, Writer};
use crate::Lsn;
use crate::disk::{Appendable, Shared, Write};
use crate::format::bytes::{to_u64, to_usize};
use crate::format::segment::SegmentHeader;
use crate::wal::place::Place;
use crate::wal::steps::{ActiveSegment, Content, NoSegment, PreparedSegment};

impl Writer {
    /// The place for a batch of `length` bytes: in the current segment, or else in the next, which is then rolled
    /// to. The clock moves with what is placed, not with what was to be: batches of another leader that are not later
    /// may come in its place.
    pub(super) fn place(
        &mut self,
        length: usize,
        base_lsn: Lsn,
        now_ms: u64,
    ) -> Result<ActiveSegment, NoSegment> {
        let fits = |segment: &ActiveSegment| segment.offset + to_u64(length) <= segment.data_end;
        let next = if self.segment.as_ref().is_some_and(fits) {
            None
        } else {
            let wanted = |next: &mut PreparedSegment| next.bytes == self.limits.segment_bytes;
            Some(self.next_segment.take_if(wanted).ok_or(NoSegment)?)
        };
        self.time_ms = self.time_ms.max(now_ms);
        if let Some(next) = next {
            let header = self.next_header(next.number, base_lsn);
            self.roll(next, header);
        }
        let segment = self.segment.as_mut().expect("there is one after a roll");
        assert!(fits(segment), "the largest batch fits into an empty segment");
        let place = segment.clone();
        segment.offset += to_u64(length);
        Ok(place)
    }

    fn next_header(&self, segment: u64, base_lsn: Lsn) -> SegmentHeader {
        SegmentHeader {
            log_id: self.log_id,
            segment,
            base_lsn,
            epoch: self.epoch,
            time_ms: self.time_ms,
            segment_bytes: self.limits.segment_bytes,
            block_bytes: self.limits.block_bytes,
            prev_checksum: self.checksum,
            prev_end_offset: self.end_offset,
        }
    }

    pub(super) fn roll(&mut self, next: PreparedSegment, header: SegmentHeader) {
        let block = to_usize(u64::from(self.limits.block_bytes));
        let mut buffer = Appendable::alone(block);
        buffer.pad_to(block);
        header.encode(buffer.open_mut());
        let start = ActiveSegment {
            number: next.number,
            file: Arc::clone(&next.file),
            offset: 0,
            data_end: header.data_end(),
        };
        self.segment_number = next.number;
        self.segment = Some(ActiveSegment { offset: to_u64(block), ..start.clone() });
        let bytes = buffer.freeze();
        let end = self.place_behind(&start, &bytes, header.base_lsn, self.checksum);
        self.add(&start, bytes, end, Content::Segment(header, next.file));
    }

    pub(super) fn place_behind(
        &self,
        start: &ActiveSegment,
        bytes: &Shared,
        lsn: Lsn,
        link: u32,
    ) -> Place {
        let offset = start.offset + to_u64(bytes.len());
        Place { segment: start.number, offset, lsn, epoch: self.last_epoch, link }
    }

    /// Queues a write at `start`, behind which the log goes on at `end`.
    pub(super) fn add(
        &mut self,
        start: &ActiveSegment,
        bytes: Shared,
        end: Place,
        content: Content,
    ) {
        let (file, offset) = (Arc::clone(&start.file), start.offset);
        (self.end_offset, self.checksum) = (end.offset, end.link);
        self.ready_bytes += bytes.len();
        self.feed.push(end, &bytes);
        let write = Write { id: self.next_id, file, offset, bytes };
        self.next_id += 1;
        self.ready.push_back(Placed {
            write,
            segment: start.number,
            end,
            content,
            commit: None,
            waiters: 0,
            completed: false,
        });
    }
}
