//! The real disk: one directory, by system calls.
//!
//! Owns file access with O_DIRECT where the file system takes it, the choice between the io_uring and
//! the blocking queue, and the self-test that picks the faster way to write durably. Does not schedule:
//! queues are in `uring` and `blocking`.
//!
//! Invariants
//!  O1. A file is synced only through the descriptor that wrote it, because a fresh descriptor does
//!      not see an older write's error.
//!  O2. An error of a write or sync reaches the caller; a short write is continued, a write of 0 bytes
//!      is an error.
//!  O3. No symbolic link is followed and nothing but a regular file is opened.  test `links_are_refused`
//!
//! Units: bytes; times in the self-test are wall-clock, by a monotonic clock.

use std::any::Any;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use rustix::fs::{FallocateFlags, OFlags};
use rustix::io::{Errno, ReadWriteFlags};

use super::blocking::BlockingQueue;
use super::{Access, Aligned, Disk, DiskFile, Entry, EntryKind, Mapping, WriteQueue};

const LOCK_NAME: &str = "lock";
/// Rounds of the self-test: enough for a median that one slow flush does not decide.
const SELF_TEST_ROUNDS: usize = 5;

/// Which queue to use for durable writes that run side by side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BackendChoice {
    /// io_uring where the kernel gives it, else the blocking driver.
    #[default]
    Auto,
    /// io_uring, or an error at open.
    Uring,
    /// The blocking driver.
    Blocking,
}

/// The queue in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// io_uring.
    Uring,
    /// Blocking system calls.
    Blocking,
}

/// How bytes become durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DurableWrite {
    /// One `pwritev2` with `RWF_DSYNC`.
    Dsync,
    /// `pwrite`, then `fdatasync`.
    WriteThenSync,
}

/// What was found out about the machine when the disk was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The queue in use.
    pub backend: Backend,
    /// Why it is not io_uring; empty when it is, or when blocking was asked for.
    pub backend_reason: String,
}

/// One directory of this machine.
#[derive(Debug)]
pub struct OsDisk {
    path: PathBuf,
    directory: File,
    probe: Probe,
    /// Shared with every open file: true for `DurableWrite::WriteThenSync`.
    write_then_sync: Arc<AtomicBool>,
}

impl OsDisk {
    /// Opens a directory; with `create`, makes it (and durably so) when it is missing.
    ///
    /// # Errors
    /// Whatever opening gives; `Unsupported` when io_uring was demanded and is refused.
    pub fn open(path: &Path, create: bool, choice: BackendChoice) -> io::Result<OsDisk> {
        if create && !path.exists() {
            create_directory(path)?;
        }
        let path = path.canonicalize()?;
        let directory = OpenOptions::new()
            .read(true)
            .custom_flags(flags(OFlags::DIRECTORY | OFlags::CLOEXEC))
            .open(&path)?;
        let (backend, backend_reason) = choose_backend(choice)?;
        let probe = Probe { backend, backend_reason };
        let write_then_sync = Arc::new(AtomicBool::new(false));
        Ok(OsDisk { path, directory, probe, write_then_sync })
    }

    /// What was found out about the machine.
    #[must_use]
    pub fn probe(&self) -> &Probe {
        &self.probe
    }

    /// The way of writing durably that is in use.
    #[must_use]
    pub fn durable_write(&self) -> DurableWrite {
        if self.write_then_sync.load(Ordering::Relaxed) {
            DurableWrite::WriteThenSync
        } else {
            DurableWrite::Dsync
        }
    }

    /// Chooses the way of writing durably, instead of the self-test.
    pub fn set_durable_write(&self, durable_write: DurableWrite) {
        let write_then_sync = durable_write == DurableWrite::WriteThenSync;
        self.write_then_sync.store(write_then_sync, Ordering::Relaxed);
    }

    fn open_file(&self, name: &str, write: bool, create_new: bool) -> io::Result<OsFile> {
        let path = self.path.join(name);
        let base = OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let mut options = OpenOptions::new();
        options.read(true).write(write).create_new(create_new).mode(0o640);
        let cached = options.custom_flags(flags(base)).open(&path)?;
        if !cached.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        options.create_new(false);
        let direct = match options.custom_flags(flags(base | OFlags::DIRECT)).open(&path) {
            Ok(file) => Some(file),
            // The file system does not take O_DIRECT.
            Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => None,
            Err(error) => return Err(error),
        };
        Ok(OsFile { cached, direct, write_then_sync: Arc::clone(&self.write_then_sync) })
    }
}

