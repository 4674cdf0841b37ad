//! Reading records: forward iteration, waiting at the tail, and finding a place by time.
//!
//! Owns [`Records`] and [`Tail`], over either an open log or a [`LogReader`](crate::LogReader). Hands out nothing that is
//! not durable. Does not verify bytes itself (`cursor`, and the hot tail holds what was written).
//!
//! Bounds: one batch, and what a cursor holds.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::cursor::{Cursor, Way, read_failed};
use super::log_reader::{Snapshot, superblock_of};
use crate::error::{Corruption, ReadError};
use crate::format::batch::{BatchHeader, ProducerRun, Records as Places, producer_runs};
use crate::format::version::Fault;
use crate::log::core::Core;
use crate::record::{BatchBytes, Record, RecordRef};
use crate::segments::{Segment, Segments};
use crate::sync::Instant;
use crate::wal::index::Index;
use crate::{Epoch, Lsn, LsnRange};

/// What is read: a log that this process has open, or the state of a directory at one moment.
#[derive(Clone, Debug)]
pub(crate) enum View {
    Live(Arc<Core>),
    Snapshot(Arc<Snapshot>),
}

impl View {
    fn segments(&self) -> &Segments {
        match self {
            View::Live(core) => &core.segments,
            View::Snapshot(snapshot) => &snapshot.segments,
        }
    }

    fn disk(&self) -> &dyn crate::disk::Disk {
        match self {
            View::Live(core) => &*core.disk,
            View::Snapshot(snapshot) => &*snapshot.disk,
        }
    }

    fn way(&self) -> Way {
        match self {
            View::Live(_) => Way::InProcess,
            View::Snapshot(_) => Way::OtherProcess,
        }
    }

    /// The first LSN that may not be read.
    pub(crate) fn end_lsn(&self) -> Lsn {
        match self {
            View::Live(core) => core.progress.durable_lsn(),
            View::Snapshot(snapshot) => snapshot.end_lsn,
        }
    }

    pub(crate) fn first_lsn(&self) -> Lsn {
        self.segments().first().map_or(self.end_lsn(), |segment| segment.header.base_lsn)
    }

    pub(crate) fn range(&self) -> LsnRange {
        self.first_lsn()..self.end_lsn()
    }

    /// Truncations so far, in this process or in the directory.
    fn truncations(&self) -> u64 {
        match self {
            View::Live(core) => core.progress.truncations(),
            View::Snapshot(snapshot) => snapshot.truncations.count,
        }
    }

    /// The lowest LSN that the log was truncated to after the first `seen` truncations; the first one
    /// when that is not known.
    fn truncated_below(&self, seen: u64) -> Lsn {
        match self {
            View::Live(core) => core.progress.truncated_below(seen).unwrap_or(Lsn::FIRST),
            View::Snapshot(snapshot) if snapshot.truncations.count == seen + 1 => {
                snapshot.truncations.last_lsn
            }
            View::Snapshot(_) => Lsn::FIRST,
        }
    }

    /// Where the log was truncated to since the look at it was taken, by another process.
    fn truncated_since(&self) -> Option<Lsn> {
        let View::Snapshot(snapshot) = self else { return None };
        let now = superblock_of(&*snapshot.disk).ok()?.truncations;
        (now.count > snapshot.truncations.count).then_some(now.last_lsn)
    }

    /// Looks again when the log was truncated under the look.
    fn steadily<T>(&self, look: impl Fn() -> Result<T, ReadError>) -> Result<T, ReadError> {
        loop {
            let seen = self.truncations();
            let found = look();
            if found.is_ok() || self.truncations() == seen {
                return found;
            }
        }
    }

    /// The sequence after the last record of a producer, from the newest segment back.
    pub(crate) fn next_sequence(&self, producer_id: u128) -> Result<Option<u64>, ReadError> {
        self.steadily(|| self.find_next_sequence(producer_id))
    }

    fn find_next_sequence(&self, producer_id: u128) -> Result<Option<u64>, ReadError> {
        for segment in self.segments().all().iter().rev() {
            let mut cursor = Cursor::at_start(self.disk(), segment, self.way())?;
            let extent = segment.extent();
            let mut next = None;
            while cursor.offset() < extent.end_offset {
                let (header, bytes) = cursor.next(self.disk())?;
                let mut runs = producer_runs(&header, &bytes).into_iter();
                let last = runs.rfind(|run| run.producer_id == producer_id);
                next = last.map(|run| run.end_sequence()).or(next);
            }
            if next.is_some() {
                return Ok(next);
            }
        }
        Ok(None)
    }

