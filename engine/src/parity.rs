//! Parity of sealed segments: writing it, and reading a damaged segment as it was.
//!
//! Owns the parity file beside a segment (`format::parity`), and [`MendedFile`], a segment whose damaged
//! units are rebuilt while it is read. Does not decide when parity is written, nor put
//! a mended segment in the place of a damaged one (`scrub`).
//!
//! Invariants
//!  Z1. What a [`MendedFile`] hands out as rebuilt matches the checksum that was taken when the segment
//!      was whole.                                                       checked in `rebuild`
//!  Z2. A parity file has its name only when all of it is on the medium.   `finish` before `publish`
//!
//! Bounds: what a `SlabEncoder` takes while parity is written; one slab (4 MiB) and its parity while
//! units are rebuilt, and 8 MiB for the decoder.
//! Crash: a temporary file, or none; the segment is then protected again.

mod encoder;

use std::any::Any;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use reed_solomon_simd::engine::Naive;
use reed_solomon_simd::rate::{DefaultRateDecoder, RateDecoder as _};

use self::encoder::SlabEncoder;
use crate::disk::{Access, Aligned, Disk, DiskFile, Mapping};
use crate::format::bytes::{to_u64, to_usize};
use crate::format::parity::{
    HEADER_BYTES, Layout, ParityHeader, SLAB_UNITS, UNIT_BYTES, UnitChecksums, file_name,
};
use crate::format::table::Digest;
use crate::format::version::Fault;
use crate::log::maintenance::remove_if_there;
use crate::names::TEMPORARY_SUFFIX;
use crate::segments::Segment;

/// Bytes of a full slab.
pub(crate) const SLAB_BYTES: usize = SLAB_UNITS * UNIT_BYTES;

/// Writes the parity of a segment that is read from front to back, a slab at a time.
pub(crate) struct ParityWriter<'a> {
    disk: &'a dyn Disk,
    file: Arc<dyn DiskFile>,
    name: String,
    layout: Layout,
    checksums: UnitChecksums,
    slab: usize,
    encoder: SlabEncoder,
}

impl<'a> ParityWriter<'a> {
    /// Makes the temporary file.
    pub(crate) fn create(
        disk: &'a dyn Disk,
        segment: u64,
        segment_bytes: u64,
    ) -> io::Result<ParityWriter<'a>> {
        let layout = Layout::of(segment_bytes);
        let name = file_name(segment);
        let temporary = format!("{name}{TEMPORARY_SUFFIX}");
        remove_if_there(disk, &temporary)?;
        let file = disk.create(&temporary, layout.file_bytes())?;
        let checksums = UnitChecksums::new(layout);
        let encoder = SlabEncoder::new(layout.data_units(0), layout.parity_units(0));
        Ok(ParityWriter { disk, file, name, layout, checksums, slab: 0, encoder })
    }

    /// Takes in what comes next: whole units, the last one of the segment filled up with zeros.
    pub(crate) fn add(&mut self, bytes: &[u8]) -> io::Result<()> {
        assert!(bytes.len().is_multiple_of(UNIT_BYTES), "units come whole");
        for unit in bytes.chunks_exact(UNIT_BYTES) {
            self.checksums.set_data(self.slab, self.encoder.added_units(), unit);
            self.encoder.add(unit);
            if self.encoder.added_units() == self.layout.data_units(self.slab) {
                self.finish_slab()?;
            }
        }
        Ok(())
    }

    fn finish_slab(&mut self) -> io::Result<()> {
        let (slab, layout) = (self.slab, self.layout);
        let mut units = Aligned::zeroed(layout.parity_units(slab) * UNIT_BYTES);
        let places = units.chunks_exact_mut(UNIT_BYTES);
        for (unit, (bytes, place)) in self.encoder.finish().zip(places).enumerate() {
            self.checksums.set_parity(slab, unit, bytes);
            place.copy_from_slice(bytes);
        }
        self.file.write_at(&units, layout.parity_offset(slab, 0))?;
        self.slab += 1;
        if self.slab < layout.slabs() {
            let (data, parity) = (layout.data_units(self.slab), layout.parity_units(self.slab));
            self.encoder = SlabEncoder::new(data, parity);
        }
        Ok(())
    }

    /// Makes the file durable, still under its temporary name.
    pub(crate) fn finish(&self, segment: &Segment, digest: Digest) -> io::Result<()> {
        assert_eq!(self.slab, self.layout.slabs(), "all of the segment was added");
        let mut table = Aligned::zeroed(self.layout.table_bytes());
        let header = ParityHeader {
            log_id: segment.header.log_id,
            segment: segment.number(),
            base_lsn: segment.header.base_lsn,
            end_lsn: segment.extent().end_lsn,
            segment_bytes: segment.header.segment_bytes,
            digest,
            table_checksum: self.checksums.encode(&mut table),
        };
        let mut block = Aligned::zeroed(HEADER_BYTES);
        header.encode(&mut block);
        for (header_at, table_at) in self.layout.copies() {
            self.file.write_at(&block, header_at)?;
            self.file.write_at(&table, table_at)?;
        }
        self.file.sync()
    }

    /// Gives the finished file its name. The caller syncs the directory.
    pub(crate) fn publish(self) -> io::Result<()> {
        self.disk.rename(&format!("{}{TEMPORARY_SUFFIX}", self.name), &self.name)
    }

    /// Removes the temporary file, as far as that goes: an open removes what is left.
    pub(crate) fn abandon(self) {
        let _ = remove_if_there(self.disk, &format!("{}{TEMPORARY_SUFFIX}", self.name));
    }
}

