//! commitlog: segments and an index, written through the page cache.
//!
//! Owns the wrapper: a lock, because `CommitLog::append` takes it mutably. The message is built,
//! and its checksum taken, outside of it.
//!
//! Durability: none. An append returns after `write` to the page cache, which survives the end of
//! the process but no power cut. Its `flush` cannot help: for the segment it is `File::flush` of
//! the standard library, which does nothing. So it only takes part in the buffered workload.

use std::path::Path;
use std::sync::Mutex;

use commitlog::message::MessageBuf;
use commitlog::{CommitLog, LogOptions};

use crate::Result;
use crate::target::{Target, Writer};

/// The open log.
pub struct Commitlog {
    log: Mutex<CommitLog>,
}

impl Commitlog {
    /// Opens a new log in `dir`.
    pub fn open(dir: &Path) -> Result<Self> {
        Ok(Self { log: Mutex::new(CommitLog::new(LogOptions::new(dir))?) })
    }
}

impl Target for Commitlog {
    fn durable(&self, _writer_index: usize) -> Result<Box<dyn Writer + '_>> {
        Err("commitlog cannot append durably".into())
    }

    fn buffered(&self, _writer_index: usize) -> Result<Box<dyn Writer + '_>> {
        Ok(Box::new(CommitlogWriter { log: &self.log }))
    }
}

struct CommitlogWriter<'a> {
    log: &'a Mutex<CommitLog>,
}

impl Writer for CommitlogWriter<'_> {
    fn append(&mut self, record: &[u8]) -> Result<()> {
        let mut message = MessageBuf::default();
        message.push(record).map_err(|error| format!("commitlog: {error:?}"))?;
        let mut log = self.log.lock().map_err(|_| "another writer panicked")?;
        log.append(&mut message)?;
        Ok(())
    }
}
