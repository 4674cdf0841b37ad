//! raft-engine: the log of TiKV, many Raft groups in one file.
//!
//! Two targets. `raft-engine` has the default configuration, which writes new log files until 10 GB
//! are full. `raft-engine-prefilled` is what it becomes once it recycles them: log files that were
//! written before.
//!
//! Owns the wrapper: each writer is a Raft group of its own, as in TiKV, and appends one entry per
//! batch. Each group drops its old entries now and then, and the engine its old files, as its users
//! must.
//!
//! Durability: `Engine::write(batch, true)` returns after an `fdatasync` of the log file that
//! covers the batch. Writers that wait at the same time form a group: the leader writes each batch,
//! then syncs once.
//!
//! Entries must be messages of protobuf 2. `UninterpretedOption` of that crate stands in for
//! `eraftpb::Entry`, whose crate needs a protobuf compiler: it too is encoded as two integers
//! (term, index) and one bytes field.

use std::path::Path;
use std::slice;

use protobuf::descriptor::UninterpretedOption as Entry;
use raft_engine::{Config, Engine, LogBatch, MessageExt, ReadableSize};

use crate::Result;
use crate::target::{Target, Writer};

/// A group drops its old entries after so many bytes of its own: often enough to bound memory and
/// disk, too rarely to be seen in a percentile.
const COMPACT_BYTES: usize = 4 << 20;

/// Log files that are written through when the prefilled engine opens, less a third.
const PREFILL_BYTES: u64 = 1 << 30;

const TERM: i64 = 6;

#[derive(Clone)]
struct LogEntry;

impl MessageExt for LogEntry {
    type Entry = Entry;

    fn index(entry: &Entry) -> u64 {
        entry.get_positive_int_value()
    }
}

/// The open engine.
pub struct RaftEngine {
    engine: Engine,
}

impl RaftEngine {
    /// Opens a new engine in `dir`.
    pub fn open(dir: &Path) -> Result<Self> {
        Ok(Self { engine: Engine::open(config(dir)?)? })
    }

    /// Opens a new engine in `dir` with the log files that it will recycle already written.
    pub fn open_prefilled(dir: &Path) -> Result<Self> {
        let config = Config {
            purge_threshold: ReadableSize(PREFILL_BYTES),
            prefill_limit: Some(ReadableSize(PREFILL_BYTES)),
            prefill_for_recycle: true,
            ..config(dir)?
        };
        Ok(Self { engine: Engine::open(config)? })
    }
}

fn config(dir: &Path) -> Result<Config> {
    let dir = dir.to_str().ok_or("raft-engine needs a directory in UTF-8")?.to_owned();
    Ok(Config { dir, ..Config::default() })
}

impl Target for RaftEngine {
    fn durable(&self, writer_index: usize) -> Result<Box<dyn Writer + '_>> {
        let group = u64::try_from(writer_index)? + 1;
        let last_index = self.engine.last_index(group).unwrap_or(0);
        let mut entry = Entry::new();
        entry.set_negative_int_value(TERM);
        entry.set_positive_int_value(last_index);
        let batch = LogBatch::with_capacity(1);
        let engine = &self.engine;
        Ok(Box::new(RaftEngineWriter { engine, group, entry, batch, kept_bytes: 0 }))
    }
}

struct RaftEngineWriter<'a> {
    engine: &'a Engine,
    group: u64,
    entry: Entry,
    batch: LogBatch,
    kept_bytes: usize,
}

impl Writer for RaftEngineWriter<'_> {
    fn append(&mut self, record: &[u8]) -> Result<()> {
        let index = self.entry.get_positive_int_value() + 1;
        self.entry.set_positive_int_value(index);
        let data = self.entry.mut_string_value();
        data.clear();
        data.extend_from_slice(record);
        self.batch.add_entries::<LogEntry>(self.group, slice::from_ref(&self.entry))?;
        self.engine.write(&mut self.batch, true)?;
        self.kept_bytes += record.len();
        if self.kept_bytes >= COMPACT_BYTES {
            self.kept_bytes = 0;
            self.engine.compact_to(self.group, index);
            self.engine.purge_expired_files()?;
        }
        Ok(())
    }
}