/// The parity of one segment, opened.
#[derive(Debug)]
pub(crate) struct Parity {
    file: Arc<dyn DiskFile>,
    layout: Layout,
    checksums: UnitChecksums,
    header: ParityHeader,
    /// Whether a copy of header or table is damaged.
    is_damaged: bool,
}

impl Parity {
    /// Opens the parity of a segment. `NotFound` when there is none; a fault when no copy of its header
    /// and table is whole, or it is another segment's.
    pub(crate) fn open(
        disk: &dyn Disk,
        log_id: u128,
        segment: u64,
        segment_bytes: u64,
    ) -> io::Result<Result<Parity, Fault>> {
        let file = disk.open(&file_name(segment), Access::Read)?;
        let layout = Layout::of(segment_bytes);
        let mut found = Err(Fault::Short);
        let mut is_damaged = false;
        for (header_at, table_at) in layout.copies() {
            match read_copy(&*file, layout, header_at, table_at) {
                Ok(copy) if found.is_err() => found = Ok(copy),
                Ok(_) => {}
                Err(fault) => {
                    is_damaged = true;
                    found = found.map_err(|_| fault);
                }
            }
        }
        let (header, checksums) = match found {
            Ok(found) => found,
            Err(fault) => return Ok(Err(fault)),
        };
        if header.log_id != log_id {
            return Ok(Err(Fault::ForeignLog));
        }
        if header.segment != segment || header.segment_bytes != segment_bytes {
            return Ok(Err(Fault::Misplaced));
        }
        Ok(Ok(Parity { file, layout, checksums, header, is_damaged }))
    }

    /// The same for a segment that is known; a fault when it has other records than when the parity was
    /// written.
    pub(crate) fn of(disk: &dyn Disk, segment: &Segment) -> io::Result<Result<Parity, Fault>> {
        let header = &segment.header;
        let opened = Parity::open(disk, header.log_id, header.segment, header.segment_bytes)?;
        let lsns = header.base_lsn..segment.extent().end_lsn;
        Ok(opened.and_then(|parity| {
            let its_lsns = parity.header.base_lsn..parity.header.end_lsn;
            if its_lsns == lsns { Ok(parity) } else { Err(Fault::Chain) }
        }))
    }

    pub(crate) fn digest(&self) -> Digest {
        self.header.digest
    }

    /// Whether every byte of the parity file is as it was written.
    pub(crate) fn is_whole(&self) -> bool {
        let all_whole = |slab| self.whole_parity(slab).iter().all(Option::is_some);
        !self.is_damaged && (0..self.layout.slabs()).all(all_whole)
    }

