//! The node between its peers and its disk, and what is held against it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use cairnlog_engine::{LeaderId, Lsn, Place, Promise};
use cairnlog_replication::protocol::action::Action;
use cairnlog_replication::protocol::history::Summary;
use cairnlog_replication::protocol::message::Message;
use cairnlog_replication::protocol::node::{Node, Settings};
use cairnlog_replication::protocol::node_id::NodeId;
use cairnlog_replication::protocol::quorum::{commit_quorum, seal_quorum};
use cairnlog_replication::protocol::view::RoleKind;
use cairnlog_replication::wire::frame::{LENGTH_BYTES, decode, encode};

use super::Input;
use super::disk::{Disk, position};
use super::says::{Known, Says, incarnation_of};

const NODES: u64 = 5;
const OWN: NodeId = NodeId::FIRST;
const WINDOW_BYTES: u64 = 2048;

/// See [`Summary::rank`].
type Rank = (u64, u64, u64, u64);

/// What was said between a peer and the node, on the connection that there is now.
#[derive(Default)]
struct Talk {
    /// Streams that it offered, with the promise of each.
    offered: BTreeMap<u64, Promise>,
    /// The newest of these, and where the pieces that it sent end.
    inbound: (u64, Option<Place>),
    /// The newest stream to it, where it began, and the ends of what was sent.
    outbound: Option<(u64, Vec<Place>)>,
    is_ready: bool,
}

/// A piece that was taken from a stream.
struct Taken {
    after: (u64, u64),
    end: Place,
}

/// See the module.
pub(super) struct World {
    node: Node,
    disk: Disk,
    now_ms: u64,
    operations: VecDeque<Action>,
    lookups: VecDeque<Action>,
    talks: BTreeMap<NodeId, Talk>,
    /// By their number.
    pieces: BTreeMap<u64, Taken>,
    /// Ends of pieces that the disk took.
    taken: Vec<Place>,
    /// The stream that was offered last, for which a cut may be asked.
    offered: (NodeId, u64),
    /// By the number of a cut: for which stream of whom it was asked.
    cutting: BTreeMap<u64, (NodeId, u64)>,
    /// Streams for which the disk was cut, since they were offered last.
    cut: BTreeSet<(NodeId, u64)>,
    /// What each peer has, by what it said of what was sent to it.
    has: BTreeMap<NodeId, Lsn>,
    /// The logs of members that promised what stands.
    sealed: BTreeMap<NodeId, Rank>,
    /// The promise that stood when it was looked at last.
    promised: Promise,
    commit_lsn: Lsn,
}

pub(super) fn node_of(number: u8) -> NodeId {
    NodeId::new(2 + u64::from(number) % (NODES - 1)).expect("not 0")
}

fn members_of(count: u8) -> BTreeMap<NodeId, u128> {
    let nodes = (1..=u64::from(count) % (NODES + 1)).filter_map(NodeId::new);
    nodes.map(|node| (node, incarnation_of(node))).collect()
}

impl World {
    pub(super) fn new(members: u8, is_member: bool) -> World {
        let members = members_of(members);
        let incarnation = if is_member { incarnation_of(OWN) } else { 1 };
        let disk = Disk::new(incarnation, members.clone());
        let settings = Settings {
            node: OWN,
            leader: LeaderId { node: OWN.get(), incarnation, nonce: 1 },
            members,
            shown: BTreeMap::new(),
            window_bytes: WINDOW_BYTES,
            heartbeat_interval_ms: 50,
            lease_ms: 250,
            standing_ms_max: 1000,
        };
        World {
            node: Node::new(settings, &disk.summary(), 0),
            disk,
            now_ms: 0,
            operations: VecDeque::new(),
            lookups: VecDeque::new(),
            talks: BTreeMap::new(),
            pieces: BTreeMap::new(),
            taken: Vec::new(),
            offered: (OWN, 0),
            cutting: BTreeMap::new(),
            cut: BTreeSet::new(),
            has: BTreeMap::new(),
            sealed: BTreeMap::new(),
            promised: Promise::default(),
            commit_lsn: Lsn::NONE,
        }
    }

    pub(super) fn apply(&mut self, input: &Input) {
        match input {
            Input::Connect { peer } => self.connect(node_of(*peer)),
            Input::Disconnect { peer } => self.disconnect(node_of(*peer)),
            Input::Message { from, says } => self.message(node_of(*from), says),
            Input::End { refused } => self.end(*refused),
            Input::Answer { fails } => self.answer(*fails),
            Input::Grow { records } => {
                if self.disk.leads && self.node.leads() {
                    self.disk.grow(u64::from(*records));
                    self.node.handle_more();
                }
            }
            Input::Sync => {
                self.disk.sync();
                self.node.handle_durable(self.disk.durable(), &self.disk.summary());
            }
            Input::Stand => self.node.stand(self.now_ms),
            Input::Pass { ms } => {
                self.now_ms += u64::from(*ms);
                if self.node.poll_timeout().is_some_and(|due_ms| due_ms <= self.now_ms) {
                    self.node.handle_timeout(self.now_ms);
                }
            }
            Input::Join { members } => {
                if self.disk.members.is_empty() {
                    self.disk.members = members_of(*members);
                    self.node.set_members(self.disk.members.clone());
                }
            }
        }
        self.act();
    }

