//! Records that a truncation gave up, read from the fork that keeps them.
//!
//! Owns [`ForkReader`]. Changes nothing; how forks come to be is `fork`'s.
//!
//! Invariants
//!  K1. Records come in order, each of a batch that is whole; what is damaged is an error, never left out in
//!      silence.                              test `a_fork_shows_what_was_given_up` in tests/fork
//!
//! Bounds: one batch in memory.

use std::path::Path;
use std::sync::Arc;

use crate::disk::{Access, BackendChoice, Disk, DiskFile, OsDisk};
use crate::error::IoFailure;
use crate::format::batch::{self, BatchHeader, HEADER_BYTES as BATCH_HEADER_BYTES, Kind};
use crate::format::bytes::{to_u64, to_usize};
use crate::format::fork::{ForkHeader, HEADER_BYTES, file_name};
use crate::format::version::Fault;
use crate::names::{Name, classify};
use crate::record::{BatchBytes, Record};
use crate::{Epoch, Lsn};

/// The most bytes of one batch: no longer one is believed.
const BATCH_BYTES_MAX: u64 = 1 << 30;

/// Why a fork cannot be read.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ForkError {
    /// A system call failed, or there is no such fork.
    #[error(transparent)]
    Io(#[from] IoFailure),
    /// The file is damaged. What was read before is whole.
    #[error("{name} is damaged at offset {offset}: {fault}")]
    Damaged {
        /// The file.
        name: String,
        /// Where in it, in bytes.
        offset: u64,
        /// How.
        fault: Fault,
    },
}

/// The records of a fork.
#[derive(Debug)]
pub struct ForkReader {
    name: String,
    file: Arc<dyn DiskFile>,
    header: ForkHeader,
    offset: u64,
    batch: Option<(BatchHeader, Arc<[u8]>, batch::Records)>,
    next_lsn: Lsn,
}

impl ForkReader {
    /// The forks beside the log in a directory, by the first LSN and the epoch in their names, oldest LSN first.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn list(directory: impl AsRef<Path>) -> Result<Vec<(Lsn, Epoch)>, IoFailure> {
        ForkReader::list_on(&open_disk(directory.as_ref())?)
    }

    /// The same on any disk.
    ///
    /// # Errors
    /// As for [`ForkReader::list`].
    pub fn list_on(disk: &dyn Disk) -> Result<Vec<(Lsn, Epoch)>, IoFailure> {
        let failed = |error| IoFailure::new("list", &disk.describe(), error);
        let entries = disk.list().map_err(failed)?;
        let mut forks: Vec<(Lsn, Epoch)> = entries
            .iter()
            .filter_map(|entry| match classify(&entry.name) {
                Name::Fork(lsn, epoch) => Some((lsn, epoch)),
                _ => None,
            })
            .collect();
        forks.sort_unstable();
        Ok(forks)
    }

    /// Opens the fork with this LSN and epoch.
    ///
    /// # Errors
    /// See [`ForkError`].
    pub fn open(
        directory: impl AsRef<Path>,
        lsn: Lsn,
        epoch: Epoch,
    ) -> Result<ForkReader, ForkError> {
        ForkReader::open_on(&open_disk(directory.as_ref())?, lsn, epoch)
    }

    /// The same on any disk.
    ///
    /// # Errors
    /// See [`ForkError`].
    pub fn open_on(disk: &dyn Disk, lsn: Lsn, epoch: Epoch) -> Result<ForkReader, ForkError> {
        let name = file_name(lsn, epoch);
        let failed = |error| IoFailure::new("open", &name, error);
        let file = disk.open(&name, Access::Read).map_err(failed)?;
        let mut block = vec![0; HEADER_BYTES];
        let filled = file.read_at(&mut block, 0).map_err(failed)?;
        let header = ForkHeader::decode(&block[..filled]);
        let header = match header {
            Ok(header) if (header.lsn, header.epoch) == (lsn, epoch) => header,
            Ok(_) => return Err(ForkError::Damaged { name, offset: 0, fault: Fault::Misplaced }),
            Err(fault) => return Err(ForkError::Damaged { name, offset: 0, fault }),
        };
        let offset = to_u64(HEADER_BYTES);
        Ok(ForkReader { name, file, next_lsn: header.lsn, header, offset, batch: None })
    }

    /// What the fork says of itself.
    #[must_use]
    pub fn header(&self) -> &ForkHeader {
        &self.header
    }

    /// The next record that was given up; `None` behind the last.
    ///
    /// # Errors
    /// See [`ForkError`]; the reader is at its end then.
    pub fn next_record(&mut self) -> Result<Option<Record>, ForkError> {
        loop {
            let Some((header, bytes, records)) = &mut self.batch else {
                if !self.read_batch()? {
                    return Ok(None);
                }
                continue;
            };
            let next = records.next_in(bytes);
            let Some(place) = next.map_err(|fault| damaged(&self.name, self.offset, fault))? else {
                self.batch = None;
                continue;
            };
            let lsn = self.next_lsn;
            self.next_lsn = lsn.next();
            if lsn < self.header.lsn {
                // Of the first batch, and kept.
                continue;
            }
            let (epoch, time_ms) = (header.epoch, header.time_ms);
            let batch = BatchBytes::Read(Arc::clone(bytes));
            return Ok(Some(Record { lsn, epoch, time_ms, batch, place }));
        }
    }

    /// The next batch; false at the end.
    fn read_batch(&mut self) -> Result<bool, ForkError> {
        let end = to_u64(HEADER_BYTES) + self.header.content_bytes;
        if self.offset >= end {
            return Ok(false);
        }
        let at = self.offset;
        // Nothing comes behind a fault.
        self.offset = end;
        let block = self.read(at, to_u64(BATCH_HEADER_BYTES))?;
        let header = BatchHeader::decode(&block).map_err(|fault| damaged(&self.name, at, fault))?;
        let length = u64::from(header.length);
        if header.log_id != self.header.log_id {
            return Err(damaged(&self.name, at, Fault::ForeignLog));
        }
        if length > end - at || length > BATCH_BYTES_MAX {
            return Err(damaged(&self.name, at, Fault::Short));
        }
        let bytes = self.read(at, length)?;
        if !header.body_is_whole(&bytes) {
            return Err(damaged(&self.name, at, Fault::Body));
        }
        self.offset = at + length;
        self.next_lsn = header.base_lsn;
        if header.kind != Kind::Records {
            return Ok(true);
        }
        let records = batch::Records::new(&header);
        self.batch = Some((header, bytes.into(), records));
        Ok(true)
    }

    fn read(&self, offset: u64, bytes: u64) -> Result<Vec<u8>, ForkError> {
        let mut block = vec![0; to_usize(bytes)];
        let read = self.file.read_at(&mut block, offset);
        let filled = read.map_err(|error| IoFailure::new("read", &self.name, error))?;
        if filled < block.len() {
            return Err(damaged(&self.name, offset, Fault::Short));
        }
        Ok(block)
    }
}

fn damaged(name: &str, offset: u64, fault: Fault) -> ForkError {
    ForkError::Damaged { name: name.to_owned(), offset, fault }
}

fn open_disk(directory: &Path) -> Result<OsDisk, IoFailure> {
    let failed = |error| IoFailure::new("open", &directory.display().to_string(), error);
    OsDisk::open(directory, false, BackendChoice::Blocking).map_err(failed)
}
