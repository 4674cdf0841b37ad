//! How far an append must have got before it counts.
//!
//! Owns the four names, what each is where it is asked for, and the defaults.
//!
//! Invariants
//!  K1. A directory alone never claims what takes several nodes.       test `a_directory_has_no_quorum`

use cairnlog_replication::wire::request;
use clap::ValueEnum;

use crate::exit::{Exit, Failure};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Ack {
    /// In memory: lost if power or the process fails before it is written
    Buffered,
    /// Durable on this machine, or on the leader: survives a power cut
    Local,
    /// Durable on a majority of the nodes: survives the loss of all the others. Only with --server
    Quorum,
    /// Durable on every node in service, and on a majority at least. Only with --server
    All,
}

/// What a directory alone can give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LocalAck {
    Buffered,
    Local,
}

impl Ack {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Ack::Buffered => "buffered",
            Ack::Local => "local",
            Ack::Quorum => "quorum",
            Ack::All => "all",
        }
    }

    /// The level with `--dir`: what was asked for, or the default.
    pub(crate) fn of_directory(asked: Option<Ack>) -> Result<LocalAck, Failure> {
        match asked {
            Some(Ack::Buffered) => Ok(LocalAck::Buffered),
            Some(Ack::Local) | None => Ok(LocalAck::Local),
            Some(ack @ (Ack::Quorum | Ack::All)) => {
                let message = format!(
                    "--ack {} counts nodes, and a directory has none: use --server, or --ack local",
                    ack.name()
                );
                Err(Failure::new(Exit::Failed, message))
            }
        }
    }

    /// The level with `--server`: what was asked for, or the default. On a single node that is `local`.
    pub(crate) fn of_server(asked: Option<Ack>) -> Ack {
        asked.unwrap_or(Ack::Quorum)
    }
}

impl LocalAck {
    pub(crate) fn name(self) -> &'static str {
        match self {
            LocalAck::Buffered => Ack::Buffered.name(),
            LocalAck::Local => Ack::Local.name(),
        }
    }
}

impl From<Ack> for request::Ack {
    fn from(ack: Ack) -> request::Ack {
        match ack {
            Ack::Buffered => request::Ack::Buffered,
            Ack::Local => request::Ack::Local,
            Ack::Quorum => request::Ack::Quorum,
            Ack::All => request::Ack::All,
        }
    }
}

impl From<request::Ack> for Ack {
    fn from(ack: request::Ack) -> Ack {
        match ack {
            request::Ack::Buffered => Ack::Buffered,
            request::Ack::Local => Ack::Local,
            request::Ack::Quorum => Ack::Quorum,
            request::Ack::All => Ack::All,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_no_quorum() {
        assert_eq!(Ack::of_directory(None).unwrap(), LocalAck::Local);
        assert_eq!(Ack::of_directory(Some(Ack::Buffered)).unwrap(), LocalAck::Buffered);
        for ack in [Ack::Quorum, Ack::All] {
            let failure = Ack::of_directory(Some(ack)).unwrap_err();
            assert_eq!(failure.exit, Exit::Failed);
            assert!(failure.message.unwrap().contains(ack.name()));
        }
        assert_eq!(Ack::of_server(None), Ack::Quorum);
    }
}
