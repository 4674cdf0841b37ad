//! The table of producers beside the log of a node.
//!
//! Owns the task that follows the log with it, on every node, and takes checkpoints of it; and that brings a copy to
//! the end of the log when this node begins to lead. What is appended then is `numbered`'s.
//!
//! The table follows only what is committed: that never leaves the log, so that a truncation does not touch it. A
//! leader's copy goes on to the end of its log, which is given up with the leadership.
//!
//! Invariants
//!  B1. A checkpoint holds what the log says below an LSN that is committed.                  `Keeper::follow_committed`
//!  B2. Before a leader's copy is read to the end nothing numbered is appended that it would miss: from `End::begin` on
//!      nothing is taken for an earlier epoch, and what was taken before is durable or refused then.
//!                                                                      test `what_is_on_its_way_is_waited_for`
//!
//! Crash: an older checkpoint, from which the log is read again.
//! Bounds: a checkpoint is at most some 20 MiB (`producers::table::Limits`), and is taken about once a segment; trimming waits for
//! the older one of two.

use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cairnlog_engine::{AppendError, Epoch, Log, Lsn, ReadError};

use super::{Opened, Shared};
use crate::driver::storage::StorageError;
use crate::producers::{Admission, Limits, ProducerTable, Run, decode, encode};

/// Between two looks at a log that grows: what was appended meanwhile is still in memory.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(10);
/// After what did not work.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// Between two checkpoints.
const CHECKPOINT_PAUSE: Duration = Duration::from_secs(1);
/// More is no checkpoint of a table.
const CHECKPOINT_BYTES_MAX: u64 = 64 << 20;

/// Starts the task.
pub(super) fn spawn(shared: &Arc<Shared>) {
    tokio::spawn(keep(Arc::clone(shared)));
}

async fn keep(shared: Arc<Shared>) {
    let opened = || shared.opened.get().expect("it is spawned behind that");
    let (mut levels, mut leads) = (opened().handle.levels(), opened().handle.levels());
    let mut ending = shared.ending.subscribe();
    let mut keeper = Keeper::default();
    loop {
        let stepping = Arc::clone(&shared);
        let step = tokio::task::spawn_blocking(move || {
            let opened = stepping.opened.get().expect("it is spawned behind that");
            let stepped = keeper.step(opened);
            (keeper, stepped)
        });
        let Ok((back, stepped)) = step.await else { return };
        keeper = back;
        let led = keeper.led;
        let pause = if stepped.is_ok() { FOLLOW_INTERVAL } else { RETRY_PAUSE };
        let grown = async {
            tokio::time::sleep(pause).await;
            if stepped.is_err() { Ok(()) } else { levels.changed().await }
        };
        let is_alive = tokio::select! {
            // What it has not seen then is read at the next start.
            _ = ending.wait_for(|ending| *ending) => false,
            grown = grown => grown.is_ok(),
            led = leads.wait_for(|levels| levels.led != led), if stepped.is_ok() => led.is_ok(),
        };
        if !is_alive {
            let stepping = Arc::clone(&shared);
            let last = tokio::task::spawn_blocking(move || {
                let opened = stepping.opened.get().expect("it is spawned behind that");
                keeper.end(opened);
            });
            // A panic in it has been told.
            let _ = last.await;
            return;
        }
    }
}

/// See the module.
#[derive(Default)]
struct Keeper {
    /// Of what is committed; none before the first look.
    table: Option<ProducerTable>,
    led: Option<Epoch>,
    /// The segment that the log was in at the last checkpoint, and when that was.
    checkpoint: Option<(u64, Instant)>,
}

impl Keeper {
    fn step(&mut self, opened: &Opened) -> Result<(), StorageError> {
        let stepped = self.follow_and_lead(opened);
        opened.lock_end().note_stuck(stepped.as_ref().err().map(StorageError::to_string));
        self.checkpoint_if_due(opened);
        stepped
    }

    fn follow_and_lead(&mut self, opened: &Opened) -> Result<(), StorageError> {
        self.follow_committed(opened)?;
        let led = opened.handle.levels().borrow().led;
        if led == self.led { Ok(()) } else { self.lead(opened, led) }
    }

    fn follow_committed(&mut self, opened: &Opened) -> Result<(), StorageError> {
        let replica = opened.storage.replica();
        let table = self.table.get_or_insert_with(|| restored(replica.log()));
        let committed_lsn = replica.commit_lsn().min(replica.log().durable_lsn());
        Ok(follow(table, replica.log(), committed_lsn)?)
    }

