//! What the parts of an open log share.
//!
//! Owns [`Core`]: the writer behind its lock, the published progress, the segments, and the means to
//! wake the threads of a log. Holds no logic but small accessors; the append path is `committer`,
//! the background work `maintenance`, the handle `log`.
//!
//! Locks are taken in this order: the turn to scrub, `maintenance`, `state`, then those inside of a segment, the hot tail
//! and the progress. No lock is held while a batch is written or synced, except that `maintenance` is
//! held while segments are prepared, sealed and dropped.

use std::any::Any;
use std::time::Duration;

use super::progress::Progress;
use crate::config::Config;
use crate::disk::{Disk, Waker, WriteQueue};
use crate::epochs::EpochHistory;
use crate::error::{AppendError, IoFailure};
use crate::scrub::Scrub;
use crate::segments::Segments;
use crate::stats::Counters;
use crate::superblock::SuperblockStore;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::thread::ThreadId;
use crate::sync::{
    Arc, Condvar, Instant, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError, pause, thread,
};
use crate::wal::feed::Feed;
use crate::wal::hot::HotTail;
use crate::wal::steps::Durable;
use crate::wal::writer::Writer;
use crate::watermark::WatermarkStore;
use crate::{Epoch, Lsn};

/// Between two looks whether a lock is free or a thread has ended.
pub(crate) const LOOK_PAUSE: Duration = Duration::from_micros(200);

/// Who is handing writes to the disk at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Driver {
    Nobody,
    /// A thread that appends and waits.
    Appender,
    /// The commit thread.
    CommitThread,
}

/// The writer, and what decides who drives it.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) writer: Writer,
    pub(crate) driver: Driver,
    pub(crate) closed: bool,
    /// The thread that truncates the log; whoever else appends waits for `Core::resumed`.
    pub(crate) paused_by: Option<ThreadId>,
    /// Why buffered records were given up; the next sync says so, once.
    pub(crate) given_up: Option<AppendError>,
    /// How often records were refused after they had been taken, and why the last time.
    pub(crate) refusals: u64,
    pub(crate) refused: Option<AppendError>,
    /// Threads that waited for the last batch or were waiting when it ended: so many are likely to
    /// append again at once.
    pub(crate) expected_waiters: u32,
    /// How long the last write took.
    pub(crate) last_write: Duration,
    /// Kept between completions to save its allocation.
    pub(crate) durable: Vec<Durable>,
}

/// What the background work keeps between its steps.
#[derive(Debug)]
pub(crate) struct Maintenance {
    pub(crate) superblock: SuperblockStore,
    pub(crate) watermark: WatermarkStore,
    /// Numbers of spare files of the right length.
    pub(crate) spares: Vec<u64>,
    /// LSNs of the embedder's checkpoints, the newest first.
    pub(crate) checkpoints: Vec<Lsn>,
    /// The first segment that the engine's newest checkpoint does not list.
    pub(crate) unlisted_segment: u64,
    /// A segment file that was prepared by an earlier life and is of the right length.
    pub(crate) prepared: Option<u64>,
    /// When the log was opened, by the clock that never jumps.
    pub(crate) opened_at_ms: u64,
    /// Whether the way of writing durably still has to be chosen.
    pub(crate) self_test_pending: bool,
    /// Whether the reserve for a fork still has to be made.
    pub(crate) reserve_pending: bool,
    /// What the watermark says, and whether it says so durably.
    pub(crate) noted_lsn: Lsn,
    pub(crate) noted_durably: bool,
    /// When the watermark was last moved; `None` while it stands still.
    pub(crate) noted_at: Option<Instant>,
}

