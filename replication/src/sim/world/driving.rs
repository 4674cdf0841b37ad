//! What stands between a simulated node and the rest of the world, as the driver does between a real one and its
//! machine.
//!
//! Owns what the driver's loop and its two threads own: the operations of a node's disk, what is looked up for other
//! replicas, what has ended and was not heard of, and what the loop knows of its own log. Each takes its time, so that
//! messages come in between; a real loop, too, hears of an end after the disk has gone on. Decides nothing that the
//! loop of the driver does not decide.
//!
//! Units: milliseconds of simulated time.

use cairnlog_engine::{AppendError, Lsn, Place};

use super::{Event, Live, Operation, World};
use crate::driver::storage::{Done, Piece, StorageError};
use crate::protocol::action::Action;
use crate::protocol::message::Message;
use crate::protocol::node_id::NodeId;
use crate::protocol::shown::Notes;
use crate::sim::Broken;
use crate::wire::frame::encode;

/// What is written together is no longer than that, in bytes.
const GATHER_BYTES: usize = 64 << 10;
/// After what could not be done with the log, a thread waits so long.
const REFUSED_MS: u64 = 100;
/// A disk that is slow takes no longer than that.
const SLOW_MS_MAX: u64 = 2500;
/// Of a thousand lookups so many fail.
const LOOKUP_FAILS_PER_MILLE: u64 = 20;

/// Something to be found in the segments for another replica.
#[derive(Clone, Debug)]
pub(super) enum Lookup {
    /// Or to be noted by the same thread.
    Note(Notes),
    Place {
        peer: NodeId,
        number: u64,
        at: (u64, u64),
    },
    Read(ReadAsked),
}

/// Pieces that a peer is to get.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReadAsked {
    peer: NodeId,
    stream: u64,
    from: Place,
    bytes_max: usize,
    commit_lsn: Lsn,
}

impl Live {
    /// A place that is older than the newest never comes behind it.
    pub(super) fn note_durable(&mut self) {
        let durable = self.storage.replica().durable_place();
        if durable != self.durable {
            self.durable = durable;
            if self.node.needs_summary() {
                self.mine = self.storage.summary();
            }
            self.node.handle_durable(durable, &self.mine);
        }
    }

    fn handle_ended(&mut self, now_ms: u64, done: Done) {
        if !matches!(done, Done::Durable(_)) {
            self.mine = self.storage.summary();
        }
        match done {
            Done::Promised(promise) => {
                self.durable = self.mine.end;
                self.node.handle_promised(promise, &self.mine);
            }
            Done::Cut(number, done) => {
                self.durable = self.mine.end;
                self.node.handle_cut(number, done);
            }
            Done::Durable(_) => self.note_durable(),
            Done::Refused => self.node.handle_append_failed(),
            Done::Began(promise, place) => {
                self.durable = place;
                self.node.handle_began(now_ms, promise, &self.mine);
                self.node.handle_durable(place, &self.mine);
                self.node.handle_more();
            }
            Done::NotBegun => {}
            Done::Noted => self.node.handle_noted(&self.mine),
        }
    }

    pub(super) fn handle_message(&mut self, now_ms: u64, from: NodeId, message: Message) {
        match &message {
            Message::Batches { .. }
            | Message::Ack { .. }
            | Message::Heartbeat { .. }
            | Message::Heard { .. } => {}
            _ => self.mine = self.storage.summary(),
        }
        self.node.handle_message(now_ms, from, message, &self.mine);
    }

    /// The operation in front, with the pieces behind it when it appends some.
    fn next_operation(&mut self) -> Option<Operation> {
        let mut next = self.queue.pop_front();
        if let Some(Operation::Append(bytes)) = &mut next {
            while bytes.len() < GATHER_BYTES
                && let Some(Operation::Append(more)) = self.queue.front()
            {
                bytes.extend_from_slice(more);
                self.queue.pop_front();
            }
        }
        next
    }

    /// Carries out an operation. Records that find no room on the disk are refused to those who appended them.
    pub(super) fn run(&mut self, operation: Operation) -> Result<Done, StorageError> {
        let syncs = operation == Operation::Sync;
        match self.storage.run(operation) {
            Err(StorageError::Append(error)) if syncs && !is_final(&error) => {
                Ok(Done::Durable(self.storage.replica().durable_place()))
            }
            done => done,
        }
    }
}

