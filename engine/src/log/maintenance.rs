//! The background work of a log, off the write path: preparing the next segment, sealing finished
//! ones, dropping old ones, and noting how far the log is durable.
//!
//! Owns the files beside the active segment, the superblock and the watermark of an open log. Does not
//! touch a segment that batches are still written to.
//!
//! Invariants
//!  N1. A segment has its name only after every byte of it was written and synced, and is handed to the
//!      writer only after the directory was synced.
//!  N2. A segment is sealed only after everything in it is durable.         `first_unfinished_segment`
//!  N3. The trim point is durable in both superblock copies before a file is dropped; the active
//!      segment is never dropped.
//!  N4. A file is recycled only when nobody reads it, here or in another process.
//!
//! Crash: a temporary file, a prepared segment nobody wrote to, a segment without a footer, or a
//! dropped segment that still has its name: `open` finishes each.
//! Threads: one at a time, behind `Core::maintenance`.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::core::{Core, Maintenance};
use crate::Lsn;
use crate::disk::{Access, Aligned, Disk, DiskFile};
use crate::error::{ChangeError, IoFailure};
use crate::fork;
use crate::format::bytes::{to_u64, to_usize};
use crate::format::parity;
use crate::format::segment::file_name;
use crate::format::superblock::CELL_BYTES_MAX;
use crate::format::watermark::Watermark;
use crate::names::{TEMPORARY_SUFFIX, spare_name};
use crate::segments::{Segment, footer};
use crate::stats::Counters;
use crate::sync::Instant;
use crate::wal::steps::PreparedSegment;

/// A pause between two rounds of background work while appends go on; the begin of a segment ends it.
const ROUND_PAUSE: Duration = Duration::from_millis(10);
/// So many sealed segments may be missing from the engine's checkpoint before it is written again: an
/// open looks at each of them.
const TABLE_SEGMENTS: u64 = 16;
/// The same when the log is closed.
const TABLE_SEGMENTS_AT_CLOSE: u64 = 4;
/// A wall clock that is ahead by no more than this is believed.
const CLOCK_JUMP_MAX_MS: u64 = 3600 * 1000;
/// Zeros are written in pieces of this size.
const ZERO_BYTES: u64 = 1 << 20;
/// While records are appended, zeros take a quarter of the time of the disk: else every append waits behind them for as
/// long as a segment takes. A pause is no longer than this, for whoever wants to change something else waits as well.
const ZERO_PAUSE_MAX: Duration = Duration::from_millis(4);
/// No header block is longer, and no segment shorter.
const HEADER_BLOCK_MAX: usize = 64 << 10;

impl Core {
    /// The background thread. Runs until the log stops.
    pub(crate) fn run_background_thread(&self) {
        use std::sync::atomic::Ordering::SeqCst;
        let _guard = self.poison_on_panic();
        while !self.stop.load(SeqCst) {
            match self.stall_interval() {
                Some(interval) => self.background.wait_timeout(interval),
                None => self.background.wait_timeout(Duration::MAX),
            }
            self.check_stall();
            if !self.background.take() {
                continue;
            }
            while !self.stop.load(SeqCst) && self.run_maintenance() {
                self.begun.wait_timeout(ROUND_PAUSE);
                self.begun.take();
            }
        }
    }

    /// One round of the background work; true when the watermark wants another one soon.
    pub(crate) fn run_maintenance(&self) -> bool {
        if self.lock_state().writer.poison().is_some() {
            return false;
        }
        let Ok(mut maintenance) = self.lock_maintenance_in_time() else { return false };
        self.prepare_ahead(&mut maintenance);
        if std::mem::take(&mut maintenance.reserve_pending) {
            // Without room for it now, a truncation needs room then.
            let _ = fork::make_reserve(&*self.disk, self.config.fork_reserve_bytes);
        }
        let done = self
            .seal_finished(&mut maintenance)
            .and_then(|()| self.apply_retention(&mut maintenance))
            .and_then(|()| self.list_segments(&mut maintenance, TABLE_SEGMENTS))
            .and_then(|()| match maintenance.noted_at {
                Some(noted_at)
                    if self.has_threads && noted_at.elapsed() < self.watermark_pause() =>
                {
                    Ok(true)
                }
                _ => self.note_watermark(&mut maintenance),
            });
        drop(maintenance);
        if self.has_threads {
            self.scrub.signal.raise();
        } else if done.is_ok() && self.config.scrub_bytes_per_second > 0 {
            self.protect_all();
        }
        done.unwrap_or_else(|failure| {
            self.fail(failure);
            false
        })
    }

