//! What a replica does that does not lead: it follows, or it is served what another one has.
//!
//! Owns the taking of pieces, and the cut in front of them. Part of `node`.

use cairnlog_engine::{Lsn, Place, Promise};

use super::action::{Action, Notice};
use super::inbound::Inbound;
use super::message::Message;
use super::node::{Node, Role, Why};
use super::node_id::NodeId;
use super::quorum::position;

impl Node {
    /// A stream is offered: by the leader that is promised, by one that has a greater epoch, or by the replica
    /// that this candidate asked.
    pub(super) fn handle_stream(
        &mut self,
        from: NodeId,
        stream: u64,
        promised: Promise,
        at: Place,
    ) {
        let stands = self.promised();
        if promised.epoch < stands.epoch || (promised.epoch == stands.epoch && promised != stands) {
            self.fence(from);
            return;
        }
        if promised.epoch > stands.epoch {
            // The leader asks again when it hears what this replica has then.
            self.start_promise(promised, Why::Follow(from));
            return;
        }
        let is_leader = promised.leader.node == from.get();
        let is_asked = match &self.role {
            Role::Candidate(standing) => standing.fetches_from(from),
            Role::Follower { .. } => is_leader,
            Role::Leader(_) => false,
        };
        if !is_asked {
            // What this replica asked for when it stood, and does not need any more.
            return;
        }
        if self.durable.epoch == promised.epoch && position(&at) < position(&self.durable) {
            // What this leader sent before is acknowledged, perhaps: it has it too, or will.
            self.send(from, Message::Unready { stream });
            return;
        }
        let number = self.next_number();
        self.inbound = Some(Inbound::new((from, stream), promised, at, number));
        self.act(Action::Cut { number, at });
    }

    /// What stood behind the start of a stream is given up, or could not be.
    ///
    /// A cut for a stream that was replaced is none for this one, whose number in its sender's count may be the same.
    pub fn handle_cut(&mut self, number: u64, done: bool) {
        let Some(inbound) = &mut self.inbound else { return };
        if !inbound.waits_for(number) {
            return;
        }
        let (from, stream) = (inbound.from, inbound.stream);
        if done {
            inbound.handle_cut();
            self.durable = inbound.at();
            self.send(from, Message::Ready { stream });
        } else {
            self.inbound = None;
            self.send(from, Message::Unready { stream });
        }
    }

    pub(super) fn handle_batches(
        &mut self,
        from: NodeId,
        stream: u64,
        after: (u64, u64),
        end: Place,
        bytes: Vec<u8>,
    ) {
        let promised = self.promised();
        let Some(inbound) = &mut self.inbound else { return };
        if (inbound.from, inbound.stream, inbound.promised) != (from, stream, promised) {
            return;
        }
        if inbound.take(after, end) {
            self.act(Action::Append { bytes });
        } else {
            self.inbound = None;
            self.send(from, Message::Unready { stream });
            self.act(Action::Notice(Notice::Misbehaves(from)));
        }
    }

    /// The pieces did not continue the log, or the log does not take them: the stream has to begin again.
    pub fn handle_append_failed(&mut self) {
        if let Some(inbound) = self.inbound.take() {
            self.send(inbound.from, Message::Unready { stream: inbound.stream });
        }
    }

    /// Whether it came from the leader that is followed.
    pub(super) fn handle_heartbeat(
        &mut self,
        from: NodeId,
        promised: Promise,
        sequence: u64,
    ) -> bool {
        let stands = self.promised();
        let is_leader = promised.leader.node == from.get();
        if promised.epoch < stands.epoch || (promised.epoch == stands.epoch && promised != stands) {
            self.fence(from);
        } else if !is_leader {
            self.act(Action::Notice(Notice::Misbehaves(from)));
        } else if promised.epoch > stands.epoch {
            self.start_promise(promised, Why::Follow(from));
        } else if !self.leads() {
            self.follow(from);
            self.send(from, Message::Heard { epoch: promised.epoch, sequence });
            return true;
        }
        false
    }

    pub(super) fn follow(&mut self, leader: NodeId) {
        let before = match &self.role {
            Role::Follower { leader, .. } => *leader,
            _ => None,
        };
        self.role = Role::Follower { leader: Some(leader) };
        if before != Some(leader) {
            let epoch = self.promised().epoch;
            self.act(Action::Notice(Notice::Follows(leader, epoch)));
        }
    }

    /// What is taken from the leader's log is committed as it says.
    pub(super) fn commit_as_told(&mut self, from: NodeId, commit_lsn: Lsn) {
        let promised = self.promised();
        let Some(inbound) = &mut self.inbound else { return };
        let of_leader = promised.leader.node == from.get();
        if of_leader
            && (inbound.from, inbound.promised) == (from, promised)
            && let Some(lsn) = inbound.commit(commit_lsn)
        {
            self.commit(lsn.max(self.commit_lsn));
        }
    }

    /// A candidate that this replica sealed for wants what it has.
    pub(super) fn handle_fetch(&mut self, from: NodeId, promised: Promise, at: (u64, u64)) {
        let stands = self.promised();
        if promised == stands && promised.leader.node == from.get() {
            let until = Some(self.durable);
            self.find_place(from, at, promised, until);
        } else {
            self.fence(from);
        }
    }

    /// Tells a peer which promise stands against it, once that is durable: until then it hears nothing, and asks again.
    fn fence(&mut self, from: NodeId) {
        if self.is_promise_durable() {
            self.send(from, Message::Fenced(self.promised()));
        }
    }
}
