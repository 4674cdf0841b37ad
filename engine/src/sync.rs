//! What the threads of an open log meet at: locks, atomics, threads, the clock of waits, and the futex.
//!
//! Owns the choice of their makers. In every build that anybody runs they are those of `std` and the
//! kernel's futex, under their own names. Built as a test with `--cfg shuttle` they are a model checker's,
//! which runs one thread at a time and picks the next one at each of these calls: see
//! `log::interleavings`. What is never held or waited for across such a call (counters, the pool of
//! buffers, the hot tail) stays with `std`. Holds no protocol of its own.
//!
//! Threads: any.

#[cfg(all(test, shuttle))]
mod model;

#[cfg(all(test, shuttle))]
pub(crate) use model::{
    Condvar, Futex, Instant, Mutex, MutexGuard, RwLock, atomic, has_ended, pause, thread,
};
#[cfg(not(all(test, shuttle)))]
pub(crate) use platform::{
    Condvar, Futex, Instant, Mutex, MutexGuard, RwLock, atomic, has_ended, pause, thread,
};
pub(crate) use std::sync::{Arc, OnceLock, PoisonError, TryLockError, Weak};

#[cfg(not(all(test, shuttle)))]
mod platform {
    use std::ops::Deref;
    use std::time::Duration;

    use rustix::io::Errno;
    use rustix::thread::{Timespec, futex};

    pub(crate) use std::sync::{Condvar, Mutex, MutexGuard, RwLock, atomic};
    pub(crate) use std::thread;
    pub(crate) use std::time::Instant;

    /// Lets others go on for so long.
    pub(crate) fn pause(time: Duration) {
        thread::sleep(time);
    }

    /// Whether a thread can be joined without waiting.
    pub(crate) fn has_ended(thread: &thread::JoinHandle<()>) -> bool {
        thread.is_finished()
    }

    /// A word that threads of this process wait at.
    #[derive(Debug, Default)]
    pub(crate) struct Futex(atomic::AtomicU32);

    impl Futex {
        /// Sleeps while the word is `expected`; true when the time is over. It also returns, for no
        /// reason that is told, when the word is another one, at a wake and at a signal: look again.
        pub(crate) fn wait(&self, expected: u32, timeout: Option<Duration>) -> bool {
            let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
            let flags = futex::Flags::PRIVATE;
            let waited = futex::wait(&self.0, flags, expected, timeout.as_ref());
            waited == Err(Errno::TIMEDOUT)
        }

        /// Wakes one of those who sleep.
        pub(crate) fn wake_one(&self) {
            let _ = futex::wake(&self.0, futex::Flags::PRIVATE, 1);
        }

        /// Wakes all who sleep.
        pub(crate) fn wake_all(&self) {
            let everybody = u32::MAX >> 1;
            let _ = futex::wake(&self.0, futex::Flags::PRIVATE, everybody);
        }
    }

    impl Deref for Futex {
        type Target = atomic::AtomicU32;

        fn deref(&self) -> &atomic::AtomicU32 {
            &self.0
        }
    }
}
