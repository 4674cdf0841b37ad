//! What a loop has seen of its node and its peers, for status and for acknowledgements.
//!
//! Owns the times at which something was heard or made progress. Decides nothing that replication rests on.
//!
//! Units: milliseconds of the loop's clock.

use std::collections::BTreeMap;
use std::time::Instant;

use cairnlog_engine::{Epoch, Lsn, Place};

use super::levels::Levels;
use crate::protocol::action::Notice;
use crate::protocol::node::Node;
use crate::protocol::node_id::NodeId;
use crate::protocol::view::RoleKind;

/// A follower, as its leader sees it.
#[derive(Clone, Copy, Debug)]
pub struct SeenPeer {
    /// Who.
    pub node: NodeId,
    /// Below it records are durable there.
    pub durable_lsn: Lsn,
    /// How much of the log it does not have: by the distance of both ends.
    pub behind_bytes: u64,
    /// How long it has not had all.
    pub behind_ms: u64,
    /// Whether `all` waits for it.
    pub in_service: bool,
    /// Whether there is a connection to it.
    pub connected: bool,
}

/// What a loop saw last.
#[derive(Clone, Debug)]
pub struct Seen {
    /// When.
    pub at: Instant,
    /// What the node does.
    pub role: RoleKind,
    /// Who leads.
    pub leader: Option<NodeId>,
    /// The greatest epoch that is promised.
    pub epoch: Epoch,
    /// How long ago the leader was heard; `None` when never.
    pub heard_ms: Option<u64>,
    /// The followers of a leader.
    pub followers: Vec<SeenPeer>,
    /// Whether records are acknowledged at `local`, for too few followers keep up.
    pub degraded: bool,
    /// Who is connected.
    pub connected: Vec<NodeId>,
    /// Whether the members of the cluster are known.
    pub is_made: bool,
    /// How often something happened: name and count.
    pub notices: Vec<(&'static str, u64)>,
}

impl Default for Seen {
    fn default() -> Seen {
        Seen {
            at: Instant::now(),
            role: RoleKind::Follower,
            leader: None,
            epoch: Epoch::NONE,
            heard_ms: None,
            followers: Vec::new(),
            degraded: false,
            connected: Vec::new(),
            is_made: false,
            notices: Vec::new(),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Snapshot {
    /// Of segments, for distances.
    segment_bytes: u64,
    out_of_service_ms: u64,
    /// When the leader was heard last.
    heard_ms: Option<u64>,
    /// Of every other member, while this node leads.
    progress: BTreeMap<NodeId, Progress>,
    degrading: Degrading,
    notices: BTreeMap<&'static str, u64>,
}

/// Whether records are acknowledged without a quorum, because none keeps up.
#[derive(Debug, Default)]
struct Degrading {
    /// So long nothing may be committed of what waits for it; `None` for ever.
    after_ms: Option<u64>,
    commit_lsn: Lsn,
    /// When something was committed, or what waits began to wait.
    moved_ms: u64,
    was_level: bool,
    /// Below it everything has to be committed before a quorum is waited for again.
    until: Option<Lsn>,
}

impl Degrading {
    /// Says whether it begins.
    fn note(&mut self, (commit_lsn, durable_lsn): (Lsn, Lsn), now_ms: u64) -> bool {
        let (moved, is_level) = (commit_lsn > self.commit_lsn, commit_lsn >= durable_lsn);
        let was_level = std::mem::replace(&mut self.was_level, is_level);
        self.commit_lsn = commit_lsn;
        if moved || was_level {
            self.moved_ms = now_ms;
        }
        match self.until {
            Some(until) if commit_lsn >= until => self.until = None,
            Some(_) if moved => {}
            Some(_) => self.until = Some(durable_lsn),
            None => {
                let waits_ms = now_ms.saturating_sub(self.moved_ms);
                if self.after_ms.is_some_and(|after_ms| !is_level && waits_ms >= after_ms) {
                    self.until = Some(durable_lsn);
                    return true;
                }
            }
        }
        false
    }

    fn stop(&mut self, now_ms: u64) {
        (self.until, self.moved_ms) = (None, now_ms);
    }
}

/// What a member has acknowledged.
#[derive(Clone, Copy, Debug)]
struct Progress {
    acked: Place,
    /// When that moved, or there was nothing more to acknowledge.
    moved_ms: u64,
    /// When it had all.
    level_ms: u64,
}

impl Progress {
    fn is_in_service(&self, now_ms: u64, out_of_service_ms: u64) -> bool {
        now_ms.saturating_sub(self.moved_ms) < out_of_service_ms
    }
}

impl Snapshot {
    pub(super) fn new(
        segment_bytes: u64,
        out_of_service_ms: u64,
        degrade_after_ms: Option<u64>,
    ) -> Snapshot {
        Snapshot {
            segment_bytes,
            out_of_service_ms,
            heard_ms: None,
            progress: BTreeMap::new(),
            degrading: Degrading { after_ms: degrade_after_ms, ..Degrading::default() },
            notices: BTreeMap::new(),
        }
    }

    pub(super) fn heard(&mut self, now_ms: u64) {
        self.heard_ms = Some(now_ms);
    }

    pub(super) fn note(&mut self, notice: Notice) {
        let name = match notice {
            Notice::Leads(_) => "epochs_led_total",
            Notice::StoppedLeading(_) => "epochs_ended_total",
            Notice::Follows(..) => "leaders_followed_total",
            Notice::DidNotLead(..) => "promotions_failed_total",
            Notice::TooFarBehind(_) => "peers_too_far_behind_total",
            Notice::CameWithLess(_) => "peers_came_with_less_total",
            Notice::Misbehaves(_) => "peers_misbehaved_total",
        };
        *self.notices.entry(name).or_default() += 1;
    }

    /// The levels of a leader, and what progress its followers make.
    pub(super) fn levels(
        &mut self,
        node: &Node,
        (own, durable): (NodeId, Place),
        commit_lsn: Lsn,
        now_ms: u64,
    ) -> Levels {
        let Some(led) = node.led_epoch() else {
            self.progress.clear();
            self.degrading.stop(now_ms);
            return Levels { durable_lsn: durable.lsn, commit_lsn, ..Levels::default() };
        };
        // Whoever was not heard yet is waited for as long as one that has stopped.
        for member in node.members().filter(|member| *member != own) {
            let new = Progress { acked: Place::START, moved_ms: now_ms, level_ms: now_ms };
            self.progress.entry(member).or_insert(new);
        }
        let mut replicas = vec![(own, durable.lsn)];
        for peer in node.peers().into_iter().filter(|peer| peer.counts) {
            let (Some(acked), Some(progress)) = (peer.acked, self.progress.get_mut(&peer.node))
            else {
                continue;
            };
            let is_level = (acked.segment, acked.offset) >= (durable.segment, durable.offset);
            if is_level {
                progress.level_ms = now_ms;
            }
            if is_level || progress.acked != acked {
                progress.moved_ms = now_ms;
            }
            progress.acked = acked;
            replicas.push((peer.node, acked.lsn));
        }
        if self.degrading.note((commit_lsn, durable.lsn), now_ms) {
            *self.notices.entry("degraded_total").or_default() += 1;
        }
        let in_service = self.progress.values();
        let in_service = in_service.filter(|p| p.is_in_service(now_ms, self.out_of_service_ms));
        let all_lsn = in_service.map(|progress| progress.acked.lsn).fold(commit_lsn, Lsn::min);
        Levels {
            led: Some(led),
            degraded: self.degrading.until.is_some(),
            confirmed_ms: node.confirmed_ms(now_ms),
            durable_lsn: durable.lsn,
            commit_lsn,
            all_lsn: all_lsn.min(durable.lsn),
            replicas: replicas.into(),
        }
    }

    pub(super) fn seen(&self, node: &Node, now_ms: u64, end: Place) -> Seen {
        let connected: Vec<NodeId> = node.peers().iter().map(|peer| peer.node).collect();
        let follower = |(peer, progress): (&NodeId, &Progress)| SeenPeer {
            node: *peer,
            durable_lsn: progress.acked.lsn,
            behind_bytes: self.distance(&progress.acked, &end),
            behind_ms: now_ms.saturating_sub(progress.level_ms),
            in_service: progress.is_in_service(now_ms, self.out_of_service_ms),
            connected: connected.contains(peer),
        };
        Seen {
            at: Instant::now(),
            role: node.role(),
            leader: node.leader(),
            epoch: node.promised().epoch,
            heard_ms: self.heard_ms.map(|at_ms| now_ms.saturating_sub(at_ms)),
            followers: self.progress.iter().map(follower).collect(),
            degraded: self.degrading.until.is_some(),
            connected,
            is_made: node.is_made(),
            notices: self.notices.iter().map(|(name, count)| (*name, *count)).collect(),
        }
    }

    /// Bytes from one place to another, when every segment in between is full and as long as new ones are.
    fn distance(&self, from: &Place, to: &Place) -> u64 {
        let segments = to.segment.saturating_sub(from.segment);
        (segments * self.segment_bytes + to.offset).saturating_sub(from.offset)
    }
}

#[cfg(test)]
#[path = "seen_tests.rs"]
mod tests;
