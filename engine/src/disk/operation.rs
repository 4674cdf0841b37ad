//! What the WAL writer asks of a disk, and what the disk answers.
//!
//! Owns the two values that cross between the state machine and the drivers. Does no I/O.

use std::io;
use std::sync::Arc;

use super::{DiskFile, Shared};

/// A write that must survive a power cut before its completion is reported.
#[derive(Clone, Debug)]
pub struct Write {
    /// Chosen by the asker; comes back in the completion.
    pub id: u64,
    /// Where to.
    pub file: Arc<dyn DiskFile>,
    /// First byte of the file to write; a multiple of the block size.
    pub offset: u64,
    /// What to write; whole blocks, aligned to [`super::ALIGNMENT`].
    pub bytes: Shared,
}

/// The end of a [`Write`].
#[derive(Debug)]
pub struct Completion {
    /// The id of the write.
    pub id: u64,
    /// `Ok` when every byte is durable. After an error nothing is known about the bytes.
    pub result: io::Result<()>,
}
