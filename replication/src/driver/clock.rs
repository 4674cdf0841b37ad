//! The clock of a node.
//!
//! Owns the choice: time since a node began, by a clock that nobody sets and that goes on while the machine sleeps
//! (CLOCK_BOOTTIME), so that a lease is over when a suspended leader comes back.
//!
//! Units: milliseconds.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    began: Duration,
}

impl Clock {
    /// A clock that says 0 now.
    #[must_use]
    pub fn start() -> Clock {
        Clock { began: since_boot() }
    }

    /// Milliseconds since it was started.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        let since = since_boot().saturating_sub(self.began);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

fn since_boot() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or(0))
}
