//! Finding everything that is whole in a damaged log.
//!
//! Owns the walk over segments that does not stop at damage: what is whole stays where it is, and what is
//! not becomes a lost range between two whole places. Reads only, past the page cache, with the help of
//! parity where there is some. What is then written: `repair::rebuild`.
//!
//! Invariants
//!  U1. Pieces of a segment are in order, do not overlap, and lead from its first LSN to its end without
//!      a gap: what is not whole is in a lost range.               asserted in `Walk::push`
//!
//! Bounds: one window, and one entry for each damaged place.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use crate::disk::{Access, Disk, DiskFile};
use crate::format::batch::{BatchHeader, HEADER_BYTES, Lost};
use crate::format::bytes::to_usize;
use crate::format::segment::{SegmentHeader, Trailer, file_name};
use crate::format::segment_bytes_are_possible;
use crate::format::superblock::{Cut, Superblock};
use crate::parity::{MendedFile, Parity};
use crate::read::{PatientFile, Window};
use crate::recovery::{read_header, read_trailer};
use crate::segments::read_index;
use crate::wal::scan::Chain;
use crate::{Config, Epoch, Lsn};

/// A part of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// Whole batches from one offset up to another.
    Whole { from: u64, to: u64 },
    /// Records from `base_lsn` on are lost; what stands for them starts at `from`.
    Lost { from: u64, base_lsn: Lsn, lost: Lost },
}

/// A segment as it can be had.
#[derive(Debug)]
pub(crate) struct Surveyed {
    pub(crate) header: SegmentHeader,
    /// Where its whole bytes come from; `None` when the file is missing or not this segment's.
    pub(crate) source: Option<Arc<dyn DiskFile>>,
    /// Whether the bytes on the medium are not those of the source: parity makes up for them.
    pub(crate) is_mended: bool,
    /// Whether header or trailer on the medium are damaged.
    pub(crate) has_damaged_ends: bool,
    pub(crate) is_sealed: bool,
    pub(crate) pieces: Vec<Piece>,
    /// What comes next.
    pub(crate) end: Chain,
}

impl Surveyed {
    pub(crate) fn lost(&self) -> impl Iterator<Item = (&u64, &Lsn, &Lost)> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Lost { from, base_lsn, lost } => Some((from, base_lsn, lost)),
            Piece::Whole { .. } => None,
        })
    }
}

/// One segment file, opened for a survey.
struct Opened {
    source: Arc<dyn DiskFile>,
    header: Option<SegmentHeader>,
    /// There is one when the segment is sealed.
    trailer: Option<Trailer>,
    is_mended: bool,
    has_damaged_ends: bool,
}

/// What a survey goes by.
pub(crate) struct Survey<'a> {
    pub(crate) disk: &'a dyn Disk,
    pub(crate) superblock: &'a Superblock,
    /// Segment files and their lengths.
    pub(crate) files: &'a BTreeMap<u64, u64>,
    /// Everything below it had been durable.
    pub(crate) evidence_lsn: Lsn,
    /// Whether what lies behind the first fault of the last segment is looked at: not when recovery
    /// calls it a torn tail, which it cuts off itself.
    pub(crate) searches_the_tail: bool,
    /// Whether recovery calls the tail damaged: then whatever was begun behind its end is lost.
    pub(crate) is_damaged: bool,
}

