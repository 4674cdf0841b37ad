//! A log and the state that its records make: recovery is the newest checkpoint plus the records after it.
//!
//! Owns [`StateLog`]: restoring and replaying on open, applying records in LSN order when they are
//! durable, and taking checkpoints every so many bytes or seconds in a thread of its own. What a
//! checkpoint is on disk: `checkpoint`. Does not know what the state means.
//!
//! Invariants
//!  L1. A record is applied once, in LSN order, and only when it is durable.   asserted in `catch_up`
//!  L2. A checkpoint at LSN n holds the records below n and no other: it is saved while nothing is
//!      applied.                                     test `a_checkpoint_is_at_an_exact_lsn`
//!
//! Threads: any number of appenders and readers; one that takes checkpoints.
//! Crash: as for the log and its checkpoints.

use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::disk::Disk;
use crate::error::{AppendError, ChangeError, OpenError, ReadError};
use crate::log::core::Signal;
use crate::{Config, Log, Lsn, LsnRange, RecordRef, RecoveryReport};

/// How often it is looked whether a checkpoint is due.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// What the records of a log make, in memory.
pub trait StateMachine: Send + Sync {
    /// Takes a record in. It is durable; records come in LSN order, each once.
    ///
    /// # Errors
    /// When the record is none of this state machine's. The [`StateLog`] then stops applying and says so
    /// with every call: a state that leaves a record out would be wrong without a word.
    fn apply(&mut self, record: &RecordRef<'_>) -> io::Result<()>;

    /// Writes the whole state. Nothing is applied meanwhile, but reads go on.
    ///
    /// # Errors
    /// Those of `out`; the checkpoint is then not taken.
    fn save(&self, out: &mut dyn Write) -> io::Result<()>;

    /// Replaces the whole state by one that was saved. Its bytes were checked; to read all of them is up
    /// to this.
    ///
    /// # Errors
    /// When they are no state of this kind.
    fn restore(&mut self, input: &mut dyn Read) -> io::Result<()>;
}

/// When checkpoints are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointPolicy {
    /// After so many bytes of batches were appended. Default: 256 MiB.
    pub every_bytes: Option<u64>,
    /// After so many seconds, if anything was appended. Default: none.
    pub every_seconds: Option<u64>,
    /// Whether whole segments before the oldest checkpoint kept are dropped. Default: true.
    pub trims: bool,
}

impl Default for CheckpointPolicy {
    fn default() -> CheckpointPolicy {
        CheckpointPolicy { every_bytes: Some(256 << 20), every_seconds: None, trims: true }
    }
}

/// Why a [`StateLog`] could not do what it was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// The log does not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The append failed; see there whether the record may be in the log.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// Records or checkpoints could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The checkpoint was not taken; those before it are there.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// The state machine did not take the record. It is durable, and nothing behind it is applied.
    #[error("the record at LSN {lsn} was not applied: {reason}")]
    Apply {
        /// The record.
        lsn: Lsn,
        /// What the state machine said.
        reason: String,
    },
    /// The state machine did not take the checkpoint.
    #[error("the checkpoint at LSN {lsn} was not restored: {reason}")]
    Restore {
        /// The checkpoint.
        lsn: Lsn,
        /// What the state machine said.
        reason: String,
    },
}

/// What an open did to get the state back.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StateReport {
    /// What happened to the log.
    pub recovery: RecoveryReport,
    /// The checkpoint that was restored; `None` when there was none.
    pub checkpoint_lsn: Option<Lsn>,
    /// Checkpoints that are damaged and were passed over.
    pub passed_over: Vec<String>,
    /// Records applied after it.
    pub records_replayed: u64,
}

struct Applied<S> {
    state: S,
    /// Everything below it was applied.
    next: Lsn,
    /// Why nothing more is applied.
    stuck: Option<String>,
}

struct Shared<S> {
    log: Log,
    policy: CheckpointPolicy,
    applied: RwLock<Applied<S>>,
    /// What the log had appended, and when, at the last checkpoint.
    bytes_before: AtomicU64,
    taken_at: Mutex<Instant>,
    /// Why the last checkpoint of the background was not taken.
    failure: Mutex<Option<String>>,
    signal: Signal,
    stops: AtomicBool,
}