    fn connect(&mut self, peer: NodeId) {
        self.disconnect(peer);
        self.talks.insert(peer, Talk::default());
        self.node.handle_connected(peer, &self.disk.summary());
    }

    fn disconnect(&mut self, peer: NodeId) {
        if self.talks.remove(&peer).is_some() {
            self.node.handle_disconnected(peer, &self.disk.summary());
        }
    }

    fn message(&mut self, from: NodeId, says: &Says) {
        let piece = self.pieces.len() as u64;
        let Some(talk) = self.talks.get(&from) else { return };
        let sent = talk.outbound.as_ref();
        let is_outbound = matches!(says, Says::Ack { .. } | Says::Ready(_) | Says::Unready(_));
        let (stream, last) = match sent {
            Some((stream, ends)) if is_outbound => (*stream, ends.last().copied()),
            _ => talk.inbound,
        };
        let known = Known {
            from,
            standing: self.node.promised(),
            durable: self.disk.durable(),
            last: last.unwrap_or(self.disk.durable()),
            stream,
            members: self.disk.members.clone(),
            piece,
        };
        // Only what a frame can carry.
        let Ok(message) = decode(&encode(&says.message(&known))[LENGTH_BYTES..]) else { return };
        self.note(from, &message, piece);
        self.node.handle_message(self.now_ms, from, message, &self.disk.summary());
    }

    /// Remembers what the properties need of a message.
    fn note(&mut self, from: NodeId, message: &Message, piece: u64) {
        let is_member =
            |summary: &Summary| self.disk.members.get(&from) == Some(&summary.incarnation);
        let talk = self.talks.get_mut(&from).expect("it is connected");
        match message {
            Message::Stream { stream, promised, at } => {
                talk.offered.insert(*stream, *promised);
                self.offered = (from, *stream);
                self.cut.remove(&self.offered);
                talk.inbound = (*stream, Some(*at));
            }
            Message::Batches { after, end, .. } => {
                talk.inbound.1 = Some(*end);
                self.pieces.insert(piece, Taken { after: *after, end: *end });
            }
            // An answer that was given twice counts as the lesser.
            Message::Sealed { promised, summary, .. }
                if is_member(summary) && *promised == self.node.promised() =>
            {
                let rank = self.sealed.entry(from).or_insert(summary.rank());
                *rank = summary.rank().min(*rank);
            }
            Message::Ready { stream } => {
                if let Some((number, ends)) = &talk.outbound
                    && number == stream
                {
                    talk.is_ready = true;
                    note_has(&mut self.has, from, ends[0].lsn);
                }
            }
            Message::Ack { stream, durable } => {
                if let Some((number, ends)) = &talk.outbound
                    && number == stream
                    && talk.is_ready
                    && ends.contains(durable)
                {
                    note_has(&mut self.has, from, durable.lsn);
                }
            }
            _ => {}
        }
    }

    /// The oldest operation ends.
    fn end(&mut self, refused: bool) {
        match self.operations.pop_front() {
            Some(Action::Promise(promise)) => {
                self.disk.promise(promise);
                if promise.leader == self.own_leader() {
                    self.sealed = BTreeMap::from([(OWN, self.disk.summary().rank())]);
                }
                self.node.handle_promised(promise, &self.disk.summary());
            }
            Some(Action::Cut { number, at }) => {
                let done = !refused && self.disk.cut(at);
                if done {
                    self.cut.insert(self.cutting[&number]);
                    self.taken.push(at);
                }
                self.node.handle_cut(number, done);
            }
            Some(Action::Append { bytes }) => {
                let number = bytes.first_chunk().map(|number| u64::from_le_bytes(*number));
                let piece = &self.pieces[&number.expect("it was sent so")];
                if refused || !self.disk.append(piece.after, piece.end) {
                    self.node.handle_append_failed();
                } else {
                    self.taken.push(piece.end);
                    self.node.handle_durable(self.disk.durable(), &self.disk.summary());
                }
            }
            Some(Action::Begin(promise)) if !refused && self.disk.begin(promise) => {
                let mine = self.disk.summary();
                self.node.handle_began(self.now_ms, promise, &mine);
                self.node.handle_durable(self.disk.durable(), &mine);
                self.node.handle_more();
            }
            _ => {}
        }
    }

    /// The oldest lookup is answered, from the log as it is by now.
    fn answer(&mut self, fails: bool) {
        match self.lookups.pop_front() {
            Some(Action::FindPlace { peer, number, at }) if !fails => {
                self.node.handle_place(peer, number, self.disk.place_at(at));
            }
            Some(Action::Read { peer, stream, from, .. }) if !fails => match self.disk.next(from) {
                Some(end) => self.read(peer, stream, from, end),
                None => self.node.begin_again(peer, &self.disk.summary()),
            },
            Some(Action::Note(notes)) => {
                self.disk.members = notes.members;
                self.node.handle_noted(&self.disk.summary());
            }
            Some(Action::FindPlace { peer, .. } | Action::Read { peer, .. }) => {
                self.node.begin_again(peer, &self.disk.summary());
            }
            _ => {}
        }
    }

