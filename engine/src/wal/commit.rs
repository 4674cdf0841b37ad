//! Where those who wait for a batch meet: one futex word for each batch.
//!
//! Owns waiting for and announcing the end of a batch, and of several. Does not decide when a batch is durable
//! (`writer`), nor who writes it (`committer`).
//!
//! Invariants
//!  C1. `DURABLE` and `FAILED` are final.                           asserted in `finish`
//!  C2. Whoever waits is woken by the end of its own batch only, or to lead its write; nobody takes a
//!      lock after waking.
//!  C3. A failure is stored before `FAILED` is seen.
//!
//! Threads: any.

use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::AppendError;
use crate::error::IoFailure;
use crate::sync::atomic::Ordering;
use crate::sync::{Arc, Futex, Mutex, MutexGuard, OnceLock, PoisonError};

const PENDING: u32 = 0;
const DURABLE: u32 = 1;
const FAILED: u32 = 2;
/// Pending, and one of the waiters is asked to lead the write.
const LEAD: u32 = 3;

/// The end of one batch, to be waited for by any number of threads and tasks.
#[derive(Debug, Default)]
pub(crate) struct Commit {
    state: Futex,
    failure: OnceLock<AppendError>,
    tasks: Mutex<Vec<Waker>>,
}

/// What ended a wait.
#[derive(Debug)]
pub(crate) enum Wake {
    /// The batch ended so.
    Ended(Result<(), AppendError>),
    /// The waiter is asked to lead; see [`Commit::accept_lead`].
    Lead,
    /// Nothing happened for so long.
    TimedOut,
}

impl Commit {
    /// How the batch ended; `None` while it has not.
    pub(crate) fn ended(&self) -> Option<Result<(), AppendError>> {
        match self.state.load(Ordering::Acquire) {
            DURABLE => Some(Ok(())),
            FAILED => Some(Err(self.failure.get().expect("stored before the state").clone())),
            _ => None,
        }
    }

    /// Blocks until the batch ends, somebody is asked to lead, or the time is over.
    pub(crate) fn wait(&self, timeout: Option<Duration>) -> Wake {
        loop {
            if let Some(ended) = self.ended() {
                return Wake::Ended(ended);
            }
            if self.state.load(Ordering::Acquire) == LEAD {
                return Wake::Lead;
            }
            if self.state.wait(PENDING, timeout) {
                return Wake::TimedOut;
            }
        }
    }

    /// Asks one waiter to lead. Without effect when the batch has ended.
    pub(crate) fn ask_to_lead(&self) {
        let asked = self.state.compare_exchange(PENDING, LEAD, Ordering::AcqRel, Ordering::Acquire);
        if asked.is_ok() {
            self.state.wake_one();
        }
    }

    /// Takes the request to lead back; called by the waiter that was asked, before it looks whether it
    /// still has to. False when another waiter took it, or the batch ended.
    pub(crate) fn accept_lead(&self) -> bool {
        self.state.compare_exchange(LEAD, PENDING, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Ends the batch and wakes everybody.
    pub(crate) fn finish(&self, result: Result<(), AppendError>) {
        let state = match result {
            Ok(()) => DURABLE,
            Err(error) => {
                // A batch ends once, so the cell is empty.
                let _ = self.failure.set(error);
                FAILED
            }
        };
        let before = self.state.swap(state, Ordering::AcqRel);
        assert!(before == PENDING || before == LEAD, "a batch ends once");
        self.state.wake_all();
        let tasks = std::mem::take(&mut *self.tasks());
        for task in tasks {
            task.wake();
        }
    }

    /// Looks for the end on behalf of a task, which is woken when it comes.
    pub(crate) fn poll(&self, context: &Context<'_>) -> Poll<Result<(), AppendError>> {
        if let Some(ended) = self.ended() {
            return Poll::Ready(ended);
        }
        let mut tasks = self.tasks();
        if !tasks.iter().any(|task| task.will_wake(context.waker())) {
            tasks.push(context.waker().clone());
        }
        drop(tasks);
        // The end may have come before the task was listed.
        self.ended().map_or(Poll::Pending, Poll::Ready)
    }

    fn tasks(&self) -> MutexGuard<'_, Vec<Waker>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Commits that ended, to be finished outside of the lock: when this is dropped, at the latest, so that
/// a driver that panics leaves nobody waiting.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    commits: Vec<(Arc<Commit>, Result<(), AppendError>)>,
}

impl Ended {
    pub(crate) fn add(&mut self, commit: Arc<Commit>, result: Result<(), AppendError>) {
        self.commits.push((commit, result));
    }

    pub(crate) fn has(&self, commit: &Arc<Commit>) -> bool {
        self.commits.iter().any(|(ended, _)| Arc::ptr_eq(ended, commit))
    }

    /// Before the disk is asked for anything: whoever is to hear how a batch ended is not to wait for
    /// another answer, which may never come.
    pub(crate) fn finish(&mut self) {
        for (commit, result) in self.commits.drain(..) {
            commit.finish(result);
        }
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Not what the driver was about to say: it did not come to that.
            let error = std::io::Error::other("a thread of the log panicked");
            let failure = IoFailure::new("end", "a batch", error);
            for (_, result) in &mut self.commits {
                *result = Err(AppendError::Poisoned(failure.clone()));
            }
        }
        self.finish();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;
    use std::task::Wake as TaskWake;

    #[test]
    fn everybody_hears_the_end() {
        let commit = Arc::new(Commit::default());
        let waiters: Vec<_> = (0..4)
            .map(|_| {
                let commit = Arc::clone(&commit);
                std::thread::spawn(move || commit.wait(None))
            })
            .collect();
        commit.finish(Err(AppendError::Closed));
        for waiter in waiters {
            let wake = waiter.join().unwrap();
            assert!(matches!(wake, Wake::Ended(Err(AppendError::Closed))));
        }
    }

    #[test]
    fn one_is_asked_to_lead() {
        let commit = Arc::new(Commit::default());
        commit.ask_to_lead();
        assert!(matches!(commit.wait(None), Wake::Lead));
        assert!(commit.accept_lead());
        assert!(!commit.accept_lead());
        commit.finish(Ok(()));
        commit.ask_to_lead();
        assert!(matches!(commit.wait(None), Wake::Ended(Ok(()))));
    }

    struct Flag(AtomicBool);

    impl TaskWake for Flag {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_task_is_woken() {
        let commit = Commit::default();
        let flag = Arc::new(Flag(AtomicBool::new(false)));
        let waker = Waker::from(Arc::clone(&flag));
        let context = Context::from_waker(&waker);
        assert!(commit.poll(&context).is_pending());
        commit.finish(Ok(()));
        assert!(flag.0.load(Ordering::SeqCst));
        assert!(commit.poll(&context).is_ready());
    }
}
