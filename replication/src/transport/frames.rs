//! Frames out of a stream.
//!
//! Owns the reading of one stream, piece by piece: what was read stays here when a future is dropped, so the reading
//! goes on where it was. What a frame means is `wire`'s.
//!
//! Invariants
//!  F1. Memory for a frame grows with the bytes that have come, by at most [`STEP_BYTES`] or to twice as many, never
//!      with the length alone.                       test `space_grows_with_what_came`
//!  F2. Every future here may be dropped at any time: no byte is lost.
//!
//! Bounds: `FRAME_BYTES_MAX` per frame; at most [`STEP_BYTES`] are copied before others get their turn.

use quinn::{ReadError, RecvStream, VarInt};

use super::error::TransportError;
use crate::wire::frame::{self, Fault, LENGTH_BYTES};

/// Bytes that are read at once.
pub(super) const STEP_BYTES: usize = 64 << 10;

/// A frame without its length: its first bytes, as many as the reader was told, and the others.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) head: Vec<u8>,
    pub(super) body: Vec<u8>,
}

/// What a step of reading came to.
#[derive(Debug)]
pub(super) enum Step {
    /// There is more of the frame to come.
    More,
    /// A frame is complete.
    Frame(Frame),
    /// The other side has finished the stream, behind a frame.
    End,
}

/// Why reading cannot go on.
#[derive(Debug)]
pub(super) enum ReadFault {
    Stream(ReadError),
    Frame(Fault),
}

impl From<ReadFault> for TransportError {
    fn from(fault: ReadFault) -> TransportError {
        match fault {
            ReadFault::Stream(error) => TransportError::of_read(&error),
            ReadFault::Frame(fault) => TransportError::Frame(fault),
        }
    }
}

/// Reads a stream frame by frame.
#[derive(Debug)]
pub(super) struct FrameReader {
    stream: RecvStream,
    head_bytes: usize,
    front: [u8; LENGTH_BYTES],
    front_filled: usize,
    head_filled: usize,
    body_filled: usize,
    frame: Frame,
}

impl FrameReader {
    /// Keeps the first `head_bytes` of each frame apart, so that what follows them need not be moved.
    pub(super) fn new(stream: RecvStream, head_bytes: usize) -> FrameReader {
        FrameReader {
            stream,
            head_bytes,
            front: [0; LENGTH_BYTES],
            front_filled: 0,
            head_filled: 0,
            body_filled: 0,
            frame: Frame::default(),
        }
    }

    /// The next frame; `None` when the other side has finished.
    pub(super) async fn next(&mut self) -> Result<Option<Frame>, ReadFault> {
        loop {
            match self.read_some().await? {
                Step::More => tokio::task::consume_budget().await,
                Step::Frame(frame) => return Ok(Some(frame)),
                Step::End => return Ok(None),
            }
        }
    }

    /// Reads until a frame is complete or its share of time is used up.
    pub(super) async fn read_some(&mut self) -> Result<Step, ReadFault> {
        while self.front_filled < LENGTH_BYTES {
            let read = self.stream.read(&mut self.front[self.front_filled..]).await;
            match read.map_err(ReadFault::Stream)? {
                Some(count) => self.front_filled += count,
                None if self.front_filled == 0 => return Ok(Step::End),
                None => return Err(ReadFault::Frame(Fault::Short)),
            }
        }
        let length = frame::length(self.front).map_err(|fault| {
            // Whoever sends that needs not send the rest.
            let _already_over = self.stream.stop(VarInt::from_u32(0));
            ReadFault::Frame(fault)
        })?;
        let head_length = length.min(self.head_bytes);
        while self.head_filled < head_length {
            let space = space(&mut self.frame.head, self.head_filled, head_length);
            self.head_filled += read_into(&mut self.stream, space).await?;
        }
        let body_length = length - head_length;
        if self.body_filled < body_length {
            let space = space(&mut self.frame.body, self.body_filled, body_length);
            self.body_filled += read_into(&mut self.stream, space).await?;
        }
        if self.body_filled < body_length {
            return Ok(Step::More);
        }
        assert_eq!((self.frame.head.len(), self.frame.body.len()), (head_length, body_length));
        (self.front_filled, self.head_filled, self.body_filled) = (0, 0, 0);
        Ok(Step::Frame(std::mem::take(&mut self.frame)))
    }
}

async fn read_into(stream: &mut RecvStream, space: &mut [u8]) -> Result<usize, ReadFault> {
    match stream.read(space).await {
        Ok(Some(count)) => Ok(count),
        Ok(None) => Err(ReadFault::Frame(Fault::Short)),
        Err(error) => Err(ReadFault::Stream(error)),
    }
}

/// Space for the next bytes behind those that are there, within the length.
fn space(bytes: &mut Vec<u8>, filled: usize, length: usize) -> &mut [u8] {
    let end = length.min(filled + STEP_BYTES);
    if end > bytes.capacity() {
        // Twice as much, so that long frames are moved seldom, but not beyond what is needed.
        bytes.reserve_exact(length.min(end.max(2 * filled)) - bytes.len());
    }
    bytes.resize(end, 0);
    &mut bytes[filled..]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// F1.
    #[test]
    fn space_grows_with_what_came() {
        let mut bytes = Vec::new();
        assert_eq!(space(&mut bytes, 0, frame::FRAME_BYTES_MAX).len(), STEP_BYTES);
        assert!(bytes.capacity() < 2 * STEP_BYTES);
        assert_eq!(space(&mut bytes, 1000, frame::FRAME_BYTES_MAX).len(), STEP_BYTES);
        assert_eq!(space(&mut bytes, 1000, 1001).len(), 1);
    }
}
