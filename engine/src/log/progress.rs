//! How far the log is durable, and waiting for it to get further.
//!
//! Owns the published `durable_lsn`. It is moved by the committer alone, and never back.
//!
//! Threads: one publishes, any read and wait.

use std::task::{Context, Waker};
use std::time::Duration;

use crate::Lsn;
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::sync::{Futex, Instant, Mutex, PoisonError};

/// See the module.
#[derive(Debug)]
pub(crate) struct Progress {
    durable_lsn: AtomicU64,
    /// Changes with every change of anything that a waiter may wait for.
    generation: Futex,
    waiting_threads: AtomicU32,
    waiting_tasks: Mutex<Vec<Waker>>,
    tasks_are_waiting: AtomicU32,
}

impl Progress {
    pub(crate) fn new(durable_lsn: Lsn) -> Progress {
        Progress {
            durable_lsn: AtomicU64::new(durable_lsn.get()),
            generation: Futex::default(),
            waiting_threads: AtomicU32::new(0),
            waiting_tasks: Mutex::default(),
            tasks_are_waiting: AtomicU32::new(0),
        }
    }

    pub(crate) fn durable_lsn(&self) -> Lsn {
        Lsn::new(self.durable_lsn.load(Ordering::Acquire))
    }

    /// Publishes that everything below `durable_lsn` is durable.
    pub(crate) fn advance(&self, durable_lsn: Lsn) {
        let before = self.durable_lsn.swap(durable_lsn.get(), Ordering::AcqRel);
        assert!(before <= durable_lsn.get(), "durable_lsn never goes back");
        self.notify();
    }

    /// Wakes everybody who waits, to look again.
    pub(crate) fn notify(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
        if self.waiting_threads.load(Ordering::SeqCst) > 0 {
            self.generation.wake_all();
        }
        if self.tasks_are_waiting.swap(0, Ordering::SeqCst) > 0 {
            let tasks = std::mem::take(
                &mut *self.waiting_tasks.lock().unwrap_or_else(PoisonError::into_inner),
            );
            for task in tasks {
                task.wake();
            }
        }
    }

    /// Blocks until `ready` answers, or the deadline is over (`None`).
    pub(crate) fn wait<T>(
        &self,
        deadline: Option<Instant>,
        mut ready: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        self.waiting_threads.fetch_add(1, Ordering::SeqCst);
        let answer = loop {
            let generation = self.generation.load(Ordering::SeqCst);
            if let Some(answer) = ready() {
                break Some(answer);
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                break None;
            }
            // A time-out, a signal or a change: look again.
            let _ = self.generation.wait(generation, left);
        };
        self.waiting_threads.fetch_sub(1, Ordering::SeqCst);
        answer
    }

    /// Has a task woken at the next change. The caller looks again after this.
    pub(crate) fn register(&self, context: &Context<'_>) {
        let mut tasks = self.waiting_tasks.lock().unwrap_or_else(PoisonError::into_inner);
        if !tasks.iter().any(|task| task.will_wake(context.waker())) {
            tasks.push(context.waker().clone());
        }
        self.tasks_are_waiting.store(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn waiters_are_woken_and_time_out() {
        let progress = Arc::new(Progress::new(Lsn::new(5)));
        let waiter = {
            let progress = Arc::clone(&progress);
            std::thread::spawn(move || {
                let reached = || (progress.durable_lsn() >= Lsn::new(7)).then_some(());
                progress.wait(None, reached)
            })
        };
        progress.advance(Lsn::new(6));
        progress.advance(Lsn::new(7));
        assert_eq!(waiter.join().unwrap(), Some(()));
        let soon = Instant::now() + Duration::from_millis(5);
        assert_eq!(progress.wait(Some(soon), || None::<()>), None);
    }
}