fn flags(flags: OFlags) -> i32 {
    i32::try_from(flags.bits()).expect("open flags fit in 31 bits")
}

/// Makes a directory and syncs its parent, so that a power cut does not take the whole log away.
fn create_directory(path: &Path) -> io::Result<()> {
    let mut missing = vec![path];
    while let Some(parent) = missing[missing.len() - 1].parent() {
        if parent.as_os_str().is_empty() || parent.is_dir() {
            break;
        }
        missing.push(parent);
    }
    for path in missing.iter().rev() {
        match std::fs::create_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
            other => other?,
        }
        let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
    }
    Ok(())
}

#[cfg(all(target_os = "linux", feature = "uring"))]
fn choose_backend(choice: BackendChoice) -> io::Result<(Backend, String)> {
    if choice == BackendChoice::Blocking {
        return Ok((Backend::Blocking, String::new()));
    }
    match super::uring::UringQueue::probe() {
        Ok(()) => Ok((Backend::Uring, String::new())),
        Err(error) if choice == BackendChoice::Uring => {
            Err(io::Error::new(io::ErrorKind::Unsupported, format!("io_uring: {error}")))
        }
        Err(error) => Ok((Backend::Blocking, format!("io_uring is not to be had: {error}"))),
    }
}

#[cfg(not(all(target_os = "linux", feature = "uring")))]
fn choose_backend(choice: BackendChoice) -> io::Result<(Backend, String)> {
    let reason = "this build has no io_uring";
    if choice == BackendChoice::Uring {
        return Err(io::Error::new(io::ErrorKind::Unsupported, reason));
    }
    let reason = if choice == BackendChoice::Auto { reason } else { "" };
    Ok((Backend::Blocking, reason.to_owned()))
}

impl Disk for OsDisk {
    fn lock(&self) -> io::Result<Box<dyn Any + Send + Sync>> {
        let file = open_lock_file(&self.path, true)?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(file)),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn is_locked(&self) -> io::Result<bool> {
        let file = match open_lock_file(&self.path, false) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            other => other?,
        };
        // Shared, so that two readers asking at once do not take each other for a writer.
        match file.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn list(&self) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let kind = match entry.metadata() {
                Ok(metadata) if metadata.is_file() => EntryKind::File(metadata.len()),
                Ok(_) => EntryKind::Other,
                // Gone since it was listed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            if name != LOCK_NAME {
                entries.push(Entry { name, kind });
            }
        }
        Ok(entries)
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.open_file(name, true, true)?;
        let sized = match rustix::fs::fallocate(&file.cached, FallocateFlags::empty(), 0, bytes) {
            // The file system cannot preallocate.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => file.cached.set_len(bytes),
            other => other.map_err(io::Error::from),
        };
        match sized {
            Ok(()) => Ok(Arc::new(file)),
            Err(error) => {
                // Best effort: the name is a temporary one, and an open ignores it.
                let _ = self.remove(name);
                Err(error)
            }
        }
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(self.open_file(name, access == Access::Write, false)?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.directory, from, &self.directory, to)?)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.directory, name, rustix::fs::AtFlags::empty())?)
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.directory.sync_all()
    }

    fn write_queue(&self) -> io::Result<Box<dyn WriteQueue>> {
        match self.probe.backend {
            #[cfg(all(target_os = "linux", feature = "uring"))]
            Backend::Uring => Ok(Box::new(super::uring::UringQueue::new()?)),
            #[cfg(not(all(target_os = "linux", feature = "uring")))]
            Backend::Uring => Err(io::ErrorKind::Unsupported.into()),
            Backend::Blocking => Ok(Box::new(BlockingQueue::new())),
        }
    }

    fn self_test(&self, file: &dyn DiskFile, bytes: u64) -> io::Result<()> {
        let zeros = Aligned::zeroed(super::ALIGNMENT);
        let mut elapsed = [[0; SELF_TEST_ROUNDS]; 2];
        for round in 0..SELF_TEST_ROUNDS {
            for (way, elapsed) in elapsed.iter_mut().enumerate() {
                self.write_then_sync.store(way == 1, Ordering::Relaxed);
                let block = u64::try_from(round * 2 + way).expect("a small number");
                let offset = block * u64::try_from(zeros.len()).expect("one block") % bytes;
                let start = Instant::now();
                file.write_durable_at(&zeros, offset)?;
                elapsed[round] = start.elapsed().as_nanos();
            }
        }
        for elapsed in &mut elapsed {
            elapsed.sort_unstable();
        }
        let [dsync, then_sync] = elapsed.map(|e| e[SELF_TEST_ROUNDS / 2]);
        // One call is simpler than two: the other way must be clearly faster.
        self.write_then_sync.store(then_sync * 10 < dsync * 9, Ordering::Relaxed);
        Ok(())
    }

    fn now_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    fn random_id(&self) -> io::Result<u128> {
        let mut bytes = [0; 16];
        let mut filled = 0;
        while filled < bytes.len() {
            let flags = rustix::rand::GetRandomFlags::empty();
            filled += rustix::rand::getrandom(&mut bytes[filled..], flags)?;
        }
        Ok(u128::from_le_bytes(bytes))
    }

    fn describe(&self) -> String {
        self.path.display().to_string()
    }

    fn backend_name(&self) -> &'static str {
        match self.probe.backend {
            Backend::Uring => "io_uring",
            Backend::Blocking => "blocking",
        }
    }

    fn backend_reason(&self) -> &str {
        &self.probe.backend_reason
    }
}

