//! Reading everything and changing nothing.
//!
//! Owns [`verify`]: every batch of every segment, past the page cache, with its checksums, its chain and
//! its address; the footers against what they say of the batches; and the verdict that recovery would
//! give. Damage does not stop it: it goes on behind it as far as it can.
//!
//! Bounds: one window of memory.

use std::path::Path;
use std::sync::Arc;

use crate::checkpoint::CheckpointReader;
use crate::disk::{Access, BackendChoice, Disk, DiskFile, Entry, EntryKind, OsDisk};
use crate::error::{Corruption, IoFailure, OpenError, is_of_the_file};
use crate::fork;
use crate::format::parity::DigestWriter;
use crate::format::segment::{Trailer, file_name};
use crate::format::superblock::{Cut, Superblock};
use crate::format::table::Digest;
use crate::format::version::Fault;
use crate::names::{Name, classify};
use crate::parity::Parity;
use crate::read::{Look, look, not_found, superblock_of};
use crate::read::{ScanEnd, Window};
use crate::recovery::{Verdict, read_header, read_trailer};
use crate::segments::{Extent, Segment, read_index};
use crate::wal::scan::Chain;
use crate::{Lsn, LsnRange, superblock};

/// What [`verify`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifyReport {
    /// What recovery would say about the end of the log. While a writer lives, a torn tail is only a
    /// write on its way.
    pub verdict: Verdict,
    /// The oldest record kept.
    pub first_lsn: Lsn,
    /// The LSN after the last record that is whole.
    pub end_lsn: Lsn,
    /// Segments of the log.
    pub segments: u64,
    /// Whole batches.
    pub batches: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Every damaged place, apart from the verdict's. Of a segment with parity, readers may see none of
    /// it: see `notes`.
    pub damage: Vec<Corruption>,
    /// Checkpoint files, the engine's and the embedder's.
    pub checkpoints: u64,
    /// Parity files.
    pub parity_files: u64,
    /// Files of records that truncations gave up. A damaged one harms nothing else: remove it.
    pub forks: u64,
    /// Checkpoint and parity files that are damaged. An older checkpoint serves, and parity is made
    /// again by the scrub of an open log.
    pub damaged_files: Vec<DamagedFile>,
    /// Records that an earlier repair gave up.
    pub lost: Vec<LsnRange>,
    /// Names in the directory that are not the log's.
    pub foreign: Vec<String>,
    /// What else deserves a look.
    pub notes: Vec<String>,
    /// Whether a writer had the log open.
    pub writer_lives: bool,
}

/// A file beside the segments that is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedFile {
    /// Its name.
    pub name: String,
    /// What is wrong with it.
    pub fault: Fault,
}

impl VerifyReport {
    /// Whether everything that had been durable is whole, but for what a repair gave up.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        let torn_at_worst = matches!(self.verdict, Verdict::Clean | Verdict::TornTail { .. });
        torn_at_worst && self.damage.is_empty() && self.damaged_files.is_empty()
    }
}

