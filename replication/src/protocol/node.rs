//! A node: what it does about each message, about the end of each operation of its disk, and about time.
//!
//! Owns the role, the streams and the promises on their way. Does no I/O, reads no clock and no log: inputs
//! come in by `handle_*`, what has to be done goes out by [`Node::poll_action`]. What each role does is in
//! `standing`, `leading` and `following`.
//!
//! Invariants, looked for in simulated clusters by `no_promise_is_broken` in tests/cluster.rs, and in one node by
//! `a_promise_is_answered_when_it_is_durable` and `nothing_of_an_earlier_epoch_is_taken`
//!  N1. A promise is sent only after it is durable, and nothing of an earlier epoch is taken from the moment
//!      it is asked for.
//!  N2. Only the leader that the newest promise names is followed.
//!  N3. `commit_lsn` never goes back.                                        asserted in `commit`
//!
//! Units: times are milliseconds of a monotonic clock, of which only differences count.
//! Bounds: per peer one stream in each direction; actions are taken out before more input is given.

use std::collections::{BTreeMap, VecDeque};

use cairnlog_engine::{Epoch, LeaderId, Lsn, Place, Promise};

use super::action::{Action, Notice, Reason};
use super::history::Summary;
use super::inbound::Inbound;
use super::leading::Leading;
use super::lease::Heard;
use super::message::Message;
use super::node_id::NodeId;
use super::outbound::Outbound;
use super::quorum::position;
use super::shown::{Doubt, NO_DIRECTORY, Noting, Shown};
use super::standing::Standing;

/// What a node is told once.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This node.
    pub node: NodeId,
    /// This life of this replica, as a leader.
    pub leader: LeaderId,
    /// The replicas that count, by their directories, this one included if it does; whoever else connects
    /// learns, a node of the set with another directory included.
    pub members: BTreeMap<NodeId, u128>,
    /// What they have shown, as far as that was noted.
    pub shown: BTreeMap<NodeId, Shown>,
    /// Bytes on their way to one peer.
    pub window_bytes: u64,
    /// Between two heartbeats.
    pub heartbeat_interval_ms: u64,
    /// For so long after a heartbeat that a commit quorum has heard a leader knows that nobody else leads.
    pub lease_ms: u64,
    /// A candidate that has not come to lead by then gives up.
    pub standing_ms_max: u64,
}

/// What a node is at the moment.
#[derive(Clone, Debug)]
pub(super) enum Role {
    Follower { leader: Option<NodeId> },
    Candidate(Standing),
    Leader(Leading),
}

/// Why a promise is on its way to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// Somebody stands, and is told; also of the leader that was heard.
    Asked(NodeId, Option<Heard>),
    /// Somebody leads, and is followed.
    Follow(NodeId),
    /// This node stands.
    Stand,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Peer {
    /// What it said last of itself.
    pub(super) summary: Option<Summary>,
    pub(super) outbound: Option<Outbound>,
    /// A stream to it begins when this log is durable as far as the peer's.
    pub(super) waits: bool,
    /// A stream that begins when its place is found.
    pub(super) finding: Option<Finding>,
    /// It said less than it has shown, and was asked.
    pub(super) doubt: Option<Doubt>,
}

/// A stream that is to begin.
#[derive(Clone, Copy, Debug)]
pub(super) struct Finding {
    number: u64,
    at: (u64, u64),
    promised: Promise,
    until: Option<Place>,
}

/// See the module.
#[derive(Debug)]
pub struct Node {
    pub(super) settings: Settings,
    pub(super) role: Role,
    pub(super) peers: BTreeMap<NodeId, Peer>,
    pub(super) inbound: Option<Inbound>,
    /// What is durable, and what is on its way there.
    promised: Promise,
    promising: Option<(Promise, Why)>,
    /// The greatest epoch that anybody spoke of.
    pub(super) seen_epoch: Epoch,
    /// The end of what is durable here.
    pub(super) durable: Place,
    pub(super) commit_lsn: Lsn,
    /// What the other members have shown.
    pub(super) shown: BTreeMap<NodeId, Shown>,
    pub(super) noting: Noting,
    /// The leader that was heard last, and until when it may hold a lease.
    pub(super) heard: Option<Heard>,
    last_number: u64,
    actions: VecDeque<Action>,
}

