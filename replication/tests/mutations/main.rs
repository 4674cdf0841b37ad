//! Whether the simulated clusters can fail: the protocol is broken on purpose, in a copy, in one way after the
//! other, and each time they, or a unit test where they cannot see it, have to notice.
//!
//! Owns which mutations there are: those of what is durable, and when, are listed in `keeping`, those of how a
//! replica comes to lead in `standing`, of what counts in `counting`, of what a follower takes in `following`, and of what is known of
//! producers in `numbering`.
//! How they are tried is `mutation`'s, which is the engine's.
//!
//! Takes minutes, so that it is ignored by default and a step of its own in `.ci/run`.

mod counting;
mod following;
mod keeping;
#[path = "../../../engine/tests/mutations/mutation/mod.rs"]
mod mutation;
mod numbering;
mod standing;

use mutation::{Mutation, Subject};

/// The simulator has neither QUIC nor clients.
static REPLICATION: Subject = Subject {
    package: "cairnlog-replication",
    folder: "replication",
    made_of: &["engine"],
    without: &[
        (
            "replication/Cargo.toml",
            &[
                "bytes",
                "getrandom",
                "quinn",
                "rcgen",
                "rustls",
                "serde_json",
                "socket2",
                "tempfile",
                "tokio",
            ],
        ),
        (
            "replication/src/lib.rs",
            &["pub mod client;", "pub mod server;", "pub mod status;", "pub mod transport;"],
        ),
        (
            "replication/src/driver/mod.rs",
            &["mod succession;", "pub mod event_loop;", "pub mod workers;"],
        ),
        ("engine/Cargo.toml", &["proptest."]),
    ],
    env: &[("CAIRNLOG_SEEDS", "40")],
    mutations: &[
        keeping::KEEPING,
        standing::STANDING,
        counting::COUNTING,
        following::FOLLOWING,
        numbering::NUMBERING,
    ],
};

/// The simulated clusters.
const CLUSTERS: &str = "cluster::no_promise_is_broken";

#[test]
fn every_mutation_has_its_texts() {
    REPLICATION.check_texts();
}

#[test]
#[ignore = "takes minutes; a step of its own in .ci/run"]
fn every_mutation_is_noticed() {
    REPLICATION.check_all();
}
