//! From the actions of a node to its disk and back.
//!
//! [`storage::Storage`] carries out what concerns the log; [`event_loop`] is the loop around it, with connections and
//! a clock, whose simulated twin is in `sim`. [`levels::Levels`] says how far the log has got, to those who wait,
//! and [`seen::Seen`] how the node is, to those who look. [`notes`] is what it notes beside the log, `succession` says
//! when it stands without being told to; [`workers`] are threads that wait for the disk, [`clock`] is its time.

pub mod clock;
pub mod event_loop;
pub mod levels;
pub mod notes;
pub mod seen;
pub mod storage;
mod succession;
pub mod workers;
