//! Mounting the file system, and never leaving it behind.
//!
//! Owns the mount, the threads that serve it, and the watchdog. Each test thread moves to a mount
//! namespace of its own: the kernel takes its mounts away with the last process in it, whatever kills the
//! test. A test that takes too long is ended by the watchdog, which first lets every request fail, because
//! a thread that waits for a file system of its own process cannot even be killed. For the same reason a
//! shell beside the test takes the mounts away by force when somebody else killed the test.
//!
//! Bounds: [`CASE_MAX`] for each test; [`SERVERS`] or [`SERVERS_OF_HUNG`] requests at once.
#![allow(unsafe_code, reason = "a namespace for one thread")]

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, Once, OnceLock, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use cairnlog_engine::disk::BackendChoice;
use fuser::{Session, SessionACL};
use rustix::io::ReadWriteFlags;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use rustix::thread::UnshareFlags;

use crate::common::Random;
use crate::faults::Operation;
use crate::filesystem::{Device, Served, Way};
use crate::store::{Lost, Store};

/// For one driver. No test takes a tenth of it on a machine that is not busy.
const CASE_MAX: Duration = Duration::from_secs(120);
/// Enough where every request is answered soon.
const SERVERS: usize = 4;
/// More than the requests that one log has under way, held ones included.
const SERVERS_OF_HUNG: usize = 12;

/// Every device there is, for the watchdog.
static DEVICES: Mutex<Vec<Weak<Device>>> = Mutex::new(Vec::new());
/// What the kernel does with `RWF_DSYNC`; see `filesystem`. An error when there is no FUSE here.
static DSYNC_COUNTS: OnceLock<Result<bool, String>> = OnceLock::new();

/// A mounted file system; unmounted when dropped.
#[derive(Debug)]
pub(crate) struct Mount {
    pub(crate) device: Arc<Device>,
    way: Way,
    directory: tempfile::TempDir,
    serving: Option<JoinHandle<io::Result<()>>>,
}

impl Mount {
    pub(crate) fn new(store: Store, way: Way) -> Mount {
        Mount::with_servers(store, way, SERVERS)
    }

    /// One that goes on answering while requests are held.
    pub(crate) fn that_hangs(way: Way) -> Mount {
        Mount::with_servers(Store::default(), way, SERVERS_OF_HUNG)
    }

    fn with_servers(store: Store, way: Way, servers: usize) -> Mount {
        let dsync_counts = *DSYNC_COUNTS.get().expect("in a case").as_ref().expect("FUSE is here");
        let mounted = Mount::try_new(store, way, dsync_counts, servers);
        mounted.expect("it could be mounted before")
    }

    fn try_new(store: Store, way: Way, dsync_counts: bool, servers: usize) -> io::Result<Mount> {
        let device = Device::new(store, way, dsync_counts);
        let directory = tempfile::tempdir()?;
        let fuse = OpenOptions::new().read(true).write(true).open("/dev/fuse")?;
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", fuse.as_raw_fd());
        let options = CString::new(options).expect("no zero in it");
        let flags = MountFlags::NODEV | MountFlags::NOSUID;
        rustix::mount::mount("cairnlog-tests", directory.path(), "fuse", flags, &*options)?;
        let mut mount = Mount { device, way, directory, serving: None };
        let mut config = fuser::Config::default();
        config.n_threads = Some(servers);
        let served = Served(Arc::clone(&mount.device));
        let session = Session::from_fd(served, fuse.into(), SessionACL::All, config)?;
        mount.serving = Some(session.spawn()?.guard);
        let mut devices = DEVICES.lock().unwrap_or_else(PoisonError::into_inner);
        devices.retain(|device| device.strong_count() > 0);
        devices.push(Arc::downgrade(&mount.device));
        Ok(mount)
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// A log in it, not made yet.
    pub(crate) fn log(&self) -> PathBuf {
        self.path().join("log")
    }

    /// Cuts the power, and starts again with what that left. Whoever used it sees only errors then.
    pub(crate) fn after_power_cut(self, lost: Lost, random: &mut Random) -> Mount {
        self.device.cut();
        let left = self.device.left(lost, random);
        let way = self.way;
        drop(self);
        Mount::new(left, way)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        self.device.cut();
        // Forced: whatever is under way fails. Detached: a program may still have files open.
        let flags = UnmountFlags::FORCE | UnmountFlags::DETACH;
        if let Err(error) = rustix::mount::unmount(self.directory.path(), flags) {
            say(&format!("{}: could not be unmounted: {error}", self.directory.path().display()));
        }
        if let Some(serving) = self.serving.take() {
            // It ends with the mount; how, is of no interest.
            let _ = serving.join();
        }
    }
}

/// Runs a test for each driver, or says why it cannot be run here.
pub(crate) fn under_both_drivers(case: impl Fn(BackendChoice)) {
    for backend in [BackendChoice::Blocking, BackendChoice::Uring] {
        if let Some(_guard) = guarded() {
            case(backend);
        }
    }
}

/// What watches over a test until it is dropped.
struct Guard {
    _ended: Sender<()>,
    shell: Option<Child>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(shell) = &mut self.shell {
            // It only sleeps while the test goes on.
            let _ = shell.kill();
            let _ = shell.wait();
        }
    }
}