/// See the module.
pub(crate) struct Core {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) config: Config,
    pub(crate) log_id: u128,
    /// What was promised last: changes with a truncation, and with each promise of a replica.
    pub(crate) epoch: AtomicU64,
    /// False when one thread does everything: the background work is then done by the appender.
    pub(crate) has_threads: bool,
    pub(crate) state: Mutex<State>,
    pub(crate) maintenance: Mutex<Maintenance>,
    pub(crate) segments: Segments,
    pub(crate) epochs: Mutex<EpochHistory>,
    pub(crate) hot: HotTail,
    pub(crate) feed: Arc<Feed>,
    /// This life of the process.
    pub(crate) nonce: u128,
    /// Below it records are on a quorum of replicas, as far as this one knows; see [`Core::commit_lsn`].
    pub(crate) commit_lsn: AtomicU64,
    pub(crate) progress: Progress,
    pub(crate) counters: Counters,
    pub(crate) scrub: Scrub,
    /// Held while a checkpoint is written: one at a time. Taken before any other lock.
    pub(crate) checkpointing: Mutex<()>,
    /// Notified, with `state`, when a truncation is over.
    pub(crate) resumed: Condvar,
    pub(crate) background: Signal,
    /// Raised when a segment was begun, or the log stops, to end the background thread's pause.
    pub(crate) begun: Signal,
    /// Raised when the log stops, to end the pauses of the scrub.
    pub(crate) stopped: Signal,
    pub(crate) commit_waker: OnceLock<Arc<dyn Waker>>,
    /// The queue of a log without threads.
    pub(crate) inline_queue: Mutex<Option<Box<dyn WriteQueue>>>,
    pub(crate) commit_sleeps: AtomicBool,
    pub(crate) stop: AtomicBool,
    /// When the disk last answered, or was asked while nothing was on its way; by `Disk::elapsed_ms`.
    pub(crate) answered_ms: AtomicU64,
    /// When it last answered whoever holds `maintenance`, or that was taken; by the same clock.
    pub(crate) maintained_ms: AtomicU64,
    /// Set when the disk has not answered in time: its threads are not waited for any more.
    pub(crate) is_stalled: AtomicBool,
    /// The writer's lock on the directory; released when the log is closed, though readers may live on.
    pub(crate) lock: Mutex<Option<Box<dyn Any + Send + Sync>>>,
}

impl Core {
    pub(crate) fn epoch(&self) -> Epoch {
        Epoch::new(self.epoch.load(Ordering::Acquire))
    }

    /// Below it records are committed: on one node, what is durable.
    pub(crate) fn commit_lsn(&self) -> Lsn {
        if self.config.is_replica {
            Lsn::new(self.commit_lsn.load(Ordering::Acquire))
        } else {
            self.progress.durable_lsn()
        }
    }

    pub(crate) fn set_epoch(&self, epoch: Epoch) {
        self.epoch.store(epoch.get(), Ordering::Release);
    }

