//! Parity files: what it takes to find and rebuild damaged blocks of a sealed segment.
//!
//! Owns the bytes of the file that stands beside a sealed segment, how a segment is divided, and the
//! digest over its records. Layout: FORMAT.md, section 12. Does not compute parity (`crate::parity`).
//!
//! Invariants
//!  Y1. Header and checksums stand twice, at both ends of the file, so that no single damage makes the
//!      parity units worthless.                                test `places_do_not_overlap`

use super::batch::{BatchHeader, Records, producer_runs};
use super::bytes::{
    Decoder, Encoder, checksum, open_block, parse_number, seal_block, to_u32, to_u64, to_usize,
};
use super::limits::COUNT_MAX;
use super::table::Digest;
use super::version::{Fault, MAGIC_PARITY, VERSION};
use crate::Lsn;

/// Bytes of a unit: what is found damaged, or not, as a whole.
pub const UNIT_BYTES: usize = 4096;
/// Data units that share parity units.
pub const SLAB_UNITS: usize = 1024;
/// One parity unit for so many data units.
pub const UNITS_PER_PARITY: usize = 32;
/// Parity units of a slab at least.
const PARITY_UNITS_MIN: usize = 2;
/// Bytes of the header, at both ends of the file.
pub const HEADER_BYTES: usize = 4096;
const CHECKSUM_AT: usize = HEADER_BYTES - 4;
const CHECKSUM_BYTES: usize = 4;

/// The file name of the parity of a segment.
#[must_use]
pub fn file_name(segment: u64) -> String {
    format!("{segment:020}.parity")
}

/// The segment whose parity a file name stands for; `None` for any other name.
#[must_use]
pub fn parse_file_name(name: &str) -> Option<u64> {
    parse_number(name, ".parity")
}

/// How a segment of some length is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    units: usize,
}

impl Layout {
    /// The division of a segment of so many bytes; a last unit that is not full counts as if zeros
    /// followed.
    #[must_use]
    pub fn of(segment_bytes: u64) -> Layout {
        Layout { units: to_usize(segment_bytes.div_ceil(to_u64(UNIT_BYTES))) }
    }

    /// Number of slabs.
    #[must_use]
    pub fn slabs(self) -> usize {
        self.units.div_ceil(SLAB_UNITS)
    }

    /// Data units of a slab.
    #[must_use]
    pub fn data_units(self, slab: usize) -> usize {
        (self.units - slab * SLAB_UNITS).min(SLAB_UNITS)
    }

    /// Parity units of a slab: so many of its units may be damaged, whichever they are.
    #[must_use]
    pub fn parity_units(self, slab: usize) -> usize {
        self.data_units(slab).div_ceil(UNITS_PER_PARITY).max(PARITY_UNITS_MIN)
    }

    /// Number of the first parity unit of a slab.
    fn first_parity_unit(self, slab: usize) -> usize {
        (0..slab).map(|before| self.parity_units(before)).sum()
    }

    /// Number of parity units of all slabs.
    #[must_use]
    pub fn all_parity_units(self) -> usize {
        self.first_parity_unit(self.slabs())
    }

    /// Bytes of the table of checksums.
    #[must_use]
    pub fn table_bytes(self) -> usize {
        ((self.units + self.all_parity_units()) * CHECKSUM_BYTES).next_multiple_of(HEADER_BYTES)
    }

    /// Where a parity unit of a slab starts in the file.
    #[must_use]
    pub fn parity_offset(self, slab: usize, unit: usize) -> u64 {
        let number = self.first_parity_unit(slab) + unit;
        to_u64(HEADER_BYTES + self.table_bytes() + number * UNIT_BYTES)
    }

    /// Where the two copies of header and table start: header first in one, last in the other.
    #[must_use]
    pub fn copies(self) -> [(u64, u64); 2] {
        let table_again = self.parity_offset(self.slabs(), 0);
        let header_again = table_again + to_u64(self.table_bytes());
        [(0, to_u64(HEADER_BYTES)), (header_again, table_again)]
    }

    /// Bytes of the file.
    #[must_use]
    pub fn file_bytes(self) -> u64 {
        self.copies()[1].0 + to_u64(HEADER_BYTES)
    }
}

/// The header of a parity file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParityHeader {
    /// The log of the segment.
    pub log_id: u128,
    /// The segment.
    pub segment: u64,
    /// LSN of its first record.
    pub base_lsn: Lsn,
    /// First LSN after it.
    pub end_lsn: Lsn,
    /// Length of its file.
    pub segment_bytes: u64,
    /// The digest of its records.
    pub digest: Digest,
    /// Over the table of checksums.
    pub table_checksum: u32,
}

