//! The watermark: what this node knew to be durable, written beside the log.
//!
//! Owns the bytes of one block; two alternate in the file `watermark`. A torn or rotten block only
//! loses evidence, so nothing here is ever waited for. Layout: FORMAT.md, section 6.

use super::bytes::{Encoder, open_block, seal_block};
use super::limits::COUNT_MAX;
use super::version::{Fault, MAGIC_WATERMARK, VERSION};
use crate::{Epoch, Lsn};

/// Bytes of one block, and the distance between the two.
pub const BLOCK_BYTES: usize = 4096;
const CHECKSUM_AT: usize = BLOCK_BYTES - 4;

/// One block of the watermark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watermark {
    /// Counts writes; the greater valid block is the newer one.
    pub sequence: u64,
    /// The log it belongs to.
    pub log_id: u128,
    /// The epoch that was writing.
    pub epoch: Epoch,
    /// Everything below it was durable here.
    pub durable_lsn: Lsn,
    /// Everything below it was committed.
    pub commit_lsn: Lsn,
    /// Link of the last durable batch.
    pub checksum: u32,
}

impl Watermark {
    /// Writes the block.
    pub(crate) fn encode(&self, block: &mut [u8]) {
        assert_eq!(block.len(), BLOCK_BYTES);
        block.fill(0);
        let mut e = Encoder::new(block);
        e.u32(MAGIC_WATERMARK);
        e.u16(VERSION);
        e.u16(0);
        e.u64(self.sequence);
        e.u128(self.log_id);
        e.u64(self.epoch.get());
        e.u64(self.durable_lsn.get());
        e.u64(self.commit_lsn.get());
        e.u32(self.checksum);
        seal_block(block, CHECKSUM_AT);
    }

    /// Reads a block.
    ///
    /// # Errors
    /// The [`Fault`] that makes it no evidence.
    pub fn decode(block: &[u8]) -> Result<Watermark, Fault> {
        let mut d = open_block(block, BLOCK_BYTES, MAGIC_WATERMARK)?;
        d.u16();
        let watermark = Watermark {
            sequence: d.u64(),
            log_id: d.u128(),
            epoch: Epoch::new(d.u64()),
            durable_lsn: Lsn::new(d.u64()),
            commit_lsn: Lsn::new(d.u64()),
            checksum: d.u32(),
        };
        let greatest = watermark.sequence.max(watermark.durable_lsn.get());
        if greatest < COUNT_MAX { Ok(watermark) } else { Err(Fault::Field) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_every_flipped_bit() {
        let watermark = Watermark {
            sequence: 2,
            log_id: 1,
            epoch: Epoch::new(3),
            durable_lsn: Lsn::new(11),
            commit_lsn: Lsn::new(10),
            checksum: 0xabcd,
        };
        let mut block = vec![0; BLOCK_BYTES];
        watermark.encode(&mut block);
        assert_eq!(Watermark::decode(&block), Ok(watermark));
        for bit in 0..block.len() * 8 {
            block[bit / 8] ^= 1 << (bit % 8);
            assert!(Watermark::decode(&block).is_err(), "bit {bit} was not seen");
            block[bit / 8] ^= 1 << (bit % 8);
        }
    }
}
