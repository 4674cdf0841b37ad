//! Asking the machine.
//!
//! Owns every question that `doctor` has for the operating system, and the file it measures on.
//!
//! Units: bytes and microseconds.
//! Crash: the file it measures on has no name, or loses it before anything is written.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cairnlog_engine::disk::{ALIGNMENT, Aligned};
use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, ReadWriteFlags};
use rustix::process::{Resource, getrlimit};

/// Blocks that are written before the measurement, so that it changes data and no metadata.
const BLOCKS: u64 = 128;
const ROUNDS_MIN: u64 = 5;
const MEASURE_MAX: Duration = Duration::from_millis(1500);

/// How long a durable write of one block takes.
#[derive(Clone, Debug)]
pub(super) struct Latencies {
    /// Whether past the page cache.
    pub(super) direct: bool,
    /// Median of `pwritev2` with `RWF_DSYNC`; `None` where the kernel does not know it.
    pub(super) dsync_us: Option<f64>,
    /// Median of `pwrite` and `fdatasync`.
    pub(super) write_sync_us: f64,
}

/// The release of the kernel.
pub(super) fn kernel() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// A limit of this process; `None` when there is none.
pub(super) fn limit(resource: Resource) -> Option<u64> {
    getrlimit(resource).current
}

/// Bytes that an unprivileged process may still write.
pub(super) fn free_bytes(directory: &Path) -> io::Result<u64> {
    let file_system = rustix::fs::statvfs(directory)?;
    Ok(file_system.f_bavail.saturating_mul(file_system.f_frsize))
}

/// The type of the file system that a directory is on, by the kernel's list of mounts.
pub(super) fn file_system(directory: &Path) -> io::Result<String> {
    let directory = directory.canonicalize()?;
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    let mut best: Option<(usize, &str)> = None;
    for line in mounts.lines() {
        let Some((mount, kind)) = parse_mount(line) else { continue };
        let depth = mount.components().count();
        // Of mounts on the same point, the last one is seen.
        if directory.starts_with(&mount) && best.is_none_or(|(deepest, _)| depth >= deepest) {
            best = Some((depth, kind));
        }
    }
    Ok(best.map_or("unknown", |(_, kind)| kind).to_owned())
}

/// Mount point and type of a line of `mountinfo`, see proc(5).
fn parse_mount(line: &str) -> Option<(PathBuf, &str)> {
    let (front, back) = line.split_once(" - ")?;
    let point = front.split(' ').nth(4)?;
    // The four bytes that the kernel escapes.
    let point = point.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n");
    Some((PathBuf::from(point.replace("\\134", "\\")), back.split(' ').next()?))
}

/// Measures durable writes on a temporary file in the directory.
pub(super) fn measure(directory: &Path) -> io::Result<Latencies> {
    let (file, direct) = temporary_file(directory)?;
    let block = Aligned::zeroed(ALIGNMENT);
    let block_bytes = block.len() as u64;
    for number in 0..BLOCKS {
        write(&file, &block, number * block_bytes, ReadWriteFlags::empty())?;
    }
    file.sync_all()?;
    let mut dsync = Some(Vec::new());
    let mut write_sync = Vec::new();
    let start = Instant::now();
    for round in 0..BLOCKS / 2 {
        if round >= ROUNDS_MIN && start.elapsed() > MEASURE_MAX {
            break;
        }
        let offset = 2 * round * block_bytes;
        dsync = match dsync.map(|times| time_dsync(&file, &block, offset, times)) {
            Some(Err(error)) if error.raw_os_error() == Some(Errno::OPNOTSUPP.raw_os_error()) => {
                None
            }
            other => other.transpose()?,
        };
        let start = Instant::now();
        write(&file, &block, offset + block_bytes, ReadWriteFlags::empty())?;
        file.sync_data()?;
        write_sync.push(start.elapsed());
    }
    Ok(Latencies { direct, dsync_us: dsync.map(median_us), write_sync_us: median_us(write_sync) })
}

fn time_dsync(
    file: &File,
    block: &[u8],
    offset: u64,
    mut times: Vec<Duration>,
) -> io::Result<Vec<Duration>> {
    let start = Instant::now();
    write(file, block, offset, ReadWriteFlags::DSYNC)?;
    times.push(start.elapsed());
    Ok(times)
}

fn write(file: &File, block: &[u8], offset: u64, flags: ReadWriteFlags) -> io::Result<()> {
    let written = rustix::io::pwritev2(file, &[io::IoSlice::new(block)], offset, flags)?;
    if written == block.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

fn median_us(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    let middle = times.get(times.len() / 2).copied().unwrap_or_default();
    (middle.as_secs_f64() * 1e7).round() / 10.0
}

/// An empty file without a name, and whether it is written past the page cache.
fn temporary_file(directory: &Path) -> io::Result<(File, bool)> {
    match open_temporary(directory, OFlags::DIRECT) {
        // The file system does not take O_DIRECT.
        Err(Errno::INVAL) => Ok((open_temporary(directory, OFlags::empty())?, false)),
        other => Ok((other?, true)),
    }
}

fn open_temporary(directory: &Path, direct: OFlags) -> Result<File, Errno> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC | direct;
    let mode = Mode::RUSR | Mode::WUSR;
    match rustix::fs::open(directory, flags | OFlags::TMPFILE, mode) {
        // The file system has no files without names.
        Err(Errno::OPNOTSUPP | Errno::ISDIR) => {
            let path = directory.join(format!(".cairnlog-doctor-{}", std::process::id()));
            let flags = flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
            // Some file systems make the file before they refuse O_DIRECT.
            let opened = rustix::fs::open(&path, flags, mode);
            if !matches!(opened, Err(Errno::EXIST)) {
                let _ = rustix::fs::unlink(&path);
            }
            opened.map(File::from)
        }
        other => other.map(File::from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_parsed() {
        let line =
            r"36 35 98:0 /mnt1 /mnt\0402 rw,noatime master:1 - ext3 /dev/root rw,errors=continue";
        assert_eq!(parse_mount(line), Some((PathBuf::from("/mnt 2"), "ext3")));
        assert_eq!(parse_mount(""), None);
        assert_eq!(parse_mount("1 2 - x"), None);
    }

    #[test]
    fn the_root_is_mounted() {
        assert_ne!(file_system(Path::new("/")).unwrap(), "unknown");
    }
}
