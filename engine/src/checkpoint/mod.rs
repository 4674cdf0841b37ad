//! Checkpoints: a state at one LSN that makes the records before it unnecessary for recovery.
//!
//! Two kinds with one mechanism: the engine's own, the list of its sealed segments, so that opening costs
//! the same for any length of the log; and the embedder's, taken at an exact LSN.
//!
//! - `files`: the checkpoint files of both kinds on disk, whole or not there.
//! - `take`: checkpoints of an open log, and what they mean for trimming.
//! - `state_log`: a log together with the state that its records make.

mod files;
mod state_log;
mod take;

pub use files::CheckpointReader;
pub(crate) use files::{DirectoryInDoubt, KEPT_MIN, Table, list, newest_table};
pub use state_log::{CheckpointPolicy, StateError, StateLog, StateMachine, StateReport};
