//! Reading sealed segments again and again: to protect each with digest and parity once it is sealed,
//! and later to find rot and mend it before anybody asks for the records.
//!
//! Owns the scrub of an open log: its pace, its rounds, what it found, and the replacement of a damaged
//! segment file by a mended one. Parity itself is `parity`'s. The same work over a log that nobody has
//! open is `repair`'s.
//!
//! Invariants
//!  B1. Parity is taken only of bytes whose batches were verified, in one reading: rot is never
//!      protected.                                          test `a_damaged_segment_gets_no_parity`
//!  B2. Records that are not those whose digest was taken are damage, however whole they are, and get no
//!      new parity.                           test `d12_records_that_were_exchanged_are_noticed`
//!  B3. A segment is mended by a new file that takes its name when all of it is on the medium and was
//!      read back.                                          test `a_power_cut_while_a_segment_is_mended`
//!  B4. One thread at a time scrubs a segment.                 test `a_power_cut_while_two_scrub_at_once`
//!
//! Bounds: one piece, one batch and what parity takes; slabs only while damage is mended;
//! `scrub_bytes_per_second`.
//! Threads: one, which pauses between pieces of a slab, and whoever asks for a scrub; they take turns. A
//! log without threads scrubs when it is told to.
//! Crash: temporary files, which the next open removes.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use crate::disk::{Aligned, DiskFile};
use crate::error::{Corruption, IoFailure};
use crate::format::bytes::to_u64;
use crate::format::parity::{Layout, UNIT_BYTES};
use crate::format::segment::file_name;
use crate::format::table::Digest;
use crate::format::version::Fault;
use crate::log::core::{Core, Signal};
use crate::log::maintenance::remove_if_there;
use crate::names::MEND_SUFFIX;
use crate::parity::{Parity, ParityWriter, SLAB_BYTES};
use crate::read::Assembler;
use crate::segments::Segment;
use crate::stats::Counters;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Far behind threads that serve somebody.
const NICE: i32 = 19;
/// While somebody appends, the scrub takes this part of its rate; the greater one when too many segments
/// wait. Each piece keeps an append waiting for its reading and its checksums: one in a hundred shows in
/// the tail of the latencies.
const BUSY_DIVISOR: u64 = 32;
const BEHIND_DIVISOR: u64 = 8;
/// Sealed segments without digest and parity that may wait for a quieter time.
const BACKLOG_SEGMENTS: u64 = 16;
/// Bytes that are read at once.
const PIECE_BYTES: usize = 32 << 10;
/// How often it is looked whether there is something to do.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What the scrub of an open log keeps.
#[derive(Debug, Default)]
pub(crate) struct Scrub {
    pub(crate) signal: Signal,
    /// Held by whoever scrubs a segment: two at once would write the same temporary file, and one would
    /// rename what the other has not finished.
    turn: Mutex<()>,
    /// When the disk last answered that one, by `Disk::elapsed_ms`.
    answered_ms: AtomicU64,
    /// The first damaged place of each segment that could not be mended.
    damage: Mutex<BTreeMap<u64, Corruption>>,
}

impl Scrub {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Corruption>> {
        self.damage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets what was found in segments from this one on: they are others now.
    pub(crate) fn forget_from(&self, segment: u64) {
        self.lock().split_off(&segment);
    }

    pub(crate) fn damage(&self) -> Vec<Corruption> {
        self.lock().values().cloned().collect()
    }
}

/// A file that is read in small pieces and at or below a rate, so that those who wait for the disk wait
/// behind no long reads.
struct Paced<'a> {
    core: &'a Core,
    file: Arc<dyn DiskFile>,
    /// When the next piece may be read.
    due: Cell<Instant>,
    /// Batches of the log at the last piece: more of them say that somebody appends.
    batches: Cell<u64>,
}

