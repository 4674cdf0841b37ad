//! The seam under the model checker: every call is a place where another thread may go on.
//!
//! Owns what the checker lacks: a futex, waits whose time may be over, and a clock that is the same in
//! every run of a schedule. Atomics are sequentially consistent here whatever they ask for: what a weaker
//! order would allow is not looked at.
//!
//! Invariants
//!  - A wake of one goes to a thread that slept before it; whoever was woken has not timed out: as the
//!    kernel does it.
//!  - A wait with a time may end at any moment, as a thread of its own ends it; and at each word only
//!    [`TIMEOUTS_MAX`] do. What only a time-out would mend is so found as a deadlock.
//!
//! Bounds: as above, so that a search ends. Threads: those of the checker.

use std::cell::Cell;
use std::collections::VecDeque;
use std::ops::{Add, Deref};
use std::sync::atomic::{AtomicU32 as Plain, Ordering};
use std::sync::{Arc, LockResult};
use std::time::Duration;

pub(crate) use shuttle::sync::{Mutex, MutexGuard, RwLock, WaitTimeoutResult, atomic};
pub(crate) use shuttle::thread;

/// Others go on; a sleep says nothing of that to the checker.
pub(crate) fn pause(_time: Duration) {
    thread::yield_now();
}

/// The checker does not say; a join then waits, which it sees.
pub(crate) fn has_ended(_thread: &thread::JoinHandle<()>) -> bool {
    true
}

/// So many waits at one word end by themselves.
const TIMEOUTS_MAX: u32 = 2;
/// The clock advances by so much each time somebody looks.
const TICK: Duration = Duration::from_micros(10);

/// How many waits may still time out.
#[derive(Debug)]
struct Budget(Plain);

impl Default for Budget {
    fn default() -> Budget {
        Budget(Plain::new(TIMEOUTS_MAX))
    }
}

impl Budget {
    /// A wait for ever is none.
    fn take(&self, timeout: Option<Duration>) -> bool {
        let ends = timeout.is_some_and(|timeout| timeout < Duration::MAX);
        ends && self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1))
            .is_ok()
    }
}

/// As `std`'s; a wait with a time may end at once.
#[derive(Debug, Default)]
pub(crate) struct Condvar {
    inner: Arc<shuttle::sync::Condvar>,
    timeouts: Budget,
}

impl Condvar {
    pub(crate) fn new() -> Condvar {
        Condvar::default()
    }

    pub(crate) fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
        self.inner.wait(guard)
    }

    pub(crate) fn wait_while<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        goes_on: impl FnMut(&mut T) -> bool,
    ) -> LockResult<MutexGuard<'a, T>> {
        self.inner.wait_while(guard, goes_on)
    }

    pub(crate) fn wait_timeout<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        timeout: Duration,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
        if self.timeouts.take(Some(timeout)) {
            let sleepers = Arc::clone(&self.inner);
            // Nobody asks whether the time was over: to the others it is a wake for nothing.
            drop(thread::spawn(move || sleepers.notify_all()));
        }
        self.inner.wait_timeout(guard, timeout)
    }

    pub(crate) fn wait_timeout_while<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        timeout: Duration,
        goes_on: impl FnMut(&mut T) -> bool,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
        self.inner.wait_timeout_while(guard, timeout, goes_on)
    }

    pub(crate) fn notify_one(&self) {
        self.inner.notify_one();
    }

    pub(crate) fn notify_all(&self) {
        self.inner.notify_all();
    }
}

/// A word that threads wait at.
#[derive(Debug, Default)]
pub(crate) struct Futex {
    word: atomic::AtomicU32,
    sleepers: Arc<Sleepers>,
    timeouts: Budget,
}

/// The kernel's list of who sleeps at a word.
#[derive(Debug, Default)]
struct Sleepers {
    queue: Mutex<Queue>,
    changed: shuttle::sync::Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    asleep: VecDeque<u64>,
    timed_out: Vec<u64>,
    last: u64,
}

impl Sleepers {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().expect("the checker ends at a panic")
    }

    fn wake(&self, count: usize) {
        let mut queue = self.queue();
        let count = count.min(queue.asleep.len());
        queue.asleep.drain(..count);
        drop(queue);
        self.changed.notify_all();
    }

    fn time_out(&self, sleeper: u64) {
        let mut queue = self.queue();
        if let Some(place) = queue.asleep.iter().position(|asleep| *asleep == sleeper) {
            queue.asleep.remove(place);
            queue.timed_out.push(sleeper);
            drop(queue);
            self.changed.notify_all();
        }
    }
}

impl Futex {
    pub(crate) fn wait(&self, expected: u32, timeout: Option<Duration>) -> bool {
        let mut queue = self.sleepers.queue();
        // Under the lock, which a waker takes after it changed the word.
        if self.word.load(Ordering::SeqCst) != expected {
            return false;
        }
        queue.last += 1;
        let me = queue.last;
        queue.asleep.push_back(me);
        if self.timeouts.take(timeout) {
            let sleepers = Arc::clone(&self.sleepers);
            drop(thread::spawn(move || sleepers.time_out(me)));
        }
        let is_asleep = |queue: &mut Queue| queue.asleep.contains(&me);
        let queue = self.sleepers.changed.wait_while(queue, is_asleep);
        queue.expect("the checker ends at a panic").timed_out.contains(&me)
    }

    pub(crate) fn wake_one(&self) {
        self.sleepers.wake(1);
    }

    pub(crate) fn wake_all(&self) {
        self.sleepers.wake(usize::MAX);
    }
}

impl Deref for Futex {
    type Target = atomic::AtomicU32;

    fn deref(&self) -> &atomic::AtomicU32 {
        &self.word
    }
}

/// A moment of a clock that follows from the schedule alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Instant(Duration);

thread_local! {
    /// The checker runs all its threads in one.
    static CLOCK: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

impl Instant {
    pub(crate) fn now() -> Instant {
        CLOCK.set(CLOCK.get() + TICK);
        Instant(CLOCK.get())
    }

    pub(crate) fn elapsed(self) -> Duration {
        Instant::now().0 - self.0
    }

    pub(crate) fn checked_add(self, duration: Duration) -> Option<Instant> {
        self.0.checked_add(duration).map(Instant)
    }

    pub(crate) fn saturating_duration_since(self, earlier: Instant) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;

    fn add(self, duration: Duration) -> Instant {
        Instant(self.0 + duration)
    }
}
