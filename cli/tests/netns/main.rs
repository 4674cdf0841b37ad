//! Real networks between real nodes: three `cairnlog serve` processes and their clients, each in a network
//! namespace of its own, while packets between them are dropped, damaged, doubled, held up, or dropped one
//! way only.
//!
//! Owns nothing but the list of parts. The names of the tests start with the row of the fault matrix that
//! they hold: N for the network, K for the cluster. Needs root, `ip`, `tc`, `nft` and `unshare`; where these
//! are missing, every test says so and passes.
//!
//! What every test asserts: of what was acknowledged at `quorum` nothing is missing anywhere; nothing is in
//! the log that nobody sent, and nothing twice unless a client was told that the outcome is not known; what
//! could not be done can be done again [`HEALED`](network::HEALED) after the fault has gone, with nobody's
//! help; and no call waits much longer than its deadline.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod cases_clients;
mod cases_links;
mod cases_partitions;
mod cases_storms;
#[path = "../common/mod.rs"]
mod common;
mod network;
mod producer;
#[path = "../common/replicas.rs"]
mod replicas;
