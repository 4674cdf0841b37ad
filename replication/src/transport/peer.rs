//! What two nodes share.
//!
//! Owns which message goes which way. Heartbeats and their answers are datagrams; pieces of the log go on a stream in
//! one direction for each number; everything else goes on the control stream. What the messages mean is `protocol`'s.
//!
//! Invariants
//!  P1. No heartbeat and nothing on the control stream waits behind pieces of the log: not for the network (their
//!      priority is higher, and the windows are apart), not in memory (they are read first).
//!                                               test `heartbeats_pass_a_large_batch` in tests/quic.rs
//!  P2. Messages of the control stream arrive in their order, and so do the pieces of one number.
//!                                               test `messages_keep_their_order` in tests/quic.rs
//!  P3. After bytes that are no message, the connection is closed.
//!
//! Bounds: one frame of at most `FRAME_BYTES_MAX` is put together per stream; the rest stays in quinn's windows until
//! somebody receives it, and so holds the sender back. What is queued for sending is bounded by the layer above.

use std::sync::Arc;
use std::time::Duration;

use quinn::{Connection, ReadError, RecvStream, SendDatagramError, SendStream, VarInt};
use tokio::sync::{Mutex, OwnedSemaphorePermit};

use super::error::TransportError;
use super::frames::{Frame, FrameReader, ReadFault, Step};
use super::writer::Writer;
use crate::protocol::message::Message;
use crate::protocol::node_id::NodeId;
use crate::wire::frame::{self, Fault, LENGTH_BYTES};

/// Bytes of a frame of batches in front of the batches.
const BATCHES_HEAD_BYTES: usize = 4 + 8 + 2 * 8 + 36 + 8;
/// The control stream goes first; others have 0.
const CONTROL_PRIORITY: i32 = 1;
const CLOSED: VarInt = VarInt::from_u32(0);
/// With what a connection is closed whose other side has sent what is no message.
const FAULT: VarInt = VarInt::from_u32(2);

/// The connection of two nodes. Clones share it; when the last one is dropped, it is closed, and what was sent and has
/// not arrived is lost.
#[derive(Clone, Debug)]
pub struct PeerConnection {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    connection: Connection,
    peer: NodeId,
    control: Arc<Writer>,
    data: Arc<Writer>,
    receiving: Mutex<Receiving>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.connection.close(CLOSED, b"it is not needed any more");
    }
}

#[derive(Debug)]
struct Receiving {
    control: FrameReader,
    /// The newest; the other side has given up those before it.
    data: Option<FrameReader>,
}

impl PeerConnection {
    pub(super) fn new(
        connection: Connection,
        peer: NodeId,
        send: SendStream,
        receive: RecvStream,
        permit: Option<OwnedSemaphorePermit>,
    ) -> PeerConnection {
        // It fails only when the connection is over, which is noticed soon enough.
        let _over = send.set_priority(CONTROL_PRIORITY);
        let inner = Inner {
            control: Writer::on(connection.clone(), send),
            data: Writer::opening(connection.clone()),
            receiving: Mutex::new(Receiving { control: FrameReader::new(receive, 0), data: None }),
            connection,
            peer,
            _permit: permit,
        };
        PeerConnection { inner: Arc::new(inner) }
    }

    /// The other node.
    #[must_use]
    pub fn peer(&self) -> NodeId {
        self.inner.peer
    }

    /// Queues a message, and never blocks; when the connection has ended it is dropped. Pieces of the log with a
    /// greater stream number end the stream of those before.
    pub fn send(&self, message: Message) {
        match message {
            Message::Batches { stream, .. } => self.inner.data.send(stream, batches(message)),
            Message::Heartbeat { .. } | Message::Heard { .. } => self.send_datagram(&message),
            _ => self.inner.control.send(0, vec![frame::encode(&message)]),
        }
    }

    fn send_datagram(&self, message: &Message) {
        let frame = frame::encode(message);
        // A datagram has a length already.
        match self.inner.connection.send_datagram(frame[LENGTH_BYTES..].to_vec().into()) {
            Ok(()) | Err(SendDatagramError::ConnectionLost(_)) => {}
            Err(_) => self.inner.control.send(0, vec![frame]),
        }
    }

    /// The next message. One task calls this; the future may be dropped at any time, nothing is lost by it.
    ///
    /// # Errors
    /// [`TransportError::Closed`] when the connection has ended; [`TransportError::Frame`] when what came is no
    /// message: the connection is closed then.
    pub async fn receive(&self) -> Result<Message, TransportError> {
        let mut receiving = self.inner.receiving.lock().await;
        let received = receiving.next(&self.inner.connection).await;
        if let Err(TransportError::Frame(fault)) = &received {
            self.inner.connection.close(FAULT, fault.to_string().as_bytes());
        }
        received
    }

    /// Ends the connection, at once. What was sent and has not arrived is lost.
    pub fn close(&self) {
        self.inner.connection.close(CLOSED, b"closed");
    }

    /// Bytes of the longest packets that the path takes, as far as was found out.
    #[must_use]
    pub fn packet_bytes(&self) -> u16 {
        self.inner.connection.stats().path.current_mtu
    }

