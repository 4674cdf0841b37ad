//! Truncation: giving up the end of a log, so that it is gone for good and kept in a fork.
//!
//! On the simulated disk: at every LSN, through a power cut at every operation, beside readers, on a full
//! disk. What a truncation must not do is in the last tests.

use std::sync::Arc;

use cairnlog_engine::disk::sim::SimDisk;
use cairnlog_engine::disk::{Access, Aligned, Disk};
use cairnlog_engine::format::batch::BatchHeader;
use cairnlog_engine::format::fork::{ForkHeader, HEADER_BYTES};
use cairnlog_engine::format::segment::file_name;
use cairnlog_engine::format::superblock::{COPY_BYTES, Superblock};
use cairnlog_engine::{
    AppendError, ChangeError, Config, Inspected, Log, LogReader, Lsn, ReadError, Verdict,
    inspect_on, verify_on,
};

mod common;

use common::{Model, Stopped, config};

/// Three segments, with batches of one record and of several, of two lives.
fn filled(model: &mut Model, disk: &SimDisk, config: &Config) -> Result<Log, Stopped> {
    let log = model.open(disk, config)?;
    model.append_some(&log)?;
    model.append_large(&log, 6)?;
    model.append_some(&log)?;
    model.close(log)?;
    let log = model.open(disk, config)?;
    model.append_some(&log)?;
    model.append_large(&log, 4)?;
    model.append_some(&log)?;
    model.sync(&log)?;
    Ok(log)
}

fn new_log(config: &Config) -> (SimDisk, Model, Log) {
    let (disk, mut model) = (SimDisk::new(1), Model::default());
    let log = filled(&mut model, &disk, config).expect("nothing fails");
    (disk, model, log)
}

/// The header of a fork, and the LSNs of the records in its batches.
fn read_fork(disk: &SimDisk, name: &str) -> (ForkHeader, Vec<u64>) {
    let file = disk.open(name, Access::Read).expect("it is there");
    let bytes = usize::try_from(file.len().expect("a file")).expect("a small file");
    let mut bytes = Aligned::zeroed(bytes.next_multiple_of(4096));
    file.read_direct_at(&mut bytes, 0).expect("it can be read");
    let header = ForkHeader::decode(&bytes[..HEADER_BYTES]).expect("a header");
    let mut lsns = Vec::new();
    let mut at = HEADER_BYTES;
    let end = HEADER_BYTES + usize::try_from(header.content_bytes).expect("a small file");
    while at < end {
        let batch = BatchHeader::decode(&bytes[at..]).expect("a batch");
        let next = at + batch.length as usize;
        assert!(batch.body_is_whole(&bytes[at..next]));
        lsns.extend(batch.base_lsn.get()..batch.end_lsn().get());
        at = next;
    }
    (header, lsns)
}

#[test]
fn at_every_lsn_the_rest_is_kept_and_the_end_is_in_the_fork() {
    let config = config();
    let end = new_log(&config).2.end_lsn().get();
    let mut in_the_middle = 0;
    for lsn in 1..=end {
        let (disk, mut model, log) = new_log(&config);
        let lsn = Lsn::new(lsn);
        let fork = model.truncate(&log, lsn).expect("nothing fails");
        model.check_records(&log);
        assert_eq!(fork.is_some(), lsn.get() < end);
        if let Some(fork) = fork {
            let (header, lsns) = read_fork(&disk, &fork);
            assert_eq!((header.lsn, header.end_lsn), (lsn, Lsn::new(end)));
            let first = *lsns.first().expect("a batch");
            assert!(lsns.iter().copied().eq(first..end), "every record given up, and in order");
            assert!(first <= lsn.get());
            in_the_middle += u32::from(first < lsn.get());
        }
        model.append_some(&log).expect("a truncated log takes records");
        model.check_records(&log);
        let verified = verify_on(&disk, &mut |_, _| {}).expect("a log");
        assert!(verified.is_whole(), "{verified:?}");
        model.close(log).expect("it closes");
        model.check(&disk, &config);
    }
    assert!(in_the_middle > 5, "cuts in the middle of a batch were made: {in_the_middle}");
}