    fn watermark_pause(&self) -> Duration {
        Duration::from_millis(self.config.watermark_interval_ms.into())
    }

    /// Makes the next segment ready, if it is not.
    ///
    /// # Errors
    /// Nothing was lost: what was half made is a temporary file.
    pub(crate) fn prepare_segment(&self) -> Result<(), IoFailure> {
        self.prepare_segment_of(self.config.segment_bytes)
    }

    /// The same with a length of its own: that of a segment on another replica.
    pub(crate) fn prepare_segment_of(&self, bytes: u64) -> Result<(), IoFailure> {
        let mut maintenance = self.lock_maintenance_in_time()?;
        self.prepare(&mut maintenance, bytes)
    }

    /// Prepares the next segment between two pieces of other work, so that appends wait for one piece
    /// of it at most. Without room the next append that needs the segment says so.
    fn prepare_ahead(&self, maintenance: &mut Maintenance) {
        let _ = self.prepare(maintenance, self.config.segment_bytes);
    }

    fn prepare(&self, maintenance: &mut Maintenance, bytes: u64) -> Result<(), IoFailure> {
        let number = {
            let state = self.lock_state();
            if state.writer.has_next_segment(bytes) {
                return Ok(());
            }
            state.writer.next_segment_number()
        };
        let made = self.make_segment(maintenance, number, bytes);
        let file = made.map_err(|error| IoFailure::new("prepare", &file_name(number), error))?;
        self.lock_state().writer.handle_prepared(PreparedSegment { number, file, bytes });
        Ok(())
    }

    fn make_segment(
        &self,
        maintenance: &mut Maintenance,
        number: u64,
        bytes: u64,
    ) -> io::Result<Arc<dyn DiskFile>> {
        let name = file_name(number);
        if bytes != self.config.segment_bytes {
            maintenance.prepared = None;
            return self.create_zeroed(&name, bytes);
        }
        let file = if maintenance.prepared.take() == Some(number) {
            self.disk.open(&name, Access::Write)?
        } else if let Some(spare) = maintenance.spares.pop() {
            self.take_spare(&spare_name(spare), &name)?
        } else {
            self.create_zeroed(&name, bytes)?
        };
        if std::mem::take(&mut maintenance.self_test_pending) {
            self.note_prepared();
            self.disk.self_test(&*file, bytes)?;
        }
        Ok(file)
    }

    /// Gives a dropped segment's file its new name. A reader that opened it before may still hold it:
    /// then a new file is made. The old header goes first, so that a reader that comes now sees that
    /// the file is no longer what it looked for.
    fn take_spare(&self, spare: &str, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.disk.open(spare, Access::Write)?;
        if !file.try_lock_exclusive()? {
            self.disk.remove(spare)?;
            return self.create_zeroed(name, self.config.segment_bytes);
        }
        file.write_durable_at(&Aligned::zeroed(HEADER_BLOCK_MAX), 0)?;
        file.unlock()?;
        self.disk.rename(spare, name)?;
        self.sync_directory()?;
        Counters::add(&self.counters.segments_recycled, 1);
        Ok(file)
    }

    /// Takes note that the disk answers whoever prepares a segment, and so those who wait for that.
    fn note_prepared(&self) {
        self.note_answer();
        self.note_maintained();
    }

