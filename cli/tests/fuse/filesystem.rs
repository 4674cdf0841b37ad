//! The file system that the kernel talks to.
//!
//! Owns the translation between FUSE requests and a [`Store`], with the [`Faults`] in front of every
//! request. Mounting is in `mount`.
//!
//! What reaches it, as seen on Linux 6.18, with the write-back cache off:
//!  - every write, at once: plain ones, those with `O_DIRECT`, and those through the page cache;
//!  - `fsync` and `fdatasync` as FSYNC, the one of a directory as FSYNCDIR;
//!  - `RWF_DSYNC` as `O_DSYNC` in the flags of the WRITE. Unless the file was opened with
//!    `FOPEN_DIRECT_IO`, the kernel then sends an FSYNC before the call returns, so that here the FSYNC
//!    counts and the flag does not. With `FOPEN_DIRECT_IO` no FSYNC follows, and the flag counts. Older
//!    kernels may leave the FSYNC out in both cases: `Mounting::dsync_counts` is found out at run time;
//!  - a short answer to a WRITE reaches the program only with `FOPEN_DIRECT_IO`: else the kernel goes on
//!    with the rest by itself;
//!  - reads through the page cache and by mappings in pieces that the kernel chooses, some ahead of use.
//!
//! Locks (`flock`) are the kernel's and never arrive.
//!
//! Bounds: as many requests at once as `mount` gives threads; a held request keeps one of them.

use std::ffi::OsStr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, OpenAccMode, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use rustix::fs::OFlags;

use crate::common::Random;
use crate::faults::{Effect, Faults, Operation};
use crate::store::{Ino, Lost, Store};

/// `O_DSYNC`. The one of rustix has the value of `O_SYNC`, which is two bits.
const O_DSYNC: i32 = 0o10_000;
/// Nothing is cached, so that every question about a name arrives.
const TTL: Duration = Duration::ZERO;

/// How files are opened towards the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// As a file system with a page cache does it.
    Cached,
    /// `FOPEN_DIRECT_IO` for files opened with `O_DIRECT`.
    Direct,
}

/// The medium and its faults, shared between the file system and the test.
#[derive(Debug)]
pub(crate) struct Device {
    state: Mutex<State>,
    changed: Condvar,
    way: Way,
    /// Whether `O_DSYNC` in the flags of a write makes it durable.
    dsync_counts: bool,
}

#[derive(Debug)]
struct State {
    store: Store,
    faults: Faults,
    /// What was there when the power was cut.
    at_cut: Option<Store>,
}

impl Device {
    pub(crate) fn new(store: Store, way: Way, dsync_counts: bool) -> Arc<Device> {
        let state = State { store, faults: Faults::default(), at_cut: None };
        Arc::new(Device { state: Mutex::new(state), changed: Condvar::new(), way, dsync_counts })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the faults, or changes them; whoever is held looks again.
    pub(crate) fn faults<T>(&self, change: impl FnOnce(&mut Faults) -> T) -> T {
        let answer = change(&mut self.lock().faults);
        self.changed.notify_all();
        answer
    }

    /// The power is gone: from now on everything fails, and nothing gets durable.
    pub(crate) fn cut(&self) {
        self.lock().cut();
        self.changed.notify_all();
    }

    /// What the power cut left, or one that came now.
    pub(crate) fn left(&self, lost: Lost, random: &mut Random) -> Store {
        let state = self.lock();
        state.at_cut.as_ref().unwrap_or(&state.store).after_power_cut(lost, random)
    }

    /// Lets a request wait, fail, or go on: with the effect that it shall have.
    fn enter(
        &self,
        operation: Operation,
        name: &str,
    ) -> Result<(MutexGuard<'_, State>, Option<Effect>), Errno> {
        let mut state = self.lock();
        if let Some(delay) = state.faults.delay {
            drop(state);
            std::thread::sleep(delay);
            state = self.lock();
        }
        while state.faults.is_held(operation) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let effect = state.faults.decide(operation, name)?;
        Ok((state, effect))
    }

    /// Like [`Device::enter`], for whatever can only fail.
    fn pass(&self, operation: Operation, name: &str) -> Result<MutexGuard<'_, State>, Errno> {
        match self.enter(operation, name)? {
            (_, Some(Effect::Fail(errno))) => Err(errno),
            (mut state, Some(Effect::PowerOff)) => Err(state.cut()),
            (state, _) => Ok(state),
        }
    }

