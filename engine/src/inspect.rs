//! Showing what is in the files of a log, damaged or not.
//!
//! Owns [`inspect`]. It never writes, tolerates damage, and drops nothing: what does not decode is shown
//! with its fault, and the walk goes on at the next block that does.
//!
//! Bounds: one window of memory.

use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use crate::disk::{Access, Aligned, BackendChoice, Disk, DiskFile, Entry, EntryKind, OsDisk};
use crate::error::{Corruption, IoFailure, OpenError};
use crate::format::batch::{BatchHeader, HEADER_BYTES};
use crate::format::bytes::to_usize;
use crate::format::checkpoint::{self, CheckpointHeader};
use crate::format::fork::ForkHeader;
use crate::format::parity::ParityHeader;
use crate::format::segment::{SegmentHeader, Trailer, file_name};
use crate::format::superblock::Superblock;
use crate::format::version::Fault;
use crate::format::watermark::{BLOCK_BYTES, Watermark};
use crate::names::{Name, classify};
use crate::read::Window;
use crate::read::not_found;
use crate::recovery::read_header;
use crate::{Lsn, superblock, watermark};

/// The block size to go by where no header says it.
const BLOCK_BYTES_GUESS: u32 = 4096;

/// One thing found in a directory, in the order superblock, watermark, segments, other names.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Inspected {
    /// A copy of the superblock.
    Superblock {
        /// 0 or 1.
        copy: u8,
        /// What it says, or what is wrong with it.
        content: Result<Superblock, Fault>,
    },
    /// A block of the watermark.
    Watermark {
        /// 0 or 1.
        block: u8,
        /// What it says, or what is wrong with it.
        content: Result<Watermark, Fault>,
    },
    /// A segment file; its batches follow.
    Segment {
        /// The number in its name.
        number: u64,
        /// Length of the file.
        bytes: u64,
        /// Its header.
        header: Result<SegmentHeader, Fault>,
        /// Its trailer; without a valid one the segment is not sealed.
        trailer: Result<Trailer, Fault>,
    },
    /// A batch that belongs where it stands.
    Batch {
        /// Its header.
        header: BatchHeader,
        /// Whether its body matches its checksum.
        body_is_whole: bool,
    },
    /// Bytes between batches, or in place of one, that are no batch of this place.
    Damage(Corruption),
    /// A checkpoint.
    Checkpoint {
        /// Name of the file.
        name: String,
        /// Its header; says nothing about its content.
        content: Result<CheckpointHeader, Fault>,
    },
    /// The parity of a sealed segment.
    Parity {
        /// Name of the file.
        name: String,
        /// The first copy of its header; says nothing about the rest.
        content: Result<ParityHeader, Fault>,
    },
    /// What a truncation gave up.
    Fork {
        /// Name of the file.
        name: String,
        /// Its header; says nothing about the batches behind it.
        content: Result<ForkHeader, Fault>,
    },
    /// Another name in the directory.
    Other {
        /// The name.
        name: String,
    },
}

/// Who looks; says after each thing whether to go on.
type See<'a> = &'a mut dyn FnMut(Inspected) -> ControlFlow<()>;

/// Shows everything in a directory to `see`, until that says [`ControlFlow::Break`].
///
/// # Errors
/// When the directory cannot be read. Damage is shown.
pub fn inspect(
    directory: &Path,
    see: &mut dyn FnMut(Inspected) -> ControlFlow<()>,
) -> Result<(), OpenError> {
    let disk = OsDisk::open(directory, false, BackendChoice::Blocking)
        .map_err(|error| not_found(directory, error))?;
    inspect_on(&disk, see)
}

/// Shows everything on a disk to `see`; see [`inspect`].
///
/// # Errors
/// As for [`inspect`].
pub fn inspect_on(
    disk: &dyn Disk,
    see: &mut dyn FnMut(Inspected) -> ControlFlow<()>,
) -> Result<(), OpenError> {
    let failed = |error| IoFailure::new("inspect", &disk.describe(), error);
    let mut entries = disk.list().map_err(failed)?;
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    if !entries.iter().any(|entry| classify(&entry.name) != Name::Foreign) {
        return Err(OpenError::NotFound(disk.describe()));
    }
    let mut viewer = Viewer { see, is_done: false };
    inspect_roots(disk, &mut viewer).map_err(failed)?;
    for entry in &entries {
        if viewer.is_done {
            break;
        }
        inspect_entry(disk, entry, &mut viewer)
            .map_err(|error| IoFailure::new("read", &entry.name, error))?;
    }
    Ok(())
}

/// Who looks, and whether that has seen enough.
struct Viewer<'a> {
    see: See<'a>,
    is_done: bool,
}

impl Viewer<'_> {
    fn show(&mut self, found: Inspected) {
        self.is_done = self.is_done || (self.see)(found).is_break();
    }
}

fn inspect_roots(disk: &dyn Disk, viewer: &mut Viewer<'_>) -> io::Result<()> {
    for (copy, content) in (0..).zip(superblock_copies(disk)?) {
        viewer.show(Inspected::Superblock { copy, content });
    }
    let file = open_if_there(disk, watermark::FILE_NAME)?;
    for block in 0..2_u8 {
        let content = match &file {
            None => Err(Fault::Missing),
            Some(file) => {
                let mut bytes = Aligned::zeroed(BLOCK_BYTES);
                let filled =
                    file.read_direct_at(&mut bytes, u64::from(block) * BLOCK_BYTES as u64)?;
                Watermark::decode(&bytes[..filled])
            }
        };
        viewer.show(Inspected::Watermark { block, content });
    }
    Ok(())
}

