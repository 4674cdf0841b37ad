//! What an exploration says in the end.
//!
//! Owns the counts and their wording, for people. Holds no logic.

use std::fmt;

use super::replay::REPLAY_VARIABLE;

/// One seed of an exploration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeedReport {
    /// The seed.
    pub seed: u64,
    /// Operations of the work without a cut.
    pub operations: u64,
    /// A hash of these operations ([`SimDisk::trace`](super::SimDisk::trace)): the same in every
    /// process and on every machine, as long as the code is the same.
    pub trace: u64,
}

/// What was explored without finding a failure.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// The seeds, in order.
    pub seeds: Vec<SeedReport>,
    /// Power cuts: runs that ended at a chosen operation, those in recovery included.
    pub cuts: u64,
    /// States that were made, one for each outcome of each cut.
    pub states: u64,
    /// How many of them were different images of the disk, names included. States of different seeds
    /// nearly always are: their identities and records are.
    pub distinct_states: u64,
    /// Cuts of which every legal outcome was checked; only when that was asked for.
    pub cuts_exhausted: u64,
    /// Cuts that had more outcomes than the bound: of these, the bound's number was checked in the
    /// order of the walk, and as many draws as are set beside it.
    pub cuts_over_bound: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for SeedReport { seed, operations, trace } in &self.seeds {
            writeln!(f, "seed {seed}: {operations} operations, trace {trace:016x}")?;
        }
        let Report { cuts, states, distinct_states, .. } = self;
        write!(f, "{cuts} power cuts, {states} states, {distinct_states} of them distinct")?;
        let (exhausted, over) = (self.cuts_exhausted, self.cuts_over_bound);
        match (exhausted, over) {
            (0, 0) => Ok(()),
            (_, 0) => write!(f, "; every legal outcome of each cut"),
            _ => write!(f, "; every legal outcome of {exhausted} cuts, {over} were over the bound"),
        }
    }
}

/// A promise that was broken, or a scenario that cannot be explored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What the check said.
    pub message: String,
    /// The state: what [`REPLAY_VARIABLE`] is to be set to.
    pub replay: String,
    /// What was given to [`Explorer::new`](super::Explorer::new).
    pub command: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { message, replay, command } = self;
        write!(f, "{message}\nreplay with: {REPLAY_VARIABLE}={replay} {command}")
    }
}

impl std::error::Error for Failure {}
