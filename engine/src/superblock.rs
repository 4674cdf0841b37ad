//! The superblock on disk: two copies, one after the other.
//!
//! Owns the file `superblock` and the order of its writes. Every change writes copy 0, syncs, writes
//! copy 1, syncs, and is answered only after both; at open the newer valid copy wins, and the
//! other is rewritten before the first change. Does not know what the fields mean.
//!
//! Invariants
//!  P1. At every moment at least one copy on the medium is whole.     test `a_torn_copy_is_survived`
//!  P2. A failed write or sync leaves the store poisoned: it is not written again.
//!
//! Crash: the old or the new content, whole.

use std::io;
use std::sync::Arc;

use crate::disk::{Access, Aligned, Disk, DiskFile};
use crate::error::{IoFailure, OpenError};
use crate::format::superblock::{COPY_BYTES, Superblock};
use crate::format::version::Fault;

/// The name of the file.
pub(crate) const FILE_NAME: &str = "superblock";
const TEMPORARY_NAME: &str = "superblock.tmp";

/// See the module.
#[derive(Debug)]
pub(crate) struct SuperblockStore {
    file: Arc<dyn DiskFile>,
    current: Superblock,
}

impl SuperblockStore {
    /// Makes the file, durably: it has its name only when it is whole.
    pub(crate) fn create(disk: &dyn Disk, first: Superblock) -> Result<SuperblockStore, OpenError> {
        let create = || -> io::Result<Arc<dyn DiskFile>> {
            match disk.remove(TEMPORARY_NAME) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let file = disk.create(TEMPORARY_NAME, 2 * COPY_BYTES as u64)?;
            let mut copy = Aligned::zeroed(COPY_BYTES);
            first.encode(&mut copy);
            file.write_at(&copy, 0)?;
            file.write_at(&copy, COPY_BYTES as u64)?;
            file.sync()?;
            disk.rename(TEMPORARY_NAME, FILE_NAME)?;
            disk.sync_directory()?;
            Ok(file)
        };
        let file = create().map_err(|error| IoFailure::new("create", FILE_NAME, error))?;
        Ok(SuperblockStore { file, current: first })
    }

    /// Opens the file. Nothing is changed yet: see [`SuperblockStore::mend`].
    pub(crate) fn open(disk: &dyn Disk) -> Result<SuperblockStore, OpenError> {
        let failed = |error| IoFailure::new("open", FILE_NAME, error);
        let file = disk.open(FILE_NAME, Access::Write).map_err(failed)?;
        let copies = read_copies(&*file).map_err(failed)?;
        let current = newest(&copies)?;
        Ok(SuperblockStore { file, current })
    }

