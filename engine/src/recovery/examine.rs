//! Looking at a directory: which segments there are, where the chain of batches ends, and what
//! evidence there is about that place. Reads only, past the page cache.
//!
//! Owns [`examine`]. Sealed segments are taken from the engine's checkpoint or, behind it, by their
//! header and footer, two reads each; only the segments behind the last sealed one are scanned.
//!
//! Bounds: one window of memory; every length is checked before it is used.

mod epochs;
mod unreadable;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use super::TailFacts;
use crate::checkpoint::{self, Table};
use crate::disk::{Access, Aligned, Disk, DiskFile, Entry, EntryKind};
use crate::epochs::EpochHistory;
use crate::error::{Corruption, IoFailure, OpenError, is_of_the_file};
use crate::format::batch::{BatchHeader, HEADER_BYTES};
use crate::format::bytes::to_usize;
use crate::format::segment::{SegmentHeader, Trailer, file_name, parse_file_name};
use crate::format::segment_bytes_are_possible;
use crate::format::superblock::Superblock;
use crate::format::table::TableEntry;
use crate::format::version::Fault;
use crate::format::watermark::Watermark;
use crate::parity::{MendedFile, Parity};
use crate::read::{ScanEnd, Window};
use crate::segments::{Extent, Segment};
use crate::wal::index::Index;
use crate::wal::scan::Chain;
use crate::{Epoch, Lsn};

/// How much of a segment that nobody seems to have started is searched for batches.
const SEARCH_BYTES: u64 = 1 << 20;

/// What is in the directory.
#[derive(Debug)]
pub(crate) struct Examined {
    /// The segments of the log, oldest first.
    pub(crate) segments: Vec<Segment>,
    /// The epochs that begin in them, and the one that the first of them goes on with.
    pub(crate) epochs: EpochHistory,
    /// What comes after the last batch.
    pub(crate) end: Chain,
    /// Damage that ends the examination before the tail was reached.
    pub(crate) corruption: Option<Corruption>,
    /// The highest `durable_lsn` in any batch of the log that was scanned.
    pub(crate) newest_durable_lsn: Lsn,
    /// The tail, for the decision table.
    pub(crate) facts: TailFacts,
    /// Blocks (segment, offset) behind the end that a batch or header of this log starts in, and blocks
    /// that an earlier cut made void: what a cut has to zero.
    pub(crate) remains: Vec<(u64, u64)>,
    /// Blocks (segment, offset) behind the end that cannot be read: in an unused segment, or else among
    /// `remains`.
    pub(crate) unreadable: Vec<(u64, u64)>,
    /// Segment files that are older than the oldest segment kept.
    pub(crate) trimmed: Vec<u64>,
    /// Segment files behind the last segment of the log.
    pub(crate) unused: Vec<u64>,
    /// Segments taken from the engine's checkpoint, without looking at their files.
    pub(crate) segments_listed: u64,
    pub(crate) segments_scanned: u64,
    pub(crate) batches_scanned: u64,
    pub(crate) notes: Vec<String>,
}

struct Examiner<'a> {
    disk: &'a dyn Disk,
    superblock: &'a Superblock,
    access: Access,
    files: BTreeMap<u64, u64>,
    found: Examined,
    /// A segment in which a newer version was at work.
    newer: Option<(u64, u16)>,
    /// The last file behind the end that was started, and not given up by a cut.
    started: Option<u64>,
}

