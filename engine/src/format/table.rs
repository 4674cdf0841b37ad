//! The content of the engine's own checkpoint: the table of sealed segments, and the epochs in them.
//!
//! Owns the bytes of the table. It lets an open take sealed segments without looking at their files.
//! Layout: FORMAT.md, section 11.
//!
//! Bounds: 152 bytes for each segment, at most 2^26 segments; 80 bytes for each epoch, at most
//! `EPOCHS_MAX`.

use super::batch::EpochStart;
use super::bytes::{Decoder, Encoder, to_u64, to_usize};
use super::limits::COUNT_MAX;
use super::segment::{SegmentHeader, Trailer};
use super::version::Fault;
use crate::epochs::{EPOCHS_MAX, StartedEpoch};
use crate::{Epoch, Lsn};

/// Bytes of the start of a table, of a segment in it, and of an epoch.
const START_BYTES: usize = 16;
const ENTRY_BYTES: usize = 152;
const EPOCH_BYTES: usize = 80;
/// Four PiB of segments of 64 MiB; a table that says more is not one of ours.
const TABLE_ENTRIES_MAX: u64 = 1 << 26;
/// No table is longer.
pub(crate) const TABLE_BYTES_MAX: u64 = TABLE_ENTRIES_MAX * 152 + (EPOCHS_MAX as u64) * 80 + 16;

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
pub(crate) fn encode(entries: &[TableEntry], epochs: &[StartedEpoch]) -> Vec<u8> {
    let (entry_bytes, epoch_bytes) = (entries.len() * ENTRY_BYTES, epochs.len() * EPOCH_BYTES);
    let mut bytes = vec![0; START_BYTES + entry_bytes + epoch_bytes];
    let mut e = Encoder::new(&mut bytes);
    e.u64(to_u64(entries.len()));
    e.u64(to_u64(epochs.len()));
    let (of_entries, of_epochs) = bytes[START_BYTES..].split_at_mut(entry_bytes);
    for (entry, bytes) in entries.iter().zip(of_entries.chunks_exact_mut(ENTRY_BYTES)) {
        encode_entry(entry, &mut Encoder::new(bytes));
    }
    for (epoch, bytes) in epochs.iter().zip(of_epochs.chunks_exact_mut(EPOCH_BYTES)) {
        encode_epoch(epoch, &mut Encoder::new(bytes));
    }
    bytes
}

pub(super) fn encode_epoch(started: &StartedEpoch, e: &mut Encoder<'_>) {
    for number in [started.epoch.get(), started.lsn.get(), started.segment, started.offset] {
        e.u64(number);
    }
    e.bytes(&started.start.encode());
}

pub(super) fn decode_epoch(d: &mut Decoder<'_>) -> Result<StartedEpoch, Fault> {
    let (epoch, lsn) = (Epoch::new(d.u64()), Lsn::new(d.u64()));
    let (segment, offset) = (d.u64(), d.u64());
    let start = EpochStart { lineage_id: d.u128(), incarnation: d.u128(), nonce: d.u128() };
    let greatest = epoch.get().max(lsn.get()).max(segment).max(offset);
    if greatest >= COUNT_MAX || epoch == Epoch::NONE || lsn < Lsn::FIRST {
        return Err(Fault::Field);
    }
    Ok(StartedEpoch { epoch, lsn, segment, offset, start })
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
pub(crate) fn decode(
    bytes: &[u8],
    log_id: u128,
) -> Result<(Vec<TableEntry>, Vec<StartedEpoch>), Fault> {
    let Some((start, rest)) = bytes.split_at_checked(START_BYTES) else {
        return Err(Fault::Short);
    };
    let mut d = Decoder::new(start);
    let (entry_count, epoch_count) = (d.u64(), d.u64());
    if entry_count > TABLE_ENTRIES_MAX || epoch_count > to_u64(EPOCHS_MAX) {
        return Err(Fault::Field);
    }
    let entry_bytes = to_usize(entry_count) * ENTRY_BYTES;
    if rest.len() != entry_bytes + to_usize(epoch_count) * EPOCH_BYTES {
        return Err(Fault::Short);
    }
    let (of_entries, of_epochs) = rest.split_at(entry_bytes);
    let entries = of_entries.chunks_exact(ENTRY_BYTES);
    let entries: Result<Vec<_>, _> =
        entries.map(|bytes| decode_entry(&mut Decoder::new(bytes), log_id)).collect();
    let epochs = of_epochs.chunks_exact(EPOCH_BYTES);
    let epochs: Result<Vec<_>, _> =
        epochs.map(|bytes| decode_epoch(&mut Decoder::new(bytes))).collect();
    let epochs = epochs?;
    let grows = |w: &[StartedEpoch]| w[0].epoch < w[1].epoch && w[0].lsn <= w[1].lsn;
    if epochs.windows(2).all(grows) { Ok((entries?, epochs)) } else { Err(Fault::Field) }
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
        let start = EpochStart { lineage_id: 1, incarnation: 2, nonce: 3 };
        let epochs: Vec<StartedEpoch> = (1..4)
            .map(|n| {
                let (epoch, lsn) = (Epoch::new(n), Lsn::new(n * 7));
                StartedEpoch { epoch, lsn, segment: n, offset: 4096, start }
            })
            .collect();
        let bytes = encode(&entries, &epochs);
        assert_eq!(decode(&bytes, 5), Ok((entries.clone(), epochs.clone())));
        let backwards: Vec<_> = epochs.into_iter().rev().collect();
        assert_eq!(decode(&encode(&entries, &backwards), 5), Err(Fault::Field));
        assert_eq!(decode(&bytes[..bytes.len() - 1], 5), Err(Fault::Short));
        assert_eq!(decode(&[], 5), Err(Fault::Short));
        assert_eq!(decode(&[0xff; START_BYTES], 5), Err(Fault::Field));
        assert_eq!(decode(&encode(&[], &[]), 5), Ok((Vec::new(), Vec::new())));
    }
}
