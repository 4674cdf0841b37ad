//! Appends of one lane: taken in order, answered in order, each when it has got as far as its client wants.
//!
//! Owns the queue between both. Decides nothing about what is committed: that is the node's, by its levels; nor about what
//! was appended before: that is `numbered`'s.
//!
//! Invariants
//!  A1. Behind an append that was refused nothing is taken on the same lane.   `serve`
//!  A2. An answer says no more than what the levels of the epoch said in which the records were appended; when
//!      that epoch has ended, the outcome is unknown.                   `reached`
//!  A3. Nothing here waits for the disk in the thread of the node.
//!                                test `d19_a_server_on_a_hung_disk_goes_on` of the command line
//!
//! Bounds: bytes taken and not durable by `Opened::room`; answers that wait by [`ANSWERS_MAX`].

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use cairnlog_engine::{AppendError, Epoch, InOrder, Lsn, LsnRange, Ticket};
use tokio::sync::mpsc::{Receiver, UnboundedReceiver, channel};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use super::numbered::{self, Append, Submitted};
use super::session::{answer, failure};
use super::{Opened, Shared};
use crate::driver::levels::Levels;
use crate::producers::Admitted;
use crate::protocol::node_id::NodeId;
use crate::transport::{LaneReceiver, LaneSender, TransportError};
use crate::wire::request::{Ack, Failure, Outcome, Reason, Request, Response};
use crate::wire::request_codec::{decode_request, encode_response};

/// Appends of one lane that were taken and not answered.
const ANSWERS_MAX: usize = 4096;

/// So many answers are sent at once.
const ANSWERS_AT_ONCE: usize = 64;

/// An append that waits for its answer.
enum Waiting {
    Taken(Taken),
    Failed(Failure),
}

/// Records that are in the log, durable or not.
struct Taken {
    ack: Ack,
    epoch: Epoch,
    lsns: LsnRange,
    /// How the write ends: what the log refuses never had these LSNs, which others then get. None for what was sent
    /// again and is durable since long.
    written: Option<oneshot::Receiver<Result<Lsn, AppendError>>>,
}

/// Records that are durable here, if their client wants that.
pub(super) struct Written {
    pub(super) ack: Ack,
    pub(super) epoch: Epoch,
    pub(super) lsns: LsnRange,
}

/// An append whose write has not ended.
pub(super) struct Settling {
    ticket: Ticket,
    epoch: Epoch,
    admitted: Option<Admitted>,
    permits: u32,
    ends: oneshot::Sender<Result<Lsn, AppendError>>,
}

/// Sees how the writes of all lanes end. One task for all of them: whoever waits for a write is woken from another thread,
/// which costs more than everything else that is done here. Without it nobody can append: its panic is to be told.
pub(super) fn spawn_settling(
    shared: &Arc<Shared>,
    mut settling: UnboundedReceiver<Settling>,
) -> JoinHandle<()> {
    // Not the server itself, which has the other end.
    let shared = Arc::downgrade(shared);
    tokio::spawn(async move {
        while let Some(Settling { ticket, epoch, admitted, permits, ends }) = settling.recv().await
        {
            let ended = ticket.await;
            let Some(shared) = shared.upgrade() else { return };
            let opened = shared.opened.get().expect("it was looked at before");
            if let Some(admitted) = admitted {
                opened.settle(epoch, admitted, ended.is_ok());
            }
            // Nobody waits for how a buffered append ends.
            let _ = ends.send(ended);
            opened.room.add_permits(usize::try_from(permits).unwrap_or(0));
        }
    })
}

/// Serves a lane that appends, from its first request on.
pub(super) async fn serve(
    shared: &Arc<Shared>,
    first: Request,
    sender: LaneSender,
    mut receiver: LaneReceiver,
) -> Result<(), TransportError> {
    let (waiting, answers) = channel(ANSWERS_MAX);
    let answering = tokio::spawn(answer_all(Arc::clone(shared), sender, answers));
    let mut ending = shared.ending.subscribe();
    let mut request = Some(first);
    let mut refused: Option<Failure> = None;
    let in_order = shared.opened.get().map(|opened| opened.storage.replica().log().in_order());
    while let Some(append) = request {
        let taken = match refused.clone() {
            // What is behind a refused append is not stored in its place.
            Some(failure) => Err(failure),
            None => take(shared, in_order.as_ref(), append).await,
        };
        let taken = match taken {
            Ok(taken) => Waiting::Taken(taken),
            Err(failure) => {
                let behind = Failure { outcome: Outcome::Retryable, ..failure.clone() };
                refused.get_or_insert(behind);
                Waiting::Failed(failure)
            }
        };
        if waiting.send(taken).await.is_err() {
            // The client is gone.
            return Ok(());
        }
        let frame = match receiver.take_ready()? {
            Some(frame) => Some(frame),
            None => tokio::select! {
                _ = ending.wait_for(|ending| *ending) => None,
                frame = receiver.receive() => frame?,
            },
        };
        let decode = |frame: Vec<u8>| decode_request(&frame).map_err(TransportError::Frame);
        request = frame.map(decode).transpose()?;
    }
    drop(waiting);
    // It ends with the last answer; a panic in it has been told.
    let _ = answering.await;
    Ok(())
}