/// Looks at the log behind `superblock`; `access` is what the segments that are not sealed are opened
/// for.
pub(crate) fn examine(
    disk: &dyn Disk,
    superblock: &Superblock,
    watermark: Option<&Watermark>,
    entries: &[Entry],
    access: Access,
) -> Result<Examined, OpenError> {
    let mut files = BTreeMap::new();
    for entry in entries {
        let Some(number) = parse_file_name(&entry.name) else { continue };
        let EntryKind::File(bytes) = entry.kind else {
            return Err(OpenError::NotAFile(entry.name.clone()));
        };
        files.insert(number, bytes);
    }
    let mut table = checkpoint::newest_table(disk, entries, superblock)
        .map_err(|error| IoFailure::new("read", "the checkpoints", error))?;
    let evidence = evidence(superblock, watermark).max(table.evidence_lsn);
    // What has to be appended again comes behind everything that was kept.
    let kept = if superblock.restore.end_lsn > Lsn::NONE { superblock.cut.lsn } else { Lsn::NONE };
    let evidence = evidence.max(kept);
    let mut found = nothing_found(superblock, evidence);
    found.notes = std::mem::take(&mut table.notes);
    let mut examiner =
        Examiner { disk, superblock, access, files, found, newer: None, started: None };
    examiner.run(table)?;
    match examiner.newer {
        Some((segment, version)) => Err(OpenError::Version { file: file_name(segment), version }),
        None => Ok(examiner.found),
    }
}

/// What the watermark proves, unless a cut has overtaken it.
pub(crate) fn evidence(superblock: &Superblock, watermark: Option<&Watermark>) -> Lsn {
    let Some(watermark) = watermark.filter(|w| w.log_id == superblock.log_id) else {
        return Lsn::NONE;
    };
    let cut = superblock.cut;
    if cut.voids_state(watermark.durable_lsn, watermark.epoch) {
        cut.lsn
    } else {
        watermark.durable_lsn
    }
}

fn nothing_found(superblock: &Superblock, evidence_lsn: Lsn) -> Examined {
    let end = Chain {
        log_id: superblock.log_id,
        cut: superblock.cut,
        segment: superblock.first_segment - 1,
        offset: 0,
        data_end: 0,
        block_bytes: superblock.block_bytes,
        lsn: superblock.first_lsn,
        checksum: Some(0),
        epoch: Epoch::NONE,
        time_ms: 0,
    };
    let facts = TailFacts {
        segment: superblock.first_segment,
        offset: 0,
        lsn: superblock.first_lsn,
        fault: None,
        suspect: None,
        evidence_lsn,
        recognized: 0,
        farthest_bytes: 0,
        inflight_bytes_max: superblock.inflight_bytes_max,
    };
    Examined {
        segments: Vec::new(),
        epochs: EpochHistory::default(),
        end,
        corruption: None,
        newest_durable_lsn: Lsn::NONE,
        facts,
        remains: Vec::new(),
        unreadable: Vec::new(),
        trimmed: Vec::new(),
        unused: Vec::new(),
        segments_listed: 0,
        segments_scanned: 0,
        batches_scanned: 0,
        notes: Vec::new(),
    }
}

