//! Leases: until when a leader knows that nobody else leads, so that what it calls committed is all there is.
//!
//! Owns both sides of the promise. A leader's lease counts from when it sent the heartbeat that a commit quorum has
//! heard, itself included. A replica that is asked to seal says for how long a leader that it heard may still hold one,
//! and a candidate begins its epoch only after that; unless that leader has sealed too, which ends its lease at once.
//!
//! A commit quorum and a seal quorum have a replica in common: it is the old leader, or one that heard its heartbeat after
//! that was sent. What it heard it forgets by a restart, so it starts as if it had just heard somebody.
//!
//! Invariants
//!  E1. While a leader holds a lease nobody else begins an epoch, if no clock runs faster than another by more than
//!      one part in [`DRIFT`].                       looked for in simulated clusters, and tests in lease_tests
//!
//! Units: milliseconds of a clock that goes on while the machine sleeps.
//! Bounds: `ROUNDS_MAX` heartbeats that were not heard by a quorum.

use std::collections::{BTreeMap, VecDeque};

use cairnlog_engine::Epoch;

use super::history::Summary;
use super::node::{Node, Role};
use super::node_id::NodeId;
use super::quorum::commit_quorum;

/// How much longer than a lease others wait: one part of it in so many.
pub const DRIFT: u64 = 8;
const ROUNDS_MAX: usize = 64;

/// A leader that was heard, and until when it may hold a lease, by the clock of whoever remembers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The leader; `None` when it may have been anybody.
    pub leader: Option<NodeId>,
    /// Until when, or for how long.
    pub lease_ms: u64,
}

/// What a leader knows of its heartbeats.
#[derive(Clone, Debug, Default)]
pub(super) struct Rounds {
    /// The number of the last one that each member heard.
    heard: BTreeMap<NodeId, u64>,
    /// Those that no quorum has heard: number, and when it was sent.
    sent: VecDeque<(u64, u64)>,
    /// When the newest was sent that a quorum has heard.
    confirmed_ms: Option<u64>,
}

impl Rounds {
    pub(super) fn send(&mut self, sequence: u64, now_ms: u64) {
        self.sent.push_back((sequence, now_ms));
        if self.sent.len() > ROUNDS_MAX {
            self.sent.pop_front();
        }
    }

    /// A member heard one; `others` is how many of them it takes beside the leader.
    fn hear(&mut self, node: NodeId, sequence: u64, others: usize) {
        let last = self.heard.entry(node).or_default();
        *last = sequence.max(*last);
        let mut heard: Vec<u64> = self.heard.values().copied().collect();
        heard.sort_unstable_by(|one, other| other.cmp(one));
        let Some(by_quorum) = others.checked_sub(1).and_then(|index| heard.get(index)) else {
            return;
        };
        while let Some((number, sent_ms)) = self.sent.front().copied()
            && number <= *by_quorum
        {
            self.sent.pop_front();
            self.confirmed_ms = Some(sent_ms);
        }
    }
}

impl Node {
    /// When the newest heartbeat was sent that a commit quorum has heard: nobody else led then. `None` unless this node
    /// leads and has committed something of its epoch, and with it all that was committed before.
    #[must_use]
    pub fn confirmed_ms(&self, now_ms: u64) -> Option<u64> {
        let Role::Leader(leading) = &self.role else { return None };
        match commit_quorum(self.settings.members.len()) {
            _ if !leading.has_committed => None,
            1 => Some(now_ms),
            _ => leading.rounds.confirmed_ms,
        }
    }

    /// Whether this node knows that nobody else leads.
    #[must_use]
    pub fn holds_lease(&self, now_ms: u64) -> bool {
        let confirmed_ms = self.confirmed_ms(now_ms);
        confirmed_ms.is_some_and(|sent_ms| now_ms < sent_ms + self.settings.lease_ms)
    }

    pub(super) fn handle_heard(&mut self, from: NodeId, epoch: Epoch, sequence: u64) {
        let others = commit_quorum(self.settings.members.len()) - 1;
        let counts = self.counts(from);
        let Role::Leader(leading) = &mut self.role else { return };
        if counts && epoch == leading.promise.epoch {
            leading.rounds.hear(from, sequence, others);
        }
    }

    /// The time for which others wait when they heard a leader.
    fn guard_ms(&self) -> u64 {
        self.settings.lease_ms + self.settings.lease_ms.div_ceil(DRIFT)
    }

    /// Its lease is at least as old as what was heard.
    pub(super) fn hear(&mut self, leader: NodeId, now_ms: u64) {
        let lease_ms = now_ms + self.guard_ms();
        self.heard = Some(Heard { leader: Some(leader), lease_ms });
    }

    /// What it heard before it restarted it has forgotten. When the epoch that it has promised has begun in its log, every
    /// lease before that was over then.
    pub(super) fn restart(&mut self, mine: &Summary, now_ms: u64) {
        if mine.promised.epoch == Epoch::NONE || self.settings.members.len() == 1 {
            return;
        }
        let has_begun = mine.end.epoch == mine.promised.epoch;
        let leader = NodeId::new(mine.promised.leader.node).filter(|_| has_begun);
        self.heard = Some(Heard { leader, lease_ms: now_ms + self.guard_ms() });
    }

    /// For how long a leader that was heard may still hold a lease.
    pub(super) fn lease_left(&self, now_ms: u64) -> Option<Heard> {
        let heard = self.heard?;
        let lease_ms = heard.lease_ms.saturating_sub(now_ms);
        (lease_ms > 0).then_some(Heard { lease_ms, ..heard })
    }
}

#[cfg(test)]
#[path = "lease_tests.rs"]
mod tests;
