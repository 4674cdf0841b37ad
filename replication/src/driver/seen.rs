//! What a loop has seen of its node and its peers, for status and for acknowledgements.
//!
//! Owns the times at which something was heard or made progress. Decides nothing that replication rests on.
//!
//! Units: milliseconds of the loop's clock.

use std::collections::BTreeMap;
use std::time::Instant;

use cairnlog_engine::{Epoch, Lsn, Place};

use super::levels::Levels;
use crate::protocol::node::{Node, Notice};
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
    /// Below it records are committed.
    pub commit_lsn: Lsn,
    /// How long ago the leader was heard; `None` when never.
    pub heard_ms: Option<u64>,
    /// The followers of a leader.
    pub followers: Vec<SeenPeer>,
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
            commit_lsn: Lsn::NONE,
            heard_ms: None,
            followers: Vec::new(),
            connected: Vec::new(),
            is_made: false,
            notices: Vec::new(),
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    heard: Option<(Epoch, NodeId, u64)>,
    /// What each peer acknowledged last, and when that or the end of the log was reached.
    progress: BTreeMap<NodeId, (Place, u64)>,
    notices: BTreeMap<&'static str, u64>,
}

impl Snapshot {
    pub(super) fn heard(&mut self, epoch: Epoch, leader: NodeId, now_ms: u64) {
        self.heard = Some((epoch, leader, now_ms));
    }

    pub(super) fn note(&mut self, notice: Notice) {
        let name = match notice {
            Notice::Leads(_) => "epochs_led_total",
            Notice::StoppedLeading(_) => "epochs_ended_total",
            Notice::Follows(..) => "leaders_followed_total",
            Notice::DidNotLead(..) => "promotions_failed_total",
            Notice::TooFarBehind(_) => "peers_too_far_behind_total",
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
        (now_ms, out_of_service_ms): (u64, u64),
    ) -> Levels {
        let Some(led) = node.led_epoch() else {
            self.progress.clear();
            return Levels { durable_lsn: durable.lsn, commit_lsn, ..Levels::default() };
        };
        let mut replicas = vec![(own, durable.lsn)];
        let mut all_lsn = commit_lsn;
        for peer in node.peers().into_iter().filter(|peer| peer.counts) {
            let acked = peer.acked.unwrap_or(Place::START);
            let progress = self.progress.entry(peer.node).or_insert((acked, now_ms));
            if progress.0 != acked || acked == durable {
                *progress = (acked, now_ms);
            }
            if peer.acked.is_some() {
                replicas.push((peer.node, acked.lsn));
            }
        }
        for (peer, (acked, since_ms)) in &self.progress {
            if node.is_counted(*peer) && now_ms.saturating_sub(*since_ms) < out_of_service_ms {
                all_lsn = all_lsn.min(acked.lsn);
            }
        }
        Levels {
            led: Some(led),
            durable_lsn: durable.lsn,
            commit_lsn,
            all_lsn: all_lsn.min(durable.lsn),
            replicas: replicas.into(),
        }
    }

    pub(super) fn seen(
        &self,
        node: &Node,
        now_ms: u64,
        out_of_service_ms: u64,
        end: Place,
    ) -> Seen {
        let peers = node.peers();
        let connected: Vec<NodeId> = peers.iter().map(|peer| peer.node).collect();
        let follower = |(peer, (acked, since_ms)): (&NodeId, &(Place, u64))| {
            let behind_ms = now_ms.saturating_sub(*since_ms);
            SeenPeer {
                node: *peer,
                durable_lsn: acked.lsn,
                behind_bytes: distance(acked, &end),
                behind_ms,
                in_service: behind_ms < out_of_service_ms,
                connected: connected.contains(peer),
            }
        };
        Seen {
            at: Instant::now(),
            role: node.role(),
            leader: node.leader(),
            epoch: node.promised().epoch,
            commit_lsn: node.commit_lsn(),
            heard_ms: self.heard.map(|(_, _, at_ms)| now_ms.saturating_sub(at_ms)),
            followers: self.progress.iter().map(follower).collect(),
            connected,
            is_made: node.is_made(),
            notices: self.notices.iter().map(|(name, count)| (*name, *count)).collect(),
        }
    }
}

/// Bytes from one place to another; of segments in between the length is not known here, and a common one assumed.
fn distance(from: &Place, to: &Place) -> u64 {
    const SEGMENT_BYTES: u64 = 64 << 20;
    let segments = to.segment.saturating_sub(from.segment);
    (segments * SEGMENT_BYTES + to.offset).saturating_sub(from.offset)
}