/// See the module. The complete example is `engine/examples/kv.rs`.
pub struct StateLog<S> {
    shared: Arc<Shared<S>>,
    thread: Option<JoinHandle<()>>,
}

impl<S: StateMachine + 'static> StateLog<S> {
    /// Opens the log in a directory and brings `state`, which is empty, up to its end.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn open(
        directory: impl AsRef<Path>,
        config: Config,
        policy: CheckpointPolicy,
        state: S,
    ) -> Result<(StateLog<S>, StateReport), StateError> {
        let (log, recovery) = Log::open(directory, config)?;
        let (shared, report) = Shared::restored(log, recovery, policy, state)?;
        let shared = Arc::new(shared);
        let background = Arc::clone(&shared);
        let spawned = std::thread::Builder::new()
            .name("cairnlog-checkpoint".to_owned())
            .spawn(move || background.run());
        let thread = spawned
            .map_err(|error| OpenError::from(crate::IoFailure::new("start", "a thread", error)))?;
        Ok((StateLog { shared, thread: Some(thread) }, report))
    }

    /// The same on any disk, such as a simulated one, and without threads: a checkpoint that is due is
    /// taken by the append that makes it so.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn open_on(
        disk: Arc<dyn Disk>,
        config: Config,
        policy: CheckpointPolicy,
        state: S,
    ) -> Result<(StateLog<S>, StateReport), StateError> {
        let (log, recovery) = Log::open_on(disk, config)?;
        let (shared, report) = Shared::restored(log, recovery, policy, state)?;
        Ok((StateLog { shared: Arc::new(shared), thread: None }, report))
    }

    /// Appends a record; when this returns it is durable and applied.
    ///
    /// # Errors
    /// [`StateError::Append`], or [`StateError::Apply`] and [`StateError::Read`] when it is durable and
    /// was not applied.
    pub fn append(&self, record: &[u8]) -> Result<Lsn, StateError> {
        Ok(self.append_batch(&[record])?.start)
    }

    /// Appends records as one; when this returns all are durable and applied.
    ///
    /// # Errors
    /// As for [`StateLog::append`].
    pub fn append_batch<R: AsRef<[u8]>>(&self, records: &[R]) -> Result<LsnRange, StateError> {
        let shared = &self.shared;
        let lsns = shared.log.append_batch(records)?;
        shared.catch_up(lsns.end)?;
        if shared.is_due() {
            match &self.thread {
                Some(_) => shared.signal.raise(),
                None => shared.note_outcome(shared.checkpoint().map(drop)),
            }
        }
        Ok(lsns)
    }

    /// Looks at the state, with every record applied whose append has returned.
    pub fn read<T>(&self, look: impl FnOnce(&S) -> T) -> T {
        look(&self.shared.lock_read().state)
    }

    /// Everything below it is applied.
    #[must_use]
    pub fn applied_lsn(&self) -> Lsn {
        self.shared.lock_read().next
    }

    /// Takes a checkpoint now; its LSN.
    ///
    /// # Errors
    /// [`StateError::Change`].
    pub fn checkpoint(&self) -> Result<Lsn, StateError> {
        self.shared.checkpoint()
    }

    /// Why the last checkpoint that was due in the background was not taken; `None` when it was. It is
    /// tried again with the next one. Worth an alarm: the log grows, and the next open takes longer.
    #[must_use]
    pub fn checkpoint_failure(&self) -> Option<String> {
        self.shared.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The log itself, to read from. What is appended to it directly is applied with the next append
    /// made here. Do not truncate it below [`StateLog::applied_lsn`]: the state cannot take records back;
    /// close this, truncate the log, and open it again.
    #[must_use]
    pub fn log(&self) -> &Log {
        &self.shared.log
    }

    /// Ends the checkpoints and closes the log.
    ///
    /// # Errors
    /// As for [`Log::close`].
    pub fn close(mut self) -> Result<(), StateError> {
        self.stop();
        let synced = self.shared.log.sync().map(drop);
        drop(self);
        Ok(synced?)
    }
}

impl<S> StateLog<S> {
    fn stop(&mut self) {
        self.shared.stops.store(true, Ordering::SeqCst);
        self.shared.signal.raise();
        if let Some(thread) = self.thread.take() {
            // One that panicked has said so.
            let _ = thread.join();
        }
    }
}

