//! Group commit: turns records into batches, batches into placed writes, and completions into durable
//! LSNs. A state machine: records and completions come in, [`Writer::poll_write`] says what to write.
//!
//! Owns the open batch, the order of batches, their place in a segment, and `durable_lsn`. Does not do
//! I/O, read a clock or make segments: files are opaque handles, time is an argument, and a segment
//! comes in by [`Writer::handle_prepared`].
//!
//! Invariants
//!  W1. LSNs are dense: a batch starts where the one before ended.            asserted in `handle_completion`
//!  W2. `durable_lsn` advances over a batch only when its write and every write before it completed.
//!                                                                  test `acks_are_in_order`
//!  W3. After a failed write nothing is handed out and nothing is acknowledged. test `poison_is_final`
//!  W4. Writes never overlap, and never touch a block handed out before, within a segment.
//!                                                                  test `writes_do_not_overlap`
//!  W5. At most `inflight_bytes_max` bytes, or one write, are handed out and not durable.
//!                                                                  asserted in `poll_write`
//!
//! Units: lengths and offsets are bytes, `now_ms` is milliseconds since 1970.
//! Crash: of the writes past `durable_lsn`, any subset may be on disk, each whole, torn or absent.
//! Threads: one at a time, behind the committer's lock.

mod placing;
mod raw;

pub(crate) use raw::RawPush;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use super::commit::Commit;
use super::feed::Feed;
use super::hot::HotBatch;
use super::place::Place;
use super::steps::{
    ActiveSegment, Content, Durable, Limits, NoSegment, Poll, PreparedSegment, Producer, Push,
    Start,
};
use crate::disk::{Appendable, Pool, Write};
use crate::error::{AppendError, IoFailure};
use crate::format::batch::{
    BatchHeader, EpochStart, HEADER_BYTES, Kind, ProducerRun, RECORD_PREFIX_BYTES, batch_bytes,
    finish,
};
use crate::format::bytes::{to_u32, to_usize};
use crate::format::segment::file_name;
use crate::{Epoch, Lsn};

/// A new batch is not started in the last eighth of a buffer, so that its end seldom splits a group of
/// appends into two writes, and little memory is left unused in buffers that the hot tail holds.
const ROOM_DIVISOR: usize = 8;

#[derive(Debug)]
struct Open {
    base_lsn: Lsn,
    records: u32,
    runs: Vec<ProducerRun>,
    /// Whether it holds records whose appender has no commit to hear the end from.
    has_unheard: bool,
    /// Threads that wait for the batch and can lead it.
    waiters: u32,
    commit: Arc<Commit>,
}

impl Open {
    /// Takes note of who appended the `count` records that come next.
    fn add_run(&mut self, producer: Option<Producer>, count: u32) {
        let Some(Producer { id: producer_id, first_sequence }) = producer else { return };
        if let Some(last) = self.runs.last_mut()
            && last.producer_id == producer_id
            && last.end_sequence() == first_sequence
            && last.first_record + last.record_count == self.records
        {
            last.record_count += count;
            return;
        }
        let first_record = self.records;
        let run = ProducerRun { producer_id, first_sequence, first_record, record_count: count };
        self.runs.push(run);
    }
}

