//! What an append waits for: how far the log of a leader has got, by the level that its client chose.
//!
//! Owns the figures as they are published to those who wait. Decides nothing.

use std::sync::Arc;

use cairnlog_engine::{Epoch, Lsn};

use crate::protocol::node_id::NodeId;

/// How far a leader's log has got. What was appended in an epoch is acknowledged by this only while the same epoch
/// is led.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Levels {
    /// The epoch that this node leads.
    pub led: Option<Epoch>,
    /// Below it records are durable here.
    pub durable_lsn: Lsn,
    /// Below it they are on a commit quorum.
    pub commit_lsn: Lsn,
    /// Below it they are on every replica in service, and committed.
    pub all_lsn: Lsn,
    /// When the newest heartbeat was sent that a commit quorum has heard; see [`Node::confirmed_ms`].
    ///
    /// [`Node::confirmed_ms`]: crate::protocol::node::Node::confirmed_ms
    pub confirmed_ms: Option<u64>,
    /// Whether what is durable here is acknowledged at `local` though more was asked for, because too few followers
    /// keep up, and the operator wants that rather than to wait.
    pub degraded: bool,
    /// Below which LSN each replica that counts has them, this one included.
    pub replicas: Arc<[(NodeId, Lsn)]>,
}

impl Levels {
    /// The replicas that have everything in front of an LSN.
    #[must_use]
    pub fn having(&self, end: Lsn) -> Vec<NodeId> {
        self.replicas.iter().filter(|(_, lsn)| *lsn >= end).map(|(node, _)| *node).collect()
    }
}
