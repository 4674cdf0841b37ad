//! A crash-safe log storage engine: records in, LSNs out, and what was acknowledged survives.
//!
//! # What it promises
//!
//! - A record whose append returned survives a power cut at any instruction.
//! - Opening yields exactly a prefix of what was appended: every acknowledged record, possibly some
//!   unacknowledged ones, never a gap, a reordering, a duplicate, or bytes nobody wrote.
//! - A torn write is told apart from damage by evidence: an unacknowledged torn tail is cut off by
//!   itself, damage to anything durable is reported and never cut away.
//! - Sealed segments carry parity: damaged blocks are rebuilt while they are read, and mended in the
//!   background. What cannot be rebuilt is an error that names it, until a deliberate [`repair`].
//! - After a failed write or sync nothing more is acknowledged; reads go on.
//! - Memory is bounded by [`Config`], at most 64 MiB by default.
//! - No bytes on a disk make it panic.
//!
//! # The main types
//!
//! [`Log`] is the one writer of a directory, used by any number of threads. [`Log::append`] returns when
//! the record is durable; [`Log::submit`] returns a [`Ticket`] to wait for or to await in any runtime;
//! [`Log::append_buffered`] returns a [`Buffered`], which is not an [`Lsn`] and cannot be mistaken for a
//! durable one. [`Records`] iterates, [`Tail`] waits for more, and [`LogReader`] reads a log that another
//! process is writing. [`RecoveryReport`] says what an open found and did. [`Log::checkpoint`] saves a state
//! at an exact LSN, and [`StateLog`] does so for a [`StateMachine`] that its records make.
//!
//! # Example
//!
//! ```
//! use cairnlog_engine::{Config, Log, Lsn, Verdict};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = std::env::temp_dir().join(format!("cairnlog-doc-{}", std::process::id()));
//! # let _ = std::fs::remove_dir_all(&directory);
//! let (log, report) = Log::open(&directory, Config::default())?;
//! assert_eq!(report.verdict, Verdict::Clean);
//!
//! // Durable when it returns.
//! let first = log.append(b"one")?;
//! assert_eq!(first, Lsn::FIRST);
//!
//! // Many on their way from one thread.
//! let tickets = [log.submit(b"two")?, log.submit(b"three")?];
//! for ticket in tickets {
//!     ticket.wait()?;
//! }
//!
//! let texts: Vec<Vec<u8>> =
//!     log.iter(..)?.map(|record| Ok(record?.bytes().to_vec())).collect::<Result<_, cairnlog_engine::ReadError>>()?;
//! assert_eq!(texts, [&b"one"[..], b"two", b"three"]);
//! log.close()?;
//! # std::fs::remove_dir_all(&directory)?;
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//!
//! - `uring` (default): batches of tickets go through io_uring where the kernel gives it; the blocking
//!   driver keeps the same promises elsewhere. [`Stats::backend`] says which one is in use.
//! - `sim`: the laboratory, module `sim`: a simulated disk whose power can be cut at any operation, and
//!   an explorer that does so at each of them, for your own state machine as for the engine.
//!
//! # Format
//!
//! The bytes on disk are described once, in [`mod@format`].

pub mod disk;
pub mod format;
#[cfg(feature = "sim")]
pub mod sim;

mod checkpoint;
mod config;
mod epoch;
mod epochs;
mod error;
mod fork;
mod inspect;
mod log;
mod lsn;
mod names;
mod parity;
mod read;
mod record;
mod recovery;
mod repair;
mod replica;
mod scrub;
mod segments;
mod stats;
mod superblock;
mod sync;
mod verify;
mod wal;
mod watermark;

pub use checkpoint::{
    CheckpointPolicy, CheckpointReader, StateError, StateLog, StateMachine, StateReport,
};
pub use config::{Config, ConfigError, RECORD_BYTES_MAX};
pub use epoch::Epoch;
pub use epochs::StartedEpoch;
pub use error::{AppendError, ChangeError, Corruption, IoFailure, OpenError, ReadError};
pub use format::superblock::LeaderId;
pub use inspect::{Inspected, inspect, inspect_on};
pub use log::{Buffered, InOrder, Log, Ticket, Truncated};
pub use lsn::{Lsn, LsnRange};
pub use read::{ForkError, ForkReader, LogReader, Records, Tail};
pub use record::{Record, RecordRef};
pub use recovery::{RecoveryReport, Verdict};
pub use repair::{RepairError, RepairReport, RepairStep, repair, repair_on};
pub use replica::{BegunEpoch, Identity, Promise, PromiseError, Raw, RawError, RawReader, Replica};
pub use stats::Stats;
pub use verify::{DamagedFile, VerifyReport, verify, verify_on};
pub use wal::feed::{Fed, FedPiece};
pub use wal::place::Place;

#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