impl<S> Drop for StateLog<S> {
    fn drop(&mut self) {
        self.stop();
    }
}

impl<S> std::fmt::Debug for StateLog<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StateLog").field("log", &self.shared.log).finish_non_exhaustive()
    }
}

impl<S: StateMachine> Shared<S> {
    /// Brings an empty state up to the end of the log.
    fn restored(
        log: Log,
        recovery: RecoveryReport,
        policy: CheckpointPolicy,
        mut state: S,
    ) -> Result<(Shared<S>, StateReport), StateError> {
        let mut report = StateReport {
            recovery,
            checkpoint_lsn: None,
            passed_over: Vec::new(),
            records_replayed: 0,
        };
        let mut next = log.first_lsn();
        if let Some(mut checkpoint) = log.newest_checkpoint()? {
            next = checkpoint.lsn();
            report.checkpoint_lsn = Some(next);
            report.passed_over = checkpoint.passed_over().to_vec();
            state
                .restore(&mut checkpoint)
                .map_err(|e| StateError::Restore { lsn: next, reason: e.to_string() })?;
        }
        let end = log.durable_lsn();
        report.records_replayed = end.since(next);
        let shared = Shared {
            log,
            policy,
            applied: RwLock::new(Applied { state, next, stuck: None }),
            bytes_before: AtomicU64::new(0),
            taken_at: Mutex::new(Instant::now()),
            failure: Mutex::new(None),
            signal: Signal::default(),
            stops: AtomicBool::new(false),
        };
        shared.catch_up(end)?;
        Ok((shared, report))
    }

    fn lock_read(&self) -> RwLockReadGuard<'_, Applied<S>> {
        self.applied.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Applies what is durable, at least up to `end`.
    fn catch_up(&self, end: Lsn) -> Result<(), StateError> {
        let mut applied = self.applied.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(reason) = &applied.stuck {
            return Err(StateError::Apply { lsn: applied.next, reason: reason.clone() });
        }
        if applied.next >= end {
            return Ok(());
        }
        let mut records = self.log.iter(applied.next..)?;
        while let Some(record) = records.next_ref()? {
            assert_eq!(record.lsn, applied.next, "records come in LSN order, each once");
            if let Err(error) = applied.state.apply(&record) {
                applied.stuck = Some(error.to_string());
                return Err(StateError::Apply { lsn: record.lsn, reason: error.to_string() });
            }
            applied.next = record.lsn.next();
        }
        assert!(applied.next >= end, "what was acknowledged can be read");
        Ok(())
    }

    fn appended_bytes(&self) -> u64 {
        self.log.batch_bytes()
    }

    fn is_due(&self) -> bool {
        let bytes = self.appended_bytes() - self.bytes_before.load(Ordering::Relaxed);
        let taken_at = *self.taken_at.lock().unwrap_or_else(PoisonError::into_inner);
        self.policy.every_bytes.is_some_and(|due| bytes >= due)
            || bytes > 0
                && self.policy.every_seconds.is_some_and(|due| taken_at.elapsed().as_secs() >= due)
    }

    /// Takes a checkpoint of everything applied, and drops what it makes unnecessary.
    fn checkpoint(&self) -> Result<Lsn, StateError> {
        let bytes = self.appended_bytes();
        let applied = self.lock_read();
        let lsn = applied.next;
        self.log.checkpoint(lsn, |out| applied.state.save(out))?;
        drop(applied);
        self.bytes_before.store(bytes, Ordering::Relaxed);
        *self.taken_at.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        // The oldest checkpoint kept is the limit.
        if self.policy.trims {
            self.log.trim(lsn)?;
        }
        Ok(lsn)
    }

    fn note_outcome(&self, outcome: Result<(), StateError>) {
        let failure = outcome.err().map(|error| error.to_string());
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = failure;
    }

    /// The thread that takes checkpoints.
    fn run(&self) {
        while !self.stops.load(Ordering::SeqCst) {
            self.signal.wait_timeout(LOOK_INTERVAL);
            self.signal.take();
            if !self.stops.load(Ordering::SeqCst) && self.is_due() {
                self.note_outcome(self.checkpoint().map(drop));
            }
        }
    }
}