    fn index(&self, segment: &Segment) -> Result<Option<Arc<Index>>, ReadError> {
        let index = self.segments().index(segment, self.disk());
        index.map_err(|error| read_failed(segment, error))
    }

    /// Finds the first record whose batch was closed at or after `time_ms`.
    pub(crate) fn lsn_at_time(&self, time_ms: u64) -> Result<Lsn, ReadError> {
        self.steadily(|| self.find_time(time_ms))
    }

    fn find_time(&self, time_ms: u64) -> Result<Lsn, ReadError> {
        let all = self.segments().all();
        let after = all.partition_point(|segment| segment.extent().last_time_ms < time_ms);
        let Some(segment) = all.get(after) else { return Ok(self.end_lsn()) };
        let mut cursor = Cursor::at_start(self.disk(), segment, self.way())?;
        let index = self.index(segment)?;
        if let Some(entry) = index.as_ref().and_then(|index| index.find_before_time(time_ms)) {
            let (disk, way) = (self.disk(), self.way());
            cursor = Cursor::near(disk, segment, way, index.as_deref(), entry.lsn)?;
        }
        let extent = segment.extent();
        while cursor.offset() < extent.end_offset {
            let (header, _) = cursor.next(self.disk())?;
            if header.time_ms >= time_ms && header.record_count > 0 {
                return Ok(header.base_lsn.min(self.end_lsn()));
            }
        }
        Ok(extent.end_lsn.min(self.end_lsn()))
    }
}

/// Records of a range, in LSN order without gaps.
///
/// As an [`Iterator`] it yields owned [`Record`]s; [`Records::next_ref`] lends them, which is faster for
/// small ones. It ends at the end of its range or at what was durable when it got there; after an error
/// it ends.
#[derive(Debug)]
pub struct Records {
    view: View,
    next: Lsn,
    end: Lsn,
    batch: Option<Batch>,
    cursor: Option<Cursor>,
    /// Truncations that the reader knows of.
    truncations: u64,
}

#[derive(Debug)]
struct Batch {
    next: Lsn,
    epoch: Epoch,
    time_ms: u64,
    places: Places,
    bytes: BatchBytes,
}

impl Records {
    pub(crate) fn new(view: View, range: LsnRange) -> Result<Records, ReadError> {
        let truncations = view.truncations();
        let bounds = view.range();
        if range.start < bounds.start || range.start > bounds.end {
            return Err(ReadError::OutOfRange { lsn: range.start, range: bounds });
        }
        let (next, end) = (range.start, range.end);
        Ok(Records { view, next, end, batch: None, cursor: None, truncations })
    }

    /// LSN of the next record.
    #[must_use]
    pub fn next_lsn(&self) -> Lsn {
        self.next
    }

    pub(crate) fn view(&self) -> &View {
        &self.view
    }

    /// Goes on in a newer state of the same directory.
    pub(crate) fn set_view(&mut self, view: View) {
        self.view = view;
        self.cursor = None;
    }