#[test]
fn a_truncation_follows_another() {
    let (disk, mut model, log) = new_log(&config());
    for round in 0..6 {
        let (end, back) = (log.end_lsn().get(), [9, 1, 3, 17, 2, 5][round]);
        model.truncate(&log, Lsn::new(end - back)).expect("nothing fails");
        model.append_some(&log).expect("it takes records");
        model.append_large(&log, 2).expect("it takes records");
        model.sync(&log).expect("nothing fails");
        model.check_records(&log);
    }
    assert_eq!(verify_on(&disk, &mut |_, _| {}).expect("a log").forks, 6);
    drop(log);
    model.check(&disk, &config());
}

/// The power goes at every operation of a truncation, at the end of a batch, in its middle, and over
/// segments; and once more during the recovery from that.
#[test]
fn a_power_cut_at_every_operation_of_a_truncation() {
    let config = config();
    let (disk, _, log) = new_log(&config);
    // Sealed segments have parity, which must not bring back what was given up.
    log.scrub().expect("nothing fails");
    let (start, end) = (disk.operations(), log.end_lsn().get());
    let (mut undone, mut done) = (0, 0);
    for lsn in [end - 1, end - 4, end / 2, 7, 1] {
        let mut operation = start + 1;
        loop {
            let mut was_felt = false;
            for outcome in 0..6_u64 {
                let (disk, mut model, log) = new_log(&config);
                log.scrub().expect("nothing fails");
                disk.cut_at(operation);
                let truncated = model.truncate(&log, Lsn::new(lsn));
                was_felt = truncated.is_err();
                drop(log);
                match outcome {
                    0 => disk.restart_losing_all(),
                    1 => disk.restart_keeping_all(),
                    _ => disk.restart(outcome * 7919 + operation),
                }
                if outcome % 2 == 1 {
                    // Recovery is cut as well.
                    disk.cut_at(disk.operations() + operation % 40);
                    drop(Log::open_on(Arc::new(disk.clone()), config.clone()));
                    disk.restart(outcome + operation);
                }
                let report = model.check(&disk, &config);
                assert!(report.end_lsn == Lsn::new(lsn) || report.end_lsn == Lsn::new(end));
                if report.end_lsn < Lsn::new(end) {
                    done += 1
                } else {
                    undone += 1
                }
                let verified = verify_on(&disk, &mut |_, _| {}).expect("a log");
                assert!(verified.is_whole(), "{verified:?}");
            }
            if !was_felt {
                break;
            }
            operation += 1;
        }
    }
    println!("{undone} truncations undone, {done} done");
    assert!(undone > 50 && done > 50);
}

#[test]
fn readers_hear_of_a_truncation() {
    let (disk, mut model, log) = new_log(&config());
    let end = log.end_lsn();
    let cut = Lsn::new(end.get() - 6);
    let mut behind = log.iter(..).expect("from the first");
    let mut in_front = log.iter(..).expect("from the first");
    let mut tail = log.tail(cut).expect("in the log");
    for _ in 1..end.get() {
        behind.next().expect("there are so many").expect("whole");
    }
    in_front.next().expect("there is one").expect("whole");
    let mut other = LogReader::open_on(Arc::new(disk.clone())).expect("a log");
    let mut followed = other.iter(..).expect("from the first");
    while followed.next().is_some_and(|record| record.is_ok()) {}
    assert!(followed.next_lsn() > cut);
    model.truncate(&log, cut).expect("nothing fails");
    model.append_large(&log, 9).expect("it takes records");

    let told = behind.next().expect("not the end").expect_err("what it read was given up");
    assert!(matches!(told, ReadError::Truncated { lsn, next } if lsn == cut && next == end));
    assert!(behind.next().is_none());
    // Those that stand in front of the cut go on, with the new records behind it.
    let (seen, expected) = (in_front.count(), log.end_lsn().get() - 2);
    assert_eq!(seen as u64, expected);
    let first = tail.next_record().expect("whole").expect("there is one");
    assert_eq!((first.lsn, first.bytes().len()), (cut, 12_008));
    // And so in another process.
    while !other.follow(&mut followed).expect("a log") {}
    let told = followed.next().expect("not the end").expect_err("what it read was given up");
    assert!(matches!(told, ReadError::Truncated { .. }), "{told:?}");
}

/// What was sealed, and protected by parity, before the cut must not come back through the parity.
#[test]
fn parity_of_what_was_given_up_is_gone() {
    for lsn in [5_u64, 12, 20] {
        let (disk, mut model, log) = new_log(&config());
        log.scrub().expect("nothing fails");
        model.truncate(&log, Lsn::new(lsn)).expect("nothing fails");
        model.append_large(&log, 12).expect("it takes records");
        log.scrub().expect("nothing fails");
        model.check_records(&log);
        model.close(log).expect("it closes");
        model.check(&disk, &config());
        assert!(verify_on(&disk, &mut |_, _| {}).expect("a log").is_whole());
    }
}

