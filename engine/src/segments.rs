//! The segments of an open log: what is known of each, and handles to their files.
//!
//! Owns the table from segment number to [`Segment`], and which handles and mappings of a segment are
//! alive in this process. Does not write segments (`wal::writer`), make or drop them (`maintenance`).
//!
//! Invariants
//!  T1. Numbers in the table are dense.                                    asserted in `add`
//!  T2. A retired segment hands out no handle or mapping any more, so a file is recycled only when the
//!      last reader of this process is done with it.                       test `retiring_waits_for_readers`
//!
//! Bounds: sealed segments hold no file descriptor unless somebody reads them, and of their indexes
//! [`INDEXES_MAX`] are kept, some 24 KiB for each 64 MiB of segment.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::ops::Deref;

use crate::disk::{Access, Aligned, Disk, DiskFile, Mapping};
use crate::error::is_of_the_file;
use crate::format::batch::BatchHeader;
use crate::format::bytes::{round_up, to_u32, to_u64, to_usize};
use crate::format::segment::{
    SegmentHeader, Trailer, decode_index, encode_index, file_name, index_bytes, index_checksum,
};
use crate::format::table::{Digest, TableEntry};
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use crate::wal::index::Index;
use crate::{Epoch, Lsn};

/// Indexes of sealed segments kept in memory, for reads that jump about.
const INDEXES_MAX: usize = 64;

/// How far the batches of a segment go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) end_lsn: Lsn,
    pub(crate) end_offset: u64,
    pub(crate) first_time_ms: u64,
    pub(crate) last_time_ms: u64,
    pub(crate) last_epoch: Epoch,
    pub(crate) batch_count: u64,
    /// Link of the last batch.
    pub(crate) checksum: u32,
}

impl Extent {
    /// An empty segment.
    pub(crate) fn empty(header: &SegmentHeader) -> Extent {
        Extent {
            end_lsn: header.base_lsn,
            end_offset: u64::from(header.block_bytes),
            first_time_ms: header.time_ms,
            last_time_ms: header.time_ms,
            last_epoch: header.epoch,
            batch_count: 0,
            checksum: header.prev_checksum,
        }
    }

    /// The extent with one more batch.
    pub(crate) fn extend(&mut self, batch: &BatchHeader) {
        if self.batch_count == 0 {
            self.first_time_ms = batch.time_ms;
        }
        self.end_lsn = batch.end_lsn();
        self.end_offset = batch.end_offset();
        if batch.lost.is_none() {
            self.last_time_ms = batch.time_ms;
            self.last_epoch = batch.epoch;
        }
        self.batch_count += 1;
        self.checksum = batch.link();
    }

    /// What a footer says.
    pub(crate) fn sealed(trailer: &Trailer) -> Extent {
        Extent {
            end_lsn: trailer.end_lsn,
            end_offset: trailer.end_offset,
            first_time_ms: trailer.first_time_ms,
            last_time_ms: trailer.last_time_ms,
            last_epoch: trailer.last_epoch,
            batch_count: trailer.batch_count,
            checksum: trailer.last_checksum,
        }
    }
}

/// The mapping of a sealed segment, with the handle that marks its file as read.
#[derive(Debug)]
pub(crate) struct Mapped {
    mapping: Mapping,
    _file: Arc<dyn DiskFile>,
}

impl Deref for Mapped {
    type Target = Mapping;
    fn deref(&self) -> &Mapping {
        &self.mapping
    }
}

/// One segment of the log.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) header: SegmentHeader,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    extent: Extent,
    trailer: Option<Trailer>,
    /// Complete for a segment that is not sealed; `None` for one that is.
    index: Option<Arc<Index>>,
    /// The index of a sealed segment, while [`Segments`] keeps it.
    sealed_index: Weak<Index>,
    /// Held while the segment is not sealed.
    writer: Option<Arc<dyn DiskFile>>,
    /// Whether that handle is marked as read.
    writer_is_marked: bool,
    /// The handle that readers of this process share; `None` before the first of them.
    file: Option<Weak<dyn DiskFile>>,
    mapping: Weak<Mapped>,
    /// Over the records; `None` while nobody has read them all since the segment was sealed.
    digest: Option<Digest>,
    /// Whether a parity file was seen or written; nothing is said about its being whole.
    has_parity: bool,
    retired: bool,
}