impl Survey<'_> {
    /// Every segment of the log, oldest first. The error is why the log cannot be repaired.
    pub(crate) fn run(&self) -> io::Result<Result<Vec<Surveyed>, String>> {
        let first = self.superblock.first_segment;
        let opened = self.open_all(first)?;
        let last = opened.keys().next_back().copied().unwrap_or(first - 1);
        let mut surveyed: Vec<Surveyed> = Vec::new();
        for number in first..=last {
            let before = surveyed.last().map(|segment| segment.end.clone());
            let next = opened.get(&(number + 1)).and_then(|opened| opened.header.clone());
            let segment = match opened.get(&number) {
                Some(opened) => {
                    self.survey(number, opened, before, number == last, next.as_ref())?
                }
                None => self.missing(number, before, next.as_ref()),
            };
            match segment {
                Ok(segment) => surveyed.push(segment),
                Err(reason) => return Ok(Err(reason)),
            }
        }
        let before = surveyed.last().map(|segment| segment.end.clone());
        let end_lsn = before.as_ref().map_or(self.superblock.first_lsn, |chain| chain.lsn);
        if self.evidence_lsn > end_lsn {
            let known = surveyed.last().map(|segment| segment.header.segment_bytes);
            match self.lost_at_the_end(last + 1, before.as_ref(), known) {
                Ok(segment) => surveyed.push(segment),
                Err(reason) => return Ok(Err(reason)),
            }
        }
        Ok(Ok(surveyed))
    }

    /// A segment that stands for the records that had been durable behind everything that is left.
    fn lost_at_the_end(
        &self,
        number: u64,
        before: Option<&Chain>,
        segment_bytes: Option<u64>,
    ) -> Result<Surveyed, String> {
        let block_bytes = self.superblock.block_bytes;
        let possible = |bytes: &u64| segment_bytes_are_possible(*bytes, block_bytes);
        let like_others = self.files.values().copied().filter(possible).max();
        let segment_bytes =
            segment_bytes.or(like_others).unwrap_or(Config::default().segment_bytes);
        let header = self
            .derived_header(number, before, segment_bytes)
            .ok_or_else(|| format!("segment {number}: nothing says where it starts"))?;
        let mut walk = Walk::at(&header, self.superblock.cut);
        (walk.chain.epoch, walk.chain.time_ms) = (header.epoch, header.time_ms);
        let link = walk.chain.checksum.unwrap_or_default();
        walk.reach(self.evidence_lsn, None, link)?;
        Ok(Surveyed {
            header,
            source: None,
            is_mended: false,
            has_damaged_ends: true,
            is_sealed: false,
            pieces: walk.pieces,
            end: walk.chain,
        })
    }

    /// The segment files that hold something of this log.
    fn open_all(&self, first: u64) -> io::Result<BTreeMap<u64, Opened>> {
        let mut all = BTreeMap::new();
        for (number, bytes) in self.files.range(first..) {
            if let Some(opened) = self.open(*number, *bytes)? {
                all.insert(*number, opened);
            }
        }
        Ok(all)
    }

    fn open(&self, number: u64, bytes: u64) -> io::Result<Option<Opened>> {
        let Superblock { log_id, block_bytes, cut, .. } = *self.superblock;
        let file = self.disk.open(&file_name(number), Access::Read)?;
        let length = to_usize(u64::from(block_bytes));
        let mut source: Arc<dyn DiskFile> = Arc::new(PatientFile::new(file, length));
        let is_own = |header: &SegmentHeader| header.log_id == log_id && header.segment == number;
        let header_of = |source: &dyn DiskFile| -> io::Result<Option<SegmentHeader>> {
            Ok(read_header(source, block_bytes)?.ok().filter(is_own))
        };
        let raw_header = header_of(&*source)?;
        let segment_bytes = raw_header.as_ref().map_or(bytes, |header| header.segment_bytes);
        let mut is_mended = false;
        if let Ok(Ok(parity)) = Parity::open(self.disk, log_id, number, segment_bytes) {
            is_mended = !parity.matches(&*source)?;
            source = Arc::new(MendedFile::new(source, parity));
        }
        let header = header_of(&*source)?;
        let trailer = read_trailer(&*source, segment_bytes, block_bytes)?;
        let trailer =
            trailer.filter(|t| t.log_id == log_id && t.segment == number && !cut.voids_trailer(t));
        let is_started = header.is_some() || trailer.is_some();
        if !is_started && !self.holds_batches(number, &source)? {
            return Ok(None);
        }
        let index_is_whole = match (&header, &trailer) {
            (Some(header), Some(trailer)) => read_index(&*source, header, trailer)?.is_some(),
            _ => true,
        };
        let has_damaged_ends = raw_header.is_none() || bytes != segment_bytes || !index_is_whole;
        Ok(Some(Opened { source, header, trailer, is_mended, has_damaged_ends }))
    }

    /// Whether a file without header and trailer holds a batch of this segment.
    fn holds_batches(&self, number: u64, source: &Arc<dyn DiskFile>) -> io::Result<bool> {
        let chain = self.chain_without_header(number, source.len()?);
        Ok(next_whole(&chain, &mut Window::new(Arc::clone(source), true))?.is_some())
    }

    fn chain_without_header(&self, number: u64, data_end: u64) -> Chain {
        let Superblock { log_id, cut, block_bytes, .. } = *self.superblock;
        Chain {
            log_id,
            cut,
            segment: number,
            offset: 0,
            data_end,
            block_bytes,
            lsn: Lsn::FIRST,
            checksum: None,
            epoch: Epoch::NONE,
            time_ms: 0,
        }
    }

    fn survey(
        &self,
        number: u64,
        opened: &Opened,
        before: Option<Chain>,
        is_last: bool,
        next: Option<&SegmentHeader>,
    ) -> io::Result<Result<Surveyed, String>> {
        let header = match &opened.header {
            Some(header) => header.clone(),
            None => match self.derived_header(number, before.as_ref(), opened.source.len()?) {
                Some(mut header) => {
                    if before.is_none() {
                        header.prev_checksum = self.first_link(&opened.source)?;
                    }
                    header
                }
                None => return Ok(Err(format!("segment {number}: nothing says where it starts"))),
            },
        };
        let mut walk = Walk::at(&header, self.superblock.cut);
        let mut window = Window::new(Arc::clone(&opened.source), true);
        walk.run(&mut window, !is_last || self.searches_the_tail)?;
        // Where the next segment says that this one ends, or else its own trailer.
        let own_end =
            |trailer: &Trailer| (trailer.end_lsn, Some(trailer.end_offset), trailer.last_checksum);
        let target = next
            .map(|next| (next.base_lsn, Some(next.prev_end_offset), next.prev_checksum))
            .or(opened.trailer.as_ref().map(own_end));
        if let Some((lsn, offset, link)) = target {
            if let Err(reason) = walk.reach(lsn, offset, link) {
                return Ok(Err(format!("segment {number}: {reason}")));
            }
        } else if is_last {
            let lost_lsn = self.evidence_lsn.max(self.begun_behind(&walk.chain, &mut window)?);
            if lost_lsn > walk.chain.lsn {
                let link = walk.chain.checksum.unwrap_or_default();
                // Without room here, a segment of its own stands for them.
                let _ = walk.reach(lost_lsn, None, link);
            }
        }
        Ok(Ok(Surveyed {
            header,
            source: Some(Arc::clone(&opened.source)),
            is_mended: opened.is_mended,
            has_damaged_ends: opened.has_damaged_ends || !is_last && opened.trailer.is_none(),
            is_sealed: !is_last || opened.trailer.is_some(),
            pieces: walk.pieces,
            end: walk.chain,
        }))
    }

    /// Up to where batches of which only the header is left, behind the last whole one, say that records
    /// were durable; and where the last of them began, when something there is known to be damaged.
    fn begun_behind(&self, end: &Chain, window: &mut Window) -> io::Result<Lsn> {
        let step = u64::from(end.block_bytes);
        let mut lsn = Lsn::NONE;
        let mut offset = end.offset;
        while self.searches_the_tail && offset + step <= end.data_end {
            if let Some(header) = end.recognize(window.get(offset, HEADER_BYTES)?, offset) {
                lsn = lsn.max(header.durable_lsn);
                if self.is_damaged {
                    lsn = lsn.max(header.base_lsn);
                }
            }
            offset += step;
        }
        Ok(lsn)
    }

    /// What the first batch of the first segment kept continues: nothing else says that.
    fn first_link(&self, source: &Arc<dyn DiskFile>) -> io::Result<u32> {
        let block_bytes = u64::from(self.superblock.block_bytes);
        let mut window = Window::new(Arc::clone(source), true);
        let header = BatchHeader::decode(window.get(block_bytes, HEADER_BYTES)?);
        Ok(header.map_or(0, |header| header.prev_checksum))
    }

    /// The header that a segment must have, from what lies in front of it.
    fn derived_header(
        &self,
        number: u64,
        before: Option<&Chain>,
        segment_bytes: u64,
    ) -> Option<SegmentHeader> {
        let Superblock { log_id, block_bytes, first_lsn, .. } = *self.superblock;
        let possible = segment_bytes_are_possible(segment_bytes, block_bytes);
        let (base_lsn, prev_checksum, prev_end_offset) = match before {
            Some(chain) => (chain.lsn, chain.checksum?, chain.offset),
            None => (first_lsn, 0, 0),
        };
        let epoch = before.map_or(Epoch::new(1), |chain| chain.epoch);
        let time_ms = before.map_or(0, |chain| chain.time_ms);
        possible.then_some(SegmentHeader {
            log_id,
            segment: number,
            base_lsn,
            epoch,
            time_ms,
            segment_bytes,
            block_bytes,
            prev_checksum,
            prev_end_offset,
        })
    }

    /// A segment that is gone: all of its records are lost, up to where the next one starts.
    fn missing(
        &self,
        number: u64,
        before: Option<Chain>,
        next: Option<&SegmentHeader>,
    ) -> Result<Surveyed, String> {
        let next =
            next.ok_or_else(|| format!("segments from {number} on: nothing says where they end"))?;
        let header = self
            .derived_header(number, before.as_ref(), next.segment_bytes)
            .ok_or_else(|| format!("segment {number}: nothing says where it starts"))?;
        let mut walk = Walk::at(&header, self.superblock.cut);
        (walk.chain.epoch, walk.chain.time_ms) = (header.epoch, header.time_ms);
        walk.reach(next.base_lsn, Some(next.prev_end_offset), next.prev_checksum)?;
        Ok(Surveyed {
            header,
            source: None,
            is_mended: false,
            has_damaged_ends: true,
            is_sealed: true,
            pieces: walk.pieces,
            end: walk.chain,
        })
    }
}

