//! Many threads on one log, on a real disk, with each driver:
//!  P1 every acknowledged record comes back once, in the order of its thread;
//!  P2 tails and readers see every record once, in LSN order, while it is being written;
//!  P8 a slow reader does not keep the log from recycling, and gets its records or a typed error;
//!  and what happens at the edges: the lock, the limits, tickets that outlive the log.
//!
//! Where the kernel gives no io_uring, `BackendChoice::Auto` is the blocking driver once more.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use cairnlog_engine::disk::BackendChoice;
use cairnlog_engine::{
    AppendError, Config, Log, LogReader, Lsn, OpenError, RECORD_BYTES_MAX, ReadError, Tail, Ticket,
    Verdict, verify,
};

const WRITERS: u32 = 16;
const LOAD: Duration = Duration::from_millis(1000);
/// Nobody has to wait for so long.
const SILENCE: Duration = Duration::from_secs(20);

/// A directory of its own, removed in the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let name = format!("concurrency-{name}-{}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = std::fs::remove_dir_all(&path);
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn config(backend: BackendChoice) -> Config {
    let mut config = Config::with_segment_bytes(1 << 20);
    config.backend = backend;
    config.batch_bytes_max = 128 << 10;
    // Small, so that readers at the tail leave the memory.
    config.hot_bytes_max = 512 << 10;
    config
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// The smallest runtime there is. A task that nobody wakes for [`SILENCE`] is a lost one.
fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        let parked = Instant::now();
        std::thread::park_timeout(SILENCE);
        assert!(parked.elapsed() < SILENCE, "nobody woke the task");
    }
}

