//! Writers, tails and readers of one log, all at once.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use cairnlog_engine::disk::BackendChoice;
use cairnlog_engine::{Log, LogReader, Lsn, Tail, Ticket, Verdict, verify};

use crate::{LOAD, SILENCE, Scratch, block_on, config, origin, record};

const WRITERS: u32 = 16;

/// One writer: appends in each way there is until the time is over. The LSN of each of its records.
fn write(log: &Log, writer: u32, deadline: Instant) -> Vec<Lsn> {
    let mut lsns = Vec::new();
    while Instant::now() < deadline {
        let next = |ahead: u64| record(writer, lsns.len() as u64 + ahead);
        match lsns.len() % 4 {
            0 => {
                let batch: Vec<Vec<u8>> = (0..3).map(next).collect();
                let range = log.append_batch(&batch).expect("nothing fails");
                assert_eq!(range.end.since(range.start), 3);
                lsns.extend((0..3).map(|n| range.start.plus(n)));
            }
            1 => {
                let tickets: Vec<Ticket> =
                    (0..8).map(|n| log.submit(&next(n)).expect("nothing fails")).collect();
                let expected: Vec<Lsn> =
                    tickets.iter().map(|ticket| ticket.lsns_if_durable().start).collect();
                for (ticket, expected) in tickets.into_iter().zip(&expected).rev() {
                    assert_eq!(ticket.wait().expect("nothing fails"), *expected);
                    assert!(log.durable_lsn() > *expected);
                }
                lsns.extend(expected);
            }
            2 => {
                let ticket = log.submit(&next(0)).expect("nothing fails");
                let lsn = block_on(ticket).expect("nothing fails");
                assert!(log.durable_lsn() > lsn);
                lsns.push(lsn);
            }
            _ => {
                let lsn = log.append(&next(0)).expect("nothing fails");
                assert!(log.durable_lsn() > lsn);
                lsns.push(lsn);
            }
        }
    }
    lsns
}

/// Everything that a tail sees until the log ends, awaited or waited for.
fn follow_tail(mut tail: Tail, awaited: bool) -> Vec<(u32, u64)> {
    let mut seen = Vec::new();
    loop {
        let record = if awaited {
            block_on(poll_fn(|context| tail.poll_next(context))).transpose()
        } else {
            let waiting = Instant::now();
            let record = tail.next_timeout(SILENCE);
            assert!(waiting.elapsed() < SILENCE, "nobody woke the tail");
            record
        };
        let Some(record) = record.expect("nothing is damaged") else { return seen };
        assert_eq!(record.lsn.get(), seen.len() as u64 + 1, "no gap, no duplicate");
        seen.push(origin(record.bytes()));
    }
}

/// Everything that a reader beside the writer sees, until it has seen all of what the log ended with.
fn follow_reader(directory: &Path, ended: &AtomicBool) -> Vec<(u32, u64)> {
    let mut reader = LogReader::open(directory).expect("there is a log");
    let mut records = reader.iter(..).expect("the range is the log's own");
    let mut seen = Vec::new();
    let mut end = Lsn::NONE;
    loop {
        let is_last = ended.load(Ordering::SeqCst);
        reader.follow(&mut records).expect("there is a log");
        assert!(reader.range().end >= end, "what was durable stays so");
        end = reader.range().end;
        for record in records.by_ref() {
            let record = record.expect("nothing is damaged");
            assert_eq!(record.lsn.get(), seen.len() as u64 + 1, "no gap, no duplicate");
            seen.push(origin(record.bytes()));
        }
        assert_eq!(records.next_lsn(), end);
        if is_last {
            return seen;
        }
    }
}

