//! The loop of a node: events in, actions out to the disk, the network and the clock.
//!
//! Owns the node, its connections, and a queue of operations for the thread that carries them out. The loop is a task of
//! the runtime that also has the connections, so that nothing on the way from the wire to the log and back hops between
//! threads but for the disk. Nothing here waits for that: what may take long is done by two threads, one that writes
//! and one that reads segments for replicas that are behind.
//!
//! Invariants
//!  V1. Operations reach the disk in the order in which the node asked for them.        one queue, one thread
//!  V2. What a node hears of a connection that was replaced is dropped.            by the connection's number
//!
//! Bounds: what is on its way to a peer is bounded by the node's windows, what has come from one by its sender's.
//! Units: milliseconds since the loop began.
//! Threads: those of the caller's runtime run the loop, `cairnlog-disk` and `cairnlog-catch-up` serve it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cairnlog_engine::{AppendError, Epoch, Place};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use super::clock::Clock;
use super::levels::Levels;
use super::seen::{Seen, Snapshot};
use super::storage::{Done, Operation, Piece, Storage, StorageError};
use super::succession::Succession;
use super::workers::{Lookup, ReadAsked, spawn_catch_up, spawn_disk};
use crate::protocol::action::{Action, Notice, Reason};
use crate::protocol::founding;
use crate::protocol::history::Summary;
use crate::protocol::message::Message;
use crate::protocol::node::{Node, Settings};
use crate::protocol::node_id::NodeId;
use crate::protocol::view::RoleKind;

/// The loop looks around at least so often.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// So many events are handled before those who wait hear of it, at most.
const EVENTS_MAX: usize = 64;

/// Pieces are sent in frames of at most so many bytes, or of one batch.
const PIECE_BYTES_MAX: u64 = 4 << 20;

/// A connection to a peer, for what goes out.
pub trait Link: Send {
    /// Queues a message; never waits.
    fn send(&self, message: Message);
    /// Ends the connection.
    fn close(&self);
}

/// What a loop is told.
#[expect(clippy::large_enum_variant, reason = "most of them are messages")]
pub enum Event {
    /// A connection to a peer was made; connections are numbered from 1 on.
    Connected {
        /// To whom.
        peer: NodeId,
        /// Its number.
        number: u64,
        /// For what goes out.
        link: Box<dyn Link>,
    },
    /// It has ended.
    Disconnected {
        /// To whom it was.
        peer: NodeId,
        /// Its number.
        number: u64,
    },
    /// Something came over it.
    Message {
        /// From whom.
        peer: NodeId,
        /// The number of the connection.
        number: u64,
        /// What.
        message: Message,
    },
    /// The log has grown, has become durable, or has failed.
    Moved,
    /// An operation has ended.
    Ended(Result<Done, StorageError>),
    /// The members of the cluster were noted for the first time.
    Made(BTreeMap<NodeId, u128>, Result<(), StorageError>),
    /// A place was looked for.
    Placed(NodeId, u64, Result<Option<Place>, StorageError>),
    /// Segments were read.
    Read(ReadAsked, Result<Option<Piece>, StorageError>),
    /// This node is to lead; the answer is the epoch, or why it does not.
    Stand(oneshot::Sender<Result<Epoch, String>>),
    /// The loop ends.
    Stop,
}

/// What a loop is made with.
pub struct Setup {
    /// The node's settings; its members are those that are noted.
    pub settings: Settings,
    /// Its log.
    pub storage: Arc<Storage>,
    /// The nodes that the operator gave, this one included.
    pub configured: BTreeSet<NodeId>,
    /// Length of new segments.
    pub segment_bytes: u64,
    /// A replica that has made no progress for so long is not in service.
    pub out_of_service_ms: u64,
    /// When nothing was committed for so long of what waits for it, `local` has to do; `None` to wait for ever.
    pub degrade_after_ms: Option<u64>,
}

/// A loop that runs, for others.
#[derive(Clone)]
pub struct Handle {
    events: UnboundedSender<Event>,
    levels: watch::Receiver<Levels>,
    seen: Arc<Mutex<Seen>>,
    clock: Clock,
    lease_ms: u64,
}

struct Driver {
    node: Node,
    own: NodeId,
    storage: Arc<Storage>,
    mine: Summary,
    links: BTreeMap<NodeId, (u64, Box<dyn Link>)>,
    operations: Sender<Operation>,
    lookups: Sender<Lookup>,
    moved: Arc<AtomicBool>,
    durable: Place,
    levels: watch::Sender<Levels>,
    seen: Arc<Mutex<Seen>>,
    snapshot: Snapshot,
    configured: BTreeSet<NodeId>,
    standing: Option<oneshot::Sender<Result<Epoch, String>>>,
    succession: Succession,
    /// The members are being noted.
    is_founding: bool,
    clock: Clock,
}

