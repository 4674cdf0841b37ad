//! Reading what there is to read of a file on a medium that is going bad.
//!
//! Owns [`PatientFile`]. Does not say which bytes were there: whoever needs to know looks at checksums.

use std::any::Any;
use std::io;
use std::sync::Arc;

use crate::disk::{Aligned, DiskFile, Mapping};
use crate::format::bytes::{to_u64, to_usize};

/// Reads what can be read: a block that the medium does not give reads as zeros, which are valid nowhere.
#[derive(Debug)]
pub(crate) struct PatientFile {
    file: Arc<dyn DiskFile>,
    block_bytes: usize,
}

impl PatientFile {
    pub(crate) fn new(file: Arc<dyn DiskFile>, block_bytes: usize) -> PatientFile {
        PatientFile { file, block_bytes }
    }
}

impl DiskFile for PatientFile {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(bytes, offset)
    }

    fn read_direct_at(&self, bytes: &mut Aligned, offset: u64) -> io::Result<usize> {
        if let Ok(filled) = self.file.read_direct_at(bytes, offset) {
            return Ok(filled);
        }
        let end = self.file.len()?.min(offset + to_u64(bytes.len()));
        let mut block = Aligned::zeroed(self.block_bytes);
        bytes.fill(0);
        for start in (0..bytes.len()).step_by(self.block_bytes) {
            let place = &mut bytes[start..][..self.block_bytes];
            if self.file.read_direct_at(&mut block, offset + to_u64(start)).is_ok() {
                place.copy_from_slice(&block);
            }
        }
        Ok(to_usize(end.saturating_sub(offset)))
    }

    fn write_durable_at(&self, _bytes: &[u8], _offset: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn write_at(&self, _bytes: &[u8], _offset: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn map(&self) -> io::Result<Mapping> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn lock_shared(&self) -> io::Result<()> {
        self.file.lock_shared()
    }

    fn try_lock_exclusive(&self) -> io::Result<bool> {
        Ok(false)
    }

    fn unlock(&self) -> io::Result<()> {
        self.file.unlock()
    }
}
