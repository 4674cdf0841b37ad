//! The node as a state machine: no I/O, no clock, no randomness.
//!
//! [`node::Node`] takes messages, ends of disk operations and times, and says what has to be done;
//! [`message::Message`] is what nodes say to each other; [`history`] finds where two logs part; [`quorum`]
//! says how many replicas it takes.
#![doc = include_str!("../../PROTOCOL.md")]

mod following;
pub mod founding;
pub mod history;
mod inbound;
mod leading;
pub mod message;
pub mod node;
pub mod node_id;
mod outbound;
pub mod quorum;
mod standing;
pub mod view;
