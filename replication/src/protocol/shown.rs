//! What replicas have shown of themselves, by which a directory that comes back with less is known: one that was put
//! back from an older copy may have forgotten what it promised and acknowledged.
//!
//! Owns what is remembered of each member, what peers tell each other of that, and who is not counted any more because
//! of it. Part of `node`. Such a
//! directory is treated as one that was wiped: nobody counts it, its node is told, and it learns.
//!
//! What a peer said may have been overtaken on its way by what others say of it. So whoever says less than was shown is
//! asked, does not count meanwhile, and is judged by its answer.
//!
//! What nobody saw that is there cannot be known: such a directory is one of the failures that a quorum survives, and a
//! second one at the same time, of those that saw more, is one too many for a cluster of three.
//!
//! What a replica may lawfully have less of: behind what it acknowledged to a leader, once it has promised a later
//! epoch, for the leader of that may have had it cut.
//!
//! Invariants
//!  K1. A directory that has forgotten a start, a promise, or what it acknowledged in the epoch that it promised last, does
//!      not count from the moment that this is known.                  tests `k6_*` in shown_tests
//!  K2. One that lost nothing counts, whatever leaders had it cut.
//!                                `what_a_later_leader_cut_is_no_loss`, and `no_promise_is_broken` in tests/cluster.rs
//!
//! Bounds: one entry for each member. What was shown in the last [`NOTE_INTERVAL_MS`] is forgotten by a crash.

use std::collections::BTreeMap;

use cairnlog_engine::Epoch;

use super::action::{Action, Notice, Reason};
use super::history::Summary;
use super::message::Message;
use super::node::{Node, Role};
use super::node_id::NodeId;
use super::quorum::position;

/// In place of a member's incarnation: none of its directories counts.
pub const NO_DIRECTORY: u128 = 0;

/// What replicas show is noted at most so often.
pub const NOTE_INTERVAL_MS: u64 = 1000;

/// What the directory of a member has shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// How often it was opened.
    pub start_counter: u64,
    /// The life that this was.
    pub nonce: u128,
    /// The greatest epoch that it promised.
    pub promised: Epoch,
    /// The last epoch in which it acknowledged something.
    pub acked_epoch: Epoch,
    /// Up to where: segment and offset.
    pub acked: (u64, u64),
}

/// What a node notes beside its log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// The replicas that count, by their directories.
    pub members: BTreeMap<NodeId, u128>,
    /// What these have shown.
    pub shown: BTreeMap<NodeId, Shown>,
}

impl Shown {
    /// Whether a directory that says this has forgotten something.
    fn is_more_than(&self, summary: &Summary) -> bool {
        let promised = summary.promised.epoch;
        let is_same_start = summary.start_counter == self.start_counter;
        summary.start_counter < self.start_counter
            // It was started as often before, from what is an older copy now.
            || is_same_start && self.nonce != 0 && summary.nonce != self.nonce
            || promised < self.promised
            || promised == self.acked_epoch && position(&summary.end) < self.acked
    }

    fn see(&mut self, summary: &Summary) {
        (self.start_counter, self.nonce) = (summary.start_counter, summary.nonce);
        self.promised = summary.promised.epoch;
    }

    /// What somebody else has seen of the same directory.
    fn hear(&mut self, theirs: &Shown) {
        if theirs.start_counter > self.start_counter {
            (self.start_counter, self.nonce) = (theirs.start_counter, theirs.nonce);
        }
        self.promised = self.promised.max(theirs.promised);
        self.see_acked(theirs.acked_epoch, theirs.acked);
    }

    fn see_acked(&mut self, epoch: Epoch, to: (u64, u64)) {
        self.promised = self.promised.max(epoch);
        (self.acked_epoch, self.acked) = (self.acked_epoch, self.acked).max((epoch, to));
    }
}

/// When what a node remembers is noted.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Noting {
    /// There is more to note than what was noted last.
    changed: bool,
    /// When it was noted last.
    last_ms: u64,
    /// The peers have to hear of it when it is durable.
    to_be_told: bool,
    /// Number of the next question.
    next_question: u64,
}

/// A peer that said less than it has shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Doubt {
    /// Of the question.
    number: u64,
    /// What it had shown then.
    shown: Shown,
}

impl Node {
    /// What a peer says of itself is held against what it has shown.
    pub(super) fn look_at(&mut self, from: NodeId, summary: &Summary, mine: &Summary) {
        if summary.log_id != mine.log_id {
            return;
        }
        self.hear_of_members(&summary.members);
        if !self.is_member_with(from, summary) {
            return;
        }
        self.hear_of_others(&summary.shown);
        let shown = *self.shown.entry(from).or_default();
        if shown.is_more_than(summary) {
            self.ask(from, shown);
        } else if !self.is_doubted(from) {
            self.see_shown(from, summary);
        }
    }

