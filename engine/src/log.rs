//! The handle people hold.
//!
//! Owns opening, the threads of a log, and closing. Appending is in `committer`, reading in
//! `read`, what happens behind the scenes in `maintenance`.
//!
//! Threads: a [`Log`] is used by any number of threads; it has one thread that writes for tickets, one
//! for background work and one that scrubs, which end when it is dropped.

mod commit_thread;
mod committer;
pub(crate) mod core;
mod in_order;
#[cfg(all(test, shuttle))]
mod interleavings;
pub(crate) mod maintenance;
mod open;
pub(crate) mod progress;
mod raw;
mod truncate;

use std::future::Future;
use std::io::{self, Write};
use std::ops::{Bound, RangeBounds};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::checkpoint::CheckpointReader;
use crate::config::Config;
use crate::disk::Disk;
use crate::epochs::StartedEpoch;
use crate::error::{AppendError, ChangeError, Corruption, IoFailure, OpenError, ReadError};
use crate::log::core::{Core, Driver, LOOK_PAUSE};
use crate::read::{Records, Tail, View};
use crate::record::Record;
use crate::recovery::RecoveryReport;
use crate::stats::{Counters, Stats};
use crate::sync::atomic::Ordering;
use crate::sync::thread::JoinHandle;
use crate::sync::{Arc, PoisonError, has_ended, pause};
use crate::wal::commit::Commit;
use crate::wal::steps::Producer;
use crate::{Lsn, LsnRange};

pub use in_order::InOrder;
pub use truncate::Truncated;

/// A durable log: one writer for each directory, any number of threads.
///
/// Dropping it makes what was appended durable, as far as the disk lets it; [`Log::close`] says whether
/// that went well.
#[derive(Debug)]
pub struct Log {
    core: Arc<Core>,
    threads: Vec<JoinHandle<()>>,
}

/// The promise of an LSN for records that are on their way to the disk.
///
/// Wait for it with [`Ticket::wait`], or await it in any runtime. Dropping it changes nothing: the
/// records are written all the same.
#[derive(Debug)]
#[must_use = "the records are durable only when the ticket says so"]
pub struct Ticket {
    core: Arc<Core>,
    commit: Arc<Commit>,
    lsns: LsnRange,
}

/// An LSN in memory: the record is written soon, and lost if power or process fails before.
///
/// It is not an [`Lsn`], so that it cannot be mistaken for one that is durable. [`Log::sync`] makes
/// every buffered record durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffered(Lsn);

impl Buffered {
    /// The LSN that the record has if it becomes durable.
    #[must_use]
    pub fn lsn_if_durable(self) -> Lsn {
        self.0
    }
}

impl Log {
    /// Opens the log in a directory, repairs a torn tail, and says what was found.
    ///
    /// # Errors
    /// See [`OpenError`]: each variant says what to do. Nothing is changed in a directory that is not a
    /// log, that another writer holds, or whose durable records are damaged.
    pub fn open(
        directory: impl AsRef<Path>,
        config: Config,
    ) -> Result<(Log, RecoveryReport), OpenError> {
        open::open(directory.as_ref(), config)
    }

    /// Opens the log on any disk, such as a simulated one, without threads of its own: writes,
    /// recycling and everything else happen in the calls, one after the other, so that a run on a
    /// simulated disk is repeatable. Tickets are written when they are waited for.
    ///
    /// # Errors
    /// As for [`Log::open`].
    pub fn open_on(
        disk: Arc<dyn Disk>,
        config: Config,
    ) -> Result<(Log, RecoveryReport), OpenError> {
        open::open_on(disk, config, false)
    }

    /// Opens the log on any disk, with the threads that [`Log::open`] has: for a disk of your own, and for
    /// what a single thread cannot show, such as a disk that does not answer.
    ///
    /// # Errors
    /// As for [`Log::open`].
    pub fn open_with_threads_on(
        disk: Arc<dyn Disk>,
        config: Config,
    ) -> Result<(Log, RecoveryReport), OpenError> {
        open::open_on(disk, config, true)
    }

