//! How far the log is durable, and waiting for it to get further.
//!
//! Owns the published `durable_lsn`. It is moved on by the committer alone, and back by a truncation alone,
//! which readers hear of by [`Progress::truncated_below`].
//!
//! Threads: one publishes, any read and wait.

use std::collections::VecDeque;
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
    /// Truncations so far.
    truncations: AtomicU64,
    /// The newest of them: number and LSN, with both growing from front to back.
    cuts: Mutex<VecDeque<(u64, Lsn)>>,
}

/// So many truncations are remembered; a reader that is older than the oldest of them begins again.
const CUTS_MAX: usize = 64;

impl Progress {
    pub(crate) fn new(durable_lsn: Lsn) -> Progress {
        Progress {
            durable_lsn: AtomicU64::new(durable_lsn.get()),
            generation: Futex::default(),
            waiting_threads: AtomicU32::new(0),
            waiting_tasks: Mutex::default(),
            tasks_are_waiting: AtomicU32::new(0),
            truncations: AtomicU64::new(0),
            cuts: Mutex::default(),
        }
    }

    /// Truncations so far.
    pub(crate) fn truncations(&self) -> u64 {
        self.truncations.load(Ordering::Acquire)
    }

    /// Publishes a truncation to `lsn`: readers behind it must begin again. What is durable goes back to
    /// `durable_lsn`, and comes up to `lsn` again when records in front of the cut are restored.
    pub(crate) fn truncate(&self, lsn: Lsn, durable_lsn: Lsn) {
        let mut cuts = self.cuts.lock().unwrap_or_else(PoisonError::into_inner);
        let number = self.truncations() + 1;
        while cuts.back().is_some_and(|(_, earlier)| *earlier >= lsn) {
            cuts.pop_back();
        }
        cuts.push_back((number, lsn));
        if cuts.len() > CUTS_MAX {
            // The next one speaks for it as well, at its lower LSN.
            let (_, lowest) = cuts.pop_front().expect("there are many");
            cuts[0].1 = lowest;
        }
        self.durable_lsn.store(durable_lsn.get(), Ordering::Release);
        self.truncations.store(number, Ordering::Release);
        drop(cuts);
        self.notify();
    }

    /// The lowest LSN that a truncation after the first `seen` ones went back to.
    pub(crate) fn truncated_below(&self, seen: u64) -> Option<Lsn> {
        let cuts = self.cuts.lock().unwrap_or_else(PoisonError::into_inner);
        cuts.iter().find(|(number, _)| *number > seen).map(|(_, lsn)| *lsn)
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

    #[test]
    fn of_many_truncations_the_oldest_are_remembered_as_one() {
        let progress = Progress::new(Lsn::new(1000));
        let truncations = CUTS_MAX as u64 * 2;
        for number in 0..truncations {
            let lsn = Lsn::new(100 + number);
            progress.truncate(lsn, lsn);
        }
        assert_eq!(progress.cuts.lock().unwrap().len(), CUTS_MAX);
        for seen in 0..truncations {
            let lowest = progress.truncated_below(seen).expect("there was one since").get();
            // Never above what it is, and exact for those that are not among the oldest.
            assert!(lowest <= 100 + seen, "{seen}: {lowest}");
            assert!(lowest == 100 + seen || seen <= truncations - CUTS_MAX as u64, "{seen}");
        }
        assert_eq!(progress.truncated_below(truncations), None);
        progress.truncate(Lsn::new(50), Lsn::new(50));
        assert_eq!(progress.truncated_below(truncations), Some(Lsn::new(50)));
        assert_eq!(progress.truncated_below(0), Some(Lsn::new(50)));
    }
}
