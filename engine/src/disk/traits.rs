//! The traits of the seam.
//!
//! Owns what a disk must promise; every implementation keeps the same promises:
//!  - bytes are durable after `write_durable_at`, after a completion without error, or after `sync`;
//!  - names are durable after `sync_directory`, and `rename` replaces its target or does nothing;
//!  - an error of a write or sync is final: nothing is retried here, and a short write is completed or
//!    becomes an error;
//!  - nothing follows a symbolic link, and nothing but a regular file is opened.

use std::any::Any;
use std::fmt;
use std::io;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use super::{Aligned, Completion, Mapping, Write};

/// What a name in the directory stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file of this many bytes.
    File(u64),
    /// A directory, link, pipe, socket or device.
    Other,
}

/// A name in the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name; names that are not UTF-8 are given with replacement characters and never match ours.
    pub name: String,
    /// What it stands for.
    pub kind: EntryKind,
}

/// What a file is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading only; nothing about the file changes.
    Read,
    /// Reading and writing.
    Write,
}

/// One directory on one disk, with the clock and the entropy of its machine.
pub trait Disk: fmt::Debug + Send + Sync {
    /// Takes the one writer's lock; held until the answer is dropped, and by the kernel released when
    /// the process dies.
    ///
    /// # Errors
    /// `WouldBlock` when another process or handle holds it.
    fn lock(&self) -> io::Result<Box<dyn Any + Send + Sync>>;

    /// Whether some process holds the writer's lock at this moment.
    ///
    /// # Errors
    /// Whatever looking at the lock file gives.
    fn is_locked(&self) -> io::Result<bool>;

    /// Every name in the directory, in no order.
    ///
    /// # Errors
    /// Whatever listing gives.
    fn list(&self) -> io::Result<Vec<Entry>>;

    /// Makes a new file of `bytes` bytes, which read as zero, and opens it for writing.
    ///
    /// # Errors
    /// `AlreadyExists`, `StorageFull`, or whatever creating gives.
    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens a file.
    ///
    /// # Errors
    /// `NotFound`, `InvalidInput` when it is no regular file, or whatever opening gives.
    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn DiskFile>>;

    /// Gives a file another name, replacing what had it.
    ///
    /// # Errors
    /// Whatever renaming gives.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Drops a name.
    ///
    /// # Errors
    /// Whatever unlinking gives.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes every change of names so far durable.
    ///
    /// # Errors
    /// An error is final, like that of a file's sync.
    fn sync_directory(&self) -> io::Result<()>;

    /// A queue for durable writes of which several may be on their way at once.
    ///
    /// # Errors
    /// Whatever setting it up gives.
    fn write_queue(&self) -> io::Result<Box<dyn WriteQueue>>;

    /// Finds out on `file`, from its first byte on, which way of writing durably is the fastest here,
    /// and uses it from then on. The first `bytes` bytes of the file end as zeros.
    ///
    /// # Errors
    /// The first failed write or sync.
    fn self_test(&self, file: &dyn DiskFile, bytes: u64) -> io::Result<()>;

    /// Milliseconds since 1970, by a clock that may jump.
    fn now_ms(&self) -> u64;

    /// Milliseconds since some moment of this process, by a clock that never jumps.
    fn elapsed_ms(&self) -> u64 {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        u64::try_from(START.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// A fresh random identity.
    ///
    /// # Errors
    /// Whatever the source of entropy gives.
    fn random_id(&self) -> io::Result<u128>;

    /// The directory, for people.
    fn describe(&self) -> String;

    /// The name of the driver in use (`io_uring`, `blocking`, `sim`), for people.
    fn backend_name(&self) -> &'static str;

    /// Why it is not the first choice; empty when it is.
    fn backend_reason(&self) -> &str {
        ""
    }
}

/// One open file.
#[expect(clippy::len_without_is_empty, reason = "a file is not a collection")]
pub trait DiskFile: fmt::Debug + Send + Sync {
    /// The implementation, for its own queue.
    fn as_any(&self) -> &dyn Any;

    /// Its length in bytes.
    ///
    /// # Errors
    /// Whatever asking gives.
    fn len(&self) -> io::Result<u64>;

    /// Reads through the page cache; fewer bytes than asked for only at the end of the file.
    ///
    /// # Errors
    /// Whatever reading gives.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Reads what the medium holds, past the page cache where the file system can; `offset` and the
    /// length of `bytes` are whole blocks. Fewer bytes than asked for only at the end of the file.
    ///
    /// # Errors
    /// Whatever reading gives.
    fn read_direct_at(&self, bytes: &mut Aligned, offset: u64) -> io::Result<usize>;

    /// Whether [`DiskFile::read_direct_at`] surely reads the medium. Where it does not, bytes that a failed
    /// write-back left in the page cache can be taken for durable ones.
    fn reads_medium(&self) -> bool {
        true
    }

    /// Writes whole blocks and returns when they are durable.
    ///
    /// # Errors
    /// Final: nothing is known about the bytes, and the file must not be written again.
    fn write_durable_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Writes whole blocks, durable only after [`DiskFile::sync`]. `bytes` is aligned memory.
    ///
    /// # Errors
    /// As [`DiskFile::write_durable_at`].
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes everything written so far durable.
    ///
    /// # Errors
    /// Final: must not be retried.
    fn sync(&self) -> io::Result<()>;

    /// Maps the whole file for reading.
    ///
    /// # Errors
    /// Whatever mapping gives.
    fn map(&self) -> io::Result<Mapping>;

    /// Marks the file as read by this process, until it is closed.
    ///
    /// # Errors
    /// Whatever locking gives; `WouldBlock` when it is being recycled.
    fn lock_shared(&self) -> io::Result<()>;

    /// Whether nobody else has marked the file as read, and it has no other name; it then stays unmarked
    /// until unlocked.
    ///
    /// # Errors
    /// Whatever locking gives.
    fn try_lock_exclusive(&self) -> io::Result<bool>;

    /// Gives up a lock of this handle.
    ///
    /// # Errors
    /// Whatever unlocking gives.
    fn unlock(&self) -> io::Result<()>;
}

/// Durable writes on their way. Used by one thread; its [`Waker`] by any.
pub trait WriteQueue: Send {
    /// Starts a write. It may complete at any time, in any order.
    ///
    /// # Errors
    /// When it could not even be started; nothing was written, and no completion comes.
    fn submit(&mut self, write: Write) -> io::Result<()>;

    /// Whether [`WriteQueue::submit`] may wait for the disk. Whoever is to hear of an earlier write is
    /// then told before it is called, and otherwise after it, for the disk is kept busy meanwhile.
    fn submit_waits(&self) -> bool {
        true
    }

    /// Waits until a write completed, the waker was used, or the time is over, and appends what
    /// completed to `completions`.
    ///
    /// # Errors
    /// When the queue itself failed: the fate of every write on its way is unknown.
    fn wait(
        &mut self,
        completions: &mut Vec<Completion>,
        timeout: Option<Duration>,
    ) -> io::Result<()>;

    /// Ends a [`WriteQueue::wait`] from another thread.
    fn waker(&self) -> Arc<dyn Waker>;

    /// How many writes may usefully be on their way at once.
    fn depth(&self) -> usize;
}

/// Ends a wait from another thread.
pub trait Waker: Send + Sync {
    /// Makes the wait that is going on, or else the next one, return.
    fn wake(&self);
}