/// The walk over one segment.
struct Walk {
    chain: Chain,
    pieces: Vec<Piece>,
}

impl Walk {
    fn at(header: &SegmentHeader, cut: Cut) -> Walk {
        Walk { chain: Chain::at_segment(header, cut), pieces: Vec::new() }
    }

    fn run(&mut self, window: &mut Window, passes_damage: bool) -> io::Result<()> {
        loop {
            while let Ok((header, _)) = window.next_batch(&self.chain)? {
                let from = self.chain.offset;
                self.chain.advance(&header);
                self.push_whole(from, self.chain.offset);
            }
            if !passes_damage {
                return Ok(());
            }
            let Some((offset, header)) = next_whole(&self.chain, window)? else { return Ok(()) };
            let lost =
                Lost { end_lsn: header.base_lsn, end_offset: offset, link: header.prev_checksum };
            self.push_lost(lost);
        }
    }

    fn push_whole(&mut self, from: u64, to: u64) {
        match self.pieces.last_mut() {
            Some(Piece::Whole { to: end, .. }) if *end == from => *end = to,
            _ => self.pieces.push(Piece::Whole { from, to }),
        }
    }

    fn push_lost(&mut self, lost: Lost) {
        let (from, base_lsn) = (self.chain.offset, self.chain.lsn);
        assert!(lost.end_offset > from && lost.end_lsn >= base_lsn, "a walk goes forward");
        self.pieces.push(Piece::Lost { from, base_lsn, lost });
        self.chain.offset = lost.end_offset;
        self.chain.lsn = lost.end_lsn;
        self.chain.checksum = Some(lost.link);
    }