impl ParityHeader {
    /// Writes the header block.
    pub(crate) fn encode(&self, block: &mut [u8]) {
        assert!(block.len() == HEADER_BYTES);
        block.fill(0);
        let mut e = Encoder::new(block);
        e.u32(MAGIC_PARITY);
        e.u16(VERSION);
        e.u16(0);
        e.u128(self.log_id);
        e.u64(self.segment);
        e.u64(self.base_lsn.get());
        e.u64(self.end_lsn.get());
        e.u64(self.segment_bytes);
        e.bytes(&self.digest);
        e.u32(self.table_checksum);
        e.u32(to_u32(UNIT_BYTES));
        e.u32(to_u32(SLAB_UNITS));
        e.u32(to_u32(UNITS_PER_PARITY));
        seal_block(block, CHECKSUM_AT);
    }

    /// Reads the header block.
    ///
    /// # Errors
    /// The [`Fault`] that makes it no header.
    pub fn decode(block: &[u8]) -> Result<ParityHeader, Fault> {
        let mut d = open_block(block, HEADER_BYTES, MAGIC_PARITY)?;
        d.u16();
        let header = ParityHeader {
            log_id: d.u128(),
            segment: d.u64(),
            base_lsn: Lsn::new(d.u64()),
            end_lsn: Lsn::new(d.u64()),
            segment_bytes: d.u64(),
            digest: d.bytes(32).try_into().expect("32 bytes"),
            table_checksum: d.u32(),
        };
        let division = [d.u32(), d.u32(), d.u32()];
        let known = [UNIT_BYTES, SLAB_UNITS, UNITS_PER_PARITY].map(to_u32);
        let possible = (1..COUNT_MAX).contains(&header.segment)
            && super::limits::SEGMENT_BYTES.contains(&header.segment_bytes)
            && division == known;
        if possible { Ok(header) } else { Err(Fault::Field) }
    }
}

/// The checksum of a unit: of another kind than those inside of it. Whatever carries its own CRC leaves the
/// CRC of all around it the same, so that a unit in which one header stands for another would be taken for
/// whole, and its difference be built into every unit that is rebuilt beside it, past their CRCs too.
fn unit_checksum(bytes: &[u8]) -> u32 {
    let [a, b, c, d, ..] = *blake3::hash(bytes).as_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// The checksums of all units, data first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UnitChecksums {
    layout: Layout,
    checksums: Vec<u32>,
}

impl UnitChecksums {
    pub(crate) fn new(layout: Layout) -> UnitChecksums {
        let checksums = vec![0; layout.units + layout.all_parity_units()];
        UnitChecksums { layout, checksums }
    }

    fn data_at(slab: usize, unit: usize) -> usize {
        slab * SLAB_UNITS + unit
    }

    fn parity_at(&self, slab: usize, unit: usize) -> usize {
        self.layout.units + self.layout.first_parity_unit(slab) + unit
    }

    pub(crate) fn set_data(&mut self, slab: usize, unit: usize, bytes: &[u8]) {
        self.checksums[UnitChecksums::data_at(slab, unit)] = unit_checksum(bytes);
    }

    pub(crate) fn set_parity(&mut self, slab: usize, unit: usize, bytes: &[u8]) {
        let at = self.parity_at(slab, unit);
        self.checksums[at] = unit_checksum(bytes);
    }

    pub(crate) fn data_is_whole(&self, slab: usize, unit: usize, bytes: &[u8]) -> bool {
        self.checksums[UnitChecksums::data_at(slab, unit)] == unit_checksum(bytes)
    }

    pub(crate) fn parity_is_whole(&self, slab: usize, unit: usize, bytes: &[u8]) -> bool {
        self.checksums[self.parity_at(slab, unit)] == unit_checksum(bytes)
    }

    /// The table as it stands in the file; its checksum goes into the header.
    pub(crate) fn encode(&self, table: &mut [u8]) -> u32 {
        assert_eq!(table.len(), self.layout.table_bytes());
        table.fill(0);
        for (checksum, bytes) in self.checksums.iter().zip(table.chunks_exact_mut(CHECKSUM_BYTES)) {
            bytes.copy_from_slice(&checksum.to_le_bytes());
        }
        checksum(table)
    }

    /// Reads the table that a header describes.
    ///
    /// # Errors
    /// [`Fault::Short`] or [`Fault::Checksum`].
    pub(crate) fn decode(header: &ParityHeader, table: &[u8]) -> Result<UnitChecksums, Fault> {
        let layout = Layout::of(header.segment_bytes);
        let Some(table) = table.get(..layout.table_bytes()) else { return Err(Fault::Short) };
        if checksum(table) != header.table_checksum {
            return Err(Fault::Checksum);
        }
        let mut checksums = UnitChecksums::new(layout);
        let mut d = Decoder::new(table);
        checksums.checksums.fill_with(|| d.u32());
        Ok(checksums)
    }
}

/// Computes the digest over the records of a segment, which come in order.
#[derive(Debug)]
pub(crate) struct DigestWriter {
    hasher: blake3::Hasher,
    /// Gathered, because the hash takes long pieces several times faster.
    gathered: Vec<u8>,
}

/// Bytes that are hashed at once.
const GATHERED_BYTES: usize = 128 << 10;