    pub(crate) fn lock_state(&self) -> MutexGuard<'_, State> {
        // A panic of another thread cannot leave the writer half changed: its methods assert before
        // they change, and after a failed assertion nothing more must be written.
        match self.state.lock() {
            Ok(state) => state,
            Err(poisoned) => {
                let mut state = poisoned.into_inner();
                state.closed = true;
                state
            }
        }
    }

    pub(crate) fn lock_epochs(&self) -> MutexGuard<'_, EpochHistory> {
        self.epochs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn lock_maintenance(&self) -> MutexGuard<'_, Maintenance> {
        let maintenance = self.maintenance.lock().unwrap_or_else(PoisonError::into_inner);
        self.note_maintained();
        maintenance
    }

    /// The same for somebody who is waited for: see [`Core::lock_in_time`].
    pub(crate) fn lock_maintenance_in_time(
        &self,
    ) -> Result<MutexGuard<'_, Maintenance>, IoFailure> {
        let maintenance = self.lock_in_time(&self.maintenance, &self.maintained_ms)?;
        // Whoever held it may have failed: what memory says of the disk is then not to be relied on.
        self.check_health()?;
        self.note_maintained();
        Ok(maintenance)
    }

    /// Takes a lock that is held while the disk is asked for something. When the disk does not answer
    /// whoever holds it, by `answered_ms`, the log is poisoned.
    pub(crate) fn lock_in_time<'a, T>(
        &self,
        lock: &'a Mutex<T>,
        answered_ms: &AtomicU64,
    ) -> Result<MutexGuard<'a, T>, IoFailure> {
        if self.stall_interval().is_none() {
            return Ok(lock.lock().unwrap_or_else(PoisonError::into_inner));
        }
        let asked_ms = self.disk.elapsed_ms();
        loop {
            match lock.try_lock() {
                Ok(locked) => return Ok(locked),
                Err(TryLockError::Poisoned(poisoned)) => return Ok(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) => {}
            }
            self.check_health()?;
            self.check_silence(asked_ms.max(answered_ms.load(Ordering::Relaxed)))?;
            pause(LOOK_PAUSE);
        }
    }

    /// Poisons the log when the thread panics while the answer lives, so that nobody waits for ever for
    /// a batch whose writer is gone. Taken before any lock.
    pub(crate) fn poison_on_panic(&self) -> PoisonOnPanic<'_> {
        PoisonOnPanic { core: self, was_panicking: thread::panicking() }
    }

    /// Takes note that the disk answers.
    pub(crate) fn note_answer(&self) {
        self.answered_ms.store(self.disk.elapsed_ms(), Ordering::Relaxed);
    }

    /// Takes note that the disk answers whoever holds `maintenance`.
    pub(crate) fn note_maintained(&self) {
        self.maintained_ms.store(self.disk.elapsed_ms(), Ordering::Relaxed);
    }

    /// How often it is looked whether the disk still answers; `None` when it may take for ever.
    pub(crate) fn stall_interval(&self) -> Option<Duration> {
        let deadline = Duration::from_millis(self.config.stall_deadline_ms.into());
        (self.has_threads && !deadline.is_zero()).then(|| deadline / 4)
    }

    /// Poisons the log when somebody has waited for the disk past the deadline.
    pub(crate) fn check_stall(&self) {
        let deadline_ms = u64::from(self.config.stall_deadline_ms);
        if deadline_ms == 0 || self.is_stalled.load(Ordering::SeqCst) {
            return;
        }
        let is_waiting = {
            let state = self.lock_state();
            let is_poisoned = state.writer.poison().is_some();
            !is_poisoned && (state.driver != Driver::Nobody || state.writer.writes_in_flight() > 0)
        };
        let answered_ms = self.answered_ms.load(Ordering::Relaxed);
        let silent_ms = self.disk.elapsed_ms().saturating_sub(answered_ms);
        if is_waiting && silent_ms > deadline_ms {
            self.stall(silent_ms);
        }
    }

    /// Why the log is poisoned, if it is.
    pub(crate) fn check_health(&self) -> Result<(), IoFailure> {
        match self.lock_state().writer.poison() {
            Some(AppendError::Poisoned(failure)) => Err(failure.clone()),
            _ => Ok(()),
        }
    }

    /// Poisons the log when the disk has not answered somebody for longer than the deadline.
    pub(crate) fn check_silence(&self, answered_ms: u64) -> Result<(), IoFailure> {
        let silent_ms = self.disk.elapsed_ms().saturating_sub(answered_ms);
        if silent_ms > u64::from(self.config.stall_deadline_ms) {
            return Err(self.stall(silent_ms));
        }
        Ok(())
    }

    fn stall(&self, silent_ms: u64) -> IoFailure {
        self.is_stalled.store(true, Ordering::SeqCst);
        let what = format!("the disk has not answered for {silent_ms} ms");
        let error = std::io::Error::new(std::io::ErrorKind::TimedOut, what);
        let failure = IoFailure::new("write to", &self.disk.describe(), error);
        self.fail(failure.clone());
        failure
    }

    /// Wakes the commit thread, if it sleeps.
    pub(crate) fn kick_commit_thread(&self) {
        // Looked at first, for appenders do not have to pass it around while it is awake.
        if self.commit_sleeps.load(Ordering::SeqCst)
            && self.commit_sleeps.swap(false, Ordering::SeqCst)
            && let Some(waker) = self.commit_waker.get()
        {
            waker.wake();
        }
    }
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core")
            .field("disk", &self.disk.describe())
            .field("epoch", &self.epoch())
            .field("durable_lsn", &self.progress.durable_lsn())
            .finish_non_exhaustive()
    }
}

/// See [`Core::poison_on_panic`].
#[must_use]
pub(crate) struct PoisonOnPanic<'a> {
    core: &'a Core,
    /// A destructor that appends while its own thread unwinds is no fault of the log.
    was_panicking: bool,
}

impl Drop for PoisonOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() && !self.was_panicking {
            let error = std::io::Error::other("a thread of the log panicked");
            self.core.fail(IoFailure::new("run", &self.core.disk.describe(), error));
        }
    }
}

/// A flag that one thread waits for.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    /// Set without the lock, so that raising a raised signal costs one load.
    raised: AtomicBool,
    lock: Mutex<()>,
    changed: Condvar,
}

impl Signal {
    pub(crate) fn raise(&self) {
        if !self.raised.swap(true, Ordering::SeqCst) {
            drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner));
            self.changed.notify_all();
        }
    }

    /// Waits until the signal is raised, but at most so long.
    pub(crate) fn wait_timeout(&self, timeout: Duration) {
        let guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.raised.load(Ordering::SeqCst) {
            let waited = self.changed.wait_timeout(guard, timeout);
            drop(waited.unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// Lowers the signal; whether it was raised.
    pub(crate) fn take(&self) -> bool {
        self.raised.swap(false, Ordering::SeqCst)
    }
}