impl Paced<'_> {
    /// Reads the next piece; zeros follow where the file ends.
    fn read(&self, piece: &mut Aligned, offset: u64) -> io::Result<()> {
        let filled = self.file.read_direct_at(piece, offset)?;
        self.core.note_scrub();
        piece[filled..].fill(0);
        self.pause(to_u64(filled));
        Ok(())
    }

    /// Accounts for bytes that were read, and waits as long as they may take.
    fn pause(&self, read: u64) {
        Counters::add(&self.core.counters.scrubbed_bytes, read);
        let rate = self.core.config.scrub_bytes_per_second;
        if !self.core.has_threads || rate == 0 {
            return;
        }
        let batches = Counters::get(&self.core.counters.batches);
        let is_busy = self.batches.replace(batches) != batches;
        let is_behind = self.core.segments.unprotected_count() > BACKLOG_SEGMENTS;
        let rate = match (is_busy, is_behind) {
            (false, _) => rate,
            (true, false) => rate / BUSY_DIVISOR,
            (true, true) => rate / BEHIND_DIVISOR,
        };
        let takes = Duration::from_micros(read.saturating_mul(1_000_000) / rate.max(1));
        let now = Instant::now();
        let due = self.due.get().max(now) + takes;
        self.due.set(due);
        self.core.stopped.wait_timeout(due - now);
    }

    /// False when the log stops.
    fn goes_on(&self) -> bool {
        !self.core.stop.load(Ordering::SeqCst) && self.core.lock_state().writer.poison().is_none()
    }
}

impl Core {
    /// The thread that protects and scrubs. Runs until the log stops.
    pub(crate) fn run_scrub_thread(&self) {
        let _guard = self.poison_on_panic();
        // On Linux this is the thread's own. Whoever appends goes first; where that is refused, the scrub
        // is only less polite.
        let _ = rustix::process::nice(NICE);
        let interval = Duration::from_secs(self.config.scrub_interval_seconds);
        let mut round_ended = Instant::now();
        while !self.stop.load(Ordering::SeqCst) {
            self.protect_all();
            if round_ended.elapsed() >= interval {
                self.scrub_all();
                round_ended = Instant::now();
            }
            self.scrub.signal.wait_timeout(LOOK_INTERVAL);
            self.scrub.signal.take();
            self.check_stall();
        }
    }

    /// Protects every sealed segment that is not yet.
    pub(crate) fn protect_all(&self) {
        for segment in self.segments.unprotected() {
            let is_known_damaged = self.scrub.lock().contains_key(&segment.number());
            if !is_known_damaged {
                self.scrub_segment(&segment);
            }
            if self.stop.load(Ordering::SeqCst) {
                return;
            }
        }
    }

    /// One round over every sealed segment.
    pub(crate) fn scrub_all(&self) {
        for segment in self.segments.all() {
            if segment.is_sealed() {
                self.scrub_segment(&segment);
            }
            if self.stop.load(Ordering::SeqCst) {
                return;
            }
        }
        Counters::add(&self.counters.scrub_rounds, 1);
    }

    /// Reads one sealed segment and does for it what it needs. What goes wrong here harms nobody: it is
    /// noted, and tried again in the next round.
    pub(crate) fn scrub_segment(&self, segment: &Arc<Segment>) {
        if self.lock_state().writer.poison().is_some() {
            return;
        }
        let turn = self.lock_in_time(&self.scrub.turn, &self.scrub.answered_ms);
        let Ok(_turn) = turn else { return };
        self.note_scrub();
        let found = match self.check_parity(segment) {
            Ok(Some(found)) => Ok(found),
            Ok(None) => self.protect(segment),
            Err(error) => Err(error),
        };
        match found {
            // What was truncated meanwhile is another segment now.
            Ok(_) if !self.segments.has(segment) => {}
            Ok(Found::Whole) => drop(self.scrub.lock().remove(&segment.number())),
            Ok(Found::Damaged(corruption)) => {
                self.scrub.lock().insert(segment.number(), corruption);
                if !self.segments.has(segment) {
                    self.scrub.lock().remove(&segment.number());
                }
            }
            Ok(Found::Interrupted) => {}
            // Full, dropped meanwhile, or the medium does not give it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(_) => Counters::add(&self.counters.scrub_failures, 1),
        }
    }

