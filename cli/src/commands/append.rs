//! `append`: lines in, durable records, LSNs out.
//!
//! Owns the threads of the command with `--dir` (with `--server`, see `server`): one reads and submits, this
//! one waits for what was submitted, in order, and one prints LSNs (`acks`). None of them waits for
//! another's stream: what arrived is acknowledged while the input is silent, and stored while nobody reads
//! the LSNs.
//!
//! Invariants
//!  P1. With `--ack local` an LSN is published after its ticket said that it is durable, and after all
//!      before it.
//!  P2. After the first record that could not be stored, nothing is acknowledged any more, and no line
//!      behind it is stored: what the log holds of the input has no hole.
//!
//! Bounds: a buffer for the longest line, [`TICKETS_MAX`] tickets, and what the log has on its way.

mod acks;
mod feed;
mod lines;
mod server;

use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use cairnlog_engine::{AppendError, InOrder, Log, RECORD_BYTES_MAX, Ticket};

use super::opening;
use crate::args::{Ack, AppendArgs, LocalAck, Place};
use crate::exit::{Exit, Failure};
use crate::output::talk;
use acks::{Acks, Publisher};
use feed::Input;
use lines::Lines;

/// Tickets that are waited for.
const TICKETS_MAX: usize = 1024;
/// Lines are submitted in batches of about this size.
const BATCH_BYTES_MAX: usize = 256 << 10;

pub(crate) fn run(args: &AppendArgs) -> Result<Exit, Failure> {
    match &args.place {
        Place::Directory(directory) => run_on_directory(args, directory),
        Place::Servers(cluster) => server::run(args, cluster),
    }
}

fn run_on_directory(args: &AppendArgs, directory: &Path) -> Result<Exit, Failure> {
    // Before the log, so that a wrong level or name makes no directory.
    let ack = Ack::of_directory(args.ack)?;
    let input = Input::open(args.input.as_deref())?;
    let config = args.limits.config();
    let line_bytes_max = config.record_bytes_max.min(RECORD_BYTES_MAX);
    let lines = Lines::new(line_bytes_max, BATCH_BYTES_MAX.min(config.batch_bytes_max));
    let (log, _) = opening::open(directory, config)?;
    let producer = args.producer.map(|id| Producer::find(&log, id)).transpose()?;
    let acks = if args.print_lsn { Some(Acks::start()?) } else { None };
    let publisher = acks.as_ref().map(Acks::publisher);
    let (early, late) = match ack {
        LocalAck::Buffered => (publisher, None),
        LocalAck::Local => (None, publisher),
    };

    let (tickets, submitted) = sync_channel(TICKETS_MAX);
    let mut feed = Feed { log: log.in_order(), producer, tickets, early };
    let feeding = std::thread::Builder::new()
        .name("input".to_owned())
        .spawn(move || input.feed(lines, |batch| feed.take(batch)))
        .map_err(|error| Failure::io("start a thread", &error))?;
    let (stored, waited) = wait_for_all(submitted, late.as_ref());
    let ended = match waited {
        // The input is over, or the log refused something.
        Ok(()) => {
            let fed = feeding.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            // The worse news first: a poisoned log.
            log.close().map_err(Failure::from).and(fed)
        }
        // The other thread may be waiting for input that never comes: the end of the process ends it.
        Err(error) => {
            // What was accepted may as well be kept; the error has been found already.
            let _ = log.sync();
            Err(error.into())
        }
    };
    let printed = acks.map_or(Ok(()), Acks::finish);
    ended.map_err(|failure| failure.and(&format!("lines stored before it: {stored}")))?;
    printed.map(|()| Exit::Done)
}

/// Waits for every ticket; how many records became durable, and the first error. Then nothing more is
/// taken, so that the input ends too.
fn wait_for_all(
    submitted: Receiver<Ticket>,
    late: Option<&Publisher>,
) -> (u64, Result<(), AppendError>) {
    let mut stored = 0;
    for ticket in submitted {
        let lsns = ticket.lsns_if_durable();
        if let Err(error) = ticket.wait() {
            return (stored, Err(error));
        }
        stored += lsns.end.since(lsns.start);
        if let Some(publisher) = late {
            publisher.publish(&lsns);
        }
    }
    (stored, Ok(()))
}

/// A named input, and how far the log holds it already.
struct Producer {
    id: u128,
    /// The number of the next line, from 0.
    next_line: u64,
    /// Lines before it are in the log.
    stored_lines: u64,
}

impl Producer {
    fn find(log: &Log, id: u128) -> Result<Producer, Failure> {
        Ok(Producer::behind(id, log.next_sequence(id)?.unwrap_or(0)))
    }

    /// One of which so many lines are in the log.
    fn behind(id: u128, stored_lines: u64) -> Producer {
        if stored_lines > 0 {
            talk(format_args!("the first {stored_lines} lines are in the log already"));
        }
        Producer { id, next_line: 0, stored_lines }
    }

    /// The part of the next lines that is not in the log, and the number of its first line.
    fn skip<'a, 'b>(&mut self, lines: &'a [&'b [u8]]) -> (u64, &'a [&'b [u8]]) {
        let stored = self.stored_lines.saturating_sub(self.next_line);
        let skipped = usize::try_from(stored).unwrap_or(usize::MAX).min(lines.len());
        let first = self.next_line + skipped as u64;
        self.next_line += lines.len() as u64;
        (first, &lines[skipped..])
    }
}

/// What the thread that reads does with lines.
struct Feed {
    log: InOrder,
    producer: Option<Producer>,
    tickets: SyncSender<Ticket>,
    /// Where LSNs go that count before they are durable.
    early: Option<Publisher>,
}

impl Feed {
    /// False when nobody waits any more: something failed, and the process is about to end.
    fn take(&mut self, batch: &[&[u8]]) -> Result<bool, Failure> {
        let ticket = submit(&self.log, &mut self.producer, batch)?;
        Ok(pass_on(ticket, self.early.as_ref(), &self.tickets))
    }
}

/// Submits lines, less those that the log holds of this producer already.
fn submit(
    log: &InOrder,
    producer: &mut Option<Producer>,
    lines: &[&[u8]],
) -> Result<Option<Ticket>, AppendError> {
    let Some(producer) = producer else { return log.submit_batch(lines).map(Some) };
    match producer.skip(lines) {
        (_, []) => Ok(None),
        (first, rest) => log.submit_batch_as(producer.id, first, rest).map(Some),
    }
}

/// False when nobody waits any more.
fn pass_on(
    ticket: Option<Ticket>,
    early: Option<&Publisher>,
    tickets: &SyncSender<Ticket>,
) -> bool {
    let Some(ticket) = ticket else { return true };
    if let Some(early) = early {
        early.publish(&ticket.lsns_if_durable());
    }
    tickets.send(ticket).is_ok()
}