    /// Appends a record and returns its LSN when it is durable.
    ///
    /// # Errors
    /// See [`AppendError`]. After anything but [`AppendError::Poisoned`] the record is not in the log.
    pub fn append(&self, record: &[u8]) -> Result<Lsn, AppendError> {
        self.core.append(&[record], None)
    }

    /// Appends records as one: all of them are durable when it returns, and a crash leaves all or none.
    /// Together they are at most one batch, see [`AppendError::BatchTooLarge`].
    ///
    /// # Errors
    /// As for [`Log::append`].
    pub fn append_batch<R: AsRef<[u8]>>(&self, records: &[R]) -> Result<LsnRange, AppendError> {
        let first = self.core.append(records, None)?;
        Ok(first..first.plus(records.len() as u64))
    }

    /// Appends a record and returns at once; the ticket tells when it is durable. Waits only for room,
    /// when `inflight_bytes_max` are on their way.
    ///
    /// # Errors
    /// As for [`Log::append`]; those of the write come with the ticket.
    pub fn submit(&self, record: &[u8]) -> Result<Ticket, AppendError> {
        self.submit_batch(&[record])
    }

    /// Like [`Log::append_batch`], without waiting.
    ///
    /// # Errors
    /// As for [`Log::submit`].
    pub fn submit_batch<R: AsRef<[u8]>>(&self, records: &[R]) -> Result<Ticket, AppendError> {
        let (first, commit) = self.core.submit(records, None, None)?;
        let lsns = first..first.plus(records.len() as u64);
        Ok(Ticket { core: Arc::clone(&self.core), commit, lsns })
    }

    /// Like [`Log::submit_batch`], and notes with the records who appends them: `producer_id` gave the
    /// first of them the number `first_sequence`, and the others those that follow. After a crash
    /// [`Log::next_sequence`] tells the producer where to go on. Nothing is refused: not to append twice
    /// is up to the producer, and to leave nothing out: with several batches on their way, use
    /// [`Log::in_order`].
    ///
    /// # Errors
    /// As for [`Log::submit`].
    pub fn submit_batch_as<R: AsRef<[u8]>>(
        &self,
        producer_id: u128,
        first_sequence: u64,
        records: &[R],
    ) -> Result<Ticket, AppendError> {
        let producer = Producer { id: producer_id, first_sequence };
        let (first, commit) = self.core.submit(records, Some(producer), None)?;
        let lsns = first..first.plus(records.len() as u64);
        Ok(Ticket { core: Arc::clone(&self.core), commit, lsns })
    }

    /// The sequence after the last durable record of a producer; `None` when the log holds none. Reads
    /// back from the newest segment until it finds one, and the whole log when there is none.
    ///
    /// # Errors
    /// Whatever reading the segments gives.
    pub fn next_sequence(&self, producer_id: u128) -> Result<Option<u64>, ReadError> {
        View::Live(Arc::clone(&self.core)).next_sequence(producer_id)
    }

    /// Appends a record in memory. It becomes durable with the next durable append, with
    /// [`Log::sync`], or when enough of them have gathered.
    ///
    /// # Errors
    /// As for [`Log::append`]. A failed write shows with the next call; that a buffered record was
    /// given up, because the disk was full, with the next [`Log::sync`].
    pub fn append_buffered(&self, record: &[u8]) -> Result<Buffered, AppendError> {
        self.core.buffer(record).map(Buffered)
    }

    /// Waits until the log takes records again that [`InOrder::try_submit_batch`] did not: for the next segment, for what
    /// is on its way to the disk, or for a truncation. Then try again; others may have been faster.
    ///
    /// # Errors
    /// As for [`Log::submit`]; of a full disk that there is no segment.
    pub fn wait_for_room(&self) -> Result<(), AppendError> {
        self.core.wait_for_room()
    }

    /// Makes everything appended so far durable; everything below the answer is.
    ///
    /// # Errors
    /// As for [`Log::append`].
    pub fn sync(&self) -> Result<Lsn, AppendError> {
        self.core.sync()
    }

