//! The threads that do for a loop what may wait for a disk.
//!
//! Owns two of them: one carries out operations in their order, the other reads segments for replicas that are behind,
//! and notes what nobody waits for. What they find out comes back as events. They end with the loop.
//!
//! Bounds: an operation that appends is given `GATHER_BYTES` and one more piece at most.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use cairnlog_engine::{Lsn, Place};
use tokio::sync::mpsc::UnboundedSender;

use super::event_loop::Event;
use super::storage::{Done, Operation, Storage, StorageError};
use crate::protocol::node_id::NodeId;
use crate::protocol::shown::Notes;

/// Pieces of a leader's log are written together up to so many bytes.
const GATHER_BYTES: usize = 1 << 20;
/// After what could not be done with the log, whoever asks again waits so long.
const REFUSED_PAUSE: Duration = Duration::from_millis(100);

/// Pieces that a peer is to get.
#[derive(Clone, Copy, Debug)]
pub struct ReadAsked {
    pub(super) peer: NodeId,
    pub(super) stream: u64,
    pub(super) from: Place,
    pub(super) bytes_max: u64,
    pub(super) commit_lsn: Lsn,
}

/// What is looked for beside the operations.
pub(super) enum Lookup {
    Note(Notes),
    /// Notes the members of a cluster that has none yet.
    Make(BTreeMap<NodeId, u128>),
    Read(ReadAsked),
    /// For whom, the number of the question, and where.
    Place(NodeId, u64, (u64, u64)),
}

pub(super) fn spawn_disk(
    storage: Arc<Storage>,
    asked: Receiver<Operation>,
    events: UnboundedSender<Event>,
) -> std::io::Result<()> {
    let thread = std::thread::Builder::new().name("cairnlog-disk".to_owned());
    thread.spawn(move || {
        let mut next = None;
        while let Some(operation) = next.take().or_else(|| asked.recv().ok()) {
            let operation = match operation {
                Operation::Append(bytes) => {
                    let all;
                    (all, next) = gather(bytes, &asked);
                    Operation::Append(all)
                }
                other => other,
            };
            let ended = storage.run(operation);
            let failed = ended.is_err();
            if matches!(ended, Ok(Done::Refused | Done::Cut(_, false))) {
                std::thread::sleep(REFUSED_PAUSE);
            }
            if events.send(Event::Ended(ended)).is_err() || failed {
                return;
            }
        }
    })?;
    Ok(())
}

/// What has come while the disk was busy is one write: the pieces, and the operation behind them.
fn gather(mut bytes: Vec<u8>, asked: &Receiver<Operation>) -> (Vec<u8>, Option<Operation>) {
    while bytes.len() < GATHER_BYTES {
        match asked.try_recv() {
            Ok(Operation::Append(more)) => bytes.extend_from_slice(&more),
            Ok(other) => return (bytes, Some(other)),
            Err(_) => break,
        }
    }
    (bytes, None)
}

pub(super) fn spawn_catch_up(
    storage: Arc<Storage>,
    looked: Receiver<Lookup>,
    events: UnboundedSender<Event>,
) -> std::io::Result<()> {
    let thread = std::thread::Builder::new().name("cairnlog-catch-up".to_owned());
    thread.spawn(move || {
        for lookup in looked {
            let found = match lookup {
                // Nobody waits for it: not in front of what the other thread has to do.
                Lookup::Note(notes) => Event::Ended(storage.run(Operation::Note(notes))),
                Lookup::Make(members) => {
                    let notes = Notes { members: members.clone(), ..Notes::default() };
                    Event::Made(members, storage.note(&notes))
                }
                Lookup::Read(asked) => {
                    let bytes_max = usize::try_from(asked.bytes_max).unwrap_or(usize::MAX);
                    Event::Read(asked, storage.read(asked.from, bytes_max))
                }
                Lookup::Place(peer, number, at) => {
                    let place = storage.replica().place_at(at);
                    Event::Placed(peer, number, place.map_err(StorageError::from))
                }
            };
            if let Event::Read(_, Err(_)) | Event::Placed(_, _, Err(_)) = &found {
                // A disk that fails is not asked as often as the network can.
                std::thread::sleep(REFUSED_PAUSE);
            }
            if events.send(found).is_err() {
                return;
            }
        }
    })?;
    Ok(())
}
