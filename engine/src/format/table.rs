//! The content of the engine's own checkpoint: the table of sealed segments.
//!
//! Owns the bytes of the table. It lets an open take sealed segments without looking at their files.
//! Layout: FORMAT.md, section 11.
//!
//! Bounds: 152 bytes for each segment, at most 2^26 segments.

use super::bytes::{Decoder, Encoder, to_u64, to_usize};
use super::segment::{SegmentHeader, Trailer};
use super::version::Fault;
use crate::{Epoch, Lsn};

/// Bytes of the start of a table, and of an entry.
const START_BYTES: usize = 8;
/// See [`START_BYTES`].
pub(crate) const ENTRY_BYTES: usize = 152;
/// Four PiB of segments of 64 MiB; a table that says more is not one of ours.
pub(crate) const TABLE_ENTRIES_MAX: u64 = 1 << 26;

/// A digest over the records of a segment: see FORMAT.md, section 12.
pub type Digest = [u8; 32];

/// One sealed segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableEntry {
    /// What its header says.
    pub header: SegmentHeader,
    /// What its trailer says.
    pub trailer: Trailer,
    /// The digest of its records; `None` while nobody has read them all since it was sealed.
    pub digest: Option<Digest>,
}

/// The whole table as bytes.
pub(crate) fn encode(entries: &[TableEntry]) -> Vec<u8> {
    let mut bytes = vec![0; START_BYTES + entries.len() * ENTRY_BYTES];
    Encoder::new(&mut bytes).u64(to_u64(entries.len()));
    for (entry, bytes) in entries.iter().zip(bytes[START_BYTES..].chunks_exact_mut(ENTRY_BYTES)) {
        encode_entry(entry, &mut Encoder::new(bytes));
    }
    bytes
}

fn encode_entry(entry: &TableEntry, e: &mut Encoder<'_>) {
    let TableEntry { header, trailer, digest } = entry;
    e.u64(header.segment);
    e.u64(header.base_lsn.get());
    e.u64(header.epoch.get());
    e.u64(header.time_ms);
    e.u64(header.segment_bytes);
    e.u64(header.prev_end_offset);
    e.u32(header.prev_checksum);
    e.u32(header.block_bytes);
    e.u64(trailer.end_lsn.get());
    e.u64(trailer.end_offset);
    e.u64(trailer.first_time_ms);
    e.u64(trailer.last_time_ms);
    e.u64(trailer.last_epoch.get());
    e.u64(trailer.batch_count);
    e.u32(trailer.last_checksum);
    e.u32(trailer.index_count);
    e.u32(trailer.index_checksum);
    e.u32(u32::from(digest.is_some()));
    e.bytes(&digest.unwrap_or_default());
}

/// Reads a table that belongs to the log `log_id`.
///
/// # Errors
/// [`Fault::Short`] or [`Fault::Field`]. The bytes were covered by checksums, so this is a foreign or a
/// forged table.
pub(crate) fn decode(bytes: &[u8], log_id: u128) -> Result<Vec<TableEntry>, Fault> {
    let Some((start, rest)) = bytes.split_at_checked(START_BYTES) else {
        return Err(Fault::Short);
    };
    let count = Decoder::new(start).u64();
    if count > TABLE_ENTRIES_MAX {
        return Err(Fault::Field);
    }
    if rest.len() != to_usize(count) * ENTRY_BYTES {
        return Err(Fault::Short);
    }
    let entries = rest.chunks_exact(ENTRY_BYTES);
    entries.map(|bytes| decode_entry(&mut Decoder::new(bytes), log_id)).collect()
}

fn decode_entry(d: &mut Decoder<'_>, log_id: u128) -> Result<TableEntry, Fault> {
    let (segment, base_lsn) = (d.u64(), Lsn::new(d.u64()));
    let header = SegmentHeader {
        log_id,
        segment,
        base_lsn,
        epoch: Epoch::new(d.u64()),
        time_ms: d.u64(),
        segment_bytes: d.u64(),
        prev_end_offset: d.u64(),
        prev_checksum: d.u32(),
        block_bytes: d.u32(),
    };
    let trailer = Trailer {
        log_id,
        segment,
        base_lsn,
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
    let has_digest = d.u32();
    let digest: Digest = d.bytes(32).try_into().expect("32 bytes");
    if !header.is_possible() || !trailer.is_possible() || has_digest > 1 {
        return Err(Fault::Field);
    }
    Ok(TableEntry { header, trailer, digest: (has_digest == 1).then_some(digest) })
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn entry(segment: u64) -> TableEntry {
        let header = SegmentHeader {
            log_id: 5,
            segment,
            base_lsn: Lsn::new(segment * 10),
            epoch: Epoch::new(2),
            time_ms: 3,
            segment_bytes: 64 << 20,
            block_bytes: 4096,
            prev_checksum: 6,
            prev_end_offset: 8192,
        };
        let trailer = Trailer {
            log_id: 5,
            segment,
            base_lsn: header.base_lsn,
            end_lsn: header.base_lsn.plus(10),
            end_offset: 12288,
            first_time_ms: 3,
            last_time_ms: 4,
            last_epoch: Epoch::new(2),
            batch_count: 9,
            last_checksum: 10,
            index_count: 1,
            index_checksum: 11,
        };
        TableEntry { header, trailer, digest: segment.is_multiple_of(2).then_some([7; 32]) }
    }

    #[test]
    fn round_trip() {
        let entries: Vec<TableEntry> = (1..5).map(entry).collect();
        let bytes = encode(&entries);
        assert_eq!(decode(&bytes, 5), Ok(entries));
        assert_eq!(decode(&bytes[..bytes.len() - 1], 5), Err(Fault::Short));
        assert_eq!(decode(&[], 5), Err(Fault::Short));
        assert_eq!(decode(&[0xff; START_BYTES], 5), Err(Fault::Field));
        assert_eq!(decode(&encode(&[]), 5), Ok(Vec::new()));
    }
}
