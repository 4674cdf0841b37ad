//! Durable writes on their way to the simulated disk.
//!
//! Owns the order in which they complete, which follows from the disk's seed. From its submission on a
//! write may be there in any part; it is durable when it completes.
//!
//! Invariants
//!  Q1. Each write that was accepted completes once, if the queue is waited for and the power stays.
//!                                                        test `a_queue_completes_in_any_order`
//!
//! Bounds: `depth` writes; one more is refused, as a full ring refuses it.
//! Crash: a cut ends the wait with an error; what had completed before it is in `completions`.

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::file::{Inode, SimFile, shorten};
use super::image::Standing;
use super::state::{OperationKind, Shared, State, Step};
use crate::disk::{Completion, Shared as Bytes, Waker, Write, WriteQueue};
use crate::sync::{Arc, MutexGuard, PoisonError};

/// See the module.
pub(super) struct SimQueue {
    shared: Arc<Shared>,
    generation: u64,
    depth: usize,
    in_flight: Vec<InFlight>,
    waker: Arc<SimWaker>,
}

struct InFlight {
    id: u64,
    inode: Arc<Inode>,
    /// Its number on this disk.
    write: u64,
    range: Range<usize>,
    bytes: Bytes,
    /// Whether its completion never comes.
    hung: bool,
}

struct SimWaker {
    shared: Arc<Shared>,
    /// Touched only under the lock of the state, so that no wake is missed.
    raised: AtomicBool,
}

impl SimWaker {
    fn is_raised(&self) -> bool {
        self.raised.load(Ordering::Relaxed)
    }
}

impl Waker for SimWaker {
    fn wake(&self) {
        let _state = self.shared.state();
        self.raised.store(true, Ordering::Relaxed);
        self.shared.changed.notify_all();
    }
}

impl SimQueue {
    pub(super) fn new(shared: &Arc<Shared>, generation: u64, depth: usize) -> SimQueue {
        let raised = AtomicBool::new(false);
        let waker = Arc::new(SimWaker { shared: Arc::clone(shared), raised });
        SimQueue { shared: Arc::clone(shared), generation, depth, in_flight: Vec::new(), waker }
    }

    /// Completes one of the writes that do not hang, if there is one.
    fn complete_one(
        &mut self,
        state: &mut State,
        completions: &mut Vec<Completion>,
    ) -> io::Result<()> {
        let live: Vec<usize> =
            (0..self.in_flight.len()).filter(|n| !self.in_flight[*n].hung).collect();
        if live.is_empty() {
            return Ok(());
        }
        let step = state.begin(self.generation, OperationKind::Write)?;
        let next = live[state.random.below(live.len())];
        match step {
            Step::Cut => {
                self.shared.changed.notify_all();
                return step.result();
            }
            Step::Hung => self.in_flight[next].hung = true,
            step => {
                state.trace.number(self.in_flight[next].id);
                completions.push(complete(&self.in_flight.remove(next), &step));
            }
        }
        Ok(())
    }

    /// Waits for the waker, the end of the time, or the end of the power.
    fn idle<'a>(
        &self,
        state: MutexGuard<'a, State>,
        timeout: Option<Duration>,
    ) -> MutexGuard<'a, State> {
        let changed = &self.shared.changed;
        let goes_on =
            |state: &mut State| !self.waker.is_raised() && state.check(self.generation).is_ok();
        match timeout {
            None => changed.wait_while(state, goes_on).unwrap_or_else(PoisonError::into_inner),
            Some(timeout) => {
                let waited = changed.wait_timeout_while(state, timeout, goes_on);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        }
    }
}

/// Completes one of the writes.
fn complete(in_flight: &InFlight, step: &Step) -> Completion {
    let (write, range) = (in_flight.write, in_flight.range.clone());
    let mut image = in_flight.inode.image();
    match step {
        Step::Done => image.land(write, range.end),
        Step::Short(there) => shorten(&mut image, write, range, *there, true),
        Step::Lost => image.set_standing(write, range, Standing::CacheOnly),
        Step::Misdirected(target) => {
            image.set_standing(write, range, Standing::CacheOnly);
            drop(image);
            target.inode.image().put_on_medium(&in_flight.bytes, target.offset);
        }
        Step::Failed(_) | Step::Cut | Step::Hung => {
            image.set_standing(write, range, Standing::Doubtful);
        }
    }
    Completion { id: in_flight.id, result: step.result() }
}

impl WriteQueue for SimQueue {
    fn submit(&mut self, write: Write) -> io::Result<()> {
        let file: Option<&SimFile> = write.file.as_any().downcast_ref();
        let range = file.map(|file| file.writable_range(&write.bytes, write.offset)).transpose()?;
        let inode = file.and_then(|file| file.inode_on(&self.shared, self.generation));
        let (mut state, step) = self.shared.begin(self.generation, OperationKind::Submit)?;
        step.started()?;
        let (Some(range), Some(inode)) = (range, inode) else {
            return Err(io::Error::other("a file of another disk"));
        };
        if self.in_flight.len() >= self.depth {
            return Err(io::Error::other("more writes than the queue is deep"));
        }
        let number = state.number();
        state.trace.number(write.offset);
        state.trace.bytes(&write.bytes);
        inode.image().write(number, &write.bytes, range.start, Standing::InFlight);
        let (inode, Write { id, bytes, .. }) = (Arc::clone(inode), write);
        self.in_flight.push(InFlight { id, inode, write: number, range, bytes, hung: false });
        step.result()
    }

    fn wait(
        &mut self,
        completions: &mut Vec<Completion>,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let mut state = shared.state();
        let before = completions.len();
        loop {
            if self.in_flight.iter().all(|write| write.hung) {
                state = self.idle(state, timeout);
            }
            state.check(self.generation)?;
            let woken = self.waker.raised.swap(false, Ordering::Relaxed);
            let live = self.in_flight.iter().filter(|write| !write.hung).count();
            // A wake may come before any completion.
            if live == 0 || woken && state.random.below(2) == 0 {
                return Ok(());
            }
            for _ in 0..=state.random.below(live) {
                self.complete_one(&mut state, completions)?;
            }
            // When all that were to come hang, others may still do.
            if completions.len() > before {
                return Ok(());
            }
        }
    }

    fn waker(&self) -> Arc<dyn Waker> {
        Arc::clone(&self.waker) as Arc<dyn Waker>
    }

    fn depth(&self) -> usize {
        self.depth
    }
}

impl Drop for SimQueue {
    /// A queue that is dropped waits for its writes, but nobody looks at how they end: they are where a
    /// sync may find them.
    fn drop(&mut self) {
        for InFlight { inode, write, range, .. } in &self.in_flight {
            inode.image().set_standing(*write, range.clone(), Standing::Dirty);
        }
    }
}
