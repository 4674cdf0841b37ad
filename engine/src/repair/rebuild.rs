//! Making the new files of a repaired log, and putting them in the place of the damaged ones.
//!
//! Owns the order of a repair: what is replaced is copied first; new files are made under a temporary
//! name, synced, read back, and renamed; what was derived from a damaged segment goes before it; a new
//! superblock comes last, because the log opens from then on.
//!
//! Crash: the old or the new file under each name; copies and temporary files beside them.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use super::survey::{Piece, Surveyed};
use super::{Plan, RepairError, Source, name_of, segment_files};
use crate::disk::{Access, Aligned, Disk, DiskFile};
use crate::error::IoFailure;
use crate::format::batch::{BatchHeader, HEADER_BYTES, Kind as BatchKind, Lost, finish};
use crate::format::bytes::{to_u64, to_usize};
use crate::format::checkpoint::Kind;
use crate::format::parity;
use crate::format::segment::{SegmentHeader, file_name};
use crate::format::superblock::{Cut, LeaderId, Restore, Superblock, Truncations};
use crate::log::maintenance::remove_if_there;
use crate::names::{Name, TEMPORARY_SUFFIX, classify, replaced_name};
use crate::read::{PatientFile, Window};
use crate::recovery::{read_header, read_trailer};
use crate::segments::{Extent, footer};
use crate::superblock::{FILE_NAME, SuperblockStore};
use crate::wal::index::Index;
use crate::wal::scan::Chain;
use crate::{Config, Epoch, Lsn};

/// Bytes that are copied at once.
const COPY_BYTES: usize = 1 << 20;
/// Blocks that a file is read in where the medium does not give all of it.
const KEEP_BLOCK_BYTES: usize = 4096;

/// Carries out a plan; the names of the copies that were kept.
pub(super) fn carry_out(disk: &dyn Disk, plan: &Plan) -> Result<Vec<String>, RepairError> {
    let mut kept = Vec::new();
    for segment in &plan.segments {
        let has_lost = segment.lost().next().is_some();
        if has_lost || segment.is_mended || segment.has_damaged_ends {
            let name = name_of(segment);
            let rebuilt = rebuild(disk, plan, segment, has_lost, &mut kept);
            rebuilt.map_err(|error| IoFailure::new("repair", &name, error))?;
        }
    }
    for name in &plan.damaged_checkpoints {
        let aside = free_name(disk, name)
            .and_then(|aside| disk.rename(name, &aside).map(|()| kept.push(aside)));
        aside.map_err(|error| IoFailure::new("put aside", name, error))?;
    }
    if plan.is_rebuilt {
        let replaced =
            keep(disk, FILE_NAME, &mut kept).and_then(|()| remove_if_there(disk, FILE_NAME));
        replaced.map_err(|error| IoFailure::new("repair", FILE_NAME, error))?;
        SuperblockStore::create(disk, plan.superblock.clone())?;
    }
    disk.sync_directory().map_err(|error| IoFailure::new("sync", &disk.describe(), error))?;
    Ok(kept)
}

/// Makes the file of a segment anew.
fn rebuild(
    disk: &dyn Disk,
    plan: &Plan,
    segment: &Surveyed,
    has_lost: bool,
    kept: &mut Vec<String>,
) -> io::Result<()> {
    let name = name_of(segment);
    let temporary = format!("{name}{TEMPORARY_SUFFIX}");
    remove_if_there(disk, &temporary)?;
    let file = disk.create(&temporary, segment.header.segment_bytes)?;
    match &segment.source {
        // As it was, to the last byte: parity goes on serving.
        Some(source) if segment.is_mended && !has_lost => {
            copy(&**source, &*file, 0, segment.header.segment_bytes)?;
        }
        source => {
            write_zeros(&*file, segment.header.segment_bytes)?;
            write_pieces(plan, segment, source.as_ref(), &file)?;
        }
    }
    file.sync()?;
    check(plan, segment, &file)?;
    keep(disk, &name, kept)?;
    if has_lost || !segment.is_mended {
        // Derived from what the segment was; both are made again.
        remove_if_there(disk, &parity::file_name(segment.header.segment))?;
        for lsn in crate::checkpoint::list(disk, Kind::Segments)? {
            remove_if_there(disk, &crate::format::checkpoint::file_name(Kind::Segments, lsn))?;
        }
        disk.sync_directory()?;
    }
    disk.rename(&temporary, &name)?;
    disk.sync_directory()
}

fn write_zeros(file: &dyn DiskFile, bytes: u64) -> io::Result<()> {
    let zeros = Aligned::zeroed(COPY_BYTES);
    let mut offset = 0;
    while offset < bytes {
        let piece = to_usize((bytes - offset).min(to_u64(COPY_BYTES)));
        file.write_at(&zeros[..piece], offset)?;
        offset += to_u64(piece);
    }
    Ok(())
}