fn superblock_copies(disk: &dyn Disk) -> io::Result<superblock::Copies> {
    match open_if_there(disk, superblock::FILE_NAME)? {
        Some(file) => superblock::read_copies(&*file),
        None => Ok([Err(Fault::Missing), Err(Fault::Missing)]),
    }
}

fn open_if_there(disk: &dyn Disk, name: &str) -> io::Result<Option<Arc<dyn DiskFile>>> {
    match disk.open(name, Access::Read) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn inspect_entry(disk: &dyn Disk, entry: &Entry, viewer: &mut Viewer<'_>) -> io::Result<()> {
    match (classify(&entry.name), entry.kind) {
        (Name::Superblock | Name::Watermark, EntryKind::File(_)) => Ok(()),
        (Name::Segment(number), EntryKind::File(bytes)) => {
            inspect_segment(disk, number, bytes, viewer)
        }
        (Name::Checkpoint(..), EntryKind::File(_)) => {
            let content = CheckpointHeader::decode(&first_block(disk, &entry.name)?);
            viewer.show(Inspected::Checkpoint { name: entry.name.clone(), content });
            Ok(())
        }
        (Name::Parity(_), EntryKind::File(_)) => {
            let content = ParityHeader::decode(&first_block(disk, &entry.name)?);
            viewer.show(Inspected::Parity { name: entry.name.clone(), content });
            Ok(())
        }
        (Name::Fork(..), EntryKind::File(_)) => {
            let content = ForkHeader::decode(&first_block(disk, &entry.name)?);
            viewer.show(Inspected::Fork { name: entry.name.clone(), content });
            Ok(())
        }
        _ => {
            viewer.show(Inspected::Other { name: entry.name.clone() });
            Ok(())
        }
    }
}

/// The first 4096 bytes of a file, or what there is.
fn first_block(disk: &dyn Disk, name: &str) -> io::Result<Vec<u8>> {
    let mut block = Aligned::zeroed(checkpoint::HEADER_BYTES);
    let filled = disk.open(name, Access::Read)?.read_direct_at(&mut block, 0)?;
    Ok(block[..filled].to_vec())
}

fn inspect_segment(
    disk: &dyn Disk,
    number: u64,
    bytes: u64,
    viewer: &mut Viewer<'_>,
) -> io::Result<()> {
    let file = disk.open(&file_name(number), Access::Read)?;
    let block_bytes = superblock_copies(disk)?
        .iter()
        .flatten()
        .next()
        .map_or(BLOCK_BYTES_GUESS, |superblock| superblock.block_bytes);
    let header = read_header(&*file, block_bytes)?;
    let mut last = Aligned::zeroed(to_usize(u64::from(block_bytes)));
    let last_start = bytes / u64::from(block_bytes) * u64::from(block_bytes);
    let last_start = last_start.saturating_sub(u64::from(block_bytes));
    let filled = file.read_direct_at(&mut last, last_start)?;
    let trailer = Trailer::decode(&last[..filled]);
    let started = header.as_ref().is_ok_and(|header| header.segment == number);
    let data_end = header.as_ref().map_or(bytes, |header| header.data_end().min(bytes));
    viewer.show(Inspected::Segment { number, bytes, header, trailer });
    let mut walk = Walk { window: Window::new(file, true), number, block_bytes, data_end, started };
    walk.run(viewer)
}

/// A walk over the blocks of a segment.
struct Walk {
    window: Window,
    number: u64,
    block_bytes: u32,
    data_end: u64,
    /// Whether the segment has a header of its own: in one that has none, what stands there is stale.
    started: bool,
}

impl Walk {
    fn run(&mut self, viewer: &mut Viewer<'_>) -> io::Result<()> {
        let step = u64::from(self.block_bytes);
        let mut offset = step;
        let mut lsn = Lsn::NONE;
        let mut damage = None;
        while !viewer.is_done && offset + step <= self.data_end {
            match self.batch_at(offset)? {
                Ok((header, body_is_whole)) => {
                    show_damage(&mut damage, viewer);
                    offset = header.end_offset().max(offset + step);
                    lsn = header.end_lsn();
                    viewer.show(Inspected::Batch { header, body_is_whole });
                }
                Err(fault) => {
                    if self.started && damage.is_none() {
                        damage = Some(Corruption { segment: self.number, offset, lsn, fault });
                    }
                    offset += step;
                }
            }
        }
        // What comes behind the last batch is the unused rest of the file.
        Ok(())
    }

    fn batch_at(&mut self, offset: u64) -> io::Result<Result<(BatchHeader, bool), Fault>> {
        let bytes = self.window.get(offset, HEADER_BYTES)?;
        let header = match BatchHeader::decode(bytes) {
            Ok(header) => header,
            Err(fault) => return Ok(Err(fault)),
        };
        if header.segment != self.number || header.offset != offset {
            return Ok(Err(Fault::Misplaced));
        }
        let bytes = self.window.get(offset, to_usize(u64::from(header.length)))?;
        let body_is_whole = header.body_is_whole(bytes);
        Ok(Ok((header, body_is_whole)))
    }
}

fn show_damage(damage: &mut Option<Corruption>, viewer: &mut Viewer<'_>) {
    if let Some(damage) = damage.take() {
        viewer.show(Inspected::Damage(damage));
    }
}