    /// Lends the next record; `None` at the end.
    ///
    /// # Errors
    /// [`ReadError::Corrupt`] and others; the iteration is then over. Start a new one behind the damage.
    pub fn next_ref(&mut self) -> Result<Option<RecordRef<'_>>, ReadError> {
        let Some((lsn, place)) = self.advance()? else { return Ok(None) };
        let batch = self.batch.as_ref().expect("advanced into a batch");
        let (epoch, time_ms) = (batch.epoch, batch.time_ms);
        Ok(Some(RecordRef { lsn, epoch, time_ms, bytes: &batch.bytes[place] }))
    }

    fn advance(&mut self) -> Result<Option<(Lsn, std::ops::Range<usize>)>, ReadError> {
        loop {
            if self.next >= self.end {
                return Ok(None);
            }
            if let Some(batch) = &mut self.batch {
                let lsn = batch.next;
                match batch.places.next_in(&batch.bytes) {
                    Ok(Some(place)) => {
                        batch.next = lsn.next();
                        if lsn < self.next {
                            continue;
                        }
                        self.next = lsn.next();
                        return Ok(Some((lsn, place)));
                    }
                    Ok(None) => self.batch = None,
                    Err(fault) => {
                        self.end = self.next;
                        let corruption = Corruption { segment: 0, offset: 0, lsn, fault };
                        return Err(corruption.into());
                    }
                }
            }
            if !self.enter_batch()? {
                return Ok(None);
            }
        }
    }

    /// The LSNs of the next batch with records, and who appended them, without its records; what was left of the batch
    /// before is passed over. `None` at the end, and where a batch reaches out of the range.
    ///
    /// # Errors
    /// As for [`Records::next_ref`].
    pub fn next_runs(&mut self) -> Result<Option<(LsnRange, Vec<ProducerRun>)>, ReadError> {
        self.batch = None;
        if self.next >= self.end || !self.enter_batch()? {
            return Ok(None);
        }
        let batch = self.batch.take().expect("entered above");
        let header = BatchHeader::decode(&batch.bytes).expect("it was verified");
        let lsns = header.base_lsn..header.end_lsn();
        if lsns.end > self.end {
            self.end = self.next;
            return Ok(None);
        }
        self.next = lsns.end;
        Ok(Some((lsns, producer_runs(&header, &batch.bytes))))
    }

    /// Goes on to the batch that holds `next`; false when that is not durable yet.
    fn enter_batch(&mut self) -> Result<bool, ReadError> {
        loop {
            self.heed_truncations()?;
            let fetched = self.fetch();
            if self.view.truncations() != self.truncations {
                // It was given up, or others took its place, while it was read.
                continue;
            }
            match fetched {
                Ok(batch) => {
                    self.batch = batch;
                    return Ok(self.batch.is_some());
                }
                Err(error) => {
                    let (lsn, range) = (self.next, self.view.range());
                    if let Some(cut_lsn) = self.view.truncated_since() {
                        self.end = lsn;
                        return Err(ReadError::Truncated { lsn: cut_lsn, next: lsn });
                    }
                    self.end = lsn;
                    // What goes wrong in a segment that was dropped meanwhile is no damage.
                    let dropped = lsn < range.start;
                    let error = if dropped { ReadError::OutOfRange { lsn, range } } else { error };
                    return Err(error);
                }
            }
        }
    }

    /// Goes on after a truncation that gave up nothing in front of the next record, or ends.
    fn heed_truncations(&mut self) -> Result<(), ReadError> {
        let truncations = self.view.truncations();
        if truncations == self.truncations {
            return Ok(());
        }
        let (lsn, next) = (self.view.truncated_below(self.truncations), self.next);
        if next > lsn {
            self.end = next;
            return Err(ReadError::Truncated { lsn, next });
        }
        self.truncations = truncations;
        self.cursor = None;
        Ok(())
    }

    /// The batch that holds `next`; `None` when that is not durable yet.
    fn fetch(&mut self) -> Result<Option<Batch>, ReadError> {
        if self.next >= self.view.end_lsn() {
            return Ok(None);
        }
        if let View::Live(core) = &self.view
            && let Some(hot) = core.hot.find(self.next)
        {
            self.cursor = None;
            let bytes = BatchBytes::Hot(hot.bytes);
            return Ok(Some(batch_of(hot.base_lsn, hot.epoch, hot.time_ms, bytes)));
        }
        loop {
            let here = self.cursor.as_ref().map(|cursor| {
                let segment = self.view.segments().get(cursor.segment());
                (cursor.segment(), cursor.offset(), segment.map(|s| s.extent().end_offset))
            });
            match here {
                // Not located yet, or the segment was dropped.
                None | Some((_, _, None)) => self.cursor = Some(self.locate()?),
                Some((segment, offset, Some(end))) if offset >= end => {
                    self.cursor = Some(self.enter(segment + 1)?);
                }
                Some(_) => {}
            }
            let cursor = self.cursor.as_mut().expect("located above");
            let (header, bytes) = match cursor.next(self.view.disk()) {
                Err(error @ ReadError::Corrupt(_)) => {
                    self.skip_damage().ok_or(error)?;
                    continue;
                }
                other => other?,
            };
            if header.end_lsn() > self.next {
                if header.lost.is_some() {
                    let range = self.next..header.end_lsn();
                    return Err(ReadError::Lost { range });
                }
                if cursor.is_mending() {
                    self.view.segments().count_mended_read();
                }
                return Ok(Some(batch_of(header.base_lsn, header.epoch, header.time_ms, bytes)));
            }
        }
    }

    /// Moves the cursor over damage in front of the record that comes next; `None` when the record is in
    /// the damage itself.
    fn skip_damage(&mut self) -> Option<()> {
        let next = self.next;
        let cursor = self.cursor.as_mut()?;
        let segment = self.view.segments().get(cursor.segment())?;
        let lsn = cursor.skip_damage(segment.extent().end_offset)?;
        (lsn <= next).then_some(())
    }

    /// A cursor at the start of the segment that follows the one that was left: it must go on with the
    /// record that comes next.
    fn enter(&self, number: u64) -> Result<Cursor, ReadError> {
        let lsn = self.next;
        match self.view.segments().get(number) {
            Some(segment) if segment.header.base_lsn <= lsn => {
                Cursor::at_start(self.view.disk(), &segment, self.view.way())
            }
            _ => {
                let fault = Fault::Chain;
                Err(Corruption { segment: number, offset: 0, lsn, fault }.into())
            }
        }
    }

    fn locate(&self) -> Result<Cursor, ReadError> {
        let bounds = self.view.range();
        let segment = self.view.segments().find(self.next);
        let segment = segment.ok_or(ReadError::OutOfRange { lsn: self.next, range: bounds })?;
        let way = self.view.way();
        if self.next == segment.header.base_lsn {
            Cursor::at_start(self.view.disk(), &segment, way)
        } else {
            let index = self.view.index(&segment)?;
            Cursor::near(self.view.disk(), &segment, way, index.as_deref(), self.next)
        }
    }
}

