//! Opening a log: from a directory to a [`Log`], through recovery.
//!
//! Owns the order in which an open touches a directory: look, lock, read, decide; and only then change.
//!
//! Crash: at any point the next open finds the same records. A directory that was being made has no
//! superblock under its name yet and is made again.

use std::any::Any;
use std::io;
use std::path::Path;
use std::time::Duration;

use super::Log;
use super::core::{Core, Driver, Maintenance, Signal, State};
use super::maintenance::remove_if_there;
use super::progress::Progress;
use crate::config::{BUFFER_BATCHES, Config};
use crate::disk::{ALIGNMENT, Access, Disk, Entry, EntryKind, OsDisk, Pool};
use crate::error::{IoFailure, OpenError};
use crate::fork;
use crate::format::batch::EpochStart;
use crate::format::checkpoint::Kind;
use crate::format::segment::file_name;
use crate::format::superblock::{Cut, LeaderId, Restore, Superblock, Truncations};
use crate::format::version::Fault;
use crate::names::{Name, classify};
use crate::read::{not_found, verdict_of};
use crate::recovery::{
    Examined, RecoveryReport, Verdict, examine, finish_cut, lower_watermark, read_back, renew_tail,
    sync_tail,
};
use crate::scrub::Scrub;
use crate::segments::{Segment, Segments};
use crate::stats::Counters;
use crate::superblock::{FILE_NAME, SuperblockStore};
use crate::sync::atomic::{AtomicBool, AtomicU64};
use crate::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError, thread};
use crate::wal::feed::Feed;
use crate::wal::hot::HotTail;
use crate::wal::place::Place;
use crate::wal::steps::{ActiveSegment, Limits, Start};
use crate::wal::writer::Writer;
use crate::watermark::WatermarkStore;
use crate::{Epoch, Lsn};

/// A reader that looks whether the log is locked holds the lock for a moment: try again so often.
const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(5);

pub(super) fn open(directory: &Path, config: Config) -> Result<(Log, RecoveryReport), OpenError> {
    config.check()?;
    let disk = OsDisk::open(directory, config.create, config.backend).map_err(|error| {
        if config.create {
            IoFailure::new("make or open", &directory.display().to_string(), error).into()
        } else {
            not_found(directory, error)
        }
    })?;
    if let Some(durable_write) = config.durable_write {
        disk.set_durable_write(durable_write);
    }
    open_on(Arc::new(disk), config, true)
}

pub(super) fn open_on(
    disk: Arc<dyn Disk>,
    mut config: Config,
    has_threads: bool,
) -> Result<(Log, RecoveryReport), OpenError> {
    config.check()?;
    let has_log = check_directory(&*disk, config.create)?;
    let lock = take_lock(&*disk)?;
    let superblock = if has_log || check_directory(&*disk, config.create)? {
        SuperblockStore::open(&*disk)?
    } else {
        create(&*disk, &config)?
    };
    check_identity(&*disk, &config, superblock.current())?;
    config.block_bytes = superblock.current().block_bytes;
    config.check()?;
    let created = superblock.current().start_counter == 0;
    let nonce = disk.random_id().map_err(|e| IoFailure::new("make", "an identity", e))?;
    let mut opening = Opening { disk, config, superblock, nonce, commit_lsn: Lsn::NONE };
    let (found, mut report) = opening.recover(created, 1)?;
    let cleaned = opening.clean_up(&found)?;
    let core = opening.build(found, cleaned, has_threads, lock)?;
    let log = start(core)?;
    // What a crash kept a truncation from finishing.
    log.core.finish_truncation()?;
    report.end_lsn = log.end_lsn();
    Ok((log, report))
}

/// Whether the directory holds a log; an error when it holds something else.
fn check_directory(disk: &dyn Disk, create: bool) -> Result<bool, OpenError> {
    let mut foreign = None;
    let mut ours = false;
    for entry in list(disk)? {
        match classify(&entry.name) {
            Name::Superblock if matches!(entry.kind, EntryKind::File(_)) => return Ok(true),
            Name::Temporary if entry.kind != EntryKind::Other => {}
            Name::Foreign if entry.name == "lost+found" => {}
            Name::Foreign => foreign = Some(entry.name),
            _ if entry.kind == EntryKind::Other => return Err(OpenError::NotAFile(entry.name)),
            _ => ours = true,
        }
    }
    let directory = disk.describe();
    match foreign {
        _ if ours => {
            let file = format!("{directory}/{FILE_NAME}");
            Err(OpenError::Superblock { file, fault: Fault::Missing })
        }
        Some(found) => Err(OpenError::NotALog { directory, found }),
        None if !create => Err(OpenError::NotFound(directory)),
        None => Ok(false),
    }
}

