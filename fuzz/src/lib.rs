//! What the fuzz targets check; the targets themselves are one line each.
//!
//! Each module states the properties that it holds the engine, or the messages between nodes, to. The seeds under `corpus` are run by
//! `cargo test -p cairnlog-fuzz` as well, without libFuzzer and on any toolchain.

pub mod batch;
pub mod frame;
pub mod image;
pub mod operations;
pub mod producers;
pub mod protocol;
pub mod request;
pub mod root;

mod forge;
mod model;