impl Segment {
    /// A segment that is being written; its index starts empty.
    pub(crate) fn unsealed(
        header: SegmentHeader,
        file: Arc<dyn DiskFile>,
        extent: Extent,
        index: Index,
    ) -> Segment {
        let inner = Inner {
            extent,
            trailer: None,
            index: Some(Arc::new(index)),
            sealed_index: Weak::new(),
            file: Some(Arc::downgrade(&file)),
            writer: Some(file),
            writer_is_marked: false,
            mapping: Weak::new(),
            digest: None,
            has_parity: false,
            retired: false,
        };
        Segment { header, inner: Mutex::new(inner) }
    }

    /// A segment with a valid footer; its file is opened when it is read.
    pub(crate) fn sealed(entry: TableEntry) -> Segment {
        let TableEntry { header, trailer, digest } = entry;
        let inner = Inner {
            extent: Extent::sealed(&trailer),
            trailer: Some(trailer),
            index: None,
            sealed_index: Weak::new(),
            writer: None,
            writer_is_marked: false,
            file: None,
            mapping: Weak::new(),
            digest,
            has_parity: false,
            retired: false,
        };
        Segment { header, inner: Mutex::new(inner) }
    }

    /// The same segment, not sealed, written through another file.
    pub(crate) fn on_file(self, file: Arc<dyn DiskFile>) -> Segment {
        let inner = self.inner.into_inner().unwrap_or_else(PoisonError::into_inner);
        let index = inner.index.map(Arc::unwrap_or_clone).unwrap_or_default();
        Segment::unsealed(self.header, file, inner.extent, index)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn number(&self) -> u64 {
        self.header.segment
    }

    pub(crate) fn extent(&self) -> Extent {
        self.lock().extent
    }

    /// What the engine's checkpoint says of the segment; `None` while it is not sealed.
    pub(crate) fn table_entry(&self) -> Option<TableEntry> {
        let inner = self.lock();
        let trailer = inner.trailer.clone()?;
        Some(TableEntry { header: self.header.clone(), trailer, digest: inner.digest })
    }

    /// Whether neither digest nor the parity that is wanted is missing.
    pub(crate) fn is_protected(&self, wants_parity: bool) -> bool {
        let inner = self.lock();
        inner.digest.is_some() && (!wants_parity || inner.has_parity)
    }

    /// Takes note of the digest, and of the parity file.
    fn handle_protected(&self, digest: Digest, has_parity: bool) {
        let mut inner = self.lock();
        inner.digest = Some(digest);
        inner.has_parity = has_parity;
    }

    pub(crate) fn has_parity(&self) -> bool {
        self.lock().has_parity
    }

    /// Takes note that a parity file is there, or is worthless.
    pub(crate) fn set_has_parity(&self, has_parity: bool) {
        self.lock().has_parity = has_parity;
    }

    /// Takes note that another file has the segment's name: whoever comes now reads that one.
    pub(crate) fn handle_replaced(&self) {
        let mut inner = self.lock();
        inner.file = None;
        inner.mapping = Weak::new();
        inner.sealed_index = Weak::new();
    }

    pub(crate) fn is_sealed(&self) -> bool {
        self.lock().trailer.is_some()
    }

    /// Takes note of a durable batch.
    pub(crate) fn note(&self, batch: &BatchHeader) {
        let mut inner = self.lock();
        if batch.record_count > 0
            && let Some(index) = &mut inner.index
        {
            Arc::make_mut(index).note(batch.base_lsn, batch.offset, batch.time_ms);
        }
        inner.extent.extend(batch);
    }

    /// The file that the segment is written through; `None` once it is sealed.
    pub(crate) fn writer(&self) -> Option<Arc<dyn DiskFile>> {
        self.lock().writer.clone()
    }

    /// Takes note that the footer is durable: the index is read from it from now on.
    fn handle_sealed(&self, trailer: Trailer) {
        let mut inner = self.lock();
        inner.trailer = Some(trailer);
        inner.index = None;
        inner.writer = None;
    }

    /// A handle for reading. `NotFound` when the segment was dropped.
    pub(crate) fn file(&self, disk: &dyn Disk) -> io::Result<Arc<dyn DiskFile>> {
        let mut inner = self.lock();
        self.file_locked(&mut inner, disk)
    }

    fn file_locked(&self, inner: &mut Inner, disk: &dyn Disk) -> io::Result<Arc<dyn DiskFile>> {
        if inner.retired {
            return Err(io::ErrorKind::NotFound.into());
        }
        if let Some(file) = inner.file.as_ref().and_then(Weak::upgrade) {
            if inner.writer.is_some() && !inner.writer_is_marked {
                // A reader may hold the writer's handle for longer than the log is open.
                file.lock_shared()?;
                inner.writer_is_marked = true;
            }
            return Ok(file);
        }
        let file = disk.open(&file_name(self.number()), Access::Read)?;
        self.mark_as_read(disk, &*file)?;
        inner.file = Some(Arc::downgrade(&file));
        Ok(file)
    }

    /// Keeps other processes, and a later life of this one, from recycling the file while the handle
    /// lives. `NotFound` when it was recycled before it could be marked.
    fn mark_as_read(&self, disk: &dyn Disk, file: &dyn DiskFile) -> io::Result<()> {
        match file.lock_shared() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(io::ErrorKind::NotFound.into());
            }
            other => other?,
        }
        let mut block = Aligned::zeroed(to_usize(u64::from(self.header.block_bytes)));
        let filled = match file.read_direct_at(&mut block, 0) {
            // One that the medium does not give says as little as a damaged one.
            Err(error) if is_of_the_file(&error) => return Ok(()),
            other => other?,
        };
        match SegmentHeader::decode(&block[..filled]) {
            Ok(header) if header.segment != self.number() => Err(io::ErrorKind::NotFound.into()),
            // About to be recycled, and then the name is gone; or damage like any other.
            Err(_) if block.iter().all(|byte| *byte == 0) => {
                disk.open(&file_name(self.number()), Access::Read).map(drop)
            }
            // A damaged header says nothing: the batches are verified one by one.
            _ => Ok(()),
        }
    }

    /// Marks a segment that is not sealed as read, for a reader in another process than its writer.
    pub(crate) fn mark_unsealed_as_read(&self, disk: &dyn Disk) -> io::Result<()> {
        match self.writer() {
            Some(file) => self.mark_as_read(disk, &*file),
            None => Ok(()),
        }
    }

    /// The mapping of a sealed segment, shared by all readers of this process.
    pub(crate) fn mapping(&self, disk: &dyn Disk) -> io::Result<Arc<Mapped>> {
        let mut inner = self.lock();
        let file = self.file_locked(&mut inner, disk)?;
        if let Some(mapping) = inner.mapping.upgrade() {
            return Ok(mapping);
        }
        let mapping = Arc::new(Mapped { mapping: file.map()?, _file: file });
        inner.mapping = Arc::downgrade(&mapping);
        Ok(mapping)
    }

    /// The index; for a sealed segment read from its footer, unless it is still held somewhere. `None`
    /// when the footer's index is damaged: the reader then goes from the first batch.
    fn index(&self, disk: &dyn Disk) -> io::Result<Option<Arc<Index>>> {
        let mut inner = self.lock();
        let held = inner.index.clone().or_else(|| inner.sealed_index.upgrade());
        if held.is_some() {
            return Ok(held);
        }
        let file = self.file_locked(&mut inner, disk)?;
        let trailer = inner.trailer.as_ref().expect("a segment without an index is sealed");
        let index = read_index(&*file, &self.header, trailer)?.map(Arc::new);
        inner.sealed_index = index.as_ref().map(Arc::downgrade).unwrap_or_default();
        Ok(index)
    }

    /// Ends all reading of the segment by new readers; true when no reader of this process is left.
    pub(crate) fn retire(&self) -> bool {
        let mut inner = self.lock();
        inner.retired = true;
        inner.writer = None;
        let handles = inner.file.as_ref().map_or(0, Weak::strong_count);
        handles == 0 && inner.mapping.strong_count() == 0
    }
}