#[test]
fn a_producer_goes_on_where_the_cut_was_made() {
    let disk = SimDisk::new(1);
    let (log, _) = Log::open_on(Arc::new(disk.clone()), config()).expect("an empty disk");
    let batch = |first: u64, count: usize| {
        let records = vec![b"record".to_vec(); count];
        log.submit_batch_as(7, first, &records).expect("room").wait().expect("nothing fails")
    };
    assert_eq!(batch(0, 10), Lsn::new(1));
    assert_eq!(batch(10, 10), Lsn::new(11));
    log.truncate(Lsn::new(15)).expect("nothing fails");
    assert_eq!(log.next_sequence(7).expect("whole"), Some(14));
    log.truncate(Lsn::new(11)).expect("nothing fails");
    assert_eq!(log.next_sequence(7).expect("whole"), Some(10));
    log.truncate(Lsn::FIRST).expect("nothing fails");
    assert_eq!(log.next_sequence(7).expect("whole"), None);
}

/// D5. A truncation needs no room that is not there already.
#[test]
fn a_full_disk_is_truncated_from_the_reserve() {
    let mut config = config();
    config.fork_reserve_bytes = 64 << 10;
    let (disk, mut model, log) = new_log(&config);
    disk.set_free_bytes(Some(0));
    let fork = model.truncate(&log, Lsn::new(log.end_lsn().get() - 6)).expect("the reserve serves");
    assert!(fork.is_some());
    model.append(&log).expect("the segment has room");
    // The reserve is used up, and what does not fit now is refused before anything is changed.
    let before = log.end_lsn();
    let refused = log.truncate(Lsn::new(2)).expect_err("there is no room");
    assert!(matches!(refused, ChangeError::NotTruncated(_)), "{refused:?}");
    assert_eq!(log.end_lsn(), before);
    model.check_records(&log);
    disk.set_free_bytes(None);
    model.truncate(&log, Lsn::new(2)).expect("there is room again");
    model.append_some(&log).expect("it takes records");
    model.close(log).expect("it closes");
    model.check(&disk, &config);
}

#[test]
fn refusals_change_nothing() {
    let mut config = config();
    config.fork_bytes_max = 4096;
    let (_disk, mut model, log) = new_log(&config);
    let end = log.end_lsn();
    assert!(matches!(log.truncate(end.next()), Err(ChangeError::OutOfRange { .. })));
    assert!(matches!(log.truncate(Lsn::NONE), Err(ChangeError::Trimmed { .. })));
    assert!(matches!(log.truncate(Lsn::new(2)), Err(ChangeError::ForkTooLarge { .. })));
    assert_eq!(log.truncate(end).expect("nothing to do").fork, None);
    model.checkpoint(&log).expect("nothing fails");
    let first = log.trim(Lsn::new(end.get() / 2)).expect("nothing fails");
    assert!(first > Lsn::FIRST, "a segment was dropped");
    assert!(matches!(log.truncate(Lsn::new(first.get() - 1)), Err(ChangeError::Trimmed { .. })));
    let before = Lsn::new(end.get() - 1);
    assert!(matches!(log.truncate(before), Err(ChangeError::BeforeCheckpoints { .. })));
    assert_eq!(log.end_lsn(), end);
    log.append(b"it goes on").expect("nothing is paused");
}

/// A checkpoint behind the cut goes with what it holds; one in front of it stays.
#[test]
fn checkpoints_behind_the_cut_are_removed() {
    let (disk, mut model, log) = new_log(&config());
    let save = |lsn: u64| log.checkpoint(Lsn::new(lsn), |out| out.write_all(b"state"));
    save(4).and_then(|()| save(12)).expect("nothing fails");
    assert_eq!(log.checkpoints(), [Lsn::new(12), Lsn::new(4)]);
    model.truncate(&log, Lsn::new(11)).expect("nothing fails");
    assert_eq!(log.checkpoints(), [Lsn::new(4)]);
    model.append_some(&log).expect("it takes records");
    drop(log);
    let (log, report) = Log::open_on(Arc::new(disk), config()).expect("a log");
    assert_eq!(report.verdict, Verdict::Clean);
    assert_eq!(log.checkpoints(), [Lsn::new(4)]);
}

