//! Reading batches of a segment one after the other.
//!
//! Owns a buffer that slides over a file, and the loop that follows a [`Chain`] through it. Reads past
//! the page cache when asked to, because recovery and verify must see the medium. Changes nothing.
//!
//! Bounds: [`WINDOW_BYTES`] of memory, or one batch if that is larger; a length is trusted only after
//! its header was accepted.

use std::io;
use std::sync::Arc;

use crate::disk::{ALIGNMENT, Aligned, DiskFile};
use crate::error::is_of_the_file;
use crate::format::batch::BatchHeader;
use crate::format::bytes::{round_up, to_u64, to_usize};
use crate::format::version::Fault;
use crate::wal::scan::Chain;

/// Bytes that are read at once.
const WINDOW_BYTES: usize = 1 << 20;
const WINDOW_MAX: u64 = WINDOW_BYTES as u64;
/// The least that any medium reads.
const SECTOR_BYTES: usize = 512;

/// A sliding view of a file.
#[derive(Debug)]
pub(crate) struct Window {
    file: Arc<dyn DiskFile>,
    direct: bool,
    buffer: Aligned,
    start: u64,
    filled: usize,
    /// Up to here nothing is read ahead: something before it cannot be read.
    careful_to: u64,
}

/// Why a scan stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ScanEnd {
    /// The segment has no room for another batch.
    Full,
    /// What stands there does not continue the log.
    Fault(Fault),
}

fn read(file: &dyn DiskFile, direct: bool, bytes: &mut Aligned, offset: u64) -> io::Result<usize> {
    if direct { file.read_direct_at(bytes, offset) } else { file.read_at(bytes, offset) }
}

impl Window {
    /// A view of `file`; `direct` reads the medium, past the page cache.
    pub(crate) fn new(file: Arc<dyn DiskFile>, direct: bool) -> Window {
        // A small file needs no large buffer; whether its length can be had shows when it is read.
        let file_bytes = file.len().map_or(WINDOW_BYTES, |bytes| to_usize(bytes.min(WINDOW_MAX)));
        let bytes = round_up(file_bytes.max(1), ALIGNMENT);
        Window { file, direct, buffer: Aligned::zeroed(bytes), start: 0, filled: 0, careful_to: 0 }
    }

    /// The bytes from `offset`, which is at a block boundary; fewer only at the end of the file.
    pub(crate) fn get(&mut self, offset: u64, bytes: usize) -> io::Result<&[u8]> {
        let end = offset + to_u64(bytes);
        if offset < self.start || end > self.start + to_u64(self.filled) {
            self.fill(offset, bytes)?;
        }
        let from = to_usize(offset - self.start);
        Ok(&self.buffer[from..self.filled.min(from + bytes)])
    }

    /// Reads what is asked for, and ahead. What cannot be read further on is not what was asked for: it
    /// is found, or not, by whoever comes to it.
    fn fill(&mut self, offset: u64, bytes: usize) -> io::Result<()> {
        if bytes > self.buffer.len() {
            self.buffer = Aligned::zeroed(bytes.next_multiple_of(WINDOW_BYTES));
        }
        self.filled = 0;
        self.start = offset;
        if offset >= self.careful_to {
            match read(&*self.file, self.direct, &mut self.buffer, offset) {
                Err(error) if is_of_the_file(&error) => {
                    self.careful_to = offset + to_u64(self.buffer.len());
                }
                other => {
                    self.filled = other?;
                    return Ok(());
                }
            }
        }
        let mut exact = Aligned::zeroed(bytes.next_multiple_of(SECTOR_BYTES));
        let filled = read(&*self.file, self.direct, &mut exact, offset)?;
        self.buffer[..filled].copy_from_slice(&exact[..filled]);
        self.filled = filled;
        Ok(())
    }

    /// Forgets what was read, so that the next read sees newer bytes.
    pub(crate) fn invalidate(&mut self) {
        self.filled = 0;
    }

    /// The batch that the chain expects next, whole and accepted.
    pub(crate) fn next_batch(
        &mut self,
        chain: &Chain,
    ) -> io::Result<Result<(BatchHeader, &[u8]), ScanEnd>> {
        if chain.offset + u64::from(chain.block_bytes) > chain.data_end {
            return Ok(Err(ScanEnd::Full));
        }
        let block_bytes = to_usize(u64::from(chain.block_bytes));
        let header = match chain.accept_header(self.get(chain.offset, block_bytes)?) {
            Ok(header) => header,
            Err(fault) => return Ok(Err(ScanEnd::Fault(fault))),
        };
        let bytes = self.get(chain.offset, to_usize(u64::from(header.length)))?;
        if header.body_is_whole(bytes) {
            Ok(Ok((header, bytes)))
        } else {
            Ok(Err(ScanEnd::Fault(Fault::Body)))
        }
    }

    /// Follows the chain as far as it goes, showing every batch to `see`.
    pub(crate) fn scan(
        &mut self,
        chain: &mut Chain,
        mut see: impl FnMut(&BatchHeader, &[u8]),
    ) -> io::Result<ScanEnd> {
        loop {
            match self.next_batch(chain)? {
                Ok((header, bytes)) => {
                    see(&header, bytes);
                    chain.advance(&header);
                }
                Err(end) => return Ok(end),
            }
        }
    }
}