/// The footer zone of a segment in which everything is durable: index and trailer, at their places.
pub(crate) fn footer(header: &SegmentHeader, extent: &Extent, index: &Index) -> (Aligned, Trailer) {
    let mut zone = Aligned::zeroed(to_usize(header.segment_bytes - header.data_end()));
    let index_count = to_u32(index.entries().len());
    let index_end = index_bytes(index_count);
    let trailer_start = zone.len() - to_usize(u64::from(header.block_bytes));
    assert!(index_end <= trailer_start, "an interval of the segment has one entry");
    encode_index(index.entries(), &mut zone);
    let trailer = Trailer {
        log_id: header.log_id,
        segment: header.segment,
        base_lsn: header.base_lsn,
        end_lsn: extent.end_lsn,
        end_offset: extent.end_offset,
        first_time_ms: extent.first_time_ms,
        last_time_ms: extent.last_time_ms,
        last_epoch: extent.last_epoch,
        batch_count: extent.batch_count,
        last_checksum: extent.checksum,
        index_count,
        index_checksum: index_checksum(&zone[..index_end]),
    };
    trailer.encode(&mut zone[trailer_start..]);
    (zone, trailer)
}

/// Reads the index in the footer of a sealed segment; `None` when it is damaged.
pub(crate) fn read_index(
    file: &dyn DiskFile,
    header: &SegmentHeader,
    trailer: &Trailer,
) -> io::Result<Option<Index>> {
    let bytes = index_bytes(trailer.index_count);
    let room = header.segment_bytes - header.data_end();
    if to_u64(bytes) > room {
        return Ok(None);
    }
    let block = to_usize(u64::from(header.block_bytes));
    let mut read = Aligned::zeroed(round_up(bytes.max(1), block));
    let filled = file.read_direct_at(&mut read, header.data_end())?;
    let whole = read.get(..bytes.min(filled)).unwrap_or_default();
    Ok(decode_index(trailer, whole).ok().map(Index::from_entries))
}

