//! What a node is, for those who look at it from outside.
//!
//! Owns nothing: a copy of what `node` holds. Decides nothing.

use cairnlog_engine::{Epoch, Place};

use super::node::{Node, Role};
use super::node_id::NodeId;
use super::quorum::seal_quorum;

/// What a node does at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RoleKind {
    /// It takes what a leader sends, or waits for one.
    #[default]
    Follower,
    /// It is in no set: it takes what a leader sends, and counts for nothing.
    Learner,
    /// It stands.
    Candidate,
    /// It leads.
    Leader,
}

/// A peer, as its leader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerView {
    /// Who.
    pub node: NodeId,
    /// Up to where it has acknowledged this leader's log; `None` before its stream has begun.
    pub acked: Option<Place>,
    /// Whether what it acknowledges counts.
    pub counts: bool,
}

impl Node {
    /// What it does.
    #[must_use]
    pub fn role(&self) -> RoleKind {
        match &self.role {
            Role::Leader(_) => RoleKind::Leader,
            Role::Candidate(_) => RoleKind::Candidate,
            Role::Follower { .. } if self.is_member() => RoleKind::Follower,
            Role::Follower { .. } => RoleKind::Learner,
        }
    }

    /// The node that leads, as far as this one knows.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        match &self.role {
            Role::Leader(_) => Some(self.settings.node),
            Role::Candidate(_) => None,
            Role::Follower { leader } => *leader,
        }
    }

    /// The epoch that it leads.
    #[must_use]
    pub fn led_epoch(&self) -> Option<Epoch> {
        match &self.role {
            Role::Leader(leading) => Some(leading.promise.epoch),
            _ => None,
        }
    }

    /// Whether it knows the members of its cluster.
    #[must_use]
    pub fn is_made(&self) -> bool {
        !self.settings.members.is_empty()
    }

    /// The nodes whose replicas count.
    pub fn members(&self) -> impl Iterator<Item = NodeId> {
        self.settings.members.keys().copied()
    }

    /// Whether it is the member with the lowest number, and so many are all of them.
    #[must_use]
    pub fn is_first_of(&self, count: usize) -> bool {
        let members = &self.settings.members;
        let first = members.first_key_value().map(|(node, _)| *node);
        members.len() == count && first == Some(self.settings.node)
    }

    /// Whether so many members are a seal quorum.
    #[must_use]
    pub fn is_seal_quorum(&self, count: usize) -> bool {
        self.is_made() && count >= seal_quorum(self.settings.members.len())
    }

    /// Whoever is connected.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerView> {
        let view = |(node, peer): (&NodeId, &super::node::Peer)| PeerView {
            node: *node,
            acked: peer.outbound.as_ref().and_then(|outbound| outbound.acked()),
            counts: self.counts(*node),
        };
        self.peers.iter().map(view).collect()
    }
}
