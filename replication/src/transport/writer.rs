//! The sending half of a connection between nodes: what was queued goes out in its order.
//!
//! Owns a queue of bytes and the stream on which they go. Whoever queues something writes it at once when nothing is
//! in front of it and the windows have room: the way to the wire then has a single task on it, quinn's own. Otherwise
//! a task of the writer writes it when there is room.
//!
//! Invariants
//!  Q1. Bytes of one number leave in the order in which they were queued.      test `messages_keep_their_order` in
//!      tests/quic.rs
//!  Q2. The stream is in one place: idle in the state, or with the task; while the task has it, or something waits,
//!      nobody else writes.                                                                  asserted in `take`
//!  Q3. When a greater number is queued, the stream of the one before is reset, and what waits for it is dropped.
//!                                                test `a_newer_stream_ends_the_older` in tests/quic.rs
//!
//! Bounds: the queue has none of its own. What is queued is bounded one layer above, by the window of bytes that a
//! leader sends before they are acknowledged.
//!
//! Threads: any may queue; the lock is held for as long as quinn takes to note what is to be sent.

use std::collections::VecDeque;
use std::future::Future as _;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use quinn::{Connection, SendStream, VarInt, WriteError};
use tokio::sync::Notify;

/// What a stream that was given up is reset with.
const GIVEN_UP: VarInt = VarInt::from_u32(1);

/// See the module.
#[derive(Debug)]
pub(super) struct Writer {
    connection: Connection,
    state: Mutex<State>,
    /// Something waits, or the number has changed.
    work: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Whose bytes are sent.
    number: Option<u64>,
    /// The stream of this number, while the task does not have it.
    idle: Option<SendStream>,
    waiting: VecDeque<Vec<u8>>,
    /// The number that the other side does not want any more.
    refused: Option<u64>,
    /// The connection is over.
    is_over: bool,
}

/// How far an attempt to write without waiting got.
enum Attempt {
    Done,
    Rest(Vec<Vec<u8>>),
    Failed,
}

impl Writer {
    /// On a stream that is open; its number is 0.
    pub(super) fn on(connection: Connection, stream: SendStream) -> Arc<Writer> {
        let state = State { number: Some(0), idle: Some(stream), ..State::default() };
        Writer::start(connection, state)
    }

    /// Opens a stream of its own, in one direction, for each number.
    pub(super) fn opening(connection: Connection) -> Arc<Writer> {
        Writer::start(connection, State::default())
    }

    fn start(connection: Connection, state: State) -> Arc<Writer> {
        let work = Notify::new();
        let writer = Arc::new(Writer { connection, state: Mutex::new(state), work });
        // Ends with the connection.
        tokio::spawn(writer.clone().run());
        writer
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues pieces that follow each other; those of a smaller number than the last one are dropped.
    pub(super) fn send(&self, number: u64, mut pieces: Vec<Vec<u8>>) {
        let mut guard = self.lock();
        let state = &mut *guard;
        if state.is_over || state.refused == Some(number) || Some(number) < state.number {
            return;
        }
        if Some(number) > state.number {
            state.number = Some(number);
            state.waiting.clear();
            if let Some(mut stream) = state.idle.take() {
                // It fails only for a stream that is over already.
                let _over = stream.reset(GIVEN_UP);
            }
        }
        if state.waiting.is_empty()
            && let Some(stream) = &mut state.idle
        {
            match write_now(stream, pieces) {
                Attempt::Done => return,
                Attempt::Rest(rest) => pieces = rest,
                Attempt::Failed => {
                    // Stopped, or the connection is over: the task finds out when there is something to do.
                    state.idle = None;
                    state.refused = Some(number);
                    return;
                }
            }
        }
        state.waiting.extend(pieces);
        drop(guard);
        self.work.notify_one();
    }

    async fn run(self: Arc<Self>) {
        let mut held: Option<(u64, SendStream)> = None;
        loop {
            let Some((number, piece)) = self.take(&mut held) else {
                tokio::select! {
                    () = self.work.notified() => continue,
                    _ = self.connection.closed() => break,
                }
            };
            let result = tokio::select! {
                result = self.write(number, &mut held, piece) => result,
                () = self.superseded(number) => Ok(()),
            };
            match result {
                Ok(()) => {}
                Err(WriteError::ConnectionLost(_)) => break,
                Err(_) => {
                    held = None;
                    self.lock().refused = Some(number);
                }
            }
        }
        let mut state = self.lock();
        state.is_over = true;
        state.waiting.clear();
        state.idle = None;
    }

    /// The next piece, with the stream if it was idle; without one, the stream becomes idle.
    fn take(&self, held: &mut Option<(u64, SendStream)>) -> Option<(u64, Vec<u8>)> {
        let mut state = self.lock();
        if let Some((number, stream)) = held
            && Some(*number) != state.number
        {
            let _over = stream.reset(GIVEN_UP);
            *held = None;
        }
        let number = state.number?;
        if state.refused == Some(number) {
            state.waiting.clear();
        }
        let piece = state.waiting.pop_front();
        match piece {
            Some(piece) => {
                if held.is_none() {
                    *held = state.idle.take().map(|stream| (number, stream));
                }
                Some((number, piece))
            }
            None => {
                if let Some((_, stream)) = held.take() {
                    assert!(state.idle.is_none(), "Q2");
                    state.idle = Some(stream);
                }
                None
            }
        }
    }

    async fn write(
        &self,
        number: u64,
        held: &mut Option<(u64, SendStream)>,
        piece: Vec<u8>,
    ) -> Result<(), WriteError> {
        if held.is_none() {
            let stream = self.connection.open_uni().await.map_err(WriteError::ConnectionLost)?;
            *held = Some((number, stream));
        }
        let (_, stream) = held.as_mut().expect("it was opened above");
        stream.write_chunk(piece.into()).await
    }

    async fn superseded(&self, number: u64) {
        loop {
            self.work.notified().await;
            if self.lock().number != Some(number) {
                return;
            }
        }
    }
}

/// Writes what fits without waiting.
fn write_now(stream: &mut SendStream, pieces: Vec<Vec<u8>>) -> Attempt {
    let mut chunks: Vec<_> = pieces.into_iter().map(Into::into).collect();
    loop {
        // Nobody is woken: when there is no room, the task asks again and waits.
        let mut context = Context::from_waker(Waker::noop());
        let written = match pin!(stream.write_chunks(chunks.as_mut_slice())).poll(&mut context) {
            Poll::Pending => break,
            Poll::Ready(Err(_)) => return Attempt::Failed,
            Poll::Ready(Ok(written)) => written.chunks,
        };
        chunks.drain(..written);
        if chunks.is_empty() {
            return Attempt::Done;
        }
    }
    Attempt::Rest(chunks.into_iter().map(Vec::from).collect())
}