    /// Makes a file of zeros that are really written, and gives it its name only then.
    fn create_zeroed(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        let disk = &*self.disk;
        let temporary = format!("{name}{TEMPORARY_SUFFIX}");
        remove_if_there(disk, &temporary)?;
        let made = || -> io::Result<Arc<dyn DiskFile>> {
            let file = disk.create(&temporary, bytes)?;
            let zeros = Aligned::zeroed(to_usize(bytes.min(ZERO_BYTES)));
            let mut offset = 0;
            loop {
                let piece = to_usize((bytes - offset).min(ZERO_BYTES));
                let (start, batches) = (Instant::now(), Counters::get(&self.counters.batches));
                file.write_at(&zeros[..piece], offset)?;
                self.note_prepared();
                offset += to_u64(piece);
                if offset == bytes {
                    break;
                }
                if Counters::get(&self.counters.batches) != batches && !self.is_late(offset, bytes)
                {
                    self.stopped.wait_timeout((start.elapsed() * 3).min(ZERO_PAUSE_MAX));
                }
            }
            file.sync()?;
            self.note_prepared();
            disk.rename(&temporary, name)?;
            Ok(file)
        }();
        if made.is_err() {
            // Best effort: the next open removes it.
            let _ = remove_if_there(disk, &temporary);
        }
        let file = made?;
        self.sync_directory()?;
        Counters::add(&self.counters.segments_created, 1);
        Ok(file)
    }

    /// Whether the segment that is being prepared, of which so many bytes are zeroed, is not twice as far as the log is
    /// in the one before.
    fn is_late(&self, zeroed: u64, bytes: u64) -> bool {
        let filled = self.has_threads.then(|| self.lock_state().writer.filled()).flatten();
        // Without threads, and before the first segment, somebody waits for it.
        filled.is_none_or(|(filled, end)| {
            u128::from(zeroed) * u128::from(end) <= 2 * u128::from(filled) * u128::from(bytes)
        })
    }

    /// A failed sync of the directory is final: which names are durable is not known any more, and a
    /// later one would report success without making them so.
    pub(crate) fn sync_directory(&self) -> io::Result<()> {
        self.disk.sync_directory().inspect_err(|error| {
            let error = io::Error::new(error.kind(), error.to_string());
            self.fail(IoFailure::new("sync", &self.disk.describe(), error));
        })
    }

    fn seal_finished(&self, maintenance: &mut Maintenance) -> Result<(), IoFailure> {
        let unfinished = self.lock_state().writer.first_unfinished_segment();
        for segment in self.segments.unsealed() {
            let number = segment.number();
            if number < unfinished {
                let sealed = self.seal(&segment);
                sealed.map_err(|error| IoFailure::new("seal", &file_name(number), error))?;
                self.prepare_ahead(maintenance);
            }
        }
        Ok(())
    }

    /// Writes the footer of a segment in which everything is durable.
    fn seal(&self, segment: &Segment) -> io::Result<()> {
        self.note_maintained();
        let Some(file) = segment.writer() else { return Ok(()) };
        let header = &segment.header;
        let extent = segment.extent();
        let index = self.segments.index(segment, &*self.disk)?.unwrap_or_default();
        self.zero_rest(&*file, extent.end_offset, header.data_end())?;
        let (zone, trailer) = footer(header, &extent, &index);
        let trailer_start = zone.len() - to_usize(u64::from(header.block_bytes));
        // The index first: a trailer that is whole then never stands for an index that is torn.
        let (index, last) = zone.split_at(trailer_start);
        file.write_durable_at(index, header.data_end())?;
        file.write_durable_at(last, header.data_end() + to_u64(trailer_start))?;
        self.segments.handle_sealed(segment, trailer);
        Ok(())
    }

    /// Clears what a recycled file held where no batch is: the segment is the same on every replica.
    fn zero_rest(&self, file: &dyn DiskFile, start: u64, end: u64) -> io::Result<()> {
        let mut offset = start;
        while offset < end {
            let piece = (end - offset).min(ZERO_BYTES);
            file.write_durable_at(&Aligned::zeroed(to_usize(piece)), offset)?;
            offset += piece;
        }
        Ok(())
    }