    /// How often packets that the path took seemed to get lost for their length: they are short then for a minute.
    #[must_use]
    pub fn black_holes(&self) -> u64 {
        self.inner.connection.stats().path.black_holes_detected
    }

    /// How long it takes to the other node and back, as measured of late.
    #[must_use]
    pub fn round_trip(&self) -> Duration {
        self.inner.connection.rtt()
    }
}

impl Receiving {
    async fn next(&mut self, connection: &Connection) -> Result<Message, TransportError> {
        loop {
            tokio::task::consume_budget().await;
            // In this order: whatever is ready is taken before pieces of the log.
            tokio::select! {
                biased;
                datagram = connection.read_datagram() => {
                    let datagram = datagram.map_err(|error| TransportError::of_connection(&error))?;
                    return decode_datagram(&datagram);
                }
                step = self.control.read_some() => match step? {
                    Step::More => {}
                    Step::Frame(frame) => return decode_control(&frame.body),
                    Step::End => {
                        return Err(TransportError::Closed("the other side has finished".to_owned()));
                    }
                },
                opened = connection.accept_uni() => {
                    let opened = opened.map_err(|error| TransportError::of_connection(&error))?;
                    self.data = Some(FrameReader::new(opened, BATCHES_HEAD_BYTES));
                }
                step = read_data(self.data.as_mut()) => match step {
                    Ok(Step::More) => {}
                    Ok(Step::Frame(frame)) => return decode_data(frame),
                    // Given up by the other side.
                    Ok(Step::End) | Err(ReadFault::Stream(ReadError::Reset(_))) => self.data = None,
                    Err(fault) => return Err(fault.into()),
                },
            }
        }
    }
}

async fn read_data(data: Option<&mut FrameReader>) -> Result<Step, ReadFault> {
    match data {
        Some(reader) => reader.read_some().await,
        None => std::future::pending().await,
    }
}

/// The frame of batches in two pieces, so that the batches are not copied.
fn batches(mut message: Message) -> Vec<Vec<u8>> {
    let Message::Batches { bytes, .. } = &mut message else {
        unreachable!("only batches go this way")
    };
    let body = std::mem::take(bytes);
    let mut head = frame::encode(&message);
    let length = u32::try_from(head.len() - LENGTH_BYTES + body.len());
    let length = length.expect("pieces of the log are a few megabytes");
    head[..LENGTH_BYTES].copy_from_slice(&length.to_le_bytes());
    if body.is_empty() { vec![head] } else { vec![head, body] }
}

fn decode_data(frame: Frame) -> Result<Message, TransportError> {
    match frame::decode(&frame.head)? {
        Message::Batches { stream, after, end, commit_lsn, bytes } => {
            assert!(bytes.is_empty(), "the head ends where the batches begin");
            Ok(Message::Batches { stream, after, end, commit_lsn, bytes: frame.body })
        }
        _ => Err(out_of_place(&frame.head)),
    }
}

fn decode_control(frame: &[u8]) -> Result<Message, TransportError> {
    match frame::decode(frame)? {
        Message::Batches { .. } => Err(out_of_place(frame)),
        message => Ok(message),
    }
}

fn decode_datagram(datagram: &[u8]) -> Result<Message, TransportError> {
    match frame::decode(datagram)? {
        message @ (Message::Heartbeat { .. } | Message::Heard { .. }) => Ok(message),
        _ => Err(out_of_place(datagram)),
    }
}

/// A message that does not come this way.
fn out_of_place(frame: &[u8]) -> TransportError {
    TransportError::Frame(Fault::Kind(frame.first().copied().unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use cairnlog_engine::{Epoch, Lsn, Place};

    use super::*;

    fn pieces(bytes: Vec<u8>) -> Message {
        let (lsn, epoch) = (Lsn::new(3), Epoch::new(4));
        let end = Place { segment: 1, offset: 2, lsn, epoch, link: 5 };
        Message::Batches { stream: 8, after: (1, 2), end, commit_lsn: Lsn::new(9), bytes }
    }

    #[test]
    fn batches_in_pieces_are_the_same_frame() {
        for message in [pieces(vec![1, 2, 3]), pieces(Vec::new())] {
            let whole = frame::encode(&message);
            assert_eq!(batches(message.clone()).concat(), whole);
            let (head, body) = whole[LENGTH_BYTES..].split_at(BATCHES_HEAD_BYTES);
            let frame = Frame { head: head.to_vec(), body: body.to_vec() };
            assert_eq!(decode_data(frame).unwrap(), message);
        }
    }

    #[test]
    fn messages_come_only_their_own_way() {
        let ready = frame::encode(&Message::Ready { stream: 1 });
        let batches = frame::encode(&pieces(vec![0; 10]));
        assert!(decode_datagram(&ready[LENGTH_BYTES..]).is_err());
        assert!(decode_control(&batches[LENGTH_BYTES..]).is_err());
        let frame = Frame { head: ready[LENGTH_BYTES..].to_vec(), body: Vec::new() };
        assert!(matches!(decode_data(frame), Err(TransportError::Frame(Fault::Kind(6)))));
    }
}
