//! The commit thread: writes what only tickets and buffered records wait for, several writes at a time.
//!
//! Owns the loop around a [`WriteQueue`]. Does not own what a completion means, nor who drives: both are
//! the committer's, whose invariants hold here too. Without threads the waiter of a ticket runs the loop.
//!
//! Threads: one that runs the loop.

use super::core::{Core, Driver, State};
use crate::disk::{Completion, Write, WriteQueue};
use crate::error::{AppendError, IoFailure};
use crate::sync::MutexGuard;
use crate::sync::atomic::Ordering;
use crate::wal::commit::{Commit, Ended};
use crate::wal::steps::Poll;

/// A second write is started beside the first when so many bytes wait for it.
pub(super) const PIPELINE_BYTES: usize = 64 << 10;

impl Core {
    /// The commit thread: writes what nobody waits for in person, several writes at a time.
    pub(crate) fn run_commit_thread(&self, queue: &mut dyn WriteQueue) {
        let _guard = self.poison_on_panic();
        let mut completions = Vec::new();
        loop {
            let mut ended = Ended::default();
            let mut state = self.lock_state();
            for completion in completions.drain(..) {
                self.complete(&mut state, completion, &mut ended);
            }
            state = self.drive_queue(state, queue, &mut ended);
            let drives = state.driver == Driver::CommitThread;
            if self.stop.load(Ordering::SeqCst) && !drives {
                drop(state);
                ended.finish();
                return;
            }
            self.commit_sleeps.store(true, Ordering::SeqCst);
            drop(state);
            ended.finish();
            let waited = queue.wait(&mut completions, None);
            if !completions.is_empty() {
                self.note_answer();
            }
            self.commit_sleeps.store(false, Ordering::SeqCst);
            if let Err(error) = waited {
                self.fail(IoFailure::new("wait for", "write queue", error));
                return;
            }
        }
    }

    /// What the commit thread does, in the waiter of a ticket, for a log without threads: until nothing
    /// is pending, so that an append afterwards finds nobody driving.
    pub(super) fn drive_inline(&self, commit: &Commit) -> Result<(), AppendError> {
        let mut inline = self.lock_inline();
        let queue = inline.as_mut().expect("a log without threads has its queue here");
        let mut completions = Vec::new();
        loop {
            let mut ended = Ended::default();
            let mut state = self.lock_state();
            for completion in completions.drain(..) {
                self.complete(&mut state, completion, &mut ended);
            }
            state = self.drive_queue(state, &mut **queue, &mut ended);
            let drives = state.driver == Driver::CommitThread;
            drop(state);
            ended.finish();
            if !drives {
                break;
            }
            if let Err(error) = queue.wait(&mut completions, None) {
                self.fail(IoFailure::new("wait for", "write queue", error));
            }
        }
        self.run_maintenance();
        commit.ended().expect("nothing is pending, so the batch has ended")
    }

    /// Keeps the queue filled while there is something to write and nobody else drives.
    fn drive_queue<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        queue: &mut dyn WriteQueue,
        ended: &mut Ended,
    ) -> MutexGuard<'a, State> {
        if state.driver == Driver::Nobody && state.writer.has_pending() {
            self.start_driving(&mut state, Driver::CommitThread);
        }
        while state.driver == Driver::CommitThread {
            let in_flight = state.writer.writes_in_flight();
            let worth_it = in_flight == 0
                || state.writer.has_ready()
                || state.writer.pending_bytes() >= PIPELINE_BYTES;
            if in_flight >= queue.depth() || !worth_it {
                break;
            }
            let (next, more) = self.step_queue(state, queue, ended);
            state = next;
            if !more {
                break;
            }
        }
        let idle = state.writer.writes_in_flight() == 0 && !state.writer.has_pending();
        if state.driver == Driver::CommitThread && (idle || state.writer.poison().is_some()) {
            state.driver = Driver::Nobody;
        }
        state
    }

    fn step_queue<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        queue: &mut dyn WriteQueue,
        ended: &mut Ended,
    ) -> (MutexGuard<'a, State>, bool) {
        match state.writer.poll_write(self.disk.now_ms()) {
            Poll::Write(write) => {
                drop(state);
                let Write { id, .. } = write;
                if queue.submit_waits() {
                    ended.finish();
                }
                self.note_answer();
                let submitted = queue.submit(write);
                let mut state = self.lock_state();
                if let Err(error) = submitted {
                    self.complete(&mut state, Completion { id, result: Err(error) }, ended);
                }
                (state, true)
            }
            Poll::NeedSegment => (self.prepare_or_refuse(state, ended), true),
            Poll::Nothing => (state, false),
        }
    }
}