fn batch_of(base_lsn: Lsn, epoch: Epoch, time_ms: u64, bytes: BatchBytes) -> Batch {
    let header = BatchHeader::decode(&bytes).expect("it was verified");
    Batch { next: base_lsn, epoch, time_ms, places: Places::new(&header), bytes }
}

impl Iterator for Records {
    type Item = Result<Record, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (lsn, place) = match self.advance() {
            Ok(found) => found?,
            Err(error) => return Some(Err(error)),
        };
        let batch = self.batch.as_ref().expect("advanced into a batch");
        let (epoch, time_ms, bytes) = (batch.epoch, batch.time_ms, batch.bytes.clone());
        Some(Ok(Record { lsn, epoch, time_ms, batch: bytes, place }))
    }
}

/// Records from an LSN on, waiting for those that are not durable yet, without polling.
#[derive(Debug)]
pub struct Tail {
    core: Arc<Core>,
    records: Records,
}

impl Tail {
    pub(crate) fn new(core: &Arc<Core>, from: Lsn) -> Result<Tail, ReadError> {
        let records = Records::new(View::Live(Arc::clone(core)), from..Lsn::MAX)?;
        Ok(Tail { core: Arc::clone(core), records })
    }

    /// LSN of the next record.
    #[must_use]
    pub fn next_lsn(&self) -> Lsn {
        self.records.next_lsn()
    }

    /// The next record; waits for it. `None` when the log was closed or poisoned and no more will come.
    ///
    /// # Errors
    /// As for [`Records::next_ref`].
    pub fn next_record(&mut self) -> Result<Option<Record>, ReadError> {
        self.wait(None)
    }

    /// The next record; waits for it at most so long. `None` when the time was over or no more will come.
    ///
    /// # Errors
    /// As for [`Records::next_ref`].
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<Record>, ReadError> {
        self.wait(Instant::now().checked_add(timeout))
    }

    /// The next record, for a task: woken when it may be there.
    pub fn poll_next(&mut self, context: &Context<'_>) -> Poll<Option<Result<Record, ReadError>>> {
        if let Some(record) = self.records.next() {
            return Poll::Ready(Some(record));
        }
        self.core.progress.register(context);
        // Before the last look: what was durable by then is seen.
        let has_ended = self.core.has_ended();
        match self.records.next() {
            Some(record) => Poll::Ready(Some(record)),
            None if has_ended => Poll::Ready(None),
            None => Poll::Pending,
        }
    }

    fn wait(&mut self, deadline: Option<Instant>) -> Result<Option<Record>, ReadError> {
        let (core, records) = (&self.core, &mut self.records);
        let next = core.progress.wait(deadline, || {
            // Before the last look: what was durable by then is seen.
            let has_ended = core.has_ended();
            match records.next() {
                Some(record) => Some(Some(record)),
                None => has_ended.then_some(None),
            }
        });
        next.flatten().transpose()
    }
}