fn copy(from: &dyn DiskFile, to: &dyn DiskFile, start: u64, end: u64) -> io::Result<()> {
    let mut offset = start;
    let mut buffer = Aligned::zeroed(COPY_BYTES);
    while offset < end {
        let piece = to_usize((end - offset).min(to_u64(COPY_BYTES)));
        if piece < buffer.len() {
            buffer = Aligned::zeroed(piece);
        }
        let filled = from.read_direct_at(&mut buffer, offset)?;
        if filled < piece {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        to.write_at(&buffer[..piece], offset)?;
        offset += to_u64(piece);
    }
    Ok(())
}

fn write_pieces(
    plan: &Plan,
    segment: &Surveyed,
    source: Option<&Source>,
    file: &Arc<dyn DiskFile>,
) -> io::Result<()> {
    let header = &segment.header;
    let block_bytes = to_usize(u64::from(header.block_bytes));
    let mut block = Aligned::zeroed(block_bytes);
    header.encode(&mut block);
    file.write_at(&block, 0)?;
    let mut chain = Chain::at_segment(header, plan.superblock.cut);
    for piece in &segment.pieces {
        match piece {
            Piece::Whole { from, to } => {
                let source = source.expect("what is whole was read from somewhere");
                copy(&**source, &**file, *from, *to)?;
                let mut window = Window::new(Arc::clone(source), true);
                while chain.offset < *to {
                    match window.next_batch(&chain)? {
                        Ok((header, _)) => chain.advance(&header),
                        Err(_) => return Err(io::Error::other("it changed while it was repaired")),
                    }
                }
            }
            Piece::Lost { from, base_lsn, lost } => {
                let mut block = Aligned::zeroed(block_bytes);
                let mut batch = lost_range(plan, segment, &chain, *from, *base_lsn, *lost);
                finish(&mut block, 0, &mut batch);
                file.write_at(&block, *from)?;
                chain.advance(&batch);
            }
        }
    }
    if segment.is_sealed {
        let (extent, index) = extent_of(header, plan.superblock.cut, file)?;
        let (zone, _) = footer(header, &extent, &index);
        file.write_at(&zone, header.data_end())?;
    }
    Ok(())
}

/// The control batch that stands for lost records.
fn lost_range(
    plan: &Plan,
    segment: &Surveyed,
    chain: &Chain,
    offset: u64,
    base_lsn: Lsn,
    lost: Lost,
) -> BatchHeader {
    BatchHeader {
        kind: BatchKind::LostRange,
        log_id: segment.header.log_id,
        segment: segment.header.segment,
        offset,
        base_lsn,
        record_count: 0,
        length: 0,
        payload_bytes: 0,
        producer_run_count: 0,
        // No recorded cut makes it void.
        epoch: plan.superblock.promised_epoch.max(chain.epoch).next(),
        durable_lsn: base_lsn,
        commit_lsn: base_lsn,
        // Between the batches around it; the segment was opened after whatever lies in front of it.
        time_ms: chain.time_ms.max(segment.header.time_ms),
        prev_checksum: chain.checksum.unwrap_or_default(),
        body_checksum: 0,
        checksum: 0,
        lost: Some(lost),
    }
}

/// How far the batches of a new file go, and their index.
fn extent_of(
    header: &SegmentHeader,
    cut: Cut,
    file: &Arc<dyn DiskFile>,
) -> io::Result<(Extent, Index)> {
    let mut chain = Chain::at_segment(header, cut);
    let (mut extent, mut index) = (Extent::empty(header), Index::default());
    Window::new(Arc::clone(file), true).scan(&mut chain, |batch, _| {
        extent.extend(batch);
        if batch.record_count > 0 {
            index.note(batch.base_lsn, batch.offset, batch.time_ms);
        }
    })?;
    Ok((extent, index))
}

/// Reads a new file back: it must hold what was meant.
fn check(plan: &Plan, segment: &Surveyed, file: &Arc<dyn DiskFile>) -> io::Result<()> {
    let header = &segment.header;
    let (extent, _) = extent_of(header, plan.superblock.cut, file)?;
    let read = read_header(&**file, header.block_bytes)?;
    let trailer = read_trailer(&**file, header.segment_bytes, header.block_bytes)?;
    let is_right = read.as_ref() == Ok(header)
        && (extent.end_lsn, extent.end_offset) == (segment.end.lsn, segment.end.offset)
        && (!segment.is_sealed || trailer.is_some_and(|trailer| trailer.end_lsn == extent.end_lsn));
    if is_right { Ok(()) } else { Err(io::Error::other("what was written does not read back")) }
}

/// Keeps a copy of a file that is about to be replaced; nothing when there is none.
fn keep(disk: &dyn Disk, name: &str, kept: &mut Vec<String>) -> io::Result<()> {
    let file = match disk.open(name, Access::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => PatientFile::new(other?, KEEP_BLOCK_BYTES),
    };
    let copied = free_name(disk, name)?;
    let temporary = format!("{copied}{TEMPORARY_SUFFIX}");
    remove_if_there(disk, &temporary)?;
    let bytes = file.len()?;
    let copy = disk.create(&temporary, bytes.max(1))?;
    let mut buffer = Aligned::zeroed(COPY_BYTES);
    let mut offset = 0;
    while offset < bytes {
        buffer.fill(0);
        let filled = file.read_direct_at(&mut buffer, offset)?.max(1);
        // Whole blocks: the copy of a file that was cut off is filled up with zeros.
        copy.write_at(&buffer[..filled.next_multiple_of(KEEP_BLOCK_BYTES)], offset)?;
        offset += to_u64(filled.next_multiple_of(KEEP_BLOCK_BYTES));
    }
    copy.sync()?;
    disk.rename(&temporary, &copied)?;
    disk.sync_directory()?;
    kept.push(copied);
    Ok(())
}

/// The first name under which nothing was kept yet.
fn free_name(disk: &dyn Disk, name: &str) -> io::Result<String> {
    let taken: BTreeSet<String> = disk.list()?.into_iter().map(|entry| entry.name).collect();
    let mut names = (1..).map(|nth| replaced_name(name, nth));
    Ok(names.find(|name| !taken.contains(name)).expect("names do not run out"))
}

/// A superblock for a directory that has lost both copies of its own, from its segments.
pub(super) fn superblock(disk: &dyn Disk) -> Result<Superblock, RepairError> {
    let failed = |error| IoFailure::new("look at", &disk.describe(), error);
    let entries = disk.list().map_err(failed)?;
    let mut headers = Vec::new();
    for number in segment_files(&entries).into_keys() {
        let found = header_of(disk, number);
        headers.extend(found.map_err(|error| IoFailure::new("read", &file_name(number), error))?);
    }
    let Some(first) = headers.first().cloned() else {
        let reason = "no segment says which log this is".to_owned();
        return Err(RepairError::Impossible(reason));
    };
    if headers.iter().any(|header| header.log_id != first.log_id) {
        let reason = "the segments are of different logs".to_owned();
        return Err(RepairError::Impossible(reason));
    }
    let mut epoch = Epoch::new(1);
    for header in &headers {
        let newest = newest_epoch(disk, header);
        let name = file_name(header.segment);
        epoch = epoch.max(newest.map_err(|error| IoFailure::new("read", &name, error))?);
    }
    for entry in &entries {
        if let Name::Checkpoint(kind, lsn) = classify(&entry.name)
            && let Ok(Ok(found)) =
                crate::checkpoint::CheckpointReader::open(disk, kind, lsn, first.log_id)
        {
            epoch = epoch.max(found.epoch());
        }
    }
    let random = || disk.random_id().map_err(|e| IoFailure::new("make", "an identity", e));
    Ok(Superblock {
        sequence: 1,
        log_id: first.log_id,
        // Who led before is not known any more: others must not take this directory for the same.
        lineage_id: random()?,
        incarnation: random()?,
        start_counter: 1,
        promised_epoch: epoch.next(),
        promised_to: LeaderId::default(),
        block_bytes: first.block_bytes,
        inflight_bytes_max: to_u64(Config::default().inflight_bytes_max),
        first_lsn: first.base_lsn,
        first_segment: first.segment,
        cut: Cut::default(),
        restore: Restore::default(),
        truncations: Truncations::default(),
        first_epoch: None,
        age_horizon_ms: 0,
        cell: Vec::new(),
    })
}

/// The header of a segment file, if it has one of its own.
fn header_of(disk: &dyn Disk, number: u64) -> io::Result<Option<SegmentHeader>> {
    let file = PatientFile::new(disk.open(&file_name(number), Access::Read)?, KEEP_BLOCK_BYTES);
    // As long as any block is.
    let mut block = Aligned::zeroed(64 << 10);
    let filled = file.read_direct_at(&mut block, 0)?;
    let header = SegmentHeader::decode(&block[..filled]).ok();
    Ok(header.filter(|header| header.segment == number))
}

/// The newest epoch that a segment gives evidence of.
fn newest_epoch(disk: &dyn Disk, header: &SegmentHeader) -> io::Result<Epoch> {
    let file = disk.open(&file_name(header.segment), Access::Read)?;
    let trailer = read_trailer(&*file, header.segment_bytes, header.block_bytes)?;
    if let Some(trailer) = trailer.filter(|trailer| trailer.segment == header.segment) {
        return Ok(trailer.last_epoch);
    }
    let file: Source = Arc::new(PatientFile::new(file, KEEP_BLOCK_BYTES));
    let chain = Chain::at_segment(header, Cut::default());
    let mut window = Window::new(file, true);
    let (mut newest, mut offset) = (header.epoch, u64::from(header.block_bytes));
    while offset < chain.data_end {
        if let Some(batch) = chain.recognize(window.get(offset, HEADER_BYTES)?, offset) {
            newest = newest.max(batch.epoch);
        }
        offset += u64::from(header.block_bytes);
    }
    Ok(newest)
}
