//! Numbered appends: taken once, however often they are sent.
//!
//! Owns what a leader looks at and changes between the end of its log and the append behind it ([`End`]), and the answer
//! to where a producer goes on. What is new and what is a duplicate is `producers::admission`'s to say; where the
//! table that it begins with comes from is `producers`' of this folder.
//!
//! Invariants
//!  N1. A numbered append is looked at, given its LSNs and noted under one lock: two lanes cannot both append it.
//!                                                                    test `a_retry_gets_the_original_lsn` in tests/producers.rs
//!  N2. After the log refused records, no numbered append gets LSNs before it is known of every other one whether
//!      it was among them: all go through handles of one age (`InOrder`), which is renewed when all are settled.
//!                                                    test `a_full_disk_leaves_nothing_behind` of the server
//!  N3. What was noted is noted also when the epoch has ended meanwhile: whoever asks this table again before
//!      the next one is there finds it.                               `try_submit`
//!
//! Bounds: whoever has to wait does so for [`PATIENCE`], then it is told to try again.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use cairnlog_engine::{AppendError, Epoch, InOrder, Lsn, LsnRange, Ticket};
use tokio::time::{Instant, timeout_at};

use super::appending::{Written, reached, refusal, unexpected};
use super::session::failure;
use super::{Opened, Shared};
use crate::producers::{Admission, Admitted, Run, Verdict};
use crate::wire::request::{Ack, Failure, Outcome, Reason, Response, Sequence};

/// For the table of a new leader, or for the end of an append that was sent before.
const PATIENCE: Duration = Duration::from_secs(5);

/// The end of the log, for whoever appends behind it.
#[derive(Default)]
pub(super) struct End {
    /// The epoch that is led, as far as `producers` knows.
    epoch: Epoch,
    /// None before the table has come to the end of the log.
    admitting: Option<Admitting>,
    /// Why the table does not get there, or on.
    stuck: Option<String>,
}

struct Admitting {
    admission: Admission,
    /// Numbered appends go through clones of it.
    in_order: InOrder,
}

/// An append as it came.
#[derive(Clone, Copy)]
pub(super) struct Append<'a> {
    pub(super) records: &'a [Vec<u8>],
    pub(super) expected_lsn: Option<Lsn>,
    pub(super) epoch: Epoch,
}

/// What became of it.
pub(super) enum Submitted {
    /// It is in the log, or will be; numbered ones are to be settled.
    New(Ticket, Option<Admitted>),
    /// It is in the log since long, durably.
    Duplicate(LsnRange),
    /// It is to be tried again when the log has room.
    NoRoom,
}

impl End {
    /// Another epoch is led, or none: what was taken in the one before is of no more use.
    pub(super) fn begin(&mut self, epoch: Option<Epoch>) {
        (self.epoch, self.admitting) = (epoch.unwrap_or(Epoch::NONE), None);
    }

    /// The table of everything in front of this epoch has been read.
    pub(super) fn admit_from_now(&mut self, admission: Admission, in_order: InOrder) {
        assert!(self.admitting.is_none(), "an epoch has one table");
        self.admitting = Some(Admitting { admission, in_order });
    }

    pub(super) fn note_stuck(&mut self, because: Option<String>) {
        self.stuck = because;
    }

    #[cfg(test)]
    pub(super) fn verdict(&self, producer_id: u128, first: u64, count: u64) -> Option<Verdict> {
        self.admitting.as_ref()?.admission.check(producer_id, first, count)
    }

    fn admitting(&mut self, epoch: Epoch) -> Option<&mut Admitting> {
        self.admitting.as_mut().filter(|_| self.epoch == epoch)
    }
}

impl Opened {
    pub(super) fn lock_end(&self) -> MutexGuard<'_, End> {
        // Whoever panics under it has noted what is in the log, or appended nothing.
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn led(&self) -> Option<Epoch> {
        self.handle.led()
    }

    /// The end of a numbered append is known.
    pub(super) fn settle(&self, epoch: Epoch, admitted: Admitted, is_durable: bool) {
        if let Some(admitting) = self.lock_end().admitting(epoch) {
            admitting.admission.settle(admitted, is_durable);
        }
        self.changed.notify_waiters();
    }
}

/// Puts records into the log, unless they are there. `lane` speaks for what came on the same lane before.
pub(super) async fn submit(
    shared: &Shared,
    opened: &Opened,
    lane: &InOrder,
    sequence: Sequence,
    append: Append<'_>,
) -> Result<Submitted, Failure> {
    let count = u64::try_from(append.records.len()).unwrap_or(u64::MAX);
    if count == 0 {
        return Err(refusal(shared, &AppendError::Empty));
    }
    if sequence.first.checked_add(count).is_none() {
        let text = "the numbers of a producer end in front of these";
        return Err(failure(Outcome::Final, Reason::Invalid, text));
    }
    wait_for(opened, || try_submit(shared, opened, lane, sequence, append)).await
}

/// Tries again whenever something has changed, until there is an answer.
async fn wait_for<T>(
    opened: &Opened,
    mut attempt: impl FnMut() -> Result<Option<T>, Failure>,
) -> Result<T, Failure> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        // From before the look on nothing is missed.
        let changed = opened.changed.notified();
        if let Some(done) = attempt()? {
            return Ok(done);
        }
        if timeout_at(deadline, changed).await.is_err() {
            let text = "it is not known yet what the log holds of this producer";
            return Err(match &opened.lock_end().stuck {
                None => failure(Outcome::Retryable, Reason::Busy, text),
                Some(because) => {
                    failure(Outcome::Retryable, Reason::Storage, format!("{text}: {because}"))
                }
            });
        }
    }
}

