//! What a command's end means to a script.
//!
//! Owns the exit codes and which error gets which. The engine's errors already say what is wrong and
//! what to do; here they only get their code.

use std::io;
use std::path::Path;
use std::process::ExitCode;

use cairnlog_engine::{AppendError, ChangeError, OpenError, ReadError};
use cairnlog_replication::client::ClientError;
use cairnlog_replication::server::ServerError;
use cairnlog_replication::wire::request::{Outcome, Reason};

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done.
    Done = 0,
    /// The answer is no: damage was found, or the server that was asked does not lead.
    No = 1,
    /// Could not be done: usage, input or output.
    Failed = 2,
    /// The storage failed, and the log is poisoned.
    Poisoned = 3,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// Why a command ended early, and what to tell about it.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    /// One line; `None` when there is nothing to tell.
    pub(crate) message: Option<String>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Failure {
        Failure { exit, message: Some(message.into()) }
    }

    /// Something outside of the log could not be read or written.
    pub(crate) fn io(what: &str, error: &io::Error) -> Failure {
        Failure::new(Exit::Failed, format!("{what}: {error}"))
    }

    /// Standard output could not be written. That nobody reads it any more is no failure.
    pub(crate) fn output(error: &io::Error) -> Failure {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Failure { exit: Exit::Done, message: None };
        }
        Failure::io("standard output", error)
    }

    /// A log could not be opened.
    pub(crate) fn open(directory: &Path, error: &OpenError) -> Failure {
        let exit = Exit::Failed;
        match error {
            // The others name the directory, or are not about it.
            OpenError::Io(_) | OpenError::Full(_) | OpenError::NotAFile(_) => {
                Failure::new(exit, format!("{}: {error}", directory.display()))
            }
            _ => Failure::new(exit, error.to_string()),
        }
    }

    /// The failure with something behind its message.
    pub(crate) fn and(mut self, more: &str) -> Failure {
        self.message = self.message.map(|message| format!("{message}; {more}"));
        self
    }
}

/// What the refusal of a server means. That its storage failed is its own affair: it exits with 3 itself.
pub(crate) fn of_client_error(error: &ClientError) -> Exit {
    match error.reason() {
        Some(Reason::NotLeading(_) | Reason::Unexpected(_) | Reason::UnknownProducer) => Exit::No,
        _ => Exit::Failed,
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Failure {
        let failure = Failure::new(of_client_error(&error), error.to_string());
        match error.outcome() {
            Outcome::Unknown => failure.and("whether it was done is not known"),
            Outcome::Retryable | Outcome::Final => failure,
        }
    }
}

impl From<ServerError> for Failure {
    fn from(error: ServerError) -> Failure {
        let exit = if error.is_storage() { Exit::Poisoned } else { Exit::Failed };
        Failure::new(exit, error.to_string())
    }
}

impl From<AppendError> for Failure {
    fn from(error: AppendError) -> Failure {
        let exit = match &error {
            AppendError::Poisoned(_) => Exit::Poisoned,
            _ => Exit::Failed,
        };
        Failure::new(exit, error.to_string())
    }
}

impl From<ChangeError> for Failure {
    fn from(error: ChangeError) -> Failure {
        let exit = match &error {
            ChangeError::Poisoned(_) => Exit::Poisoned,
            _ => Exit::Failed,
        };
        Failure::new(exit, error.to_string())
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Failure {
        let exit = match &error {
            ReadError::Corrupt(_) | ReadError::Missing { .. } | ReadError::Lost { .. } => Exit::No,
            _ => Exit::Failed,
        };
        Failure::new(exit, error.to_string())
    }
}