/// With threads and a real directory: appenders wait, and their records come behind the cut.
#[test]
fn appenders_wait_while_the_log_is_truncated() {
    let directory = std::env::temp_dir().join(format!("cairnlog-truncate-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&directory);
    let mut config = Config::with_segment_bytes(1 << 20);
    config.fork_reserve_bytes = 1 << 20;
    let (log, _) = Log::open(&directory, config.clone()).expect("a new log");
    for number in 0..100_u64 {
        log.append(&number.to_le_bytes()).expect("nothing fails");
    }
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    log.append(&[7; 3000]).expect("nothing fails");
                }
            });
        }
        let truncate = |number| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            let lsn = Lsn::new(number);
            (lsn, log.truncate(lsn))
        };
        let truncated: Vec<_> = (101..121).map(truncate).collect();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        for (lsn, truncated) in truncated {
            assert_eq!(truncated.expect("nothing fails").given_up.start, lsn);
        }
    });
    let mut count = 0;
    for record in log.iter(..).expect("from the first") {
        record.expect("whole");
        count += 1;
    }
    assert_eq!(count + 1, log.end_lsn().get());
    log.close().expect("it closes");
    let (log, report) = Log::open(&directory, config).expect("a log");
    assert_eq!((report.verdict, report.end_lsn.get()), (Verdict::Clean, count + 1));
    for number in 0..100_u64 {
        assert_eq!(log.read(Lsn::new(number + 1)).expect("kept").bytes(), number.to_le_bytes());
    }
    let closed = log.close();
    assert!(!matches!(closed, Err(AppendError::Poisoned(_))), "{closed:?}");
    std::fs::remove_dir_all(&directory).expect("it was made here");
}

/// The power goes while a cut in the middle of a batch is finished, and the fork that holds what was kept of
/// it is damaged meanwhile: the log does not open without it, and nothing is changed.
#[test]
fn without_the_fork_what_was_kept_is_not_given_up() {
    let config = config();
    let mut refusals = 0;
    for cut in 1..80 {
        let (disk, mut model, log) = new_log(&config);
        model.append_batch(&log).expect("nothing fails");
        let lsn = Lsn::new(log.end_lsn().get() - 1);
        disk.cut_at(disk.operations() + cut);
        let was_cut = model.truncate(&log, lsn).is_err();
        drop(log);
        disk.restart_losing_all();
        let forks: Vec<String> =
            disk.files().into_iter().filter(|name| name.ends_with(".fork")).collect();
        if !was_cut || forks.is_empty() {
            continue;
        }
        disk.flip_bit(&forks[0], 8 * 4200);
        let before: Vec<_> = disk.files().iter().map(|name| disk.read_file(name)).collect();
        let opened = Log::open_on(Arc::new(disk.clone()), config.clone());
        let Err(error) = opened else { continue };
        refusals += 1;
        assert!(error.to_string().contains(".fork"), "{error}");
        let after: Vec<_> = disk.files().iter().map(|name| disk.read_file(name)).collect();
        assert_eq!(before, after, "nothing was changed");
        disk.flip_bit(&forks[0], 8 * 4200);
        let report = model.check(&disk, &config);
        assert_eq!(report.end_lsn, lsn);
    }
    assert!(refusals > 2, "the state was reached: {refusals}");
}

/// What was kept of a batch is restored also by an open whose limits would not take such a batch.
#[test]
fn what_was_kept_is_restored_whatever_the_limits() {
    let mut restored = 0;
    for cut in 1..60 {
        let (disk, mut model, log) = new_log(&config());
        let batch = [13_000, 600, 90].map(|bytes| model.record_of(bytes));
        let lsns = log.append_batch(&batch).expect("nothing fails");
        let lsn = Lsn::new(lsns.end.get() - 1);
        disk.cut_at(disk.operations() + cut);
        let was_cut = model.truncate(&log, lsn).is_err();
        drop(log);
        disk.restart_losing_all();
        let mut smaller = config();
        (smaller.record_bytes_max, smaller.batch_bytes_max) = (100, 104);
        let (log, report) = Log::open_on(Arc::new(disk.clone()), smaller).expect("it opens");
        restored += u64::from(was_cut && report.end_lsn == lsn);
        assert!(report.end_lsn == lsn || report.end_lsn == lsns.end, "{report:?}");
        assert_eq!(log.read(lsns.start).expect("it was kept").bytes(), &*batch[0]);
    }
    assert!(restored > 2, "the state was reached: {restored}");
}

