//! The log as one of several replicas: what replication needs that nobody else does.
//!
//! Owns [`Replica`]: promises, epochs that begin when somebody says so, pieces of another replica's log
//! appended to the same places, and pieces of this one for others. Decides nothing: who leads, and what is
//! sent to whom, is the replication crate's.
//!
//! Invariants
//!  A1. A promise is in both copies of the superblock before it is answered, and never goes back.
//!                                             tests `a_promise_outlives_power`, `promises_only_grow`
//!  A2. Nothing is appended in an epoch that was not promised, neither of this replica's nor of another's.
//!                                                                  test `only_what_was_promised`
//!  A3. What was taken from another replica is, byte for byte, at the same place.
//!                                                                  test `replicas_are_identical`
//!
//! Crash: as for any log; an open begins no epoch.

mod raw_reader;

use std::path::Path;

pub use raw_reader::{Raw, RawReader};

use crate::config::Config;
use crate::disk::Disk;
use crate::epochs::StartedEpoch;
use crate::error::{AppendError, ChangeError, OpenError, ReadError};
use crate::format::batch::EpochStart;
use crate::format::superblock::LeaderId;
use crate::format::version::Fault;
use crate::log::core::{Core, Maintenance};
use crate::log::{Log, Ticket, Truncated};
use crate::recovery::RecoveryReport;
use crate::sync::Arc;
use crate::sync::atomic::Ordering;
use crate::wal::feed::Fed;
use crate::wal::place::Place;
use crate::wal::raw::{RawPiece, parse};
use crate::{Epoch, Lsn};

/// A log that is one of several replicas. Reading, checkpoints, trimming and appending while it leads are
/// those of its [`Log`].
#[derive(Debug)]
pub struct Replica {
    log: Log,
}

/// Who a replica is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Identity {
    /// The identity of the log, the same on every node and for ever.
    pub log_id: u128,
    /// The line of succession that it is in.
    pub lineage_id: u128,
    /// The identity of this directory.
    pub incarnation: u128,
    /// This life of the process.
    pub nonce: u128,
    /// Counts opens for writing.
    pub start_counter: u64,
}

/// What a replica has promised: it takes nothing of an earlier epoch's leader any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Promise {
    /// The epoch; 0 when nothing was promised yet.
    pub epoch: Epoch,
    /// To whom.
    pub leader: LeaderId,
}

/// An epoch, and behind which place it began: what replicas compare to find where their logs part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BegunEpoch {
    /// Its number.
    pub epoch: Epoch,
    /// Whose it is.
    pub start: EpochStart,
    /// The end of the batch in front of it: segment and offset, both 0 at the start of the log.
    pub after: (u64, u64),
}

/// Why a promise was not given, or an epoch not begun.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PromiseError {
    /// Another promise stands, as great or greater. Nothing was changed; whoever asked does not lead.
    #[error("epoch {} is promised to node {}", .0.epoch, .0.leader.node)]
    Promised(Promise),
    /// The disk failed: see [`AppendError::Poisoned`].
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The superblock could not be written: see [`ChangeError`].
    #[error(transparent)]
    Change(#[from] ChangeError),
}

/// Why a piece of another replica's log was not appended.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RawError {
    /// The bytes are damaged, or do not continue this log. What is in front of the fault was appended. Compare
    /// the logs again, and go on from [`Replica::end_place`].
    #[error("the piece does not continue the log: {0}")]
    Refused(Fault),
    /// A batch is of an epoch that was not promised; nothing was appended.
    #[error("epoch {epoch} was not promised, {} was", .promised.epoch)]
    Unpromised {
        /// The batch's.
        epoch: Epoch,
        /// What this replica has promised.
        promised: Promise,
    },
    /// This replica leads; nothing was appended.
    #[error("this replica leads")]
    Leads,
    /// The log does not take it: see [`AppendError`].
    #[error(transparent)]
    Append(#[from] AppendError),
}

impl Replica {
    /// Opens the log in a directory as a replica: as [`Log::open`], but no epoch is taken.
    ///
    /// # Errors
    /// As for [`Log::open`].
    pub fn open(
        directory: impl AsRef<Path>,
        mut config: Config,
    ) -> Result<(Replica, RecoveryReport), OpenError> {
        config.is_replica = true;
        Log::open(directory, config).map(|(log, report)| (Replica { log }, report))
    }

    /// The same on any disk, without threads: see [`Log::open_on`].
    ///
    /// # Errors
    /// As for [`Log::open`].
    pub fn open_on(
        disk: Arc<dyn Disk>,
        mut config: Config,
    ) -> Result<(Replica, RecoveryReport), OpenError> {
        config.is_replica = true;
        Log::open_on(disk, config).map(|(log, report)| (Replica { log }, report))
    }

    /// The same on any disk, with threads: see [`Log::open_with_threads_on`].
    ///
    /// # Errors
    /// As for [`Log::open`].
    pub fn open_with_threads_on(
        disk: Arc<dyn Disk>,
        mut config: Config,
    ) -> Result<(Replica, RecoveryReport), OpenError> {
        config.is_replica = true;
        Log::open_with_threads_on(disk, config).map(|(log, report)| (Replica { log }, report))
    }