    /// Brings a copy of the table to the end of the log of an epoch that has begun.
    fn lead(&mut self, opened: &Opened, led: Option<Epoch>) -> Result<(), StorageError> {
        opened.lock_end().begin(led);
        opened.changed.notify_waiters();
        if led.is_some() {
            let log = opened.storage.replica().log();
            // Whatever was appended in an earlier epoch, by somebody who had not heard of its end.
            log.sync().map(drop).or_else(refused_or_failed)?;
            let mut table = self.table.clone().expect("it was followed before");
            follow(&mut table, log, log.durable_lsn())?;
            opened.lock_end().admit_from_now(Admission::new(table), log.in_order());
            opened.changed.notify_waiters();
        }
        self.led = led;
        Ok(())
    }

    fn checkpoint_if_due(&mut self, opened: &Opened) {
        let segment = opened.storage.replica().durable_place().segment;
        let is_due = self
            .checkpoint
            .is_none_or(|(before, at)| before != segment && at.elapsed() >= CHECKPOINT_PAUSE);
        if is_due {
            self.checkpoint(opened.storage.replica().log());
            self.checkpoint = Some((segment, Instant::now()));
        }
    }

    /// One that is not taken, because the disk is full perhaps, is made up for by the next.
    fn checkpoint(&self, log: &Log) {
        if let Some(table) = self.table.as_ref().filter(|table| table.end_lsn() > Lsn::FIRST) {
            let bytes = encode(table);
            let _ = log.checkpoint(table.end_lsn(), |out| out.write_all(&bytes));
        }
    }

    fn end(&mut self, opened: &Opened) {
        if self.follow_committed(opened).is_ok() {
            self.checkpoint(opened.storage.replica().log());
        }
    }
}

/// Records that were refused, for want of room perhaps, are not in the log: that is all that matters here.
fn refused_or_failed(error: AppendError) -> Result<(), StorageError> {
    match error {
        AppendError::Poisoned(_) | AppendError::Closed => Err(error.into()),
        _ => Ok(()),
    }
}

/// The table of the newest checkpoint; without one that of an empty log.
fn restored(log: &Log) -> ProducerTable {
    let read = || {
        let checkpoint = log.newest_checkpoint().ok()??;
        let lsn = checkpoint.lsn();
        let mut bytes = Vec::new();
        checkpoint.take(CHECKPOINT_BYTES_MAX).read_to_end(&mut bytes).ok()?;
        let table = decode(&bytes, Limits::default()).ok()?;
        (table.end_lsn() == lsn && lsn <= log.durable_lsn()).then_some(table)
    };
    read().unwrap_or_else(|| ProducerTable::new(Limits::default(), Lsn::FIRST))
}

/// Applies the runs of a log up to an LSN.
fn follow(table: &mut ProducerTable, log: &Log, end_lsn: Lsn) -> Result<(), ReadError> {
    while table.end_lsn() < end_lsn {
        let first_lsn = log.first_lsn();
        if table.end_lsn() < first_lsn {
            // Of what was trimmed unseen nothing is known, so that what is known of the rest may be old.
            *table = ProducerTable::new(Limits::default(), first_lsn);
        }
        match apply_all(table, log, end_lsn) {
            // Given up by an operator, with whoever appended it.
            Err(ReadError::Lost { range }) => table.advance(range.end),
            ended => return ended,
        }
    }
    Ok(())
}

fn apply_all(table: &mut ProducerTable, log: &Log, end_lsn: Lsn) -> Result<(), ReadError> {
    let mut records = log.iter(table.end_lsn()..end_lsn)?;
    while let Some((lsns, runs)) = records.next_runs()? {
        for run in runs.iter().filter(|run| run.record_count > 0) {
            let first = lsns.start.plus(run.first_record.into());
            let lsns = first..first.plus(run.record_count.into());
            let (producer_id, first_sequence) = (run.producer_id, run.first_sequence);
            // Runs that overlap no writer makes.
            if lsns.start >= table.end_lsn() {
                table.apply(Run { producer_id, first_sequence, lsns });
            }
        }
        table.advance(lsns.end);
    }
    Ok(())
}

#[cfg(test)]
#[path = "producers_tests.rs"]
mod tests;
