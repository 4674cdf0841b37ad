//! Pieces of a log as another replica wrote them.
//!
//! Owns the way from received bytes to what the writer takes: each header and each body is looked at here,
//! before any lock is taken. Whether a piece continues this log is the writer's to say.
//!
//! Bounds: one copy of the bytes, which are whole blocks.

use crate::Epoch;
use crate::disk::{Appendable, Shared};
use crate::format::batch::BatchHeader;
use crate::format::bytes::to_usize;
use crate::format::segment::SegmentHeader;
use crate::format::version::{Fault, MAGIC_SEGMENT};

/// A part of a segment.
#[derive(Debug)]
pub(crate) enum RawPiece {
    /// The block with its header.
    Segment(SegmentHeader, Shared),
    /// Whole batches, one behind the other.
    Batches(Vec<BatchHeader>, Shared),
}

impl RawPiece {
    /// The newest epoch in it.
    pub(crate) fn epoch(&self) -> Option<Epoch> {
        match self {
            RawPiece::Segment(header, _) => Some(header.epoch),
            RawPiece::Batches(headers, _) => headers.iter().map(|header| header.epoch).max(),
        }
    }
}

/// Takes received bytes apart.
pub(crate) fn parse(bytes: &[u8], block_bytes: u32) -> Result<Vec<RawPiece>, Fault> {
    let block = to_usize(u64::from(block_bytes));
    if bytes.is_empty() || !bytes.len().is_multiple_of(block) {
        return Err(Fault::Short);
    }
    let mut buffer = Appendable::alone(bytes.len());
    buffer.push(bytes);
    let all = buffer.freeze();
    let mut pieces = Vec::new();
    let mut batches: Vec<BatchHeader> = Vec::new();
    let (mut at, mut start) = (0, 0);
    while at < all.len() {
        let is_header = all[at..].starts_with(&MAGIC_SEGMENT.to_le_bytes());
        let is_gap = batches.last().is_some_and(|batch| batch.lost.is_some());
        if (is_header || is_gap) && !batches.is_empty() {
            pieces.push(RawPiece::Batches(std::mem::take(&mut batches), all.slice(start..at)));
        }
        if is_header {
            let header = SegmentHeader::decode(&all[at..])?;
            if header.block_bytes != block_bytes {
                return Err(Fault::Field);
            }
            pieces.push(RawPiece::Segment(header, all.slice(at..at + block)));
            at += block;
        } else {
            let header = BatchHeader::decode(&all[at..])?;
            let end = at + to_usize(u64::from(header.length));
            let batch = all.get(at..end).ok_or(Fault::Short)?;
            if !header.body_is_whole(batch) {
                return Err(Fault::Body);
            }
            if !batch.len().is_multiple_of(block) {
                return Err(Fault::Field);
            }
            if batches.is_empty() {
                start = at;
            }
            batches.push(header);
            at = end;
        }
    }
    if !batches.is_empty() {
        pieces.push(RawPiece::Batches(batches, all.slice(start..at)));
    }
    Ok(pieces)
}
