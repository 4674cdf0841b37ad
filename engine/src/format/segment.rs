//! Segment files: the header block in front, and the footer of a sealed segment behind.
//!
//! Owns both structures and the names of the files. Layout: FORMAT.md, sections 2 and 4. Does not read
//! files.
//!
//! Invariants
//!  G1. Where the batches of a segment must end (`data_end`) follows from its length alone, so every
//!      replica rolls at the same place.                                   test `zones_do_not_overlap`
//!  G2. A footer names the segment it was made for, so what a recycled file still holds of an earlier
//!      life is refused.                                                    test `every_flipped_bit_is_seen`

use super::bytes::{
    Decoder, Encoder, block_is_valid, checksum, parse_number, round_up, seal_block, to_u64,
    to_usize,
};
use super::limits::COUNT_MAX;
use super::version::{Fault, MAGIC_SEGMENT, MAGIC_TRAILER, VERSION, VERSION_MIN};
use crate::{Epoch, Lsn};

const CHECKSUM_AT: usize = 252;
/// Bytes that the structures of this file need at least of their block.
const STRUCTURE_BYTES: usize = CHECKSUM_AT + 4;
/// One index entry at most for so many bytes of a segment.
pub const INDEX_INTERVAL_BYTES: u64 = 64 << 10;
const INDEX_ENTRY_BYTES: usize = 24;

/// The file name of a segment.
#[must_use]
pub fn file_name(segment: u64) -> String {
    format!("{segment:020}.seg")
}

/// The segment that a file name stands for; `None` for any other name.
#[must_use]
pub fn parse_file_name(name: &str) -> Option<u64> {
    parse_number(name, ".seg")
}

/// The first offset that batches may not reach: behind it lies the footer.
#[must_use]
pub fn data_end(segment_bytes: u64, block_bytes: u32) -> u64 {
    let entries = to_usize(segment_bytes / INDEX_INTERVAL_BYTES) + 1;
    let block = to_usize(u64::from(block_bytes));
    let index = round_up(entries * INDEX_ENTRY_BYTES, block);
    segment_bytes - to_u64(index + block)
}

/// The block in front of the batches of a segment; written together with its first batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The log it belongs to.
    pub log_id: u128,
    /// Its number: dense, from 1, never used again.
    pub segment: u64,
    /// LSN of the first record in it.
    pub base_lsn: Lsn,
    /// The epoch that opened it.
    pub epoch: Epoch,
    /// Wall clock when it was opened.
    pub time_ms: u64,
    /// Length of the file.
    pub segment_bytes: u64,
    /// Bytes of a block.
    pub block_bytes: u32,
    /// Link of the last batch of the segment before; 0 in the first segment.
    pub prev_checksum: u32,
    /// Where the batches of the segment before end; 0 in the first segment.
    pub prev_end_offset: u64,
}

impl SegmentHeader {
    /// Writes the header as one block.
    pub(crate) fn encode(&self, block: &mut [u8]) {
        assert!(block.len() >= STRUCTURE_BYTES);
        block.fill(0);
        let mut e = Encoder::new(block);
        e.u32(MAGIC_SEGMENT);
        e.u16(VERSION);
        e.u16(0);
        e.u128(self.log_id);
        e.u64(self.segment);
        e.u64(self.base_lsn.get());
        e.u64(self.epoch.get());
        e.u64(self.time_ms);
        e.u64(self.segment_bytes);
        e.u32(self.block_bytes);
        e.u32(self.prev_checksum);
        e.u64(self.prev_end_offset);
        seal_block(block, CHECKSUM_AT);
    }

    /// Reads the header from the first block of a file. `block` may be longer than the block it holds:
    /// the header says how long that is.
    ///
    /// # Errors
    /// The [`Fault`] that makes it no header.
    pub fn decode(block: &[u8]) -> Result<SegmentHeader, Fault> {
        let (mut d, version) = check_start(block, MAGIC_SEGMENT)?;
        let header = SegmentHeader {
            log_id: d.u128(),
            segment: d.u64(),
            base_lsn: Lsn::new(d.u64()),
            epoch: Epoch::new(d.u64()),
            time_ms: d.u64(),
            segment_bytes: d.u64(),
            block_bytes: d.u32(),
            prev_checksum: d.u32(),
            prev_end_offset: d.u64(),
        };
        let block_bytes = to_usize(u64::from(header.block_bytes));
        if !super::block_bytes_are_possible(header.block_bytes) {
            return Err(Fault::Field);
        }
        let Some(block) = block.get(..block_bytes) else { return Err(Fault::Short) };
        if !block_is_valid(block, CHECKSUM_AT) {
            return Err(Fault::Checksum);
        }
        check_version(version)?;
        if header.is_possible() { Ok(header) } else { Err(Fault::Field) }
    }

