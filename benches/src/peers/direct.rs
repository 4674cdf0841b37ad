//! The plain loop that a single writer is held to: the device, and nothing above it.
//!
//! Owns a file written through beforehand, over which one thread writes aligned blocks, from the
//! start again at the end. It has no framing, no checksum and no recovery, and is not meant to be a
//! log.
//!
//! Durability: `pwritev2` with `O_DIRECT` and `RWF_DSYNC`. When it returns, the record is on the
//! medium: the kernel wrote with FUA or sent a FLUSH after the write. The blocks were allocated and
//! written before, so no metadata changes that a sync would have to wait for.
//!
//! Threads: one writer; a second one is refused.

use std::io::IoSlice;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags, fsync, open};
use rustix::io::{ReadWriteFlags, pwritev2};

use crate::Result;
use crate::aligned::AlignedBuffer;
use crate::load::record_of;
use crate::target::{Target, Writer};
use crate::workload::RECYCLE_BYTES;

const FILL_BYTES: usize = 1 << 20;

/// The file.
#[derive(Debug)]
pub struct Direct {
    file: OwnedFd,
}

impl Direct {
    /// Creates the file in `dir` and writes all of it once.
    pub fn open(dir: &Path) -> Result<Self> {
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::DIRECT | OFlags::CLOEXEC;
        let file = open(dir.join("direct"), flags, Mode::RUSR | Mode::WUSR)
            .map_err(|error| format!("no file with O_DIRECT in {}: {error}", dir.display()))?;
        let mut fill = AlignedBuffer::new(FILL_BYTES);
        fill.copy_from_slice(&record_of(FILL_BYTES));
        for offset in (0..RECYCLE_BYTES).step_by(FILL_BYTES) {
            write_all(&file, &fill, offset, ReadWriteFlags::empty())?;
        }
        fsync(&file)?;
        Ok(Self { file })
    }
}

fn write_all(file: &OwnedFd, bytes: &[u8], offset: u64, flags: ReadWriteFlags) -> Result<()> {
    let written = pwritev2(file, &[IoSlice::new(bytes)], offset, flags)?;
    if written == bytes.len() { Ok(()) } else { Err("short write".into()) }
}

impl Target for Direct {
    fn durable(&self, writer_index: usize) -> Result<Box<dyn Writer + '_>> {
        if writer_index > 0 {
            return Err("the plain loop is one thread".into());
        }
        Ok(Box::new(DirectWriter { file: &self.file, block: AlignedBuffer::new(1), offset: 0 }))
    }
}

struct DirectWriter<'a> {
    file: &'a OwnedFd,
    block: AlignedBuffer,
    offset: u64,
}

impl Writer for DirectWriter<'_> {
    fn append(&mut self, record: &[u8]) -> Result<()> {
        if self.block.len() < record.len() {
            self.block = AlignedBuffer::new(record.len());
        }
        self.block[..record.len()].copy_from_slice(record);
        let length_bytes = u64::try_from(self.block.len())?;
        if self.offset + length_bytes > RECYCLE_BYTES {
            self.offset = 0;
        }
        write_all(self.file, &self.block, self.offset, ReadWriteFlags::DSYNC)?;
        self.offset += length_bytes;
        Ok(())
    }
}