    fn apply_retention(&self, maintenance: &mut Maintenance) -> Result<(), IoFailure> {
        let config = &self.config;
        if config.retain_bytes.is_none() && config.retain_seconds.is_none() {
            return Ok(());
        }
        let newest_ms = self.segments.last().map_or(0, |segment| segment.extent().last_time_ms);
        let newest_ms = newest_ms.min(self.age_horizon_ms(maintenance));
        let oldest_ms =
            config.retain_seconds.map(|s| newest_ms.saturating_sub(s.saturating_mul(1000)));
        let mut bytes: u64 = self.segments.all().iter().map(|s| s.header.segment_bytes).sum();
        while let Some(segment) = self.segments.first() {
            let over = config.retain_bytes.is_some_and(|retain_bytes| bytes > retain_bytes);
            let old = oldest_ms.is_some_and(|oldest| segment.extent().last_time_ms < oldest);
            let needed = segment.extent().end_lsn > maintenance.trim_limit();
            if !(over || old) || needed || !segment.is_sealed() {
                break;
            }
            bytes -= segment.header.segment_bytes;
            self.drop_first(maintenance, &segment)?;
            self.prepare_ahead(maintenance);
        }
        Ok(())
    }

    /// How far retention by age believes the wall clock: no farther than it had come before, twice the
    /// time that really passed since, and a bound. A clock that jumps forward, and even stays there,
    /// drops nothing that is not that much older; what was missed is caught up with at double pace.
    fn age_horizon_ms(&self, maintenance: &Maintenance) -> u64 {
        let passed_ms = self.disk.elapsed_ms().saturating_sub(maintenance.opened_at_ms);
        let believed_ms = maintenance.superblock.current().age_horizon_ms;
        let limit_ms = believed_ms.saturating_add(passed_ms.saturating_mul(2));
        self.disk.now_ms().min(limit_ms.saturating_add(CLOCK_JUMP_MAX_MS))
    }

    /// Drops whole segments that end at or before `lsn`; the new first LSN.
    pub(crate) fn trim(&self, lsn: Lsn) -> Result<Lsn, ChangeError> {
        let mut maintenance = self.lock_maintenance_in_time().map_err(ChangeError::Poisoned)?;
        let durable_lsn = self.progress.durable_lsn();
        if lsn > durable_lsn {
            return Err(ChangeError::OutOfRange { lsn, durable_lsn });
        }
        self.check_poison()?;
        let lsn = lsn.min(maintenance.trim_limit());
        let trimmed = self.seal_finished(&mut maintenance).and_then(|()| {
            while let Some(segment) = self.segments.first() {
                if segment.extent().end_lsn > lsn || !segment.is_sealed() {
                    break;
                }
                self.drop_first(&mut maintenance, &segment)?;
            }
            Ok(maintenance.superblock.current().first_lsn)
        });
        drop(maintenance);
        trimmed.map_err(|failure| self.poisoned_by(failure))
    }

    /// Drops the oldest segment, which is sealed, so that another one follows it.
    fn drop_first(
        &self,
        maintenance: &mut Maintenance,
        segment: &Arc<Segment>,
    ) -> Result<(), IoFailure> {
        self.note_maintained();
        let (first_lsn, first_segment) = (segment.extent().end_lsn, segment.number() + 1);
        let horizon_ms = self.age_horizon_ms(maintenance).saturating_sub(CLOCK_JUMP_MAX_MS);
        let retains_by_age = self.config.retain_seconds.is_some();
        let first_epoch = self.lock_epochs().at(first_lsn).filter(|e| e.segment < first_segment);
        maintenance.superblock.change(|superblock| {
            superblock.first_epoch = first_epoch;
            if retains_by_age {
                superblock.age_horizon_ms = superblock.age_horizon_ms.max(horizon_ms);
            }
            superblock.first_lsn = first_lsn;
            superblock.first_segment = first_segment;
        })?;
        self.lock_epochs().trim(first_lsn, first_segment);
        let removed = self.segments.remove_first();
        assert_eq!(removed.map(|s| s.number()), Some(segment.number()));
        let name = file_name(segment.number());
        let dropped = remove_if_there(&*self.disk, &parity::file_name(segment.number()))
            .and_then(|()| self.recycle(maintenance, segment, &name));
        dropped.map_err(|error| IoFailure::new("drop", &name, error))
    }

