//! Forks: what a truncation gave up, kept beside the log.
//!
//! Owns the bytes of the header block and the names of the files. Behind the header stand the batches
//! themselves, as they stood in the segments, one behind the other; each carries its own place. Layout:
//! FORMAT.md, section 13. Reads and writes no files.

use super::bytes::{Encoder, open_block, parse_number, seal_block};
use super::limits::{COUNT_MAX, block_bytes_are_possible};
use super::version::{Fault, MAGIC_FORK, VERSION};
use crate::{Epoch, Lsn};

/// Bytes of the header; the batches begin behind it.
pub const HEADER_BYTES: usize = 4096;
const CHECKSUM_AT: usize = HEADER_BYTES - 4;
const SUFFIX: &str = ".fork";

/// The file name of a fork: the first LSN given up, and the newest epoch that the cut made void.
#[must_use]
pub fn file_name(lsn: Lsn, epoch: Epoch) -> String {
    format!("{:020}-{:020}{SUFFIX}", lsn.get(), epoch.get())
}

/// The fork that a file name stands for; `None` for any other name.
#[must_use]
pub fn parse_file_name(name: &str) -> Option<(Lsn, Epoch)> {
    let (lsn, rest) = name.split_once('-')?;
    let lsn = parse_number(lsn, "").filter(|lsn| *lsn < COUNT_MAX)?;
    let epoch = parse_number(rest, SUFFIX).filter(|epoch| *epoch < COUNT_MAX)?;
    Some((Lsn::new(lsn), Epoch::new(epoch)))
}

/// The header of a fork.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForkHeader {
    /// The log it was part of.
    pub log_id: u128,
    /// The line of succession it was part of.
    pub lineage_id: u128,
    /// The directory it was written in.
    pub incarnation: u128,
    /// The first LSN given up. Records below it, in the first batch, were kept.
    pub lsn: Lsn,
    /// The LSN behind the last record given up.
    pub end_lsn: Lsn,
    /// The newest epoch that the cut made void.
    pub epoch: Epoch,
    /// The segment in which its first batch stood.
    pub segment: u64,
    /// The offset at which it stood there.
    pub offset: u64,
    /// Wall clock when it was written, milliseconds since 1970.
    pub time_ms: u64,
    /// Bytes of batches behind the header.
    pub content_bytes: u64,
    /// CRC-32 of those bytes.
    pub content_checksum: u32,
    /// Block size of the log.
    pub block_bytes: u32,
}

impl ForkHeader {
    /// Writes the header block.
    pub(crate) fn encode(&self, block: &mut [u8]) {
        assert_eq!(block.len(), HEADER_BYTES);
        block.fill(0);
        let mut e = Encoder::new(block);
        e.u32(MAGIC_FORK);
        e.u16(VERSION);
        e.u16(0);
        e.u128(self.log_id);
        e.u128(self.lineage_id);
        e.u128(self.incarnation);
        for number in [
            self.lsn.get(),
            self.end_lsn.get(),
            self.epoch.get(),
            self.segment,
            self.offset,
            self.time_ms,
            self.content_bytes,
        ] {
            e.u64(number);
        }
        e.u32(self.content_checksum);
        e.u32(self.block_bytes);
        seal_block(block, CHECKSUM_AT);
    }

    /// Reads the header block.
    ///
    /// # Errors
    /// The [`Fault`] that makes it no header.
    pub fn decode(block: &[u8]) -> Result<ForkHeader, Fault> {
        let mut d = open_block(block, HEADER_BYTES, MAGIC_FORK)?;
        d.u16();
        let header = ForkHeader {
            log_id: d.u128(),
            lineage_id: d.u128(),
            incarnation: d.u128(),
            lsn: Lsn::new(d.u64()),
            end_lsn: Lsn::new(d.u64()),
            epoch: Epoch::new(d.u64()),
            segment: d.u64(),
            offset: d.u64(),
            time_ms: d.u64(),
            content_bytes: d.u64(),
            content_checksum: d.u32(),
            block_bytes: d.u32(),
        };
        let greatest = [
            header.end_lsn.get(),
            header.epoch.get(),
            header.segment,
            header.offset,
            header.content_bytes,
        ];
        let possible = Lsn::FIRST <= header.lsn
            && header.lsn <= header.end_lsn
            && greatest.iter().all(|number| *number < COUNT_MAX / 2)
            && block_bytes_are_possible(header.block_bytes)
            && header.content_bytes.is_multiple_of(u64::from(header.block_bytes));
        if possible { Ok(header) } else { Err(Fault::Field) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_every_flipped_bit() {
        let header = ForkHeader {
            log_id: 1,
            lineage_id: 2,
            incarnation: 3,
            lsn: Lsn::new(7),
            end_lsn: Lsn::new(9),
            epoch: Epoch::new(2),
            segment: 4,
            offset: 8192,
            time_ms: 5,
            content_bytes: 4096,
            content_checksum: 0xabcd,
            block_bytes: 512,
        };
        let mut bytes = vec![0; HEADER_BYTES];
        header.encode(&mut bytes);
        assert_eq!(ForkHeader::decode(&bytes), Ok(header));
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(ForkHeader::decode(&bytes).is_err(), "bit {bit} was not seen");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        assert_eq!(ForkHeader::decode(&bytes[..512]), Err(Fault::Short));
    }

    #[test]
    fn names() {
        let name = file_name(Lsn::new(7), Epoch::new(3));
        assert_eq!(parse_file_name(&name), Some((Lsn::new(7), Epoch::new(3))));
        for name in ["7-3.fork", ".fork", "-.fork", &name[1..], &name.replace('-', "+")] {
            assert_eq!(parse_file_name(name), None, "{name}");
        }
    }
}
