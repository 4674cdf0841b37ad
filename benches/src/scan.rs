//! Reading a log from end to end, by the engine and by the plain loop.
//!
//! Owns the timing of a scan, the state of the page cache before it, and the plain loop, which
//! stands in for `fio --rw=read --direct=1 --bs=1M`. Does not know the engine's format: the plain
//! loop reads its files as bytes.
//!
//! What is left out: the host of a virtual disk has a cache of its own, so a cold figure is of this
//! machine's cache only.
//! Threads: the plain loop keeps `READS_IN_FLIGHT` requests on their way with a thread for each.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, open};
use rustix::io::pread;

use crate::aligned::AlignedBuffer;
use crate::machine::{drop_cache, files_below};
use crate::target::Kind;
use crate::workload::{Cache, SCAN_RECORD_BYTES};
use crate::{Result, approximate};

const READ_BYTES: usize = 1 << 20;
const READS_IN_FLIGHT: usize = 4;

/// Writes the log that is scanned.
pub fn prepare(dir: &Path, payload_bytes: u64) -> Result<()> {
    crate::engine::write_log(dir, SCAN_RECORD_BYTES, payload_bytes)
}

/// Bytes in a second of one scan of the log in `dir`, which holds `payload_bytes`.
pub fn bytes_per_second(kind: Kind, cache: Cache, dir: &Path, payload_bytes: u64) -> Result<f64> {
    match cache {
        Cache::Warm => {
            scan(kind, dir)?;
        }
        Cache::Cold => drop_cache(dir)?,
    }
    let (read_bytes, elapsed) = scan(kind, dir)?;
    let expected_bytes = payload_bytes - payload_bytes % u64::try_from(SCAN_RECORD_BYTES)?;
    if kind == Kind::Engine && read_bytes != expected_bytes {
        return Err(format!("{read_bytes} bytes came back of {expected_bytes}").into());
    }
    Ok(approximate(read_bytes) / elapsed.as_secs_f64())
}

fn scan(kind: Kind, dir: &Path) -> Result<(u64, Duration)> {
    match kind {
        Kind::Engine => crate::engine::open_and_scan(dir),
        Kind::Direct => read_plainly(dir),
        other => Err(format!("{} does not take part in scans", other.name()).into()),
    }
}

/// Reads all files below `dir` from front to back, past the page cache. Returns their bytes.
fn read_plainly(dir: &Path) -> Result<(u64, Duration)> {
    let started = Instant::now();
    let mut read_bytes = 0;
    for path in files_below(dir)? {
        let length_bytes = File::open(&path)?.metadata()?.len();
        let flags = OFlags::RDONLY | OFlags::DIRECT | OFlags::CLOEXEC;
        let file = open(&path, flags, Mode::empty())?;
        read_bytes += read_file(&file, length_bytes)?;
    }
    Ok((read_bytes, started.elapsed()))
}

fn read_file(file: &OwnedFd, length_bytes: u64) -> Result<u64> {
    let next_offset = AtomicU64::new(0);
    let read_share = || -> Result<u64> {
        let mut buffer = AlignedBuffer::new(READ_BYTES);
        let mut share_bytes = 0;
        loop {
            let offset = next_offset.fetch_add(READ_BYTES as u64, Ordering::Relaxed);
            if offset >= length_bytes {
                return Ok(share_bytes);
            }
            share_bytes += pread(file, &mut *buffer, offset)? as u64;
        }
    };
    thread::scope(|scope| {
        let readers: Vec<_> = (0..READS_IN_FLIGHT).map(|_| scope.spawn(read_share)).collect();
        let shares =
            readers.into_iter().map(|reader| reader.join().map_err(|_| "a reader panicked")?);
        shares.sum()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plain_loop_reads_every_byte() {
        let dir = std::env::temp_dir().join(format!("cairnlog-scan-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("below")).expect("the temporary directory is writable");
        std::fs::write(dir.join("below/long"), vec![1; 3 * READ_BYTES + 100]).expect("room");
        std::fs::write(dir.join("short"), [1; 10]).expect("room");
        let (read_bytes, _elapsed) = read_plainly(&dir).expect("readable");
        std::fs::remove_dir_all(&dir).expect("ours");
        assert_eq!(read_bytes, 3 * (1 << 20) + 100 + 10);
    }
}
