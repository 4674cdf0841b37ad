#![doc = include_str!("../../FORMAT.md")]

pub mod batch;
pub(crate) mod bytes;
pub mod checkpoint;
pub mod fork;
pub mod parity;
pub mod segment;
pub mod superblock;
pub mod table;
pub mod version;
pub mod watermark;

pub(crate) use limits::{block_bytes_are_possible, segment_bytes_are_possible};

mod limits;
