//! Appending what another replica wrote, and beginning an epoch.
//!
//! Owns the waiting for room and for segments on behalf of both. What is accepted is the writer's to say
//! (`wal::writer::raw`), what may be asked for `replica`'s.
//!
//! Threads: one at a time appends pieces; several do no harm, and are refused by the chain.

use super::core::{Core, Driver, State};
use crate::error::AppendError;
use crate::format::batch::EpochStart;
use crate::replica::RawError;
use crate::sync::{Arc, MutexGuard, PoisonError};
use crate::wal::commit::Commit;
use crate::wal::raw::RawPiece;
use crate::wal::writer::RawPush;
use crate::{Epoch, Lsn, LsnRange};

impl Core {
    /// Queues pieces at their places; the commit is the last one's.
    pub(crate) fn submit_raw(
        &self,
        pieces: &[RawPiece],
    ) -> Result<(Arc<Commit>, LsnRange), RawError> {
        let _guard = self.poison_on_panic();
        let _turn = self.take_turn();
        let (state, commit, lsns) = self.push_all(pieces)?;
        let nobody = state.driver == Driver::Nobody;
        drop(state);
        if nobody {
            self.kick_commit_thread();
        }
        Ok((commit, lsns))
    }

    /// Appends pieces at their places, durably: written by this thread, unless another one writes already.
    pub(crate) fn append_raw(&self, pieces: &[RawPiece]) -> Result<(), RawError> {
        let _guard = self.poison_on_panic();
        let _turn = self.take_turn();
        let (state, commit, _) = self.push_all(pieces)?;
        Ok(self.drive_or_wait(state, &commit, true)?)
    }

    fn push_all(
        &self,
        pieces: &[RawPiece],
    ) -> Result<(MutexGuard<'_, State>, Arc<Commit>, LsnRange), RawError> {
        let mut state = self.lock_raw()?;
        let start_lsn = state.writer.end_lsn();
        let mut last = None;
        for piece in pieces {
            let commit = Arc::new(Commit::default());
            state = self.push_raw(state, piece, &commit)?;
            last = Some(commit);
        }
        let end_lsn = state.writer.end_lsn();
        Ok((state, last.expect("there is at least one piece"), start_lsn..end_lsn))
    }

    fn push_raw<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        piece: &RawPiece,
        commit: &Arc<Commit>,
    ) -> Result<MutexGuard<'a, State>, RawError> {
        loop {
            match state.writer.push_raw(piece, commit) {
                RawPush::Pushed => return Ok(state),
                RawPush::Refused(fault) => {
                    // What is in front of it is written all the same.
                    drop(state);
                    self.kick_commit_thread();
                    return Err(RawError::Refused(fault));
                }
                RawPush::NeedSegment(bytes) => {
                    drop(state);
                    self.kick_commit_thread();
                    self.prepare_segment_of(bytes).map_err(super::committer::refused)?;
                }
                RawPush::Backlogged => {
                    let oldest = state.writer.first_commit().map(Arc::clone);
                    match oldest {
                        Some(oldest) => self.drive_or_wait(state, &oldest, true)?,
                        None => self.drive_once(state),
                    }
                }
            }
            state = self.lock_raw()?;
        }
    }

    /// The state, while pieces of others may be appended.
    fn lock_raw(&self) -> Result<MutexGuard<'_, State>, RawError> {
        let mut state = self.lock_state();
        loop {
            if state.closed {
                return Err(AppendError::Closed.into());
            }
            if let Some(poison) = state.writer.poison() {
                return Err(poison.clone().into());
            }
            if state.writer.leads() {
                return Err(RawError::Leads);
            }
            if state.paused_by.is_none() {
                return Ok(state);
            }
            state = self.resumed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Places an epoch start, behind which records may be appended.
    pub(crate) fn begin_epoch(
        &self,
        epoch: Epoch,
        start: EpochStart,
    ) -> Result<(Arc<Commit>, Lsn), AppendError> {
        let _guard = self.poison_on_panic();
        let _turn = self.take_turn();
        let commit = Arc::new(Commit::default());
        loop {
            let mut state = self.lock_state();
            if state.closed {
                return Err(AppendError::Closed);
            }
            if let Some(poison) = state.writer.poison() {
                return Err(poison.clone());
            }
            if state.writer.begin_epoch(epoch, start, self.disk.now_ms(), &commit).is_ok() {
                let lsn = state.writer.end_lsn();
                drop(state);
                self.kick_commit_thread();
                return Ok((commit, lsn));
            }
            drop(state);
            self.prepare_segment().map_err(super::committer::refused)?;
        }
    }

    /// Closes the open batch.
    pub(crate) fn place_all(&self) -> Result<(), AppendError> {
        let _turn = self.take_turn();
        loop {
            let placed = self.lock_state().writer.close(self.disk.now_ms());
            if placed.is_ok() {
                return Ok(());
            }
            self.prepare_segment().map_err(super::committer::refused)?;
        }
    }
}