    fn name_of(&self, ino: Ino) -> String {
        self.lock().store.name_of(ino).to_owned()
    }

    fn write(&self, ino: Ino, offset: u64, bytes: &[u8], dsync: bool) -> Result<usize, Errno> {
        let (mut state, effect) = self.enter(Operation::Write, &self.name_of(ino))?;
        let end = offset + to_u64(bytes.len());
        state.has_room(end.saturating_sub(state.store.len(ino)))?;
        let half = (bytes.len() / 2).next_multiple_of(512).min(bytes.len());
        let (written, answer) = match effect {
            None => (bytes.len(), Ok(bytes.len())),
            Some(Effect::Short) => (half, Ok(half)),
            Some(Effect::Fail(errno)) => (half, Err(errno)),
            Some(Effect::PowerOff) => (half, Err(Errno::EIO)),
        };
        state.store.write(ino, offset, &bytes[..written]).ok_or(Errno::EISDIR)?;
        if effect == Some(Effect::PowerOff) {
            return Err(state.cut());
        }
        if dsync && answer.is_ok() && (self.dsync_counts || self.way == Way::Direct) {
            state.store.sync_range(ino, offset, written);
        }
        answer
    }

    fn sync(&self, ino: Ino, operation: Operation) -> Result<(), Errno> {
        let (mut state, effect) = self.enter(operation, &self.name_of(ino))?;
        match effect {
            Some(Effect::Fail(errno)) => {
                state.store.forget_unsynced(ino);
                Err(errno)
            }
            Some(Effect::PowerOff) => Err(state.cut()),
            Some(Effect::Short) | None => state.store.sync(ino).ok_or(Errno::ENOENT),
        }
    }

    fn allocate(&self, ino: Ino, bytes: u64) -> Result<(), Errno> {
        let mut state = self.pass(Operation::Allocate, &self.name_of(ino))?;
        let more = bytes.saturating_sub(state.store.len(ino));
        state.has_room(more)?;
        if more > 0 { state.store.resize(ino, bytes).ok_or(Errno::EISDIR) } else { Ok(()) }
    }

    fn make(&self, operation: Operation, directory: Ino, name: &OsStr) -> Result<FileAttr, Errno> {
        let name = utf8(name)?;
        let mut state = self.pass(operation, name)?;
        // A name needs room too.
        state.has_room(1)?;
        let is_directory = operation == Operation::MakeDirectory;
        let ino = state.store.make(directory, name, is_directory).ok_or(Errno::ENOENT)?;
        Ok(state.attributes(ino))
    }

    fn open_flags(&self, flags: i32) -> FopenFlags {
        let is_direct =
            i32::try_from(OFlags::DIRECT.bits()).is_ok_and(|direct| flags & direct != 0);
        if self.way == Way::Direct && is_direct {
            FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_PARALLEL_DIRECT_WRITES
        } else {
            FopenFlags::empty()
        }
    }
}

impl State {
    /// See [`Device::cut`]; the answer to whatever comes then.
    fn cut(&mut self) -> Errno {
        self.faults.power_is_off = true;
        if self.at_cut.is_none() {
            self.at_cut = Some(self.store.clone());
        }
        Errno::EIO
    }

    /// Whether so many more bytes fit. What a file has already can be written again.
    fn has_room(&self, more: u64) -> Result<(), Errno> {
        match self.faults.bytes_max {
            Some(bytes_max) if more > 0 && self.store.bytes_used() + more > bytes_max => {
                Err(Errno::ENOSPC)
            }
            _ => Ok(()),
        }
    }

    fn attributes(&self, ino: Ino) -> FileAttr {
        let bytes = self.store.len(ino);
        let is_directory = self.store.is_directory(ino);
        let kind = if is_directory { FileType::Directory } else { FileType::RegularFile };
        let perm = if is_directory { 0o750 } else { 0o640 };
        FileAttr {
            ino: INodeNo(ino),
            size: bytes,
            blocks: bytes.div_ceil(512),
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }
}

fn utf8(name: &OsStr) -> Result<&str, Errno> {
    name.to_str().ok_or(Errno::EINVAL)
}

fn to_u64(number: usize) -> u64 {
    u64::try_from(number).expect("64-bit targets")
}

/// The kernel's side of a [`Device`].
#[derive(Debug)]
pub(crate) struct Served(pub(crate) Arc<Device>);

impl Served {
    fn list(&self, ino: Ino) -> Result<Vec<(Ino, FileType, String)>, Errno> {
        let state = self.0.pass(Operation::List, "")?;
        let mut entries: Vec<_> =
            [".", ".."].map(|name| (ino, FileType::Directory, name.to_owned())).into();
        entries.extend(state.store.list(ino).into_iter().map(|(name, ino)| {
            let is_directory = state.store.is_directory(ino);
            let kind = if is_directory { FileType::Directory } else { FileType::RegularFile };
            (ino, kind, name)
        }));
        Ok(entries)
    }
}

fn answer(reply: ReplyEmpty, result: Result<(), Errno>) {
    match result {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno),
    }
}

