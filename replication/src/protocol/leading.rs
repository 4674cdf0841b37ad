//! What a leader does: it sends its log to everybody, and commits what a quorum has.
//!
//! Owns the commit point. Part of `node`.

use cairnlog_engine::{Place, Promise};

use super::action::{Action, Notice};
use super::history::{Summary, common_place};
use super::lease::Rounds;
use super::message::Message;
use super::node::{Node, Role};
use super::node_id::NodeId;
use super::quorum::{commit_place, position};

/// The state of a leader.
#[derive(Clone, Debug)]
pub(super) struct Leading {
    pub(super) promise: Promise,
    /// Something of this epoch is committed.
    pub(super) has_committed: bool,
    pub(super) rounds: Rounds,
    /// Number of the next heartbeat, and when it is due.
    sequence: u64,
    heartbeat_ms: u64,
    /// When it takes a later epoch, because a replica has promised this one to another: two that stood at once
    /// wait for different times, so that one of them is heard first.
    again_ms: Option<u64>,
}

impl Leading {
    pub(super) fn new(promise: Promise, now_ms: u64) -> Leading {
        Leading {
            promise,
            has_committed: false,
            rounds: Rounds::default(),
            sequence: 1,
            heartbeat_ms: now_ms,
            again_ms: None,
        }
    }

    pub(super) fn due_ms(&self) -> u64 {
        self.again_ms.map_or(self.heartbeat_ms, |again_ms| again_ms.min(self.heartbeat_ms))
    }

    pub(super) fn stand_again(&mut self, at_ms: u64) {
        self.again_ms.get_or_insert(at_ms);
    }

    pub(super) fn stands_again(&self, now_ms: u64) -> bool {
        self.again_ms.is_some_and(|again_ms| again_ms <= now_ms)
    }
}

impl Node {
    /// Sends the log to a peer, from where it parts from the peer's.
    pub(super) fn begin_stream(&mut self, peer: NodeId, mine: &Summary) {
        let Role::Leader(Leading { promise, .. }) = self.role else { return };
        let Some(summary) = self.peers.get(&peer).and_then(|peer| peer.summary.as_ref()) else {
            return;
        };
        // It took more of this epoch than this disk has, and may have it acknowledged: nothing of that is given
        // up, and the stream begins when this log is durable as far.
        let is_ahead =
            summary.end.epoch == promise.epoch && position(&summary.end) > position(&mine.end);
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.waits = is_ahead;
        }
        if is_ahead {
            return;
        }
        let Some(summary) = self.peers.get(&peer).and_then(|peer| peer.summary.as_ref()) else {
            return;
        };
        match common_place(mine, summary) {
            Some(at) => self.find_place(peer, at, promise, None),
            None => self.act(Action::Notice(Notice::TooFarBehind(peer))),
        }
    }

    /// Begins the streams that waited for this log to be durable.
    pub(super) fn begin_waiting(&mut self, mine: &Summary) {
        let waiting = self.peers.iter().filter(|(_, peer)| peer.waits);
        let waiting: Vec<NodeId> = waiting.map(|(node, _)| *node).collect();
        for peer in waiting {
            self.begin_stream(peer, mine);
        }
    }

    /// A stream could not begin: the peer is asked what it has.
    pub(super) fn handle_unready(&mut self, from: NodeId, stream: u64, mine: &Summary) {
        let is_current = self.outbound(from).is_some_and(|outbound| outbound.stream == stream);
        if is_current {
            self.peers.entry(from).or_default().outbound = None;
            self.send(from, Message::Hello { summary: mine.clone(), asks: true });
        }
    }

    /// The log could not be read for a peer: the stream begins again, from what both say then.
    pub fn begin_again(&mut self, peer: NodeId, mine: &Summary) {
        if let Some(known) = self.peers.get_mut(&peer) {
            (known.outbound, known.finding) = (None, None);
        }
        if self.leads() {
            self.send(peer, Message::Hello { summary: mine.clone(), asks: true });
        }
    }

    /// What each member has of the log that this node leads, for the others to remember.
    pub(super) fn acked_by_members(&self) -> Vec<(NodeId, (u64, u64))> {
        let members = self.settings.members.keys();
        let acked = members.filter_map(|node| Some((*node, position(&self.acked_by(*node)?))));
        acked.collect()
    }

    /// Up to where a member has the log that this node leads.
    pub(super) fn acked_by(&self, node: NodeId) -> Option<Place> {
        if node == self.settings.node {
            return Some(self.durable);
        }
        let peer = self.peers.get(&node).filter(|_| self.counts(node))?;
        peer.outbound.as_ref()?.acked()
    }

    /// Commits what a quorum of the set has durable.
    pub(super) fn advance_commit(&mut self) {
        let Role::Leader(leading) = &self.role else { return };
        let epoch = leading.promise.epoch;
        let durable = |node: &NodeId| self.acked_by(*node).unwrap_or(Place::START);
        let places: Vec<Place> = self.settings.members.keys().map(durable).collect();
        if let Some(place) = commit_place(&places, epoch) {
            if let Role::Leader(leading) = &mut self.role {
                leading.has_committed = true;
            }
            self.commit(place.lsn.max(self.commit_lsn));
        }
    }

    /// The epoch has begun: its first batch is on its way.
    pub fn handle_began(&mut self, now_ms: u64, promise: Promise, mine: &Summary) {
        let stands = matches!(&self.role, Role::Candidate(standing) if standing.promise == promise);
        if !stands || self.promised() != promise {
            // A later promise came in between.
            self.act(Action::StopLeading);
            return;
        }
        self.inbound = None;
        self.role = Role::Leader(Leading::new(promise, now_ms));
        self.act(Action::Notice(Notice::Leads(promise.epoch)));
        self.tell_all(mine, true);
        self.advance_commit();
    }

    pub(super) fn send_heartbeats(&mut self, now_ms: u64) {
        let interval_ms = self.settings.heartbeat_interval_ms;
        let (commit_lsn, acked) = (self.commit_lsn, self.acked_by_members());
        let Role::Leader(leading) = &mut self.role else { return };
        let (promised, sequence) = (leading.promise, leading.sequence);
        leading.sequence += 1;
        leading.rounds.send(sequence, now_ms);
        leading.heartbeat_ms = now_ms + interval_ms;
        let peers: Vec<NodeId> = self.peers.keys().copied().collect();
        for peer in peers {
            let acked = acked.clone();
            self.send(peer, Message::Heartbeat { promised, commit_lsn, sequence, acked });
        }
    }
}
