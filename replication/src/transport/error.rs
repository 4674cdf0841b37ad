//! Why something could not be sent, received or set up.
//!
//! Owns the one error of the transport, and the words for quinn's errors: those types stay inside.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use quinn::{ConnectionError, ReadError, WriteError};

use crate::protocol::node_id::NodeId;
use crate::wire::frame::Fault;

/// What went wrong with a connection, or on the way to one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// A file with a certificate or a key is missing, is not what it should be, or may not be written. Mend the file.
    #[error("{}: {reason}", file.display())]
    Certificate {
        /// Which.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A certificate could not be made, or not be used. Nothing to be done but to report it.
    #[error("a certificate could not be made or used: {0}")]
    Making(String),
    /// A throw-away certificate protects nothing, and this address can be reached from elsewhere. Use certificates.
    #[error("{0} is not a loopback address: it takes certificates")]
    NotLoopback(SocketAddr),
    /// The socket could not be opened. Choose another address, or find out who has it.
    #[error("{address} cannot be listened on: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// Nobody who may be talked to answered there. Try again later, or elsewhere.
    #[error("no connection to {address}: {reason}")]
    Connect {
        /// Where.
        address: String,
        /// What happened.
        reason: String,
    },
    /// Another node than the one that was called. Correct the addresses.
    #[error("node {wanted} was called, and {} answered",
        found.map_or_else(|| "no node".to_owned(), |found| format!("node {found}")))]
    NotThatNode {
        /// Who was called.
        wanted: NodeId,
        /// Who it was, if it was a node at all.
        found: Option<NodeId>,
    },
    /// The connection or the stream has ended. Connect again.
    #[error("the connection has ended: {0}")]
    Closed(String),
    /// The other side sent what is no frame or no message. It is not to be listened to any more.
    #[error("what came is no message: {0}")]
    Frame(#[from] Fault),
    /// The system refused something.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl TransportError {
    pub(super) fn of_connection(error: &ConnectionError) -> TransportError {
        TransportError::Closed(error.to_string())
    }

    pub(super) fn of_read(error: &ReadError) -> TransportError {
        match error {
            ReadError::ConnectionLost(lost) => TransportError::of_connection(lost),
            other => TransportError::Closed(other.to_string()),
        }
    }

    pub(super) fn of_write(error: &WriteError) -> TransportError {
        match error {
            WriteError::ConnectionLost(lost) => TransportError::of_connection(lost),
            other => TransportError::Closed(other.to_string()),
        }
    }
}