impl Handle {
    /// Tells the loop something; nothing happens if it has ended.
    pub fn tell(&self, event: Event) {
        // Whoever cares hears of the end by `Handle::levels`.
        let _ = self.events.send(event);
    }

    /// How far the log has got; closed when the loop has ended.
    #[must_use]
    pub fn levels(&self) -> watch::Receiver<Levels> {
        self.levels.clone()
    }

    /// The epoch that this node leads.
    #[must_use]
    pub fn led(&self) -> Option<Epoch> {
        self.levels.borrow().led
    }

    /// The time now, in milliseconds, by the clock of [`Levels::confirmed_ms`].
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    /// Whether nobody else led at `asked_ms`, or does now, so that what these levels call committed is all that there
    /// was then.
    #[must_use]
    pub fn is_confirmed(&self, levels: &Levels, asked_ms: u64) -> bool {
        let is_recent = |sent_ms| sent_ms >= asked_ms || self.now_ms() < sent_ms + self.lease_ms;
        levels.confirmed_ms.is_some_and(is_recent)
    }

    /// What the loop saw last.
    #[must_use]
    pub fn seen(&self) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Starts a node: its threads, and its loop as a task of this runtime. The answer of that one is why the loop ended,
/// if not by [`Event::Stop`].
///
/// # Errors
/// When a thread cannot be started.
pub fn start(setup: Setup) -> std::io::Result<(Handle, JoinHandle<Result<(), StorageError>>)> {
    let (events, received) = unbounded_channel();
    let (operations, asked) = channel();
    let (lookups, looked) = channel();
    let (levels, published) = watch::channel(Levels::default());
    let seen = Arc::new(Mutex::new(Seen::default()));
    let Setup { settings, storage, configured, segment_bytes, .. } = setup;
    let snapshot = Snapshot::new(segment_bytes, setup.out_of_service_ms, setup.degrade_after_ms);
    let moved = Arc::new(AtomicBool::new(false));
    let (flag, woken) = (Arc::clone(&moved), events.clone());
    storage.replica().notify(Box::new(move || {
        if !flag.swap(true, Ordering::AcqRel) {
            let _ = woken.send(Event::Moved);
        }
    }));
    spawn_disk(Arc::clone(&storage), asked, events.clone())?;
    spawn_catch_up(Arc::clone(&storage), looked, events.clone())?;
    let mine = storage.summary();
    let (own, lease_ms, clock) = (settings.node, settings.lease_ms, Clock::start());
    let driver = Driver {
        node: Node::new(settings, &mine, clock.now_ms()),
        own,
        durable: mine.end,
        storage,
        mine,
        links: BTreeMap::new(),
        operations,
        lookups,
        moved,
        levels,
        seen: Arc::clone(&seen),
        snapshot,
        configured,
        standing: None,
        succession: Succession::new(own),
        is_founding: false,
        clock,
    };
    let handle = Handle { events, levels: published, seen, clock, lease_ms };
    Ok((handle, tokio::spawn(driver.run(received))))
}

impl Driver {
    async fn run(mut self, mut received: UnboundedReceiver<Event>) -> Result<(), StorageError> {
        let mut events = Vec::with_capacity(EVENTS_MAX);
        self.look_for_members()?;
        loop {
            let wait = self.node.poll_timeout().map_or(LOOK_INTERVAL, |due_ms| {
                Duration::from_millis(due_ms.saturating_sub(self.now_ms())).min(LOOK_INTERVAL)
            });
            let received = received.recv_many(&mut events, EVENTS_MAX);
            // Over time nothing has come.
            let is_over = tokio::time::timeout(wait, received).await == Ok(0);
            for event in events.drain(..) {
                if matches!(event, Event::Stop) {
                    return Ok(());
                }
                self.handle(event)?;
                self.act()?;
            }
            if is_over {
                return Ok(());
            }
            let now_ms = self.now_ms();
            if self.node.poll_timeout().is_some_and(|due_ms| due_ms <= now_ms) {
                self.node.handle_timeout(now_ms);
            }
            self.stand_again(now_ms);
            self.act()?;
            self.publish(now_ms);
        }
    }

    /// Without anybody who names a leader, a node may stand by itself.
    fn stand_again(&mut self, now_ms: u64) {
        let peers = self.links.keys().filter_map(|peer| self.node.summary_of(*peer));
        if self.succession.stands(&self.node, peers, now_ms) {
            self.node.stand(now_ms);
        }
    }

    fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    fn handle(&mut self, event: Event) -> Result<(), StorageError> {
        match event {
            Event::Connected { peer, number, link } => {
                self.mine = self.storage.summary();
                if let Some((_, replaced)) = self.links.insert(peer, (number, link)) {
                    replaced.close();
                    self.node.handle_disconnected(peer, &self.mine);
                }
                self.node.handle_connected(peer, &self.mine);
            }
            Event::Disconnected { peer, number } => {
                if self.is_current(peer, number) {
                    self.links.remove(&peer);
                    self.mine = self.storage.summary();
                    self.node.handle_disconnected(peer, &self.mine);
                }
            }
            Event::Message { peer, number, message } => {
                if self.is_current(peer, number) {
                    self.handle_message(peer, message)?;
                }
            }
            Event::Moved => self.handle_moved()?,
            Event::Ended(ended) => self.handle_ended(ended?),
            Event::Made(members, noted) => self.handle_made(members, noted)?,
            Event::Placed(peer, number, place) => match place {
                Ok(place) => self.node.handle_place(peer, number, place),
                Err(_) => self.node.begin_again(peer, &self.mine),
            },
            Event::Read(asked, Ok(piece)) => self.handle_read(asked, piece),
            Event::Read(asked, Err(_)) => self.node.begin_again(asked.peer, &self.mine),
            Event::Stand(answer) => {
                self.standing = Some(answer);
                self.node.stand(self.now_ms());
                if self.node.role() != RoleKind::Candidate {
                    self.answer_stand(self.node.led_epoch().ok_or_else(|| {
                        "this directory is not one of the replicas that count".to_owned()
                    }));
                }
            }
            Event::Stop => {}
        }
        Ok(())
    }

    fn is_current(&self, peer: NodeId, number: u64) -> bool {
        self.links.get(&peer).is_some_and(|(current, _)| *current == number)
    }

    fn handle_message(&mut self, peer: NodeId, message: Message) -> Result<(), StorageError> {
        let now_ms = self.now_ms();
        match &message {
            // What the log holds is asked for, or held against it; else an older summary does.
            Message::Batches { .. }
            | Message::Ack { .. }
            | Message::Heartbeat { .. }
            | Message::Heard { .. } => {}
            _ => self.mine = self.storage.summary(),
        }
        let is_hello = matches!(message, Message::Hello { .. });
        let is_heartbeat = matches!(message, Message::Heartbeat { .. });
        self.node.handle_message(now_ms, peer, message, &self.mine);
        if is_heartbeat && self.node.leader() == Some(peer) {
            self.snapshot.heard(now_ms);
        }
        if is_hello {
            self.look_for_members()?;
        }
        Ok(())
    }

    /// Before the cluster is made, every hello may be the one that was missing.
    fn look_for_members(&mut self) -> Result<(), StorageError> {
        if self.is_founding || !self.mine.members.is_empty() {
            return Ok(());
        }
        let summary = |peer: &NodeId| Some((*peer, self.node.summary_of(*peer)?.clone()));
        let peers = self.links.keys().filter_map(summary).collect();
        let members = founding::members(self.own, &self.mine, &self.configured, &peers);
        if let Some(members) = members {
            self.is_founding = true;
            self.look_up(Lookup::Make(members))?;
        }
        Ok(())
    }

    fn handle_made(
        &mut self,
        members: BTreeMap<NodeId, u128>,
        noted: Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        noted?;
        self.is_founding = false;
        self.mine = self.storage.summary();
        self.node.set_members(members);
        for (_, link) in self.links.values() {
            link.send(Message::Hello { summary: self.mine.clone(), asks: false });
        }
        Ok(())
    }

    fn handle_moved(&mut self) -> Result<(), StorageError> {
        // Lowered first: what comes now raises it again.
        self.moved.store(false, Ordering::Release);
        self.storage.check()?;
        self.node.handle_more();
        self.note_durable();
        Ok(())
    }

    fn note_durable(&mut self) {
        let durable = self.storage.replica().durable_place();
        if durable != self.durable {
            self.durable = durable;
            if self.node.needs_summary() {
                self.mine = self.storage.summary();
            }
            self.node.handle_durable(durable, &self.mine);
        }
    }

    fn handle_ended(&mut self, done: Done) {
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
            // As far as that is by now: an older place must not come behind a newer one.
            Done::Durable(_) => self.note_durable(),
            Done::Refused => self.node.handle_append_failed(),
            Done::Began(promise, place) => {
                self.durable = place;
                self.node.handle_began(self.now_ms(), promise, &self.mine);
                self.node.handle_durable(place, &self.mine);
                self.node.handle_more();
            }
            Done::NotBegun => {}
            Done::Noted => self.node.handle_noted(&self.mine),
        }
    }