    fn recycle(
        &self,
        maintenance: &mut Maintenance,
        segment: &Segment,
        name: &str,
    ) -> io::Result<()> {
        let wanted = maintenance.spares.len() < self.config.spare_segments_max
            && segment.header.segment_bytes == self.config.segment_bytes;
        let unread = segment.retire();
        if wanted && unread {
            let file = self.disk.open(name, Access::Write)?;
            if file.try_lock_exclusive()? {
                let spare = segment.number();
                self.disk.rename(name, &spare_name(spare))?;
                maintenance.spares.push(spare);
                return file.unlock();
            }
        }
        self.disk.remove(name)
    }

    /// Notes how far the log is durable; true while the note is not durable itself.
    fn note_watermark(&self, maintenance: &mut Maintenance) -> Result<bool, IoFailure> {
        let (durable_lsn, checksum) = {
            let state = self.lock_state();
            (state.writer.durable_lsn(), state.writer.durable_place().link)
        };
        let moved = durable_lsn != maintenance.noted_lsn;
        if !moved && maintenance.noted_durably {
            return Ok(false);
        }
        let watermark = Watermark {
            sequence: 0,
            log_id: self.log_id,
            epoch: self.epoch(),
            durable_lsn,
            commit_lsn: self.commit_lsn().min(durable_lsn),
            checksum,
        };
        // While appends go on, their own syncs take the note along; at rest it is made durable.
        let written = maintenance.watermark.write(watermark, !moved);
        written.map_err(|error| IoFailure::new("write", crate::watermark::FILE_NAME, error))?;
        maintenance.noted_lsn = durable_lsn;
        maintenance.noted_durably = !moved;
        // A durable note is the last one until something moves.
        maintenance.noted_at = moved.then(Instant::now);
        Ok(moved)
    }

    /// What a log does last: the engine's checkpoint, if that saves the next open some work, and how
    /// far the log is durable.
    pub(crate) fn finish_maintenance(&self) -> Result<(), IoFailure> {
        let mut maintenance = self.lock_maintenance_in_time()?;
        self.list_segments(&mut maintenance, TABLE_SEGMENTS_AT_CLOSE)?;
        if self.config.retain_seconds.is_some() {
            // Without the bound, which a life would otherwise gain each time.
            let horizon_ms = self.age_horizon_ms(&maintenance).saturating_sub(CLOCK_JUMP_MAX_MS);
            maintenance.superblock.change(|superblock| {
                superblock.age_horizon_ms = superblock.age_horizon_ms.max(horizon_ms);
            })?;
        }
        while self.note_watermark(&mut maintenance)? {}
        Ok(())
    }

    /// Replaces the durable user cell.
    pub(crate) fn set_cell(&self, cell: &[u8]) -> Result<(), ChangeError> {
        let (bytes, bytes_max) = (cell.len(), CELL_BYTES_MAX);
        if bytes > bytes_max {
            return Err(ChangeError::CellTooLarge { bytes, bytes_max });
        }
        let mut maintenance = self.lock_maintenance_in_time().map_err(ChangeError::Poisoned)?;
        self.check_poison()?;
        let changed = maintenance.superblock.change(|s| s.cell = cell.to_vec());
        drop(maintenance);
        changed.map_err(|failure| self.poisoned_by(failure))
    }

    pub(crate) fn check_poison(&self) -> Result<(), ChangeError> {
        self.check_health().map_err(ChangeError::Poisoned)
    }

    pub(crate) fn poisoned_by(&self, failure: IoFailure) -> ChangeError {
        self.fail(failure.clone());
        ChangeError::Poisoned(failure)
    }
}

/// Removes a file unless it is not there.
pub(crate) fn remove_if_there(disk: &dyn Disk, name: &str) -> io::Result<()> {
    match disk.remove(name) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
