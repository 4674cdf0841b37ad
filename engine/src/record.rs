//! Records as readers get them.
//!
//! Owns [`Record`] and the borrowed [`RecordRef`]. The bytes are not copied: a record keeps the batch it
//! came in alive, in memory or mapped.

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

use crate::disk::Shared;
use crate::segments::Mapped;
use crate::{Epoch, Lsn};

/// One record, with the batch behind it kept alive.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its ordinal.
    pub lsn: Lsn,
    /// The leadership that wrote it.
    pub epoch: Epoch,
    /// Wall clock of its batch, milliseconds since 1970; never less than that of an earlier record.
    pub time_ms: u64,
    pub(crate) batch: BatchBytes,
    pub(crate) place: Range<usize>,
}

impl Record {
    /// What was appended.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.batch[self.place.clone()]
    }
}

impl Deref for Record {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.bytes()
    }
}

/// One record, borrowed from the reader that is at it.
#[derive(Clone, Copy, Debug)]
pub struct RecordRef<'a> {
    /// Its ordinal.
    pub lsn: Lsn,
    /// The leadership that wrote it.
    pub epoch: Epoch,
    /// Wall clock of its batch, milliseconds since 1970; never less than that of an earlier record.
    pub time_ms: u64,
    pub(crate) bytes: &'a [u8],
}

impl<'a> RecordRef<'a> {
    /// What was appended.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
}

/// The bytes of a whole, verified batch, wherever they are.
#[derive(Clone)]
pub(crate) enum BatchBytes {
    Hot(Shared),
    Mapped(Arc<Mapped>, Range<usize>),
    Read(Arc<[u8]>),
}

impl Deref for BatchBytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match self {
            BatchBytes::Hot(shared) => shared,
            BatchBytes::Mapped(mapping, range) => &mapping[range.clone()],
            BatchBytes::Read(bytes) => bytes,
        }
    }
}

impl fmt::Debug for BatchBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BatchBytes({} bytes)", self.len())
    }
}