/// Puts records into the log.
async fn take(
    shared: &Arc<Shared>,
    in_order: Option<&InOrder>,
    request: Request,
) -> Result<Taken, Failure> {
    let Request::Append { ack, expected_lsn, sequence, records } = request else {
        let text = "a lane that appends does nothing else";
        return Err(failure(Outcome::Final, Reason::Invalid, text));
    };
    let (Some(opened), Some(in_order)) = (shared.opened.get(), in_order) else {
        return Err(shared.not_leading());
    };
    let bytes: usize = records.iter().map(|record| record.len() + 8).sum();
    let most = shared.config.engine.inflight_bytes_max / 2;
    let permits = u32::try_from(bytes.min(most)).unwrap_or(u32::MAX);
    let room = opened.room.acquire_many(permits).await;
    let Ok(room) = room else { return Err(shared.not_leading()) };
    let Some(epoch) = opened.handle.led() else { return Err(shared.not_leading()) };
    let append = Append { records: &records, expected_lsn, epoch };
    let (ticket, admitted) = loop {
        let submitted = match sequence {
            Some(sequence) => numbered::submit(shared, opened, in_order, sequence, append).await?,
            None => submit(shared, opened, in_order, append)?,
        };
        match submitted {
            Submitted::New(ticket, admitted) => break (ticket, admitted),
            Submitted::Duplicate(lsns) => return Ok(Taken { ack, epoch, lsns, written: None }),
            Submitted::NoRoom => wait_for_room(shared).await?,
        }
    };
    let lsns = ticket.lsns_if_durable();
    // The room is free again when the records are durable, or will never be.
    room.forget();
    let (ends, written) = oneshot::channel();
    // The task that takes it ends with the server.
    let _ = opened.settling.send(Settling { ticket, epoch, admitted, permits, ends });
    if opened.storage.replica().epoch() != epoch {
        let text = "the epoch ended while the records were appended";
        return Err(failure(Outcome::Unknown, Reason::NotLeading(None), text));
    }
    Ok(Taken { ack, epoch, lsns, written: Some(written) })
}

/// Puts records into the log that nobody has numbered.
fn submit(
    shared: &Shared,
    opened: &Opened,
    in_order: &InOrder,
    append: Append<'_>,
) -> Result<Submitted, Failure> {
    let _end = opened.lock_end();
    let end_lsn = opened.storage.replica().log().end_lsn();
    if append.expected_lsn.is_some_and(|expected| expected != end_lsn) {
        return Err(unexpected(end_lsn));
    }
    let ticket =
        in_order.try_submit_batch(append.records).map_err(|error| refusal(shared, &error))?;
    Ok(ticket.map_or(Submitted::NoRoom, |ticket| Submitted::New(ticket, None)))
}

/// The disk is waited for by a thread of its own: the one that has the heartbeats goes on.
async fn wait_for_room(shared: &Arc<Shared>) -> Result<(), Failure> {
    let waiting = Arc::clone(shared);
    let waited = tokio::task::spawn_blocking(move || {
        let opened = waiting.opened.get().expect("it was looked at before");
        opened.storage.replica().log().wait_for_room()
    });
    match waited.await {
        Ok(waited) => waited.map_err(|error| refusal(shared, &error)),
        Err(panic) => Err(failure(Outcome::Unknown, Reason::Storage, panic.to_string())),
    }
}

/// What a client hears whose records would not come where it wants them.
pub(super) fn unexpected(end_lsn: Lsn) -> Failure {
    let text = format!("the next record has LSN {end_lsn}");
    failure(Outcome::Final, Reason::Unexpected(end_lsn), text)
}

