//! How a replica comes to lead: it promises itself an epoch, has others promise it, and takes over what was
//! committed before.
//!
//! Owns the steps: own promise, promises of a seal quorum, the log of whoever has most, the epoch start. Part
//! of `node`. Who stands, and when, is decided elsewhere.
//!
//! Invariants
//!  S1. The epoch begins only when a seal quorum of the set has promised it, and this log holds, durably,
//!      everything that any of them had.      `no_promise_is_broken` in tests/cluster.rs

use std::collections::BTreeMap;

use cairnlog_engine::{Place, Promise};

use super::action::{Action, Notice, Reason};
use super::history::{Summary, common_place};
use super::message::Message;
use super::node::{Node, Role, Why};
use super::node_id::NodeId;
use super::quorum::seal_quorum;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// The own promise is on its way to the disk.
    Promising,
    /// The others are asked.
    Asking,
    /// The better log of another one is being had, up to its end.
    Fetching(NodeId, Place),
    /// The first batch of the epoch is on its way.
    Beginning,
}

/// The state of a candidate.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    pub(super) promise: Promise,
    step: Step,
    /// Who promised, and what they have.
    sealed: BTreeMap<NodeId, Summary>,
    /// When it gives up.
    until_ms: u64,
}

impl Standing {
    /// Whether it wants promises.
    pub(super) fn asks(&self) -> bool {
        self.step == Step::Asking
    }

    pub(super) fn fetches_from(&self, node: NodeId) -> bool {
        matches!(self.step, Step::Fetching(from, _) if from == node)
    }

    pub(super) fn until_ms(&self) -> u64 {
        self.until_ms
    }
}

impl Node {
    /// Stands for a new epoch; nothing happens if it leads or stands already.
    pub fn stand(&mut self, now_ms: u64) {
        if matches!(self.role, Role::Follower { .. }) && self.is_member() {
            self.stand_for_next(now_ms);
        }
    }

    fn stand_for_next(&mut self, now_ms: u64) {
        let epoch = self.seen_epoch.max(self.promised().epoch).next();
        let promise = Promise { epoch, leader: self.settings.leader };
        self.start_promise(promise, Why::Stand);
        let until_ms = now_ms + self.settings.standing_ms_max;
        let (step, sealed) = (Step::Promising, BTreeMap::new());
        self.role = Role::Candidate(Standing { promise, step, sealed, until_ms });
    }

    pub(super) fn handle_own_promise(&mut self, mine: &Summary) {
        let own = self.settings.node;
        let Role::Candidate(standing) = &mut self.role else { return };
        standing.step = Step::Asking;
        standing.sealed.insert(own, mine.clone());
        let promise = standing.promise;
        let peers: Vec<NodeId> = self.peers.keys().copied().collect();
        for peer in peers {
            self.send(peer, Message::Seal(promise));
        }
        self.take_over(mine);
    }

    pub(super) fn handle_sealed(
        &mut self,
        from: NodeId,
        promised: Promise,
        summary: Summary,
        mine: &Summary,
    ) {
        self.look_at(from, &summary);
        let counts = self.is_member_with(from, &summary) && !self.is_doubted(from);
        let Role::Candidate(standing) = &mut self.role else { return };
        if promised != standing.promise {
            if promised.epoch >= standing.promise.epoch {
                self.give_up(Reason::Fenced(promised));
            }
            return;
        }
        if counts && standing.step == Step::Asking {
            standing.sealed.insert(from, summary);
            self.take_over(mine);
        }
    }

    /// Goes on when enough have promised: with the log of whoever has most.
    fn take_over(&mut self, mine: &Summary) {
        let Role::Candidate(standing) = &mut self.role else { return };
        if standing.sealed.len() < seal_quorum(self.settings.members.len()) {
            return;
        }
        let promise = standing.promise;
        let best = standing.sealed.iter().max_by_key(|(_, summary)| summary.rank());
        let (best, theirs) = best.expect("its own is among them");
        if theirs.rank() <= mine.rank() {
            standing.step = Step::Beginning;
            self.act(Action::Begin(promise));
            return;
        }
        let (best, end) = (*best, theirs.end);
        match common_place(mine, theirs) {
            Some(from) => {
                standing.step = Step::Fetching(best, end);
                self.send(best, Message::Fetch { promised: promise, from });
            }
            None => {
                self.act(Action::Notice(Notice::TooFarBehind(best)));
                self.give_up(Reason::NotFetched);
            }
        }
    }

    /// What was fetched is durable up to here.
    pub(super) fn handle_fetched(&mut self, durable: Place, mine: &Summary) {
        let Role::Candidate(standing) = &mut self.role else { return };
        if matches!(standing.step, Step::Fetching(_, end) if end == durable) {
            if mine.end != durable {
                // It sent more than it had sealed.
                self.give_up(Reason::NotFetched);
                return;
            }
            let promise = standing.promise;
            standing.step = Step::Beginning;
            self.inbound = None;
            self.act(Action::Begin(promise));
        }
    }

    /// Does not lead.
    pub(super) fn give_up(&mut self, reason: Reason) {
        if let Role::Candidate(standing) = &self.role {
            let epoch = standing.promise.epoch;
            self.act(Action::StopLeading);
            self.act(Action::Notice(Notice::DidNotLead(epoch, reason)));
        }
        self.role = Role::Follower { leader: None };
        self.inbound = None;
    }

    /// The time has come for something.
    pub fn handle_timeout(&mut self, now_ms: u64) {
        self.note_when_due(now_ms);
        match &self.role {
            Role::Leader(leading) if leading.stands_again(now_ms) => self.stand_for_next(now_ms),
            Role::Leader(leading) if now_ms >= leading.due_ms() => self.send_heartbeats(now_ms),
            Role::Candidate(standing) if now_ms >= standing.until_ms() => {
                let reason = match standing.step {
                    Step::Promising | Step::Asking => Reason::TooFewPromises,
                    Step::Fetching(..) | Step::Beginning => Reason::NotFetched,
                };
                self.give_up(reason);
            }
            _ => {}
        }
    }

    /// When [`Node::handle_timeout`] is due next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<u64> {
        let of_role = match &self.role {
            Role::Leader(leading) => Some(leading.due_ms()),
            Role::Candidate(standing) => Some(standing.until_ms()),
            Role::Follower { .. } => None,
        };
        of_role.into_iter().chain(self.note_due_ms()).min()
    }
}