    /// Whether a writer produces such values.
    pub(crate) fn is_possible(&self) -> bool {
        (1..COUNT_MAX).contains(&self.segment)
            && (1..COUNT_MAX).contains(&self.base_lsn.get())
            && self.prev_end_offset.max(self.epoch.get()) < COUNT_MAX
            && super::block_bytes_are_possible(self.block_bytes)
            && super::segment_bytes_are_possible(self.segment_bytes, self.block_bytes)
    }

    /// The first offset that batches may not reach.
    #[must_use]
    pub fn data_end(&self) -> u64 {
        data_end(self.segment_bytes, self.block_bytes)
    }
}

/// The last block of a sealed segment: what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trailer {
    /// The log it belongs to.
    pub log_id: u128,
    /// The segment it seals.
    pub segment: u64,
    /// LSN of its first record.
    pub base_lsn: Lsn,
    /// First LSN after it.
    pub end_lsn: Lsn,
    /// First offset after its last batch.
    pub end_offset: u64,
    /// Wall clock of its first and of its last batch.
    pub first_time_ms: u64,
    /// See `first_time_ms`.
    pub last_time_ms: u64,
    /// Epoch of its last batch.
    pub last_epoch: Epoch,
    /// Number of batches in it.
    pub batch_count: u64,
    /// Link of its last batch.
    pub last_checksum: u32,
    /// Number of index entries, which start at `data_end`.
    pub index_count: u32,
    /// Over the index entries.
    pub index_checksum: u32,
}

impl Trailer {
    /// Writes the trailer as one block.
    pub(crate) fn encode(&self, block: &mut [u8]) {
        assert!(block.len() >= STRUCTURE_BYTES);
        block.fill(0);
        let mut e = Encoder::new(block);
        e.u32(MAGIC_TRAILER);
        e.u16(VERSION);
        e.u16(0);
        e.u128(self.log_id);
        e.u64(self.segment);
        e.u64(self.base_lsn.get());
        e.u64(self.end_lsn.get());
        e.u64(self.end_offset);
        e.u64(self.first_time_ms);
        e.u64(self.last_time_ms);
        e.u64(self.last_epoch.get());
        e.u64(self.batch_count);
        e.u32(self.last_checksum);
        e.u32(self.index_count);
        e.u32(self.index_checksum);
        seal_block(block, CHECKSUM_AT);
    }

    /// Reads the trailer from the last block of a file.
    ///
    /// # Errors
    /// The [`Fault`] that makes it no trailer; the segment is then not sealed and can be scanned.
    pub fn decode(block: &[u8]) -> Result<Trailer, Fault> {
        let (mut d, version) = check_start(block, MAGIC_TRAILER)?;
        if !block_is_valid(block, CHECKSUM_AT) {
            return Err(Fault::Checksum);
        }
        check_version(version)?;
        let trailer = Trailer {
            log_id: d.u128(),
            segment: d.u64(),
            base_lsn: Lsn::new(d.u64()),
            end_lsn: Lsn::new(d.u64()),
            end_offset: d.u64(),
            first_time_ms: d.u64(),
            last_time_ms: d.u64(),
            last_epoch: Epoch::new(d.u64()),
            batch_count: d.u64(),
            last_checksum: d.u32(),
            index_count: d.u32(),
            index_checksum: d.u32(),
        };
        if trailer.is_possible() { Ok(trailer) } else { Err(Fault::Field) }
    }

    /// Whether a writer produces such values.
    pub(crate) fn is_possible(&self) -> bool {
        self.base_lsn >= Lsn::FIRST
            && self.base_lsn <= self.end_lsn
            && self.end_lsn.get().max(self.end_offset) < COUNT_MAX
            && self.segment.max(self.last_epoch.get()) < COUNT_MAX
    }
}

/// Looks at the version only of bytes that are whole: rot is not a newer version.
fn check_version(version: u16) -> Result<(), Fault> {
    if (VERSION_MIN..=VERSION).contains(&version) { Ok(()) } else { Err(Fault::Version(version)) }
}

/// The fields behind magic and version, and the version.
fn check_start(block: &[u8], magic: u32) -> Result<(Decoder<'_>, u16), Fault> {
    if block.len() < STRUCTURE_BYTES {
        return Err(Fault::Short);
    }
    let mut d = Decoder::new(block);
    if d.u32() != magic {
        return Err(Fault::Magic);
    }
    let version = d.u16();
    d.u16();
    Ok((d, version))
}

