//! Appending to servers.
//!
//! Owns what goes on side by side: a thread reads lines, one task submits them, one takes answers. None waits
//! for another, but for the bounds.
//!
//! Invariants
//!  S1. An LSN is published after the server said that its record reached the level that was asked for.
//!  S2. After the first record that was not stored, nothing is published any more and nothing more is
//!      submitted; what is on its way is waited for, and what came of it is said.
//!                                                                     test `a_failure_says_what_is_known`
//!  S3. Of a named input only lines behind those are submitted that the servers hold, at the level that is asked for.
//!                                                                     `append`
//!
//! Bounds: [`BATCHES_MAX`] batches between the thread and the task, and what the client has on its way.

use std::thread::JoinHandle;

use cairnlog_engine::RECORD_BYTES_MAX;
use cairnlog_replication::client::{
    AppendAnswers, AppendOptions, AppendSubmitter, Appended, ClientError, Numbering,
};
use cairnlog_replication::wire::request::{self, Outcome, Sequence};
use tokio::sync::Notify;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::Producer;
use super::acks::{Acks, Publisher};
use super::feed::Input;
use super::lines::Lines;
use crate::args::{Ack, AppendArgs, Cluster};
use crate::commands::connecting;
use crate::exit::{Exit, Failure, of_client_error};
use crate::output::talk;

const BATCHES_MAX: usize = 4;
/// Lines are submitted in batches of about this size: they fit in the shortest segments that a server may have, which
/// is not known here.
const SERVER_BATCH_BYTES_MAX: usize = 32 << 10;

type Batch = Vec<Vec<u8>>;
type Feeding = JoinHandle<Result<(), Failure>>;

pub(super) fn run(args: &AppendArgs, cluster: &Cluster) -> Result<Exit, Failure> {
    let ack = Ack::of_server(args.ack);
    let input = Input::open(args.input.as_deref())?;
    let acks = if args.print_lsn { Some(Acks::start()?) } else { None };
    let publisher = acks.as_ref().map(Acks::publisher);
    let ended = connecting::run(append(cluster, ack, args.producer, input, publisher));
    let printed = acks.map_or(Ok(()), Acks::finish);
    let (tally, feeding) = ended?;
    if tally.failure.is_none() {
        // The input is over, or could not be read.
        let fed = feeding.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let stored = tally.acknowledged;
        fed.map_err(|failure| failure.and(&format!("lines stored before it: {stored}")))?;
    }
    // Else the thread may be waiting for input that never comes: the end of the process ends it.
    tally.judge(ack)?;
    printed.map(|()| Exit::Done)
}

async fn append(
    cluster: &Cluster,
    ack: Ack,
    producer: Option<u128>,
    input: Input,
    publisher: Option<Publisher>,
) -> Result<(Tally, Feeding), Failure> {
    let client = connecting::connect(cluster).await?;
    let producer = match producer {
        Some(id) => Some(Producer::behind(id, client.next_sequence(id, ack.into()).await?)),
        None => None,
    };
    let numbering = producer.as_ref().map_or(Numbering::Client, Producer::numbering);
    let options = AppendOptions { ack: ack.into(), numbering, ..AppendOptions::default() };
    let (submitter, answers) = client.appender(options).await?.split();
    let (batches, arrived) = channel(BATCHES_MAX);
    // Only now, so that no line is taken that cannot be sent.
    let feeding = start_feeding(input, producer, batches)?;
    let stop = Notify::new();
    let tally = Tally::new(ack.into(), publisher);
    let (submitted, mut tally) =
        tokio::join!(submit_all(submitter, arrived, &stop), count_all(answers, tally, &stop));
    if let Err(error) = submitted {
        tally.note_failure(&error);
    }
    if tally.failure.is_none() {
        client.close().await;
    }
    Ok((tally, feeding))
}

impl Producer {
    /// Behind the lines that the log holds.
    fn numbering(&self) -> Numbering {
        Numbering::From(Sequence { producer_id: self.id, first: self.stored_lines })
    }
}

fn start_feeding(
    input: Input,
    mut producer: Option<Producer>,
    batches: Sender<Batch>,
) -> Result<Feeding, Failure> {
    let lines = Lines::new(RECORD_BYTES_MAX, SERVER_BATCH_BYTES_MAX);
    let take = move |batch: &[&[u8]]| {
        let new = producer.as_mut().map_or(batch, |producer| producer.skip(batch).1);
        if new.is_empty() {
            return Ok(!batches.is_closed());
        }
        let batch = new.iter().map(|line| line.to_vec()).collect();
        Ok(batches.blocking_send(batch).is_ok())
    };
    let builder = std::thread::Builder::new().name("input".to_owned());
    let started = builder.spawn(move || input.feed(lines, take));
    started.map_err(|error| Failure::io("start a thread", &error))
}

