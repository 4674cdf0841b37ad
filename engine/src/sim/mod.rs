//! The laboratory: your own code on a disk whose power goes out at every operation.
//!
//! A [`SimDisk`] is a disk in memory that keeps only what was made durable, and of the rest whatever
//! the rules allow. An [`Explorer`] runs a [`Scenario`] on it again and again: once for each operation
//! at which the power can go, with many of the states that such a cut can leave, or all of them. After
//! each it lets the scenario check what it was promised, counts the different states, and names a
//! failure by a line that replays exactly this one.
//!
//! What runs on the disk is yours: a state machine over [`Log::open_on`](crate::Log::open_on), or code
//! of your own over the [`Disk`](crate::disk::Disk) trait. `examples/crash_lab.rs` is the tutorial: a
//! small store that acknowledges too early, and how the laboratory finds it. The engine's own tests
//! (`tests/explorer.rs`) are the longer example.
//!
//! ```
//! use std::sync::Arc;
//!
//! use cairnlog_engine::sim::{Explorer, Scenario, SimDisk};
//! use cairnlog_engine::{Config, Log};
//!
//! /// Appends three records; each one that was acknowledged must be there after any power cut.
//! struct ThreeRecords;
//!
//! fn open(disk: &SimDisk) -> Option<Log> {
//!     let config = Config::with_segment_bytes(64 << 10);
//!     Log::open_on(Arc::new(disk.clone()), config).ok().map(|(log, _)| log)
//! }
//!
//! impl Scenario for ThreeRecords {
//!     type Evidence = u64;
//!
//!     fn run(&self, disk: &SimDisk, _seed: u64) -> u64 {
//!         let Some(log) = open(disk) else { return 0 };
//!         (1..=3).take_while(|_| log.append(b"record").is_ok()).last().unwrap_or(0)
//!     }
//!
//!     fn check(&self, disk: &SimDisk, acknowledged: &u64) -> Result<(), String> {
//!         let log = open(disk).ok_or("the log does not open")?;
//!         let kept = log.durable_lsn().get() - 1;
//!         if kept >= *acknowledged { Ok(()) } else { Err(format!("{kept} of {acknowledged}")) }
//!     }
//! }
//!
//! let report = Explorer::new("cargo test --doc").seeds(1..2).outcomes(3).explore(&ThreeRecords);
//! let report = report.unwrap_or_else(|failure| panic!("{failure}"));
//! assert!(report.distinct_states > 10);
//! ```
//!
//! Repeatable: a scenario must take its randomness from the seed, its time from the disk, and use one
//! thread. The explorer runs each seed twice without a cut first and compares the traces of all
//! operations, so that one that does not is found out before its results mislead.

mod explorer;
mod replay;
mod report;
mod scenario;
#[cfg(test)]
mod tests;

pub use explorer::Explorer;
pub use replay::REPLAY_VARIABLE;
pub use report::{Failure, Report, SeedReport};
pub use scenario::Scenario;

pub use crate::disk::sim::{OperationKind, POWER_CUT, PowerCut, SECTOR_BYTES, SimDisk};
