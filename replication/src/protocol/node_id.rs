//! Names of nodes.

use std::fmt;

/// A node of a cluster: a number that its operator gave it, from 1 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(u64);

impl NodeId {
    /// The node of a log alone.
    pub const FIRST: NodeId = NodeId(1);

    /// The node with this number; `None` for 0, which is a log that is opened alone.
    #[must_use]
    pub const fn new(number: u64) -> Option<NodeId> {
        if number == 0 { None } else { Some(NodeId(number)) }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
