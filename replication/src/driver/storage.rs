//! The log of a node, and what a node has done with it.
//!
//! Owns the replica of the engine. Every operation blocks until it is durable; in which order, and on what
//! thread, is the caller's: as the node said, one after the other.
//!
//! Invariants
//!  G1. Operations are carried out in the order in which the node asked for them: whatever was appended before a
//!      promise is durable with it.            `no_promise_is_broken` in tests/cluster.rs

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use cairnlog_engine::{
    AppendError, ChangeError, Fed, Identity, Place, Promise, PromiseError, RawError, ReadError,
    Replica,
};

use crate::protocol::history::{EPOCHS_MAX, Summary};
use crate::protocol::shown::Notes;

/// Something to be done with the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Make a promise durable, with everything that was appended before.
    Promise(Promise),
    /// Give up what stands behind the place; with a number by which its end is known.
    Cut(u64, Place),
    /// Append pieces of another replica's log.
    Append(Vec<u8>),
    /// Begin the epoch that was promised.
    Begin(Promise),
    /// Make what was submitted durable.
    Sync,
    /// Note this beside the log.
    Note(Notes),
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// The promise is durable.
    Promised(Promise),
    /// By the cut with this number the log ends at its place; or it does not go through that, or must not be cut
    /// there.
    Cut(u64, bool),
    /// Everything up to here is durable.
    Durable(Place),
    /// The pieces do not continue the log.
    Refused,
    /// The epoch has begun, and its first batch is durable up to here.
    Began(Promise, Place),
    /// A later promise stands.
    NotBegun,
    /// What was to be noted is.
    Noted,
}

/// The disk failed: nothing of what was asked for is known to be done. The log has to be opened again.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// While appending.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// While changing what is beside the log.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// While reading.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Pieces of the log to be sent.
#[derive(Clone, Debug)]
pub struct Piece {
    /// The place behind them.
    pub end: Place,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// See the module.
#[derive(Debug)]
pub struct Storage {
    replica: Replica,
    identity: Identity,
    /// What is durable beside the log, so that whoever asks does not wait for a disk.
    beside: Mutex<Beside>,
}

#[derive(Debug)]
struct Beside {
    promised: Promise,
    notes: Option<Notes>,
}

impl Storage {
    /// The storage of a replica.
    #[must_use]
    pub fn new(replica: Replica) -> Storage {
        let identity = replica.identity();
        let notes = super::notes::decode(&replica.log().cell());
        let beside = Mutex::new(Beside { promised: replica.promised(), notes });
        Storage { replica, identity, beside }
    }

    /// The replica.
    #[must_use]
    pub fn replica(&self) -> &Replica {
        &self.replica
    }

    /// Who this directory is, as it was when the log was opened. Waits for no disk.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.identity
    }

