//! Segments that are dropped and used again while somebody reads them.

use std::time::{Duration, Instant};

use cairnlog_engine::disk::BackendChoice;
use cairnlog_engine::{Config, Log, LogReader, Lsn, OpenError, ReadError, verify};

use crate::everybody::check_unalarmed;
use crate::{LOAD, Scratch, config, origin, record, settled};

/// What a reader that falls behind retention is told.
fn check_overtaken(error: &ReadError) {
    let typed = matches!(error, ReadError::OutOfRange { .. } | ReadError::Missing { .. });
    assert!(typed, "not damage, only dropped: {error:?}");
}

/// Reads on slowly from the start of what there is, until it is overtaken or the time is over.
fn read_slowly(records: cairnlog_engine::Records, deadline: Instant) -> bool {
    let mut held = Vec::new();
    let mut next = records.next_lsn();
    for record in records {
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                check_overtaken(&error);
                break;
            }
        };
        assert_eq!(record.lsn, next);
        assert_eq!(origin(record.bytes()), (0, next.get()));
        next = next.next();
        if next.get().is_multiple_of(10) {
            std::thread::sleep(Duration::from_millis(2));
        }
        // Records that are held on to must not change either, whatever becomes of their segment.
        held.push(record);
        if Instant::now() > deadline {
            break;
        }
    }
    for record in &held {
        assert_eq!(origin(record.bytes()), (0, record.lsn.get()));
    }
    !held.is_empty()
}

fn retaining() -> Config {
    let mut config = config(BackendChoice::Auto);
    config.segment_bytes = 256 << 10;
    config.record_bytes_max = 64 << 10;
    config.retain_bytes = Some(1 << 20);
    config.hot_bytes_max = 64 << 10;
    config
}

/// Appends records that tell their LSN.
fn append_by_lsn(log: &Log, deadline: Instant) {
    while Instant::now() < deadline {
        let next = log.end_lsn();
        let batch: Vec<Vec<u8>> = (0..8).map(|n| record(0, next.plus(n).get())).collect();
        assert_eq!(log.append_batch(&batch).expect("nothing fails").start, next);
    }
}

#[test]
fn retention_recycles_under_readers() {
    let scratch = Scratch::new("retention");
    let mut config = retaining();
    let (log, _) = Log::open(&scratch.0, config.clone()).expect("an empty directory opens");
    let deadline = Instant::now() + LOAD;
    std::thread::scope(|scope| {
        scope.spawn(|| append_by_lsn(&log, deadline));
        for _ in 0..2 {
            scope.spawn(|| {
                while Instant::now() < deadline {
                    let Ok(records) = log.iter(..) else { continue };
                    read_slowly(records, deadline);
                }
            });
            scope.spawn(|| {
                while Instant::now() < deadline {
                    let reader = LogReader::open(&scratch.0).expect("there is a log");
                    let records = reader.iter(..).expect("its own range");
                    read_slowly(records, deadline);
                }
            });
        }
    });
    assert!(log.first_lsn() > Lsn::FIRST);
    append_by_lsn(&log, Instant::now() + LOAD / 4);
    let stats = log.stats();
    assert!(stats.segments_recycled > 0, "without readers, files are used again: {stats:?}");
    let kept: u64 = settled(&scratch.0).values().map(|(bytes, _)| bytes).sum();
    log.close().expect("nothing fails");
    // The segments kept, the active one, the prepared one, the spares, and the reserve for a fork.
    let bound = (1 << 20)
        + (2 + config.spare_segments_max as u64) * config.segment_bytes
        + config.fork_reserve_bytes;
    assert!(kept <= bound + (64 << 10), "{kept} bytes");
    config.retain_bytes = None;
    let (log, _) = Log::open(&scratch.0, config).expect("nothing is damaged");
    for record in log.iter(..).expect("the range is the log's own") {
        let record = record.expect("nothing is damaged");
        assert_eq!(origin(record.bytes()), (0, record.lsn.get()));
    }
}

/// Who reads a segment that is to be dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holder {
    ThisLife,
    EarlierLife,
    BesideTheWriter,
}

