//! fjall: a key-value store whose journal is a log.
//!
//! Owns the wrapper: one insert under a key that rises by one, as one would keep a log in it, then
//! one `persist`. Everything else is fjall's default, its memtable and flushes included.
//!
//! Durability: `persist(SyncAll)` returns after an `fsync` of the journal. It runs under the
//! journal's lock and is not shared: each caller pays for its own, also when another's already
//! covered its insert.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use crate::Result;
use crate::target::{Target, Writer};

/// The open store.
pub struct Fjall {
    database: Database,
    log: Keyspace,
    next_key: AtomicU64,
}

impl Fjall {
    /// Opens a new store in `dir`.
    pub fn open(dir: &Path) -> Result<Self> {
        let database = Database::builder(dir).open()?;
        let log = database.keyspace("log", KeyspaceCreateOptions::default)?;
        Ok(Self { database, log, next_key: AtomicU64::new(0) })
    }
}

impl Target for Fjall {
    fn durable(&self, _writer_index: usize) -> Result<Box<dyn Writer + '_>> {
        Ok(Box::new(FjallWriter { store: self }))
    }
}

struct FjallWriter<'a> {
    store: &'a Fjall,
}

impl Writer for FjallWriter<'_> {
    fn append(&mut self, record: &[u8]) -> Result<()> {
        let key = self.store.next_key.fetch_add(1, Ordering::Relaxed);
        #[expect(clippy::big_endian_bytes, reason = "keys sort by their bytes")]
        let key = key.to_be_bytes();
        self.store.log.insert(key, record)?;
        self.store.database.persist(PersistMode::SyncAll)?;
        Ok(())
    }
}
