//! Putting the batches of a segment together from bytes that come in pieces of any length.
//!
//! Owns the check that a segment is whole, and its digest, in one pass over bytes that somebody else
//! reads for another purpose too. Reads nothing itself.
//!
//! Bounds: one batch, or one piece if that is longer.

use crate::Lsn;
use crate::error::Corruption;
use crate::format::batch::HEADER_BYTES;
use crate::format::bytes::{to_u64, to_usize};
use crate::format::parity::DigestWriter;
use crate::format::superblock::Cut;
use crate::format::table::Digest;
use crate::format::version::Fault;
use crate::segments::{Extent, Segment};
use crate::wal::scan::Chain;

/// See the module.
pub(crate) struct Assembler {
    chain: Chain,
    /// What the segment is known to hold.
    expected: Extent,
    digest: DigestWriter,
    /// Bytes from the chain's offset on.
    pending: Vec<u8>,
    /// Bytes to pass over before the first batch.
    skip: usize,
    fault: Option<Fault>,
}

impl Assembler {
    /// For a sealed segment, from its first byte on.
    pub(crate) fn new(segment: &Segment) -> Assembler {
        Assembler {
            chain: Chain::at_segment(&segment.header, Cut::default()),
            expected: segment.extent(),
            digest: DigestWriter::new(),
            pending: Vec::new(),
            skip: to_usize(u64::from(segment.header.block_bytes)),
            fault: None,
        }
    }

    /// Where the next batch starts.
    pub(crate) fn offset(&self) -> u64 {
        self.chain.offset
    }

    /// LSN of its first record.
    pub(crate) fn lsn(&self) -> Lsn {
        self.chain.lsn
    }

    fn is_complete(&self) -> bool {
        self.fault.is_some() || self.chain.offset >= self.expected.end_offset
    }

    /// Takes in the next bytes of the segment.
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        let skipped = self.skip.min(bytes.len());
        self.skip -= skipped;
        if self.is_complete() {
            return;
        }
        self.pending.extend_from_slice(&bytes[skipped..]);
        let mut used = 0;
        while !self.is_complete() {
            let rest = &self.pending[used..];
            if rest.len() < HEADER_BYTES {
                break;
            }
            let header = match self.chain.accept_header(rest) {
                Ok(header) => header,
                Err(fault) => {
                    self.fault = Some(fault);
                    break;
                }
            };
            let length = to_usize(u64::from(header.length));
            let Some(batch) = rest.get(..length) else { break };
            let added = match header.body_is_whole(batch) {
                true => self.digest.add(&header, batch),
                false => Err(Fault::Body),
            };
            if let Err(fault) = added {
                self.fault = Some(fault);
                break;
            }
            self.chain.advance(&header);
            used += length;
        }
        self.pending.drain(..used);
    }

    /// The digest, when every batch was whole and they are those that the segment is known to hold.
    pub(crate) fn finish(self) -> Result<Digest, Corruption> {
        let expected = &self.expected;
        let is_all = self.chain.offset == expected.end_offset
            && self.chain.lsn == expected.end_lsn
            && (expected.batch_count == 0 || self.chain.checksum == Some(expected.checksum));
        let fault = match self.fault {
            None if is_all => return Ok(self.digest.finish()),
            None if to_u64(self.pending.len()) == 0 => Fault::Short,
            None => Fault::Chain,
            Some(fault) => fault,
        };
        let Chain { segment, offset, lsn, .. } = self.chain;
        Err(Corruption { segment, offset, lsn, fault })
    }
}