/// None when it has to wait.
fn try_submit(
    shared: &Shared,
    opened: &Opened,
    lane: &InOrder,
    sequence: Sequence,
    append: Append<'_>,
) -> Result<Option<Submitted>, Failure> {
    let Append { records, expected_lsn, epoch } = append;
    let Sequence { producer_id, first } = sequence;
    let log = opened.storage.replica().log();
    let mut end = opened.lock_end();
    if opened.led() != Some(epoch) {
        return Err(shared.not_leading());
    }
    let Some(admitting) = end.admitting(epoch) else { return Ok(None) };
    match admitting.admission.check(producer_id, first, records.len() as u64) {
        None => return Ok(None),
        Some(Verdict::New) => {}
        Some(Verdict::Duplicate(lsns)) => return Ok(Some(Submitted::Duplicate(lsns))),
        Some(other) => return Err(refused(&other)),
    }
    lane.check().map_err(|error| refusal(shared, &error))?;
    if admitting.admission.is_settled() && admitting.in_order.check().is_err() {
        admitting.in_order = log.in_order();
    }
    let end_lsn = log.end_lsn();
    if expected_lsn.is_some_and(|expected| expected != end_lsn) {
        return Err(unexpected(end_lsn));
    }
    let ticket = admitting.in_order.clone().try_submit_batch_as(producer_id, first, records);
    let Some(ticket) = ticket.map_err(|error| refusal(shared, &error))? else {
        return Ok(Some(Submitted::NoRoom));
    };
    let lsns = ticket.lsns_if_durable();
    let admitted = admitting.admission.admit(Run { producer_id, first_sequence: first, lsns });
    Ok(Some(Submitted::New(ticket, Some(admitted))))
}

/// What a client hears of records that are neither new nor a duplicate.
fn refused(verdict: &Verdict) -> Failure {
    let unknown = |text: String| failure(Outcome::Final, Reason::UnknownProducer, text);
    let other = |text: String| failure(Outcome::Final, Reason::Invalid, text);
    match verdict {
        Verdict::Gap(next) => unknown(format!(
            "the next record of this producer has the number {next}: some are missing"
        )),
        Verdict::Forgotten => unknown(
            "the records were appended so long ago that it is not known any more where they are"
                .to_owned(),
        ),
        Verdict::Partial(next) => other(format!(
            "the first of the records are in the log, those from number {next} on are not"
        )),
        Verdict::Scattered => {
            other("the records are in the log, but not one behind the other".to_owned())
        }
        Verdict::Unknown | Verdict::New | Verdict::Duplicate(_) => unknown(
            "the producer is not known, or not any more, and these are not its first records"
                .to_owned(),
        ),
    }
}

/// Where a producer goes on, once everything that it has appended has got as far as `ack`.
pub(super) async fn next_sequence(shared: &Arc<Shared>, producer_id: u128, ack: Ack) -> Response {
    match find_next(shared, producer_id, ack).await {
        Ok(sequence) => Response::NextSequence(sequence),
        Err(failure) => Response::Failed(failure),
    }
}

async fn find_next(shared: &Arc<Shared>, producer_id: u128, ack: Ack) -> Result<u64, Failure> {
    let Some(opened) = shared.opened.get() else { return Err(shared.not_leading()) };
    let Some(epoch) = opened.led() else { return Err(shared.not_leading()) };
    let (last, has_forgotten) = wait_for(opened, || {
        if opened.led() != Some(epoch) {
            return Err(shared.not_leading());
        }
        let mut end = opened.lock_end();
        let admission = end.admitting(epoch).map(|admitting| &admitting.admission);
        let settled = admission.filter(|admission| admission.is_settled_for(producer_id));
        Ok(settled.map(|s| (s.table().last(producer_id), s.table().has_forgotten())))
    })
    .await?;
    match last {
        Some((next, lsns)) => {
            let mut levels = opened.handle.levels();
            let written = Written { ack, epoch, lsns };
            match reached(&written, &mut levels, shared.config.node).await {
                Response::Failed(failure) => Err(failure),
                _ => Ok(next),
            }
        }
        None if has_forgotten => look_for(shared, producer_id).await,
        None => Ok(0),
    }
}

/// Whoever is not remembered may have appended before others were, and would begin again: the log is read for it.
async fn look_for(shared: &Arc<Shared>, producer_id: u128) -> Result<u64, Failure> {
    let shared = Arc::clone(shared);
    let found = tokio::task::spawn_blocking(move || {
        let opened = shared.opened.get().expect("it was looked at before");
        opened.storage.replica().log().next_sequence(producer_id)
    });
    match found.await {
        Ok(Ok(None)) => Ok(0),
        Ok(Ok(Some(next))) => {
            let text = format!(
                "the log holds records of this producer up to number {next}, from so long ago that it is not \
                 remembered: take another name for what is to be appended behind them"
            );
            Err(failure(Outcome::Final, Reason::UnknownProducer, text))
        }
        Ok(Err(error)) => Err(failure(Outcome::Retryable, Reason::Storage, error.to_string())),
        Err(panic) => Err(failure(Outcome::Retryable, Reason::Storage, panic.to_string())),
    }
}
