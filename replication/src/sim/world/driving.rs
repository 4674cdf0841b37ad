//! What stands between a simulated node and the rest of the world, as the driver does between a real one and its
//! machine.
//!
//! Owns the queue of operations of a node's disk, and what becomes of each action.

use super::{Event, Operation, World};
use crate::driver::storage::Done;
use crate::protocol::action::Action;
use crate::protocol::message::Message;
use crate::protocol::node_id::NodeId;
use crate::sim::Broken;
use crate::wire::frame::encode;

impl World {
    /// The operation in front of the queue is carried out, and has ended.
    pub(super) fn finish(&mut self, id: NodeId, life: u64) -> Result<(), Broken> {
        let now_ms = self.now_ms;
        let Some(live) = self.live(id).filter(|live| live.life == life) else { return Ok(()) };
        if live.paused_ms > now_ms {
            let later = live.paused_ms;
            self.at(later, Event::Finish { node: id, life });
            return Ok(());
        }
        let operation = live.queue.pop_front().expect("it was asked for");
        let done = live.storage.run(operation);
        let mine = live.storage.summary();
        match done {
            Ok(Done::Promised(promise)) => live.node.handle_promised(promise, &mine),
            Ok(Done::Cut(stream, done)) => live.node.handle_cut(stream, done),
            Ok(Done::Durable(place)) => live.node.handle_durable(place, &mine),
            Ok(Done::Refused) => live.node.handle_append_failed(),
            Ok(Done::Began(promise, place)) => {
                live.node.handle_began(now_ms, promise, &mine);
                live.node.handle_durable(place, &mine);
                live.node.handle_more();
            }
            Ok(Done::NotBegun) => {}
            Ok(Done::Noted) => live.node.handle_noted(&mine),
            Err(error) => return Err(Broken(format!("node {id}: {error}"))),
        }
        if !live.queue.is_empty() {
            self.schedule_disk(id);
        }
        self.act(id)
    }

    pub(super) fn schedule_disk(&mut self, id: NodeId) {
        let later = self.now_ms + 1 + self.random.below(8);
        let life = self.live(id).map_or(0, |live| live.life);
        self.at(later, Event::Finish { node: id, life });
    }

    pub(super) fn queue(&mut self, id: NodeId, operation: Operation) {
        let Some(live) = self.live(id) else { return };
        live.queue.push_back(operation);
        if live.queue.len() == 1 {
            self.schedule_disk(id);
        }
    }

    /// Does what a node wants done.
    pub(super) fn act(&mut self, id: NodeId) -> Result<(), Broken> {
        while let Some(action) = self.live(id).and_then(|live| live.node.poll_action()) {
            match action {
                Action::Send { to, message } => self.send(id, to, message),
                Action::Promise(promise) => self.queue(id, Operation::Promise(promise)),
                Action::Cut { stream, at } => self.queue(id, Operation::Cut(stream, at)),
                Action::Append { bytes } => self.queue(id, Operation::Append(bytes)),
                Action::Begin(promise) => self.queue(id, Operation::Begin(promise)),
                Action::StopLeading => {
                    let live = self.live(id).expect("it acts");
                    live.storage.replica().follow();
                    live.waiting.clear();
                }
                Action::FindPlace { peer, at } => {
                    let live = self.live(id).expect("it acts");
                    let place = live.storage.replica().place_at(at);
                    let place = place.map_err(|e| Broken(format!("node {id}: {e}")))?;
                    live.node.handle_place(peer, at, place);
                }
                Action::Read { peer, stream, from, bytes_max, commit_lsn } => {
                    let live = self.live(id).expect("it acts");
                    let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
                    let read = live.storage.read(from, bytes_max);
                    let piece = read.map_err(|e| Broken(format!("node {id}: {e}")))?;
                    let sent = piece.as_ref().map(|piece| (piece.end, piece.bytes.len() as u64));
                    live.node.handle_sent(peer, stream, sent);
                    if let Some(piece) = piece {
                        let (after, end) = ((from.segment, from.offset), piece.end);
                        let bytes = piece.bytes;
                        let message = Message::Batches { stream, after, end, commit_lsn, bytes };
                        self.send(id, peer, message);
                    }
                }
                Action::Note(notes) => self.queue(id, Operation::Note(notes)),
                Action::Commit(lsn) => self.committed(id, lsn)?,
                Action::Notice(notice) => self.notice(id, notice)?,
            }
        }
        self.schedule_timeout(id);
        Ok(())
    }

    pub(super) fn schedule_timeout(&mut self, id: NodeId) {
        let now_ms = self.now_ms;
        let Some(live) = self.live(id) else { return };
        let Some(due_ms) = live.node.poll_timeout() else { return };
        if live.due_ms.is_some_and(|scheduled| scheduled <= due_ms) {
            return;
        }
        live.due_ms = Some(due_ms);
        let life = live.life;
        self.at(due_ms.max(now_ms), Event::Timeout { node: id, life });
    }

    pub(super) fn send(&mut self, from: NodeId, to: NodeId, message: Message) {
        let arrivals = self.network.send(self.now_ms, (from, to), &message, &mut self.random);
        if self.network.is_stale(from, to) {
            self.look_at(from, to);
        }
        let frame = encode(&message);
        for (time_ms, number) in arrivals {
            let frame = frame.clone();
            self.at(time_ms, Event::Deliver { from, to, number, frame });
        }
    }
}
