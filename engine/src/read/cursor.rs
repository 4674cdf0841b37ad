//! Walking the batches of one segment, each verified before it is handed out.
//!
//! Owns the position inside a segment. Sealed segments of an open log are read through their mapping,
//! without a copy; others through a window, copied out. Does not know the log's bounds (`records`).
//!
//! Invariants
//!  K1. No byte of a mapping is touched before `populate` succeeded on it, so that a read error of the
//!      medium is an error here and not a signal.
//!
//! Bounds: at most [`PREFETCH_BYTES`] are asked for ahead of the reader.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::window::{ScanEnd, Window};
use crate::Lsn;
use crate::disk::{Access, Disk, DiskFile, Mapping};
use crate::error::{Corruption, IoFailure, ReadError};
use crate::format::batch::{BatchHeader, HEADER_BYTES};
use crate::format::bytes::{to_u64, to_usize};
use crate::format::segment::{IndexEntry, file_name};
use crate::format::superblock::Cut;
use crate::format::version::Fault;
use crate::parity::{MendedFile, Parity};
use crate::record::BatchBytes;
use crate::segments::{Mapped, Segment};
use crate::wal::index::Index;
use crate::wal::scan::Chain;

/// How much of a mapping is made resident at a time.
const POPULATE_BYTES: u64 = 2 << 20;
/// Longer than it takes when all of it is in memory already.
const POPULATE_WARM_MAX: Duration = Duration::from_micros(600);
/// How far ahead the medium is kept busy.
const PREFETCH_BYTES: u64 = 16 << 20;

/// See the module.
#[derive(Debug)]
pub(crate) struct Cursor {
    chain: Chain,
    source: Source,
    segment_bytes: u64,
    /// Whether what is read is rebuilt from parity where it is damaged.
    is_mending: bool,
}

#[derive(Debug)]
enum Source {
    Mapped { mapping: Arc<Mapped>, resident: Resident },
    Read { window: Window, file: Arc<dyn DiskFile>, direct: bool },
}

/// How far a mapping was made resident, and asked for; both 0 before the first use.
#[derive(Debug, Default)]
struct Resident {
    populated: u64,
    prefetched: u64,
    /// Whether the last step had to wait for the medium: only then is asking ahead worth its cost.
    waited: bool,
}

/// How a segment is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Through a mapping when it is sealed, else past the page cache.
    InProcess,
    /// With reads into own memory, through the page cache.
    OtherProcess,
}

impl Cursor {
    /// A cursor at the first batch of a segment.
    pub(crate) fn at_start(
        disk: &dyn Disk,
        segment: &Segment,
        way: Way,
    ) -> Result<Cursor, ReadError> {
        Cursor::at(disk, segment, way, Chain::at_segment(&segment.header, Cut::default()))
    }

    /// A cursor at a batch at or before `lsn`, as near as the index leads.
    pub(crate) fn near(
        disk: &dyn Disk,
        segment: &Segment,
        way: Way,
        index: Option<&Index>,
        lsn: Lsn,
    ) -> Result<Cursor, ReadError> {
        let mut chain = Chain::at_segment(&segment.header, Cut::default());
        let extent = segment.extent();
        let leads_to_a_batch = |entry: &IndexEntry| {
            (chain.lsn..extent.end_lsn).contains(&entry.lsn)
                && (chain.offset..extent.end_offset).contains(&entry.offset)
                && entry.offset.is_multiple_of(u64::from(chain.block_bytes))
        };
        let entry = index.and_then(|index| index.find(lsn)).filter(leads_to_a_batch);
        if let Some(entry) = entry {
            (chain.lsn, chain.offset, chain.checksum) = (entry.lsn, entry.offset, None);
        }
        Cursor::at(disk, segment, way, chain)
    }

    fn at(disk: &dyn Disk, segment: &Segment, way: Way, chain: Chain) -> Result<Cursor, ReadError> {
        let source = if way == Way::InProcess && segment.is_sealed() {
            let mapping = segment.mapping(disk).map_err(|error| read_failed(segment, error))?;
            Source::Mapped { mapping, resident: Resident::default() }
        } else {
            let file = segment.file(disk).map_err(|error| read_failed(segment, error))?;
            let direct = way == Way::InProcess;
            let window = Window::new(Arc::clone(&file), direct);
            Source::Read { window, file, direct }
        };
        let segment_bytes = segment.header.segment_bytes;
        Ok(Cursor { chain, source, segment_bytes, is_mending: false })
    }

    pub(crate) fn segment(&self) -> u64 {
        self.chain.segment
    }

    /// Offset of the next batch.
    pub(crate) fn offset(&self) -> u64 {
        self.chain.offset
    }

    /// Moves on from a damaged batch to the next one before `end_offset` that is in its place; its first
    /// LSN, or `None` when there is none.
    pub(crate) fn skip_damage(&mut self, end_offset: u64) -> Option<Lsn> {
        let step = u64::from(self.chain.block_bytes);
        let chain = self.chain.clone();
        let mut offset = chain.offset + step;
        while offset < end_offset {
            let header = self.header_at(offset)?;
            if let Some(header) = chain.recognize(&header, offset) {
                (self.chain.offset, self.chain.lsn) = (offset, header.base_lsn);
                self.chain.checksum = None;
                return Some(header.base_lsn);
            }
            offset += step;
        }
        None
    }

    /// The bytes of a header at a place; `None` when they cannot be had.
    fn header_at(&mut self, offset: u64) -> Option<[u8; HEADER_BYTES]> {
        let bytes = match &mut self.source {
            Source::Mapped { mapping, resident } => {
                resident.reach(mapping, offset..offset + to_u64(HEADER_BYTES)).ok()?;
                mapping.get(to_usize(offset)..to_usize(offset) + HEADER_BYTES)?
            }
            Source::Read { window, .. } => window.get(offset, HEADER_BYTES).ok()?,
        };
        bytes.try_into().ok()
    }

