//! The parity units of a slab, computed while its data units come in one after the other.
//!
//! Owns the order of the code's transforms. The encoder of `reed-solomon-simd` does the same over all
//! units of a slab at once, which it keeps: 4 MiB. A chunk, as many units as there are parity units,
//! adds to the parity on its own, so that one chunk and the sum are enough.
//!
//! Invariants
//!  N1. The parity is that of the crate's own encoder.          test `parity_is_that_of_the_crate`
//!
//! Bounds: two chunks of memory, 256 KiB for a full slab.

use reed_solomon_simd::engine::utils::xor_within;
use reed_solomon_simd::engine::{Engine as _, Naive, ShardsRefMut};

use crate::format::parity::UNIT_BYTES;

/// What the transforms take as a whole: 64 bytes of a unit.
type Cell = [u8; 64];
const UNIT_CELLS: usize = UNIT_BYTES / size_of::<Cell>();

/// See the module.
pub(super) struct SlabEncoder {
    /// The faster ones need tables of 8 MiB. This one does 480 MB/s, and the scrub reads at 64 MiB/s.
    engine: Naive,
    data_units: usize,
    parity_units: usize,
    chunk_units: usize,
    added_units: usize,
    /// The sum of the chunks so far, and the chunk that comes in.
    cells: Vec<Cell>,
}

impl SlabEncoder {
    pub(super) fn new(data_units: usize, parity_units: usize) -> SlabEncoder {
        // With fewer data units than parity units, which is one, the code is another: copies of it.
        let is_single = data_units == 1;
        let chunk_units = if is_single { 1 } else { parity_units.next_power_of_two() };
        let cells = vec![[0; 64]; 2 * chunk_units * UNIT_CELLS];
        let engine = Naive::new();
        SlabEncoder { engine, data_units, parity_units, chunk_units, added_units: 0, cells }
    }

    pub(super) fn added_units(&self) -> usize {
        self.added_units
    }

    /// Takes in the next unit.
    pub(super) fn add(&mut self, unit: &[u8]) {
        assert!(self.added_units < self.data_units, "the slab is full");
        let place = self.chunk_units + self.added_units % self.chunk_units;
        let cells = &mut self.cells[place * UNIT_CELLS..][..UNIT_CELLS];
        cells.as_flattened_mut().copy_from_slice(unit);
        self.added_units += 1;
        if self.added_units.is_multiple_of(self.chunk_units) || self.added_units == self.data_units
        {
            self.add_chunk();
        }
    }

    fn add_chunk(&mut self) {
        let chunk_units = self.chunk_units;
        let start = (self.added_units - 1) / chunk_units * chunk_units;
        let filled = self.added_units - start;
        // Of the last chunk the rest counts as zeros.
        self.cells[(chunk_units + filled) * UNIT_CELLS..].fill([0; 64]);
        let mut cells = ShardsRefMut::new(2 * chunk_units, UNIT_CELLS, &mut self.cells);
        self.engine.ifft(&mut cells, chunk_units, chunk_units, filled, start + chunk_units);
        xor_within(&mut cells, 0, chunk_units, chunk_units);
    }

    /// The parity units, when all data units were added.
    pub(super) fn finish(&mut self) -> impl Iterator<Item = &[u8]> {
        assert_eq!(self.added_units, self.data_units, "slabs come whole");
        let (chunk_units, parity_units) = (self.chunk_units, self.parity_units);
        let mut cells = ShardsRefMut::new(2 * chunk_units, UNIT_CELLS, &mut self.cells);
        self.engine.fft(&mut cells, 0, chunk_units, parity_units.min(chunk_units), 0);
        let units = self.cells.chunks_exact(UNIT_CELLS).take(chunk_units);
        units.cycle().take(parity_units).map(|cells| cells.as_flattened())
    }
}

#[cfg(test)]
mod tests {
    use reed_solomon_simd::ReedSolomonEncoder;

    use super::*;
    use crate::format::bytes::to_u64;
    use crate::format::parity::{Layout, SLAB_UNITS};

    fn parity_by_the_crate(units: &[Vec<u8>], parity_units: usize) -> Vec<u8> {
        let mut encoder = ReedSolomonEncoder::new(units.len(), parity_units, UNIT_BYTES).unwrap();
        for unit in units {
            encoder.add_original_shard(unit).unwrap();
        }
        encoder.encode().unwrap().recovery_iter().flatten().copied().collect()
    }

    #[test]
    fn parity_is_that_of_the_crate() {
        let random = |unit: usize| {
            let mut bytes = vec![0; UNIT_BYTES];
            blake3::Hasher::new().update(&unit.to_le_bytes()).finalize_xof().fill(&mut bytes);
            bytes
        };
        let units: Vec<Vec<u8>> = (0..SLAB_UNITS).map(random).collect();
        // Every number of parity units, with chunks that are full, begun, and full but for one unit.
        let near = |count: &usize| matches!(count % 32, 0 | 1 | 2 | 31) || *count < 100;
        for count in (1..=SLAB_UNITS).filter(near) {
            let parity_units = Layout::of(to_u64(count * UNIT_BYTES)).parity_units(0);
            let mut encoder = SlabEncoder::new(count, parity_units);
            for unit in &units[..count] {
                encoder.add(unit);
            }
            let expected = parity_by_the_crate(&units[..count], parity_units);
            let parity: Vec<u8> = encoder.finish().flatten().copied().collect();
            assert!(parity == expected, "{count} units");
        }
    }
}
