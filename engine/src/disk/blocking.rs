//! The blocking queue: every write is done by the thread that submits it.
//!
//! Owns the completions that wait to be fetched. Gives the same guarantees as io_uring where that is
//! refused or absent; what it lacks is several writes on their way at once.

use std::io;
use std::time::Duration;

use super::{Completion, Waker, Write, WriteQueue};
use crate::sync::{Arc, Condvar, Mutex, PoisonError};

/// See the module.
pub(crate) struct BlockingQueue {
    done: Vec<Completion>,
    signal: Arc<Signal>,
}

#[derive(Default)]
struct Signal {
    raised: Mutex<bool>,
    changed: Condvar,
}

impl BlockingQueue {
    pub(crate) fn new() -> BlockingQueue {
        BlockingQueue { done: Vec::new(), signal: Arc::default() }
    }
}

impl WriteQueue for BlockingQueue {
    fn submit(&mut self, write: Write) -> io::Result<()> {
        let result = write.file.write_durable_at(&write.bytes, write.offset);
        self.done.push(Completion { id: write.id, result });
        Ok(())
    }

    fn wait(
        &mut self,
        completions: &mut Vec<Completion>,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        if !self.done.is_empty() {
            completions.append(&mut self.done);
            return Ok(());
        }
        let mut raised = self.signal.raised.lock().unwrap_or_else(PoisonError::into_inner);
        if !*raised {
            raised = match timeout {
                None => {
                    let changed = self.signal.changed.wait(raised);
                    changed.unwrap_or_else(PoisonError::into_inner)
                }
                Some(timeout) => {
                    let changed = self.signal.changed.wait_timeout(raised, timeout);
                    changed.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        *raised = false;
        Ok(())
    }

    fn waker(&self) -> Arc<dyn Waker> {
        Arc::clone(&self.signal) as Arc<dyn Waker>
    }

    fn depth(&self) -> usize {
        1
    }
}

impl Waker for Signal {
    fn wake(&self) {
        *self.raised.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_one();
    }
}
