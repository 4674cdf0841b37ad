//! okaywal: a write-ahead log of pre-zeroed, recycled segments.
//!
//! Owns the wrapper: one entry of one chunk per append, committed at once, with okaywal's default
//! configuration (segments of 1 MiB, a checkpoint that keeps nothing after 768 KiB).
//!
//! Durability: `EntryWriter::commit` returns after an `fdatasync` of the segment that covers the
//! entry. Writers that wait at the same time share one: it syncs for all that was in the file when
//! it began. A directory sync follows when the segment is new.

use std::path::Path;

use okaywal::{Configuration, LogVoid, WriteAheadLog};

use crate::Result;
use crate::target::{Target, Writer};

/// The open log.
#[derive(Debug)]
pub struct Okaywal {
    log: WriteAheadLog,
}

impl Okaywal {
    /// Opens a new log in `dir`.
    pub fn open(dir: &Path) -> Result<Self> {
        Ok(Self { log: Configuration::default_for(dir).open(LogVoid)? })
    }
}

impl Target for Okaywal {
    fn durable(&self, _writer_index: usize) -> Result<Box<dyn Writer + '_>> {
        Ok(Box::new(OkaywalWriter { log: &self.log }))
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(self.log.shutdown()?)
    }
}

struct OkaywalWriter<'a> {
    log: &'a WriteAheadLog,
}

impl Writer for OkaywalWriter<'_> {
    fn append(&mut self, record: &[u8]) -> Result<()> {
        let mut entry = self.log.begin_entry()?;
        entry.write_chunk(record)?;
        entry.commit()?;
        Ok(())
    }
}
