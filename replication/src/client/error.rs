//! What went wrong with a call, and what the caller can do about it.
//!
//! Owns the errors of the client; when a call is tried again before its caller sees one is decided in `retry`.
//! An error never says "nothing was done" when something may have been.   tests of `window` and of the client

use crate::wire::request::{Failure, Outcome, Reason};

/// Why, for programs and for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Why {
    /// What the node said; none when it was the client that gave up, or the network.
    pub reason: Option<Reason>,
    /// The same for people.
    pub text: String,
}

/// Why a call was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Nothing was done, and the deadline ended the attempts. Try again.
    #[error("nothing was done, and it may be tried again: {}", .0.text)]
    Retryable(Why),
    /// Nothing was done, and trying the same again does not help.
    #[error("it cannot be done: {}", .0.text)]
    Final(Why),
    /// It may have been done, or be done yet. Read the log to know, or append with a sequence, which may be
    /// sent again.
    #[error("it is not known whether it was done: {}", .0.text)]
    Unknown(Why),
    /// No node could be reached before the deadline. Nothing was done; try again.
    #[error("none of {} can be reached: {text}", servers.join(", "))]
    Unreachable {
        /// The addresses that were tried.
        servers: Vec<String>,
        /// What came of the last attempt.
        text: String,
    },
}

impl ClientError {
    /// What can be done about it.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        match self {
            ClientError::Retryable(_) | ClientError::Unreachable { .. } => Outcome::Retryable,
            ClientError::Final(_) => Outcome::Final,
            ClientError::Unknown(_) => Outcome::Unknown,
        }
    }

    /// What the node said, if one said something.
    #[must_use]
    pub fn reason(&self) -> Option<&Reason> {
        match self {
            ClientError::Retryable(why) | ClientError::Final(why) | ClientError::Unknown(why) => {
                why.reason.as_ref()
            }
            ClientError::Unreachable { .. } => None,
        }
    }

    /// The same error with another outcome.
    pub(super) fn with_outcome(self, outcome: Outcome) -> ClientError {
        let why = match self {
            ClientError::Retryable(why) | ClientError::Final(why) | ClientError::Unknown(why) => {
                why
            }
            ClientError::Unreachable { text, .. } => Why { reason: None, text },
        };
        match outcome {
            Outcome::Retryable => ClientError::Retryable(why),
            Outcome::Final => ClientError::Final(why),
            Outcome::Unknown => ClientError::Unknown(why),
        }
    }

    /// The error of what changes nothing, so that it was not done whatever became of it.
    pub(super) fn into_undone(self) -> ClientError {
        match self.outcome() {
            Outcome::Unknown => self.with_outcome(Outcome::Retryable),
            _ => self,
        }
    }

    /// Nothing was done, for a reason that no node gave.
    pub(super) fn retryable(text: impl Into<String>) -> ClientError {
        ClientError::Retryable(Why { reason: None, text: text.into() })
    }

    /// Nothing will be done, for a reason that no node gave.
    pub(super) fn over(text: impl Into<String>) -> ClientError {
        ClientError::Final(Why { reason: None, text: text.into() })
    }

    /// The request is over a limit, so that it was not sent.
    pub(super) fn invalid(text: impl Into<String>) -> ClientError {
        ClientError::Final(Why { reason: Some(Reason::Invalid), text: text.into() })
    }

    /// It was sent, and no answer came.
    pub(super) fn unknown(text: impl Into<String>) -> ClientError {
        ClientError::Unknown(Why { reason: None, text: text.into() })
    }

    /// The deadline passed before anything was done.
    pub(super) fn late(text: impl Into<String>) -> ClientError {
        ClientError::Retryable(Why { reason: Some(Reason::TimedOut), text: text.into() })
    }
}

impl From<Failure> for ClientError {
    fn from(failure: Failure) -> ClientError {
        let why = Why { reason: Some(failure.reason), text: failure.text };
        ClientError::Retryable(why).with_outcome(failure.outcome)
    }
}