    /// The record with this LSN.
    ///
    /// # Errors
    /// [`ReadError::OutOfRange`] when it was trimmed or is not durable yet; others as they say.
    pub fn read(&self, lsn: Lsn) -> Result<Record, ReadError> {
        let view = View::Live(Arc::clone(&self.core));
        let range = view.range();
        let mut records = Records::new(view, lsn..lsn.next())?;
        records.next().unwrap_or(Err(ReadError::OutOfRange { lsn, range }))
    }

    /// Records of a range, up to what is durable.
    ///
    /// # Errors
    /// [`ReadError::OutOfRange`] when its start is not in the log.
    pub fn iter(&self, range: impl RangeBounds<Lsn>) -> Result<Records, ReadError> {
        let view = View::Live(Arc::clone(&self.core));
        let range = range_of(&range, view.first_lsn());
        Records::new(view, range)
    }

    /// Records from an LSN on, waiting for new ones.
    ///
    /// # Errors
    /// [`ReadError::OutOfRange`] when `from` is not in the log and not its next LSN.
    pub fn tail(&self, from: Lsn) -> Result<Tail, ReadError> {
        Tail::new(&self.core, from)
    }

    /// The first record whose batch was closed at or after `time_ms`, milliseconds since 1970; the end
    /// of the log when there is none.
    ///
    /// # Errors
    /// Whatever reading the segment gives.
    pub fn lsn_at_time(&self, time_ms: u64) -> Result<Lsn, ReadError> {
        View::Live(Arc::clone(&self.core)).lsn_at_time(time_ms)
    }

    /// The oldest record kept.
    #[must_use]
    pub fn first_lsn(&self) -> Lsn {
        View::Live(Arc::clone(&self.core)).first_lsn()
    }

    /// Below it, records survive a power cut.
    #[must_use]
    pub fn durable_lsn(&self) -> Lsn {
        self.core.progress.durable_lsn()
    }

    /// The next LSN to be assigned.
    #[must_use]
    pub fn end_lsn(&self) -> Lsn {
        self.core.lock_state().writer.end_lsn()
    }

    /// The epochs that the log holds durably, oldest first, from the one that its first record belongs to:
    /// two replicas whose logs began as one hold the same ones up to where they part. At most the newest
    /// 65,536 are known. An open of this log begins an epoch with its first append.
    #[must_use]
    pub fn epochs(&self) -> Vec<StartedEpoch> {
        self.core.lock_epochs().list()
    }

    /// Gives up records before `lsn`: whole segments are dropped and recycled, so some of them may stay.
    /// The new first LSN.
    ///
    /// # Errors
    /// [`ChangeError::OutOfRange`] beyond `durable_lsn`.
    pub fn trim(&self, lsn: Lsn) -> Result<Lsn, ChangeError> {
        self.core.trim(lsn)
    }

    /// Gives up every record from `lsn` on, so that the next append gets this LSN: for whoever has learned
    /// that the end of the log is not what was agreed upon. What is given up is first copied into a file
    /// beside the log ([`Truncated::fork`]), which stays until somebody removes it. Everything appended
    /// before the call is made durable first; appends wait meanwhile. Checkpoints of the embedder behind
    /// `lsn` are removed. Readers that stand behind it get [`ReadError::Truncated`].
    ///
    /// A crash leaves the log as it was or truncated, and nothing in between. The log goes on in a new
    /// epoch, so that nothing of what was given up can come back.
    ///
    /// # Errors
    /// See [`ChangeError`]; after anything but [`ChangeError::Poisoned`] nothing was changed. After that,
    /// an open finishes the truncation if it was begun.
    pub fn truncate(&self, lsn: Lsn) -> Result<Truncated, ChangeError> {
        self.core.truncate(lsn)
    }