    fn read(&mut self, peer: NodeId, stream: u64, from: Place, end: Option<Place>) {
        if let Some(end) = end
            && let Some((number, ends)) =
                self.talks.get_mut(&peer).and_then(|t| t.outbound.as_mut())
            && *number == stream
        {
            ends.push(end);
        }
        let bytes = |end: Place| end.offset.saturating_sub(from.offset).clamp(1, WINDOW_BYTES);
        self.node.handle_sent(peer, stream, end.map(|end| (end, bytes(end))));
    }

    fn own_leader(&self) -> LeaderId {
        let incarnation = self.disk.summary().incarnation;
        LeaderId { node: OWN.get(), incarnation, nonce: 1 }
    }

    /// Takes out what the node wants done, and holds the properties against it.
    fn act(&mut self) {
        while let Some(action) = self.node.poll_action() {
            match action {
                Action::Send { to, message } => self.check_sent(to, message),
                Action::Append { .. } => {
                    self.check_taken();
                    self.operations.push_back(action);
                }
                Action::Begin(promise) => {
                    self.check_begin(promise);
                    self.operations.push_back(action);
                }
                Action::Cut { number, .. } => {
                    self.cutting.insert(number, self.offered);
                    self.operations.push_back(action);
                }
                Action::Promise(_) => self.operations.push_back(action),
                Action::FindPlace { .. } | Action::Read { .. } | Action::Note(_) => {
                    self.lookups.push_back(action);
                }
                Action::StopLeading => self.disk.leads = false,
                Action::Commit(lsn) => self.check_commit(lsn),
                Action::Notice(_) => {}
            }
        }
        let promised = self.node.promised();
        let goes_on = promised.epoch > self.promised.epoch || promised == self.promised;
        assert!(goes_on, "R2: {promised:?} after {:?}", self.promised);
        self.promised = promised;
    }

    fn check_sent(&mut self, to: NodeId, message: Message) {
        match message {
            Message::Sealed { promised, .. } | Message::Fenced(promised) => {
                let is_stranger = self.node.role() == RoleKind::Learner;
                let is_sealed = matches!(message, Message::Sealed { .. });
                assert!(!is_sealed || promised == self.disk.promised, "R2: {message:?}");
                assert!(!is_sealed || !is_stranger, "R2: {message:?} of a stranger");
            }
            Message::Ready { stream } => {
                assert!(self.cut.contains(&(to, stream)), "R5: {message:?}");
            }
            Message::Ack { durable, .. } => {
                assert!(self.taken.contains(&durable), "R5: {message:?}");
                assert!(position(&durable) <= position(&self.disk.durable()), "R5: {message:?}");
            }
            Message::Stream { stream, at, .. } => {
                if let Some(talk) = self.talks.get_mut(&to) {
                    talk.outbound = Some((stream, vec![at]));
                    talk.is_ready = false;
                }
            }
            _ => {}
        }
    }

    /// Whatever is taken was offered for the promise that stands, by the leader that this names, or to a candidate.
    fn check_taken(&self) {
        let promised = self.node.promised();
        let offers = |talk: &Talk| talk.offered.values().any(|offered| *offered == promised);
        let mut from = self.talks.iter().filter(|(_, talk)| offers(talk)).map(|(node, _)| *node);
        let is_leader = |node: NodeId| promised.leader.node == node.get();
        let is_candidate = self.node.role() == RoleKind::Candidate;
        assert!(from.any(|node| is_candidate || is_leader(node)), "R3: for {promised:?}");
    }

    fn check_begin(&self, promise: Promise) {
        assert!(
            promise == self.disk.promised && promise == self.node.promised(),
            "R6: {promise:?}"
        );
        let needed = seal_quorum(self.disk.members.len());
        let mine = self.disk.summary().rank();
        let held = self.sealed.values().filter(|rank| **rank <= mine).count();
        assert!(held >= needed, "R6: it has the logs of {held} of {needed}: {:?}", self.sealed);
    }

    fn check_commit(&mut self, lsn: Lsn) {
        assert!(lsn > self.commit_lsn, "R4: {lsn} after {}", self.commit_lsn);
        (self.commit_lsn, self.disk.commit_lsn) = (lsn, lsn);
        if self.node.leads() {
            let has = |node: &NodeId| match *node {
                OWN => self.disk.durable().lsn,
                _ => self.has.get(node).copied().unwrap_or(Lsn::NONE),
            };
            let count = self.disk.members.keys().filter(|node| has(node) >= lsn).count();
            assert!(count >= commit_quorum(self.disk.members.len()), "R4: {count} have {lsn}");
        }
    }
}

fn note_has(has: &mut BTreeMap<NodeId, Lsn>, node: NodeId, lsn: Lsn) {
    let known = has.entry(node).or_insert(Lsn::NONE);
    *known = lsn.max(*known);
}
