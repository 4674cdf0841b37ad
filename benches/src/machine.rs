//! What the kernel says about the device, the journal and this process.
//!
//! Owns the parsing of `/sys/dev/block`, `/proc/fs/jbd2` and `/proc/self/status`, and dropping
//! files from the page cache. Does not judge the figures (`measure`).
//!
//! The device's counters are of everybody who writes to it: a busy neighbour makes them too high.
//! Units: bytes; the kernel's sectors are always 512 of them.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, fadvise, major, minor, syncfs};

use crate::Result;

const SECTOR_BYTES: u64 = 512;
const SECTORS_WRITTEN_FIELD: usize = 6;
const FLUSHES_FIELD: usize = 15;

/// Counters of a device and its file system at one moment; what cannot be read here is `None`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    /// Bytes that were written to the device.
    pub written_bytes: Option<u64>,
    /// FLUSH requests that it completed; 0 for a partition.
    pub flushes: Option<u64>,
    /// Transactions that the journal of ext4 committed; `None` also when there is no journal.
    pub journal_commits: Option<u64>,
}

impl Counters {
    /// The counters of the device under `dir`.
    #[must_use]
    pub fn read(dir: &Path) -> Self {
        let Ok(device) = device_of(dir) else { return Self::default() };
        let stat = fs::read_to_string(device.join("stat")).unwrap_or_default();
        let written = stat_field(&stat, SECTORS_WRITTEN_FIELD);
        Self {
            written_bytes: written.map(|sectors| sectors * SECTOR_BYTES),
            flushes: stat_field(&stat, FLUSHES_FIELD),
            journal_commits: journal_info(&device).as_deref().and_then(journal_commits),
        }
    }

    /// What happened between `before` and now.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        let difference = |now: Option<u64>, then: Option<u64>| now?.checked_sub(then?);
        Self {
            written_bytes: difference(self.written_bytes, before.written_bytes),
            flushes: difference(self.flushes, before.flushes),
            journal_commits: difference(self.journal_commits, before.journal_commits),
        }
    }
}

/// The directory in `/sys` of the device that holds `dir`.
fn device_of(dir: &Path) -> io::Result<PathBuf> {
    let device = fs::metadata(dir)?.dev();
    fs::canonicalize(format!("/sys/dev/block/{}:{}", major(device), minor(device)))
}

fn stat_field(stat: &str, field: usize) -> Option<u64> {
    stat.split_ascii_whitespace().nth(field)?.parse().ok()
}

/// The journal's figures: `/proc/fs/jbd2/vda-8/info` for a device called `vda`.
fn journal_info(device: &Path) -> Option<String> {
    let prefix = format!("{}-", device.file_name()?.to_str()?);
    let journals = fs::read_dir("/proc/fs/jbd2").ok()?;
    let mut names = journals.filter_map(|entry| Some(entry.ok()?.path()));
    let is_ours = |path: &PathBuf| {
        path.file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| name.starts_with(&prefix))
    };
    fs::read_to_string(names.find(is_ours)?.join("info")).ok()
}

/// The first number of "1234 transactions (1200 requested), each up to 8192 blocks".
fn journal_commits(info: &str) -> Option<u64> {
    info.split_ascii_whitespace().next()?.parse().ok()
}

/// Resident memory of this process: anonymous pages and mapped files.
pub fn resident_bytes() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    vm_rss_bytes(&status).ok_or_else(|| "no VmRSS in /proc/self/status".into())
}

fn vm_rss_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Writes back all that the file system of `dir` still owes, so that the next measurement does not
/// pay for it.
pub fn settle(dir: &Path) -> Result<()> {
    Ok(syncfs(File::open(dir)?)?)
}

/// Drops the clean pages of all files below `dir` from the page cache.
pub fn drop_cache(dir: &Path) -> Result<()> {
    settle(dir)?;
    for path in files_below(dir)? {
        fadvise(File::open(path)?, 0, None, Advice::DontNeed)?;
    }
    Ok(())
}

/// All regular files below `dir`, in the order of their paths.
pub fn files_below(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut dirs = vec![dir.to_path_buf()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let file_type = entry.file_type()?;
            if file_type.is_dir() {
                dirs.push(entry.path());
            } else if file_type.is_file() {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_kernel_s_formats() {
        let stat = "6372 3585 1997578 4760 1206305 19097 60663304 56759 0 45016 81160 3084 39 \
                    39128 125 588505 19516";
        assert_eq!(stat_field(stat, SECTORS_WRITTEN_FIELD), Some(60_663_304));
        assert_eq!(stat_field(stat, FLUSHES_FIELD), Some(588_505));
        assert_eq!(stat_field("", FLUSHES_FIELD), None);
        let info = "1234 transactions (1200 requested), each up to 8192 blocks\naverage:\n";
        assert_eq!(journal_commits(info), Some(1234));
        assert_eq!(vm_rss_bytes("Name:\tx\nVmRSS:\t    2048 kB\n"), Some(2 << 20));
    }

    #[test]
    fn this_process_has_memory() {
        assert!(resident_bytes().expect("Linux has /proc/self/status") > 0);
    }
}
