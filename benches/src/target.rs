//! What can be measured, and the calls that are timed.
//!
//! Owns the traits that every log is wrapped in, and the list of logs. Does not know any of them
//! beyond its name and how it is opened (`engine`, `peers`), and does no timing (`load`).
//!
//! Threads: a `Target` is shared by all writers; each `Writer` and `Pipeline` belongs to the one
//! thread that made it.

use std::path::Path;

use crate::Result;
use crate::engine::Engine;
use crate::peers::direct::Direct;
#[cfg(feature = "peers")]
use crate::peers::{commitlog::Commitlog, fjall::Fjall, okaywal::Okaywal, raft_engine::RaftEngine};

/// A log that is open for the length of one measurement.
pub trait Target: Sync {
    /// A writer whose appends return once they are durable, for thread `writer_index`.
    fn durable(&self, writer_index: usize) -> Result<Box<dyn Writer + '_>>;

    /// A writer whose appends return before they are durable.
    fn buffered(&self, _writer_index: usize) -> Result<Box<dyn Writer + '_>> {
        Err("this target has no buffered append".into())
    }

    /// Durable appends of one thread, many of them on their way at a time.
    fn pipeline(&self) -> Result<Box<dyn Pipeline + '_>> {
        Err("this target has no append that can be waited for later".into())
    }

    /// Ends all background work, so that the directory can be removed.
    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

/// One thread's way to append.
pub trait Writer {
    /// Appends one record; what holds when it returns depends on how the writer was made.
    fn append(&mut self, record: &[u8]) -> Result<()>;
}

/// One thread's way to have many durable appends in flight.
pub trait Pipeline {
    /// Hands over one record.
    fn submit(&mut self, record: &[u8]) -> Result<()>;

    /// Waits until the oldest record not yet waited for is durable.
    fn wait_oldest(&mut self) -> Result<()>;
}

/// The logs that can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Cairnlog.
    Engine,
    /// The plain loop: one thread, one aligned write per record or per MiB read, no log at all.
    Direct,
    /// okaywal.
    Okaywal,
    /// fjall, a key-value store; its journal is what is measured.
    Fjall,
    /// raft-engine as it is by default.
    RaftEngine,
    /// raft-engine with log files to recycle.
    RaftEnginePrefilled,
    /// commitlog, which has no durable append.
    Commitlog,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Engine,
        Self::Direct,
        Self::Okaywal,
        Self::Fjall,
        Self::RaftEngine,
        Self::RaftEnginePrefilled,
        Self::Commitlog,
    ];

    /// The name in the table and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Engine => "engine",
            Self::Direct => "direct",
            Self::Okaywal => "okaywal",
            Self::Fjall => "fjall",
            Self::RaftEngine => "raft-engine",
            Self::RaftEnginePrefilled => "raft-engine-prefilled",
            Self::Commitlog => "commitlog",
        }
    }

    /// The one of that name.
    pub fn from_name(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|kind| kind.name() == name);
        found.ok_or_else(|| format!("no target is called {name}").into())
    }

    /// Whether this build has it.
    #[must_use]
    pub fn is_built(self) -> bool {
        match self {
            Self::Direct | Self::Engine => true,
            Self::Okaywal
            | Self::Fjall
            | Self::RaftEngine
            | Self::RaftEnginePrefilled
            | Self::Commitlog => cfg!(feature = "peers"),
        }
    }

    /// Opens a new log in `dir`, an empty directory, and brings it to the state in which it is
    /// measured.
    pub fn open(self, dir: &Path) -> Result<Box<dyn Target>> {
        match self {
            Self::Direct => Ok(Box::new(Direct::open(dir)?)),
            Self::Engine => Ok(Box::new(Engine::open(dir)?)),
            #[cfg(feature = "peers")]
            Self::Okaywal => Ok(Box::new(Okaywal::open(dir)?)),
            #[cfg(feature = "peers")]
            Self::Fjall => Ok(Box::new(Fjall::open(dir)?)),
            #[cfg(feature = "peers")]
            Self::RaftEngine => Ok(Box::new(RaftEngine::open(dir)?)),
            #[cfg(feature = "peers")]
            Self::RaftEnginePrefilled => Ok(Box::new(RaftEngine::open_prefilled(dir)?)),
            #[cfg(feature = "peers")]
            Self::Commitlog => Ok(Box::new(Commitlog::open(dir)?)),
            #[cfg(not(feature = "peers"))]
            missing => Err(format!("{} is not in this build", missing.name()).into()),
        }
    }
}
