//! The node as a state machine: no I/O, no clock, no randomness.
//!
//! [`node::Node`] takes messages, ends of disk operations and times, and says what has to be done
//! ([`action::Action`]); [`message::Message`] is what nodes say to each other; [`founding`] says how a cluster comes
//! to be, [`history`] where two logs part, [`quorum`] how many replicas it takes, [`shown`] which of them have lost
//! something, [`lease`] until when one knows that it leads, and [`view`] what a node is, from outside.
#![doc = include_str!("../../PROTOCOL.md")]

pub mod action;
mod following;
pub mod founding;
pub mod history;
mod inbound;
mod leading;
pub mod lease;
pub mod message;
pub mod node;
pub mod node_id;
mod outbound;
pub mod quorum;
pub mod shown;
mod standing;
pub mod view;
