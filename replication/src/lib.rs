//! Replication of Cairnlog logs.
//!
//! Owns nothing yet: this is the front page of the crate in which a leader will stream its segments,
//! byte for byte, to followers over QUIC. What already exists for it is in the engine: batches carry
//! log id, epoch, `durable_lsn` and `commit_lsn`, every open takes a new epoch that is promised on disk
//! first, and an epoch start names who leads.
#![forbid(unsafe_code)]

pub use cairnlog_engine::{Epoch, Lsn, LsnRange};