/// Whether nothing more can be appended in this life.
pub(super) fn is_final(error: &AppendError) -> bool {
    matches!(error, AppendError::Poisoned(_) | AppendError::Closed)
}

impl World {
    /// A node of this life that is awake; what was to happen to one that is paused happens when it wakes.
    fn awake(&mut self, id: NodeId, life: u64, event: Event) -> Option<&mut Live> {
        let now_ms = self.now_ms;
        let paused_ms = self.live(id).filter(|live| live.life == life)?.paused_ms;
        if paused_ms > now_ms {
            self.at(paused_ms, event);
            return None;
        }
        self.live(id)
    }

    /// The operation in front of the queue is carried out.
    pub(super) fn finish(&mut self, id: NodeId, life: u64) -> Result<(), Broken> {
        let now_ms = self.now_ms;
        let again = Event::Finish { node: id, life };
        let Some(live) = self.awake(id, life, again) else { return Ok(()) };
        let operation = live.next_operation().expect("it was asked for");
        let syncs = operation == Operation::Sync;
        let done = live.run(operation);
        let done = done.map_err(|error| Broken(format!("node {id}: {error}")))?;
        if syncs {
            live.settle();
        }
        let mut heard_ms = now_ms;
        if matches!(done, Done::Refused | Done::Cut(_, false)) {
            heard_ms += REFUSED_MS;
            live.disk_free_ms = heard_ms;
        }
        if let Done::Began(promise, _) = &done {
            self.checker.handle_began(promise.epoch, promise.leader.incarnation);
        }
        let text = self.listener.map(|_| format!("ends {done:?}"));
        let live = self.live(id).expect("it is awake");
        live.ended.push_back(done);
        let more = !live.queue.is_empty();
        let heard_ms = heard_ms + self.random.below(3);
        self.at(heard_ms, Event::Ended { node: id, life });
        self.tell(id, || text.unwrap_or_default());
        if more {
            self.schedule_disk(id);
        }
        Ok(())
    }

    /// A node hears of the end of an operation.
    pub(super) fn ended(&mut self, id: NodeId, life: u64) -> Result<(), Broken> {
        let now_ms = self.now_ms;
        let again = Event::Ended { node: id, life };
        let Some(live) = self.awake(id, life, again) else { return Ok(()) };
        let done = live.ended.pop_front().expect("one for each end");
        live.handle_ended(now_ms, done);
        self.act(id)?;
        self.answer(id)
    }

    fn schedule_disk(&mut self, id: NodeId) {
        let (usual_ms, slow_ms) = (1 + self.random.below(8), 50 + self.random.below(SLOW_MS_MAX));
        let now_ms = self.now_ms;
        let Some(live) = self.live(id) else { return };
        let takes_ms = if live.slow_ms > now_ms { slow_ms } else { usual_ms };
        let (from_ms, life) = (live.disk_free_ms.max(now_ms), live.life);
        self.at(from_ms + takes_ms, Event::Finish { node: id, life });
    }

    pub(super) fn queue(&mut self, id: NodeId, operation: Operation) {
        let Some(live) = self.live(id) else { return };
        live.queue.push_back(operation);
        if live.queue.len() == 1 {
            self.schedule_disk(id);
        }
    }

    fn look_up(&mut self, id: NodeId, lookup: Lookup) {
        let Some(live) = self.live(id) else { return };
        live.lookups.push_back(lookup);
        if live.lookups.len() == 1 {
            self.schedule_lookup(id, 0);
        }
    }

    fn schedule_lookup(&mut self, id: NodeId, pause_ms: u64) {
        // Mostly from the page cache.
        let takes_ms = if self.random.per_mille(900) { 3 } else { 400 };
        let later = self.now_ms + pause_ms + self.random.below(takes_ms);
        let life = self.live(id).map_or(0, |live| live.life);
        self.at(later, Event::Look { node: id, life });
    }