/// Waits until this process is dead, and forces its mounts out of this namespace.
const SHELL: &str = r#"
while [ -e "/proc/$0" ] && ! grep -q '^State:.*Z' "/proc/$0/status"; do sleep 0.5; done
grep '^cairnlog-tests ' /proc/self/mounts | while read -r _ path _; do umount -f -l "$path"; done
"#;

/// A place for mounts, watched until the answer is dropped; `None` where FUSE is not to be had.
fn guarded() -> Option<Guard> {
    // SAFETY: only the mount namespace (and with it the working directory) is unshared, no descriptors.
    let unshared = unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) };
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    let is_private = unshared.and_then(|()| rustix::mount::mount_change("/", private));
    let found = DSYNC_COUNTS.get_or_init(|| {
        is_private.map_err(|error| format!("no mount namespace: {error}"))?;
        probe().map_err(|error| format!("no file system can be mounted: {error}"))
    });
    if let Err(reason) = found {
        static SAID: Once = Once::new();
        SAID.call_once(|| say(&format!("skipped: FUSE is not to be had here: {reason}")));
        return None;
    }
    let (ended, watched) = channel();
    std::thread::spawn(move || {
        if watched.recv_timeout(CASE_MAX) == Err(RecvTimeoutError::Timeout) {
            say(&format!("a test took more than {CASE_MAX:?}: aborted"));
            for device in &*DEVICES.lock().unwrap_or_else(PoisonError::into_inner) {
                if let Some(device) = device.upgrade() {
                    device.cut();
                }
            }
            std::process::abort();
        }
    });
    let mut shell = Command::new("sh");
    shell.args(["-c", SHELL, &std::process::id().to_string()]);
    shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // Without one, only a test that is killed at the wrong moment is worse off.
    Some(Guard { _ended: ended, shell: shell.spawn().ok() })
}

/// Whether the kernel leaves it to the `O_DSYNC` of a write to make it durable.
fn probe() -> io::Result<bool> {
    let mount = Mount::try_new(Store::default(), Way::Cached, false, SERVERS)?;
    let mut options = File::options();
    options.read(true).write(true).create_new(true).mode(0o640);
    let file = options.open(mount.path().join("probe"))?;
    let bytes = [io::IoSlice::new(&[1; 512])];
    rustix::io::pwritev2(&file, &bytes, 0, ReadWriteFlags::DSYNC)?;
    Ok(mount.device.faults(|faults| faults.count(Operation::Sync)) == 0)
}

/// Past the capture of the test harness, which keeps what a passing test prints to itself.
pub(crate) fn say(message: &str) {
    // Nobody is left to tell that nobody listens.
    let _ = writeln!(io::stderr(), "fuse tests: {message}");
}
