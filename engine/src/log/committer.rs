//! The append path: who writes a batch, when, and who is woken after it.
//!
//! Owns the choice of the driver, the one thread that hands writes to the disk at a time:
//!  - a thread that appends and finds nobody driving writes its batch itself, so that a lone appender
//!    pays for no hop to another thread; while its write is on its way the next batch fills; when it is
//!    durable, the driver leaves and one of the threads waiting for the next batch drives on;
//!  - batches that only tickets or buffered records wait for are written by the commit thread, which
//!    keeps several writes on their way.
//!
//! Invariants
//!  M1. At most one thread drives.                                          asserted in `start_driving`
//!  M2. When the driver leaves, either nothing is pending, or a waiter was asked to lead, or the commit
//!      thread was woken.                                                   `stop_driving`
//!  M3. Commits are finished after the published `durable_lsn` covers them, outside of the lock, and
//!      before anything that waits for the disk. A write that is only queued goes first, for waking
//!      many threads takes a while, in which the disk would have less to do.
//!      test `a_durable_record_is_not_kept_waiting_for_the_next_segment` in tests/io_faults
//!  M4. Of the threads that wait for a batch, one that does not drive looks from time to time whether the
//!      disk still answers; what it finds wakes all others.
//!      test `of_many_that_wait_some_watch_the_disk` in tests/io_faults
//! All of them are looked for in many interleavings by `interleavings`.
//!
//! Threads: any number of appenders, one commit thread.

use std::time::Duration;

use super::commit_thread::PIPELINE_BYTES;
use super::core::{Core, Driver, State};
use crate::Lsn;
use crate::config::RECORD_BYTES_MAX;
use crate::disk::{Completion, WriteQueue};
use crate::error::{AppendError, IoFailure};
use crate::format::batch::BatchHeader;
use crate::segments::{Extent, Segment};
use crate::stats::Counters;
use crate::sync::{Arc, Instant, MutexGuard, PoisonError, thread};
use crate::wal::commit::{Commit, Ended, Wake};
use crate::wal::hot::HotBatch;
use crate::wal::index::Index;
use crate::wal::steps::{Content, Durable, Poll, Producer, Push};
use crate::wal::writer::payload_bytes;

/// Gathering waits for at most so many threads: larger groups are better written in two halves, one
/// of which is on the disk while the other runs.
const GATHER_WAITERS_MAX: u32 = 32;
/// Gathering ends after so long in any case.
const GATHER_MAX: Duration = Duration::from_micros(40);
/// So many of those that wait for a batch watch the disk, for one of them may drive (M4). A timer for each
/// of 64 waiters costs a twelfth of what an append takes of the processor.
const WATCHERS: u32 = 2;

impl Core {
    /// Appends records and returns when they are durable.
    pub(crate) fn append<R: AsRef<[u8]>>(
        &self,
        records: &[R],
        producer: Option<Producer>,
    ) -> Result<Lsn, AppendError> {
        let _guard = self.poison_on_panic();
        let _turn = self.take_turn();
        self.check(records)?;
        self.append_in_turn(records, producer)
    }

    /// The same for records that were in the log before, by whoever has the turn.
    pub(super) fn append_in_turn<R: AsRef<[u8]>>(
        &self,
        records: &[R],
        producer: Option<Producer>,
    ) -> Result<Lsn, AppendError> {
        let (mut state, first) = self.push(records, producer, None)?;
        let commit = Arc::clone(state.writer.open_commit());
        let watches = state.writer.add_waiter() < WATCHERS;
        self.drive_or_wait(state, &commit, watches)?;
        Ok(first)
    }

    /// Appends records without waiting; with `refusals`, only if no more records were refused so far.
    pub(crate) fn submit<R: AsRef<[u8]>>(
        &self,
        records: &[R],
        producer: Option<Producer>,
        refusals: Option<u64>,
    ) -> Result<(Lsn, Arc<Commit>), AppendError> {
        let _guard = self.poison_on_panic();
        let _turn = self.take_turn();
        self.check(records)?;
        let (state, first) = self.push(records, producer, refusals)?;
        Ok((first, self.leave_pushed(state)))
    }