fn everybody_at_once(backend: BackendChoice, name: &str) {
    let scratch = Scratch::new(name);
    let (log, _) = Log::open(&scratch.0, config(backend)).expect("an empty directory opens");
    if backend == BackendChoice::Blocking {
        assert_eq!(log.stats().backend, "blocking");
    }
    let first = log.append(&record(WRITERS, 0)).expect("nothing fails");
    let ended = Arc::new(AtomicBool::new(false));
    let tails: Vec<_> = [false, true]
        .map(|awaited| {
            let tail = log.tail(Lsn::FIRST).expect("the start is in the log");
            std::thread::spawn(move || follow_tail(tail, awaited))
        })
        .into();
    let reader = {
        let (directory, ended) = (scratch.0.clone(), Arc::clone(&ended));
        std::thread::spawn(move || follow_reader(&directory, &ended))
    };
    let deadline = Instant::now() + LOAD;
    let mut written: Vec<Vec<Lsn>> = std::thread::scope(|scope| {
        let log = &log;
        let spawn = |writer| scope.spawn(move || write(log, writer, deadline));
        let writers: Vec<_> = (0..WRITERS).map(spawn).collect();
        writers.into_iter().map(|writer| writer.join().expect("no writer fails")).collect()
    });
    written.push(vec![first]);
    let expected = by_lsn(&written);
    assert_eq!(log.durable_lsn().get(), expected.len() as u64 + 1);
    assert!(log.stats().segments > 2, "the load rolls segments");
    log.close().expect("nothing fails");
    ended.store(true, Ordering::SeqCst);
    assert!(reader.join().expect("the reader does not fail") == expected);
    for tail in tails {
        assert!(tail.join().expect("the tail does not fail") == expected);
    }
    let (log, report) = Log::open(&scratch.0, config(backend)).expect("nothing is damaged");
    assert_eq!(report.verdict, Verdict::Clean);
    let records = log.iter(..).expect("the range is the log's own");
    let records: Vec<_> = records.map(|r| origin(r.expect("nothing is damaged").bytes())).collect();
    assert!(records == expected);
    println!("{} records, {} batches", expected.len(), report.batches_scanned);
}

/// What the log must hold: each LSN was given once, without gaps, and each writer's in its order.
fn by_lsn(written: &[Vec<Lsn>]) -> Vec<(u32, u64)> {
    let mut all = BTreeMap::new();
    for (writer, lsns) in (0..).zip(written) {
        assert!(lsns.is_sorted(), "writer {writer}");
        for (sequence, lsn) in (0..).zip(lsns) {
            let before = all.insert(*lsn, (writer, sequence));
            assert_eq!(before, None, "{lsn} was given twice");
        }
    }
    let dense = all.keys().zip(1..).all(|(lsn, expected)| lsn.get() == expected);
    assert!(dense, "an LSN was left out");
    all.into_values().collect()
}

#[test]
fn everybody_at_once_with_the_blocking_driver() {
    everybody_at_once(BackendChoice::Blocking, "blocking");
}

#[test]
fn everybody_at_once_with_the_best_driver() {
    everybody_at_once(BackendChoice::Auto, "auto");
}

/// A reader that came before the first record goes on with it.
#[test]
fn a_reader_follows_a_log_from_nothing() {
    let scratch = Scratch::new("nothing");
    let (log, _) = Log::open(&scratch.0, config(BackendChoice::Blocking)).expect("it is empty");
    let mut reader = LogReader::open(&scratch.0).expect("there is a log");
    assert_eq!(reader.range(), Lsn::FIRST..Lsn::FIRST);
    let mut records = reader.iter(..).expect("the range is the log's own");
    log.append(&record(0, 0)).expect("nothing fails");
    log.close().expect("nothing fails");
    assert!(reader.follow(&mut records).expect("there is a log"));
    let record = records.next().expect("there is one").expect("nothing is damaged");
    assert_eq!((record.lsn, origin(record.bytes())), (Lsn::FIRST, (0, 0)));
}

/// Whoever only looks at a log that is being written must not take a write on its way for damage.
#[test]
fn a_look_beside_the_writer_gives_no_false_alarm() {
    let scratch = Scratch::new("look");
    let (log, _) = Log::open(&scratch.0, config(BackendChoice::Auto)).expect("it is empty");
    let deadline = Instant::now() + LOAD;
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let log = &log;
            scope.spawn(move || write(log, writer, deadline));
        }
        scope.spawn(|| {
            while Instant::now() < deadline {
                let reader = LogReader::open(&scratch.0).expect("there is a log");
                check_unalarmed(reader.verdict());
            }
        });
        scope.spawn(|| {
            while Instant::now() < deadline {
                let report = verify(&scratch.0, &mut |_, _| {}).expect("there is a log");
                assert!(report.writer_lives);
                check_unalarmed(&report.verdict);
                assert!(report.is_whole(), "{report:?}");
            }
        });
    });
}

pub(crate) fn check_unalarmed(verdict: &Verdict) {
    assert!(matches!(verdict, Verdict::Clean | Verdict::TornTail { .. }), "{verdict:?}");
}
