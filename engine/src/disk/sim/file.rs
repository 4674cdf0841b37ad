//! An open file of the simulated disk.
//!
//! Owns the checks that a real file makes (alignment, access, length) and the locks on files. What
//! writes and syncs do to the bytes is `image`'s.
//!
//! Bounds: a file has at most `FILE_BYTES_MAX` bytes.
//! Failure: a write that fails may be there in part; a write that was refused is not there at all.

use std::any::Any;
use std::fmt;
use std::io;
use std::ops::Range;

use super::image::{Image, SECTOR_BYTES, Standing, View};
use super::outcome::Outcome;
use super::state::{OperationKind, READ_ONLY, Shared, State, Step};
use crate::disk::{Access, Aligned, DiskFile, Mapping};
use crate::sync::{Arc, Mutex, MutexGuard, PoisonError};

const FILE_BYTES_MAX: u64 = 4 << 30;

/// A file, whatever its name.
pub(super) struct Inode {
    image: Mutex<Image>,
    /// Who marked it as read, or keeps others from doing so.
    locks: Mutex<Vec<FileLock>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct FileLock {
    handle: u64,
    exclusive: bool,
}

impl Inode {
    /// A new file of zeros.
    pub(super) fn zeros(bytes: u64) -> io::Result<Arc<Inode>> {
        if bytes > FILE_BYTES_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let len = usize::try_from(bytes).expect("64-bit targets");
        Ok(Inode::new(Image::zeros(len)))
    }

    /// A file that is durable as it is.
    pub(super) fn durable(bytes: Vec<u8>) -> Arc<Inode> {
        Inode::new(Image::durable(bytes))
    }

    pub(super) fn new(image: Image) -> Arc<Inode> {
        Arc::new(Inode { image: Mutex::new(image), locks: Mutex::default() })
    }

    pub(super) fn image(&self) -> MutexGuard<'_, Image> {
        self.image.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn locks(&self) -> MutexGuard<'_, Vec<FileLock>> {
        self.locks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether `lock` was had. As with flock(2), the handle's old lock is lost even if it was not.
    fn lock(&self, lock: FileLock) -> bool {
        let mut locks = self.locks();
        locks.retain(|held| held.handle != lock.handle);
        let free = locks.iter().all(|held| !held.exclusive && !lock.exclusive);
        if free {
            locks.push(lock);
        }
        free
    }
}

/// See the module.
pub(super) struct SimFile {
    shared: Arc<Shared>,
    generation: u64,
    inode: Arc<Inode>,
    access: Access,
    /// Tells the handles of one file apart.
    handle: u64,
}

impl SimFile {
    pub(super) fn new(
        shared: &Arc<Shared>,
        generation: u64,
        inode: Arc<Inode>,
        access: Access,
        handle: u64,
    ) -> SimFile {
        SimFile { shared: Arc::clone(shared), generation, inode, access, handle }
    }

    /// The file, if it is one of this disk since its last start.
    pub(super) fn inode_on(&self, shared: &Arc<Shared>, generation: u64) -> Option<&Arc<Inode>> {
        let ours = Arc::ptr_eq(&self.shared, shared) && self.generation == generation;
        ours.then_some(&self.inode)
    }

    /// The range that a write covers, if a real file would take the write.
    pub(super) fn writable_range(&self, bytes: &[u8], offset: u64) -> io::Result<Range<usize>> {
        if self.access == Access::Read {
            return Err(refused(io::ErrorKind::PermissionDenied, "opened for reading only"));
        }
        if !bytes.as_ptr().addr().is_multiple_of(SECTOR_BYTES) {
            return Err(refused(io::ErrorKind::InvalidInput, "the memory is not aligned"));
        }
        let range = aligned_range(bytes.len(), offset)?;
        if u64::try_from(range.end).is_ok_and(|end| end <= FILE_BYTES_MAX) {
            Ok(range)
        } else {
            Err(io::ErrorKind::FileTooLarge.into())
        }
    }

    fn begin(&self, kind: OperationKind) -> io::Result<(MutexGuard<'_, State>, Step)> {
        self.shared.begin(self.generation, kind)
    }