    /// Compares a segment with its parity, and mends what is damaged of either. `None` when there is no
    /// parity that would be worth anything.
    fn check_parity(&self, segment: &Arc<Segment>) -> io::Result<Option<Found>> {
        if !segment.has_parity() {
            return Ok(None);
        }
        let parity = match Parity::of(&*self.disk, segment) {
            Ok(Ok(parity)) => parity,
            Ok(Err(_)) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let file = segment.file(&*self.disk)?;
        let paced = self.paced(&file);
        let layout = Layout::of(segment.header.segment_bytes);
        let mut damaged = 0;
        let mut piece = Aligned::zeroed(PIECE_BYTES);
        for slab in 0..layout.slabs() {
            let mut is_whole = true;
            for (offset, bytes) in pieces(layout, slab) {
                let read = paced.read(&mut piece, offset);
                is_whole &= read.is_ok() && parity.matches_at(offset, &piece[..bytes]);
                if !paced.goes_on() {
                    return Ok(Some(Found::Interrupted));
                }
            }
            if is_whole {
                continue;
            }
            match parity.mended_slab(&*file, slab)? {
                Ok((_, units)) => damaged += to_u64(units),
                // More than parity makes up for: the batches say what is left.
                Err(_) => return self.check_batches(segment, &file, &parity),
            }
        }
        if damaged > 0 {
            Counters::add(&self.counters.units_damaged, damaged);
            self.mend(segment, &file, &parity)?;
            Counters::add(&self.counters.units_mended, damaged);
        }
        if !parity.is_whole() {
            return Ok(None);
        }
        self.segments.handle_protected(segment, parity.digest(), true);
        Ok(Some(Found::Whole))
    }

    fn note_scrub(&self) {
        self.scrub.answered_ms.store(self.disk.elapsed_ms(), Ordering::Relaxed);
    }

    fn paced(&self, file: &Arc<dyn DiskFile>) -> Paced<'_> {
        let batches = Cell::new(Counters::get(&self.counters.batches));
        Paced { core: self, file: Arc::clone(file), due: Cell::new(Instant::now()), batches }
    }

    /// What a segment is of which more differs than parity makes up for. `None` when every record is as it
    /// was: then the parity is of other bytes, and worth nothing.
    fn check_batches(
        &self,
        segment: &Arc<Segment>,
        file: &Arc<dyn DiskFile>,
        parity: &Parity,
    ) -> io::Result<Option<Found>> {
        Ok(match self.read_once(segment, file, None)? {
            Ok(digest) if digest == parity.digest() => None,
            // Records that are whole, and not those that were sealed: their parity is the only evidence.
            Ok(_) => {
                let (number, lsn) = (segment.number(), segment.header.base_lsn);
                let (offset, fault) = (0, Fault::Digest);
                Some(Found::Damaged(Corruption { segment: number, offset, lsn, fault }))
            }
            Err(found) => Some(found),
        })
    }

    /// Reads a segment once: verifies its batches, computes its digest, and writes its parity.
    fn protect(&self, segment: &Arc<Segment>) -> io::Result<Found> {
        let file = segment.file(&*self.disk)?;
        let (number, bytes) = (segment.number(), segment.header.segment_bytes);
        let mut writer = match self.config.parity {
            true => Some(ParityWriter::create(&*self.disk, number, bytes)?),
            false => None,
        };
        let read = self.read_once(segment, &file, writer.as_mut());
        let digest = match read {
            Ok(Ok(digest)) => digest,
            other => {
                writer.into_iter().for_each(ParityWriter::abandon);
                return other.map(|found| found.expect_err("a digest was handled above"));
            }
        };
        if let Some(writer) = writer {
            if let Err(error) = writer.finish(segment, digest) {
                writer.abandon();
                return Err(error);
            }
            let _maintenance = self.lock_maintenance_in_time().map_err(io::Error::other)?;
            if !self.segments.has(segment) {
                // Dropped or truncated meanwhile: the parity would be that of what is gone.
                writer.abandon();
                return Ok(Found::Interrupted);
            }
            writer.publish()?;
            self.sync_directory()?;
        }
        self.segments.handle_protected(segment, digest, self.config.parity);
        Counters::add(&self.counters.segments_protected, 1);
        Ok(Found::Whole)
    }