/// What a client hears of records that the log did not take.
pub(super) fn refusal(shared: &Shared, error: &AppendError) -> Failure {
    let (outcome, reason) = match error {
        AppendError::NotLeading => return shared.not_leading(),
        AppendError::Empty
        | AppendError::RecordTooLarge { .. }
        | AppendError::BatchTooLarge { .. } => (Outcome::Final, Reason::Invalid),
        AppendError::Closed => (Outcome::Unknown, Reason::ShuttingDown),
        // Of no room on the disk it is known that nothing was stored; of a failed one it is not.
        AppendError::Poisoned(_) => (Outcome::Unknown, Reason::Storage),
        _ => (Outcome::Retryable, Reason::Storage),
    };
    failure(outcome, reason, error.to_string())
}

/// Answers in the order in which the appends came.
async fn answer_all(
    shared: Arc<Shared>,
    mut sender: LaneSender,
    mut waiting: Receiver<Waiting>,
) -> Result<(), TransportError> {
    let Some(opened) = shared.opened.get() else {
        while let Some(Waiting::Failed(failure)) = waiting.recv().await {
            answer(&mut sender, &Response::Failed(failure)).await?;
        }
        return sender.finish().await;
    };
    let mut levels = opened.handle.levels();
    // Answers that can be given at once go out together.
    let mut answers = Vec::new();
    loop {
        let next = match waiting.try_recv() {
            Ok(next) => Some(next),
            Err(_) => {
                send(&mut sender, &mut answers).await?;
                waiting.recv().await
            }
        };
        let Some(next) = next else { return sender.finish().await };
        let mut answering = pin!(response_to(&shared, next, &mut levels));
        let ready = poll_fn(|context| Poll::Ready(answering.as_mut().poll(context))).await;
        let response = match ready {
            Poll::Ready(response) => response,
            Poll::Pending => {
                send(&mut sender, &mut answers).await?;
                answering.await
            }
        };
        answers.push(encode_response(&response));
        if answers.len() == ANSWERS_AT_ONCE {
            send(&mut sender, &mut answers).await?;
        }
    }
}

async fn send(sender: &mut LaneSender, answers: &mut Vec<Vec<u8>>) -> Result<(), TransportError> {
    if answers.is_empty() { Ok(()) } else { sender.send_all(std::mem::take(answers)).await }
}

async fn response_to(
    shared: &Shared,
    next: Waiting,
    levels: &mut watch::Receiver<Levels>,
) -> Response {
    match next {
        Waiting::Failed(failure) => Response::Failed(failure),
        Waiting::Taken(taken) => match written(shared, taken).await {
            Ok(taken) => reached(&taken, levels, shared.config.node).await,
            Err(failure) => Response::Failed(failure),
        },
    }
}

/// Waits until the write has ended, if its end is waited for at all.
async fn written(shared: &Shared, taken: Taken) -> Result<Written, Failure> {
    let Taken { ack, epoch, lsns, written } = taken;
    if let Some(written) = written.filter(|_| ack != Ack::Buffered) {
        match written.await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(refusal(shared, &error)),
            Err(_) => return Err(refusal(shared, &AppendError::Closed)),
        }
    }
    Ok(Written { ack, epoch, lsns })
}

/// Waits until records have got as far as they are to.
pub(super) async fn reached(
    taken: &Written,
    levels: &mut watch::Receiver<Levels>,
    own: NodeId,
) -> Response {
    let Written { ack, epoch, lsns } = taken;
    let end = lsns.end;
    let there = |levels: &Levels| match ack {
        Ack::Buffered => true,
        Ack::Local => levels.durable_lsn >= end,
        Ack::Quorum => levels.commit_lsn >= end && levels.durable_lsn >= end,
        Ack::All => levels.all_lsn >= end,
    };
    let degraded = |levels: &Levels| levels.degraded && levels.durable_lsn >= end;
    let ended = |levels: &Levels| levels.led != Some(*epoch);
    let waited = levels.wait_for(|levels| ended(levels) || there(levels) || degraded(levels)).await;
    let (ack, replicas) = match waited {
        Ok(levels) if !ended(&levels) => match ack {
            Ack::Buffered => (Ack::Buffered, Vec::new()),
            Ack::Quorum | Ack::All if there(&levels) => (*ack, levels.having(end)),
            _ => (Ack::Local, vec![own]),
        },
        Ok(_) => {
            let text =
                "another epoch began before the records had got so far: they may be kept or not";
            return Response::Failed(failure(Outcome::Unknown, Reason::NotLeading(None), text));
        }
        Err(_) => {
            let text = "the storage of this node failed: the records may be kept or not";
            return Response::Failed(failure(Outcome::Unknown, Reason::Storage, text));
        }
    };
    Response::Appended { lsns: lsns.clone(), epoch: *epoch, ack, replicas }
}
