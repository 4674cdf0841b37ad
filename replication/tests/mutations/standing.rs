//! Mutations of how a replica comes to lead, and stops.

use super::{CLUSTERS, Mutation};

pub(super) const STANDING: &[Mutation] = &[
    Mutation {
        what: "a seal quorum is one too few",
        edits: &[("protocol/quorum.rs", "n - commit_quorum(n) + 1", "n - commit_quorum(n)")],
        test: CLUSTERS,
    },
    Mutation {
        what: "logs are compared by their length",
        edits: &[(
            "protocol/history.rs",
            "(epoch.get(), lsn.get(), segment, offset)",
            "{ let _ = epoch; (0, lsn.get(), segment, offset) }",
        )],
        test: CLUSTERS,
    },
    Mutation {
        what: "the better log is not fetched",
        edits: &[(
            "protocol/standing.rs",
            "if theirs.rank() <= mine.rank() {",
            "if theirs.rank() <= mine.rank() || true {",
        )],
        test: CLUSTERS,
    },
    Mutation {
        what: "an epoch begins with the first piece that was fetched",
        edits: &[(
            "protocol/standing.rs",
            "Step::Fetching(_, end) if end == durable)",
            "Step::Fetching(_, end) if end != Place::START)",
        )],
        test: CLUSTERS,
    },
    Mutation {
        what: "an epoch is resumed after a restart",
        edits: &[
            (
                "protocol/standing.rs",
                "let epoch = self.seen_epoch.max(self.promised().epoch).next();",
                "let mine = self.promised();\n        let resumes = mine.leader.node == self.settings.node.get() && mine.leader != self.settings.leader;\n        let epoch = if resumes { mine.epoch } else { self.seen_epoch.max(mine.epoch).next() };",
            ),
            (
                "protocol/node.rs",
                "assert!(promise.epoch > self.promised().epoch, \"promises grow\");",
                "",
            ),
        ],
        test: "unit::a_later_life",
    },
    Mutation {
        what: "an epoch is promised to two",
        edits: &[
            (
                "protocol/node.rs",
                "} else if promise.epoch > stands.epoch {\n            // From",
                "} else if promise.epoch >= stands.epoch {\n            // From",
            ),
            (
                "protocol/node.rs",
                "assert!(promise.epoch > self.promised().epoch, \"promises grow\");",
                "",
            ),
        ],
        test: "unit::an_epoch_is_promised_once",
    },
    Mutation {
        what: "a leader that hears of a later epoch goes on",
        edits: &[(
            "protocol/node.rs",
            "        if promised.epoch > own.epoch {\n            self.stop_leading();",
            "        if promised.epoch > own.epoch && !self.leads() {\n            self.stop_leading();",
        )],
        test: CLUSTERS,
    },
    Mutation {
        what: "a candidate does not wait for the lease of another",
        edits: &[(
            "protocol/standing.rs",
            "        if standing.lease_ms() > 0 {",
            "        if false {",
        )],
        test: CLUSTERS,
    },
    Mutation {
        what: "who restarts has heard nobody",
        edits: &[(
            "protocol/node.rs",
            "        node.restart(mine, now_ms);\n",
            "        let _ = now_ms;\n",
        )],
        test: "unit::who_restarts_may",
    },
    Mutation {
        what: "a lease begins when a heartbeat is heard by one too few",
        edits: &[(
            "protocol/lease.rs",
            "commit_quorum(self.settings.members.len()) - 1;",
            "(commit_quorum(self.settings.members.len()) - 1).min(1);",
        )],
        test: "unit::a_lease_counts_from",
    },
];