    /// Whether this segment is damaged, and is read with the help of its parity.
    pub(crate) fn is_mending(&self) -> bool {
        self.is_mending
    }

    /// Reads the next batch and moves behind it. Damage that parity makes up for is not seen.
    pub(crate) fn next(&mut self, disk: &dyn Disk) -> Result<(BatchHeader, BatchBytes), ReadError> {
        match self.next_as_it_is() {
            Err(error) if !self.is_mending && self.mend(disk) => {
                self.next_as_it_is().map_err(|_| error)
            }
            other => other,
        }
    }

    /// Goes on through parity, from where it stands; false when there is none.
    fn mend(&mut self, disk: &dyn Disk) -> bool {
        let number = self.chain.segment;
        let parity = Parity::open(disk, self.chain.log_id, number, self.segment_bytes);
        let (Ok(Ok(parity)), Ok(file)) = (parity, disk.open(&file_name(number), Access::Read))
        else {
            return false;
        };
        let file: Arc<dyn DiskFile> = Arc::new(MendedFile::new(file, parity));
        let window = Window::new(Arc::clone(&file), true);
        self.source = Source::Read { window, file, direct: true };
        self.is_mending = true;
        true
    }

    fn next_as_it_is(&mut self) -> Result<(BatchHeader, BatchBytes), ReadError> {
        let read = match &mut self.source {
            Source::Mapped { mapping, resident } => next_mapped(&self.chain, mapping, resident),
            Source::Read { window, file, direct } => next_read(&self.chain, window, file, *direct),
        };
        let (segment, offset, lsn) = (self.chain.segment, self.chain.offset, self.chain.lsn);
        match read.map_err(|error| IoFailure::new("read", &file_name(segment), error)) {
            Ok(Ok((header, bytes))) => {
                self.chain.advance(&header);
                Ok((header, bytes))
            }
            Ok(Err(fault)) => Err(Corruption { segment, offset, lsn, fault }.into()),
            Err(failure) => Err(ReadError::Io(failure)),
        }
    }
}

type Found = io::Result<Result<(BatchHeader, BatchBytes), Fault>>;

fn next_mapped(chain: &Chain, mapping: &Arc<Mapped>, resident: &mut Resident) -> Found {
    let bytes = to_u64(mapping.len());
    let start = chain.offset;
    if start + to_u64(HEADER_BYTES) > bytes.min(chain.data_end) {
        return Ok(Err(Fault::Short));
    }
    resident.reach(mapping, start..start + to_u64(HEADER_BYTES))?;
    let from = to_usize(start);
    let header = match chain.accept_header(&mapping[from..]) {
        Ok(header) => header,
        Err(fault) => return Ok(Err(fault)),
    };
    if header.bytes_end() > bytes {
        return Ok(Err(Fault::Short));
    }
    resident.reach(mapping, start..header.bytes_end())?;
    let range = from..to_usize(header.bytes_end());
    if !header.body_is_whole(&mapping[range.clone()]) {
        return Ok(Err(Fault::Body));
    }
    Ok(Ok((header, BatchBytes::Mapped(Arc::clone(mapping), range))))
}

impl Resident {
    /// Makes sure that `range` is resident; goes ahead in large steps, because readers go forward.
    fn reach(&mut self, mapping: &Mapping, range: Range<u64>) -> io::Result<()> {
        if range.end <= self.populated {
            return Ok(());
        }
        let bytes = to_u64(mapping.len());
        if self.populated == 0 {
            // Whole steps, so that every start is at a page boundary.
            self.populated = range.start / POPULATE_BYTES * POPULATE_BYTES;
            self.prefetched = self.populated;
        }
        let end = range.end.next_multiple_of(POPULATE_BYTES).min(bytes);
        let ahead = if self.waited { (end + PREFETCH_BYTES).min(bytes) } else { end };
        self.prefetched = self.prefetched.max(self.populated);
        while self.waited && self.prefetched < ahead {
            let end = (self.prefetched + POPULATE_BYTES).min(bytes);
            mapping.prefetch(to_usize(self.prefetched)..to_usize(end));
            self.prefetched = end;
        }
        let start = Instant::now();
        mapping.populate(to_usize(self.populated)..to_usize(end))?;
        self.waited |= start.elapsed() > POPULATE_WARM_MAX;
        self.populated = end;
        Ok(())
    }
}

fn next_read(chain: &Chain, window: &mut Window, file: &Arc<dyn DiskFile>, direct: bool) -> Found {
    if let Ok((header, bytes)) = window.next_batch(chain)? {
        return Ok(Ok((header, BatchBytes::Read(bytes.into()))));
    }
    // The window may be older than the batch, and so may the page cache: the medium decides.
    if direct {
        window.invalidate();
    } else {
        *window = Window::new(Arc::clone(file), true);
    }
    let answer = match window.next_batch(chain)? {
        Ok((header, bytes)) => Ok((header, BatchBytes::Read(bytes.into()))),
        Err(ScanEnd::Full) => Err(Fault::Short),
        Err(ScanEnd::Fault(fault)) => Err(fault),
    };
    if !direct {
        *window = Window::new(Arc::clone(file), false);
    }
    Ok(answer)
}

pub(crate) fn read_failed(segment: &Segment, error: io::Error) -> ReadError {
    if error.kind() == io::ErrorKind::NotFound {
        return ReadError::Missing { segment: segment.number(), lsn: segment.header.base_lsn };
    }
    ReadError::Io(IoFailure::new("open", &file_name(segment.number()), error))
}
