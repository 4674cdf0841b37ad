//! Mutations of what a follower takes from whom.

use super::{CLUSTERS, Mutation};

pub(super) const FOLLOWING: &[Mutation] = &[
    Mutation {
        what: "the stream of an earlier epoch is taken",
        edits: &[
            (
                "protocol/following.rs",
                "        let stands = self.promised();\n        if promised.epoch < stands.epoch || (promised.epoch == stands.epoch && promised != stands) {\n            self.fence(from);\n            return;",
                "        let stands = self.promised();\n        if promised.epoch == stands.epoch && promised != stands {\n            self.fence(from);\n            return;",
            ),
            (
                "protocol/following.rs",
                "        let promised = self.promised();\n        let Some(inbound) = &mut self.inbound else { return };\n        if (inbound.from, inbound.stream, inbound.promised) != (from, stream, promised) {",
                "        let Some(inbound) = &mut self.inbound else { return };\n        if (inbound.from, inbound.stream) != (from, stream) {",
            ),
        ],
        test: "unit::nothing_of_an_earlier_epoch",
    },
    Mutation {
        what: "a stream goes on when a later epoch is promised",
        edits: &[
            (
                "protocol/node.rs",
                "        self.stop_leading();\n        self.inbound = None;\n",
                "        self.stop_leading();\n",
            ),
            (
                "protocol/following.rs",
                "        let promised = self.promised();\n        let Some(inbound) = &mut self.inbound else { return };\n        if (inbound.from, inbound.stream, inbound.promised) != (from, stream, promised) {",
                "        let Some(inbound) = &mut self.inbound else { return };\n        if (inbound.from, inbound.stream) != (from, stream) {",
            ),
        ],
        test: "unit::nothing_of_an_earlier_epoch",
    },
    Mutation {
        what: "a leader's word on what is committed is taken for what was not taken from it",
        edits: &[(
            "protocol/following.rs",
            "        let Some(inbound) = &mut self.inbound else { return };\n        let of_leader = promised.leader.node == from.get();\n",
            "        let of_leader = promised.leader.node == from.get();\n        if of_leader && self.inbound.is_none() {\n            self.commit(commit_lsn.max(self.commit_lsn));\n        }\n        let Some(inbound) = &mut self.inbound else { return };\n",
        )],
        test: CLUSTERS,
    },
    Mutation {
        what: "more is committed than was taken",
        edits: &[(
            "protocol/inbound.rs",
            "Some(self.commit_lsn.min(self.taken.lsn))",
            "Some(self.commit_lsn)",
        )],
        test: "unit::only_what_continues",
    },
    Mutation {
        what: "a cut that was refused is taken for one that was done",
        edits: &[(
            "protocol/following.rs",
            "        if done {\n",
            "        if done || inbound.at().segment > 0 {\n",
        )],
        test: "unit::a_cut_may_be_refused",
    },
    Mutation {
        what: "a cut is that of any stream",
        edits: &[(
            "protocol/following.rs",
            "if !inbound.waits_for(number) {",
            "let _ = number;\n        if inbound.is_receiving() {",
        )],
        test: "unit::a_cut_for_an_earlier",
    },
];