/// At whatever operation the power goes while a torn tail is cut off, nothing of it was zeroed before the
/// cut was recorded, and the cut is gone when the log is open.
#[test]
fn the_cut_of_a_torn_tail_is_recorded_before_anything_is_zeroed() {
    let config = config();
    let torn = |seed: u64| {
        let (disk, mut model, log) = new_log(&config);
        disk.cut_at(disk.operations() + 3);
        assert!(model.submit_four(&log).is_err());
        drop(log);
        disk.restart(seed);
        disk
    };
    let cut_of = |disk: &SimDisk| {
        let bytes = disk.read_file("superblock");
        Superblock::decode(&bytes[..COPY_BYTES]).expect("a whole copy").cut
    };
    let segments = |disk: &SimDisk| -> Vec<Vec<u8>> {
        let names = disk.files().into_iter().filter(|name| name.ends_with(".seg"));
        names.map(|name| disk.read_file(&name)).collect()
    };
    let (mut zeroed, mut tails) = (0, 0);
    for seed in 0..30 {
        let reader = LogReader::open_on(Arc::new(torn(seed))).expect("a log");
        if !matches!(reader.verdict(), Verdict::TornTail { .. }) {
            continue;
        }
        tails += 1;
        for operation in 1..30 {
            let disk = torn(seed);
            let before = segments(&disk);
            disk.cut_at(disk.operations() + operation);
            let opened = Log::open_on(Arc::new(disk.clone()), config.clone());
            let Err(_) = opened else {
                assert!(!cut_of(&disk).is_pending(), "it is finished");
                break;
            };
            disk.restart_keeping_all();
            if segments(&disk).iter().zip(&before).any(|(now, before)| now != before) {
                let bytes = disk.read_file("superblock");
                let copy = Superblock::decode(&bytes[..COPY_BYTES]).expect("a whole copy");
                assert!(copy.cut.is_pending() || copy.start_counter > 2, "{copy:?}");
                zeroed += 1;
            }
        }
    }
    assert!(tails > 2 && zeroed > 2, "{tails} torn tails, {zeroed} cut off in part");
}

