//! What a client and a node share.
//!
//! Owns lanes: streams in both directions that carry frames. What is in the frames is `wire::request`'s. The client
//! opens lanes, the node takes them.
//!
//! Bounds: as many lanes as `Limits::lanes_max`; frames of at most `FRAME_BYTES_MAX`.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use quinn::{Connection, SendStream, VarInt};
use tokio::sync::OwnedSemaphorePermit;

use super::error::TransportError;
use super::frames::FrameReader;

/// Counts as a connection while somebody has it or one of its lanes.
type Permit = Arc<Option<OwnedSemaphorePermit>>;

/// The connection of a client and a node, for either of them. It ends when it is closed, and when nobody has it or one
/// of its lanes any more.
#[derive(Clone, Debug)]
pub struct ClientConnection {
    connection: Connection,
    permit: Permit,
}

impl ClientConnection {
    pub(super) fn new(
        connection: Connection,
        permit: Option<OwnedSemaphorePermit>,
    ) -> ClientConnection {
        ClientConnection { connection, permit: Arc::new(permit) }
    }

    /// Where the other side is.
    #[must_use]
    pub fn remote_addr(&self) -> SocketAddr {
        let address = self.connection.remote_address();
        SocketAddr::new(address.ip().to_canonical(), address.port())
    }

    /// Opens a lane, as a client; waits while there are too many. The node hears of it with the first frame.
    ///
    /// # Errors
    /// [`TransportError::Closed`] when the connection has ended.
    pub async fn open(&self) -> Result<Lane, TransportError> {
        self.lane(self.connection.open_bi().await)
    }

    /// The next lane that the client has opened, for a node.
    ///
    /// # Errors
    /// [`TransportError::Closed`] when the connection has ended.
    pub async fn accept(&self) -> Result<Lane, TransportError> {
        self.lane(self.connection.accept_bi().await)
    }

    fn lane(
        &self,
        streams: Result<(SendStream, quinn::RecvStream), quinn::ConnectionError>,
    ) -> Result<Lane, TransportError> {
        let (send, receive) = streams.map_err(|error| TransportError::of_connection(&error))?;
        let sender = LaneSender { stream: send, _permit: self.permit.clone() };
        let receiver =
            LaneReceiver { frames: FrameReader::new(receive, 0), _permit: self.permit.clone() };
        Ok(Lane { sender, receiver })
    }

    /// Ends the connection with all of its lanes, at once. What was sent and has not arrived is lost.
    pub fn close(&self, why: &str) {
        self.connection.close(VarInt::from_u32(0), why.as_bytes());
    }

    /// Waits until the connection has ended.
    pub async fn closed(&self) {
        self.connection.closed().await;
    }
}

/// A stream in both directions, which carries frames.
#[derive(Debug)]
pub struct Lane {
    sender: LaneSender,
    receiver: LaneReceiver,
}

impl Lane {
    /// Its two directions.
    #[must_use]
    pub fn split(self) -> (LaneSender, LaneReceiver) {
        (self.sender, self.receiver)
    }
}

/// The outgoing direction of a lane. Dropping it finishes it.
#[derive(Debug)]
pub struct LaneSender {
    stream: SendStream,
    _permit: Permit,
}

impl LaneSender {
    /// Sends a frame, which has its length in front already; waits while the other side does not take it. A future
    /// that is dropped may have sent a part: then nothing more can be sent on this lane.
    ///
    /// # Errors
    /// [`TransportError::Closed`] when the connection has ended, or the other side has dropped its receiver.
    pub async fn send(&mut self, frame: Vec<u8>) -> Result<(), TransportError> {
        let written = self.stream.write_chunk(frame.into()).await;
        written.map_err(|error| TransportError::of_write(&error))
    }

    /// Sends frames as [`LaneSender::send`] does, with one look at the connection for those that there is room for.
    ///
    /// # Errors
    /// Those of [`LaneSender::send`].
    pub async fn send_all(&mut self, frames: Vec<Vec<u8>>) -> Result<(), TransportError> {
        let mut chunks: Vec<Bytes> = frames.into_iter().map(Bytes::from).collect();
        let written = self.stream.write_all_chunks(&mut chunks).await;
        written.map_err(|error| TransportError::of_write(&error))
    }

    /// Comes back when nobody listens any more, with the reason.
    pub async fn stopped(&self) -> TransportError {
        // The code that the other side gave says nothing more.
        let _ = self.stream.stopped().await;
        TransportError::Closed("the other side does not listen any more".to_owned())
    }

    /// Says that nothing more comes. Does not wait until the other side has heard it.
    ///
    /// # Errors
    /// [`TransportError::Closed`] when it was finished before.
    pub async fn finish(&mut self) -> Result<(), TransportError> {
        self.stream.finish().map_err(|error| TransportError::Closed(error.to_string()))
    }
}

/// The incoming direction of a lane. Dropping it tells the other side that nobody listens.
#[derive(Debug)]
pub struct LaneReceiver {
    frames: FrameReader,
    _permit: Permit,
}

impl LaneReceiver {
    /// The next frame, without its length; `None` when the other side has finished. The future may be dropped at any
    /// time, nothing is lost by it.
    ///
    /// # Errors
    /// [`TransportError::Frame`] for a length over the limit and for an end in the middle of a frame;
    /// [`TransportError::Closed`] when the connection has ended.
    pub async fn receive(&mut self) -> Result<Option<Vec<u8>>, TransportError> {
        Ok(self.frames.next().await?.map(|frame| frame.body))
    }

    /// The next frame if it came together with the last one.
    ///
    /// # Errors
    /// [`TransportError::Frame`] for a length over the limit.
    pub fn take_ready(&mut self) -> Result<Option<Vec<u8>>, TransportError> {
        Ok(self.frames.take_ready()?.map(|frame| frame.body))
    }
}