    fn beside(&self) -> MutexGuard<'_, Beside> {
        self.beside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What this replica has. Waits for no disk.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let identity = self.identity;
        // The end first: what becomes durable meanwhile may begin epochs that are not before it.
        let end = self.replica.durable_place();
        let (promised, members) = {
            let beside = self.beside();
            (beside.promised, beside.notes.as_ref().map(|notes| notes.members.clone()))
        };
        Summary {
            log_id: identity.log_id,
            lineage_id: identity.lineage_id,
            incarnation: identity.incarnation,
            start_counter: identity.start_counter,
            nonce: identity.nonce,
            promised,
            epochs: self.replica.epochs(EPOCHS_MAX),
            end,
            first_lsn: self.replica.log().first_lsn(),
            commit_lsn: self.replica.commit_lsn(),
            members: members.unwrap_or_default(),
            shown: BTreeMap::new(),
        }
    }

    /// What this node noted of its cluster, empty before that was made; `None` when somebody else has noted something
    /// there.
    #[must_use]
    pub fn notes(&self) -> Option<Notes> {
        self.beside().notes.clone()
    }

    /// Notes this, durably.
    ///
    /// # Errors
    /// When the disk fails, see [`StorageError`].
    pub fn note(&self, notes: &Notes) -> Result<(), StorageError> {
        self.replica.log().set_cell(&super::notes::encode(notes))?;
        self.beside().notes = Some(notes.clone());
        Ok(())
    }

    /// Carries out an operation.
    ///
    /// # Errors
    /// When the disk fails, see [`StorageError`].
    pub fn run(&self, operation: Operation) -> Result<Done, StorageError> {
        match operation {
            Operation::Promise(promise) => match self.promise(promise) {
                Ok(()) => Ok(Done::Promised(promise)),
                // The node asks for growing promises only.
                Err(PromiseError::Promised(stands)) => Ok(Done::Promised(stands)),
                Err(PromiseError::Append(error)) => Err(error.into()),
                Err(PromiseError::Change(error)) => Err(error.into()),
                Err(_) => Ok(Done::NotBegun),
            },
            Operation::Cut(number, at) => match self.replica.truncate_to(at) {
                Ok(_) => Ok(Done::Cut(number, true)),
                Err(error @ (ChangeError::Poisoned(_) | ChangeError::Closed)) => Err(error.into()),
                Err(_) => Ok(Done::Cut(number, false)),
            },
            Operation::Append(bytes) => match self.replica.append_raw(&bytes) {
                Ok(()) => Ok(Done::Durable(self.replica.durable_place())),
                // A full disk, among others, may have room later.
                Err(RawError::Append(error)) if is_final(&error) => Err(error.into()),
                Err(_) => Ok(Done::Refused),
            },
            Operation::Begin(promise) => self.begin(promise),
            Operation::Note(notes) => {
                self.note(&notes)?;
                Ok(Done::Noted)
            }
            Operation::Sync => {
                self.replica.log().sync()?;
                Ok(Done::Durable(self.replica.durable_place()))
            }
        }
    }

    /// Records that the log refused, for want of room perhaps, are heard of once, by whoever syncs next; they are no
    /// reason not to promise.
    fn promise(&self, promise: Promise) -> Result<(), PromiseError> {
        match self.replica.promise(promise) {
            Err(PromiseError::Append(error)) if !is_final(&error) => {
                self.replica.promise(promise)?
            }
            promised => promised?,
        }
        self.beside().promised = promise;
        Ok(())
    }

    fn begin(&self, promise: Promise) -> Result<Done, StorageError> {
        if self.replica.promised() != promise {
            return Ok(Done::NotBegun);
        }
        match self.replica.lead() {
            Ok(ticket) => {
                ticket.wait()?;
                Ok(Done::Began(promise, self.replica.durable_place()))
            }
            Err(PromiseError::Append(error)) if is_final(&error) => Err(error.into()),
            Err(PromiseError::Change(error)) => Err(error.into()),
            Err(_) => Ok(Done::NotBegun),
        }
    }

    /// Whether the log still takes and keeps something.
    ///
    /// # Errors
    /// Why it does not, see [`StorageError`].
    pub fn check(&self) -> Result<(), StorageError> {
        Ok(self.replica.check()?)
    }

    /// Makes everything durable that was taken, and closes the log.
    ///
    /// # Errors
    /// When the disk fails: the last records are in doubt.
    pub fn close(self) -> Result<(), AppendError> {
        self.replica.close()
    }

    /// What comes behind a place, if that is known without asking the disk: `Some(None)` when nothing does.
    #[must_use]
    pub fn read_memory(&self, from: Place, bytes_max: usize) -> Option<Option<Piece>> {
        match self.replica.read_feed((from.segment, from.offset), bytes_max) {
            Fed::AtEnd => Some(None),
            Fed::Pieces(pieces) => {
                let end = pieces.last().map_or(from, |piece| piece.end);
                let length = pieces.iter().map(|piece| piece.bytes.len()).sum();
                let mut bytes = Vec::with_capacity(length);
                for piece in &pieces {
                    bytes.extend_from_slice(&piece.bytes);
                }
                Some(Some(Piece { end, bytes }))
            }
            Fed::Gone => None,
        }
    }

    /// What comes behind a place, from memory or else from disk; `None` when nothing does.
    ///
    /// # Errors
    /// When the log cannot be read, or was trimmed or cut past the place.
    pub fn read(&self, from: Place, bytes_max: usize) -> Result<Option<Piece>, StorageError> {
        if let Some(piece) = self.read_memory(from, bytes_max) {
            return Ok(piece);
        }
        let reader = self.replica.read_raw(from)?;
        let gone = ReadError::Missing { segment: from.segment, lsn: from.lsn };
        let raw = reader.ok_or(gone)?.next(bytes_max)?;
        Ok(raw.map(|raw| Piece { end: raw.end, bytes: raw.bytes }))
    }
}

/// Whether nothing more can be appended in this life.
fn is_final(error: &AppendError) -> bool {
    matches!(error, AppendError::Poisoned(_) | AppendError::Closed)
}

#[cfg(test)]
#[path = "storage_tests.rs"]
mod tests;
