//! Tickets that keep their order also when the disk is full.
//!
//! Owns [`InOrder`]. A refused ticket is in the log neither before nor after a retry; what was submitted
//! behind it, before anybody knew, must not get there alone.
//!
//! Invariant: of the records submitted through one handle, the log holds a first part, without a hole.
//! Threads: one at a time, or the order is nobody's.

use std::sync::{Arc, OnceLock};

use super::core::Core;
use super::{Log, Ticket};
use crate::Lsn;
use crate::error::AppendError;
use crate::wal::commit::Commit;
use crate::wal::steps::Producer;

/// Submits records that mean nothing without those in front of them; see [`Log::in_order`]. A clone refuses after the
/// same refusals of the log, and after the errors that there were, but not after those of the other's later calls.
#[derive(Clone, Debug)]
pub struct InOrder {
    core: Arc<Core>,
    refusals: u64,
    /// The first error of a call.
    ended: OnceLock<AppendError>,
}

impl Log {
    /// A handle to submit several batches in a row. After an error of one of its calls, or after records
    /// in the log were refused, because of a full disk for example, whatever is submitted through it is
    /// refused with the same error, so that the log never holds a later batch without an earlier one.
    /// Take a new handle to go on, from the first record that was refused.
    #[must_use]
    pub fn in_order(&self) -> InOrder {
        let refusals = self.core.lock_state().refusals;
        InOrder { core: Arc::clone(&self.core), refusals, ended: OnceLock::new() }
    }
}

impl InOrder {
    /// Like [`Log::submit_batch`].
    ///
    /// # Errors
    /// As there; and from then on always the first one.
    pub fn submit_batch<R: AsRef<[u8]>>(&self, records: &[R]) -> Result<Ticket, AppendError> {
        self.submit(records, None)
    }

    /// Like [`Log::submit_batch_as`].
    ///
    /// # Errors
    /// As for [`InOrder::submit_batch`].
    pub fn submit_batch_as<R: AsRef<[u8]>>(
        &self,
        producer_id: u128,
        first_sequence: u64,
        records: &[R],
    ) -> Result<Ticket, AppendError> {
        self.submit(records, Some(Producer { id: producer_id, first_sequence }))
    }

    /// As [`InOrder::submit_batch`], if that needs no waiting: `None` when the log has no room before the disk has done
    /// something, so that whoever must not be kept waits elsewhere, by [`Log::wait_for_room`], and tries again.
    ///
    /// # Errors
    /// As for [`InOrder::submit_batch`].
    pub fn try_submit_batch<R: AsRef<[u8]>>(
        &self,
        records: &[R],
    ) -> Result<Option<Ticket>, AppendError> {
        self.try_submit(records, None)
    }

    /// The same as [`InOrder::submit_batch_as`] does it.
    ///
    /// # Errors
    /// As for [`InOrder::submit_batch`].
    pub fn try_submit_batch_as<R: AsRef<[u8]>>(
        &self,
        producer_id: u128,
        first_sequence: u64,
        records: &[R],
    ) -> Result<Option<Ticket>, AppendError> {
        self.try_submit(records, Some(Producer { id: producer_id, first_sequence }))
    }

    /// Whether the handle still takes records: none of its calls failed, and no records of the log were refused
    /// since it was taken.
    ///
    /// # Errors
    /// What the next submission would be refused with.
    pub fn check(&self) -> Result<(), AppendError> {
        if let Some(error) = self.ended.get() {
            return Err(error.clone());
        }
        let state = self.core.lock_state();
        if state.refusals == self.refusals {
            return Ok(());
        }
        Err(state.refused.clone().expect("counted with its reason"))
    }

    fn submit<R: AsRef<[u8]>>(
        &self,
        records: &[R],
        producer: Option<Producer>,
    ) -> Result<Ticket, AppendError> {
        let submit = || self.core.submit(records, producer, Some(self.refusals));
        Ok(self.ticket(self.unless_ended(submit)?, records.len()))
    }

    fn try_submit<R: AsRef<[u8]>>(
        &self,
        records: &[R],
        producer: Option<Producer>,
    ) -> Result<Option<Ticket>, AppendError> {
        let submit = || self.core.try_submit(records, producer, Some(self.refusals));
        let submitted = self.unless_ended(submit)?;
        Ok(submitted.map(|submitted| self.ticket(submitted, records.len())))
    }

    /// What fails is the last call that is tried.
    fn unless_ended<T>(
        &self,
        submit: impl FnOnce() -> Result<T, AppendError>,
    ) -> Result<T, AppendError> {
        if let Some(error) = self.ended.get() {
            return Err(error.clone());
        }
        submit().inspect_err(|error| {
            // It can only be set already by another thread, and then to an error as well.
            let _ = self.ended.set(error.clone());
        })
    }

    fn ticket(&self, (first, commit): (Lsn, Arc<Commit>), records: usize) -> Ticket {
        let lsns = first..first.plus(records as u64);
        Ticket { core: Arc::clone(&self.core), commit, lsns }
    }
}