impl Filesystem for Served {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = utf8(name).and_then(|name| {
            let state = self.0.pass(Operation::Lookup, name)?;
            let ino = state.store.find(parent.0, name).ok_or(Errno::ENOENT)?;
            Ok(state.attributes(ino))
        });
        match found {
            Ok(attributes) => reply.entry(&TTL, &attributes, Generation(0)),
            Err(errno) => reply.error(errno),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&TTL, &self.0.lock().attributes(ino.0));
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let changed = self.0.pass(Operation::Resize, &self.0.name_of(ino.0)).map(|mut state| {
            if let Some(bytes) = size {
                state.store.resize(ino.0, bytes);
            }
            state.attributes(ino.0)
        });
        match changed {
            Ok(attributes) => reply.attr(&TTL, &attributes),
            Err(errno) => reply.error(errno),
        }
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        match self.0.make(Operation::MakeDirectory, parent.0, name) {
            Ok(attributes) => reply.entry(&TTL, &attributes, Generation(0)),
            Err(errno) => reply.error(errno),
        }
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        _: u32,
        _: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        match self.0.make(Operation::Create, parent.0, name) {
            Ok(attributes) => {
                let flags = self.0.open_flags(flags);
                reply.created(&TTL, &attributes, Generation(0), FileHandle(0), flags);
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let unlinked = utf8(name).and_then(|name| {
            let mut state = self.0.pass(Operation::Unlink, name)?;
            state.store.unlink(parent.0, name).ok_or(Errno::ENOENT)
        });
        answer(reply, unlinked);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let renamed = utf8(name).and_then(|from| {
            if parent != new_parent || !flags.is_empty() {
                return Err(Errno::EINVAL);
            }
            let mut state = self.0.pass(Operation::Rename, from)?;
            state.store.rename(parent.0, from, utf8(new_name)?).ok_or(Errno::ENOENT)
        });
        answer(reply, renamed);
    }

    fn open(&self, _: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let opened = self.0.pass(Operation::Open, &self.0.name_of(ino.0)).and_then(|state| {
            let writes = flags.acc_mode() != OpenAccMode::O_RDONLY;
            if state.faults.read_only && writes { Err(Errno::EROFS) } else { Ok(()) }
        });
        match opened {
            Ok(()) => reply.opened(FileHandle(0), self.0.open_flags(flags.0)),
            Err(errno) => reply.error(errno),
        }
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.0.pass(Operation::Read, &self.0.name_of(ino.0)) {
            Ok(state) => match state.store.read(ino.0, offset, size) {
                Some(bytes) => reply.data(bytes),
                None => reply.error(Errno::EISDIR),
            },
            Err(errno) => reply.error(errno),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        flags: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let written = self.0.write(ino.0, offset, data, flags.0 & O_DSYNC != 0);
        match written {
            Ok(bytes) => reply.written(u32::try_from(bytes).expect("a request is below 4 GiB")),
            Err(errno) => reply.error(errno),
        }
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        answer(reply, self.0.sync(ino.0, Operation::Sync));
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        answer(reply, self.0.sync(ino.0, Operation::SyncDirectory));
    }

    fn fallocate(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        if mode != 0 {
            return reply.error(Errno::EOPNOTSUPP);
        }
        answer(reply, self.0.allocate(ino.0, offset + length));
    }

    fn readdir(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let entries = match self.list(ino.0) {
            Ok(entries) => entries,
            Err(errno) => return reply.error(errno),
        };
        let skipped = usize::try_from(offset).expect("64-bit targets");
        for (next, (ino, kind, name)) in (offset + 1..).zip(entries.into_iter().skip(skipped)) {
            if reply.add(INodeNo(ino), next, kind, name) {
                break;
            }
        }
        reply.ok();
    }
}
