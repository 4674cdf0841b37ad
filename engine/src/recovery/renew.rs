//! Making sure that what was read is on the medium, where it could only be read through the page cache.
//!
//! Owns the copy of the end of the log into fresh files (DESIGN.md, section 4, recovery). After a failed
//! write-back the cache may hold bytes that look clean and are nowhere else, and a sync of the file then
//! says nothing: only bytes that are written again, and synced, are known to be there. Does nothing where
//! the file system reads past the cache.
//!
//! Crash: a temporary file, which the next open removes; or the old or the new file, with the same batches.

use std::io;
use std::sync::Arc;

use super::Examined;
use crate::disk::{Aligned, Disk, DiskFile};
use crate::error::IoFailure;
use crate::format::bytes::{to_u64, to_usize};
use crate::format::segment::file_name;
use crate::format::superblock::Cut;
use crate::log::maintenance::remove_if_there;
use crate::names::TEMPORARY_SUFFIX;
use crate::read::Window;
use crate::segments::Segment;
use crate::wal::scan::Chain;

/// Bytes copied at once.
const PIECE_BYTES: u64 = 1 << 20;

/// Puts a fresh file in the place of each segment that is not sealed and was read through the cache.
pub(crate) fn renew_tail(disk: &dyn Disk, found: &mut Examined) -> Result<(), IoFailure> {
    let mut is_renewed = false;
    let segments = std::mem::take(&mut found.segments);
    for segment in segments {
        let through_the_cache = segment.writer().filter(|file| !file.reads_medium());
        let Some(file) = through_the_cache else {
            found.segments.push(segment);
            continue;
        };
        let name = file_name(segment.number());
        let fresh = renew(disk, &segment, &*file, &name);
        let fresh = fresh.map_err(|error| IoFailure::new("renew", &name, error))?;
        found.segments.push(segment.on_file(fresh));
        is_renewed = true;
    }
    if is_renewed {
        disk.sync_directory().map_err(|error| IoFailure::new("sync", &disk.describe(), error))?;
    }
    Ok(())
}

fn renew(
    disk: &dyn Disk,
    segment: &Segment,
    file: &dyn DiskFile,
    name: &str,
) -> io::Result<Arc<dyn DiskFile>> {
    let temporary = format!("{name}{TEMPORARY_SUFFIX}");
    remove_if_there(disk, &temporary)?;
    let (bytes, kept) = (segment.header.segment_bytes, segment.extent().end_offset);
    let fresh = disk.create(&temporary, bytes)?;
    let mut offset = 0;
    while offset < bytes {
        let mut piece = Aligned::zeroed(to_usize((bytes - offset).min(PIECE_BYTES)));
        if offset < kept {
            file.read_at(&mut piece, offset)?;
            let whole = to_usize((kept - offset).min(to_u64(piece.len())));
            piece[whole..].fill(0);
        }
        fresh.write_at(&piece, offset)?;
        offset += to_u64(piece.len());
    }
    fresh.sync()?;
    // What was verified before may have left the cache since.
    let mut chain = Chain::at_segment(&segment.header, Cut::default());
    Window::new(Arc::clone(&fresh), true).scan(&mut chain, |_, _| {})?;
    if (chain.offset, chain.lsn) != (kept, segment.extent().end_lsn) {
        return Err(io::Error::other("the segment read differently a second time"));
    }
    disk.rename(&temporary, name)?;
    Ok(fresh)
}