    /// The digest of a segment that is whole; or what was found instead.
    fn read_once(
        &self,
        segment: &Arc<Segment>,
        file: &Arc<dyn DiskFile>,
        mut writer: Option<&mut ParityWriter<'_>>,
    ) -> io::Result<Result<Digest, Found>> {
        let mut assembler = Assembler::new(segment);
        let layout = Layout::of(segment.header.segment_bytes);
        let paced = self.paced(file);
        let mut piece = Aligned::zeroed(PIECE_BYTES);
        for (offset, bytes) in (0..layout.slabs()).flat_map(|slab| pieces(layout, slab)) {
            if paced.read(&mut piece, offset).is_err() {
                let (segment, lsn) = (segment.number(), assembler.lsn());
                let (offset, fault) = (assembler.offset(), Fault::Unreadable);
                return Ok(Err(Found::Damaged(Corruption { segment, offset, lsn, fault })));
            }
            assembler.add(&piece[..bytes]);
            if let Some(writer) = &mut writer {
                writer.add(&piece[..bytes])?;
            }
            if !paced.goes_on() {
                return Ok(Err(Found::Interrupted));
            }
        }
        Ok(assembler.finish().map_err(Found::Damaged))
    }

    /// Puts a file in the place of a damaged segment in which everything that parity can is rebuilt.
    fn mend(
        &self,
        segment: &Arc<Segment>,
        damaged: &Arc<dyn DiskFile>,
        parity: &Parity,
    ) -> io::Result<()> {
        let name = file_name(segment.number());
        let temporary = format!("{name}{MEND_SUFFIX}");
        remove_if_there(&*self.disk, &temporary)?;
        let made = self.write_mended(segment, damaged, parity, &temporary);
        let _maintenance = self.lock_maintenance_in_time().map_err(io::Error::other)?;
        if made.is_err() || !self.segments.has(segment) {
            let _ = remove_if_there(&*self.disk, &temporary);
            return made;
        }
        self.disk.rename(&temporary, &name)?;
        self.sync_directory()?;
        segment.handle_replaced();
        Ok(())
    }

    fn write_mended(
        &self,
        segment: &Segment,
        damaged: &Arc<dyn DiskFile>,
        parity: &Parity,
        temporary: &str,
    ) -> io::Result<()> {
        let bytes = segment.header.segment_bytes;
        let file = self.disk.create(temporary, bytes)?;
        let slabs = Layout::of(bytes).slabs();
        let changed = || io::Error::other("the segment was damaged further while it was mended");
        for slab in 0..slabs {
            self.note_scrub();
            let (content, _) = parity.mended_slab(&**damaged, slab)?.map_err(|_| changed())?;
            let start = to_u64(slab * SLAB_BYTES);
            let end = bytes.min(start + to_u64(content.len()));
            file.write_at(&content[..crate::format::bytes::to_usize(end - start)], start)?;
        }
        file.sync()?;
        for slab in 0..slabs {
            match parity.mended_slab(&*file, slab)? {
                Ok((_, 0)) => {}
                _ => return Err(changed()),
            }
        }
        Ok(())
    }

    /// Why a poisoned or closed log does not scrub; for calls that ask for it.
    pub(crate) fn scrub_now(&self) -> Result<(), IoFailure> {
        self.check_health()?;
        self.scrub_all();
        Ok(())
    }
}

/// Where the pieces of a slab start, and how long they are: whole units.
fn pieces(layout: Layout, slab: usize) -> impl Iterator<Item = (u64, usize)> {
    let slab_bytes = layout.data_units(slab) * UNIT_BYTES;
    (0..slab_bytes)
        .step_by(PIECE_BYTES)
        .map(move |start| (to_u64(slab * SLAB_BYTES + start), PIECE_BYTES.min(slab_bytes - start)))
}

/// What a reading of one segment found.
enum Found {
    /// Every byte is as it was written, or is again.
    Whole,
    /// This is damaged, and parity does not make up for it.
    Damaged(Corruption),
    /// The log stops, or dropped the segment.
    Interrupted,
}
