//! Mutations of what counts.

use super::{CLUSTERS, Mutation};

pub(super) const COUNTING: &[Mutation] = &[
    Mutation {
        what: "a commit quorum is one too few",
        edits: &[(
            "protocol/quorum.rs",
            "places.get(commit_quorum(places.len()) - 1)?",
            "places.get(commit_quorum(places.len()) - 2)?",
        )],
        test: CLUSTERS,
    },
    Mutation {
        what: "a batch of an earlier epoch is committed by itself",
        edits: &[(
            "protocol/quorum.rs",
            "(place.epoch == own_epoch).then_some(place)",
            "{ let _ = own_epoch; Some(place) }",
        )],
        test: "unit::a_quorum_commits_what",
    },
    Mutation {
        what: "a stranger's seal counts",
        edits: &[(
            "protocol/standing.rs",
            "        if !counts {\n            return;\n        }",
            "        let _ = counts;",
        )],
        test: "unit::only_members_seal",
    },
    Mutation {
        what: "a stranger promises",
        edits: &[(
            "protocol/node.rs",
            "        if !self.is_member() {\n            // A",
            "        if false {\n            // A",
        )],
        test: "unit::a_stranger_promises_nothing",
    },
    Mutation {
        what: "a stranger's ack counts",
        edits: &[(
            "protocol/leading.rs",
            "self.peers.get(&node).filter(|_| self.counts(node))?;",
            "self.peers.get(&node)?;",
        )],
        test: "unit::only_acks_of_members",
    },
    Mutation {
        what: "a directory that has forgotten what it acknowledged counts",
        edits: &[(
            "protocol/shown.rs",
            "            || promised == self.acked_epoch && position(&summary.end) < self.acked",
            "",
        )],
        test: "unit::k6_",
    },
    Mutation {
        what: "a directory that may have forgotten something counts",
        edits: &[(
            "protocol/node.rs",
            "self.peers.get(&node).filter(|peer| peer.doubt.is_none());",
            "self.peers.get(&node);",
        )],
        test: "unit::k6_",
    },
    Mutation {
        what: "nobody is told of a directory that has forgotten something",
        edits: &[(
            "protocol/shown.rs",
            "            self.tell_all(mine, false);",
            "            let _ = mine;",
        )],
        test: "unit::k6_",
    },
    Mutation {
        what: "what is overtaken on its way is a loss",
        edits: &[(
            "protocol/shown.rs",
            "            self.ask(from, shown);",
            "            let _ = shown;\n            self.count_no_more(from);",
        )],
        test: CLUSTERS,
    },
    Mutation {
        what: "an ack counts for a log that has diverged",
        edits: &[(
            "protocol/outbound.rs",
            "position(|(end, _)| *end == durable)",
            "position(|(end, _)| (end.segment, end.offset) == (durable.segment, durable.offset))",
        )],
        test: "unit::only_what_was_sent_is_acked",
    },
    Mutation {
        what: "a stream counts before the other one is ready",
        edits: &[(
            "protocol/outbound.rs",
            "(self.state == State::Sending).then_some(self.acked)",
            "Some(self.acked)",
        )],
        test: "unit::only_what_was_sent_is_acked",
    },
];
