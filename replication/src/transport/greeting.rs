//! The first bytes of a connection: both sides find out who the other one is.
//!
//! Owns what happens between the handshake of TLS and the first message. A node that calls a node opens the control
//! stream and sends its number and the version; the other one answers with the same. To a client the node says it on
//! a stream of its own. Whoever has called waits for that answer: only then is it known that it was let in.
//!
//! Invariants
//!  R1. With certificates, the number in the certificate is who it is; another number in the greeting is refused.
//!                                                    test `a_node_cannot_pass_for_another` in tests/quic.rs
//!  R2. Whoever has no certificate of a node does not speak as one.
//!                                          test `a_client_does_not_speak_as_a_node` in tests/quic.rs
//!
//! Bounds: [`GREETING_BYTES`] are read. Without certificates nothing but the greeting says who it is.

use quinn::crypto::rustls::HandshakeData;
use quinn::{Connection, ReadExactError, RecvStream, VarInt};
use rustls::pki_types::CertificateDer;
use tokio::sync::OwnedSemaphorePermit;

use super::client::ClientConnection;
use super::endpoint::Accepted;
use super::error::TransportError;
use super::peer::PeerConnection;
use super::security::{CLIENT_PROTOCOL, PEER_PROTOCOL, node_of};
use crate::protocol::node_id::NodeId;
use crate::wire::frame::Fault;

/// With what a connection is closed whose other side may not be here.
const REFUSED: VarInt = VarInt::from_u32(1);
/// Behind the number; the last byte is the version.
const MAGIC: [u8; 8] = *b"cairnlg\x01";
const GREETING_BYTES: usize = 16;

/// The number (8 bytes, 0 if there is none) and the magic.
fn greeting(node: Option<NodeId>) -> [u8; GREETING_BYTES] {
    let mut bytes = [0; GREETING_BYTES];
    bytes[..8].copy_from_slice(&node.map_or(0, NodeId::get).to_le_bytes());
    bytes[8..].copy_from_slice(&MAGIC);
    bytes
}

fn parse(bytes: [u8; GREETING_BYTES]) -> Result<Option<NodeId>, Fault> {
    let (number, magic) = bytes.split_first_chunk::<8>().ok_or(Fault::Short)?;
    if magic != MAGIC {
        return Err(Fault::Field);
    }
    Ok(NodeId::new(u64::from_le_bytes(*number)))
}

async fn read_greeting(stream: &mut RecvStream) -> Result<Option<NodeId>, TransportError> {
    let mut bytes = [0; GREETING_BYTES];
    stream.read_exact(&mut bytes).await.map_err(|error| match error {
        ReadExactError::FinishedEarly(_) => TransportError::Frame(Fault::Short),
        ReadExactError::ReadError(error) => TransportError::of_read(&error),
    })?;
    Ok(parse(bytes)?)
}

/// The node whose certificate the other side has shown.
fn certified(connection: &Connection) -> Option<NodeId> {
    let shown = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    shown.first().and_then(node_of)
}

fn refuse(connection: &Connection, why: &str) -> TransportError {
    connection.close(REFUSED, why.as_bytes());
    TransportError::Closed(why.to_owned())
}

/// The side of a node that has called another one.
pub(super) async fn call_peer(
    connection: Connection,
    is_throw_away: bool,
    own: NodeId,
    wanted: NodeId,
) -> Result<PeerConnection, TransportError> {
    let not_that = |found| {
        connection.close(REFUSED, b"another node was called");
        TransportError::NotThatNode { wanted, found }
    };
    if !is_throw_away {
        let found = certified(&connection);
        if found != Some(wanted) {
            return Err(not_that(found));
        }
    }
    let lost = |error| TransportError::of_connection(&error);
    let (mut send, mut receive) = connection.open_bi().await.map_err(lost)?;
    send.write_all(&greeting(Some(own))).await.map_err(|e| TransportError::of_write(&e))?;
    match read_greeting(&mut receive).await? {
        // A node that was not told its number has no other way to know it.
        None if is_throw_away => {}
        Some(found) if found == wanted => {}
        found => return Err(not_that(found)),
    }
    Ok(PeerConnection::new(connection, wanted, send, receive, None))
}

/// The side of a client that has called a node.
pub(super) async fn call_server(
    connection: Connection,
) -> Result<ClientConnection, TransportError> {
    let mut stream =
        connection.accept_uni().await.map_err(|error| TransportError::of_connection(&error))?;
    read_greeting(&mut stream).await?;
    Ok(ClientConnection::new(connection, None))
}

/// The side that was called; `own` is its number, as far as it knows.
pub(super) async fn answer(
    connection: Connection,
    is_throw_away: bool,
    own: Option<NodeId>,
    permit: OwnedSemaphorePermit,
) -> Result<Accepted, TransportError> {
    let data = connection.handshake_data().and_then(|data| data.downcast::<HandshakeData>().ok());
    let protocol = data.and_then(|data| data.protocol);
    match protocol.as_deref() {
        Some(PEER_PROTOCOL) => answer_peer(connection, is_throw_away, own, permit).await,
        Some(CLIENT_PROTOCOL) => answer_client(connection, own, permit).await,
        _ => Err(refuse(&connection, "neither a node nor a client calls")),
    }
}

async fn answer_peer(
    connection: Connection,
    is_throw_away: bool,
    own: Option<NodeId>,
    permit: OwnedSemaphorePermit,
) -> Result<Accepted, TransportError> {
    let certified = certified(&connection);
    if !is_throw_away && certified.is_none() {
        return Err(refuse(&connection, "this is not the certificate of a node"));
    }
    let lost = |error| TransportError::of_connection(&error);
    let (mut send, mut receive) = connection.accept_bi().await.map_err(lost)?;
    let caller = match read_greeting(&mut receive).await {
        Ok(Some(caller)) if is_throw_away || Some(caller) == certified => caller,
        Ok(_) => return Err(refuse(&connection, "the certificate is of another node")),
        Err(error) => {
            refuse(&connection, "this is no greeting");
            return Err(error);
        }
    };
    send.write_all(&greeting(own)).await.map_err(|error| TransportError::of_write(&error))?;
    // The control stream is the only one in both directions.
    connection.set_max_concurrent_bi_streams(VarInt::from_u32(1));
    Ok(Accepted::Peer(PeerConnection::new(connection, caller, send, receive, Some(permit))))
}

async fn answer_client(
    connection: Connection,
    own: Option<NodeId>,
    permit: OwnedSemaphorePermit,
) -> Result<Accepted, TransportError> {
    let mut stream =
        connection.open_uni().await.map_err(|error| TransportError::of_connection(&error))?;
    let written = stream.write_all(&greeting(own)).await;
    written.map_err(|error| TransportError::of_write(&error))?;
    // It fails only when the client does not want to hear it.
    let _not_heard = stream.finish();
    Ok(Accepted::Client(ClientConnection::new(connection, Some(permit))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greetings_come_back() {
        for node in [None, NodeId::new(1), NodeId::new(u64::MAX)] {
            assert_eq!(parse(greeting(node)), Ok(node));
        }
        let mut other = greeting(None);
        other[15] += 1;
        assert_eq!(parse(other), Err(Fault::Field));
    }
}