    /// The parity units of a slab, each if it is whole.
    fn whole_parity(&self, slab: usize) -> Vec<Option<Vec<u8>>> {
        let mut unit_bytes = Aligned::zeroed(UNIT_BYTES);
        let mut read = |unit| {
            let offset = self.layout.parity_offset(slab, unit);
            let filled = self.file.read_direct_at(&mut unit_bytes, offset).ok()?;
            let is_whole =
                filled == UNIT_BYTES && self.checksums.parity_is_whole(slab, unit, &unit_bytes);
            is_whole.then(|| unit_bytes.to_vec())
        };
        (0..self.layout.parity_units(slab)).map(&mut read).collect()
    }

    /// Reads a slab of the segment, and says which units of it are damaged or cannot be read.
    fn read_slab(&self, segment: &dyn DiskFile, slab: usize) -> (Aligned, Vec<usize>) {
        let units = self.layout.data_units(slab);
        let start = to_u64(slab * SLAB_BYTES);
        let mut bytes = Aligned::zeroed(units * UNIT_BYTES);
        if segment.read_direct_at(&mut bytes, start).is_err() {
            // Unit by unit, so that what the medium still gives is had.
            let mut unit_bytes = Aligned::zeroed(UNIT_BYTES);
            for (unit, place) in bytes.chunks_exact_mut(UNIT_BYTES).enumerate() {
                unit_bytes.fill(0);
                let offset = start + to_u64(unit * UNIT_BYTES);
                // What cannot be read is found by its checksum, like everything else.
                let _ = segment.read_direct_at(&mut unit_bytes, offset);
                place.copy_from_slice(&unit_bytes);
            }
        }
        let is_damaged = |(unit, bytes): (usize, &[u8])| {
            (!self.checksums.data_is_whole(slab, unit, bytes)).then_some(unit)
        };
        let damaged = bytes.chunks_exact(UNIT_BYTES).enumerate().filter_map(is_damaged).collect();
        (bytes, damaged)
    }

    /// Whether whole units, read at an offset of the segment, are as they were.
    pub(crate) fn matches_at(&self, offset: u64, bytes: &[u8]) -> bool {
        let first = to_usize(offset) / UNIT_BYTES;
        bytes.chunks_exact(UNIT_BYTES).zip(first..).all(|(bytes, unit)| {
            self.checksums.data_is_whole(unit / SLAB_UNITS, unit % SLAB_UNITS, bytes)
        })
    }

    /// Whether every unit of the segment is as it was.
    pub(crate) fn matches(&self, segment: &dyn DiskFile) -> io::Result<bool> {
        Ok((0..self.layout.slabs()).all(|slab| self.read_slab(segment, slab).1.is_empty()))
    }

