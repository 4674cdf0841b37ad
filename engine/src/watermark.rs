//! The watermark on disk: two blocks that are written in turn.
//!
//! Owns the file `watermark`. It is evidence only: nothing waits for it, and losing it, or one block of
//! it, loses evidence and nothing else. Layout: FORMAT.md, section 6.
//!
//! Crash: the block that was being written may be torn; the other one is whole.

use std::io;
use std::sync::Arc;

use crate::disk::{Access, Aligned, Disk, DiskFile};
use crate::format::watermark::{BLOCK_BYTES, Watermark};

/// The name of the file.
pub(crate) const FILE_NAME: &str = "watermark";
const TEMPORARY_NAME: &str = "watermark.tmp";

/// See the module.
#[derive(Debug)]
pub(crate) struct WatermarkStore {
    file: Arc<dyn DiskFile>,
    sequence: u64,
}

impl WatermarkStore {
    /// Opens the file, or makes it when it is missing or too short.
    pub(crate) fn open(disk: &dyn Disk) -> io::Result<WatermarkStore> {
        let bytes = 2 * BLOCK_BYTES as u64;
        let file = match disk.open(FILE_NAME, Access::Write) {
            Ok(file) if file.len()? >= bytes => file,
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {
                match disk.remove(TEMPORARY_NAME) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
                let file = disk.create(TEMPORARY_NAME, bytes)?;
                file.write_at(&Aligned::zeroed(2 * BLOCK_BYTES), 0)?;
                file.sync()?;
                disk.rename(TEMPORARY_NAME, FILE_NAME)?;
                disk.sync_directory()?;
                file
            }
        };
        let sequence = newest(&*file)?.map_or(0, |watermark| watermark.sequence);
        Ok(WatermarkStore { file, sequence })
    }

    /// Reads the newest valid block; `None` when there is none, or no file.
    pub(crate) fn read(disk: &dyn Disk) -> io::Result<Option<Watermark>> {
        match disk.open(FILE_NAME, Access::Read) {
            Ok(file) => newest(&*file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes the next block; durable only when `durable`, or with a later sync of the device.
    pub(crate) fn write(&mut self, mut watermark: Watermark, durable: bool) -> io::Result<()> {
        self.sequence += 1;
        watermark.sequence = self.sequence;
        let mut block = Aligned::zeroed(BLOCK_BYTES);
        watermark.encode(&mut block);
        let offset = self.sequence % 2 * BLOCK_BYTES as u64;
        if durable {
            self.file.write_durable_at(&block, offset)
        } else {
            self.file.write_at(&block, offset)
        }
    }
}

/// The newest valid block that the medium gives; an error when it gives neither.
fn newest(file: &dyn DiskFile) -> io::Result<Option<Watermark>> {
    let read = |number: u64| -> io::Result<Option<Watermark>> {
        let mut block = Aligned::zeroed(BLOCK_BYTES);
        let filled = file.read_direct_at(&mut block, number * BLOCK_BYTES as u64)?;
        Ok(Watermark::decode(&block[..filled]).ok())
    };
    let blocks = match [read(0), read(1)] {
        [Err(error), Err(_)] => return Err(error),
        blocks => blocks,
    };
    let valid = blocks.into_iter().filter_map(|block| block.ok().flatten());
    Ok(valid.max_by_key(|watermark| watermark.sequence))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::SimDisk;
    use crate::{Epoch, Lsn};

    fn at(durable: u64) -> Watermark {
        let lsn = Lsn::new(durable);
        let epoch = Epoch::new(1);
        Watermark { sequence: 0, log_id: 1, epoch, durable_lsn: lsn, commit_lsn: lsn, checksum: 0 }
    }

    #[test]
    fn one_damaged_block_leaves_the_other() {
        let disk = SimDisk::new(1);
        let mut store = WatermarkStore::open(&disk).unwrap();
        assert_eq!(WatermarkStore::read(&disk).unwrap(), None);
        for durable in 1..=3 {
            store.write(at(durable), true).unwrap();
        }
        let newest = WatermarkStore::read(&disk).unwrap().unwrap();
        assert_eq!((newest.durable_lsn, newest.sequence), (Lsn::new(3), 3));
        disk.flip_bit(FILE_NAME, 8 * (4096 + 50));
        assert_eq!(WatermarkStore::read(&disk).unwrap().unwrap().durable_lsn, Lsn::new(2));
        drop(store);
        WatermarkStore::open(&disk).unwrap().write(at(9), true).unwrap();
        assert_eq!(WatermarkStore::read(&disk).unwrap().unwrap().durable_lsn, Lsn::new(9));
    }
}