impl DigestWriter {
    pub(crate) fn new() -> DigestWriter {
        DigestWriter { hasher: blake3::Hasher::new(), gathered: Vec::new() }
    }

    /// Takes in a whole batch. Batches without records are no part of the content.
    pub(crate) fn add(&mut self, header: &BatchHeader, batch: &[u8]) -> Result<(), Fault> {
        if header.record_count == 0 {
            return Ok(());
        }
        let runs = producer_runs(header, batch);
        let mut runs = runs.iter().peekable();
        let mut places = Records::new(header);
        let mut number = 0;
        while let Some(place) = places.next_in(batch)? {
            while runs.next_if(|run| run.first_record + run.record_count <= number).is_some() {}
            let run = runs.peek().filter(|run| run.first_record <= number);
            let (producer_id, sequence) = run.map_or((0, 0), |run| {
                let sequence = u64::from(number - run.first_record);
                (run.producer_id, run.first_sequence.wrapping_add(sequence))
            });
            for part in [
                &header.base_lsn.plus(u64::from(number)).get().to_le_bytes()[..],
                &header.epoch.get().to_le_bytes(),
                &header.time_ms.to_le_bytes(),
                &producer_id.to_le_bytes(),
                &sequence.to_le_bytes(),
                &to_u32(place.len()).to_le_bytes(),
                &batch[place],
            ] {
                self.gathered.extend_from_slice(part);
            }
            if self.gathered.len() >= GATHERED_BYTES {
                self.hasher.update(&self.gathered);
                self.gathered.clear();
            }
            number += 1;
        }
        Ok(())
    }

    pub(crate) fn finish(mut self) -> Digest {
        self.hasher.update(&self.gathered);
        *self.hasher.finalize().as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_do_not_overlap() {
        for segment_bytes in [64 << 10, (64 << 10) + 512, 4 << 20, (4 << 20) + 4096, 64 << 20] {
            let layout = Layout::of(segment_bytes);
            let [(header, table), (header_again, table_again)] = layout.copies();
            let mut next = to_u64(HEADER_BYTES);
            assert_eq!((header, table), (0, next));
            next += to_u64(layout.table_bytes());
            for slab in 0..layout.slabs() {
                for unit in 0..layout.parity_units(slab) {
                    assert_eq!(layout.parity_offset(slab, unit), next);
                    next += to_u64(UNIT_BYTES);
                }
            }
            assert_eq!(table_again, next);
            assert_eq!(header_again, next + to_u64(layout.table_bytes()));
            assert_eq!(layout.file_bytes(), header_again + to_u64(HEADER_BYTES));
        }
        let overhead = Layout::of(64 << 20).file_bytes();
        assert!(overhead < (64 << 20) / 29, "{overhead} bytes for 64 MiB");
    }

    #[test]
    fn header_and_table_round_trip() {
        let mut checksums = UnitChecksums::new(Layout::of(5 << 20));
        checksums.set_data(1, 7, b"data");
        checksums.set_parity(1, 1, b"parity");
        let mut table = vec![1; Layout::of(5 << 20).table_bytes()];
        let header = ParityHeader {
            log_id: 1,
            segment: 2,
            base_lsn: Lsn::new(3),
            end_lsn: Lsn::new(4),
            segment_bytes: 5 << 20,
            digest: [6; 32],
            table_checksum: checksums.encode(&mut table),
        };
        let read = UnitChecksums::decode(&header, &table).unwrap();
        assert_eq!(read, checksums);
        assert!(read.data_is_whole(1, 7, b"data") && !read.data_is_whole(1, 7, b"date"));
        assert!(read.parity_is_whole(1, 1, b"parity") && !read.parity_is_whole(1, 0, b"parity"));
        table[9] ^= 1;
        assert_eq!(UnitChecksums::decode(&header, &table), Err(Fault::Checksum));
        let mut block = vec![0; HEADER_BYTES];
        header.encode(&mut block);
        assert_eq!(ParityHeader::decode(&block), Ok(header));
        for bit in 0..block.len() * 8 {
            block[bit / 8] ^= 1 << (bit % 8);
            assert!(ParityHeader::decode(&block).is_err(), "bit {bit} was not seen");
            block[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn names() {
        assert_eq!(parse_file_name(&file_name(42)), Some(42));
        for name in ["42.parity", "00000000000000000000.parity", "x", ""] {
            assert_eq!(parse_file_name(name), None, "{name}");
        }
    }

    /// One structure for another, each with its own CRC, is seen.
    #[test]
    fn a_unit_with_another_header_is_another_unit() {
        let mut unit = vec![7; UNIT_BYTES];
        let seal = |unit: &mut [u8], field: u8| {
            unit[512] = field;
            let own = checksum(&unit[512..636]);
            unit[636..640].copy_from_slice(&own.to_le_bytes());
            (checksum(unit), unit_checksum(unit))
        };
        let (one, other) = (seal(&mut unit, 1), seal(&mut unit, 2));
        assert_eq!(one.0, other.0, "a CRC does not tell them apart");
        assert_ne!(one.1, other.1);
    }
}