    /// Takes a checkpoint: a state of the embedder's that holds every record below `lsn` and no other.
    /// `save` writes it; appends go on meanwhile. It is checksummed, and when this returns it survives a
    /// power cut; a crash before leaves those that were there. [`Config::checkpoints_kept`] of them are
    /// kept, and trimming and retention never pass the oldest one kept. Taken again at the LSN of the
    /// newest, nothing is written.
    ///
    /// # Errors
    /// [`ChangeError::OutOfRange`] beyond `durable_lsn` (sync first), [`ChangeError::Outdated`] before
    /// the newest checkpoint, [`ChangeError::NotTaken`] when `save` or the disk failed.
    pub fn checkpoint(
        &self,
        lsn: Lsn,
        mut save: impl FnMut(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), ChangeError> {
        self.core.checkpoint(lsn, &mut save)
    }

    /// LSNs of the checkpoints kept, the newest first.
    #[must_use]
    pub fn checkpoints(&self) -> Vec<Lsn> {
        self.core.checkpoints()
    }

    /// The newest checkpoint that is whole, to restore from; then apply the records from its
    /// [`CheckpointReader::lsn`] on. A damaged one is passed over for the one before it. `None` when
    /// there is none: then apply all records.
    ///
    /// # Errors
    /// [`ReadError::Io`] when there are checkpoints, none of them is whole, and the log does not go back
    /// to its first record any more: do not start empty; restore the directory.
    pub fn newest_checkpoint(&self) -> Result<Option<CheckpointReader>, ReadError> {
        self.core.newest_checkpoint()
    }

    /// The durable user cell: up to 1024 bytes that belong to the embedder.
    #[must_use]
    pub fn cell(&self) -> Vec<u8> {
        self.core.lock_maintenance().superblock.current().cell.clone()
    }

    /// Replaces the durable user cell; the new content survives a power cut when this returns, and no
    /// crash leaves a mix of old and new.
    ///
    /// # Errors
    /// [`ChangeError::CellTooLarge`] above 1024 bytes.
    pub fn set_cell(&self, cell: &[u8]) -> Result<(), ChangeError> {
        self.core.set_cell(cell)
    }

    /// Reads every sealed segment now, mends what parity makes up for, and returns when that is done, at
    /// the pace of [`Config::scrub_bytes_per_second`]. What it found: [`Log::stats`], [`Log::damage`].
    ///
    /// # Errors
    /// [`ChangeError::Poisoned`].
    pub fn scrub(&self) -> Result<(), ChangeError> {
        self.core.scrub_now().map_err(ChangeError::Poisoned)
    }

    /// The first damaged place of each sealed segment that the scrub could not mend. The records there
    /// are lost on this node: restore them, or repair the directory once the log is closed.
    #[must_use]
    pub fn damage(&self) -> Vec<Corruption> {
        self.core.scrub.damage()
    }

    /// [`Stats::batch_bytes`] alone, for those who look often.
    pub(crate) fn batch_bytes(&self) -> u64 {
        Counters::get(&self.core.counters.batch_bytes)
    }

    /// Counters since the log was opened.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let counters = &self.core.counters;
        Stats {
            first_lsn: self.first_lsn(),
            durable_lsn: self.durable_lsn(),
            end_lsn: self.end_lsn(),
            epoch: self.core.epoch(),
            batches: Counters::get(&counters.batches),
            records: Counters::get(&counters.records),
            batch_bytes: Counters::get(&counters.batch_bytes),
            writes: Counters::get(&counters.writes),
            segments: self.core.segments.len() as u64,
            segments_created: Counters::get(&counters.segments_created),
            segments_recycled: Counters::get(&counters.segments_recycled),
            segments_protected: Counters::get(&counters.segments_protected),
            segments_unprotected: self.core.segments.unprotected_count(),
            scrubbed_bytes: Counters::get(&counters.scrubbed_bytes),
            scrub_rounds: Counters::get(&counters.scrub_rounds),
            scrub_failures: Counters::get(&counters.scrub_failures),
            units_damaged: Counters::get(&counters.units_damaged),
            units_mended: Counters::get(&counters.units_mended),
            mended_reads: self.core.segments.mended_reads(),
            segments_damaged: self.core.scrub.damage().len() as u64,
            backend: self.core.disk.backend_name(),
        }
    }

    /// Makes everything appended durable and closes the log.
    ///
    /// # Errors
    /// Why the last records could not be made durable; they are then in doubt.
    pub fn close(mut self) -> Result<(), AppendError> {
        self.end()
    }