    fn write(&self, bytes: &[u8], offset: u64, durable: bool) -> io::Result<()> {
        let range = self.writable_range(bytes, offset)?;
        let (mut state, step) = self.begin(OperationKind::Write)?;
        state.trace.number(offset);
        state.trace.bytes(bytes);
        let growth = range.end.saturating_sub(self.inode.image().len());
        let step = state.limit(step, u64::try_from(growth).expect("a length fits in 64 bits"));
        let write = state.number();
        let standing = match step {
            Step::Failed(READ_ONLY) => return step.result(),
            Step::Failed(_) => Standing::Doubtful,
            Step::Done | Step::Cut | Step::Short(_) if durable => Standing::InFlight,
            Step::Done | Step::Cut | Step::Short(_) => Standing::Dirty,
            Step::Lost | Step::Misdirected(_) | Step::Hung => Standing::CacheOnly,
        };
        let mut image = self.inode.image();
        image.write(write, bytes, range.start, standing);
        match &step {
            Step::Done if durable => image.land(write, range.end),
            Step::Short(there) => shorten(&mut image, write, range, *there, durable),
            Step::Misdirected(target) => {
                drop(image);
                target.inode.image().put_on_medium(bytes, target.offset);
            }
            _ => {}
        }
        step.result()
    }
}

/// Leaves of a write only its first `there` bytes.
pub(super) fn shorten(
    image: &mut Image,
    write: u64,
    range: Range<usize>,
    there: usize,
    durable: bool,
) {
    let end = range.start + there.min(range.len()) / SECTOR_BYTES * SECTOR_BYTES;
    image.forget(write, end..range.end);
    if durable && end > range.start {
        image.land(write, end);
    }
}

/// The bytes that a direct transfer covers.
fn aligned_range(len: usize, offset: u64) -> io::Result<Range<usize>> {
    let start = usize::try_from(offset).unwrap_or(usize::MAX);
    if !start.is_multiple_of(SECTOR_BYTES) || !len.is_multiple_of(SECTOR_BYTES) {
        return Err(refused(io::ErrorKind::InvalidInput, "not a range of whole blocks"));
    }
    Ok(start..start.saturating_add(len))
}

fn check_medium(image: &Image, range: Range<usize>) -> io::Result<()> {
    if image.is_readable(range) { Ok(()) } else { Err(io::Error::other("an unreadable sector")) }
}

fn refused(kind: io::ErrorKind, reason: &'static str) -> io::Error {
    io::Error::new(kind, reason)
}

impl DiskFile for SimFile {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn len(&self) -> io::Result<u64> {
        self.shared.state().check(self.generation)?;
        Ok(u64::try_from(self.inode.image().len()).expect("a length fits in 64 bits"))
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let (_state, step) = self.begin(OperationKind::Read)?;
        step.result()?;
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        let image = self.inode.image();
        check_medium(&image, offset..offset.saturating_add(bytes.len()))?;
        Ok(image.read(bytes, offset, View::Cache))
    }

    fn read_direct_at(&self, bytes: &mut Aligned, offset: u64) -> io::Result<usize> {
        let range = aligned_range(bytes.len(), offset)?;
        let (mut state, step) = self.begin(OperationKind::Read)?;
        step.result()?;
        let mut image = self.inode.image();
        check_medium(&image, range.clone())?;
        image.look_at_medium(range.clone(), &mut Outcome::seeded(state.random.next()));
        let view = if state.direct_reads { View::Medium } else { View::Cache };
        Ok(image.read(bytes, range.start, view))
    }

    fn reads_medium(&self) -> bool {
        self.shared.state().direct_reads
    }

    fn write_durable_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write(bytes, offset, true)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write(bytes, offset, false)
    }

    fn sync(&self) -> io::Result<()> {
        let (_state, step) = self.begin(OperationKind::Sync)?;
        let mut image = self.inode.image();
        match step {
            Step::Done => image.sync(),
            Step::Failed(_) => image.fail_sync(),
            _ => {}
        }
        step.result()
    }

    fn map(&self) -> io::Result<Mapping> {
        let (_state, step) = self.begin(OperationKind::Read)?;
        step.result()?;
        let image = self.inode.image();
        Ok(Mapping::copied(image.content(), image.unreadable()))
    }

    fn lock_shared(&self) -> io::Result<()> {
        self.shared.state().check(self.generation)?;
        let had = self.inode.lock(FileLock { handle: self.handle, exclusive: false });
        if had { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
    }

    fn try_lock_exclusive(&self) -> io::Result<bool> {
        self.shared.state().check(self.generation)?;
        Ok(self.inode.lock(FileLock { handle: self.handle, exclusive: true }))
    }

    fn unlock(&self) -> io::Result<()> {
        self.shared.state().check(self.generation)?;
        self.inode.locks().retain(|held| held.handle != self.handle);
        Ok(())
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        self.inode.locks().retain(|held| held.handle != self.handle);
    }
}

impl fmt::Debug for SimFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimFile(handle {}, {:?})", self.handle, self.access)
    }
}