    /// Leads to where the log goes on; what is missing up to there is lost.
    fn reach(&mut self, lsn: Lsn, offset: Option<u64>, link: u32) -> Result<(), String> {
        let chain = &self.chain;
        let is_there = chain.lsn == lsn
            && offset.is_none_or(|offset| offset == chain.offset)
            && chain.checksum.is_none_or(|checksum| checksum == link);
        if is_there {
            return Ok(());
        }
        let end_offset = offset.unwrap_or(chain.offset + u64::from(chain.block_bytes));
        let has_room = end_offset >= chain.offset + u64::from(chain.block_bytes)
            && chain.offset + u64::from(chain.block_bytes) <= chain.data_end
            && end_offset <= chain.data_end;
        if !has_room || lsn < chain.lsn {
            return Err(format!(
                "what is whole ends at offset {} with LSN {} and does not lead on to LSN {lsn}",
                chain.offset, chain.lsn
            ));
        }
        self.push_lost(Lost { end_lsn: lsn, end_offset, link });
        Ok(())
    }
}

/// The next whole batch that belongs behind the place of the chain.
fn next_whole(chain: &Chain, window: &mut Window) -> io::Result<Option<(u64, BatchHeader)>> {
    let step = u64::from(chain.block_bytes);
    let mut offset = chain.offset + step;
    while offset + step <= chain.data_end {
        let bytes = window.get(offset, HEADER_BYTES)?;
        let fits = |header: &BatchHeader| {
            header.base_lsn >= chain.lsn && header.epoch >= chain.epoch && header.lost.is_none()
        };
        if let Some(header) = chain.recognize(bytes, offset).filter(fits)
            && header.bytes_end() <= chain.data_end
        {
            let batch = window.get(offset, to_usize(u64::from(header.length)))?;
            if header.body_is_whole(batch) {
                return Ok(Some((offset, header)));
            }
        }
        offset += step;
    }
    Ok(None)
}
