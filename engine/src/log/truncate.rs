//! Truncating an open log: giving up its end, so that other records can take its place.
//!
//! Owns the order of FORMAT.md, section 7, while appends wait: copy what is given up into a fork, record
//! the cut, and let recovery finish it exactly as after a crash. What memory holds is then taken from what
//! recovery found. Does not write forks (`fork`) nor finish cuts (`recovery::cut`).
//!
//! Invariants
//!  U1. Nothing is changed before the fork is on the medium under its name.
//!                                  test `a_power_cut_at_every_operation_of_a_truncation`
//!  U2. Whatever comes after the cut is recorded is what an open would do: a crash changes nothing about
//!      the outcome.                                                         same test
//!  U3. A reader that stands behind the cut hears of it.       test `readers_hear_of_a_truncation`
//!
//! Threads: one at a time; appends and checkpoints wait meanwhile, reads go on.
//! Crash: the log as it was, perhaps with a temporary file; or as the truncation leaves it.

use super::core::{Core, Driver, Maintenance};
use super::open::Opening;
use crate::checkpoint::DirectoryInDoubt;
use crate::disk::Access;
use crate::error::{AppendError, ChangeError, Corruption, IoFailure, OpenError, ReadError};
use crate::fork::{self, Part};
use crate::format::batch::{BatchHeader, Records, producer_runs};
use crate::format::fork::ForkHeader;
use crate::format::segment::file_name;
use crate::format::superblock::{Cut, Restore, Truncations};
use crate::format::version::Fault;
use crate::parity::{MendedFile, Parity};
use crate::read::{Cursor, ScanEnd, Way, Window};
use crate::recovery::read_header;
use crate::superblock::SuperblockStore;
use crate::sync::{Arc, MutexGuard, PoisonError, thread};
use crate::wal::place;
use crate::wal::scan::Chain;
use crate::wal::steps::Producer;
use crate::{Lsn, LsnRange};

/// What a truncation did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Truncated {
    /// The records given up; empty when the log ended there already.
    pub given_up: LsnRange,
    /// The file in the log's directory that holds them now; `None` when there are none.
    pub fork: Option<String>,
}

/// Where a cut is made.
struct Place {
    cut: Cut,
    /// Records of a batch in whose middle it is; none when it is at its end.
    restore: Restore,
}

/// Lets appends go on when it is dropped.
struct Paused<'a>(&'a Core);

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        self.0.lock_state().paused_by = None;
        self.0.resumed.notify_all();
    }
}

impl Core {
    /// Gives up every record from `lsn` on.
    pub(crate) fn truncate(&self, lsn: Lsn) -> Result<Truncated, ChangeError> {
        let _guard = self.poison_on_panic();
        let _no_checkpoint = self.checkpointing.lock().unwrap_or_else(PoisonError::into_inner);
        let _turn = self.take_turn();
        let _paused = self.pause_appends()?;
        self.mend_around(lsn);
        let maintenance = self.lock_maintenance_in_time().map_err(ChangeError::Poisoned)?;
        self.wait_for_driver();
        self.check_poison()?;
        let end_lsn = self.progress.durable_lsn();
        self.check_truncation(&maintenance, lsn, end_lsn)?;
        if lsn == end_lsn {
            return Ok(Truncated { given_up: lsn..lsn, fork: None });
        }
        let place = self.find_place(lsn).map_err(ChangeError::Unreadable)?;
        self.cut_at(maintenance, &place, lsn)
    }

    /// Gives up everything behind the end of a batch, in a log that does not lead.
    pub(crate) fn truncate_to(&self, kept: place::Place) -> Result<Truncated, ChangeError> {
        let _guard = self.poison_on_panic();
        let _no_checkpoint = self.checkpointing.lock().unwrap_or_else(PoisonError::into_inner);
        let _turn = self.take_turn();
        let _paused = self.pause_appends()?;
        self.mend_around(kept.lsn);
        let maintenance = self.lock_maintenance_in_time().map_err(ChangeError::Poisoned)?;
        self.wait_for_driver();
        self.check_poison()?;
        let (end, leads) = {
            let state = self.lock_state();
            (state.writer.durable_place(), state.writer.leads())
        };
        if kept == end {
            return Ok(Truncated { given_up: kept.lsn..kept.lsn, fork: None });
        }
        let lsn = kept.lsn.max(Lsn::FIRST);
        self.check_truncation(&maintenance, lsn, end.lsn)?;
        let commit_lsn = self.commit_lsn();
        // Where no record is given up, it does not matter that more is committed than this replica has.
        if lsn < commit_lsn.min(end.lsn) {
            return Err(ChangeError::Committed { lsn, commit_lsn });
        }
        let (segment, offset) = (kept.segment, kept.offset);
        if leads || !self.holds(kept).map_err(ChangeError::Unreadable)? {
            return Err(ChangeError::NoSuchPlace { segment, offset });
        }
        // Of a log that begins elsewhere not even the header of the first segment is kept.
        let segment = segment.max(maintenance.superblock.current().first_segment);
        let cut = Cut { lsn, segment, offset, epoch: self.epoch() };
        self.cut_at(maintenance, &Place { cut, restore: Restore::default() }, lsn)
    }

