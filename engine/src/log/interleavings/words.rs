//! Every interleaving of the parts of the hand-over: `Commit`, `Progress`, `Signal`, and the blocking
//! queue with its waker.
//!
//! Owns the smallest crowds in which each of them can go wrong. Threads: two to four of the checker.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use shuttle::future::block_on;

use super::bounded::Cost;
use super::every;
use crate::disk::{BlockingQueue, WriteQueue};
use crate::log::core::Signal;
use crate::log::progress::Progress;
use crate::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use crate::sync::{Arc, Mutex, thread};
use crate::wal::commit::{Commit, Wake};
use crate::{AppendError, Lsn};

/// Long enough to time out, in the model.
const SOON: Option<Duration> = Some(Duration::from_millis(1));

fn shared<T: Default>() -> (Arc<T>, Arc<T>, Arc<T>) {
    let one: Arc<T> = Arc::default();
    (Arc::clone(&one), Arc::clone(&one), one)
}

/// Waits as an appender does, and ends the batch when asked to lead: its write is left out. The lock is
/// the one that says that nobody drives.
fn wait_and_lead(commit: &Commit, ends: &Mutex<u32>, timeout: Option<Duration>) {
    loop {
        match commit.wait(timeout) {
            Wake::Ended(ended) => return ended.expect("it ends well"),
            Wake::TimedOut => {}
            Wake::Lead if !commit.accept_lead() => {}
            Wake::Lead => {
                let mut ends = ends.lock().expect("nobody panics");
                if commit.ended().is_none() {
                    *ends += 1;
                    commit.finish(Ok(()));
                }
            }
        }
    }
}

#[test]
fn the_end_reaches_all_who_wait() {
    every("two waiters and the end", Cost::Preemption, 3, || {
        let (one, other, commit) = shared::<Commit>();
        let waits = thread::spawn(move || one.wait(None));
        let waits_too = thread::spawn(move || other.wait(None));
        commit.finish(Err(AppendError::Closed));
        for waiter in [waits, waits_too] {
            let wake = waiter.join().expect("nobody panics");
            assert!(matches!(wake, Wake::Ended(Err(AppendError::Closed))));
        }
    });
}

#[test]
fn somebody_leads() {
    every("two waiters, one asked to lead", Cost::Preemption, 3, || {
        let (one, other, commit) = shared::<Commit>();
        let (first, second, ends) = shared::<Mutex<u32>>();
        let waits = thread::spawn(move || wait_and_lead(&one, &first, None));
        let waits_too = thread::spawn(move || wait_and_lead(&other, &second, None));
        commit.ask_to_lead();
        waits.join().expect("nobody panics");
        waits_too.join().expect("nobody panics");
        assert_eq!(*ends.lock().expect("nobody panics"), 1);
    });
}

#[test]
fn a_request_outlives_a_time_out() {
    every("one waiter that times out, asked to lead", Cost::Preemption, 3, || {
        let (one, _, commit) = shared::<Commit>();
        let (first, _, ends) = shared::<Mutex<u32>>();
        let waits = thread::spawn(move || wait_and_lead(&one, &first, SOON));
        commit.ask_to_lead();
        waits.join().expect("nobody panics");
        assert_eq!(*ends.lock().expect("nobody panics"), 1);
    });
}

#[test]
fn a_request_outlives_the_time_out_of_whom_it_woke() {
    // The one that sleeps for ever must lead when the wake went to the one whose time was over.
    every("a waiter that gives up, and one that does not", Cost::Preemption, 2, || {
        let (one, other, commit) = shared::<Commit>();
        let (_, second, ends) = shared::<Mutex<u32>>();
        let gives_up = thread::spawn(move || match one.wait(SOON) {
            // What `wait_or_lead` does with it.
            Wake::Lead => one.accept_lead().then(|| one.ask_to_lead()).is_some(),
            Wake::TimedOut | Wake::Ended(_) => false,
        });
        let waits = thread::spawn(move || wait_and_lead(&other, &second, None));
        commit.ask_to_lead();
        waits.join().expect("nobody panics");
        gives_up.join().expect("nobody panics");
        assert_eq!(*ends.lock().expect("nobody panics"), 1);
    });
}

