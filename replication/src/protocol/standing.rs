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
use super::lease::Heard;
use super::message::Message;
use super::node::{Node, Role, Settings, Why};
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
    /// All is there, and a leader that somebody heard may still hold a lease.
    Waiting,
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
    /// Leaders that any of those heard, and until when each may hold a lease; 0 once it has promised itself.
    leases: BTreeMap<Option<NodeId>, u64>,
    /// When it gives up, unless something goes on.
    until_ms: u64,
    /// When it asks again: an answer may have been withheld while a promise was on its way to a disk.
    ask_ms: u64,
    /// Something went on since `until_ms` was set.
    went_on: bool,
}

impl Standing {
    /// Whether it wants promises.
    pub(super) fn asks(&self) -> bool {
        self.step == Step::Asking
    }

    pub(super) fn fetches_from(&self, node: NodeId) -> bool {
        matches!(self.step, Step::Fetching(from, _) if from == node)
    }

    fn due_ms(&self) -> u64 {
        match self.step {
            Step::Asking => self.until_ms.min(self.ask_ms),
            Step::Waiting => self.until_ms.min(self.lease_ms()),
            _ => self.until_ms,
        }
    }

    /// Until when somebody else may hold a lease. Who has sealed holds none.
    fn lease_ms(&self) -> u64 {
        self.leases.values().max().copied().unwrap_or(0)
    }

    /// A replica has promised, and heard this one before, by this node's clock.
    fn note_lease(&mut self, sealed: NodeId, heard: Option<Heard>) {
        if let Some(Heard { leader, lease_ms }) = heard {
            let until_ms = self.leases.entry(leader).or_insert(lease_ms);
            if *until_ms > 0 {
                *until_ms = lease_ms.max(*until_ms);
            }
        }
        self.leases.insert(Some(sealed), 0);
    }

    fn may_begin(&self, now_ms: u64) -> bool {
        self.step == Step::Waiting && now_ms >= self.lease_ms()
    }

    /// It was answered, or a piece of the log that it fetches is durable.
    fn go_on(&mut self) {
        self.went_on = true;
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
        let heard = self.heard;
        self.start_promise(promise, Why::Stand);
        let until_ms = now_ms + self.settings.standing_ms_max;
        let ask_ms = now_ms + self.settings.heartbeat_interval_ms;
        let (step, sealed) = (Step::Promising, BTreeMap::new());
        let leases = BTreeMap::new();
        let mut standing =
            Standing { promise, step, sealed, leases, until_ms, ask_ms, went_on: false };
        standing.note_lease(self.settings.node, heard);
        self.role = Role::Candidate(standing);
    }

    pub(super) fn handle_own_promise(&mut self, mine: &Summary) {
        let own = self.settings.node;
        let Role::Candidate(standing) = &mut self.role else { return };
        standing.step = Step::Asking;
        standing.sealed.insert(own, mine.clone());
        self.ask_to_seal();
        self.take_over(mine);
    }

    /// Asks whoever has not answered.
    fn ask_to_seal(&mut self) {
        let Role::Candidate(standing) = &self.role else { return };
        let promise = standing.promise;
        let asked = self.peers.keys().filter(|peer| !standing.sealed.contains_key(peer));
        let asked: Vec<NodeId> = asked.copied().collect();
        for peer in asked {
            self.send(peer, Message::Seal(promise));
        }
    }

    /// The connection to a peer is gone: what it was to send has to come from another one.
    ///
    /// What this log has given up since it was sealed is no loss: it was not in the log that had most, which is one of
    /// a seal quorum's, and so was not committed.
    pub(super) fn fetch_elsewhere(&mut self, gone: NodeId, mine: &Summary) {
        let own = self.settings.node;
        let Role::Candidate(standing) = &mut self.role else { return };
        standing.sealed.remove(&gone);
        if standing.fetches_from(gone) {
            standing.step = Step::Asking;
            standing.sealed.insert(own, mine.clone());
            self.take_over(mine);
        }
    }

    pub(super) fn handle_sealed(
        &mut self,
        now_ms: u64,
        from: NodeId,
        promised: Promise,
        (summary, heard): (Summary, Option<Heard>),
        mine: &Summary,
    ) {
        self.look_at(from, &summary, mine);
        let counts = self.is_member_with(from, &summary) && !self.is_doubted(from);
        let Role::Candidate(standing) = &mut self.role else { return };
        if promised != standing.promise {
            if promised.epoch >= standing.promise.epoch {
                self.give_up(Reason::Fenced(promised));
            }
            return;
        }
        if !counts {
            return;
        }
        // Later than by the clock of who says so: it was sent before.
        let until =
            |heard: Heard| Heard { lease_ms: now_ms.saturating_add(heard.lease_ms), ..heard };
        standing.note_lease(from, heard.map(until));
        if standing.step == Step::Asking {
            standing.sealed.insert(from, summary);
            standing.go_on();
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
            self.begin_when_free();
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
        standing.go_on();
        if matches!(standing.step, Step::Fetching(_, end) if end == durable) {
            if mine.end != durable {
                // It sent more than it had sealed.
                self.give_up(Reason::NotFetched);
                return;
            }
            self.inbound = None;
            self.begin_when_free();
        }
    }

    /// Everything is there: the epoch begins when nobody else can hold a lease any more.
    fn begin_when_free(&mut self) {
        let Role::Candidate(standing) = &mut self.role else { return };
        if standing.lease_ms() > 0 {
            standing.step = Step::Waiting;
        } else {
            self.begin();
        }
    }

    fn begin(&mut self) {
        let Role::Candidate(standing) = &mut self.role else { return };
        standing.step = Step::Beginning;
        let promise = standing.promise;
        self.act(Action::Begin(promise));
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
            Role::Candidate(standing) if standing.may_begin(now_ms) => self.begin(),
            Role::Candidate(standing) if now_ms >= standing.until_ms && !standing.went_on => {
                let reason = match standing.step {
                    Step::Promising | Step::Asking => Reason::TooFewPromises,
                    Step::Fetching(..) | Step::Waiting | Step::Beginning => Reason::NotFetched,
                };
                self.give_up(reason);
            }
            Role::Candidate(_) => self.stand_on(now_ms),
            _ => {}
        }
    }

    fn stand_on(&mut self, now_ms: u64) {
        let Settings { standing_ms_max, heartbeat_interval_ms, .. } = self.settings;
        let Role::Candidate(standing) = &mut self.role else { return };
        if now_ms >= standing.until_ms {
            standing.went_on = false;
            standing.until_ms = now_ms + standing_ms_max;
        }
        if standing.asks() && now_ms >= standing.ask_ms {
            standing.ask_ms = now_ms + heartbeat_interval_ms;
            self.ask_to_seal();
        }
    }

    /// When [`Node::handle_timeout`] is due next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<u64> {
        let of_role = match &self.role {
            Role::Leader(leading) => Some(leading.due_ms()),
            Role::Candidate(standing) => Some(standing.due_ms()),
            Role::Follower { .. } => None,
        };
        of_role.into_iter().chain(self.note_due_ms()).min()
    }
}

#[cfg(test)]
#[path = "standing_tests.rs"]
mod tests;