/// A scrub that has found damage in a segment, and is about to put what parity makes of it in its place, does
/// not do so when the segment was truncated meanwhile.
#[test]
fn a_scrub_that_is_overtaken_mends_nothing() {
    let disk = SimDisk::new(1);
    let mut config = config();
    // It reads a segment, and then waits for a second.
    config.scrub_bytes_per_second = 64 << 10;
    let opened = Log::open_with_threads_on(Arc::new(disk.clone()), config.clone());
    let log = opened.expect("an empty disk").0;
    let fill = |bytes: usize, segments: u64, count: usize| {
        for _ in 0..count {
            if log.stats().segments < segments {
                log.append(&vec![7; bytes]).expect("nothing fails");
            }
        }
    };
    fill(12_000, 2, 4);
    fill(90, 2, 1000);
    let until = |reached: &dyn Fn() -> bool| {
        while !reached() {
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    };
    until(&|| log.stats().segments_protected == 1);
    // In the last unit, where the footer is, and with it the last record: no more than parity mends.
    disk.flip_bit(&file_name(1), 8 * (config.segment_bytes - 100));
    let cut = Lsn::new(log.end_lsn().get() - 2);
    let scrubbed = log.stats().scrubbed_bytes;
    std::thread::scope(|scope| {
        let scrub = scope.spawn(|| log.scrub());
        until(&|| log.stats().scrubbed_bytes > scrubbed);
        log.truncate(cut).expect("nothing fails");
        log.append(b"it goes on").expect("nothing fails");
        scrub.join().expect("nobody panics").expect("nothing fails");
    });
    log.close().expect("it closes");
    let (log, report) = Log::open_on(Arc::new(disk), config).expect("a log");
    assert_eq!((report.verdict, report.end_lsn), (Verdict::Clean, cut.next()));
    assert_eq!(log.read(cut).expect("it is there").bytes(), b"it goes on");
}

/// A cut that takes no more from a sealed segment than its parity could bring back: the last record and the
/// footer, in one unit.
#[test]
fn parity_brings_nothing_back_wherever_the_power_goes() {
    let config = config();
    let made = || {
        let (disk, mut model) = (SimDisk::new(1), Model::default());
        let log = model.open(&disk, &config).expect("an empty disk");
        model.append_large(&log, 4).expect("nothing fails");
        while log.stats().segments < 2 {
            let record = model.record_of(90);
            model.acknowledged = log.append(&record).expect("nothing fails").get();
        }
        log.scrub().expect("nothing fails");
        let last = Lsn::new(log.end_lsn().get() - 2);
        (disk, model, log, last)
    };
    for operation in 1.. {
        let (disk, mut model, log, lsn) = made();
        disk.cut_at(disk.operations() + operation);
        let was_cut = model.truncate(&log, lsn).is_err();
        drop(log);
        disk.restart_keeping_all();
        model.check(&disk, &config);
        assert!(verify_on(&disk, &mut |_, _| {}).expect("a log").is_whole());
        if !was_cut {
            break;
        }
    }
}

/// The segment of a cut is read without its parity from then on: what that makes up for is mended first, and
/// what it does not make up for refuses the cut.
#[test]
fn damage_around_the_cut_is_mended_first_or_refused() {
    let places = |disk: &SimDisk, lsn: u64| {
        let mut batches = Vec::new();
        let mut see = |seen| {
            if let Inspected::Batch { header, .. } = seen {
                batches.push(header);
            }
            std::ops::ControlFlow::Continue(())
        };
        inspect_on(disk, &mut see).expect("a log");
        let holds = |b: &&BatchHeader| (b.base_lsn.get()..b.end_lsn().get()).contains(&lsn);
        let around = batches.iter().find(holds).expect("it is in the log").clone();
        let (first, second) = (batches[0].offset, batches[1].offset);
        assert_eq!(around.segment, 1);
        [0, first, second, around.offset].map(|offset| offset + 150)
    };
    for parity in [true, false] {
        for place in 0..4 {
            let mut config = config();
            config.parity = parity;
            let (disk, mut model) = (SimDisk::new(1), Model::default());
            let log = model.open(&disk, &config).expect("an empty disk");
            for _ in 0..4 {
                model.append_batch(&log).expect("nothing fails");
            }
            let lsn = log.end_lsn().get() - 1;
            model.append_large(&log, 6).expect("nothing fails");
            log.scrub().expect("nothing fails");
            disk.flip_bit(&file_name(1), places(&disk, lsn)[place] * 8);
            if parity {
                model.truncate(&log, Lsn::new(lsn)).expect("it is mended");
                model.append_some(&log).expect("it takes records");
                drop(log);
                model.check(&disk, &config);
            } else {
                let end = log.end_lsn();
                let refused = log.truncate(Lsn::new(lsn)).expect_err("it is damaged");
                assert!(matches!(refused, ChangeError::Unreadable(_)), "{refused:?}");
                assert_eq!(log.end_lsn(), end);
                log.append(b"it goes on").expect("nothing was changed");
            }
        }
    }
}

/// In a log without threads one call at a time goes on, a truncation as well: neither it nor an append waits
/// for the other.
#[test]
fn two_threads_of_a_log_without_threads_do_not_wait_for_each_other() {
    for _ in 0..20 {
        let (_disk, mut model, log) = new_log(&config());
        model.append_batch(&log).expect("nothing fails");
        let lsn = Lsn::new(log.end_lsn().get() - 1);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..50 {
                    log.append(b"beside it").expect("nothing fails");
                }
            });
            scope.spawn(|| log.truncate(lsn).expect("nothing fails"));
        });
        assert!(log.end_lsn() >= lsn);
    }
}

/// A look of another process at what is then given up says so, and does not call it damage.
#[test]
fn a_look_from_before_a_truncation_is_no_damage() {
    let (disk, mut model, log) = new_log(&config());
    let reader = LogReader::open_on(Arc::new(disk.clone())).expect("a log");
    let mut records = reader.iter(..).expect("from the first");
    records.next().expect("there is one").expect("whole");
    model.truncate(&log, Lsn::new(3)).expect("nothing fails");
    model.append_large(&log, 3).expect("it takes records");
    let ended = records.find_map(Result::err).expect("what comes next was given up");
    assert!(matches!(ended, ReadError::Truncated { .. }), "{ended:?}");
    assert!(records.next().is_none());
}
