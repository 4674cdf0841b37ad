//! The appends of an appender that were not answered yet.
//!
//! Owns their order, which of them are on the lane, and what becomes of them when one is refused, the lane breaks or
//! time runs out. No I/O and no clock: the task in `appender` feeds it and does what it says.
//!
//! Invariants
//!  A1. Every append that is accepted gets exactly one answer, in order.                 test `every_append_is_answered_once`
//!  A2. Without a sequence, an append is sent again only when it was refused, alone on its lane, as not done, so that
//!      nothing is stored twice or behind a gap.       tests `only_the_first_moves`, `a_break_ends_it_without_a_sequence`
//!  A3. With one, all that are not answered are sent again, in order.                    test `a_sequence_is_sent_again`
//!  A4. After an append failed nothing further is sent.                                  test `nothing_is_sent_behind_a_failure`
//!  A5. Until a lane gave an acknowledgement only one append is on it: the node may not lead. test `only_the_first_moves`
//!
//! Bounds: as many as the semaphore of the appender admits, whose permits (`G`) it holds until the answer.

use std::collections::VecDeque;

use tokio::time::Instant;

use super::append::Appended;
use super::error::{ClientError, Why};
use super::retry::may_repeat;
use crate::wire::request::{Outcome, Reason};

/// What a caller is told.
pub(super) type Answer = Result<Appended, ClientError>;

#[derive(Debug)]
struct Pending<G> {
    /// None once it was sent for the last time.
    frame: Option<Vec<u8>>,
    deadline: Instant,
    /// An earlier attempt may have been carried out.
    is_in_doubt: bool,
    _guard: G,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Window<G> {
    pending: VecDeque<Pending<G>>,
    /// So many of the first are on the lane.
    sent: usize,
    /// The lane gave an acknowledgement.
    is_proven: bool,
    /// Appends have a sequence.
    resends: bool,
    is_over: bool,
    answers: VecDeque<Answer>,
}

impl<G> Window<G> {
    pub(super) fn new(resends: bool) -> Window<G> {
        let (pending, answers) = (VecDeque::new(), VecDeque::new());
        Window { pending, sent: 0, is_proven: false, resends, is_over: false, answers }
    }

    /// Another append. `guard` is dropped with its answer.
    pub(super) fn submit(&mut self, frame: Vec<u8>, deadline: Instant, guard: G) {
        if self.is_over {
            self.answers.push_back(Err(behind_a_failure()));
            return;
        }
        let frame = Some(frame);
        self.pending.push_back(Pending { frame, deadline, is_in_doubt: false, _guard: guard });
    }

    /// What to send next on the lane.
    pub(super) fn next_frame(&mut self) -> Option<Vec<u8>> {
        if self.is_over || (self.sent > 0 && !self.is_proven) {
            return None;
        }
        let next = self.pending.get_mut(self.sent)?;
        self.sent += 1;
        let frame =
            if self.resends || !self.is_proven { next.frame.clone() } else { next.frame.take() };
        Some(frame.expect("what was sent for the last time is on the lane"))
    }

    /// The answer to the first append on the lane. False: the lane is of no more use.
    #[must_use]
    pub(super) fn answered(&mut self, answer: Answer) -> bool {
        if self.sent == 0 {
            return false;
        }
        match answer {
            Ok(appended) => {
                self.is_proven = true;
                self.sent -= 1;
                self.pending.pop_front();
                self.answers.push_back(Ok(appended));
                true
            }
            Err(error) => self.refused(error),
        }
    }

    fn refused(&mut self, error: ClientError) -> bool {
        let is_alone = self.sent == 1 && !self.is_proven;
        if !self.is_over && may_repeat(&error, self.resends) && (self.resends || is_alone) {
            let was_in_doubt = self.pending[0].is_in_doubt;
            self.lose_lane();
            self.pending[0].is_in_doubt = was_in_doubt || error.outcome() == Outcome::Unknown;
            return false;
        }
        let head = self.pending.pop_front().expect("it was sent");
        self.sent -= 1;
        self.answers.push_back(Err(settle(error, head.is_in_doubt)));
        self.end();
        true
    }

    /// The lane is gone.
    pub(super) fn broken(&mut self, text: &str) {
        let is_lost = self.sent > 0 && (self.is_over || !self.resends);
        if is_lost {
            for _ in self.pending.drain(..self.sent) {
                self.answers.push_back(Err(ClientError::unknown(text)));
            }
            self.sent = 0;
            self.end();
        }
        self.lose_lane();
    }

    /// The deadline of the first append has passed. `last`: why no lane could be had, if so.
    pub(super) fn expired(&mut self, last: Option<ClientError>) {
        self.lose_lane();
        let Some(head) = self.pending.pop_front() else { return };
        let text = "it was not acknowledged before its deadline";
        let error = match last {
            Some(error) if !head.is_in_doubt => error,
            _ => ClientError::late(text),
        };
        self.answers.push_back(Err(settle(error, head.is_in_doubt)));
        self.end();
    }

    /// When the first append expires.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.pending.front().map(|pending| pending.deadline)
    }

    /// Whether there is anything to send or to wait for.
    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Whether an append failed, so that no more are taken.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// The next answer for the caller.
    pub(super) fn answer(&mut self) -> Option<Answer> {
        self.answers.pop_front()
    }

    fn lose_lane(&mut self) {
        for pending in self.pending.iter_mut().take(self.sent) {
            pending.is_in_doubt = true;
        }
        self.sent = 0;
        self.is_proven = false;
    }

    /// Answers all that are not on the lane: they are behind a failure.
    fn end(&mut self) {
        self.is_over = true;
        for pending in self.pending.drain(self.sent..) {
            let error = settle(behind_a_failure(), pending.is_in_doubt);
            self.answers.push_back(Err(error));
        }
    }
}

/// What the caller is told when an append ends with this error and an earlier attempt may have been carried out.
pub(super) fn settle(error: ClientError, is_in_doubt: bool) -> ClientError {
    if is_in_doubt { error.with_outcome(Outcome::Unknown) } else { error }
}

/// What every append behind one that failed is told.
pub(super) fn behind_a_failure() -> ClientError {
    ClientError::over("an append in front of this one failed, which ended the appender")
}

/// No room was found in time.
pub(super) fn no_room() -> ClientError {
    let text = "too much is in flight, and nothing was acknowledged before the deadline";
    ClientError::Retryable(Why { reason: Some(Reason::Busy), text: text.to_owned() })
}

#[cfg(test)]
#[path = "window_tests.rs"]
mod tests;
