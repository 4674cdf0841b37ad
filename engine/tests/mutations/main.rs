//! Whether the tests of crashes and faults can fail: the engine is broken on purpose, in a copy, in one
//! way after the other, and each time one of them has to notice.
//!
//! Owns which mutations there are: those of the way in are listed in `writing`, those of what comes later in
//! `keeping`, of truncations in `truncating`, of replicas in `replicating`, and of the hand-over between threads
//! in `handing`. How they are tried is `mutation`'s.
//!
//! Takes minutes, so that it is ignored by default and a step of its own in `.ci/run`.

mod handing;
mod keeping;
mod mutation;
mod replicating;
mod truncating;
mod writing;

use mutation::{INTERLEAVINGS, Mutation, Subject};

static ENGINE: Subject = Subject {
    package: "cairnlog-engine",
    folder: "engine",
    made_of: &[],
    without: &[
        ("engine/Cargo.toml", &["proptest."]),
        // The only unit tests that want it.
        ("engine/src/format/batch_tests.rs", &[""]),
    ],
    env: &[("CAIRNLOG_STATES", "300"), ("CAIRNLOG_STRIDE", "4")],
    mutations: &[
        writing::WRITING,
        keeping::KEEPING,
        truncating::TRUNCATING,
        replicating::REPLICATING,
        handing::HANDING,
    ],
};

#[test]
fn every_mutation_has_its_texts() {
    ENGINE.check_texts();
}

#[test]
#[ignore = "takes minutes; a step of its own in .ci/run"]
fn every_mutation_is_noticed() {
    ENGINE.check_all();
}