    /// The same if nothing has to be waited for, not even for the disk; see [`Core::wait_for_room`].
    pub(crate) fn try_submit<R: AsRef<[u8]>>(
        &self,
        records: &[R],
        producer: Option<Producer>,
        refusals: Option<u64>,
    ) -> Result<Option<(Lsn, Arc<Commit>)>, AppendError> {
        let _guard = self.poison_on_panic();
        let _turn = self.take_turn();
        self.check(records)?;
        let mut state = self.lock_state();
        loop {
            check_taken(&state, refusals)?;
            if is_paused(&state) {
                return Ok(None);
            }
            match state.writer.push(records, producer) {
                Push::Pushed(first) => return Ok(Some((first, self.leave_pushed(state)))),
                Push::Full if state.writer.close(self.disk.now_ms()).is_ok() => {}
                Push::Full | Push::Backlogged => return Ok(None),
            }
        }
    }

    /// Waits for what kept [`Core::try_submit`] from taking records: the next segment, the disk, or whoever truncates.
    pub(crate) fn wait_for_room(&self) -> Result<(), AppendError> {
        let _guard = self.poison_on_panic();
        let _turn = self.take_turn();
        let mut state = self.lock_state();
        check_taken(&state, None)?;
        if is_paused(&state) {
            while is_paused(&state) {
                state = self.resumed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            return Ok(());
        }
        if !state.writer.has_next_segment(self.config.segment_bytes) {
            drop(state);
            return self.prepare_segment().map_err(refused);
        }
        let oldest = state.writer.first_commit().map(Arc::clone);
        oldest.map_or(Ok(()), |oldest| self.drive_or_wait(state, &oldest, true))
    }

    /// Leaves records that were just pushed to whoever writes them.
    fn leave_pushed(&self, state: MutexGuard<'_, State>) -> Arc<Commit> {
        let commit = Arc::clone(state.writer.open_commit());
        let waits = match state.driver {
            Driver::Nobody => true,
            Driver::CommitThread => state.writer.pending_bytes() >= PIPELINE_BYTES,
            // Looks for more when its write is done.
            Driver::Appender => false,
        };
        drop(state);
        if waits {
            self.kick_commit_thread();
        }
        commit
    }

    /// Appends a record that nobody waits for. It has no part in the commit, which many threads would
    /// otherwise pass around.
    pub(crate) fn buffer(&self, record: &[u8]) -> Result<Lsn, AppendError> {
        let _guard = self.poison_on_panic();
        let _turn = self.take_turn();
        self.check(&[record])?;
        let (mut state, first) = self.push(&[record], None, None)?;
        state.writer.mark_unheard();
        let waits =
            state.driver != Driver::Appender && state.writer.pending_bytes() >= PIPELINE_BYTES;
        drop(state);
        if waits {
            self.kick_commit_thread();
        }
        Ok(first)
    }

    /// Waits until everything pushed so far is durable.
    pub(crate) fn sync(&self) -> Result<Lsn, AppendError> {
        let _guard = self.poison_on_panic();
        let _turn = self.take_turn();
        let mut state = self.lock_state();
        if let Some(poison) = state.writer.poison() {
            return Err(poison.clone());
        }
        let end_lsn = state.writer.end_lsn();
        if let Some(commit) = state.writer.last_commit().map(Arc::clone) {
            let synced = self.drive_or_wait(state, &commit, true);
            state = self.lock_state();
            synced.inspect_err(|_| state.given_up = None)?;
        }
        match state.given_up.take() {
            Some(error) => Err(error),
            None => Ok(end_lsn),
        }
    }

    /// The same without ever being the thread that writes: a disk that does not answer keeps the caller no
    /// longer than the deadline. For closing, where the hop to the commit thread costs nobody anything.
    pub(crate) fn sync_at_close(&self) -> Result<(), AppendError> {
        if !self.has_threads {
            return self.sync().map(drop);
        }
        loop {
            let pending = self.lock_state().writer.last_commit().map(Arc::clone);
            let Some(commit) = pending else { return self.sync().map(drop) };
            self.kick_commit_thread();
            loop {
                match commit.wait(self.stall_interval()) {
                    Wake::Ended(ended) => {
                        ended?;
                        break;
                    }
                    Wake::TimedOut => self.check_stall(),
                    Wake::Lead => {
                        if commit.accept_lead() {
                            self.kick_commit_thread();
                        }
                    }
                }
            }
        }
    }

    /// Waits for a commit on behalf of a ticket. Without threads, the waiter is the one that writes.
    pub(crate) fn wait(&self, commit: &Arc<Commit>) -> Result<(), AppendError> {
        let _guard = self.poison_on_panic();
        match commit.ended() {
            Some(ended) => ended,
            None if self.has_threads => self.wait_or_lead(commit, true),
            None => self.drive_inline(commit),
        }
    }

    /// In a log without threads one call at a time goes on.
    pub(crate) fn take_turn(&self) -> Option<MutexGuard<'_, Option<Box<dyn WriteQueue>>>> {
        (!self.has_threads).then(|| self.lock_inline())
    }