#[test]
fn a_request_meets_the_end() {
    every("one asked to lead while the batch ends", Cost::Preemption, 3, || {
        let (one, other, commit) = shared::<Commit>();
        let (first, second, ends) = shared::<Mutex<u32>>();
        let waits = thread::spawn(move || wait_and_lead(&one, &first, None));
        let finishes = thread::spawn(move || {
            let mut ends = second.lock().expect("nobody panics");
            if other.ended().is_none() {
                *ends += 1;
                other.finish(Ok(()));
            }
        });
        commit.ask_to_lead();
        waits.join().expect("nobody panics");
        finishes.join().expect("nobody panics");
        assert_eq!(*ends.lock().expect("nobody panics"), 1);
        assert!(!commit.accept_lead(), "a request does not outlive the batch");
    });
}

#[test]
fn the_end_reaches_a_task() {
    every("a task, a thread and the end", Cost::Preemption, 3, || {
        let (one, other, commit) = shared::<Commit>();
        let task = thread::spawn(move || block_on(poll_fn(|context| one.poll(context))));
        let waits = thread::spawn(move || other.wait(None));
        commit.finish(Err(AppendError::Closed));
        assert!(matches!(task.join().expect("nobody panics"), Err(AppendError::Closed)));
        let wake = waits.join().expect("nobody panics");
        assert!(matches!(wake, Wake::Ended(Err(AppendError::Closed))));
    });
}

#[test]
fn a_task_that_is_asked_to_lead_hears_the_end() {
    // It never leads, but the request must not hide the end from it.
    every("a task of a batch that is asked to lead", Cost::Preemption, 3, || {
        let (one, other, commit) = shared::<Commit>();
        let task = thread::spawn(move || block_on(poll_fn(|context| one.poll(context))));
        let asks = thread::spawn(move || other.ask_to_lead());
        commit.finish(Ok(()));
        assert!(task.join().expect("nobody panics").is_ok());
        asks.join().expect("nobody panics");
    });
}

#[test]
fn progress_reaches_a_thread() {
    every("a thread waits for the second of two steps", Cost::Preemption, 3, || {
        let progress = Arc::new(Progress::new(Lsn::new(1)));
        let waiter = {
            let progress = Arc::clone(&progress);
            thread::spawn(move || {
                let reached = || (progress.durable_lsn() >= Lsn::new(3)).then_some(());
                progress.wait(None, reached)
            })
        };
        progress.advance(Lsn::new(2));
        progress.advance(Lsn::new(3));
        assert_eq!(waiter.join().expect("nobody panics"), Some(()));
    });
}

#[test]
fn progress_reaches_tasks() {
    every("two tasks wait for one step", Cost::Preemption, 3, || {
        let progress = Arc::new(Progress::new(Lsn::new(1)));
        let tasks = [(); 2].map(|()| {
            let progress = Arc::clone(&progress);
            thread::spawn(move || {
                block_on(poll_fn(|context| {
                    // As a tail does: look, register, look again.
                    progress.register(context);
                    let reached = progress.durable_lsn() >= Lsn::new(2);
                    if reached { Poll::Ready(()) } else { Poll::Pending }
                }));
            })
        });
        progress.advance(Lsn::new(2));
        for task in tasks {
            task.join().expect("nobody panics");
        }
    });
}

#[test]
fn no_signal_is_lost() {
    every("two raise a signal", Cost::Preemption, 3, || {
        let signal: Arc<Signal> = Arc::default();
        let work: Arc<AtomicU32> = Arc::default();
        let raisers = [(); 2].map(|()| {
            let (signal, work) = (Arc::clone(&signal), Arc::clone(&work));
            thread::spawn(move || {
                work.fetch_add(1, Ordering::SeqCst);
                signal.raise();
            })
        });
        let mut seen = 0;
        while seen < 2 {
            signal.wait_timeout(Duration::MAX);
            if signal.take() {
                seen = work.load(Ordering::SeqCst);
            }
        }
        for raiser in raisers {
            raiser.join().expect("nobody panics");
        }
    });
}

#[test]
fn a_waker_ends_a_wait() {
    every("the blocking queue and its waker", Cost::Preemption, 3, || {
        let mut queue = BlockingQueue::new();
        let waker = queue.waker();
        let is_there: Arc<AtomicBool> = Arc::default();
        let wakes = {
            let is_there = Arc::clone(&is_there);
            thread::spawn(move || {
                waker.wake();
                is_there.store(true, Ordering::SeqCst);
                waker.wake();
            })
        };
        while !is_there.load(Ordering::SeqCst) {
            queue.wait(&mut Vec::new(), None).expect("nothing fails");
        }
        wakes.join().expect("nobody panics");
    });
}