    /// The truncation itself, when it is known to be possible.
    fn cut_at(
        &self,
        mut maintenance: MutexGuard<'_, Maintenance>,
        place: &Place,
        lsn: Lsn,
    ) -> Result<Truncated, ChangeError> {
        let end_lsn = self.progress.durable_lsn();
        self.check_kept(place).map_err(ChangeError::Unreadable)?;
        let fork = self.write_fork(&maintenance, place, lsn..end_lsn)?;
        self.check_poison()?;
        let recorded = maintenance.superblock.change(|superblock| {
            superblock.cut = place.cut;
            superblock.restore = place.restore;
            let count = superblock.truncations.count + 1;
            superblock.truncations = Truncations { count, last_lsn: lsn };
        });
        recorded.map_err(|failure| self.poisoned_by(failure))?;
        self.hot.truncate(place.cut.lsn);
        self.progress.truncate(lsn, place.cut.lsn);
        self.take_from_disk(&mut maintenance).map_err(|e| self.poisoned_by(self.failure_of(e)))?;
        drop(maintenance);
        self.finish_truncation().map_err(|e| self.poisoned_by(self.failure_of(e)))?;
        self.background.raise();
        Ok(Truncated { given_up: lsn..end_lsn, fork: Some(fork) })
    }

    /// The segment in which the cut is made is read without its parity from then on: what that makes up for
    /// is mended first. Whether that went well shows when the place is looked at again.
    fn mend_around(&self, lsn: Lsn) {
        let first = self.segments.first().map_or(Lsn::FIRST, |first| first.header.base_lsn);
        if (first..self.progress.durable_lsn()).contains(&lsn)
            && let Ok(place) = self.find_place(lsn)
            && self.check_kept(&place).is_err()
            && let Some(segment) = self.segments.get(place.cut.segment)
        {
            self.scrub_segment(&segment);
        }
    }

    /// Whether recovery will find what is kept of the segment of the cut: as it stands on the medium, up to
    /// the cut and to the end of a batch in whose middle it is.
    fn check_kept(&self, place: &Place) -> Result<(), ReadError> {
        let number = place.cut.segment;
        if place.cut.offset == 0 {
            return Ok(());
        }
        let segment = self.segments.get(number).expect("the place was found in it");
        let failed = |error| ReadError::Io(IoFailure::new("read", &file_name(number), error));
        let file = self.disk.open(&file_name(number), Access::Read).map_err(failed)?;
        let mut chain = Chain::at_segment(&segment.header, Cut::default());
        let header = read_header(&*file, chain.block_bytes).map_err(failed)?;
        let mut window = Window::new(file, true);
        let mut fault = header.as_ref().err().copied();
        let reached_lsn = place.cut.lsn.max(place.restore.end_lsn);
        while fault.is_none() && (chain.offset < place.cut.offset || chain.lsn < reached_lsn) {
            match window.next_batch(&chain).map_err(failed)? {
                Ok((header, _)) => chain.advance(&header),
                Err(ScanEnd::Fault(found)) => fault = Some(found),
                Err(ScanEnd::Full) => fault = Some(Fault::Short),
            }
        }
        let (offset, lsn) = (chain.offset, chain.lsn);
        fault.map_or(Ok(()), |fault| Err(Corruption { segment: number, offset, lsn, fault }.into()))
    }

    /// Has everybody who appends wait, and everything that was appended become durable or fail.
    fn pause_appends(&self) -> Result<Paused<'_>, ChangeError> {
        let mut state = self.lock_state();
        while state.paused_by.is_some() {
            state = self.resumed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.closed {
            return Err(ChangeError::Closed);
        }
        state.paused_by = Some(thread::current().id());
        let paused = Paused(self);
        while let Some(commit) = state.writer.last_commit().map(Arc::clone) {
            // Records of others may be refused because there is no room: they hear of it.
            if let Err(AppendError::Poisoned(failure)) = self.drive_or_wait(state, &commit, true) {
                return Err(ChangeError::Poisoned(failure));
            }
            state = self.lock_state();
        }
        drop(state);
        Ok(paused)
    }

    /// Whoever wrote last may still be about to leave.
    fn wait_for_driver(&self) {
        while self.lock_state().driver != Driver::Nobody {
            thread::yield_now();
        }
    }