fn list(disk: &dyn Disk) -> Result<Vec<Entry>, OpenError> {
    Ok(disk.list().map_err(|error| IoFailure::new("list", &disk.describe(), error))?)
}

fn take_lock(disk: &dyn Disk) -> Result<Box<dyn Any + Send + Sync>, OpenError> {
    let mut tries = 1;
    loop {
        match disk.lock() {
            Ok(lock) => return Ok(lock),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if tries == LOCK_TRIES {
                    return Err(OpenError::Locked(disk.describe()));
                }
                tries += 1;
                thread::sleep(LOCK_PAUSE);
            }
            Err(error) => return Err(IoFailure::new("lock", &disk.describe(), error).into()),
        }
    }
}

/// Whether this is the log that is meant, and may be opened so.
fn check_identity(
    disk: &dyn Disk,
    config: &Config,
    superblock: &Superblock,
) -> Result<(), OpenError> {
    let (found, directory) = (superblock.log_id, disk.describe());
    match config.log_id {
        Some(expected) if expected != found => {
            Err(OpenError::AnotherLog { directory, found, expected })
        }
        _ if superblock.promised_to.node != 0 && !config.is_replica => {
            Err(OpenError::Replica(directory))
        }
        _ => Ok(()),
    }
}

fn create(disk: &dyn Disk, config: &Config) -> Result<SuperblockStore, OpenError> {
    let random = || disk.random_id().map_err(|e| IoFailure::new("make", "an identity", e));
    let first = Superblock {
        sequence: 1,
        log_id: config.log_id.map_or_else(random, Ok)?,
        lineage_id: config.lineage_id.map_or_else(random, Ok)?,
        incarnation: random()?,
        start_counter: 0,
        promised_epoch: Epoch::NONE,
        promised_to: LeaderId::default(),
        block_bytes: config.block_bytes,
        inflight_bytes_max: config.inflight_bytes_max as u64,
        first_lsn: Lsn::FIRST,
        first_segment: 1,
        cut: Cut::default(),
        restore: Restore::default(),
        truncations: Truncations::default(),
        first_epoch: None,
        age_horizon_ms: 0,
        cell: Vec::new(),
    };
    SuperblockStore::create(disk, first)
}

/// A log on its way from what is on the disk to what is in memory.
pub(super) struct Opening {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) config: Config,
    pub(super) superblock: SuperblockStore,
    /// This life of the process.
    pub(super) nonce: u128,
    /// What is known to be committed: nothing is given up below it.
    pub(super) commit_lsn: Lsn,
}

