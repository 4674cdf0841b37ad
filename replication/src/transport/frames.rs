//! Frames out of a stream.
//!
//! Owns the reading of one stream, piece by piece: what was read stays here when a future is dropped, so the reading
//! goes on where it was. What a frame means is `wire`'s.
//!
//! Invariants
//!  F1. Memory for a frame grows with the bytes that have come, to twice as many at most, never with the length
//!      alone.                                       test `space_grows_with_what_came`
//!  F2. Every future here may be dropped at any time: no byte is lost.
//!
//! Bounds: `FRAME_BYTES_MAX` per frame, and [`STEP_BYTES`] that were taken from quinn at once: many short frames come
//! that way with one look at the connection, which is shared and locked. At most so many are copied before others get
//! their turn.

use bytes::Bytes;
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
    /// What has come and was not looked at yet.
    rest: Bytes,
    head_bytes: usize,
    /// The length of the frame, as far as it has come.
    front: [u8; LENGTH_BYTES],
    front_filled: usize,
    frame: Frame,
}

impl FrameReader {
    /// Keeps the first `head_bytes` of each frame apart, so that what follows them need not be moved.
    pub(super) fn new(stream: RecvStream, head_bytes: usize) -> FrameReader {
        FrameReader {
            stream,
            rest: Bytes::new(),
            head_bytes,
            front: [0; LENGTH_BYTES],
            front_filled: 0,
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
        if self.front_filled == LENGTH_BYTES {
            // A length that is refused is refused again.
            self.length()?;
        }
        if self.rest.is_empty() {
            let read = self.stream.read_chunk(STEP_BYTES, true).await;
            match read.map_err(ReadFault::Stream)? {
                Some(chunk) => self.rest = chunk.bytes,
                None if self.front_filled == 0 => return Ok(Step::End),
                None => return Err(ReadFault::Frame(Fault::Short)),
            }
        }
        self.take_some()
    }

    /// The next frame, if all of it has come with what was read before; else what there is of it is taken.
    pub(super) fn take_ready(&mut self) -> Result<Option<Frame>, ReadFault> {
        match self.take_some()? {
            Step::Frame(frame) => Ok(Some(frame)),
            Step::More | Step::End => Ok(None),
        }
    }

    fn take_some(&mut self) -> Result<Step, ReadFault> {
        let front = self.rest.split_to(self.rest.len().min(LENGTH_BYTES - self.front_filled));
        self.front[self.front_filled..][..front.len()].copy_from_slice(&front);
        self.front_filled += front.len();
        if self.front_filled < LENGTH_BYTES {
            return Ok(Step::More);
        }
        let length = self.length()?;
        let head_length = length.min(self.head_bytes);
        let Frame { head, body } = &mut self.frame;
        fill(head, head_length, &mut self.rest);
        fill(body, length - head_length, &mut self.rest);
        if head.len() + body.len() < length {
            return Ok(Step::More);
        }
        self.front_filled = 0;
        Ok(Step::Frame(std::mem::take(&mut self.frame)))
    }

    /// That of the frame whose front has come.
    fn length(&mut self) -> Result<usize, ReadFault> {
        frame::length(self.front).map_err(|fault| {
            // Whoever sends that needs not send the rest.
            let _already_over = self.stream.stop(VarInt::from_u32(0));
            ReadFault::Frame(fault)
        })
    }
}

/// Moves bytes to those that are there, up to `length` together.
fn fill(bytes: &mut Vec<u8>, length: usize, rest: &mut Bytes) {
    let more = rest.split_to(rest.len().min(length - bytes.len()));
    let end = bytes.len() + more.len();
    if end > bytes.capacity() {
        // Twice as much, so that long frames are moved seldom, but not beyond what is needed.
        bytes.reserve_exact(length.min(end.max(2 * bytes.len())) - bytes.len());
    }
    bytes.extend_from_slice(&more);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// F1.
    #[test]
    fn space_grows_with_what_came() {
        let mut bytes = Vec::new();
        let mut came = |count: usize, length: usize| {
            let mut rest = Bytes::from(vec![7; count]);
            fill(&mut bytes, length, &mut rest);
            assert!(bytes.capacity() <= length.min(2 * bytes.len()));
            (bytes.len(), rest.len())
        };
        assert_eq!(came(1000, frame::FRAME_BYTES_MAX), (1000, 0));
        assert_eq!(came(10, frame::FRAME_BYTES_MAX), (1010, 0));
        assert_eq!(came(5000, frame::FRAME_BYTES_MAX), (6010, 0));
        assert_eq!(came(5, 6011), (6011, 4), "the next frame");
    }
}