/// Verifies the log in a directory; `progress` gets the bytes done and the bytes in all.
///
/// # Errors
/// When there is no log, or nobody can tell what was promised. Damage is in the report.
pub fn verify(
    directory: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<VerifyReport, OpenError> {
    let disk = OsDisk::open(directory, false, BackendChoice::Blocking)
        .map_err(|error| not_found(directory, error))?;
    verify_on(&disk, progress)
}

/// Verifies the log on a disk; see [`verify`].
///
/// # Errors
/// As for [`verify`].
pub fn verify_on(
    disk: &dyn Disk,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<VerifyReport, OpenError> {
    let Look { superblock, entries, found, verdict, writer_lives } = look(disk)?;
    let foreign = entries.iter().filter(|e| classify(&e.name) == Name::Foreign);
    let mut report = VerifyReport {
        verdict,
        first_lsn: found.segments.first().map_or(found.end.lsn, |s| s.header.base_lsn),
        end_lsn: found.end.lsn,
        segments: found.segments.len() as u64,
        batches: 0,
        records: 0,
        bytes: 0,
        damage: Vec::new(),
        checkpoints: 0,
        parity_files: 0,
        forks: 0,
        damaged_files: Vec::new(),
        lost: Vec::new(),
        foreign: foreign.map(|entry| entry.name.clone()).collect(),
        notes: found.notes,
        writer_lives,
    };
    note_superblock(disk, &mut report)?;
    let total: u64 = found.segments.iter().map(|s| s.extent().end_offset).sum();
    let mut done = 0;
    for segment in &found.segments {
        let verified = verify_segment(disk, segment, superblock.cut, &mut report, &mut |bytes| {
            progress(done + bytes, total);
        });
        if writer_lives && superblock_of(disk)?.first_segment > segment.number() {
            // Whatever was seen of it, its file may have become another one.
            report.damage.retain(|damage| damage.segment != segment.number());
            report.notes.push(format!("segment {}: dropped meanwhile", segment.number()));
        } else if let Err(error) = verified {
            let (number, lsn) = (segment.number(), segment.header.base_lsn);
            if !is_of_the_file(&error) {
                return Err(IoFailure::new("read", &file_name(number), error).into());
            }
            let fault = Fault::Unreadable;
            report.damage.push(Corruption { segment: number, offset: 0, lsn, fault });
        }
        done += segment.extent().end_offset;
    }
    verify_files(disk, &superblock, &entries, &found.segments, &mut report)
        .map_err(|error| IoFailure::new("verify", &disk.describe(), error))?;
    verify_beyond(disk, &superblock, &entries_of(&entries), &mut report)
        .map_err(|error| IoFailure::new("verify", &disk.describe(), error))?;
    Ok(report)
}

fn entries_of(entries: &[Entry]) -> Vec<(u64, u64)> {
    let segment = |entry: &Entry| match (classify(&entry.name), entry.kind) {
        (Name::Segment(number), EntryKind::File(bytes)) => Some((number, bytes)),
        _ => None,
    };
    let mut segments: Vec<(u64, u64)> = entries.iter().filter_map(segment).collect();
    segments.sort_unstable();
    segments
}

fn note_superblock(disk: &dyn Disk, report: &mut VerifyReport) -> Result<(), OpenError> {
    let failed = |error| IoFailure::new("read", superblock::FILE_NAME, error);
    let file = disk.open(superblock::FILE_NAME, Access::Read).map_err(failed)?;
    for (number, copy) in superblock::read_copies(&*file).map_err(failed)?.iter().enumerate() {
        if let Err(fault) = copy {
            report.notes.push(format!("superblock copy {number}: {fault}; the other one serves"));
        }
    }
    Ok(())
}

/// Reads every batch of a segment, and compares its footer with them.
fn verify_segment(
    disk: &dyn Disk,
    segment: &Segment,
    cut: Cut,
    report: &mut VerifyReport,
    progress: &mut dyn FnMut(u64),
) -> std::io::Result<()> {
    let file = segment.file(disk)?;
    let mut window = Window::new(Arc::clone(&file), true);
    let mut chain = Chain::at_segment(&segment.header, cut);
    let mut extent = Extent::empty(&segment.header);
    let mut digest = DigestWriter::new();
    let end = window.scan(&mut chain, |batch, bytes| {
        extent.extend(batch);
        // Lengths inside of a whole batch are right, unless its writer was wrong.
        let _ = digest.add(batch, bytes);
        report.lost.extend(batch.lost.map(|lost| batch.base_lsn..lost.end_lsn));
        report.batches += 1;
        report.records += u64::from(batch.record_count);
        report.bytes += u64::from(batch.length);
        progress(batch.end_offset());
    })?;
    let expected = segment.extent();
    if chain.offset < expected.end_offset {
        let fault = match end {
            ScanEnd::Fault(fault) => fault,
            ScanEnd::Full => Fault::Short,
        };
        let (number, offset) = (chain.segment, chain.offset);
        report.damage.push(Corruption { segment: number, offset, lsn: chain.lsn, fault });
    } else if segment.is_sealed() {
        check_digest(disk, segment, &digest.finish(), report)?;
    }
    note_parity(disk, segment, &file, report)?;
    let block_bytes = segment.header.block_bytes;
    let trailer = read_trailer(&*file, segment.header.segment_bytes, block_bytes)?;
    if segment.is_sealed()
        && let Some(trailer) = trailer
    {
        check_footer(&*file, segment, &trailer, extent, expected, report)?;
    }
    Ok(())
}

/// Compares the digest of the records with those that were taken when the segment was sealed.
fn check_digest(
    disk: &dyn Disk,
    segment: &Segment,
    digest: &Digest,
    report: &mut VerifyReport,
) -> std::io::Result<()> {
    let listed = segment.table_entry().and_then(|entry| entry.digest);
    let beside = match Parity::of(disk, segment) {
        Ok(Ok(parity)) => Some(parity.digest()),
        Ok(Err(_)) => None,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    if [listed, beside].iter().flatten().any(|known| known != digest) {
        let (number, lsn) = (segment.number(), segment.header.base_lsn);
        let fault = Fault::Digest;
        report.damage.push(Corruption { segment: number, offset: 0, lsn, fault });
    }
    Ok(())
}

/// Says of a damaged segment whether parity makes up for it.
fn note_parity(
    disk: &dyn Disk,
    segment: &Segment,
    file: &Arc<dyn DiskFile>,
    report: &mut VerifyReport,
) -> std::io::Result<()> {
    let number = segment.number();
    if !report.damage.iter().any(|damage| damage.segment == number) {
        return Ok(());
    }
    if let Ok(Ok(parity)) = Parity::of(disk, segment)
        && parity.can_mend(&**file)?
    {
        report.notes.push(format!(
            "segment {number}: parity makes up for the damage; the scrub of an open log, or repair, \
             mends it"
        ));
    }
    Ok(())
}

/// Reads checkpoints, parity files and forks.
fn verify_files(
    disk: &dyn Disk,
    superblock: &Superblock,
    entries: &[Entry],
    segments: &[Segment],
    report: &mut VerifyReport,
) -> std::io::Result<()> {
    for entry in entries {
        let fault = match classify(&entry.name) {
            Name::Checkpoint(kind, lsn) => {
                report.checkpoints += 1;
                match CheckpointReader::open(disk, kind, lsn, superblock.log_id) {
                    Ok(Ok(mut reader)) => reader.check().map(Result::err),
                    Ok(Err(fault)) => Ok(Some(fault)),
                    Err(error) => Err(error),
                }
            }
            Name::Parity(number) => {
                report.parity_files += 1;
                let mut sealed = segments.iter().filter(|segment| segment.is_sealed());
                match sealed.find(|segment| segment.number() == number) {
                    Some(segment) => Parity::of(disk, segment).map(|opened| match opened {
                        Ok(parity) if parity.is_whole() => None,
                        Ok(_) => Some(Fault::Checksum),
                        Err(fault) => Some(fault),
                    }),
                    // Left over from a segment that was dropped or cut; the next open removes it.
                    None => Ok(None),
                }
            }
            Name::Fork(lsn, epoch) => {
                report.forks += 1;
                fork::check(disk, superblock.log_id, lsn, epoch).map(Result::err)
            }
            _ => Ok(None),
        };
        let fault = match fault {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(_) => Some(Fault::Unreadable),
            Ok(fault) => fault,
        };
        let name = entry.name.clone();
        report.damaged_files.extend(fault.map(|fault| DamagedFile { name, fault }));
    }
    Ok(())
}

fn check_footer(
    file: &dyn DiskFile,
    segment: &Segment,
    trailer: &Trailer,
    found: Extent,
    expected: Extent,
    report: &mut VerifyReport,
) -> std::io::Result<()> {
    let header = &segment.header;
    let number = segment.number();
    if read_header(file, header.block_bytes)?.as_ref() != Ok(header) {
        let corruption =
            Corruption { segment: number, offset: 0, lsn: header.base_lsn, fault: Fault::Checksum };
        report.damage.push(corruption);
    }
    if read_index(file, header, trailer)?.is_none() {
        let offset = header.data_end();
        let (lsn, fault) = (trailer.end_lsn, Fault::Checksum);
        report.damage.push(Corruption { segment: number, offset, lsn, fault });
    }
    if found.end_offset == expected.end_offset && found != expected {
        let offset = header.segment_bytes - u64::from(header.block_bytes);
        let (lsn, fault) = (trailer.end_lsn, Fault::Field);
        report.damage.push(Corruption { segment: number, offset, lsn, fault });
    }
    Ok(())
}

/// Behind damage that ended the examination, segments that are whole in themselves are counted, so that
/// the report says what is left.
fn verify_beyond(
    disk: &dyn Disk,
    superblock: &Superblock,
    files: &[(u64, u64)],
    report: &mut VerifyReport,
) -> std::io::Result<()> {
    let Verdict::Damaged(corruption) = &report.verdict else { return Ok(()) };
    let damaged = corruption.segment;
    for (number, bytes) in files.iter().filter(|(number, _)| *number > damaged) {
        let file = disk.open(&file_name(*number), Access::Read)?;
        let Ok(header) = read_header(&*file, superblock.block_bytes)? else { continue };
        let own = header.log_id == superblock.log_id && header.segment == *number;
        if !own || header.segment_bytes != *bytes {
            continue;
        }
        let mut chain = Chain::at_segment(&header, superblock.cut);
        let mut window = Window::new(file, true);
        let mut records = 0;
        window.scan(&mut chain, |batch, _| records += u64::from(batch.record_count))?;
        report.notes.push(format!(
            "segment {number}, behind the damage, holds {records} whole records, LSN {} to {}",
            header.base_lsn, chain.lsn
        ));
    }
    Ok(())
}