#[derive(Debug)]
struct Placed {
    write: Write,
    segment: u64,
    /// The log goes on here after this write.
    end: Place,
    content: Content,
    commit: Option<Arc<Commit>>,
    waiters: u32,
    completed: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Writer {
    limits: Limits,
    log_id: u128,
    epoch: Epoch,
    epoch_start: Option<EpochStart>,
    /// Whether records may be appended here: not while another replica leads.
    leads: bool,
    feed: Arc<Feed>,
    pool: Pool,
    buffer: Appendable,
    open: Option<Open>,
    ready: VecDeque<Placed>,
    in_flight: VecDeque<Placed>,
    in_flight_bytes: usize,
    ready_bytes: usize,
    segment: Option<ActiveSegment>,
    segment_number: u64,
    end_offset: u64,
    next_segment: Option<PreparedSegment>,
    end_lsn: Lsn,
    durable_lsn: Lsn,
    durable_place: Place,
    /// As far as somebody said; alone, what is durable.
    commit_lsn: Option<Lsn>,
    checksum: u32,
    /// Of the last batch.
    last_epoch: Epoch,
    time_ms: u64,
    next_id: u64,
    poison: Option<AppendError>,
}

impl Writer {
    /// A writer that goes on at `start`; everything before it is durable.
    pub(crate) fn new(limits: Limits, pool: Pool, feed: Arc<Feed>, start: Start) -> Writer {
        let place = start.place();
        feed.restart(place);
        Writer {
            limits,
            log_id: start.log_id,
            epoch: start.epoch,
            leads: start.epoch_start.is_some(),
            epoch_start: start.epoch_start,
            feed,
            buffer: pool.appendable(1),
            pool,
            open: None,
            ready: VecDeque::new(),
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            ready_bytes: 0,
            segment_number: start.segment_number,
            end_offset: start.end_offset,
            segment: start.segment,
            next_segment: None,
            end_lsn: start.end_lsn,
            durable_lsn: start.end_lsn,
            durable_place: place,
            commit_lsn: None,
            checksum: start.checksum,
            last_epoch: start.last_epoch,
            time_ms: start.time_ms,
            next_id: 1,
            poison: None,
        }
    }

    pub(crate) fn end_lsn(&self) -> Lsn {
        self.end_lsn
    }

    pub(crate) fn durable_lsn(&self) -> Lsn {
        self.durable_lsn
    }

    /// The end of the last durable batch.
    pub(crate) fn durable_place(&self) -> Place {
        self.durable_place
    }

    /// The end of the last batch that has its place.
    pub(crate) fn end_place(&self) -> Place {
        Place {
            segment: self.segment_number,
            offset: self.end_offset,
            lsn: self.open.as_ref().map_or(self.end_lsn, |open| open.base_lsn),
            epoch: self.last_epoch,
            link: self.checksum,
        }
    }

    /// Whether records may be appended.
    pub(crate) fn leads(&self) -> bool {
        self.leads
    }

    pub(crate) fn poison(&self) -> Option<&AppendError> {
        self.poison.as_ref()
    }

    /// Number of the segment that is or will be needed after the current one.
    pub(crate) fn next_segment_number(&self) -> u64 {
        self.segment_number + 1
    }

    /// How many bytes of the segment that is being filled are, and how many that can be; `None` before the first.
    pub(crate) fn filled(&self) -> Option<(u64, u64)> {
        self.segment.as_ref().map(|segment| (segment.offset, segment.data_end))
    }

    /// Whether the next segment is prepared, with this length.
    pub(crate) fn has_next_segment(&self, bytes: u64) -> bool {
        self.next_segment.as_ref().is_some_and(|next| next.bytes == bytes)
    }

    /// Bytes in the open batch and in batches that wait for their write.
    pub(crate) fn pending_bytes(&self) -> usize {
        self.buffer.open_bytes() + self.ready_bytes
    }

    /// Threads that wait for the open batch.
    pub(crate) fn open_waiters(&self) -> u32 {
        self.open.as_ref().map_or(0, |open| open.waiters)
    }

    pub(crate) fn writes_in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Whether a whole batch waits for its write.
    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    pub(crate) fn has_pending(&self) -> bool {
        self.open.is_some() || !self.ready.is_empty()
    }

    /// The commit of the next batch to be written, when threads wait for it that can lead.
    pub(crate) fn pending_leader(&self) -> Option<&Arc<Commit>> {
        let ready = self.ready.iter().map(|placed| (placed.waiters, placed.commit.as_ref()));
        let open = self.open.iter().map(|open| (open.waiters, Some(&open.commit)));
        ready.chain(open).find(|(waiters, _)| *waiters > 0).and_then(|(_, commit)| commit)
    }

    /// The first commit that is not durable: when it ends, there is room again.
    pub(crate) fn first_commit(&self) -> Option<&Arc<Commit>> {
        let placed = self.in_flight.iter().chain(&self.ready);
        let placed = placed.filter_map(|placed| placed.commit.as_ref());
        placed.chain(self.open.as_ref().map(|open| &open.commit)).next()
    }

