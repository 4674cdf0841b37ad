//! Reading a log that another process may be writing, without changing a byte of it.
//!
//! Owns [`LogReader`]: a look at the directory that can be renewed. While a writer lives, records are
//! shown up to what newer batches and the watermark prove durable; when none lives, up to what recovery
//! would keep.
//!
//! Bounds: what `recovery::examine` needs.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::records::{Records, View};
use super::window::Window;
use crate::disk::{Access, BackendChoice, Disk, Entry, OsDisk};
use crate::error::{IoFailure, OpenError, ReadError};
use crate::format::segment::file_name;
use crate::format::superblock::{Cut, Superblock, Truncations};
use crate::format::version::Fault;
use crate::names::{Name, classify};
use crate::recovery::{Examined, Verdict, decide, examine, read_header};
use crate::segments::Segments;
use crate::superblock::SuperblockStore;
use crate::watermark::WatermarkStore;
use crate::{Lsn, LsnRange, log::range_of};

/// How often a change of the directory by other processes is looked for.
const REFRESH_INTERVAL: Duration = Duration::from_millis(10);
/// How often a look is repeated when segments were dropped or written under it.
const LOOKS_MAX: usize = 50;

/// What changes whenever a writer makes records durable, drops some, or goes away.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mark {
    superblock: u64,
    watermark: Option<u64>,
    writer_lives: bool,
}

impl Mark {
    fn of(disk: &dyn Disk) -> Result<Mark, OpenError> {
        let failed = |error| IoFailure::new("look at", &disk.describe(), error);
        Ok(Mark {
            superblock: superblock_of(disk)?.sequence,
            watermark: WatermarkStore::read(disk).map_err(failed)?.map(|w| w.sequence),
            writer_lives: disk.is_locked().map_err(failed)?,
        })
    }
}

/// The state of a directory at one moment.
#[derive(Debug)]
pub(crate) struct Snapshot {
    mark: Mark,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) segments: Segments,
    pub(crate) end_lsn: Lsn,
    pub(crate) verdict: Verdict,
    pub(crate) writer_lives: bool,
    pub(crate) truncations: Truncations,
}

/// A log opened only for reading: any number of them, in any process, beside one writer.
#[derive(Clone, Debug)]
pub struct LogReader {
    snapshot: Arc<Snapshot>,
}

impl LogReader {
    /// Looks at the log in a directory.
    ///
    /// # Errors
    /// [`OpenError::NotFound`] when there is none; [`OpenError::Superblock`] when nobody can tell.
    /// Damage of the log itself is no error here: what is whole can be read.
    pub fn open(directory: impl AsRef<Path>) -> Result<LogReader, OpenError> {
        let directory = directory.as_ref();
        let disk = OsDisk::open(directory, false, BackendChoice::Blocking)
            .map_err(|error| not_found(directory, error))?;
        LogReader::open_on(Arc::new(disk))
    }

    /// Looks at the log on a disk.
    ///
    /// # Errors
    /// As for [`LogReader::open`].
    pub fn open_on(disk: Arc<dyn Disk>) -> Result<LogReader, OpenError> {
        Ok(LogReader { snapshot: Arc::new(snapshot(disk)?) })
    }

    /// Looks again.
    ///
    /// # Errors
    /// As for [`LogReader::open`].
    pub fn refresh(&mut self) -> Result<(), OpenError> {
        self.snapshot = Arc::new(snapshot(Arc::clone(&self.snapshot.disk))?);
        Ok(())
    }

    /// What can be read.
    #[must_use]
    pub fn range(&self) -> LsnRange {
        View::Snapshot(Arc::clone(&self.snapshot)).range()
    }

    /// What recovery would say to this state, were it opened now.
    #[must_use]
    pub fn verdict(&self) -> &Verdict {
        &self.snapshot.verdict
    }

    /// Whether a writer had the log open at that moment.
    #[must_use]
    pub fn writer_lives(&self) -> bool {
        self.snapshot.writer_lives
    }

    /// Records of a range.
    ///
    /// # Errors
    /// [`ReadError::OutOfRange`] when its start is not in the log.
    pub fn iter(&self, range: impl std::ops::RangeBounds<Lsn>) -> Result<Records, ReadError> {
        let view = View::Snapshot(Arc::clone(&self.snapshot));
        let range = range_of(&range, view.first_lsn());
        Records::new(view, range)
    }

    /// The first record whose batch was closed at or after `time_ms`, milliseconds since 1970; the end
    /// of the log when there is none.
    ///
    /// # Errors
    /// Whatever reading the segment gives.
    pub fn lsn_at_time(&self, time_ms: u64) -> Result<Lsn, ReadError> {
        View::Snapshot(Arc::clone(&self.snapshot)).lsn_at_time(time_ms)
    }

    /// Waits a moment, looks whether the writer has moved on, and lets `records` go on with what is new.
    /// True when there is more.
    ///
    /// # Errors
    /// As for [`LogReader::open`].
    pub fn follow(&mut self, records: &mut Records) -> Result<bool, OpenError> {
        std::thread::sleep(REFRESH_INTERVAL);
        if Mark::of(&*self.snapshot.disk)? == self.snapshot.mark {
            return Ok(false);
        }
        self.refresh()?;
        records.set_view(View::Snapshot(Arc::clone(&self.snapshot)));
        Ok(records.next_lsn() < records.view().end_lsn())
    }
}

pub(crate) fn not_found(directory: &Path, error: std::io::Error) -> OpenError {
    let name = directory.display().to_string();
    if error.kind() == std::io::ErrorKind::NotFound {
        return OpenError::NotFound(name);
    }
    IoFailure::new("open", &name, error).into()
}