impl Opening {
    /// Finds the end of the log, makes it final, and takes the next epoch; `starts` is added to the
    /// number of opens.
    pub(super) fn recover(
        &mut self,
        created: bool,
        starts: u64,
    ) -> Result<(Examined, RecoveryReport), OpenError> {
        let disk = &*Arc::clone(&self.disk);
        let entries = list(disk)?;
        let ours = entries.iter().filter(|entry| classify(&entry.name) != Name::Foreign);
        if let Some(entry) = ours.into_iter().find(|entry| entry.kind == EntryKind::Other) {
            return Err(OpenError::NotAFile(entry.name.clone()));
        }
        let watermark = WatermarkStore::read(disk)
            .map_err(|error| IoFailure::new("read", crate::watermark::FILE_NAME, error))?;
        let current = self.superblock.current();
        let mut found = examine(disk, current, watermark.as_ref(), &entries, Access::Write)?;
        let noted = watermark.filter(|w| w.log_id == current.log_id).map(|w| w.commit_lsn);
        // Alone, a log commits what is durable.
        let noted = if self.config.is_replica { noted.unwrap_or(Lsn::NONE) } else { Lsn::MAX };
        self.commit_lsn = self.commit_lsn.max(noted.min(found.end.lsn));
        let verdict = verdict_of(&found);
        let foreign = entries.iter().map(|entry| &entry.name);
        let foreign = foreign.filter(|name| classify(name) == Name::Foreign).cloned().collect();
        let first_lsn = found.segments.first().map_or(found.end.lsn, |s| s.header.base_lsn);
        let mut report = RecoveryReport {
            verdict,
            created,
            first_lsn,
            end_lsn: found.end.lsn,
            evidence_lsn: found.facts.evidence_lsn,
            epoch: self.next_epoch(&found),
            start_counter: current.start_counter + starts,
            segments: found.segments.len() as u64,
            segments_listed: found.segments_listed,
            segments_scanned: found.segments_scanned,
            batches_scanned: found.batches_scanned,
            backend: disk.backend_name(),
            backend_reason: disk.backend_reason().to_owned(),
            foreign,
            notes: found.notes.clone(),
        };
        if matches!(report.verdict, Verdict::Damaged(_) | Verdict::LostDurable { .. }) {
            (report.epoch, report.start_counter) = (current.promised_epoch, current.start_counter);
            let directory = disk.describe();
            return Err(OpenError::Damaged { directory, report: Box::new(report) });
        }
        self.check_restore(found.end.lsn)?;
        self.superblock.mend()?;
        // Names that a killed process gave are in the cache only, until now.
        disk.sync_directory().map_err(|error| IoFailure::new("sync", &disk.describe(), error))?;
        self.make_end_final(&report.verdict, &mut found, &entries)?;
        let inflight_bytes_max = self.config.inflight_bytes_max as u64;
        let retains_by_age = self.config.retain_seconds.is_some();
        // What a log without a horizon says of itself, or else this moment.
        let age_horizon_ms = if found.end.time_ms > 0 { found.end.time_ms } else { disk.now_ms() };
        let end_lsn = found.end.lsn;
        self.superblock.change(|superblock| {
            // Nothing of what was cut off is left. Records that are missing in front of it come next.
            if superblock.restore.end_lsn <= end_lsn {
                superblock.restore = Restore::default();
                superblock.cut = Cut::default();
            }
            superblock.promised_epoch = report.epoch;
            superblock.start_counter = report.start_counter;
            superblock.inflight_bytes_max = inflight_bytes_max;
            if superblock.age_horizon_ms == 0 && retains_by_age {
                superblock.age_horizon_ms = age_horizon_ms;
            }
        })?;
        Ok((found, report))
    }

    /// The epoch of this open: a new one, or what was promised to some replica.
    fn next_epoch(&self, found: &Examined) -> Epoch {
        let promised = self.superblock.current().promised_epoch;
        if self.config.is_replica { promised } else { promised.max(found.end.epoch).next() }
    }

    /// Nothing is behind the end of the log any more, and everything in front of it is on the medium.
    fn make_end_final(
        &mut self,
        verdict: &Verdict,
        found: &mut Examined,
        entries: &[Entry],
    ) -> Result<(), IoFailure> {
        let disk = &*self.disk;
        let was_pending = self.superblock.current().cut.is_pending();
        finish_cut(disk, &mut self.superblock, verdict, found, entries)?;
        read_back(disk, self.superblock.current().block_bytes, found)?;
        sync_tail(found)?;
        renew_tail(disk, found)?;
        if was_pending {
            lower_watermark(disk, self.superblock.current(), found.end.lsn, self.commit_lsn)?;
        }
        Ok(())
    }

    /// Whether records that have to be appended again can be: else nothing is changed.
    fn check_restore(&self, end_lsn: Lsn) -> Result<(), OpenError> {
        let Superblock { restore, log_id, .. } = *self.superblock.current();
        if end_lsn < restore.end_lsn {
            fork::first_batch(&*self.disk, log_id, restore)?;
        }
        Ok(())
    }