    /// The last commit that is not durable: when it ends well, everything pushed so far is.
    pub(crate) fn last_commit(&self) -> Option<&Arc<Commit>> {
        let open = self.open.as_ref().map(|open| &open.commit);
        let mut placed = self.in_flight.iter().chain(&self.ready).rev();
        open.or_else(|| placed.find_map(|placed| placed.commit.as_ref()))
    }

    /// The commit of the open batch, to which records were just pushed.
    pub(crate) fn open_commit(&self) -> &Arc<Commit> {
        &self.open.as_ref().expect("records were just pushed").commit
    }

    /// Counts one more thread that waits for the open batch and can lead it; how many did before.
    pub(crate) fn add_waiter(&mut self) -> u32 {
        let open = self.open.as_mut().expect("records were just pushed");
        open.waiters += 1;
        open.waiters - 1
    }

    /// Puts records into the open batch, all of them or none. The caller has checked each against the
    /// record limit and all against the batch limit.
    pub(crate) fn push<R: AsRef<[u8]>>(
        &mut self,
        records: &[R],
        producer: Option<Producer>,
    ) -> Push {
        let payload = payload_bytes(records);
        let (in_batch, runs) = match &self.open {
            Some(open) => (self.buffer.open_bytes() - HEADER_BYTES, open.runs.len()),
            None => (0, 0),
        };
        // Counted as if every producer started a new run.
        let runs = (runs + usize::from(producer.is_some())) * ProducerRun::BYTES;
        let block = to_usize(u64::from(self.limits.block_bytes));
        let length = batch_bytes(in_batch + payload + runs, block);
        let unacked = self.in_flight_bytes + self.ready_bytes;
        if unacked > 0 && unacked + length > self.limits.inflight_bytes_max {
            return Push::Backlogged;
        }
        if self.open.is_some() {
            let over = in_batch + payload + runs > self.limits.batch_bytes_max;
            if over || self.buffer.room() < length - self.buffer.open_bytes() {
                return Push::Full;
            }
        } else {
            self.open_batch(length);
        }
        let open = self.open.as_mut().expect("opened above");
        let first = self.end_lsn;
        for record in records {
            let record = record.as_ref();
            self.buffer.push(&to_u32(record.len()).to_le_bytes());
            self.buffer.push(record);
        }
        let count = to_u32(records.len());
        open.add_run(producer, count);
        open.records += count;
        self.end_lsn = first.plus(u64::from(count));
        Push::Pushed(first)
    }

    fn open_batch(&mut self, length: usize) {
        assert_eq!(self.buffer.open_bytes(), 0, "no batch is open");
        if self.buffer.room() < length.max(self.pool.buffer_bytes() / ROOM_DIVISOR) {
            self.buffer = self.pool.appendable(length);
        }
        self.buffer.pad_to(HEADER_BYTES);
        let commit = Arc::default();
        let (base_lsn, runs) = (self.end_lsn, Vec::new());
        self.open =
            Some(Open { base_lsn, records: 0, runs, has_unheard: false, waiters: 0, commit });
    }

    /// Ends the open batch and gives it its place, so that the next one can be opened.
    pub(crate) fn close(&mut self, now_ms: u64) -> Result<(), NoSegment> {
        let Some(open) = &self.open else { return Ok(()) };
        let (base_lsn, records) = (open.base_lsn, open.records);
        let block = to_usize(u64::from(self.limits.block_bytes));
        let runs = open.runs.len() * ProducerRun::BYTES;
        let payload = self.buffer.open_bytes() - HEADER_BYTES + runs;
        let length = batch_bytes(payload, block);
        self.start_epoch(base_lsn, now_ms)?;
        let place = self.place(length, base_lsn, now_ms)?;
        let open = self.open.take().expect("looked at above");
        for run in &open.runs {
            self.buffer.push(&run.encode());
        }
        self.buffer.pad_to(length);
        let mut header = self.header(Kind::Records, base_lsn, records, &place);
        header.producer_run_count = to_u32(open.runs.len());
        let checksum = finish(self.buffer.open_mut(), payload, &mut header);
        let bytes = self.buffer.freeze();
        let end_lsn = header.end_lsn();
        let (epoch, time_ms) = (self.epoch, self.time_ms);
        let content =
            Content::Batch(HotBatch { base_lsn, end_lsn, epoch, time_ms, bytes: bytes.clone() });
        self.last_epoch = self.epoch;
        let end = self.place_behind(&place, &bytes, end_lsn, checksum);
        self.add(&place, bytes, end, content);
        let placed = self.ready.back_mut().expect("added above");
        (placed.commit, placed.waiters) = (Some(open.commit), open.waiters);
        Ok(())
    }