    fn end(&mut self) -> Result<(), AppendError> {
        let synced = self.core.sync_at_close();
        self.core.lock_state().closed = true;
        self.core.stop.store(true, Ordering::SeqCst);
        self.core.background.raise();
        self.core.begun.raise();
        self.core.stopped.raise();
        self.core.scrub.signal.raise();
        if let Some(waker) = self.core.commit_waker.get() {
            waker.wake();
        }
        let joined = self.join_threads();
        self.core.progress.notify();
        // A poisoned log writes nothing more, not even what it knows.
        let finish = || joined.and_then(|()| self.core.finish_maintenance());
        let ended = synced.and_then(|()| finish().map_err(AppendError::Poisoned));
        self.core.unlock_directory();
        ended
    }
}

impl Log {
    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    pub(crate) fn ticket(&self, commit: Arc<Commit>, lsns: LsnRange) -> Ticket {
        Ticket { core: Arc::clone(&self.core), commit, lsns }
    }

    /// Waits until the threads have ended, as they do at once when the disk answers. Those that wait for a
    /// disk that does not are left alone: they keep what they need, and the directory's lock.
    fn join_threads(&mut self) -> Result<(), IoFailure> {
        let asked_ms = self.core.disk.elapsed_ms();
        for joined in self.threads.drain(..) {
            while self.core.stall_interval().is_some() && !has_ended(&joined) {
                if self.core.is_stalled.load(Ordering::SeqCst) {
                    return self.core.check_health();
                }
                let maintained_ms = self.core.maintained_ms.load(Ordering::Relaxed);
                self.core.check_silence(asked_ms.max(maintained_ms))?;
                pause(LOOK_PAUSE);
            }
            // A thread that panicked has said so; the log is then poisoned or closed.
            let _ = joined.join();
        }
        Ok(())
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        if !self.core.stop.load(Ordering::SeqCst) {
            // Nobody is left to tell; `close` is for those who want to know.
            let _ = self.end();
        }
    }
}

impl Core {
    /// Gives the directory to the next writer. In a poisoned log a thread that appends may still be
    /// inside of a write, which must not land in a life that knows nothing of it: the lock then goes
    /// with the last user of the log. (The commit thread has ended, and its queue waited for its writes.)
    fn unlock_directory(&self) {
        let driver = self.lock_state().driver;
        if driver == Driver::Nobody && !self.is_stalled.load(Ordering::SeqCst) {
            *self.lock.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    /// Whether no record will become durable any more.
    pub(crate) fn has_ended(&self) -> bool {
        let state = self.lock_state();
        state.closed || state.writer.poison().is_some()
    }
}

impl Ticket {
    /// The LSNs that the records have if they become durable.
    #[must_use]
    pub fn lsns_if_durable(&self) -> LsnRange {
        self.lsns.clone()
    }

    /// Waits until the records are durable; the first one's LSN.
    ///
    /// # Errors
    /// As for [`Log::append`].
    pub fn wait(self) -> Result<Lsn, AppendError> {
        self.core.wait(&self.commit)?;
        Ok(self.lsns.start)
    }
}

impl Future for Ticket {
    type Output = Result<Lsn, AppendError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if !self.core.has_threads {
            // Nobody else would write it.
            return Poll::Ready(self.core.wait(&self.commit).map(|()| self.lsns.start));
        }
        self.commit.poll(context).map_ok(|()| self.lsns.start)
    }
}

/// A range given in any form, from `first` on when it has no start.
pub(crate) fn range_of(range: &impl RangeBounds<Lsn>, first: Lsn) -> LsnRange {
    let start = match range.start_bound() {
        Bound::Included(lsn) => *lsn,
        Bound::Excluded(lsn) => lsn.next(),
        Bound::Unbounded => first,
    };
    let end = match range.end_bound() {
        Bound::Included(lsn) => lsn.next(),
        Bound::Excluded(lsn) => *lsn,
        Bound::Unbounded => Lsn::MAX,
    };
    start..end
}