    /// Removes what crashes left beside the log, and finds what can be used again.
    pub(super) fn clean_up(&self, found: &Examined) -> Result<CleanedUp, OpenError> {
        let disk = &*self.disk;
        let wanted = |bytes| bytes == self.config.segment_bytes;
        let next = found.segments.last().map_or(found.end.segment, |s| s.number()) + 1;
        let mut cleaned = CleanedUp { spares: Vec::new(), checkpoints: Vec::new(), prepared: None };
        for entry in list(disk)? {
            let EntryKind::File(bytes) = entry.kind else { continue };
            let failed = |error| IoFailure::new("clean up", &entry.name, error);
            match classify(&entry.name) {
                Name::Temporary => remove_if_there(disk, &entry.name).map_err(failed)?,
                Name::Spare(number) => {
                    if wanted(bytes) && cleaned.spares.len() < self.config.spare_segments_max {
                        cleaned.spares.push(number);
                    } else {
                        disk.remove(&entry.name).map_err(failed)?;
                    }
                }
                Name::Segment(number)
                    if number == next && wanted(bytes) && !found.is_unreadable(number) =>
                {
                    cleaned.prepared = Some(number);
                }
                Name::Parity(number) => {
                    match found.segments.iter().find(|s| s.number() == number) {
                        Some(segment) if segment.is_sealed() => segment.set_has_parity(true),
                        // Of a segment that was dropped, or that is not what it was.
                        _ => disk.remove(&entry.name).map_err(failed)?,
                    }
                }
                Name::Checkpoint(Kind::State, lsn) => cleaned.checkpoints.push(lsn),
                Name::Segment(number)
                    if found.trimmed.contains(&number) || found.unused.contains(&number) =>
                {
                    disk.remove(&file_name(number)).map_err(failed)?;
                }
                _ => {}
            }
        }
        cleaned.spares.sort_unstable();
        cleaned.checkpoints.sort_unstable_by(|a, b| b.cmp(a));
        Ok(cleaned)
    }

    /// The writer that goes on where the log ends.
    pub(super) fn writer(&self, found: &Examined, feed: Arc<Feed>) -> Writer {
        let current = self.superblock.current();
        let epoch_start = EpochStart {
            lineage_id: current.lineage_id,
            incarnation: current.incarnation,
            nonce: self.nonce,
        };
        let epoch_start = (!self.config.is_replica).then_some(epoch_start);
        writer_at(found, &self.config, current, epoch_start, feed)
    }

    /// The segments that were found, and what the background work starts from.
    pub(super) fn maintenance(
        self,
        found: Examined,
        cleaned: CleanedUp,
    ) -> Result<(Vec<Segment>, Maintenance), OpenError> {
        let watermark = WatermarkStore::open(&*self.disk)
            .map_err(|error| IoFailure::new("open", crate::watermark::FILE_NAME, error))?;
        let first_segment = self.superblock.current().first_segment;
        let maintenance = Maintenance {
            superblock: self.superblock,
            watermark,
            spares: cleaned.spares,
            checkpoints: cleaned.checkpoints,
            unlisted_segment: first_segment + found.segments_listed,
            prepared: cleaned.prepared,
            opened_at_ms: self.disk.elapsed_ms(),
            self_test_pending: self.config.durable_write.is_none(),
            reserve_pending: self.config.fork_reserve_bytes > 0,
            noted_lsn: Lsn::NONE,
            noted_durably: false,
            noted_at: None,
        };
        Ok((found.segments, maintenance))
    }

    /// Puts the parts together.
    fn build(
        self,
        found: Examined,
        cleaned: CleanedUp,
        has_threads: bool,
        lock: Box<dyn Any + Send + Sync>,
    ) -> Result<Core, OpenError> {
        let disk = Arc::clone(&self.disk);
        let config = self.config.clone();
        let current = self.superblock.current();
        let (log_id, epoch) = (current.log_id, current.promised_epoch);
        let (nonce, commit_lsn) = (self.nonce, self.commit_lsn);
        let feed = Arc::new(Feed::new(config.feed_bytes_max, Place::default()));
        let writer = self.writer(&found, Arc::clone(&feed));
        let durable_lsn = writer.durable_lsn();
        let epochs = found.epochs.clone();
        let (found, maintenance) = self.maintenance(found, cleaned)?;
        let segments = table_of(found, config.parity);
        let state = State {
            writer,
            driver: Driver::Nobody,
            closed: false,
            paused_by: None,
            given_up: None,
            refusals: 0,
            refused: None,
            expected_waiters: 0,
            last_write: Duration::ZERO,
            durable: Vec::new(),
        };
        Ok(Core {
            disk,
            log_id,
            epoch: AtomicU64::new(epoch.get()),
            has_threads,
            state: Mutex::new(state),
            maintenance: Mutex::new(maintenance),
            segments,
            epochs: Mutex::new(epochs),
            hot: HotTail::new(config.hot_bytes_max),
            feed,
            nonce,
            commit_lsn: AtomicU64::new(commit_lsn.get()),
            progress: Progress::new(durable_lsn),
            counters: Counters::default(),
            scrub: Scrub::default(),
            checkpointing: Mutex::new(()),
            resumed: Condvar::new(),
            background: Signal::default(),
            commit_waker: OnceLock::new(),
            inline_queue: Mutex::new(None),
            begun: Signal::default(),
            stopped: Signal::default(),
            commit_sleeps: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            answered_ms: AtomicU64::new(0),
            maintained_ms: AtomicU64::new(0),
            is_stalled: AtomicBool::new(false),
            config,
            lock: Mutex::new(Some(lock)),
        })
    }
}