impl Node {
    /// A node as its directory was found: it follows whomever it promised to, and may have heard of it a moment ago.
    #[must_use]
    pub fn new(mut settings: Settings, mine: &Summary, now_ms: u64) -> Node {
        let mut node = Node {
            heard: None,
            shown: std::mem::take(&mut settings.shown),
            noting: Noting::default(),
            settings,
            role: Role::Follower { leader: None },
            peers: BTreeMap::new(),
            inbound: None,
            promised: mine.promised,
            promising: None,
            seen_epoch: mine.promised.epoch,
            durable: mine.end,
            commit_lsn: mine.commit_lsn,
            last_number: 0,
            actions: VecDeque::new(),
        };
        node.restart(mine, now_ms);
        node
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Whether what this replica promises and has counts.
    pub(super) fn is_member(&self) -> bool {
        let own = &self.settings;
        own.members.get(&own.node) == Some(&own.leader.incarnation)
            && own.leader.incarnation != NO_DIRECTORY
    }

    /// Whether what a peer acknowledges counts: by the directory that it spoke of on this connection.
    pub(super) fn counts(&self, node: NodeId) -> bool {
        let peer = self.peers.get(&node).filter(|peer| peer.doubt.is_none());
        let summary = peer.and_then(|peer| peer.summary.as_ref());
        summary.is_some_and(|summary| self.is_member_with(node, summary))
    }

    pub(super) fn is_member_with(&self, node: NodeId, summary: &Summary) -> bool {
        self.settings.members.get(&node) == Some(&summary.incarnation)
            && summary.incarnation != NO_DIRECTORY
    }

    /// The cluster was made, or its replicas have changed.
    pub fn set_members(&mut self, members: BTreeMap<NodeId, u128>) {
        self.settings.members = members;
        self.advance_commit();
    }

    /// What a peer said last of itself, on this connection.
    #[must_use]
    pub fn summary_of(&self, peer: NodeId) -> Option<&Summary> {
        self.peers.get(&peer)?.summary.as_ref()
    }

    /// Whether somebody spoke of a later epoch than the one that is promised here.
    #[must_use]
    pub fn has_seen_later(&self) -> bool {
        self.seen_epoch > self.promised().epoch
    }

    /// Whether [`Node::handle_durable`] has to be told what this replica has by now.
    #[must_use]
    pub fn needs_summary(&self) -> bool {
        matches!(self.role, Role::Candidate(_)) || self.peers.values().any(|peer| peer.waits)
    }

    /// Whether it leads.
    #[must_use]
    pub fn leads(&self) -> bool {
        matches!(self.role, Role::Leader(_))
    }

    /// Below it records are committed, as far as this node knows.
    #[must_use]
    pub fn commit_lsn(&self) -> Lsn {
        self.commit_lsn
    }

    /// The greatest promise, durable or on its way: nothing of an earlier epoch is taken.
    #[must_use]
    pub fn promised(&self) -> Promise {
        self.promising.map_or(self.promised, |(promise, _)| promise)
    }

    /// Whether nothing of [`promised`](Node::promised) is on its way to the disk.
    pub(super) fn is_promise_durable(&self) -> bool {
        self.promising.is_none()
    }

    /// A connection to a peer was made.
    pub fn handle_connected(&mut self, peer: NodeId, mine: &Summary) {
        self.peers.insert(peer, Peer::default());
        self.send(peer, Message::Hello { summary: mine.clone(), asks: false });
    }

    /// The connection to a peer is gone.
    pub fn handle_disconnected(&mut self, peer: NodeId, mine: &Summary) {
        self.peers.remove(&peer);
        self.inbound.take_if(|inbound| inbound.from == peer);
        self.fetch_elsewhere(peer, mine);
    }

    /// A message came over the connection to a peer; `mine` is what this replica has.
    pub fn handle_message(&mut self, now_ms: u64, from: NodeId, message: Message, mine: &Summary) {
        if !self.peers.contains_key(&from) {
            return;
        }
        match message {
            Message::Hello { summary, asks } => {
                self.handle_hello(now_ms, from, summary, asks, mine);
            }
            Message::Empty { .. } => {
                self.send(from, Message::Hello { summary: mine.clone(), asks: false });
            }
            // Of a cluster that is made already.
            Message::Found { .. } => {}
            Message::Seal(promise) => self.handle_seal(now_ms, from, promise, mine),
            Message::Sealed { promised, summary, heard } => {
                self.see(promised.epoch);
                self.handle_sealed(now_ms, from, promised, (summary, heard), mine);
            }
            Message::Fetch { promised, from: at } => self.handle_fetch(from, promised, at),
            Message::Stream { stream, promised, at } => {
                self.see(promised.epoch);
                self.handle_stream(from, stream, promised, at);
            }
            Message::Ready { stream } => self.handle_ready(from, stream),
            Message::Unready { stream } => self.handle_unready(from, stream, mine),
            Message::Batches { stream, after, end, commit_lsn, bytes } => {
                self.handle_batches(from, stream, after, end, bytes);
                self.commit_as_told(from, commit_lsn);
            }
            Message::Ack { stream, durable } => self.handle_ack(from, stream, durable),
            Message::Heartbeat { promised, commit_lsn, sequence, acked } => {
                self.see(promised.epoch);
                if self.handle_heartbeat(from, promised, sequence) {
                    self.hear(from, now_ms);
                    for (node, to) in acked {
                        self.see_acked(node, promised.epoch, to);
                    }
                }
                self.commit_as_told(from, commit_lsn);
            }
            Message::Heard { epoch, sequence } => self.handle_heard(from, epoch, sequence),
            Message::Question { number } => {
                self.send(from, Message::Answer { number, summary: mine.clone() });
            }
            Message::Answer { number, summary } => self.handle_answer(from, number, &summary),
            Message::Fenced(promised) => {
                self.see(promised.epoch);
                self.handle_fenced(now_ms, promised);
            }
        }
    }

    fn handle_hello(
        &mut self,
        now_ms: u64,
        from: NodeId,
        summary: Summary,
        asks: bool,
        mine: &Summary,
    ) {
        self.see(summary.promised.epoch);
        if asks {
            self.send(from, Message::Hello { summary: mine.clone(), asks: false });
        }
        self.look_at(from, &summary, mine);
        let promised = summary.promised;
        self.peers.entry(from).or_default().summary = Some(summary);
        match &self.role {
            Role::Leader(leading) if promised.epoch > leading.promise.epoch => {
                self.handle_fenced(now_ms, promised);
            }
            Role::Leader(_) => self.begin_stream(from, mine),
            Role::Candidate(standing) => {
                let promise = standing.promise;
                if standing.asks() {
                    self.send(from, Message::Seal(promise));
                }
            }
            Role::Follower { .. } => {}
        }
    }

    /// Somebody stands.
    fn handle_seal(&mut self, now_ms: u64, from: NodeId, promise: Promise, mine: &Summary) {
        self.see(promise.epoch);
        if !self.is_member() {
            // A directory that nobody knows may have forgotten what it promised.
            return;
        }
        let theirs = self.peers.get(&from).and_then(|peer| peer.summary.as_ref());
        if theirs.is_none_or(|summary| summary.log_id != mine.log_id) || !self.counts(from) {
            // Whoever has another log has no say in this one, and who does not count does not lead.
            return;
        }
        let stands = self.promised();
        if promise == self.promised {
            self.send_sealed(from, mine, self.lease_left(now_ms));
        } else if promise.epoch > stands.epoch {
            // From here on no heartbeat of an earlier epoch is heard.
            let heard = self.lease_left(now_ms);
            self.start_promise(promise, Why::Asked(from, heard));
        } else if self.promising.is_none() {
            self.send_sealed(from, mine, None);
        }
        // Else a promise is on its way that may stand against it: whoever asks will ask again.
    }

    /// What is promised durably, and what the log holds then.
    fn send_sealed(&mut self, to: NodeId, mine: &Summary, heard: Option<Heard>) {
        let promised = self.promised;
        self.send(to, Message::Sealed { promised, summary: mine.clone(), heard });
    }

    /// From here on nothing of an earlier epoch is taken, sent as a leader, or acknowledged.
    pub(super) fn start_promise(&mut self, promise: Promise, why: Why) {
        assert!(promise.epoch > self.promised().epoch, "promises grow");
        if matches!(self.role, Role::Candidate(_)) {
            self.give_up(Reason::Fenced(promise));
        }
        self.stop_leading();
        self.inbound = None;
        self.promising = Some((promise, why));
        self.act(Action::Promise(promise));
    }

    /// A promise is durable, and `mine` what the log holds then.
    pub fn handle_promised(&mut self, promise: Promise, mine: &Summary) {
        self.promised = promise;
        self.durable = mine.end;
        let Some((_, why)) = self.promising.take_if(|(promising, _)| *promising == promise) else {
            // A greater one is on its way already, and whoever asked for this one hears of that.
            return;
        };
        match why {
            Why::Asked(peer, heard) => {
                self.role = Role::Follower { leader: None };
                self.send_sealed(peer, mine, heard);
            }
            Why::Follow(leader) => {
                self.follow(leader);
                self.send(leader, Message::Hello { summary: mine.clone(), asks: false });
            }
            Why::Stand => self.handle_own_promise(mine),
        }
    }

    /// What is durable here has moved.
    pub fn handle_durable(&mut self, place: Place, mine: &Summary) {
        self.durable = place;
        if let Some(inbound) = &mut self.inbound
            && let Some(acked) = inbound.handle_durable(place)
        {
            let (to, stream) = (inbound.from, inbound.stream);
            self.send(to, Message::Ack { stream, durable: acked });
            self.handle_fetched(acked, mine);
        }
        self.begin_waiting(mine);
        self.advance_commit();
    }

    /// There is more in the log than before, durable or not.
    pub fn handle_more(&mut self) {
        let peers: Vec<NodeId> = self.peers.keys().copied().collect();
        for peer in peers {
            if let Some(outbound) = self.outbound(peer) {
                outbound.handle_more();
                self.read_for(peer);
            }
        }
    }

    pub(super) fn outbound(&mut self, peer: NodeId) -> Option<&mut Outbound> {
        self.peers.get_mut(&peer)?.outbound.as_mut()
    }

    /// Where a stream to a peer begins, if the log goes through the place that was asked for.
    pub fn handle_place(&mut self, peer: NodeId, number: u64, place: Option<Place>) {
        let window_bytes = self.settings.window_bytes;
        // An answer to what was asked before, perhaps of a log that was cut since, is none.
        let asked = |finding: &mut Finding| finding.number == number;
        let known = self.peers.get_mut(&peer);
        let Some(finding) = known.and_then(|peer| peer.finding.take_if(asked)) else { return };
        let Some(at) = place.filter(|at| (at.segment, at.offset) == finding.at) else {
            self.act(Action::Notice(Notice::TooFarBehind(peer)));
            return;
        };
        if finding.promised != self.promised {
            return;
        }
        let stream = self.next_number();
        let outbound = Outbound::new(stream, at, finding.until, window_bytes);
        self.peers.entry(peer).or_default().outbound = Some(outbound);
        self.send(peer, Message::Stream { stream, promised: finding.promised, at });
    }

    /// The log is to be looked at for a place at which a stream can begin.
    pub(super) fn find_place(
        &mut self,
        peer: NodeId,
        at: (u64, u64),
        promised: Promise,
        until: Option<Place>,
    ) {
        let number = self.next_number();
        let known = self.peers.entry(peer).or_default();
        known.outbound = None;
        known.finding = Some(Finding { number, at, promised, until });
        self.act(Action::FindPlace { peer, number, at });
    }

    /// Numbers streams, cuts and lookups.
    pub(super) fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    fn handle_ready(&mut self, from: NodeId, stream: u64) {
        let Some(outbound) = self.outbound(from).filter(|out| out.stream == stream) else { return };
        outbound.handle_ready();
        self.read_for(from);
        self.advance_commit();
    }

    /// Pieces went out, or there were none.
    pub fn handle_sent(&mut self, peer: NodeId, stream: u64, sent: Option<(Place, u64)>) {
        let Some(outbound) = self.outbound(peer).filter(|out| out.stream == stream) else { return };
        outbound.handle_sent(sent);
        self.read_for(peer);
    }

    pub(super) fn read_for(&mut self, peer: NodeId) {
        let commit_lsn = self.commit_lsn;
        let Some(outbound) = self.outbound(peer) else { return };
        let stream = outbound.stream;
        if let Some((from, bytes_max)) = outbound.poll_read() {
            self.act(Action::Read { peer, stream, from, bytes_max, commit_lsn });
        }
    }

    fn handle_ack(&mut self, from: NodeId, stream: u64, durable: Place) {
        let Some(outbound) = self.outbound(from).filter(|out| out.stream == stream) else { return };
        if !outbound.handle_ack(durable) {
            self.act(Action::Notice(Notice::Misbehaves(from)));
            return;
        }
        if let Role::Leader(leading) = &self.role
            && self.counts(from)
        {
            let epoch = leading.promise.epoch;
            self.see_acked(from, epoch, position(&durable));
        }
        self.read_for(from);
        self.advance_commit();
    }

    /// A later epoch is promised somewhere.
    fn handle_fenced(&mut self, now_ms: u64, promised: Promise) {
        let own = match &self.role {
            Role::Leader(leading) => leading.promise,
            Role::Candidate(standing) => standing.promise,
            Role::Follower { .. } => return,
        };
        if promised.epoch > own.epoch {
            self.stop_leading();
            self.give_up(Reason::Fenced(promised));
        } else if promised.epoch == own.epoch && promised != own {
            // That replica cannot follow in this epoch, and can in a later one.
            let earlier = self.settings.members.range(..self.settings.node).count() as u64;
            let waits_ms = self.settings.heartbeat_interval_ms * (earlier + 1);
            if let Role::Leader(leading) = &mut self.role {
                leading.stand_again(now_ms + waits_ms);
            }
        }
    }

    /// Ends whatever only a leader does.
    pub(super) fn stop_leading(&mut self) {
        if let Role::Leader(leading) = &self.role {
            let epoch = leading.promise.epoch;
            self.role = Role::Follower { leader: None };
            self.act(Action::StopLeading);
            self.act(Action::Notice(Notice::StoppedLeading(epoch)));
        }
        for peer in self.peers.values_mut() {
            (peer.outbound, peer.finding, peer.waits) = (None, None, false);
        }
    }

    pub(super) fn see(&mut self, epoch: Epoch) {
        self.seen_epoch = self.seen_epoch.max(epoch);
    }

    pub(super) fn commit(&mut self, lsn: Lsn) {
        assert!(lsn >= self.commit_lsn, "N3");
        if lsn > self.commit_lsn {
            self.commit_lsn = lsn;
            self.act(Action::Commit(lsn));
        }
    }

    pub(super) fn send(&mut self, to: NodeId, mut message: Message) {
        if let Message::Hello { summary, .. }
        | Message::Answer { summary, .. }
        | Message::Sealed { summary, .. } = &mut message
        {
            summary.shown.clone_from(&self.shown);
        }
        if self.peers.contains_key(&to) {
            self.act(Action::Send { to, message });
        }
    }

    pub(super) fn act(&mut self, action: Action) {
        self.actions.push_back(action);
    }
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod rules;
#[cfg(test)]
#[path = "node_tests.rs"]
mod tests;
