//! Cutting off a torn tail, so that nothing of it can ever be taken for the log again.
//!
//! Owns steps 2 to 4 of a truncation (FORMAT.md, section 7): record the cut, zero what remains, sync.
//! Does not decide that there is a torn tail.
//!
//! Crash: before the cut is recorded, recovery finds the same torn tail again; after it, the remains
//! are void, and recovery zeroes what is left of them.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use super::{Examined, Verdict};
use crate::disk::{Access, Aligned, Disk, DiskFile};
use crate::error::IoFailure;
use crate::format::bytes::to_usize;
use crate::format::segment::file_name;
use crate::format::superblock::Cut;
use crate::superblock::SuperblockStore;

/// Makes the end of the log final: records the cut when the verdict is a torn tail, and zeroes every
/// block behind the end that looks like one of the log, including what an earlier cut left.
pub(crate) fn finish_cut(
    disk: &dyn Disk,
    superblock: &mut SuperblockStore,
    verdict: &Verdict,
    found: &Examined,
) -> Result<(), IoFailure> {
    if let Verdict::TornTail { segment, offset, lsn, .. } = *verdict {
        // Every batch so far is from a promised epoch; the next life promises a greater one.
        let epoch = superblock.current().promised_epoch;
        superblock.change(|s| s.cut = Cut { lsn, segment, offset, epoch })?;
    }
    let mut files: BTreeMap<u64, Arc<dyn DiskFile>> = BTreeMap::new();
    let zeros = Aligned::zeroed(to_usize(u64::from(superblock.current().block_bytes)));
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
