#![doc = include_str!("../../FORMAT.md")]

pub mod batch;
pub(crate) mod bytes;
pub mod segment;
pub mod superblock;
pub mod version;
pub mod watermark;

pub(crate) use limits::{block_bytes_are_possible, segment_bytes_are_possible};

mod limits;