/// The table of segments.
#[derive(Debug, Default)]
pub(crate) struct Segments {
    table: RwLock<BTreeMap<u64, Arc<Segment>>>,
    /// Numbers of those that have no footer yet.
    unsealed: Mutex<BTreeSet<u64>>,
    /// Numbers of sealed ones that still want their digest or parity.
    unprotected: Mutex<BTreeSet<u64>>,
    /// Indexes used last, the newest in front.
    indexes: Mutex<VecDeque<Arc<Index>>>,
    mended_reads: AtomicU64,
}

impl Segments {
    /// Appends a segment.
    pub(crate) fn add(&self, segment: Segment) {
        self.add_to(&mut self.table.write().unwrap_or_else(PoisonError::into_inner), segment);
    }

    fn add_to(&self, table: &mut BTreeMap<u64, Arc<Segment>>, segment: Segment) {
        if let Some((last, _)) = table.last_key_value() {
            assert_eq!(last + 1, segment.number(), "segment numbers are dense");
        }
        if segment.is_sealed() {
            self.lock_unprotected().insert(segment.number());
        } else {
            self.lock_unsealed().insert(segment.number());
        }
        table.insert(segment.number(), Arc::new(segment));
    }

    fn lock_unsealed(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.unsealed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The segments that have no footer yet, oldest first.
    pub(crate) fn unsealed(&self) -> Vec<Arc<Segment>> {
        let numbers = self.lock_unsealed().clone();
        numbers.into_iter().filter_map(|number| self.get(number)).collect()
    }

    /// The index of a segment, which is kept for the next reader if it is sealed; `None` when it is
    /// damaged.
    pub(crate) fn index(
        &self,
        segment: &Segment,
        disk: &dyn Disk,
    ) -> io::Result<Option<Arc<Index>>> {
        let Some(index) = segment.index(disk)? else { return Ok(None) };
        if segment.is_sealed() {
            let mut indexes = self.indexes.lock().unwrap_or_else(PoisonError::into_inner);
            indexes.retain(|kept| !Arc::ptr_eq(kept, &index));
            indexes.push_front(Arc::clone(&index));
            indexes.truncate(INDEXES_MAX);
        }
        Ok(Some(index))
    }

    /// Takes note that a footer is durable.
    pub(crate) fn handle_sealed(&self, segment: &Segment, trailer: Trailer) {
        segment.handle_sealed(trailer);
        self.lock_unprotected().insert(segment.number());
        self.lock_unsealed().remove(&segment.number());
    }

    /// Takes the oldest segment out.
    pub(crate) fn remove_first(&self) -> Option<Arc<Segment>> {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let (number, segment) = table.pop_first()?;
        self.lock_unprotected().remove(&number);
        Some(segment)
    }

    /// Puts the segments that a truncation left in the place of all. Those that are sealed as before stay
    /// the same for their readers; others are retired.
    pub(crate) fn handle_truncated(&self, found: Vec<Segment>) {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let first_changed = found
            .iter()
            .find(|segment| !segment.is_sealed())
            .map_or(found.last().map_or(0, |last| last.number() + 1), Segment::number);
        for segment in table.split_off(&first_changed).into_values() {
            segment.retire();
            self.lock_unprotected().remove(&segment.number());
            self.lock_unsealed().remove(&segment.number());
        }
        for segment in found.into_iter().filter(|segment| segment.number() >= first_changed) {
            self.add_to(&mut table, segment);
        }
    }

    fn lock_unprotected(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.unprotected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sealed segments that want their digest or parity, oldest first.
    pub(crate) fn unprotected(&self) -> Vec<Arc<Segment>> {
        let numbers = self.lock_unprotected().clone();
        numbers.into_iter().filter_map(|number| self.get(number)).collect()
    }

    pub(crate) fn unprotected_count(&self) -> u64 {
        self.lock_unprotected().len() as u64
    }

    /// Takes note of the digest of a sealed segment, and of its parity file.
    pub(crate) fn handle_protected(
        &self,
        segment: &Arc<Segment>,
        digest: Digest,
        has_parity: bool,
    ) {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        // One that was truncated meanwhile is another segment now.
        if table.get(&segment.number()).is_some_and(|current| Arc::ptr_eq(current, segment)) {
            segment.handle_protected(digest, has_parity);
            self.lock_unprotected().remove(&segment.number());
        }
    }

    /// Batches that a reader got only because parity made up for damage.
    pub(crate) fn mended_reads(&self) -> u64 {
        self.mended_reads.load(Ordering::Relaxed)
    }

    pub(crate) fn count_mended_read(&self) {
        self.mended_reads.fetch_add(1, Ordering::Relaxed);
    }

    /// The first segment that is not sealed; the one behind the last when all are.
    pub(crate) fn sealed_end(&self) -> u64 {
        let unsealed = self.lock_unsealed().first().copied();
        unsealed.unwrap_or_else(|| self.last().map_or(0, |segment| segment.number() + 1))
    }

    pub(crate) fn get(&self, number: u64) -> Option<Arc<Segment>> {
        self.table.read().unwrap_or_else(PoisonError::into_inner).get(&number).cloned()
    }

    /// Whether the segment is still what stands in the table under its number.
    pub(crate) fn has(&self, segment: &Arc<Segment>) -> bool {
        self.get(segment.number()).is_some_and(|current| Arc::ptr_eq(&current, segment))
    }

    pub(crate) fn first(&self) -> Option<Arc<Segment>> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        table.first_key_value().map(|(_, segment)| Arc::clone(segment))
    }

    pub(crate) fn last(&self) -> Option<Arc<Segment>> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        table.last_key_value().map(|(_, segment)| Arc::clone(segment))
    }

    pub(crate) fn len(&self) -> usize {
        self.table.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// All of them, oldest first.
    pub(crate) fn all(&self) -> Vec<Arc<Segment>> {
        self.table.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// The segment that holds a record, if it is durable; the last one for anything beyond.
    pub(crate) fn find(&self, lsn: Lsn) -> Option<Arc<Segment>> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let mut low = *table.first_key_value()?.0;
        let mut high = table.last_key_value()?.0 + 1;
        // Numbers are dense, and a segment may hold no record at all: the last base at or before wins.
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            let segment = table.get(&middle).expect("segment numbers are dense");
            if segment.header.base_lsn <= lsn {
                low = middle;
            } else {
                high = middle;
            }
        }
        table.get(&low).filter(|segment| segment.header.base_lsn <= lsn).cloned()
    }
}

#[cfg(test)]
#[path = "segments_tests.rs"]
mod tests;
