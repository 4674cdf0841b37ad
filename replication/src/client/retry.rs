//! Whether, where and when a failed request is sent again.
//!
//! Owns the decision alone: no I/O, no clock; random numbers are given. The way of one call through the servers is a
//! [`Route`].
//!
//! Invariants
//!  T1. What may have been done is sent again only with a sequence; what is final, never. test `what_is_sent_again`
//!  T2. A leader that is named is asked next, without a wait the first time.           test `hints_are_followed`
//!  T3. Without one every server has its turn.                                         test `every_server_has_its_turn`
//!
//! Bounds: one wait is at most `backoff_max`; its jitter is full: anything from nothing to the whole of it.

use std::time::Duration;

use super::error::ClientError;
use crate::wire::request::{Outcome, Reason};

/// Whether a request that failed so may be sent again. `is_idempotent`: sending it twice does what once does.
pub(super) fn may_repeat(error: &ClientError, is_idempotent: bool) -> bool {
    match error.outcome() {
        Outcome::Retryable => true,
        Outcome::Final => false,
        Outcome::Unknown => is_idempotent,
    }
}

/// How long to wait between attempts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backoff {
    pub(super) min: Duration,
    pub(super) max: Duration,
}

impl Backoff {
    /// The wait in front of attempt `attempt` (from 0 on): up to twice as long each time. `roll`: any number.
    pub(super) fn wait(self, attempt: u32, roll: u64) -> Duration {
        let doubled = 1_u32.checked_shl(attempt).map(|times| self.min.saturating_mul(times));
        let most = doubled.unwrap_or(self.max).min(self.max);
        let most_us = u64::try_from(most.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(roll % most_us.saturating_add(1))
    }
}

/// The way of one call through the servers.
#[derive(Clone, Debug)]
pub(super) struct Route {
    servers: Vec<String>,
    turn: usize,
    /// Who was said to lead; not necessarily one of the servers.
    hint: Option<String>,
    backoff: Backoff,
    /// Failures since something worked.
    failures: u32,
    /// Hints that were followed without a wait since something worked.
    hints: u32,
}

impl Route {
    /// A way that begins at `hint`, or at the server with the number `turn`. `servers` is not empty.
    pub(super) fn new(
        servers: Vec<String>,
        turn: usize,
        hint: Option<String>,
        backoff: Backoff,
    ) -> Route {
        assert!(!servers.is_empty(), "a client has servers");
        Route { servers, turn, hint, backoff, failures: 0, hints: 0 }
    }

    /// Whom to ask.
    pub(super) fn target(&self) -> &str {
        match &self.hint {
            Some(hint) => hint,
            None => &self.servers[self.turn % self.servers.len()],
        }
    }

    /// Who was said to lead, if it was not asked in vain since.
    pub(super) fn hint(&self) -> Option<&String> {
        self.hint.as_ref()
    }

    /// The target did not do it: goes on to the next one, and gives the wait before it is asked.
    pub(super) fn failed(&mut self, error: &ClientError, roll: u64) -> Duration {
        let was_hint = self.hint.is_some();
        let leader = match error.reason() {
            Some(Reason::NotLeading(Some((_, address)))) if address != self.target() => {
                Some(address.clone())
            }
            _ => None,
        };
        if let Some(leader) = leader {
            self.hint = Some(leader);
            self.hints += 1;
            // Two nodes that name each other must not be asked without end.
            if self.hints == 1 {
                return Duration::ZERO;
            }
        } else {
            self.hint = None;
            // The server whose turn it was when the hint came was asked already.
            if !was_hint || self.servers.len() > 1 {
                self.turn = self.turn.wrapping_add(1);
            }
        }
        let wait = self.backoff.wait(self.failures, roll);
        self.failures = self.failures.saturating_add(1);
        wait
    }

    /// The target did something: the next failure is a first one.
    pub(super) fn worked(&mut self) {
        self.failures = 0;
        self.hints = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::error::Why;
    use crate::protocol::node_id::NodeId;

    fn backoff() -> Backoff {
        Backoff { min: Duration::from_millis(20), max: Duration::from_secs(2) }
    }

    fn route() -> Route {
        let servers = ["a", "b", "c"].map(str::to_owned).to_vec();
        Route::new(servers, 0, None, backoff())
    }

    fn leads(address: &str) -> ClientError {
        let leader = Some((NodeId::new(1).expect("not 0"), address.to_owned()));
        let reason = Some(Reason::NotLeading(leader));
        ClientError::Retryable(Why { reason, text: String::new() })
    }

    #[test]
    fn what_is_sent_again() {
        for is_idempotent in [false, true] {
            assert!(may_repeat(&ClientError::retryable(""), is_idempotent));
            assert!(!may_repeat(&ClientError::over(""), is_idempotent));
            assert_eq!(may_repeat(&ClientError::unknown(""), is_idempotent), is_idempotent);
        }
    }

    #[test]
    fn waits_double_up_to_the_limit_and_have_full_jitter() {
        let most = |attempt| {
            let us = |roll| backoff().wait(attempt, roll);
            (0..4_000_000).step_by(997).map(us).max().expect("many")
        };
        assert!(most(0) <= Duration::from_millis(20) && most(0) > Duration::from_millis(19));
        assert!(most(3) <= Duration::from_millis(160) && most(3) > Duration::from_millis(158));
        for attempt in [7, 31, 32, u32::MAX] {
            let most = most(attempt);
            assert!(most <= Duration::from_secs(2) && most > Duration::from_millis(1990));
        }
        assert_eq!(backoff().wait(9, 0), Duration::ZERO);
    }

    #[test]
    fn every_server_has_its_turn() {
        let mut route = route();
        for expected in ["a", "b", "c", "a"] {
            assert_eq!(route.target(), expected);
            let _ = route.failed(&ClientError::retryable(""), 1);
        }
    }

    #[test]
    fn hints_are_followed() {
        let mut route = route();
        assert_eq!(route.failed(&leads("elsewhere"), u64::MAX), Duration::ZERO);
        assert_eq!(route.target(), "elsewhere");
        assert!(route.failed(&leads("a"), 9_999) > Duration::ZERO, "the second one waits");
        assert_eq!(route.target(), "a");
        let _ = route.failed(&leads("a"), 1);
        assert_eq!(route.target(), "b", "who names itself is not asked again at once");
        route.worked();
        assert_eq!(route.failed(&leads("c"), 9_999), Duration::ZERO);
    }
}