/// Submits what arrives until there is no more, or until told to stop. The end of the submitter is what ends
/// the answers.
async fn submit_all(
    mut submitter: AppendSubmitter,
    mut arrived: Receiver<Batch>,
    stop: &Notify,
) -> Result<(), ClientError> {
    loop {
        let batch = tokio::select! {
            batch = arrived.recv() => batch,
            () = stop.notified() => None,
        };
        let Some(batch) = batch else { return Ok(()) };
        tokio::select! {
            submitted = submitter.submit(batch) => submitted?,
            () = stop.notified() => return Ok(()),
        }
    }
}

/// Takes every answer.
async fn count_all(mut answers: AppendAnswers, mut tally: Tally, stop: &Notify) -> Tally {
    while let Some(answer) = answers.next().await {
        match answer {
            Ok(appended) => tally.note(&appended),
            Err(error) => {
                tally.note_failure(&error);
                stop.notify_one();
            }
        }
    }
    tally
}

/// What came of the lines.
struct Tally {
    ack: request::Ack,
    publisher: Option<Publisher>,
    /// Lines that reached the level, before any failure.
    acknowledged: u64,
    /// Lines that are stored, but only at a lower level: the servers degrade.
    lower: u64,
    /// Lines that were stored behind one that was not.
    behind: u64,
    /// The first failure, as it is told.
    failure: Option<(Exit, String)>,
    /// Whether nobody knows of some lines if they are stored.
    is_unknown: bool,
}

impl Tally {
    fn new(ack: request::Ack, publisher: Option<Publisher>) -> Tally {
        let (acknowledged, lower, behind) = (0, 0, 0);
        Tally { ack, publisher, acknowledged, lower, behind, failure: None, is_unknown: false }
    }

    fn note(&mut self, appended: &Appended) {
        let records = appended.lsns.end.since(appended.lsns.start);
        if self.failure.is_some() {
            self.behind += records;
        } else if appended.ack < self.ack {
            if self.lower == 0 {
                let name = Ack::from(appended.ack).name();
                talk(format_args!("the servers degrade: records are acknowledged as {name} only"));
            }
            self.lower += records;
        } else {
            self.acknowledged += records;
            if let Some(publisher) = &self.publisher {
                publisher.publish(&appended.lsns);
            }
        }
    }

    fn note_failure(&mut self, error: &ClientError) {
        self.fail(of_client_error(error), error.to_string(), error.outcome());
    }

    fn fail(&mut self, exit: Exit, text: String, outcome: Outcome) {
        self.is_unknown |= outcome == Outcome::Unknown;
        self.failure.get_or_insert((exit, text));
    }

    /// How the command ends.
    fn judge(self, ack: Ack) -> Result<(), Failure> {
        let (acknowledged, lower, behind) = (self.acknowledged, self.lower, self.behind);
        let Some((exit, text)) = self.failure else {
            if lower == 0 {
                return Ok(());
            }
            let name = ack.name();
            let text = format!("lines that are stored, but did not reach {name}: {lower}");
            return Err(Failure::new(Exit::No, text));
        };
        let mut failure = Failure::new(exit, text);
        failure = failure.and(&format!("lines acknowledged before it: {acknowledged}"));
        if lower > 0 {
            failure = failure.and(&format!("lines stored below that level before it: {lower}"));
        }
        if behind > 0 {
            failure = failure.and(&format!("lines stored behind it all the same: {behind}"));
        }
        if self.is_unknown {
            failure = failure.and("whether more lines were stored is not known");
        }
        Err(failure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairnlog_engine::{Epoch, Lsn};

    fn appended(start: u64, end: u64, ack: request::Ack) -> Appended {
        let lsns = Lsn::new(start)..Lsn::new(end);
        Appended { lsns, epoch: Epoch::new(1), ack, replicas: Vec::new() }
    }

    #[test]
    fn a_failure_says_what_is_known() {
        let quorum = request::Ack::Quorum;
        let mut tally = Tally::new(quorum, None);
        tally.note(&appended(1, 4, quorum));
        tally.fail(Exit::No, "not the leader".to_owned(), Outcome::Retryable);
        tally.note(&appended(4, 6, quorum));
        let failure = tally.judge(Ack::Quorum).unwrap_err();
        let text = failure.message.unwrap();
        assert_eq!(failure.exit, Exit::No);
        assert!(text.contains("not the leader; lines acknowledged before it: 3"), "{text}");
        assert!(text.contains("behind it all the same: 2"), "{text}");
        assert!(!text.contains("not known"), "{text}");

        let mut tally = Tally::new(quorum, None);
        tally.fail(Exit::Failed, "the answer did not come".to_owned(), Outcome::Final);
        tally.fail(Exit::No, "another".to_owned(), Outcome::Unknown);
        let text = tally.judge(Ack::Quorum).unwrap_err().message.unwrap();
        assert!(text.contains("did not come") && text.contains("not known"), "{text}");
    }

    #[test]
    fn a_lower_level_is_no_success() {
        let mut tally = Tally::new(request::Ack::Quorum, None);
        tally.note(&appended(1, 4, request::Ack::Local));
        tally.note(&appended(4, 6, request::Ack::All));
        assert_eq!((tally.acknowledged, tally.lower), (2, 3));
        assert_eq!(tally.judge(Ack::Quorum).unwrap_err().exit, Exit::No);
    }
}
