//! How a cluster comes to be, and how a node with an empty directory comes into one.
//!
//! Owns the decision; names and directories are made by the driver. A cluster is made only when every node that
//! its operator gave is there, says the same list, and none has a log. The one with the lowest number names the
//! log; each makes its directory, and the cluster is made when a node has seen the directories of all: it notes
//! them (its *members*). Whoever comes with another directory later is not one of them.
//!
//! Invariants
//!  F1. A node with an empty directory makes a log of a new name only together with all the others.
//!                                                              test `all_of_them_or_none`
//!  F2. A directory counts only if it was there when the cluster was made.
//!                                                              test `a_new_directory_is_not_a_member`

use std::collections::{BTreeMap, BTreeSet};

use cairnlog_engine::Place;

use super::history::Summary;
use super::message::Message;
use super::node_id::NodeId;

/// What a node without a log does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Name the log, tell the others by [`Message::Found`], and make it.
    Found,
    /// Make a log with these names, to be filled by others.
    Join {
        /// Of the log.
        log_id: u128,
        /// Of its line of succession.
        lineage_id: u128,
    },
    /// Wait. This peer was given another list of nodes.
    Disagrees(NodeId),
}

/// A node without a log.
#[derive(Clone, Debug)]
pub struct Founding {
    own: NodeId,
    configured: BTreeSet<NodeId>,
    /// Who said that it has none either, and was given the same list.
    empty: BTreeSet<NodeId>,
}

impl Founding {
    /// `configured` are the nodes of the cluster, this one included.
    #[must_use]
    pub fn new(own: NodeId, configured: BTreeSet<NodeId>) -> Founding {
        Founding { own, configured, empty: BTreeSet::new() }
    }

    /// What to say first on every connection.
    #[must_use]
    pub fn greeting(&self) -> Message {
        Message::Empty { configured: self.configured.clone() }
    }

    /// A peer said something.
    pub fn handle_message(&mut self, from: NodeId, message: &Message) -> Option<Step> {
        match message {
            Message::Empty { configured } if *configured == self.configured => {
                self.empty.insert(from);
                let others = self.configured.iter().filter(|node| **node != self.own);
                let all = others.into_iter().all(|node| self.empty.contains(node));
                (all && self.configured.first() == Some(&self.own)).then_some(Step::Found)
            }
            Message::Empty { .. } => Some(Step::Disagrees(from)),
            Message::Found { log_id, lineage_id } => {
                Some(Step::Join { log_id: *log_id, lineage_id: *lineage_id })
            }
            Message::Hello { summary, .. } => {
                let Summary { log_id, lineage_id, .. } = *summary;
                Some(Step::Join { log_id, lineage_id })
            }
            _ => None,
        }
    }

    /// The connection to a peer is gone: what it said does not hold any more.
    pub fn handle_disconnected(&mut self, peer: NodeId) {
        self.empty.remove(&peer);
    }
}

/// The members of the cluster, once they can be known: a peer that knows them counts this directory among them, or
/// every configured node is there with an empty log of the same name.
#[must_use]
pub fn members(
    own: NodeId,
    mine: &Summary,
    configured: &BTreeSet<NodeId>,
    peers: &BTreeMap<NodeId, Summary>,
) -> Option<BTreeMap<NodeId, u128>> {
    let same = |summary: &&Summary| summary.log_id == mine.log_id;
    let mut known = peers.values().filter(same).map(|summary| &summary.members);
    if let Some(members) = known.find(|members| !members.is_empty()) {
        // Also when this directory is none of them.
        return Some(members.clone());
    }
    let mut members = BTreeMap::from([(own, mine.incarnation)]);
    for node in configured.iter().filter(|node| **node != own) {
        let summary = peers.get(node).filter(same)?;
        members.insert(*node, summary.incarnation);
    }
    let all_are_new = mine.end == Place::START && peers.values().all(|s| s.end == Place::START);
    (all_are_new || configured.len() == 1).then_some(members)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairnlog_engine::Epoch;

    fn node(number: u64) -> NodeId {
        NodeId::new(number).expect("not 0")
    }

    fn nodes(count: u64) -> BTreeSet<NodeId> {
        (1..=count).map(node).collect()
    }

    #[test]
    fn all_of_them_or_none() {
        let mut first = Founding::new(node(1), nodes(3));
        let mut second = Founding::new(node(2), nodes(3));
        let greeting = first.greeting();
        assert_eq!(first.handle_message(node(2), &greeting), None);
        first.handle_disconnected(node(2));
        assert_eq!(first.handle_message(node(3), &greeting), None, "the second is gone");
        let other = Message::Empty { configured: nodes(2) };
        assert_eq!(first.handle_message(node(2), &other), Some(Step::Disagrees(node(2))));
        assert_eq!(first.handle_message(node(2), &greeting), Some(Step::Found));
        assert_eq!(second.handle_message(node(1), &greeting), None);
        assert_eq!(second.handle_message(node(3), &greeting), None, "the lowest names it");
        let found = Message::Found { log_id: 7, lineage_id: 8 };
        let join = Some(Step::Join { log_id: 7, lineage_id: 8 });
        assert_eq!(second.handle_message(node(1), &found), join);
        let hello = Message::Hello { summary: Summary::empty(5), asks: false };
        let join = Some(Step::Join { log_id: 1, lineage_id: 2 });
        assert_eq!(second.handle_message(node(3), &hello), join);
    }

    #[test]
    fn a_new_directory_is_not_a_member() {
        let (mine, set) = (Summary::empty(11), nodes(3));
        let mut peers = BTreeMap::from([(node(2), Summary::empty(12))]);
        assert_eq!(members(node(1), &mine, &set, &peers), None, "one is missing");
        peers.insert(node(3), Summary::empty(13));
        let all = BTreeMap::from([(node(1), 11), (node(2), 12), (node(3), 13)]);
        assert_eq!(members(node(1), &mine, &set, &peers), Some(all.clone()));
        peers.insert(node(3), Summary { log_id: 9, ..Summary::empty(13) });
        assert_eq!(members(node(1), &mine, &set, &peers), None, "it has another log");
        let end = Place { segment: 1, offset: 512, epoch: Epoch::new(1), ..Place::START };
        peers.insert(node(3), Summary { end, ..Summary::empty(13) });
        assert_eq!(members(node(1), &mine, &set, &peers), None, "it has batches of somebody");
        // They know each other, and another directory of this node.
        peers.insert(node(3), Summary { members: all.clone(), end, ..Summary::empty(13) });
        assert_eq!(members(node(1), &Summary::empty(99), &set, &peers), Some(all));
        let alone = members(node(1), &Summary::empty(4), &nodes(1), &BTreeMap::new());
        assert_eq!(alone, Some(BTreeMap::from([(node(1), 4)])));
    }
}
