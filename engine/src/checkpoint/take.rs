//! Checkpoints of an open log: taking the embedder's, keeping the engine's up to date, and what both
//! mean for trimming.
//!
//! Owns the order between a checkpoint, the removal of older ones, and the drop of segments. The files
//! themselves are `files`'s.
//!
//! Invariants
//!  J1. No segment that holds records at or behind the oldest checkpoint kept is dropped.
//!                                             test `trim_stops_at_the_oldest_checkpoint`
//!  J2. A checkpoint is not at an LSN that could still be lost.            checked in `files`
//!
//! Crash: a checkpoint is whole or not there; see `files`.
//! Threads: one checkpoint at a time; appends and the background work go on meanwhile.

use std::io::{self, Write};
use std::sync::PoisonError;

use super::files::{self, CheckpointReader, DirectoryInDoubt};
use crate::Lsn;
use crate::error::{ChangeError, IoFailure, ReadError};
use crate::format::checkpoint::{CheckpointHeader, Kind, file_name};
use crate::format::table;
use crate::log::core::{Core, Maintenance};

/// Tables of segments that are kept.
const TABLES_KEPT: usize = files::KEPT_MIN;

impl Maintenance {
    /// Records at and behind it are needed to restore from the oldest checkpoint kept.
    pub(crate) fn trim_limit(&self) -> Lsn {
        self.checkpoints.last().copied().unwrap_or(Lsn::MAX)
    }
}

impl Core {
    /// Takes a checkpoint of the embedder's state, which holds every record below `lsn`.
    pub(crate) fn checkpoint(
        &self,
        lsn: Lsn,
        save: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), ChangeError> {
        let _one_at_a_time = self.checkpointing.lock().unwrap_or_else(PoisonError::into_inner);
        let durable_lsn = self.progress.durable_lsn();
        if lsn > durable_lsn || lsn < Lsn::FIRST {
            return Err(ChangeError::OutOfRange { lsn, durable_lsn });
        }
        self.check_poison()?;
        let maintenance = self.lock_maintenance_in_time().map_err(ChangeError::Poisoned)?;
        match maintenance.checkpoints.first() {
            Some(newest_lsn) if lsn < *newest_lsn => {
                return Err(ChangeError::Outdated { lsn, newest_lsn: *newest_lsn });
            }
            // The same state is there already.
            Some(newest_lsn) if lsn == *newest_lsn => return Ok(()),
            _ => {}
        }
        drop(maintenance);
        let name = file_name(Kind::State, lsn);
        let written = files::write(&*self.disk, self.checkpoint_header(Kind::State, lsn), save);
        if let Err(error) = written {
            return Err(self.not_taken(&name, error));
        }
        let mut maintenance = self.lock_maintenance_in_time().map_err(ChangeError::Poisoned)?;
        let pruned = files::prune(&*self.disk, Kind::State, self.config.checkpoints_kept);
        match pruned {
            Ok(kept) => maintenance.checkpoints = kept,
            // It is there all the same; the old ones go with the next one.
            Err(_) => maintenance.checkpoints.insert(0, lsn),
        }
        Ok(())
    }

    fn checkpoint_header(&self, kind: Kind, lsn: Lsn) -> CheckpointHeader {
        let (log_id, epoch, time_ms) = (self.log_id, self.epoch(), self.disk.now_ms());
        CheckpointHeader { kind, log_id, lsn, epoch, time_ms, content_bytes: 0 }
    }

    fn not_taken(&self, name: &str, error: io::Error) -> ChangeError {
        let in_doubt = error.get_ref().is_some_and(|inner| inner.is::<DirectoryInDoubt>());
        let failure = IoFailure::new("write", name, error);
        // As with any other failed sync of the directory: nothing may be built on its names any more.
        if in_doubt { self.poisoned_by(failure) } else { ChangeError::NotTaken(failure) }
    }

    /// LSNs of the embedder's checkpoints, the newest first.
    pub(crate) fn checkpoints(&self) -> Vec<Lsn> {
        self.lock_maintenance().checkpoints.clone()
    }

    /// The newest whole checkpoint of the embedder.
    pub(crate) fn newest_checkpoint(&self) -> Result<Option<CheckpointReader>, ReadError> {
        let (lsns, (found, notes)) = loop {
            let lsns = self.checkpoints();
            let newest = files::newest(&*self.disk, Kind::State, &lsns, self.log_id);
            // Those that were taken meanwhile may have removed all of these.
            if newest.0.is_some() || self.checkpoints() == lsns {
                break (lsns, newest);
            }
        };
        let first_lsn = self.segments.first().map_or(Lsn::FIRST, |s| s.header.base_lsn);
        if found.is_none() && !lsns.is_empty() && first_lsn > Lsn::FIRST {
            let error = io::Error::new(io::ErrorKind::InvalidData, notes.join("; "));
            return Err(ReadError::Io(IoFailure::new("restore", "any checkpoint", error)));
        }
        Ok(found)
    }

    /// Writes the engine's checkpoint when at least `due` sealed segments are missing from it.
    pub(crate) fn list_segments(
        &self,
        maintenance: &mut Maintenance,
        due: u64,
    ) -> Result<(), IoFailure> {
        let sealed_end = self.segments.sealed_end();
        if sealed_end < maintenance.unlisted_segment.saturating_add(due) {
            return Ok(());
        }
        let entries: Vec<_> =
            self.segments.all().iter().map_while(|segment| segment.table_entry()).collect();
        let Some(last) = entries.last() else { return Ok(()) };
        let (lsn, next) = (last.trailer.end_lsn, last.header.segment + 1);
        let mut epochs = self.lock_epochs().list();
        epochs.retain(|started| started.segment < next);
        let content = table::encode(&entries, &epochs);
        let header = self.checkpoint_header(Kind::Segments, lsn);
        let written = files::write(&*self.disk, header, &mut |out| out.write_all(&content));
        // Without one, the next open looks at more files; another try comes with the next segment.
        maintenance.unlisted_segment = next;
        match written {
            Ok(_) => {
                // Best effort: one too many is removed the next time.
                let _ = files::prune(&*self.disk, Kind::Segments, TABLES_KEPT);
                Ok(())
            }
            Err(error) if error.get_ref().is_some_and(|e| e.is::<DirectoryInDoubt>()) => {
                Err(IoFailure::new("write", &file_name(Kind::Segments, lsn), error))
            }
            Err(_) => Ok(()),
        }
    }
}