fn table_of(found: Vec<Segment>, wants_parity: bool) -> Segments {
    let segments = Segments::default();
    for segment in found {
        let protected = segment.table_entry().and_then(|entry| entry.digest);
        let protected = protected.filter(|_| segment.is_protected(wants_parity));
        let (number, has_parity) = (segment.number(), segment.has_parity());
        segments.add(segment);
        if let (Some(digest), Some(segment)) = (protected, segments.get(number)) {
            segments.handle_protected(&segment, digest, has_parity);
        }
    }
    segments
}

fn writer_at(
    found: &Examined,
    config: &Config,
    superblock: &Superblock,
    epoch_start: Option<EpochStart>,
    feed: Arc<Feed>,
) -> Writer {
    let end = &found.end;
    let last = found.segments.last();
    let segment = last.and_then(|segment| {
        let file = segment.writer()?;
        let (number, offset, data_end) = (end.segment, end.offset, end.data_end);
        Some(ActiveSegment { number, file, offset, data_end })
    });
    let limits = Limits {
        block_bytes: config.block_bytes,
        segment_bytes: config.segment_bytes,
        batch_bytes_max: config.batch_bytes_max,
        inflight_bytes_max: config.inflight_bytes_max,
    };
    let start = Start {
        log_id: superblock.log_id,
        epoch: superblock.promised_epoch,
        epoch_start,
        end_lsn: end.lsn,
        checksum: end.checksum.unwrap_or_default(),
        last_epoch: end.epoch,
        time_ms: end.time_ms,
        segment,
        segment_number: end.segment,
        end_offset: end.offset,
    };
    let buffer_bytes = BUFFER_BATCHES * config.batch_bytes_max.next_multiple_of(ALIGNMENT);
    let buffers_max = (config.hot_bytes_max / buffer_bytes).max(2);
    Writer::new(limits, Pool::new(buffer_bytes, buffers_max), feed, start)
}

/// Files beside the log that can be used again.
pub(super) struct CleanedUp {
    spares: Vec<u64>,
    /// LSNs of the embedder's checkpoints, the newest first.
    checkpoints: Vec<Lsn>,
    prepared: Option<u64>,
}

/// Starts the threads of the log, if it has any.
fn start(core: Core) -> Result<Log, OpenError> {
    let core = Arc::new(core);
    let mut log = Log { core: Arc::clone(&core), threads: Vec::new() };
    let failed = |error| IoFailure::new("start", "a thread", error);
    let mut queue = core.disk.write_queue().map_err(failed)?;
    if !core.has_threads {
        *core.inline_queue.lock().unwrap_or_else(PoisonError::into_inner) = Some(queue);
        core.run_maintenance();
        return Ok(log);
    }
    // Set once, here.
    let _ = core.commit_waker.set(queue.waker());
    let commits = Arc::clone(&core);
    let spawned = thread::Builder::new()
        .name("cairnlog-commit".to_owned())
        .spawn(move || commits.run_commit_thread(&mut *queue));
    log.threads.push(spawned.map_err(failed)?);
    let background = Arc::clone(&core);
    let spawned = thread::Builder::new()
        .name("cairnlog-background".to_owned())
        .spawn(move || background.run_background_thread());
    log.threads.push(spawned.map_err(failed)?);
    if core.config.scrub_bytes_per_second > 0 {
        let scrub = Arc::clone(&core);
        let spawned = thread::Builder::new()
            .name("cairnlog-scrub".to_owned())
            .spawn(move || scrub.run_scrub_thread());
        log.threads.push(spawned.map_err(failed)?);
    }
    core.background.raise();
    Ok(log)
}
