//! The simulated disk as the engine sees it.
//!
//! Owns the directory's operations, the writer's lock, the clock and the ids. What tests do to the disk
//! behind the engine's back is in `controls`.
//!
//! Crash: a change of names on which the power went out is pending, like one before the last sync.

use std::any::Any;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use super::file::{Inode, SimFile};
use super::names::Node;
use super::queue::SimQueue;
use super::state::{OperationKind, READ_ONLY, Shared, State, Step};
use crate::disk::{Access, Aligned, Disk, DiskFile, Entry, WriteQueue};
use crate::sync::{Arc, MutexGuard};

/// A handle to a simulated disk of one directory; a clone is another handle to the same disk.
///
/// A restart through one handle leaves its clones, like the files opened before, without power for
/// ever: what an engine that went down still does cannot reach its successor. So keep one handle for
/// the test, and give each life of the engine a clone of it.
pub struct SimDisk {
    pub(super) shared: Arc<Shared>,
    /// The start of the disk that this handle belongs to.
    generation: AtomicU64,
}

impl SimDisk {
    /// An empty disk with the power on.
    #[must_use]
    pub fn new(seed: u64) -> SimDisk {
        SimDisk { shared: Arc::new(Shared::new(seed)), generation: AtomicU64::new(0) }
    }

    fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    pub(super) fn move_to(&self, generation: u64) {
        self.generation.store(generation, Ordering::Relaxed);
    }

    pub(super) fn of(shared: Shared) -> SimDisk {
        SimDisk { shared: Arc::new(shared), generation: AtomicU64::new(0) }
    }

    fn begin(&self, kind: OperationKind) -> io::Result<(MutexGuard<'_, State>, Step)> {
        self.shared.begin(self.generation(), kind)
    }

    fn checked(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.shared.state();
        state.check(self.generation())?;
        Ok(state)
    }

    fn file(&self, state: &mut State, inode: Arc<Inode>, access: Access) -> Arc<dyn DiskFile> {
        let handle = state.number();
        Arc::new(SimFile::new(&self.shared, self.generation(), inode, access, handle))
    }
}

impl Clone for SimDisk {
    fn clone(&self) -> SimDisk {
        let generation = AtomicU64::new(self.generation());
        SimDisk { shared: Arc::clone(&self.shared), generation }
    }
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimDisk(start {})", self.generation())
    }
}

/// The writer's lock; a restart has taken it away already when the number is not the one held.
struct Lock {
    shared: Arc<Shared>,
    number: u64,
}

impl Drop for Lock {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        if state.lock == Some(self.number) {
            state.lock = None;
        }
    }
}

impl Disk for SimDisk {
    fn lock(&self) -> io::Result<Box<dyn Any + Send + Sync>> {
        let mut state = self.checked()?;
        if state.lock.is_some() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let number = state.number();
        state.lock = Some(number);
        Ok(Box::new(Lock { shared: Arc::clone(&self.shared), number }))
    }

    fn is_locked(&self) -> io::Result<bool> {
        Ok(self.checked()?.lock.is_some())
    }

    fn list(&self) -> io::Result<Vec<Entry>> {
        let (state, step) = self.begin(OperationKind::List)?;
        step.result()?;
        Ok(state.names.list())
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        let (mut state, step) = self.begin(OperationKind::Create)?;
        state.trace.bytes(name.as_bytes());
        state.trace.number(bytes);
        let exists = state.names.get(name).is_ok();
        let step = state.limit(step.unless(exists, io::ErrorKind::AlreadyExists), bytes);
        step.started()?;
        let inode = Inode::zeros(bytes)?;
        if !exists {
            state.names.create(name, Arc::clone(&inode));
        }
        step.result()?;
        Ok(self.file(&mut state, inode, Access::Write))
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        let (mut state, step) = self.begin(OperationKind::Open)?;
        state.trace.bytes(name.as_bytes());
        step.unless(state.read_only && access == Access::Write, READ_ONLY).result()?;
        let inode = match state.names.get(name)? {
            Node::File(inode) => Arc::clone(inode),
            Node::Directory(_) => {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
            }
        };
        Ok(self.file(&mut state, inode, access))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (mut state, step) = self.begin(OperationKind::Rename)?;
        state.trace.bytes(from.as_bytes());
        state.trace.bytes(to.as_bytes());
        step.started()?;
        let renamed = state.names.rename(from, to);
        step.result().and(renamed)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let (mut state, step) = self.begin(OperationKind::Remove)?;
        state.trace.bytes(name.as_bytes());
        step.started()?;
        let removed = state.names.remove(name);
        step.result().and(removed)
    }

    fn sync_directory(&self) -> io::Result<()> {
        let (mut state, step) = self.begin(OperationKind::SyncDirectory)?;
        match step {
            Step::Done => state.names.sync(),
            Step::Failed(_) => state.names.fail_sync(),
            _ => {}
        }
        step.result()
    }

    fn write_queue(&self) -> io::Result<Box<dyn WriteQueue>> {
        let depth = self.checked()?.queue_depth;
        Ok(Box::new(SimQueue::new(&self.shared, self.generation(), depth)))
    }

    fn self_test(&self, file: &dyn DiskFile, bytes: u64) -> io::Result<()> {
        let zeros = Aligned::zeroed(usize::try_from(bytes).expect("64-bit targets"));
        file.write_durable_at(&zeros, 0)
    }

    fn now_ms(&self) -> u64 {
        self.shared.state().now_ms
    }

    fn elapsed_ms(&self) -> u64 {
        self.shared.state().elapsed_ms
    }

    fn random_id(&self) -> io::Result<u128> {
        let mut state = self.checked()?;
        Ok(u128::from(state.random.next()) << 64 | u128::from(state.random.next()))
    }

    fn describe(&self) -> String {
        "sim".to_owned()
    }

    fn backend_name(&self) -> &'static str {
        "sim"
    }
}
