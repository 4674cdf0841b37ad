//! What happens at the edges: the lock, the limits, tickets that outlive the log.

use std::time::Duration;

use cairnlog_engine::disk::BackendChoice;
use cairnlog_engine::{
    AppendError, Config, Log, LogReader, Lsn, OpenError, RECORD_BYTES_MAX, Ticket, Verdict,
};

use crate::{Scratch, block_on, config, directory, origin, record, settled};

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
