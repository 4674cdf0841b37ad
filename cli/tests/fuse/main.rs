//! Faults below the program: a FUSE file system of the tests' own loses power, fails, fills up, gets slow,
//! hangs, or turns read-only under the `cairnlog` binary and under the engine, with each of its drivers.
//!
//! Owns nothing but the list of parts. The names of the tests start with the row of the fault matrix that
//! they hold: C for crashes and power, D for the disk. Needs root and `/dev/fuse`; where these are
//! missing, every test says so and passes.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod cases_errors;
mod cases_limits;
mod cases_nth;
mod cases_power;
mod cases_slow;
#[path = "../common/mod.rs"]
mod common;
mod faults;
mod filesystem;
mod mount;
mod program;
mod store;
mod workload;