    /// Whether everything of the segment is there or can be rebuilt.
    pub(crate) fn can_mend(&self, segment: &dyn DiskFile) -> io::Result<bool> {
        for slab in 0..self.layout.slabs() {
            if self.mended_slab(segment, slab)?.is_err() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Reads a slab and rebuilds its damaged units; how many those were. The fault is that there are
    /// more than the parity can make up for.
    pub(crate) fn mended_slab(
        &self,
        segment: &dyn DiskFile,
        slab: usize,
    ) -> io::Result<Result<(Aligned, usize), Fault>> {
        let (mut bytes, damaged) = self.read_slab(segment, slab);
        if damaged.is_empty() {
            return Ok(Ok((bytes, 0)));
        }
        let rebuilt = self.rebuild(slab, &mut bytes, &damaged)?;
        Ok(rebuilt.map(|()| (bytes, damaged.len())))
    }

    fn rebuild(
        &self,
        slab: usize,
        bytes: &mut Aligned,
        damaged: &[usize],
    ) -> io::Result<Result<(), Fault>> {
        let parity = self.whole_parity(slab);
        if parity.iter().flatten().count() < damaged.len() {
            return Ok(Err(Fault::Body));
        }
        let data = self.layout.data_units(slab);
        let mut decoder =
            DefaultRateDecoder::new(data, parity.len(), UNIT_BYTES, Naive::new(), None)
                .map_err(io::Error::other)?;
        for (unit, bytes) in bytes.chunks_exact(UNIT_BYTES).enumerate() {
            if !damaged.contains(&unit) {
                decoder.add_original_shard(unit, bytes).map_err(io::Error::other)?;
            }
        }
        for (unit, bytes) in parity.iter().enumerate() {
            if let Some(bytes) = bytes {
                decoder.add_recovery_shard(unit, bytes).map_err(io::Error::other)?;
            }
        }
        let decoded = decoder.decode().map_err(io::Error::other)?;
        for (unit, rebuilt) in decoded.restored_original_iter() {
            if !self.checksums.data_is_whole(slab, unit, rebuilt) {
                return Ok(Err(Fault::Checksum));
            }
            bytes[unit * UNIT_BYTES..][..UNIT_BYTES].copy_from_slice(rebuilt);
        }
        Ok(Ok(()))
    }
}

fn read_copy(
    file: &dyn DiskFile,
    layout: Layout,
    header_at: u64,
    table_at: u64,
) -> Result<(ParityHeader, UnitChecksums), Fault> {
    let mut block = Aligned::zeroed(HEADER_BYTES);
    let filled = file.read_direct_at(&mut block, header_at).map_err(|_| Fault::Unreadable)?;
    let header = ParityHeader::decode(&block[..filled])?;
    if Layout::of(header.segment_bytes) != layout {
        return Err(Fault::Misplaced);
    }
    let mut table = Aligned::zeroed(layout.table_bytes());
    let filled = file.read_direct_at(&mut table, table_at).map_err(|_| Fault::Unreadable)?;
    let checksums = UnitChecksums::decode(&header, &table[..filled])?;
    Ok((header, checksums))
}

/// A sealed segment as it was when its parity was taken: damaged units are rebuilt as they are read.
/// What cannot be rebuilt is handed out as it is, and whoever reads finds the damage by its checksums.
#[derive(Debug)]
pub(crate) struct MendedFile {
    segment: Arc<dyn DiskFile>,
    parity: Parity,
    /// The slab read last.
    slab: Mutex<Option<(usize, Aligned)>>,
}

impl MendedFile {
    pub(crate) fn new(segment: Arc<dyn DiskFile>, parity: Parity) -> MendedFile {
        MendedFile { segment, parity, slab: Mutex::new(None) }
    }

    fn read(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let end = self.parity.header.segment_bytes.min(offset + to_u64(bytes.len()));
        let mut at = offset;
        while at < end {
            let slab = to_usize(at / to_u64(SLAB_BYTES));
            let slab_start = to_u64(slab * SLAB_BYTES);
            let stop = end.min(slab_start + to_u64(SLAB_BYTES));
            self.with_slab(slab, |content| {
                let from = &content[to_usize(at - slab_start)..to_usize(stop - slab_start)];
                bytes[to_usize(at - offset)..to_usize(stop - offset)].copy_from_slice(from);
            })?;
            at = stop;
        }
        Ok(to_usize(end.saturating_sub(offset)))
    }

    fn with_slab(&self, slab: usize, look: impl FnOnce(&[u8])) -> io::Result<()> {
        let mut kept = self.slab.lock().unwrap_or_else(PoisonError::into_inner);
        match &*kept {
            Some((number, content)) if *number == slab => look(content),
            _ => {
                let content = match self.parity.mended_slab(&*self.segment, slab)? {
                    Ok((content, _)) => content,
                    Err(_) => self.parity.read_slab(&*self.segment, slab).0,
                };
                look(&content);
                *kept = Some((slab, content));
            }
        }
        Ok(())
    }
}

fn read_only<T>() -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "a mended segment is only read"))
}

impl DiskFile for MendedFile {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.parity.header.segment_bytes)
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.read(bytes, offset)
    }

    fn read_direct_at(&self, bytes: &mut Aligned, offset: u64) -> io::Result<usize> {
        self.read(bytes, offset)
    }

    fn write_durable_at(&self, _bytes: &[u8], _offset: u64) -> io::Result<()> {
        read_only()
    }

    fn write_at(&self, _bytes: &[u8], _offset: u64) -> io::Result<()> {
        read_only()
    }

    fn sync(&self) -> io::Result<()> {
        read_only()
    }

    fn map(&self) -> io::Result<Mapping> {
        read_only()
    }

    fn lock_shared(&self) -> io::Result<()> {
        self.segment.lock_shared()
    }

    fn try_lock_exclusive(&self) -> io::Result<bool> {
        Ok(false)
    }

    fn unlock(&self) -> io::Result<()> {
        self.segment.unlock()
    }
}