    fn see_shown(&mut self, node: NodeId, summary: &Summary) {
        let shown = self.shown.entry(node).or_default();
        let before = *shown;
        shown.see(summary);
        self.noting.changed |= before != *shown;
    }

    /// What is said in answer is held against what was shown before the question: it cannot have been overtaken.
    fn ask(&mut self, from: NodeId, shown: Shown) {
        let number = self.noting.next_question;
        let Some(peer) = self.peers.get_mut(&from) else { return };
        if peer.doubt.is_none() {
            self.noting.next_question += 1;
            peer.doubt = Some(Doubt { number, shown });
            self.send(from, Message::Question { number });
        }
    }

    pub(super) fn is_doubted(&self, node: NodeId) -> bool {
        self.peers.get(&node).is_some_and(|peer| peer.doubt.is_some())
    }

    pub(super) fn handle_answer(&mut self, from: NodeId, number: u64, summary: &Summary) {
        let asked = |doubt: &mut Doubt| doubt.number == number;
        let known = self.peers.get_mut(&from);
        let Some(doubt) = known.and_then(|peer| peer.doubt.take_if(asked)) else { return };
        if !self.is_member_with(from, summary) {
            return;
        }
        if doubt.shown.is_more_than(summary) {
            self.act(Action::Notice(Notice::CameWithLess(from)));
            self.count_no_more(from);
            return;
        }
        self.see_shown(from, summary);
        match &self.role {
            Role::Candidate(standing) if standing.asks() => {
                let promise = standing.promise;
                self.send(from, Message::Seal(promise));
            }
            _ => self.advance_commit(),
        }
    }

    /// A member has acknowledged the log of an epoch's leader.
    pub(super) fn see_acked(&mut self, node: NodeId, epoch: Epoch, to: (u64, u64)) {
        if self.settings.members.get(&node).is_none_or(|member| *member == NO_DIRECTORY) {
            return;
        }
        let shown = self.shown.entry(node).or_default();
        let before = *shown;
        shown.see_acked(epoch, to);
        self.noting.changed |= before != *shown;
    }

    /// A peer says which directories count: those that it knows to have lost something do not.
    fn hear_of_members(&mut self, theirs: &BTreeMap<NodeId, u128>) {
        let none = |node: &NodeId| theirs.get(node) == Some(&NO_DIRECTORY);
        let own = self.settings.members.iter();
        let lost = own.filter(|(node, member)| **member != NO_DIRECTORY && none(node));
        let lost: Vec<NodeId> = lost.map(|(node, _)| *node).collect();
        for node in lost {
            self.count_no_more(node);
        }
    }

    /// A peer says what others have shown, to it or to others.
    fn hear_of_others(&mut self, theirs: &BTreeMap<NodeId, Shown>) {
        let own = self.settings.node;
        let is_other = |node: &NodeId| *node != own && self.settings.members.contains_key(node);
        let others: Vec<NodeId> = theirs.keys().copied().filter(is_other).collect();
        for node in others {
            if self.settings.members[&node] != NO_DIRECTORY {
                let shown = self.shown.entry(node).or_default();
                let before = *shown;
                shown.hear(&theirs[&node]);
                self.noting.changed |= before != *shown;
            }
        }
    }

    fn count_no_more(&mut self, node: NodeId) {
        self.settings.members.insert(node, NO_DIRECTORY);
        self.shown.remove(&node);
        if node == self.settings.node {
            self.stop_leading();
            self.give_up(Reason::NoMember);
        }
        self.noting.to_be_told = true;
        self.note();
    }

    pub(super) fn note(&mut self) {
        self.noting.changed = false;
        let (members, shown) = (self.settings.members.clone(), self.shown.clone());
        self.act(Action::Note(Notes { members, shown }));
    }

    /// Notes are durable, and `mine` says so.
    pub fn handle_noted(&mut self, mine: &Summary) {
        if self.noting.to_be_told && mine.members == self.settings.members {
            self.noting.to_be_told = false;
            self.tell_all(mine, false);
        }
    }

    /// Every peer hears what this replica has.
    pub(super) fn tell_all(&mut self, mine: &Summary, asks: bool) {
        let peers: Vec<NodeId> = self.peers.keys().copied().collect();
        for peer in peers {
            self.send(peer, Message::Hello { summary: mine.clone(), asks });
        }
    }

    pub(super) fn note_when_due(&mut self, now_ms: u64) {
        if self.note_due_ms().is_some_and(|due_ms| due_ms <= now_ms) {
            self.noting.last_ms = now_ms;
            self.note();
        }
    }

    pub(super) fn note_due_ms(&self) -> Option<u64> {
        self.noting.changed.then_some(self.noting.last_ms + NOTE_INTERVAL_MS)
    }
}

#[cfg(test)]
#[path = "shown_tests.rs"]
mod tests;
