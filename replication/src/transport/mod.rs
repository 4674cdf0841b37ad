//! How nodes and clients reach each other: QUIC, and nothing else of this crate imports it.
//!
//! [`Endpoint`] is a socket that calls others and is called. Two nodes share a [`PeerConnection`], which carries
//! messages; a client and a node share a [`ClientConnection`], on which each [`Lane`] carries frames. [`Security`]
//! says who may call, [`Limits`] how much memory and time a connection may take, and
//! [`make_development_certificates`] writes the files that `Security` reads.
//!
//! Early data (0-RTT) and resumed sessions are never used: what is sent before the other side has proved who it is
//! could be played back by a third one.

mod certificates;
mod client;
mod endpoint;
mod error;
mod frames;
mod greeting;
mod limits;
mod peer;
mod security;
mod socket;
mod writer;

pub use certificates::{Authority, make_development_certificates};
pub use client::{ClientConnection, Lane, LaneReceiver, LaneSender};
pub use endpoint::{Accepted, Endpoint};
pub use error::TransportError;
pub use limits::Limits;
pub use peer::PeerConnection;
pub use security::Security;