/// What a look at a directory found, whether or not a writer is at work in it.
#[derive(Debug)]
pub(crate) struct Look {
    pub(crate) superblock: Superblock,
    pub(crate) entries: Vec<Entry>,
    pub(crate) found: Examined,
    pub(crate) verdict: Verdict,
    pub(crate) writer_lives: bool,
}

impl Look {
    fn is_bad(&self) -> bool {
        matches!(self.verdict, Verdict::Damaged(_) | Verdict::LostDurable { .. })
    }
}

fn truncations_of(superblock: &Superblock) -> (Truncations, Cut) {
    (superblock.truncations, superblock.cut)
}

/// Looks at a directory. While a writer lives, segments may be dropped and batches may be written under
/// the look, which then sees damage that is none: only what stays is damage.
pub(crate) fn look(disk: &dyn Disk) -> Result<Look, OpenError> {
    let mut looks = 1;
    loop {
        let before = superblock_of(disk)?;
        let look = look_once(disk, before.clone());
        match look {
            Ok(mut look) if look.is_bad() && look.writer_lives => {
                if goes_on(disk, &look.found)? {
                    // The writer has filled the place since, and what was seen behind it is newer.
                    look.verdict = Verdict::Clean;
                    return Ok(look);
                }
                if looks == LOOKS_MAX {
                    return Ok(look);
                }
            }
            // What was seen may be of before a truncation, or of after it.
            Ok(_)
                if looks < LOOKS_MAX
                    && truncations_of(&superblock_of(disk)?) != truncations_of(&before) => {}
            Err(_) if looks < LOOKS_MAX && superblock_of(disk)? != before => {}
            other => return other,
        }
        std::thread::sleep(REFRESH_INTERVAL);
        looks += 1;
    }
}

pub(crate) fn superblock_of(disk: &dyn Disk) -> Result<Superblock, OpenError> {
    SuperblockStore::read(disk).map_err(|error| match error {
        OpenError::Io(failure) if failure.source.kind() == std::io::ErrorKind::NotFound => {
            let entries = disk.list().unwrap_or_default();
            if entries.iter().any(|entry| matches!(classify(&entry.name), Name::Segment(_))) {
                return OpenError::Superblock { file: failure.target, fault: Fault::Missing };
            }
            OpenError::NotFound(disk.describe())
        }
        other => other,
    })
}

/// Whether the chain of batches goes on at the place where it was found to end.
fn goes_on(disk: &dyn Disk, found: &Examined) -> Result<bool, OpenError> {
    let Some(last) = found.segments.last() else { return Ok(false) };
    let next = || -> std::io::Result<bool> {
        let file = last.file(disk)?;
        if Window::new(file, true).next_batch(&found.end)?.is_ok() {
            return Ok(true);
        }
        let file = disk.open(&file_name(last.number() + 1), Access::Read)?;
        let header = read_header(&*file, found.end.block_bytes)?;
        Ok(header.is_ok_and(|header| found.end.continues_in(&header)))
    };
    let unreadable = matches!(&found.corruption, Some(c) if c.fault == Fault::Unreadable);
    match next() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        // What the medium did not give before, it does not give now: what was found stands.
        Err(_) if unreadable => Ok(false),
        other => Ok(other.map_err(|error| IoFailure::new("look at", &disk.describe(), error))?),
    }
}

/// Looks at a log that nobody writes to: for whoever holds its lock, or knows that nobody does.
pub(crate) fn look_alone(disk: &dyn Disk) -> Result<Look, OpenError> {
    look_once(disk, superblock_of(disk)?)
}

fn look_once(disk: &dyn Disk, superblock: Superblock) -> Result<Look, OpenError> {
    let failed = |error| IoFailure::new("look at", &disk.describe(), error);
    let writer_lives = disk.is_locked().map_err(failed)?;
    // Before the segments: what it proves durable is then in what is read.
    let watermark = WatermarkStore::read(disk).map_err(failed)?;
    let entries = disk.list().map_err(failed)?;
    let found = examine(disk, &superblock, watermark.as_ref(), &entries, Access::Read)?;
    let verdict = verdict_of(&found);
    Ok(Look { superblock, entries, found, verdict, writer_lives })
}

/// Looks, and marks the segments that are not sealed as read; the others are marked when they are read.
fn look_and_mark(disk: &dyn Disk) -> Result<Look, OpenError> {
    for _ in 1..LOOKS_MAX {
        let look = look(disk)?;
        let marked = look.found.segments.iter().all(|s| s.mark_unsealed_as_read(&*disk).is_ok());
        if marked || !look.writer_lives {
            return Ok(look);
        }
    }
    look(disk)
}

fn snapshot(disk: Arc<dyn Disk>) -> Result<Snapshot, OpenError> {
    // Before the look: what comes between is looked at again.
    let mark = Mark::of(&*disk)?;
    let Look { superblock, found, verdict, writer_lives, .. } = look_and_mark(&*disk)?;
    let segments = Segments::default();
    for segment in found.segments {
        segments.add(segment);
    }
    let end_lsn = if writer_lives {
        found.end.lsn.min(found.facts.evidence_lsn.max(found.newest_durable_lsn))
    } else {
        found.end.lsn
    };
    let end_lsn = end_lsn.max(superblock.first_lsn);
    let truncations = superblock.truncations;
    Ok(Snapshot { mark, disk, segments, end_lsn, verdict, writer_lives, truncations })
}

/// The verdict on what was found.
pub(crate) fn verdict_of(found: &Examined) -> Verdict {
    match &found.corruption {
        Some(corruption) => Verdict::Damaged(corruption.clone()),
        None => decide(&found.facts),
    }
}
