//! Reads of one lane.
//!
//! Owns the way from a range of LSNs to answers with records. Reads segments on threads that may wait for the disk.
//!
//! Bounds: an answer holds [`ANSWER_BYTES`], or one record; one is read ahead of the client at most.

use std::sync::Arc;
use std::time::Duration;

use cairnlog_engine::{Lsn, LsnRange, ReadError};

use super::session::{answer, answer_once, failure};
use super::{Opened, Shared};
use crate::transport::{LaneSender, TransportError};
use crate::wire::request::{Failure, Outcome, Reason, Response, Visibility, WireRecord};

/// Bytes of records in one answer.
const ANSWER_BYTES: usize = 512 << 10;
/// Records in one answer.
const ANSWER_RECORDS: usize = 16384;
/// A leader that is not confirmed by then may be none.
const CONFIRM_MAX: Duration = Duration::from_secs(1);
/// Whoever follows looks at least so often.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What is to be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) from: Option<Lsn>,
    pub(super) to: Option<Lsn>,
    pub(super) count: Option<u64>,
    pub(super) min_lsn: Option<Lsn>,
    pub(super) visibility: Visibility,
    pub(super) follows: bool,
}

/// Answers until everything was sent.
pub(super) async fn serve(
    shared: &Arc<Shared>,
    wanted: Wanted,
    sender: &mut LaneSender,
) -> Result<(), TransportError> {
    match read(shared, wanted, sender).await {
        Ok(next) => answer_once(sender, &Response::End(next)).await,
        Err(Stopped::Failed(failure)) => answer_once(sender, &Response::Failed(failure)).await,
        Err(Stopped::Gone(error)) => Err(error),
    }
}

enum Stopped {
    Failed(Failure),
    Gone(TransportError),
}

async fn read(
    shared: &Arc<Shared>,
    wanted: Wanted,
    sender: &mut LaneSender,
) -> Result<Lsn, Stopped> {
    let Some(opened) = shared.opened.get() else {
        let text = "this node has no log yet";
        return Err(Stopped::Failed(failure(Outcome::Retryable, Reason::Busy, text)));
    };
    if wanted.visibility == Visibility::Linearizable {
        confirm(shared, opened).await.map_err(Stopped::Failed)?;
    }
    let ending = shared.ending.subscribe();
    let log = opened.storage.replica().log();
    let mut next = wanted.from.unwrap_or_else(|| log.first_lsn());
    let mut left = wanted.count.unwrap_or(u64::MAX);
    let last = wanted.to.unwrap_or(Lsn::MAX);
    loop {
        if *ending.borrow() {
            let text = "this node is shutting down";
            return Err(Stopped::Failed(failure(Outcome::Retryable, Reason::ShuttingDown, text)));
        }
        let seen = visible(opened, wanted.visibility);
        if let Some(min_lsn) = wanted.min_lsn.filter(|min_lsn| *min_lsn > seen) {
            wait(opened, min_lsn, wanted.visibility, sender).await?;
            continue;
        }
        let range = log.first_lsn()..seen.max(log.first_lsn());
        if next < range.start || (next > range.end && !wanted.follows) {
            let text = format!("LSN {next} is not in the log, which has {range:?}");
            let failure = failure(Outcome::Final, Reason::OutOfRange(range), text);
            return Err(Stopped::Failed(failure));
        }
        let end = seen.min(last);
        if left == 0 || next >= last {
            return Ok(next);
        }
        if next >= end {
            if !wanted.follows {
                return Ok(next);
            }
            wait(opened, next.next(), wanted.visibility, sender).await?;
            continue;
        }
        let records = read_some(shared, next..end, left).await.map_err(Stopped::Failed)?;
        next = records.last().map_or(next, |record| record.lsn.next());
        left -= u64::try_from(records.len()).unwrap_or(left).min(left);
        answer(sender, &Response::Records(records)).await.map_err(Stopped::Gone)?;
    }
}

/// Waits until it is known that nobody else led when this was called: what is committed here then is all there was.
async fn confirm(shared: &Shared, opened: &Opened) -> Result<(), Failure> {
    let asked_ms = opened.handle.now_ms();
    let mut levels = opened.handle.levels();
    let known = levels
        .wait_for(|levels| levels.led.is_none() || opened.handle.is_confirmed(levels, asked_ms));
    match tokio::time::timeout(CONFIRM_MAX, known).await {
        Ok(Ok(levels)) if levels.led.is_some() => Ok(()),
        Ok(_) => Err(shared.not_leading()),
        Err(_) => {
            let text = "too few followers answer: another node may lead";
            Err(failure(Outcome::Retryable, Reason::NotLeading(None), text))
        }
    }
}

/// Below it records may be shown.
fn visible(opened: &Opened, visibility: Visibility) -> Lsn {
    let replica = opened.storage.replica();
    let durable_lsn = replica.log().durable_lsn();
    match visibility {
        Visibility::Committed | Visibility::Linearizable => replica.commit_lsn().min(durable_lsn),
        Visibility::Durable => durable_lsn,
    }
}

/// The same, unless the client goes.
async fn wait(
    opened: &Opened,
    lsn: Lsn,
    visibility: Visibility,
    sender: &mut LaneSender,
) -> Result<(), Stopped> {
    tokio::select! {
        () = wait_for(opened, lsn, visibility) => Ok(()),
        error = sender.stopped() => Err(Stopped::Gone(error)),
    }
}

/// Waits until everything below an LSN may be shown, or a while.
async fn wait_for(opened: &Opened, lsn: Lsn, visibility: Visibility) {
    let mut levels = opened.handle.levels();
    let there = levels.wait_for(|_| visible(opened, visibility) >= lsn);
    // What came of it whoever asked looks at.
    drop(tokio::time::timeout(LOOK_INTERVAL, there).await);
}

/// Reads records from the front of a range: as many as one answer holds.
async fn read_some(
    shared: &Arc<Shared>,
    range: LsnRange,
    count_max: u64,
) -> Result<Vec<WireRecord>, Failure> {
    let shared = Arc::clone(shared);
    let records_max = usize::try_from(count_max).unwrap_or(usize::MAX).min(ANSWER_RECORDS);
    let read = tokio::task::spawn_blocking(move || {
        let opened = shared.opened.get().expect("it was looked at before");
        let mut records = opened.storage.replica().log().iter(range)?;
        let mut some = Vec::new();
        let mut bytes = 0;
        while bytes < ANSWER_BYTES && some.len() < records_max {
            let Some(record) = records.next_ref()? else { break };
            bytes += record.bytes().len() + 32;
            some.push(WireRecord {
                lsn: record.lsn,
                epoch: record.epoch,
                time_ms: record.time_ms,
                data: record.bytes().to_vec(),
            });
        }
        Ok::<_, ReadError>(some)
    });
    match read.await {
        Ok(Ok(records)) if records.is_empty() => {
            Err(failure(Outcome::Retryable, Reason::Busy, "the log was cut meanwhile"))
        }
        Ok(Ok(records)) => Ok(records),
        Ok(Err(ReadError::OutOfRange { lsn, range })) => {
            let text = format!("LSN {lsn} is not in the log, which has {range:?}");
            Err(failure(Outcome::Final, Reason::OutOfRange(range), text))
        }
        Ok(Err(error)) => Err(failure(Outcome::Retryable, Reason::Storage, error.to_string())),
        Err(panic) => Err(failure(Outcome::Retryable, Reason::Storage, panic.to_string())),
    }
}