impl Examiner<'_> {
    fn run(&mut self, table: Table) -> Result<(), IoFailure> {
        let first = self.superblock.first_segment;
        let kept = self.files.split_off(&first);
        self.found.trimmed = std::mem::replace(&mut self.files, kept).into_keys().collect();
        let mut number = first;
        let mut fault = None;
        let mut stopped = None;
        self.take_table(table);
        number += self.found.segments.len() as u64;
        while let Some(bytes) = self.files.get(&number).copied() {
            match self.take_segment(number, bytes) {
                Ok(Taken::Sealed) => {}
                Ok(Taken::Scanned(end)) => fault = Some(end),
                Ok(Taken::NotStarted(why)) => {
                    stopped = Some((number, why));
                    break;
                }
                Err(error) => self.unreadable(number, error)?,
            }
            if self.found.corruption.is_some() {
                return Ok(());
            }
            number += 1;
        }
        self.note_newer(stopped, fault);
        if let Err(error) = self.look_behind_the_end(number, fault, stopped) {
            self.unreadable(self.found.end.segment, error)?;
        }
        self.pass_over_unreadable()?;
        let missing = !self.files.contains_key(&number) && !self.found.unused.is_empty();
        let started = self.started > Some(number);
        let evidence = self.found.facts.evidence_lsn > self.found.end.lsn;
        if missing && (started || evidence) && self.found.corruption.is_none() {
            self.damaged(number, Fault::Missing);
        }
        Ok(())
    }

    /// Takes the segments that the engine's checkpoint lists, without looking at their files. The first
    /// that is missing, or has another length, ends that: the others are looked at one by one.
    fn take_table(&mut self, table: Table) {
        let first = self.superblock.first_segment;
        for entry in table.entries.into_iter().skip_while(|entry| entry.header.segment < first) {
            let header = &entry.header;
            let is_there = self.files.get(&header.segment) == Some(&header.segment_bytes);
            let is_void = self.superblock.cut.voids_trailer(&entry.trailer);
            if !is_there || is_void || !self.continues_in(header) {
                break;
            }
            self.take_sealed(entry);
            self.found.segments_listed += 1;
        }
        let end_segment = first + self.found.segments_listed;
        let Superblock { cut, first_epoch, .. } = *self.superblock;
        self.found.epochs = EpochHistory::of_table(first_epoch, table.epochs, end_segment, cut);
        self.found.epochs.trim(self.superblock.first_lsn, first);
    }

    /// Whoever only looks goes on, and reports it; an open that could not read says so, and so does a
    /// look that failed for a reason of its own.
    fn unreadable(&mut self, segment: u64, error: io::Error) -> Result<(), IoFailure> {
        if self.access == Access::Write || !is_of_the_file(&error) {
            return Err(IoFailure::new("read", &file_name(segment), error));
        }
        self.damaged(segment, Fault::Unreadable);
        Ok(())
    }

    fn note_newer(&mut self, stopped: Option<(u64, Fault)>, end: Option<ScanEnd>) {
        self.newer = match (stopped, end) {
            (Some((segment, Fault::Version(version))), _) => Some((segment, version)),
            (_, Some(ScanEnd::Fault(Fault::Version(version)))) => {
                Some((self.found.end.segment, version))
            }
            _ => None,
        };
    }

    /// Ends the examination: what is damaged had surely been part of the log, or is not ours.
    fn damaged(&mut self, segment: u64, fault: Fault) {
        let end = &self.found.end;
        let offset = if segment == end.segment { end.offset } else { 0 };
        self.found.corruption = Some(Corruption { segment, offset, lsn: end.lsn, fault });
    }

    fn take_segment(&mut self, number: u64, bytes: u64) -> io::Result<Taken> {
        let file = self.disk.open(&file_name(number), self.access)?;
        // Of header and trailer one makes up for the other, and parity for both.
        let mut unreadable = None;
        let mut header = match read_header(&*file, self.superblock.block_bytes) {
            Err(error) if is_of_the_file(&error) => {
                unreadable = Some(error);
                Err(Fault::Unreadable)
            }
            other => other?,
        };
        let mut trailer = match read_trailer(&*file, bytes, self.superblock.block_bytes) {
            Err(error) if is_of_the_file(&error) => None,
            other => other?,
        };
        if (header.is_err() || trailer.is_none())
            && let Some(mended) = self.mended(number, bytes, &file)
        {
            header = read_header(&mended, self.superblock.block_bytes)?;
            trailer = read_trailer(&mended, bytes, self.superblock.block_bytes)?;
            self.found.notes.push(format!("segment {number}: damaged, its parity makes up for it"));
        }
        let log_id = self.superblock.log_id;
        let trailer = trailer.filter(|t| {
            t.log_id == log_id && t.segment == number && !self.superblock.cut.voids_trailer(t)
        });
        let header = match header {
            Ok(header) if header.log_id != log_id => Err(Fault::ForeignLog),
            Ok(header) if header.segment != number => Err(Fault::Misplaced),
            Ok(header) if header.segment_bytes != bytes => Err(Fault::Short),
            other => other,
        };
        let possible = segment_bytes_are_possible(bytes, self.superblock.block_bytes);
        let (header, noted) = match (header, &trailer) {
            (Ok(header), _) => (header, false),
            (Err(fault @ Fault::Version(_)), _) => return Ok(Taken::NotStarted(fault)),
            (Err(_), Some(trailer)) if possible => {
                (self.header_from(trailer, bytes, &*file)?, true)
            }
            (Err(fault), Some(_)) => return Ok(Taken::NotStarted(fault)),
            // A segment that cannot say what it is: the first place for a batch tells.
            (Err(fault), None) => match unreadable {
                Some(error) if !self.is_blank(&*file, self.superblock.block_bytes.into()) => {
                    return Err(error);
                }
                _ => return Ok(Taken::NotStarted(fault)),
            },
        };
        if !self.continues_in(&header) {
            return Ok(Taken::NotStarted(Fault::Chain));
        }
        if noted {
            let note = format!("segment {number}: damaged header, the footer makes up for it");
            self.found.notes.push(note);
        }
        let trailer = trailer.filter(|t| t.base_lsn == header.base_lsn);
        if let Some(trailer) = trailer {
            self.find_epochs(&header, &trailer, &file);
            self.take_sealed(TableEntry { header, trailer, digest: None });
            Ok(Taken::Sealed)
        } else {
            self.scan(header, file).map(Taken::Scanned)
        }
    }

    /// A segment that has parity was sealed: what it was then, if that can be had.
    fn mended(&self, number: u64, bytes: u64, file: &Arc<dyn DiskFile>) -> Option<MendedFile> {
        let parity = Parity::open(self.disk, self.superblock.log_id, number, bytes);
        let mended = MendedFile::new(Arc::clone(file), parity.ok()?.ok()?);
        let trailer = read_trailer(&mended, bytes, self.superblock.block_bytes).ok()??;
        let is_ours = trailer.segment == number && trailer.log_id == self.superblock.log_id;
        (is_ours && !self.superblock.cut.voids_trailer(&trailer)).then_some(mended)
    }

    /// The first segment kept continues whatever was trimmed.
    fn continues_in(&self, header: &SegmentHeader) -> bool {
        if self.found.segments.is_empty() {
            return header.base_lsn == self.superblock.first_lsn
                && !self.superblock.cut.voids(header.segment, 0, header.epoch);
        }
        self.found.end.continues_in(header)
    }

    /// The header that a segment must have had. What the first segment kept continues stands only in
    /// its first batch.
    fn header_from(
        &self,
        trailer: &Trailer,
        bytes: u64,
        file: &dyn DiskFile,
    ) -> io::Result<SegmentHeader> {
        let end = &self.found.end;
        let mut prev_checksum = end.checksum.unwrap_or_default();
        if self.found.segments.is_empty() {
            let block_bytes = u64::from(self.superblock.block_bytes);
            let mut block = Aligned::zeroed(to_usize(block_bytes));
            let filled = file.read_direct_at(&mut block, block_bytes)?;
            if let Ok(batch) = BatchHeader::decode(&block[..filled]) {
                prev_checksum = batch.prev_checksum;
            }
        }
        Ok(SegmentHeader {
            log_id: trailer.log_id,
            segment: trailer.segment,
            base_lsn: trailer.base_lsn,
            epoch: trailer.last_epoch,
            time_ms: trailer.first_time_ms,
            segment_bytes: bytes,
            block_bytes: self.superblock.block_bytes,
            prev_checksum,
            prev_end_offset: end.offset,
        })
    }

    fn take_sealed(&mut self, entry: TableEntry) {
        let (end, trailer) = (&mut self.found.end, &entry.trailer);
        *end = Chain::at_segment(&entry.header, self.superblock.cut);
        end.offset = trailer.end_offset;
        end.lsn = trailer.end_lsn;
        end.checksum = Some(trailer.last_checksum);
        end.epoch = trailer.last_epoch;
        end.time_ms = trailer.last_time_ms;
        // A segment is sealed when everything in it is durable.
        self.found.newest_durable_lsn = trailer.end_lsn;
        self.found.segments.push(Segment::sealed(entry));
    }

    fn scan(&mut self, header: SegmentHeader, file: Arc<dyn DiskFile>) -> io::Result<ScanEnd> {
        let before = &self.found.end;
        let mut chain = Chain::at_segment(&header, self.superblock.cut);
        (chain.epoch, chain.time_ms) = (before.epoch, before.time_ms);
        let mut extent = Extent::empty(&header);
        let mut index = Index::default();
        let mut window = Window::new(Arc::clone(&file), true);
        let mut newest = self.found.newest_durable_lsn;
        let epochs = &mut self.found.epochs;
        let end = window.scan(&mut chain, |batch, bytes| {
            newest = newest.max(batch.durable_lsn);
            if batch.record_count > 0 {
                index.note(batch.base_lsn, batch.offset, batch.time_ms);
            } else {
                epochs.note(batch, bytes);
            }
            extent.extend(batch);
        })?;
        self.found.newest_durable_lsn = newest;
        self.found.segments_scanned += 1;
        self.found.batches_scanned += extent.batch_count;
        self.found.end = chain;
        self.found.segments.push(Segment::unsealed(header, file, extent, index));
        Ok(end)
    }

    /// Collects what the decision table needs about the end, which is in the last segment taken;
    /// `next` is the first file that was not taken.
    fn look_behind_the_end(
        &mut self,
        next: u64,
        end: Option<ScanEnd>,
        stopped: Option<(u64, Fault)>,
    ) -> io::Result<()> {
        let chain = self.found.end.clone();
        let facts = &mut self.found.facts;
        facts.lsn = chain.lsn;
        facts.fault = match end {
            Some(ScanEnd::Fault(fault)) => Some(fault),
            _ => None,
        };
        if let Some(last) = self.found.segments.last() {
            (facts.segment, facts.offset) = (chain.segment, chain.offset);
            if let Some(file) = last.writer() {
                // Twice the window: what is on its way reaches through one, and a batch that proves
                // the end durable starts in the other.
                let window = facts.inflight_bytes_max.saturating_mul(2);
                let to = chain.offset.saturating_add(window).min(chain.data_end);
                self.search(&chain, &file, chain.offset, to, 0)?;
            }
        }
        let recognized_here = self.found.facts.recognized;
        let mut before = 0;
        let mut previous = (chain.segment, chain.offset);
        for number in self.files.range(next..).map(|(n, _)| *n).collect::<Vec<_>>() {
            before = self.search_unused(&chain, number, before, previous)?;
            previous = (number, u64::from(chain.block_bytes));
            self.found.unused.push(number);
        }
        // A prepared segment starts with a block of zeros.
        let facts = &mut self.found.facts;
        let suspect = |(_, why): &(u64, Fault)| *why != Fault::Magic || facts.recognized > 0;
        facts.suspect = stopped.filter(|s| recognized_here == 0 && suspect(s));
        Ok(())
    }

    /// Searches a segment file behind the end. `before` is the least number of bytes between the end
    /// and `previous`, a place in an earlier segment; the answer is that up to this segment. Where a
    /// segment was left is known only from the header of the next.
    fn search_unused(
        &mut self,
        end: &Chain,
        number: u64,
        before: u64,
        previous: (u64, u64),
    ) -> io::Result<u64> {
        let file = self.disk.open(&file_name(number), self.access)?;
        let header = match read_header(&*file, end.block_bytes) {
            Err(error) if is_of_the_file(&error) => {
                self.found.unreadable.push((number, 0));
                None
            }
            other => other?.ok(),
        };
        if header.as_ref().is_some_and(|header| header.log_id != end.log_id) {
            self.damaged(number, Fault::ForeignLog);
        }
        let own = header.filter(|h| h.log_id == end.log_id && h.segment == number);
        let mut chain = Chain { segment: number, ..end.clone() };
        chain.data_end = file.len()?;
        let mut limit = chain.data_end.min(SEARCH_BYTES);
        let mut before = before;
        if let Some(header) = own {
            let window = self.found.facts.inflight_bytes_max.saturating_mul(2);
            limit = window.min(chain.data_end);
            if number == previous.0 + 1 {
                before += header.prev_end_offset.saturating_sub(previous.1);
            }
            self.found.remains.push((number, 0));
            if !end.cut.voids(number, 0, header.epoch) {
                self.started = self.started.max(Some(number));
                self.recognize(end.lsn, before);
            }
        }
        self.search(&chain, &file, u64::from(end.block_bytes), limit, before)?;
        Ok(before)
    }

    /// What a batch that was recognized behind the end says was durable on this disk when it was closed:
    /// only its writer knew.
    fn evidence_of(&self, batch: &BatchHeader) -> Lsn {
        let superblock = self.superblock;
        if superblock.promised_to.node == 0 {
            return batch.durable_lsn;
        }
        let leads = match self.found.epochs.find(batch.epoch) {
            Some(started) => started.start.incarnation == superblock.incarnation,
            None => {
                batch.epoch == superblock.promised_epoch
                    && superblock.promised_to.incarnation == superblock.incarnation
            }
        };
        if leads { batch.durable_lsn } else { Lsn::NONE }
    }

    fn recognize(&mut self, durable_lsn: Lsn, distance: u64) {
        let facts = &mut self.found.facts;
        facts.recognized += 1;
        facts.evidence_lsn = facts.evidence_lsn.max(durable_lsn);
        facts.farthest_bytes = facts.farthest_bytes.max(distance);
    }

    /// Looks at every block from `from` to `to` for a batch that belongs there. A batch `offset` bytes
    /// into the range is `before` plus that many bytes behind the end of the log.
    fn search(
        &mut self,
        chain: &Chain,
        file: &Arc<dyn DiskFile>,
        from: u64,
        to: u64,
        before: u64,
    ) -> io::Result<()> {
        let mut window = Window::new(Arc::clone(file), true);
        let uncut = Chain { cut: Default::default(), ..chain.clone() };
        let step = u64::from(chain.block_bytes);
        let mut offset = from;
        while offset + step <= to {
            let bytes = match window.get(offset, to_usize(step)) {
                Err(error) if is_of_the_file(&error) => {
                    self.found.unreadable.push((chain.segment, offset));
                    offset += step;
                    continue;
                }
                other => other?,
            };
            if bytes.len() < HEADER_BYTES {
                break;
            }
            if let Some(batch) = uncut.recognize(bytes, offset) {
                self.found.remains.push((chain.segment, offset));
                if !chain.cut.voids(batch.segment, batch.offset, batch.epoch) {
                    self.started = self.started.max(Some(chain.segment));
                    self.recognize(self.evidence_of(&batch), before + (offset - from));
                }
            }
            offset += step;
        }
        Ok(())
    }
}

enum Taken {
    Sealed,
    Scanned(ScanEnd),
    /// The file is no segment of the log, or not yet.
    NotStarted(Fault),
}

/// Reads the header of a segment from the medium.
pub(crate) fn read_header(
    file: &dyn DiskFile,
    block_bytes: u32,
) -> io::Result<Result<SegmentHeader, Fault>> {
    let mut block = Aligned::zeroed(to_usize(u64::from(block_bytes)));
    let filled = file.read_direct_at(&mut block, 0)?;
    Ok(SegmentHeader::decode(&block[..filled]))
}

/// Reads the trailer of a segment of `bytes` bytes from the medium; `None` when there is no valid one.
pub(crate) fn read_trailer(
    file: &dyn DiskFile,
    bytes: u64,
    block_bytes: u32,
) -> io::Result<Option<Trailer>> {
    let block_bytes = u64::from(block_bytes);
    if bytes < block_bytes || !bytes.is_multiple_of(block_bytes) {
        return Ok(None);
    }
    let mut block = Aligned::zeroed(to_usize(block_bytes));
    let filled = file.read_direct_at(&mut block, bytes - block_bytes)?;
    Ok(Trailer::decode(&block[..filled]).ok().filter(|t| t.end_offset <= bytes))
}