    /// Puts the epoch start in front of the first batch of this life.
    fn start_epoch(&mut self, base_lsn: Lsn, now_ms: u64) -> Result<(), NoSegment> {
        let Some(epoch_start) = self.epoch_start else { return Ok(()) };
        let block = to_usize(u64::from(self.limits.block_bytes));
        let length = batch_bytes(EpochStart::BYTES, block);
        let place = self.place(length, base_lsn, now_ms)?;
        let mut buffer = Appendable::alone(length);
        buffer.pad_to(HEADER_BYTES);
        buffer.push(&epoch_start.encode());
        buffer.pad_to(length);
        let mut header = self.header(Kind::EpochStart, base_lsn, 0, &place);
        let checksum = finish(buffer.open_mut(), EpochStart::BYTES, &mut header);
        let bytes = buffer.freeze();
        let (epoch, time_ms) = (self.epoch, self.time_ms);
        let batch = HotBatch { base_lsn, end_lsn: base_lsn, epoch, time_ms, bytes: bytes.clone() };
        self.last_epoch = epoch;
        let end = self.place_behind(&place, &bytes, base_lsn, checksum);
        self.add(&place, bytes, end, Content::Batch(batch));
        self.epoch_start = None;
        Ok(())
    }

    fn header(
        &self,
        kind: Kind,
        base_lsn: Lsn,
        records: u32,
        place: &ActiveSegment,
    ) -> BatchHeader {
        BatchHeader {
            kind,
            log_id: self.log_id,
            segment: place.number,
            offset: place.offset,
            base_lsn,
            record_count: records,
            length: 0,
            payload_bytes: 0,
            producer_run_count: 0,
            epoch: self.epoch,
            durable_lsn: self.durable_lsn,
            commit_lsn: self.commit_lsn.map_or(self.durable_lsn, |lsn| lsn.min(base_lsn)),
            time_ms: self.time_ms,
            prev_checksum: self.checksum,
            body_checksum: 0,
            checksum: 0,
            lost: None,
        }
    }

    /// Takes a prepared segment, in the place of one of another length.
    pub(crate) fn handle_prepared(&mut self, segment: PreparedSegment) {
        assert_eq!(segment.number, self.next_segment_number(), "segments are dense");
        assert!(!self.has_next_segment(segment.bytes), "one segment is prepared ahead");
        self.next_segment = Some(segment);
    }

    /// Begins an epoch: the batch that says so is placed at once, and records may follow.
    pub(crate) fn begin_epoch(
        &mut self,
        epoch: Epoch,
        start: EpochStart,
        now_ms: u64,
        commit: &Arc<Commit>,
    ) -> Result<(), NoSegment> {
        assert!(!self.leads && !self.has_pending(), "whoever begins to lead has stopped to follow");
        assert!(epoch > self.last_epoch, "an epoch is never resumed");
        (self.epoch, self.epoch_start) = (epoch, Some(start));
        self.start_epoch(self.end_lsn, now_ms)?;
        self.ready.back_mut().expect("added above").commit = Some(Arc::clone(commit));
        self.leads = true;
        Ok(())
    }

    /// Takes note of what is committed, for the batches to come.
    pub(crate) fn set_commit_lsn(&mut self, lsn: Lsn) {
        self.commit_lsn = Some(lsn);
    }

    /// Takes no more records; those that were taken are still written.
    pub(crate) fn stop_leading(&mut self) {
        (self.leads, self.epoch_start) = (false, None);
    }