/// The record that a writer appends as its `sequence`th one.
fn record(writer: u32, sequence: u64) -> Vec<u8> {
    let mut record = writer.to_le_bytes().to_vec();
    record.extend_from_slice(&sequence.to_le_bytes());
    let mixed = (sequence + u64::from(writer)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let bytes = usize::try_from(mixed >> 53).expect("11 bits");
    record.resize(12 + bytes, mixed.to_le_bytes()[3]);
    record
}

/// Who appended a record, and as which of its own.
fn origin(bytes: &[u8]) -> (u32, u64) {
    let (writer, rest) = bytes.split_first_chunk().expect("a record has a writer");
    let sequence = rest.first_chunk().expect("a record has a sequence");
    let (writer, sequence) = (u32::from_le_bytes(*writer), u64::from_le_bytes(*sequence));
    assert!(bytes == record(writer, sequence), "writer {writer}, record {sequence}");
    (writer, sequence)
}

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

/// The same while segments are dropped and used again: what is gone may be missed, but not mourned.
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

fn check_unalarmed(verdict: &Verdict) {
    assert!(matches!(verdict, Verdict::Clean | Verdict::TornTail { .. }), "{verdict:?}");
}

#[test]
fn one_writer_at_a_time() {
    let scratch = Scratch::new("lock");
    let open = || Log::open(&scratch.0, config(BackendChoice::Blocking));
    let (log, _) = open().expect("an empty directory opens");
    log.append(b"one").expect("nothing fails");
    let error = open().expect_err("it is locked");
    assert!(matches!(error, OpenError::Locked(_)), "{error:?}");
    log.append(b"two").expect("the one that holds it goes on");
    let reader = LogReader::open(&scratch.0).expect("reading needs no lock");
    assert!(reader.writer_lives());
    log.close().expect("nothing fails");
    let (log, report) = open().expect("the lock is free");
    assert_eq!(report.end_lsn, Lsn::new(3));
    drop(log);
    let reader = LogReader::open(&scratch.0).expect("there is a log");
    assert!(!reader.writer_lives());
}

#[test]
fn of_many_that_open_at_once_one_wins() {
    let scratch = Scratch::new("race");
    for round in 1..=3 {
        let opened: Vec<_> = std::thread::scope(|scope| {
            let open = || Log::open(&scratch.0, config(BackendChoice::Blocking));
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        let mut winners = 0;
        for opened in opened {
            match opened {
                Ok((log, report)) => {
                    assert_eq!(report.start_counter, round);
                    log.append(b"won").expect("nothing fails");
                    winners += 1;
                }
                Err(error) => assert!(matches!(error, OpenError::Locked(_)), "{error:?}"),
            }
        }
        assert_eq!(winners, 1);
    }
    let (log, report) =
        Log::open(&scratch.0, config(BackendChoice::Blocking)).expect("the lock is free");
    assert_eq!((report.end_lsn, log.durable_lsn()), (Lsn::new(4), Lsn::new(4)));
}

/// A log that is dropped writes what is on its way, and its tickets say so.
#[test]
fn dropping_the_log_resolves_its_tickets() {
    for (backend, name) in [(BackendChoice::Blocking, "drop-b"), (BackendChoice::Auto, "drop-a")] {
        let scratch = Scratch::new(name);
        for round in 0..10_u64 {
            let (log, report) = Log::open(&scratch.0, config(backend)).expect("it opens");
            assert_eq!(report.end_lsn.get(), round * 201 + 1);
            let submit = |n| log.submit(&record(1, n)).expect("nothing fails");
            let tickets: Vec<Ticket> = (0..200).map(submit).collect();
            let buffered = log.append_buffered(&record(1, 200)).expect("nothing fails");
            let mut tail = log.tail(log.durable_lsn()).expect("the durable end is a start");
            let waiters: Vec<_> = (0..)
                .zip(tickets)
                .map(|(n, ticket)| {
                    std::thread::spawn(move || match n % 2 {
                        0 => ticket.wait(),
                        _ => block_on(ticket),
                    })
                })
                .collect();
            drop(log);
            for (n, waiter) in (1..).zip(waiters) {
                let lsn = waiter.join().expect("no panic").expect("nothing fails");
                assert_eq!(lsn.get(), round * 201 + n);
            }
            assert_eq!(buffered.lsn_if_durable().get(), round * 201 + 201);
            while tail.next_record().expect("nothing is damaged").is_some() {}
            assert_eq!(tail.next_lsn(), buffered.lsn_if_durable().next());
        }
    }
}

fn large_config() -> Config {
    let mut config = Config::with_segment_bytes(40 << 20);
    config.spare_segments_max = 0;
    config
}

/// I2. I1.
#[test]
fn records_from_nothing_to_the_limit() {
    let scratch = Scratch::new("sizes");
    let (log, _) = Log::open(&scratch.0, large_config()).expect("an empty directory opens");
    let mut largest = vec![0xa5; RECORD_BYTES_MAX];
    largest[0] = 1;
    largest[RECORD_BYTES_MAX - 1] = 2;
    log.append(b"").expect("an empty record is a record");
    log.append(&largest).expect("within the limit");
    log.submit(&largest).expect("within the limit").wait().expect("nothing fails");
    log.append_buffered(b"").expect("an empty record is a record");
    let end = log.sync().expect("nothing fails");
    let image = settled(&scratch.0);
    let before = log.stats();

    let too_large = vec![0; RECORD_BYTES_MAX + 1];
    let errors = [
        log.append(&too_large).map(drop),
        log.submit(&too_large).map(drop),
        log.append_buffered(&too_large).map(drop),
        log.append_batch(&[&too_large[..0], &too_large]).map(drop),
    ];
    for error in errors {
        let named = matches!(error, Err(AppendError::RecordTooLarge { bytes, bytes_max })
            if bytes == RECORD_BYTES_MAX + 1 && bytes_max == RECORD_BYTES_MAX);
        assert!(named, "{error:?}");
    }
    // A batch has room for the largest record with its prefix of four bytes, and no more.
    let (half, limit) = (RECORD_BYTES_MAX / 2, RECORD_BYTES_MAX + 4);
    let error = log.append_batch(&[&too_large[..half], &too_large[..half]]).map(drop);
    let named = matches!(error, Err(AppendError::BatchTooLarge { bytes, bytes_max })
        if bytes == limit + 4 && bytes_max == limit);
    assert!(named, "{error:?}");
    let error = log.append_batch::<&[u8]>(&[]).map(drop);
    assert!(matches!(error, Err(AppendError::Empty)), "{error:?}");
    assert_eq!(log.stats(), before, "nothing was written");
    assert!(directory(&scratch.0) == image, "nothing was written");

    let range = log.append_batch(&[&largest[..half], &largest[half + 4..]]);
    assert_eq!(range.expect("within the limit"), end..end.plus(2));
    log.close().expect("nothing fails");
    let (log, report) = Log::open(&scratch.0, large_config()).expect("nothing is damaged");
    assert_eq!((report.verdict, report.end_lsn), (Verdict::Clean, end.plus(2)));
    let expected = [b"", &largest[..], &largest, b"", &largest[..half], &largest[half + 4..]];
    let reader = LogReader::open(&scratch.0).expect("there is a log");
    let read = log.iter(..).expect("its own range").chain(reader.iter(..).expect("its own range"));
    let mut count = 0;
    for (record, expected) in read.zip(expected.iter().cycle()) {
        assert!(record.expect("nothing is damaged").bytes() == *expected);
        count += 1;
    }
    assert_eq!(count, 2 * expected.len());
}

/// Names and lengths of the files, and when they were last written to.
fn directory(path: &Path) -> BTreeMap<PathBuf, (u64, std::time::SystemTime)> {
    let entries = std::fs::read_dir(path).expect("it is a directory");
    let file = |entry: std::io::Result<std::fs::DirEntry>| {
        let entry = entry.expect("it can be read");
        // Without metadata it is gone since it was listed.
        let metadata = entry.metadata().ok()?;
        Some((entry.path(), (metadata.len(), metadata.modified().expect("the system has times"))))
    };
    entries.filter_map(file).filter(|(path, _)| !path.ends_with("watermark")).collect()
}

/// The same, once the background work has come to rest.
fn settled(path: &Path) -> BTreeMap<PathBuf, (u64, std::time::SystemTime)> {
    let mut before = directory(path);
    loop {
        std::thread::sleep(Duration::from_millis(100));
        let now = directory(path);
        if now == before {
            return now;
        }
        before = now;
    }
}

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
    // The segments kept, the active one, the prepared one, and the spares.
    let bound = (1 << 20) + (2 + config.spare_segments_max as u64) * config.segment_bytes;
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

/// Buffered records that find no segment are given up. Nobody waits for them, so the next call has to
/// say it: a sync that answers `Ok` answers for everything that was accepted before it.
#[test]
fn buffered_records_are_not_given_up_in_silence() {
    let scratch = Scratch::new("buffered");
    let mut config = config(BackendChoice::Blocking);
    config.segment_bytes = 1 << 20;
    let (log, _) = Log::open(&scratch.0, config).expect("an empty directory opens");
    log.append(&record(0, 0)).expect("nothing fails");
    // In the way of the temporary file of each segment to come; the second one may be there already.
    let in_the_way = |segment: u64| scratch.0.join(format!("{segment:020}.seg.tmp"));
    for segment in 3..20 {
        std::fs::create_dir(in_the_way(segment)).expect("a new name");
    }
    let mut accepted = Vec::new();
    let mut errors = 0;
    for sequence in 1..3000 {
        let bytes = record(0, sequence);
        match log.append_buffered(&bytes) {
            Ok(buffered) => accepted.push((buffered.lsn_if_durable(), sequence)),
            Err(error) => {
                assert!(matches!(error, AppendError::NoSegment(_)), "{error:?}");
                errors += 1;
                // What was accepted before may be gone with it.
                accepted.clear();
            }
        }
        std::thread::sleep(Duration::from_micros(20));
    }
    for segment in 3..20 {
        std::fs::remove_dir(in_the_way(segment)).expect("it is there");
    }
    println!("{} accepted since the last of {errors} errors", accepted.len());
    if log.sync().is_ok() {
        for (lsn, sequence) in accepted {
            let record = log.read(lsn).expect("sync said that it is durable");
            assert_eq!(origin(record.bytes()), (0, sequence), "LSN {lsn} was given twice");
        }
    }
}