    /// The lookup in front of its queue is answered: perhaps by a failure, perhaps too late.
    pub(super) fn look(&mut self, id: NodeId, life: u64) -> Result<(), Broken> {
        let fails = !self.is_healed() && self.random.per_mille(LOOKUP_FAILS_PER_MILLE);
        let Some(live) = self.awake(id, life, Event::Look { node: id, life }) else {
            return Ok(());
        };
        let lookup = live.lookups.pop_front().expect("it was asked for");
        let (peer, found) = match lookup {
            Lookup::Note(notes) => return self.note(id, notes),
            Lookup::Place { peer, .. } | Lookup::Read(ReadAsked { peer, .. }) if fails => {
                self.report.faults += 1;
                (peer, None)
            }
            Lookup::Place { peer, number, at } => {
                let found = live.storage.replica().place_at(at).ok();
                (peer, found.map(|place| live.node.handle_place(peer, number, place)))
            }
            Lookup::Read(asked) => {
                let read = live.storage.read(asked.from, asked.bytes_max).ok();
                (asked.peer, read.map(|piece| self.handle_read(id, asked, piece)))
            }
        };
        self.tell(id, || format!("has looked up {lookup:?}, fails: {}", found.is_none()));
        let live = self.live(id).expect("it is awake");
        if found.is_none() {
            live.node.begin_again(peer, &live.mine);
        }
        if !live.lookups.is_empty() {
            self.schedule_lookup(id, if found.is_none() { REFUSED_MS } else { 0 });
        }
        self.act(id)
    }

    /// Nobody waits for it: it is done beside what the disk has to do.
    fn note(&mut self, id: NodeId, notes: Notes) -> Result<(), Broken> {
        let live = self.live(id).expect("it is awake");
        let done = live.storage.run(Operation::Note(notes));
        live.ended.push_back(done.map_err(|error| Broken(format!("node {id}: {error}")))?);
        let (life, more) = (live.life, !live.lookups.is_empty());
        self.at(self.now_ms, Event::Ended { node: id, life });
        if more {
            self.schedule_lookup(id, 0);
        }
        Ok(())
    }

    fn handle_read(&mut self, id: NodeId, asked: ReadAsked, piece: Option<Piece>) {
        let ReadAsked { peer, stream, from, commit_lsn, .. } = asked;
        let sent = piece.as_ref().map(|piece| (piece.end, piece.bytes.len() as u64));
        if let Some(Piece { end, bytes }) = piece {
            let after = (from.segment, from.offset);
            self.send(id, peer, Message::Batches { stream, after, end, commit_lsn, bytes });
        }
        if let Some(live) = self.live(id) {
            live.node.handle_sent(peer, stream, sent);
        }
    }

    /// From memory at once, from segments in a while.
    fn read(&mut self, id: NodeId, asked: ReadAsked) {
        let live = self.live(id).expect("it acts");
        match live.storage.read_memory(asked.from, asked.bytes_max) {
            Some(piece) => self.handle_read(id, asked, piece),
            None => self.look_up(id, Lookup::Read(asked)),
        }
    }

    /// Does what a node wants done.
    pub(super) fn act(&mut self, id: NodeId) -> Result<(), Broken> {
        while let Some(action) = self.live(id).and_then(|live| live.node.poll_action()) {
            match action {
                Action::Send { to, message } => {
                    let is_known = self.members.get(&id) == Some(&self.places[&id].incarnation);
                    if matches!(message, Message::Sealed { .. }) && !is_known {
                        let text = format!("node {id} promises, and its directory is a new one");
                        return Err(Broken(text));
                    }
                    self.send(id, to, message);
                }
                Action::Promise(promise) => self.queue(id, Operation::Promise(promise)),
                Action::Cut { number, at } => self.queue(id, Operation::Cut(number, at)),
                Action::Append { bytes } => self.queue(id, Operation::Append(bytes)),
                Action::Begin(promise) => self.queue(id, Operation::Begin(promise)),
                Action::StopLeading => {
                    let live = self.live(id).expect("it acts");
                    live.storage.replica().follow();
                    live.waiting.clear();
                }
                Action::FindPlace { peer, number, at } => {
                    self.look_up(id, Lookup::Place { peer, number, at });
                }
                Action::Read { peer, stream, from, bytes_max, commit_lsn } => {
                    let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
                    self.read(id, ReadAsked { peer, stream, from, bytes_max, commit_lsn });
                }
                Action::Note(notes) => self.look_up(id, Lookup::Note(notes)),
                Action::Commit(lsn) => self.committed(id, lsn)?,
                Action::Notice(notice) => self.notice(id, notice)?,
            }
        }
        self.schedule_timeout(id);
        Ok(())
    }

    fn schedule_timeout(&mut self, id: NodeId) {
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

    fn send(&mut self, from: NodeId, to: NodeId, message: Message) {
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
