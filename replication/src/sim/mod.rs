//! A cluster in one thread: nodes, their simulated disks, a network that loses, delays, and parts them, and
//! clients that remember what they were told. The same seed gives the same run, bit for bit.
//!
//! [`world::World`] is the whole; [`network`] what is between nodes; [`check`] what must be true of every run.

pub mod check;
pub mod network;
pub mod random;
pub mod world;

pub use check::Broken;
pub use world::{Report, World};
