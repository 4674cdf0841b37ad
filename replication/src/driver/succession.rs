//! Who leads when nobody but an operator names leaders (`manual`): when a node stands without being told to.
//!
//! Owns the decision, without I/O or clock. The one that was named last stands again when it comes back, unless another
//! one was named meanwhile; of a cluster that never had one the first node does. A leader that was deposed by a
//! promise to somebody who then does not come to lead takes its place again; one whose promotion was refused does not
//! lead later by itself, for its operator was told that it does not.
//!
//! Invariants
//!  U1. A node stands by itself only if nobody else was promised to by it, and it hears a seal quorum of members.
//!                                                                 tests `who_was_named_last_stands_again`
//!  U2. What was refused to an operator does not happen later.     test `what_was_refused_does_not_happen_later`
//!
//! Units: milliseconds.

use crate::protocol::action::Notice;
use crate::protocol::history::Summary;
use crate::protocol::node::Node;
use crate::protocol::node_id::NodeId;
use crate::protocol::view::RoleKind;

/// Between two attempts.
const AGAIN_MS: u64 = 2000;
/// For so long somebody else may come to lead.
const DEPOSED_MS: u64 = 1000;

/// See the module.
#[derive(Debug)]
pub(super) struct Succession {
    own: NodeId,
    next_ms: u64,
    /// An operator was told that this node does not lead.
    was_refused: bool,
    /// When it stopped to lead, and has heard no other leader since.
    deposed_ms: Option<u64>,
}

impl Succession {
    pub(super) fn new(own: NodeId) -> Succession {
        Succession { own, next_ms: 0, was_refused: false, deposed_ms: None }
    }

    /// Something happened; `is_told` says whether an operator waits for this node to lead.
    pub(super) fn note(&mut self, notice: Notice, is_told: bool, now_ms: u64) {
        match notice {
            Notice::Leads(_) => (self.was_refused, self.deposed_ms) = (false, None),
            Notice::Follows(..) => self.deposed_ms = None,
            Notice::StoppedLeading(_) => self.deposed_ms = Some(now_ms),
            Notice::DidNotLead(..) => self.was_refused |= is_told,
            _ => {}
        }
    }

    /// Whether the node is to stand now; `peers` are those that are connected and have said what they have.
    pub(super) fn stands<'a>(
        &mut self,
        node: &Node,
        mut peers: impl Iterator<Item = &'a Summary>,
        now_ms: u64,
    ) -> bool {
        let is_idle = node.role() == RoleKind::Follower && node.leader().is_none();
        if !is_idle || now_ms < self.next_ms || self.was_refused {
            return false;
        }
        let members = node.peers().iter().filter(|peer| peer.counts).count();
        let promised = node.promised();
        let is_named = if promised.leader.node == 0 {
            // Nobody was named since there is a cluster. All of them, for one that is away may have been.
            node.is_first_of(1 + members)
        } else {
            // Of two the other one is a seal quorum by itself: it is heard all the same.
            promised.leader.node == self.own.get()
                && node.is_seal_quorum(1 + members)
                && (members > 0 || node.is_first_of(1))
        };
        let is_newest =
            !node.has_seen_later() && peers.all(|summary| summary.promised.epoch <= promised.epoch);
        let was_deposed = self.deposed_ms.is_some_and(|since_ms| now_ms >= since_ms + DEPOSED_MS);
        let stands = is_named && (is_newest || was_deposed);
        if stands {
            self.next_ms = now_ms + AGAIN_MS;
        }
        stands
    }
}

#[cfg(test)]
#[path = "succession_tests.rs"]
mod tests;