/// Where a batch of a segment starts, and what is first in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    /// LSN of the first record of the batch.
    pub lsn: Lsn,
    /// Offset of the batch.
    pub offset: u64,
    /// Wall clock of the batch.
    pub time_ms: u64,
}

/// Writes entries one after the other.
pub(crate) fn encode_index(entries: &[IndexEntry], bytes: &mut [u8]) {
    let mut e = Encoder::new(bytes);
    for entry in entries {
        e.u64(entry.lsn.get());
        e.u64(entry.offset);
        e.u64(entry.time_ms);
    }
}

/// Bytes of an index with `count` entries.
pub(crate) fn index_bytes(count: u32) -> usize {
    to_usize(u64::from(count)) * INDEX_ENTRY_BYTES
}

/// The checksum that [`Trailer::index_checksum`] holds.
pub(crate) fn index_checksum(bytes: &[u8]) -> u32 {
    checksum(bytes)
}

/// Reads the index that `trailer` describes from exactly its bytes.
///
/// # Errors
/// [`Fault::Checksum`] when it is damaged: it can be rebuilt from the batches.
pub(crate) fn decode_index(trailer: &Trailer, bytes: &[u8]) -> Result<Vec<IndexEntry>, Fault> {
    if bytes.len() != index_bytes(trailer.index_count) {
        return Err(Fault::Short);
    }
    if index_checksum(bytes) != trailer.index_checksum {
        return Err(Fault::Checksum);
    }
    let mut d = Decoder::new(bytes);
    let entry = |d: &mut Decoder<'_>| IndexEntry {
        lsn: Lsn::new(d.u64()),
        offset: d.u64(),
        time_ms: d.u64(),
    };
    Ok((0..trailer.index_count).map(|_| entry(&mut d)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> SegmentHeader {
        SegmentHeader {
            log_id: 7,
            segment: 2,
            base_lsn: Lsn::new(100),
            epoch: Epoch::new(3),
            time_ms: 9,
            segment_bytes: 1 << 20,
            block_bytes: 4096,
            prev_checksum: 5,
            prev_end_offset: 8192,
        }
    }

    #[test]
    fn every_flipped_bit_is_seen() {
        let mut block = vec![0; 4096];
        header().encode(&mut block);
        assert_eq!(SegmentHeader::decode(&block), Ok(header()));
        for bit in 0..block.len() * 8 {
            let mut damaged = block.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(SegmentHeader::decode(&damaged).is_err(), "bit {bit} was not seen");
        }
        assert_eq!(SegmentHeader::decode(&[0; 4096]), Err(Fault::Magic));
    }

    #[test]
    fn trailer_and_index_round_trip() {
        let entries = [
            IndexEntry { lsn: Lsn::new(1), offset: 4096, time_ms: 10 },
            IndexEntry { lsn: Lsn::new(9), offset: 70_000, time_ms: 11 },
        ];
        let mut bytes = vec![0; index_bytes(2)];
        encode_index(&entries, &mut bytes);
        let trailer = Trailer {
            log_id: 7,
            segment: 2,
            base_lsn: Lsn::new(1),
            end_lsn: Lsn::new(20),
            end_offset: 90_112,
            first_time_ms: 10,
            last_time_ms: 12,
            last_epoch: Epoch::new(4),
            batch_count: 3,
            last_checksum: 1,
            index_count: 2,
            index_checksum: index_checksum(&bytes),
        };
        let mut block = vec![0; 4096];
        trailer.encode(&mut block);
        assert_eq!(Trailer::decode(&block), Ok(trailer.clone()));
        assert_eq!(decode_index(&trailer, &bytes), Ok(entries.to_vec()));
        bytes[3] ^= 1;
        assert_eq!(decode_index(&trailer, &bytes), Err(Fault::Checksum));
    }

    #[test]
    fn zones_do_not_overlap() {
        for (segment_bytes, block_bytes) in [(64 << 10, 512), (1 << 20, 4096), (64 << 20, 65536)] {
            let end = data_end(segment_bytes, block_bytes);
            let entries = end / INDEX_INTERVAL_BYTES + 1;
            let index = entries * to_u64(INDEX_ENTRY_BYTES);
            assert!(end + index + u64::from(block_bytes) <= segment_bytes);
            assert_eq!(end % u64::from(block_bytes), 0);
        }
    }

    #[test]
    fn names() {
        assert_eq!(parse_file_name(&file_name(42)), Some(42));
        for name in ["42.seg", "00000000000000000000.seg", "00000000000000000042.se", "x", ""] {
            assert_eq!(parse_file_name(name), None, "{name}");
        }
    }
}
