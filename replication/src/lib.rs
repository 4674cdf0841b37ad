//! Replication of Cairnlog logs.
//!
//! A leader sends its log, byte for byte, to followers; a record is committed when a quorum of the replicas has
//! it durable. [`protocol`] holds the node as a state machine; the messages, and what must be durable before
//! each may be sent, are in [`protocol::message`].
#![forbid(unsafe_code)]

pub mod client;
pub mod driver;
pub mod producers;
pub mod protocol;
pub mod server;
#[cfg(feature = "sim")]
pub mod sim;
pub mod status;
pub mod transport;
pub mod wire;

pub use cairnlog_engine::{Epoch, Lsn, LsnRange};