/// A segment that somebody reads, in this process or another, is not written over: its file is dropped
/// instead, and stays as it is for those who have it open.
#[test]
fn a_segment_that_is_read_is_not_recycled() {
    for holder in [Holder::ThisLife, Holder::EarlierLife, Holder::BesideTheWriter] {
        let scratch = Scratch::new("held");
        let (log, _) = Log::open(&scratch.0, holding()).expect("an empty directory opens");
        append_segments(&log, 3);
        settled(&scratch.0);
        let records = match holder {
            Holder::ThisLife | Holder::EarlierLife => log.iter(..),
            Holder::BesideTheWriter => {
                LogReader::open(&scratch.0).expect("there is a log").iter(..)
            }
        };
        let records = records.expect("the range is the log's own");
        read_on_while_it_is_dropped(&scratch, log, records, holder);
    }
}

/// The same when the reader came while the segment was being written.
#[test]
fn a_segment_that_was_read_while_it_was_written_is_not_recycled() {
    for holder in [Holder::ThisLife, Holder::EarlierLife] {
        let scratch = Scratch::new("unsealed");
        let (log, _) = Log::open(&scratch.0, holding()).expect("an empty directory opens");
        append_segments(&log, 1);
        let records = log.iter(..).expect("the range is the log's own");
        read_on_while_it_is_dropped(&scratch, log, records, holder);
    }
}

fn holding() -> Config {
    // More than a reader takes at once.
    let mut config = Config::with_segment_bytes(3 << 20);
    config.backend = BackendChoice::Blocking;
    config.hot_bytes_max = 0;
    config
}

/// The reader is in the first segment when that is dropped.
fn read_on_while_it_is_dropped(
    scratch: &Scratch,
    mut log: Log,
    mut records: cairnlog_engine::Records,
    holder: Holder,
) {
    let first = records.next().expect("there is one").expect("nothing is damaged");
    assert_eq!(origin(first.bytes()), (0, 1));
    append_segments(&log, 1);
    // The segment is sealed by now, whatever it was when the reader came.
    settled(&scratch.0);
    if holder == Holder::EarlierLife {
        log.close().expect("nothing fails");
        (log, _) = Log::open(&scratch.0, holding()).expect("readers keep nobody from writing");
    }
    log.trim(log.durable_lsn()).expect("it is durable");
    assert!(log.first_lsn() > Lsn::FIRST);
    append_segments(&log, 4);
    let mut next = Lsn::new(2);
    for record in records {
        match record {
            Ok(record) => {
                assert_eq!(record.lsn, next);
                assert_eq!(origin(record.bytes()), (0, next.get()));
                next = next.next();
            }
            Err(error) => check_overtaken(&error),
        }
    }
    assert_eq!(origin(first.bytes()), (0, 1));
    println!("{holder:?}: {next} records");
}

fn append_segments(log: &Log, segments: u64) {
    let goal = log.stats().segments + segments;
    while log.stats().segments < goal {
        append_by_lsn_once(log);
    }
}

fn append_by_lsn_once(log: &Log) {
    let next = log.end_lsn();
    let batch: Vec<Vec<u8>> = (0..100).map(|n| record(0, next.plus(n).get())).collect();
    log.append_batch(&batch).expect("nothing fails");
}

/// Nor while segments are dropped and used again: what is gone may be missed, but not mourned.
#[test]
fn a_look_beside_retention_gives_no_false_alarm() {
    let scratch = Scratch::new("dropped");
    let config = retaining();
    let (log, _) = Log::open(&scratch.0, config).expect("an empty directory opens");
    let deadline = Instant::now() + LOAD;
    let looks = std::thread::scope(|scope| {
        scope.spawn(|| append_by_lsn(&log, deadline));
        let look = || {
            let mut whole = 0;
            while Instant::now() < deadline {
                match verify(&scratch.0, &mut |_, _| {}) {
                    Ok(report) => {
                        check_unalarmed(&report.verdict);
                        assert!(report.is_whole(), "{report:?}");
                        whole += 1;
                    }
                    Err(error) => assert!(matches!(error, OpenError::Io(_)), "{error:?}"),
                }
            }
            whole
        };
        scope.spawn(look).join().expect("no false alarm")
    });
    assert!(looks > 0, "no look came to its end");
}