fn open_lock_file(directory: &Path, create: bool) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(create)
        .create(create)
        .truncate(false)
        .mode(0o640)
        .custom_flags(flags(OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK))
        .open(directory.join(LOCK_NAME))?;
    let kind = file.metadata()?.file_type();
    if kind.is_file() && !kind.is_fifo() {
        Ok(file)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "the lock is not a regular file"))
    }
}

/// An open file of an [`OsDisk`].
#[derive(Debug)]
pub(super) struct OsFile {
    cached: File,
    direct: Option<File>,
    write_then_sync: Arc<AtomicBool>,
}

impl OsFile {
    /// The descriptor that writes and syncs.
    pub(super) fn writer(&self) -> &File {
        self.direct.as_ref().unwrap_or(&self.cached)
    }

    pub(super) fn durable_write(&self) -> DurableWrite {
        if self.write_then_sync.load(Ordering::Relaxed) {
            DurableWrite::WriteThenSync
        } else {
            DurableWrite::Dsync
        }
    }

    fn write_all(&self, mut bytes: &[u8], mut offset: u64, dsync: bool) -> io::Result<()> {
        let flags = if dsync { ReadWriteFlags::DSYNC } else { ReadWriteFlags::empty() };
        while !bytes.is_empty() {
            let slices = [io::IoSlice::new(bytes)];
            match rustix::io::pwritev2(self.writer(), &slices, offset, flags) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    bytes = &bytes[written..];
                    offset += u64::try_from(written).expect("a write is below 2 GiB");
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

fn read_all(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < bytes.len() {
        let at = offset + u64::try_from(filled).expect("a buffer fits in 64 bits");
        match file.read_at(&mut bytes[filled..], at) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

impl DiskFile for OsFile {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.cached.metadata()?.len())
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        read_all(&self.cached, bytes, offset)
    }

    fn reads_medium(&self) -> bool {
        self.direct.is_some()
    }

    fn read_direct_at(&self, bytes: &mut Aligned, offset: u64) -> io::Result<usize> {
        match &self.direct {
            Some(direct) => read_all(direct, bytes, offset),
            None => {
                // The next best: what the cache holds unchanged is dropped and read again.
                let advice = rustix::fs::Advice::DontNeed;
                rustix::fs::fadvise(&self.cached, offset, None, advice)?;
                read_all(&self.cached, bytes, offset)
            }
        }
    }

    fn write_durable_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        match self.durable_write() {
            DurableWrite::Dsync => self.write_all(bytes, offset, true),
            DurableWrite::WriteThenSync => {
                self.write_all(bytes, offset, false)?;
                self.sync()
            }
        }
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all(bytes, offset, false)
    }

    fn sync(&self) -> io::Result<()> {
        self.writer().sync_data()
    }

    fn map(&self) -> io::Result<Mapping> {
        Mapping::of(&self.cached)
    }

    fn lock_shared(&self) -> io::Result<()> {
        self.cached.try_lock_shared().map_err(io::Error::from)
    }

    fn try_lock_exclusive(&self) -> io::Result<bool> {
        if self.cached.metadata()?.nlink() > 1 {
            // Somebody keeps it under another name, as a backup perhaps.
            return Ok(false);
        }
        match self.cached.try_lock() {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn unlock(&self) -> io::Result<()> {
        self.cached.unlock()
    }
}

#[cfg(test)]
#[path = "os_tests.rs"]
mod tests;