    /// Makes everything appended durable and closes the log.
    ///
    /// # Errors
    /// As for [`Log::close`].
    pub fn close(self) -> Result<(), AppendError> {
        self.log.close()
    }

    /// The log, for reading and for everything that is not particular to replicas.
    #[must_use]
    pub fn log(&self) -> &Log {
        &self.log
    }

    fn core(&self) -> &Arc<Core> {
        self.log.core()
    }

    /// Who this replica is.
    #[must_use]
    pub fn identity(&self) -> Identity {
        let nonce = self.core().nonce;
        let maintenance = self.core().lock_maintenance();
        let superblock = maintenance.superblock.current();
        Identity {
            log_id: superblock.log_id,
            lineage_id: superblock.lineage_id,
            incarnation: superblock.incarnation,
            nonce,
            start_counter: superblock.start_counter,
        }
    }

    /// The greatest promise given.
    #[must_use]
    pub fn promised(&self) -> Promise {
        promised_in(&self.core().lock_maintenance())
    }

    /// The greatest epoch promised, without waiting for a disk.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.core().epoch()
    }

    /// Promises an epoch to a leader, durably: a greater one than any before, or the same again. Before it is
    /// on disk this replica has stopped to lead, and everything that it took is durable.
    ///
    /// # Errors
    /// [`PromiseError::Promised`] when another promise stands.
    pub fn promise(&self, promise: Promise) -> Result<(), PromiseError> {
        let core = self.core();
        let stands = self.promised();
        if promise == stands {
            return Ok(());
        }
        if promise.epoch <= stands.epoch || promise.leader.node == 0 {
            return Err(PromiseError::Promised(stands));
        }
        self.follow();
        self.log.sync()?;
        let _turn = core.take_turn();
        let mut maintenance = core.lock_maintenance_in_time().map_err(ChangeError::Poisoned)?;
        core.check_poison()?;
        let stands = promised_in(&maintenance);
        if promise.epoch <= stands.epoch && promise != stands {
            return Err(PromiseError::Promised(stands));
        }
        let changed = maintenance.superblock.change(|superblock| {
            superblock.promised_epoch = promise.epoch;
            superblock.promised_to = promise.leader;
        });
        changed.map_err(|failure| core.poisoned_by(failure))?;
        core.set_epoch(promise.epoch);
        Ok(())
    }

    /// Begins the epoch that this replica promised to itself: its epoch start is durable when the ticket says
    /// so, and records may be appended behind it at once. An epoch is begun once.
    ///
    /// # Errors
    /// [`PromiseError::Promised`] when the promise is not to this life of this replica, or its epoch was begun
    /// before.
    pub fn lead(&self) -> Result<Ticket, PromiseError> {
        let core = self.core();
        let (promise, start) = {
            let maintenance = core.lock_maintenance();
            let superblock = maintenance.superblock.current();
            let (lineage_id, incarnation) = (superblock.lineage_id, superblock.incarnation);
            let start = EpochStart { lineage_id, incarnation, nonce: core.nonce };
            (promised_in(&maintenance), start)
        };
        let LeaderId { incarnation, nonce, .. } = promise.leader;
        let is_own = (incarnation, nonce) == (start.incarnation, start.nonce);
        if !is_own || promise.epoch <= self.end_place().epoch {
            return Err(PromiseError::Promised(promise));
        }
        self.log.sync()?;
        let (commit, lsn) = core.begin_epoch(promise.epoch, start)?;
        Ok(self.log.ticket(commit, lsn..lsn))
    }

    /// Takes no more records: appends are refused with [`AppendError::NotLeading`]. What was taken is still
    /// written; [`Log::sync`] waits for it.
    pub fn follow(&self) {
        self.core().lock_state().writer.stop_leading();
    }

    /// Gives every record that was taken its place in the log, so that it can be read from the feed; it is written
    /// as ever. In a log with threads that happens when the write before it ends.
    ///
    /// # Errors
    /// As for [`Log::append`].
    pub fn place_all(&self) -> Result<(), AppendError> {
        self.core().place_all()
    }

    /// Whether it leads.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.core().lock_state().writer.leads()
    }

    /// The end of the log, durable or not.
    #[must_use]
    pub fn end_place(&self) -> Place {
        self.core().lock_state().writer.end_place()
    }

    /// The end of what is durable.
    #[must_use]
    pub fn durable_place(&self) -> Place {
        self.core().lock_state().writer.durable_place()
    }

    /// Below it records are on a quorum of replicas, as far as this one knows: they are never given up. At
    /// open it is what was noted last, which may be less than what was committed.
    #[must_use]
    pub fn commit_lsn(&self) -> Lsn {
        self.core().commit_lsn()
    }

    /// Takes note of what is committed; less than before changes nothing.
    pub fn set_commit_lsn(&self, lsn: Lsn) {
        let core = self.core();
        let before = core.commit_lsn.fetch_max(lsn.get(), Ordering::AcqRel);
        if before < lsn.get() {
            core.lock_state().writer.set_commit_lsn(lsn);
            core.progress.notify();
        }
    }

    /// Appends pieces of another replica's log, as [`Replica::read_feed`] and [`RawReader`] give them, to the same
    /// places; returns when they are durable.
    ///
    /// # Errors
    /// See [`RawError`].
    pub fn append_raw(&self, bytes: &[u8]) -> Result<(), RawError> {
        let pieces = self.parse_raw(bytes)?;
        self.core().append_raw(&pieces)
    }

    /// The same without waiting; the ticket speaks for all of the bytes.
    ///
    /// # Errors
    /// As for [`Replica::append_raw`]; those of the write come with the ticket.
    pub fn submit_raw(&self, bytes: &[u8]) -> Result<Ticket, RawError> {
        let pieces = self.parse_raw(bytes)?;
        let (commit, lsns) = self.core().submit_raw(&pieces)?;
        Ok(self.log.ticket(commit, lsns))
    }

    fn parse_raw(&self, bytes: &[u8]) -> Result<Vec<RawPiece>, RawError> {
        let core = self.core();
        let pieces = parse(bytes, core.config.block_bytes).map_err(RawError::Refused)?;
        let newest = pieces.iter().filter_map(RawPiece::epoch).max().unwrap_or(Epoch::NONE);
        if newest > core.epoch() {
            return Err(RawError::Unpromised { epoch: newest, promised: self.promised() });
        }
        Ok(pieces)
    }

    /// What is being written behind a place (segment and offset), durable or not: at least one piece, and no
    /// more than `bytes_max` bytes of several.
    #[must_use]
    pub fn read_feed(&self, from: (u64, u64), bytes_max: usize) -> Fed {
        self.core().feed.read(from, bytes_max)
    }

    /// Has `notify` called whenever there is something new in the feed, when something became durable, and when
    /// the log failed; by the thread that appends: it must be quick, and not call the log. False when that was
    /// asked for before.
    pub fn notify(&self, notify: Box<dyn Fn() + Send + Sync>) -> bool {
        self.core().feed.set_notify(notify)
    }

    /// Whether the log still works: nothing has failed after which nothing more is kept.
    ///
    /// # Errors
    /// [`ChangeError::Poisoned`], with what failed.
    pub fn check(&self) -> Result<(), ChangeError> {
        self.core().check_poison()
    }

    /// What is durable behind a place, from disk; `None` when the log does not go through it.
    ///
    /// # Errors
    /// Whatever reading the segment gives.
    pub fn read_raw(&self, from: Place) -> Result<Option<RawReader>, ReadError> {
        RawReader::new(self.core(), from)
    }

    /// Whether the log goes through a place, as far as it is durable.
    ///
    /// # Errors
    /// As for [`Replica::read_raw`].
    pub fn holds(&self, place: Place) -> Result<bool, ReadError> {
        self.core().holds(place)
    }

    /// The place at which a batch ends there, or a header, as far as the log is durable.
    ///
    /// # Errors
    /// As for [`Replica::read_raw`].
    pub fn place_at(&self, at: (u64, u64)) -> Result<Option<Place>, ReadError> {
        raw_reader::place_at(self.core(), at)
    }

    /// The newest `max` epochs of the log, oldest first.
    #[must_use]
    pub fn epochs(&self, max: usize) -> Vec<BegunEpoch> {
        let core = self.core();
        let all = self.log.epochs();
        let newest = all.iter().skip(all.len().saturating_sub(max));
        newest.filter_map(|started| begun(core, started)).collect()
    }

    /// Gives up everything behind a place, and keeps it in a fork: as [`Log::truncate`], but to the end of a
    /// batch, whatever batches without records stand there.
    ///
    /// # Errors
    /// As for [`Log::truncate`]; [`ChangeError::NoSuchPlace`] when no batch of this log ends there.
    pub fn truncate_to(&self, place: Place) -> Result<Truncated, ChangeError> {
        self.core().truncate_to(place)
    }
}

fn promised_in(maintenance: &Maintenance) -> Promise {
    let superblock = maintenance.superblock.current();
    Promise { epoch: superblock.promised_epoch, leader: superblock.promised_to }
}

/// `None` where the batch in front was trimmed, and it is not known any more where it ended.
fn begun(core: &Core, started: &StartedEpoch) -> Option<BegunEpoch> {
    let StartedEpoch { epoch, start, segment, offset, .. } = *started;
    let block_bytes = u64::from(core.config.block_bytes);
    let after = match (segment, offset > block_bytes) {
        (_, true) => (segment, offset),
        (1, false) => (0, 0),
        (_, false) => (segment - 1, core.segments.get(segment)?.header.prev_end_offset),
    };
    Some(BegunEpoch { epoch, start, after })
}