    /// Rewrites the copy that is damaged or older; comes before every change.
    pub(crate) fn mend(&self) -> Result<(), IoFailure> {
        let failed = |error| IoFailure::new("mend", FILE_NAME, error);
        let copies = read_copies(&*self.file).map_err(failed)?;
        for (number, copy) in copies.iter().enumerate() {
            if copy.as_ref() != Ok(&self.current) {
                self.write_copy(number as u64).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Reads the newest valid copy without changing anything.
    pub(crate) fn read(disk: &dyn Disk) -> Result<Superblock, OpenError> {
        let failed = |error| IoFailure::new("open", FILE_NAME, error);
        let file = disk.open(FILE_NAME, Access::Read).map_err(failed)?;
        newest(&read_copies(&*file).map_err(failed)?)
    }

    pub(crate) fn current(&self) -> &Superblock {
        &self.current
    }

    /// Makes a change durable in both copies.
    ///
    /// # Errors
    /// The first failed write. The change may or may not be on the medium; the store must not be used
    /// any more.
    pub(crate) fn change(&mut self, change: impl FnOnce(&mut Superblock)) -> Result<(), IoFailure> {
        let mut next = self.current.clone();
        change(&mut next);
        next.sequence += 1;
        assert!(next.promised_epoch >= self.current.promised_epoch, "a promise never goes back");
        assert!(next.first_lsn >= self.current.first_lsn, "the trim point never goes back");
        self.current = next;
        let written = self.write_copy(0).and_then(|()| self.write_copy(1));
        written.map_err(|error| IoFailure::new("write", FILE_NAME, error))
    }

    fn write_copy(&self, number: u64) -> io::Result<()> {
        let mut copy = Aligned::zeroed(COPY_BYTES);
        self.current.encode(&mut copy);
        self.file.write_durable_at(&copy, number * COPY_BYTES as u64)
    }
}

/// Both copies, each whole or with its fault.
pub(crate) type Copies = [Result<Superblock, Fault>; 2];

/// Reads both copies from the medium. A copy that it does not give is as good as a damaged one.
///
/// # Errors
/// When it gives neither: what is there is then not known.
pub(crate) fn read_copies(file: &dyn DiskFile) -> io::Result<Copies> {
    let read = |number: u64| -> io::Result<Result<Superblock, Fault>> {
        let mut copy = Aligned::zeroed(COPY_BYTES);
        let filled = file.read_direct_at(&mut copy, number * COPY_BYTES as u64)?;
        Ok(Superblock::decode(&copy[..filled]))
    };
    match (read(0), read(1)) {
        (Err(error), Err(_)) => Err(error),
        (one, other) => Ok([one, other].map(|copy| copy.unwrap_or(Err(Fault::Unreadable)))),
    }
}

fn newest(copies: &Copies) -> Result<Superblock, OpenError> {
    let version = copies.iter().find_map(|copy| match copy {
        Err(Fault::Version(version)) => Some(*version),
        _ => None,
    });
    if let Some(version) = version {
        return Err(OpenError::Version { file: FILE_NAME.to_owned(), version });
    }
    let valid = copies.iter().flatten().max_by_key(|copy| copy.sequence);
    match (valid, &copies[0]) {
        (Some(newest), _) => Ok(newest.clone()),
        (None, Err(fault)) => {
            Err(OpenError::Superblock { file: FILE_NAME.to_owned(), fault: *fault })
        }
        (None, Ok(_)) => unreachable!("a valid copy is the newest or older than one"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::SimDisk;
    use crate::format::superblock::{Cut, LeaderId, Restore, Truncations};
    use crate::{Epoch, Lsn};

    fn first() -> Superblock {
        Superblock {
            sequence: 1,
            log_id: 1,
            lineage_id: 2,
            incarnation: 3,
            start_counter: 0,
            promised_epoch: Epoch::NONE,
            promised_to: LeaderId::default(),
            block_bytes: 4096,
            inflight_bytes_max: 1,
            first_lsn: Lsn::FIRST,
            first_segment: 1,
            cut: Cut::default(),
            restore: Restore::default(),
            truncations: Truncations::default(),
            first_epoch: None,
            age_horizon_ms: 0,
            cell: Vec::new(),
        }
    }

    /// C5.
    #[test]
    fn a_torn_copy_is_survived() {
        let prepared = SimDisk::new(3);
        drop(SuperblockStore::create(&prepared, first()).unwrap());
        let operations = prepared.operations();
        for cut in 1..12 {
            for seed in 0..8 {
                let disk = SimDisk::new(3);
                let mut store = SuperblockStore::create(&disk, first()).unwrap();
                disk.cut_at(operations + cut);
                let changed = store.change(|s| s.start_counter = 7);
                disk.restart(seed);
                let store = SuperblockStore::open(&disk).unwrap();
                store.mend().unwrap();
                let counter = store.current().start_counter;
                assert!(counter == 7 || changed.is_err(), "an answered change is there");
                let copies = read_copies(&*disk.open(FILE_NAME, Access::Read).unwrap()).unwrap();
                assert_eq!(copies[0], copies[1], "the other copy was rewritten");
            }
        }
    }

    #[test]
    fn two_damaged_copies_are_a_safe_halt() {
        let disk = SimDisk::new(3);
        drop(SuperblockStore::create(&disk, first()).unwrap());
        disk.flip_bit(FILE_NAME, 8 * 100);
        SuperblockStore::open(&disk).unwrap().mend().unwrap();
        disk.flip_bit(FILE_NAME, 8 * 100);
        disk.flip_bit(FILE_NAME, 8 * 4196);
        let error = SuperblockStore::open(&disk).unwrap_err();
        assert!(matches!(error, OpenError::Superblock { .. }), "{error}");
    }
}