    fn check_truncation(
        &self,
        maintenance: &Maintenance,
        lsn: Lsn,
        durable_lsn: Lsn,
    ) -> Result<(), ChangeError> {
        if lsn > durable_lsn {
            return Err(ChangeError::OutOfRange { lsn, durable_lsn });
        }
        let first_lsn = maintenance.superblock.current().first_lsn;
        if lsn < first_lsn {
            return Err(ChangeError::Trimmed { lsn, first_lsn });
        }
        match maintenance.checkpoints.last() {
            Some(oldest_lsn) if lsn < *oldest_lsn && first_lsn > Lsn::FIRST => {
                Err(ChangeError::BeforeCheckpoints { lsn, oldest_lsn: *oldest_lsn })
            }
            _ => Ok(()),
        }
    }

    /// The first place behind the record before `lsn`, or the start of the batch that holds both.
    fn find_place(&self, lsn: Lsn) -> Result<Place, ReadError> {
        let epoch = self.epoch();
        let first = self.segments.first().expect("a log with records has a segment");
        let before = Lsn::new(lsn.get().saturating_sub(1)).max(first.header.base_lsn);
        let segment = self.segments.find(before).expect("it is not before the first");
        let start = u64::from(segment.header.block_bytes);
        let mut place = Place {
            cut: Cut { lsn, segment: segment.number(), offset: start, epoch },
            restore: Restore::default(),
        };
        if lsn == segment.header.base_lsn {
            return Ok(place);
        }
        let index = self.segments.index(&segment, &*self.disk);
        let index =
            index.map_err(|error| IoFailure::new("read", &file_name(segment.number()), error));
        let index = index.map_err(ReadError::Io)?;
        let mut cursor =
            Cursor::near(&*self.disk, &segment, Way::InProcess, index.as_deref(), before)?;
        loop {
            let offset = cursor.offset();
            let (header, _) = cursor.next(&*self.disk)?;
            if header.end_lsn() == lsn {
                place.cut.offset = cursor.offset();
                return Ok(place);
            }
            if header.end_lsn() > lsn {
                if header.lost.is_some() {
                    return Err(ReadError::Lost { range: header.base_lsn..header.end_lsn() });
                }
                (place.cut.lsn, place.cut.offset) = (header.base_lsn, offset);
                place.restore = Restore { end_lsn: lsn, epoch };
                return Ok(place);
            }
        }
    }

    fn write_fork(
        &self,
        maintenance: &Maintenance,
        place: &Place,
        given_up: LsnRange,
    ) -> Result<String, ChangeError> {
        let mut parts = Vec::new();
        for segment in self.segments.all() {
            let number = segment.number();
            let start = match number.cmp(&place.cut.segment) {
                std::cmp::Ordering::Less => continue,
                std::cmp::Ordering::Equal => place.cut.offset,
                std::cmp::Ordering::Greater => u64::from(segment.header.block_bytes),
            };
            let name = file_name(number);
            let file = self.disk.open(&name, Access::Read);
            let file = file
                .map_err(|error| ChangeError::NotTruncated(IoFailure::new("open", &name, error)))?;
            let bytes = segment.header.segment_bytes;
            // The last chance for what parity makes up for: it is removed.
            let file = match Parity::open(&*self.disk, self.log_id, number, bytes) {
                Ok(Ok(parity)) if segment.has_parity() => Arc::new(MendedFile::new(file, parity)),
                _ => file,
            };
            parts.push(Part { file, offsets: start..segment.extent().end_offset });
        }
        let bytes = parts.iter().map(|part| part.offsets.end - part.offsets.start).sum();
        let bytes_max = self.config.fork_bytes_max;
        if bytes > bytes_max {
            return Err(ChangeError::ForkTooLarge { bytes, bytes_max });
        }
        let superblock = maintenance.superblock.current();
        let header = ForkHeader {
            log_id: self.log_id,
            lineage_id: superblock.lineage_id,
            incarnation: superblock.incarnation,
            lsn: given_up.start,
            end_lsn: given_up.end,
            epoch: place.cut.epoch,
            segment: place.cut.segment,
            offset: place.cut.offset,
            time_ms: self.disk.now_ms(),
            content_bytes: 0,
            content_checksum: 0,
            block_bytes: superblock.block_bytes,
        };
        let written = fork::write(&*self.disk, header, &parts, &|| self.note_maintained());
        let name = written.map_err(|error| {
            let in_doubt = error.get_ref().is_some_and(|inner| inner.is::<DirectoryInDoubt>());
            let failure = IoFailure::new("write", "a fork", error);
            if in_doubt { self.poisoned_by(failure) } else { ChangeError::NotTruncated(failure) }
        })?;
        if place.restore.end_lsn > Lsn::NONE {
            // Recovery relies on it from now on.
            fork::first_batch(&*self.disk, self.log_id, place.restore)
                .map_err(ChangeError::NotTruncated)?;
        }
        Ok(name)
    }

