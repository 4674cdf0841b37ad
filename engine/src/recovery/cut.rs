//! Cutting off what is not part of the log any more, so that nothing of it can ever be taken for it again.
//!
//! Owns steps 2 and 3 of a truncation (FORMAT.md, section 7): record the cut, remove and zero what is
//! behind it, sync. That the cut is finished is recorded by whoever changes the superblock next (`open`).
//! Does not decide that there is a torn tail, nor keep what is given up (`fork`).
//!
//! Crash: before the cut is recorded, recovery finds the same torn tail again; after it, what is behind
//! it is void, and recovery finishes the cut that it finds.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use super::{Examined, Verdict};
use crate::Lsn;
use crate::disk::{Access, Aligned, Disk, DiskFile, Entry};
use crate::error::IoFailure;
use crate::format::bytes::{to_u64, to_usize};
use crate::format::checkpoint::Kind;
use crate::format::segment::file_name;
use crate::format::superblock::{Cut, Superblock};
use crate::format::watermark::Watermark;
use crate::log::maintenance::remove_if_there;
use crate::names::{Name, classify};
use crate::superblock::SuperblockStore;
use crate::watermark::WatermarkStore;

/// Zeros are written in pieces of this size.
const ZERO_BYTES: u64 = 1 << 20;

/// Makes the end of the log final. A torn tail is zeroed block by block, after the cut is recorded; of a
/// cut that was found unfinished, everything behind it is removed and zeroed, however far it reached.
pub(crate) fn finish_cut(
    disk: &dyn Disk,
    superblock: &mut SuperblockStore,
    verdict: &Verdict,
    found: &Examined,
    entries: &[Entry],
) -> Result<(), IoFailure> {
    let was_pending = superblock.current().cut.is_pending();
    if let Verdict::TornTail { segment, offset, lsn, .. } = *verdict {
        // Every batch so far is from a promised epoch; the next life promises a greater one.
        let epoch = superblock.current().promised_epoch;
        superblock.change(|s| s.cut = Cut { lsn, segment, offset, epoch })?;
    }
    if was_pending {
        remove_behind(disk, superblock.current(), found, entries)?;
        zero_behind(found)
    } else {
        zero_remains(disk, superblock.current().block_bytes, found)
    }
}

/// Removes the files that hold nothing but what was given up.
fn remove_behind(
    disk: &dyn Disk,
    superblock: &Superblock,
    found: &Examined,
    entries: &[Entry],
) -> Result<(), IoFailure> {
    let last = found.end.segment;
    let is_sealed = found.segments.last().is_some_and(|segment| segment.is_sealed());
    // Records that will be appended again are in a checkpoint with good reason.
    let kept_lsn = superblock.cut.lsn.max(superblock.restore.end_lsn);
    for entry in entries {
        let is_void = match classify(&entry.name) {
            Name::Segment(number) => number > last,
            Name::Parity(number) => number > last || (number == last && !is_sealed),
            // A table that ends at the cut may list segments whose numbers come again.
            Name::Checkpoint(Kind::Segments, lsn) => lsn >= superblock.cut.lsn,
            Name::Checkpoint(Kind::State, lsn) => lsn > kept_lsn,
            _ => false,
        };
        if is_void {
            remove_if_there(disk, &entry.name)
                .map_err(|error| IoFailure::new("remove", &entry.name, error))?;
        }
    }
    disk.sync_directory().map_err(|error| IoFailure::new("sync", &disk.describe(), error))
}

/// Zeroes the active segment from the end of the log on, the place of its footer included.
fn zero_behind(found: &Examined) -> Result<(), IoFailure> {
    let Some(last) = found.segments.last() else { return Ok(()) };
    let Some(file) = last.writer() else { return Ok(()) };
    let end = last.header.segment_bytes;
    let zeros = Aligned::zeroed(to_usize(end.min(ZERO_BYTES)));
    let zero = || -> io::Result<()> {
        let mut offset = found.end.offset;
        while offset < end {
            let piece = to_usize((end - offset).min(ZERO_BYTES));
            file.write_at(&zeros[..piece], offset)?;
            offset += to_u64(piece);
        }
        file.sync()
    };
    zero().map_err(|error| IoFailure::new("cut", &file_name(last.number()), error))
}

/// Notes the end of the log in both blocks of the watermark, after an unfinished cut: when it is finished,
/// what they say has to be right without it, and also when one of them is lost. The end may be in front
/// of the cut, where power failed before a torn tail was on the medium; now it has to be there.
pub(crate) fn lower_watermark(
    disk: &dyn Disk,
    superblock: &Superblock,
    end_lsn: Lsn,
    commit_lsn: Lsn,
) -> Result<(), IoFailure> {
    let failed = |error| IoFailure::new("lower", crate::watermark::FILE_NAME, error);
    let mut store = WatermarkStore::open(disk).map_err(failed)?;
    for _ in 0..2 {
        let lowered = Watermark {
            sequence: 0,
            log_id: superblock.log_id,
            epoch: superblock.promised_epoch,
            durable_lsn: end_lsn,
            commit_lsn: commit_lsn.min(end_lsn),
            checksum: 0,
        };
        store.write(lowered, true).map_err(failed)?;
    }
    Ok(())
}

/// Zeroes every block behind the end that looks like one of the log.
fn zero_remains(disk: &dyn Disk, block_bytes: u32, found: &Examined) -> Result<(), IoFailure> {
    let mut files: BTreeMap<u64, Arc<dyn DiskFile>> = BTreeMap::new();
    let zeros = Aligned::zeroed(to_usize(u64::from(block_bytes)));
    for (segment, offset) in &found.remains {
        let name = file_name(*segment);
        let failed = |error: io::Error| IoFailure::new("cut", &name, error);
        let file = match files.get(segment) {
            Some(file) => Arc::clone(file),
            None => {
                let file = disk.open(&name, Access::Write).map_err(failed)?;
                files.insert(*segment, Arc::clone(&file));
                file
            }
        };
        file.write_at(&zeros, *offset).map_err(failed)?;
    }
    for (segment, file) in files {
        file.sync().map_err(|error| IoFailure::new("sync", &file_name(segment), error))?;
    }
    Ok(())
}

/// Reads the blocks behind the end that could not be read and were zeroed since: nothing is appended
/// to a place that does not give back what it got.
pub(crate) fn read_back(
    disk: &dyn Disk,
    block_bytes: u32,
    found: &Examined,
) -> Result<(), IoFailure> {
    let mut block = Aligned::zeroed(to_usize(u64::from(block_bytes)));
    for (segment, offset) in &found.unreadable {
        if found.unused.contains(segment) {
            continue;
        }
        let name = file_name(*segment);
        let read = disk
            .open(&name, Access::Read)
            .and_then(|file| file.read_direct_at(&mut block, *offset))
            .map_err(|error| IoFailure::new("read", &name, error))?;
        if read < block.len() || block.iter().any(|byte| *byte != 0) {
            let error = io::Error::other("a block does not keep what is written to it");
            return Err(IoFailure::new("read", &name, error));
        }
    }
    Ok(())
}

/// Syncs every segment that was read as part of the log and is not sealed: what an earlier process
/// wrote may still be on its way to the medium, and nothing may be acknowledged on top of it before.
pub(crate) fn sync_tail(found: &Examined) -> Result<(), IoFailure> {
    for segment in &found.segments {
        if let Some(file) = segment.writer() {
            let name = file_name(segment.number());
            file.sync().map_err(|error| IoFailure::new("sync", &name, error))?;
        }
    }
    Ok(())
}
