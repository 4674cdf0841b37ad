//! From the actions of a node to its disk and back.
//!
//! [`storage::Storage`] carries out what concerns the log. The loop around it, with a network and a clock, is the
//! server's; its simulated twin is in `sim`.

pub mod storage;