    pub(super) fn lock_inline(&self) -> MutexGuard<'_, Option<Box<dyn WriteQueue>>> {
        self.inline_queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check<R: AsRef<[u8]>>(&self, records: &[R]) -> Result<(), AppendError> {
        if records.is_empty() {
            return Err(AppendError::Empty);
        }
        let bytes_max = self.config.record_bytes_max.min(RECORD_BYTES_MAX);
        for record in records {
            let bytes = record.as_ref().len();
            if bytes > bytes_max {
                return Err(AppendError::RecordTooLarge { bytes, bytes_max });
            }
        }
        let (bytes, bytes_max) = (payload_bytes(records), self.config.payload_bytes_max());
        if bytes > bytes_max {
            return Err(AppendError::BatchTooLarge { bytes, bytes_max });
        }
        Ok(())
    }

    /// Puts records into the open batch, waiting for room as long as it takes.
    fn push<R: AsRef<[u8]>>(
        &self,
        records: &[R],
        producer: Option<Producer>,
        refusals: Option<u64>,
    ) -> Result<(MutexGuard<'_, State>, Lsn), AppendError> {
        let mut state = self.lock_state();
        loop {
            check_taken(&state, refusals)?;
            if is_paused(&state) {
                state = self.resumed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            state = match state.writer.push(records, producer) {
                Push::Pushed(first) => return Ok((state, first)),
                Push::Full => self.close_full(state)?,
                Push::Backlogged => {
                    let oldest = state.writer.first_commit().map(Arc::clone);
                    match oldest {
                        Some(oldest) => self.drive_or_wait(state, &oldest, true)?,
                        None => self.drive_once(state),
                    }
                    self.lock_state()
                }
            };
        }
    }

    fn close_full<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
    ) -> Result<MutexGuard<'a, State>, AppendError> {
        if state.writer.close(self.disk.now_ms()).is_ok() {
            let nobody = state.driver == Driver::Nobody;
            if nobody && self.has_threads {
                drop(state);
                self.kick_commit_thread();
                state = self.lock_state();
            }
            return Ok(state);
        }
        drop(state);
        self.prepare_segment().map_err(refused)?;
        Ok(self.lock_state())
    }

    /// Drives until `commit` ends, or waits while somebody else does.
    pub(super) fn drive_or_wait<'a>(
        &'a self,
        state: MutexGuard<'a, State>,
        commit: &Arc<Commit>,
        watches: bool,
    ) -> Result<(), AppendError> {
        if state.driver == Driver::Nobody {
            self.drive(state, commit);
        } else {
            drop(state);
        }
        self.wait_or_lead(commit, watches)
    }

    /// Waits for a commit, and drives when asked to.
    fn wait_or_lead(&self, commit: &Arc<Commit>, watches: bool) -> Result<(), AppendError> {
        let look_interval = self.stall_interval().filter(|_| watches);
        loop {
            match commit.wait(look_interval) {
                Wake::Ended(ended) => return ended,
                Wake::TimedOut => self.check_stall(),
                Wake::Lead if !commit.accept_lead() => {}
                Wake::Lead => {
                    let state = self.lock_state();
                    if state.driver == Driver::Nobody && commit.ended().is_none() {
                        self.drive(state, commit);
                    }
                }
            }
        }
    }

    /// Hands writes to the disk until `commit` ended, in this thread.
    fn drive<'a>(&'a self, mut state: MutexGuard<'a, State>, commit: &Arc<Commit>) {
        self.start_driving(&mut state, Driver::Appender);
        state = self.gather(state);
        let mut ended = Ended::default();
        while commit.ended().is_none() && !ended.has(commit) {
            let (next, progressed) = self.step(state, &mut ended);
            state = next;
            if !progressed {
                break;
            }
        }
        self.stop_driving(state, ended);
    }

    /// Makes one write, for room in the queue when no commit can be waited for.
    pub(super) fn drive_once<'a>(&'a self, mut state: MutexGuard<'a, State>) {
        if state.driver == Driver::Nobody {
            self.start_driving(&mut state, Driver::Appender);
            let mut ended = Ended::default();
            let (state, _) = self.step(state, &mut ended);
            self.stop_driving(state, ended);
        } else {
            drop(state);
            thread::yield_now();
        }
    }

    /// One write, or one segment made ready; false when there was nothing to do.
    fn step<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        ended: &mut Ended,
    ) -> (MutexGuard<'a, State>, bool) {
        match state.writer.poll_write(self.disk.now_ms()) {
            Poll::Write(write) => {
                drop(state);
                ended.finish();
                let start = Instant::now();
                self.note_answer();
                let result = write.file.write_durable_at(&write.bytes, write.offset);
                self.note_answer();
                let took = start.elapsed();
                let mut state = self.lock_state();
                state.last_write = took;
                self.complete(&mut state, Completion { id: write.id, result }, ended);
                (state, true)
            }
            Poll::NeedSegment => (self.prepare_or_refuse(state, ended), true),
            Poll::Nothing => (state, false),
        }
    }

    /// Makes a segment ready. Without one the records of the open batch are refused: they never were in
    /// the log.
    pub(super) fn prepare_or_refuse<'a>(
        &'a self,
        state: MutexGuard<'a, State>,
        ended: &mut Ended,
    ) -> MutexGuard<'a, State> {
        drop(state);
        ended.finish();
        self.note_answer();
        let prepared = self.prepare_segment();
        let mut state = self.lock_state();
        if let Err(failure) = prepared
            && let Some((commit, has_unheard)) = state.writer.give_up_open()
        {
            let refused = refused(failure);
            if has_unheard {
                state.given_up = Some(refused.clone());
            }
            state.refusals += 1;
            state.refused = Some(refused.clone());
            ended.add(commit, Err(refused));
        }
        state
    }

    /// Lets threads that are about to append again join the batch, instead of making them wait for the
    /// next one: yields to them, for a small part of what a write takes.
    fn gather<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        if self.config.commit_delay_us > 0 {
            drop(state);
            thread::sleep(Duration::from_micros(u64::from(self.config.commit_delay_us)));
            return self.lock_state();
        }
        let expected = state.expected_waiters;
        if !self.has_threads || expected > GATHER_WAITERS_MAX {
            return state;
        }
        let deadline = Instant::now() + GATHER_MAX.min(state.last_write / 2);
        while state.writer.open_waiters() < expected && Instant::now() < deadline {
            drop(state);
            thread::yield_now();
            state = self.lock_state();
        }
        state
    }

    /// Takes the end of a write: publishes what became durable and collects the commits that ended.
    pub(super) fn complete(&self, state: &mut State, completion: Completion, ended: &mut Ended) {
        let mut durable = std::mem::take(&mut state.durable);
        let failed = state.writer.handle_completion(completion.id, completion.result, &mut durable);
        if let Some(poison) = state.writer.poison() {
            for commit in failed {
                ended.add(commit, Err(poison.clone()));
            }
            self.progress.notify();
            self.feed.notify();
        }
        Counters::add(&self.counters.writes, 1);
        let advanced = !durable.is_empty();
        let mut waiters = 0;
        for mut durable in durable.drain(..) {
            waiters += durable.waiters;
            // First, so that somebody hears of it also when what follows panics.
            if let Some(commit) = durable.commit.take() {
                ended.add(commit, Ok(()));
            }
            self.publish(&durable);
        }
        state.durable = durable;
        if advanced {
            state.expected_waiters = waiters + state.writer.open_waiters();
            self.progress.advance(state.writer.durable_lsn());
            self.feed.notify();
            self.background.raise();
        }
    }

    fn publish(&self, durable: &Durable) {
        match &durable.content {
            Content::Segment(header, file) => {
                let extent = Extent::empty(header);
                let (header, file) = (header.clone(), Arc::clone(file));
                self.segments.add(Segment::unsealed(header, file, extent, Index::default()));
                self.begun.raise();
            }
            Content::Batch(batch) => self.publish_batch(durable.segment, batch),
            Content::Raw(batches) => {
                for batch in batches {
                    self.publish_batch(durable.segment, batch);
                }
            }
        }
    }

    fn publish_batch(&self, segment: u64, batch: &HotBatch) {
        let header = BatchHeader::decode(&batch.bytes).expect("the writer looked at it");
        self.segments.get(segment).expect("its header is durable").note(&header);
        Counters::add(&self.counters.batches, 1);
        Counters::add(&self.counters.records, u64::from(header.record_count));
        Counters::add(&self.counters.batch_bytes, u64::from(header.length));
        if header.record_count > 0 {
            self.hot.push(batch.clone());
        } else {
            self.lock_epochs().note(&header, &batch.bytes);
        }
    }

    pub(super) fn start_driving(&self, state: &mut State, driver: Driver) {
        assert_eq!(state.driver, Driver::Nobody, "one thread drives");
        // The disk may have had nothing to answer for a long time.
        self.note_answer();
        state.driver = driver;
    }

    /// Leaves the wheel to whoever has to go on (M2), then wakes those whose batches ended.
    fn stop_driving(&self, mut state: MutexGuard<'_, State>, mut ended: Ended) {
        assert_ne!(state.driver, Driver::Nobody, "only the driver stops");
        state.driver = Driver::Nobody;
        let pending = state.writer.has_pending();
        let leader = state.writer.pending_leader().map(Arc::clone);
        drop(state);
        // First, so that the next write is on its way while the many are being woken.
        match leader {
            Some(leader) => leader.ask_to_lead(),
            None if pending => self.kick_commit_thread(),
            None => {}
        }
        ended.finish();
        if !self.has_threads {
            self.run_maintenance();
        }
    }

    /// Poisons the log from outside of the write path.
    pub(crate) fn fail(&self, failure: IoFailure) {
        let mut state = self.lock_state();
        let failed = state.writer.handle_failure(failure);
        let Some(poison) = state.writer.poison().cloned() else { return };
        drop(state);
        for commit in failed {
            commit.finish(Err(poison.clone()));
        }
        self.progress.notify();
        self.feed.notify();
    }
}

/// Whether the log takes records; with `refusals`, only if no more were refused so far.
fn check_taken(state: &State, refusals: Option<u64>) -> Result<(), AppendError> {
    if state.closed {
        return Err(AppendError::Closed);
    }
    if let Some(poison) = state.writer.poison() {
        return Err(poison.clone());
    }
    if !state.writer.leads() {
        return Err(AppendError::NotLeading);
    }
    if refusals.is_some_and(|refusals| refusals != state.refusals) {
        return Err(state.refused.clone().expect("counted with its reason"));
    }
    Ok(())
}

/// Whether another thread keeps everybody from appending for now.
fn is_paused(state: &State) -> bool {
    state.paused_by.is_some_and(|paused_by| paused_by != thread::current().id())
}

pub(super) fn refused(failure: IoFailure) -> AppendError {
    if failure.is_full() { AppendError::Full(failure) } else { AppendError::NoSegment(failure) }
}

#[cfg(all(test, not(shuttle)))]
#[path = "committer_tests.rs"]
mod tests;