    fn handle_read(&mut self, asked: ReadAsked, piece: Option<Piece>) {
        let ReadAsked { peer, stream, from, commit_lsn, .. } = asked;
        let sent = piece.as_ref().map(|piece| (piece.end, piece.bytes.len() as u64));
        if let (Some(piece), Some((_, link))) = (piece, self.links.get(&peer)) {
            let (after, Piece { end, bytes }) = ((from.segment, from.offset), piece);
            link.send(Message::Batches { stream, after, end, commit_lsn, bytes });
        }
        self.node.handle_sent(peer, stream, sent);
    }

    /// Does what the node wants done.
    fn act(&mut self) -> Result<(), StorageError> {
        while let Some(action) = self.node.poll_action() {
            match action {
                Action::Send { to, message } => {
                    if let Some((_, link)) = self.links.get(&to) {
                        link.send(message);
                    }
                }
                Action::Promise(promise) => self.ask(Operation::Promise(promise))?,
                Action::Cut { number, at } => self.ask(Operation::Cut(number, at))?,
                Action::Append { bytes } => self.ask(Operation::Append(bytes))?,
                Action::Begin(promise) => self.ask(Operation::Begin(promise))?,
                Action::StopLeading => self.storage.replica().follow(),
                Action::FindPlace { peer, number, at } => {
                    self.look_up(Lookup::Place(peer, number, at))?;
                }
                Action::Read { peer, stream, from, bytes_max, commit_lsn } => {
                    let asked = ReadAsked { peer, stream, from, bytes_max, commit_lsn };
                    self.read(asked)?;
                }
                Action::Note(notes) => self.look_up(Lookup::Note(notes))?,
                Action::Commit(lsn) => self.storage.replica().set_commit_lsn(lsn),
                Action::Notice(notice) => self.notice(notice),
            }
        }
        Ok(())
    }

    fn ask(&self, operation: Operation) -> Result<(), StorageError> {
        self.operations.send(operation).map_err(|_| ended())
    }

    fn look_up(&self, lookup: Lookup) -> Result<(), StorageError> {
        self.lookups.send(lookup).map_err(|_| ended())
    }

    /// From memory at once, from segments in a while.
    fn read(&mut self, asked: ReadAsked) -> Result<(), StorageError> {
        let asked = ReadAsked { bytes_max: asked.bytes_max.min(PIECE_BYTES_MAX), ..asked };
        let bytes_max = usize::try_from(asked.bytes_max).unwrap_or(usize::MAX);
        match self.storage.read_memory(asked.from, bytes_max) {
            Some(piece) => self.handle_read(asked, piece),
            None => self.look_up(Lookup::Read(asked))?,
        }
        Ok(())
    }

    fn notice(&mut self, notice: Notice) {
        self.succession.note(notice, self.standing.is_some(), self.now_ms());
        match notice {
            Notice::Leads(epoch) => self.answer_stand(Ok(epoch)),
            Notice::DidNotLead(epoch, reason) => {
                let why = match reason {
                    Reason::TooFewPromises => "too few replicas promised in time".to_owned(),
                    Reason::Fenced(promise) => {
                        format!(
                            "epoch {} is promised to node {}",
                            promise.epoch, promise.leader.node
                        )
                    }
                    Reason::NoMember => "this directory has lost something: it learns".to_owned(),
                    Reason::NotFetched => {
                        "what another replica has more could not be fetched in time".to_owned()
                    }
                };
                self.answer_stand(Err(format!("epoch {epoch}: {why}")));
            }
            _ => {}
        }
        self.snapshot.note(notice);
    }

    fn answer_stand(&mut self, answer: Result<Epoch, String>) {
        if let Some(standing) = self.standing.take() {
            // Whoever asked may have gone.
            let _ = standing.send(answer);
        }
    }

    fn publish(&mut self, now_ms: u64) {
        let (own, commit_lsn) = ((self.own, self.durable), self.node.commit_lsn());
        let levels = self.snapshot.levels(&self.node, own, commit_lsn, now_ms);
        self.levels.send_if_modified(|published| {
            let changed = *published != levels;
            if changed {
                *published = levels;
            }
            changed
        });
        let end = self.storage.replica().end_place();
        let seen = self.snapshot.seen(&self.node, now_ms, end);
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = seen;
    }
}

/// A thread that serves the loop is gone: it panicked, or has said why before.
fn ended() -> StorageError {
    StorageError::Append(AppendError::Closed)
}