    /// The next thing to do. Closes the open batch when nothing else waits for its write.
    pub(crate) fn poll_write(&mut self, now_ms: u64) -> Poll {
        if self.poison.is_some() {
            return Poll::Nothing;
        }
        if self.ready.is_empty() && self.close(now_ms).is_err() && self.ready.is_empty() {
            return Poll::NeedSegment;
        }
        let Some(placed) = self.ready.front() else { return Poll::Nothing };
        let bytes = placed.write.bytes.len();
        if self.in_flight_bytes > 0 && self.in_flight_bytes + bytes > self.limits.inflight_bytes_max
        {
            return Poll::Nothing;
        }
        let placed = self.ready.pop_front().expect("looked at above");
        self.ready_bytes -= bytes;
        self.in_flight_bytes += bytes;
        assert!(self.in_flight_bytes <= self.limits.inflight_bytes_max.max(bytes));
        let write = placed.write.clone();
        self.in_flight.push_back(placed);
        Poll::Write(write)
    }

    /// Takes the end of a write; appends what became durable by it to `durable`, in log order.
    ///
    /// After an error the log is poisoned, and the commits of everything that was not durable are
    /// returned, for the caller to finish.
    pub(crate) fn handle_completion(
        &mut self,
        id: u64,
        result: io::Result<()>,
        durable: &mut Vec<Durable>,
    ) -> Vec<Arc<Commit>> {
        let Some(placed) = self.in_flight.iter_mut().find(|placed| placed.write.id == id) else {
            assert!(self.poison.is_some(), "a completion is for a write that was handed out");
            return Vec::new();
        };
        placed.completed = true;
        let segment = placed.segment;
        if let Err(error) = result {
            return self.handle_failure(IoFailure::new("write", &file_name(segment), error));
        }
        if self.poison.is_some() {
            return Vec::new();
        }
        while self.in_flight.front().is_some_and(|placed| placed.completed) {
            let placed = self.in_flight.pop_front().expect("looked at above");
            if let Some(base_lsn) = placed.content.base_lsn() {
                assert_eq!(base_lsn, self.durable_lsn, "LSNs are dense");
            }
            self.in_flight_bytes -= placed.write.bytes.len();
            self.durable_lsn = placed.end.lsn;
            self.durable_place = placed.end;
            durable.push(Durable {
                segment: placed.segment,
                content: placed.content,
                waiters: placed.waiters,
                commit: placed.commit,
            });
        }
        Vec::new()
    }

    /// Poisons the log: nothing more is written or acknowledged. The commits of everything that is not
    /// durable are returned, for the caller to finish.
    pub(crate) fn handle_failure(&mut self, failure: IoFailure) -> Vec<Arc<Commit>> {
        if self.poison.is_some() {
            return Vec::new();
        }
        self.poison = Some(AppendError::Poisoned(failure));
        // Writes on their way keep their memory until their completion.
        let in_flight = self.in_flight.iter_mut().filter_map(|placed| placed.commit.take());
        let ready = self.ready.drain(..).filter_map(|placed| placed.commit);
        let open = self.open.take().map(|open| open.commit);
        self.ready_bytes = 0;
        in_flight.chain(ready).chain(open).collect()
    }

    /// Notes that nobody will ask the open batch's commit for its end.
    pub(crate) fn mark_unheard(&mut self) {
        if let Some(open) = &mut self.open {
            open.has_unheard = true;
        }
    }

    /// Gives up the open batch, which found no segment: its records were never written, and their LSNs
    /// are assigned again. Its commit is returned, for the caller to finish, and whether there are
    /// records in it whose appender will not hear of that.
    pub(crate) fn give_up_open(&mut self) -> Option<(Arc<Commit>, bool)> {
        let open = self.open.take()?;
        self.buffer.discard();
        self.end_lsn = open.base_lsn;
        Some((open.commit, open.has_unheard))
    }

    /// The first segment in which something is not durable yet, or may still be written.
    pub(crate) fn first_unfinished_segment(&self) -> u64 {
        let unfinished = self.in_flight.iter().chain(&self.ready).next();
        unfinished.map_or(self.segment_number, |placed| placed.segment)
    }
}

/// Bytes of records as the payload of a batch.
pub(crate) fn payload_bytes<R: AsRef<[u8]>>(records: &[R]) -> usize {
    records.iter().map(|record| RECORD_PREFIX_BYTES + record.as_ref().len()).sum()
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
