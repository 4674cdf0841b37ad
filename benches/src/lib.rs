//! Benchmarks of the Cairnlog engine and server, alone and beside their peers.
//!
//! Four things live here:
//!
//! - the binary `compare` runs every [`workload::Workload`] over the engine and its peers, rounds
//!   interleaved, and prints one Markdown table of medians, ratios and goals;
//! - the criterion benches `append` and `read` watch the engine alone, from one commit to the next;
//! - the binary `servers` starts three nodes of Cairnlog and of other servers, and compares them in
//!   the same way;
//! - this library, which all share.
//!
//! # What a figure here is worth
//!
//! A shared machine and its device drift by tens of percent within an hour, so only ratios of
//! medians from one run count, and only when nothing else builds or writes meanwhile. [`run`]
//! therefore lets every target of a workload have its turn in each round, in a fresh directory,
//! after a warm-up that is not counted, and starts each round with another target.
//!
//! # What "durable" means for each target
//!
//! Not every log promises the same thing when its append returns. Each file of [`peers`] says in
//! its first lines what the call that is timed really guarantees.
//!
//! # Features
//!
//! - `peers`: raft-engine, okaywal, fjall and commitlog. Without it only the engine and the plain
//!   loop [`peers::direct`] are measured.

pub mod aligned;
pub mod engine;
pub mod goal;
pub mod latency;
pub mod load;
pub mod machine;
pub mod measure;
pub mod memory;
pub mod peers;
pub mod run;
pub mod scan;
pub mod table;
pub mod target;
pub mod workload;

/// Anything that can go wrong in a benchmark. Nothing here is handled, all of it is shown.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// The result of everything here that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// A count as a float, to divide with. Exact up to 2^53, far above any count here.
#[must_use]
pub fn approximate(count: u64) -> f64 {
    count as f64
}