    /// Recovers as after a crash, and goes on from there.
    fn take_from_disk(&self, maintenance: &mut Maintenance) -> Result<(), OpenError> {
        let (disk, config) = (Arc::clone(&self.disk), self.config.clone());
        let superblock = SuperblockStore::open(&*self.disk)?;
        let commit_lsn = self.commit_lsn().min(self.progress.durable_lsn());
        let nonce = self.nonce;
        let mut opening = Opening { disk, config, superblock, nonce, commit_lsn };
        let (found, _) = opening.recover(false, 0)?;
        self.note_maintained();
        let cleaned = opening.clean_up(&found)?;
        let writer = opening.writer(&found, Arc::clone(&self.feed));
        let epoch = opening.superblock.current().promised_epoch;
        let epochs = found.epochs.clone();
        let (segments, renewed) = opening.maintenance(found, cleaned)?;
        let (opened_at_ms, self_test_pending) =
            (maintenance.opened_at_ms, maintenance.self_test_pending);
        *maintenance = Maintenance { opened_at_ms, self_test_pending, ..renewed };
        self.segments.handle_truncated(segments);
        self.scrub.forget_from(self.segments.sealed_end());
        self.set_epoch(epoch);
        *self.lock_epochs() = epochs;
        let mut state = self.lock_state();
        if let Some(AppendError::Poisoned(failure)) = state.writer.poison() {
            // Whatever failed meanwhile is not forgotten with the old writer.
            return Err(failure.clone().into());
        }
        state.writer = writer;
        Ok(())
    }

    /// Appends again what was kept of a batch in whose middle a cut was made, and records that the cut
    /// is finished. Without effect when it is.
    pub(crate) fn finish_truncation(&self) -> Result<(), OpenError> {
        let (cut, restore) = {
            let maintenance = self.lock_maintenance();
            let superblock = maintenance.superblock.current();
            (superblock.cut, superblock.restore)
        };
        if !cut.is_pending() {
            return Ok(());
        }
        self.restore(restore)?;
        let mut maintenance = self.lock_maintenance();
        maintenance.superblock.change(|superblock| {
            superblock.cut = Cut::default();
            superblock.restore = Restore::default();
        })?;
        Ok(())
    }

    fn restore(&self, restore: Restore) -> Result<(), OpenError> {
        let (header, bytes) = fork::first_batch(&*self.disk, self.log_id, restore)?;
        let records = records_of(&header, &bytes).map_err(|fault| {
            let error = std::io::Error::new(std::io::ErrorKind::InvalidData, fault.to_string());
            IoFailure::new("restore from", "a fork", error)
        })?;
        // An earlier try may have come as far as this.
        let start_lsn = self.lock_state().writer.end_lsn();
        let skipped = start_lsn.get().saturating_sub(header.base_lsn.get());
        let kept = restore.end_lsn.get().saturating_sub(header.base_lsn.get());
        let (mut at, kept) = (index_of(skipped), index_of(kept).min(records.len()));
        while at < kept {
            let (producer, end) = run_at(&header, &bytes, at);
            let end = end.min(kept);
            self.append_in_turn(&records[at..end], producer).map_err(|error| match error {
                AppendError::Full(failure)
                | AppendError::NoSegment(failure)
                | AppendError::Poisoned(failure) => failure,
                other => {
                    let error = std::io::Error::other(other.to_string());
                    IoFailure::new("append", "what was restored", error)
                }
            })?;
            at = end;
        }
        Ok(())
    }

    fn failure_of(&self, error: OpenError) -> IoFailure {
        match error {
            OpenError::Io(failure) | OpenError::Full(failure) => failure,
            other => {
                let error = std::io::Error::other(other.to_string());
                IoFailure::new("truncate", &self.disk.describe(), error)
            }
        }
    }
}

/// A count of records in one batch.
fn index_of(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

fn records_of<'a>(header: &BatchHeader, batch: &'a [u8]) -> Result<Vec<&'a [u8]>, Fault> {
    let mut places = Records::new(header);
    let mut records = Vec::new();
    while let Some(place) = places.next_in(batch)? {
        records.push(&batch[place]);
    }
    Ok(records)
}

/// Who appended the record at this place of a batch, and where that run of records ends.
fn run_at(header: &BatchHeader, batch: &[u8], at: usize) -> (Option<Producer>, usize) {
    let mut end = usize::MAX;
    for run in producer_runs(header, batch) {
        let first = index_of(u64::from(run.first_record));
        let count = index_of(u64::from(run.record_count));
        if (first..first + count).contains(&at) {
            let first_sequence = run.first_sequence.saturating_add((at - first) as u64);
            return (Some(Producer { id: run.producer_id, first_sequence }), first + count);
        }
        if first > at {
            end = end.min(first);
        }
    }
    (None, end)
}
