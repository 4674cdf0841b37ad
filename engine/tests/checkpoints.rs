//! Checkpoints of both kinds, end to end, on the simulated disk:
//!  C9 a power cut at any operation leaves the old or the new one, and every acknowledged record
//!     applied once;
//!  D8 a damaged newest one falls back to the one before it and replays more;
//!  and an open behind the engine's own looks at no file that it lists.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::sync::Arc;

use cairnlog_engine::disk::Disk;
use cairnlog_engine::disk::sim::{OperationKind, SimDisk};
use cairnlog_engine::format::checkpoint::{Kind, file_name};
use cairnlog_engine::format::segment;
use cairnlog_engine::{
    ChangeError, CheckpointPolicy, Config, Corruption, Log, Lsn, OpenError, RecordRef,
    RecoveryReport, StateError, StateLog, StateMachine, StateReport, Verdict,
};

fn config() -> Config {
    let mut config = Config::with_segment_bytes(64 << 10);
    config.block_bytes = 512;
    config
}

fn open(disk: &SimDisk) -> Result<(Log, RecoveryReport), OpenError> {
    Log::open_on(Arc::new(disk.clone()), config())
}

/// Appends until there are so many segments.
fn fill(log: &Log, segments: u64) {
    while log.stats().segments < segments {
        log.append(&[7; 9000]).expect("nothing fails");
    }
}

fn save_text(text: &str) -> impl FnMut(&mut dyn Write) -> io::Result<()> {
    move |out| out.write_all(text.as_bytes())
}

fn newest_text(log: &Log) -> Option<(Lsn, String)> {
    let mut checkpoint = log.newest_checkpoint().expect("one is whole")?;
    let mut text = String::new();
    checkpoint.read_to_string(&mut text).expect("it was checked");
    Some((checkpoint.lsn(), text))
}

#[test]
fn trim_stops_at_the_oldest_checkpoint() {
    let disk = SimDisk::new(1);
    let (log, _) = open(&disk).expect("an empty disk opens");
    assert!(newest_text(&log).is_none());
    fill(&log, 3);
    let first = log.durable_lsn();
    log.checkpoint(first, save_text("first")).expect("nothing fails");
    fill(&log, 6);
    let second = log.durable_lsn();
    log.checkpoint(second, save_text("second")).expect("nothing fails");
    fill(&log, 9);
    let trimmed = log.trim(log.durable_lsn()).expect("it is durable");
    assert!(trimmed <= first && trimmed > Lsn::FIRST, "{trimmed}, {first}");
    assert_eq!(log.checkpoints(), [second, first]);
    let third = log.durable_lsn();
    log.checkpoint(third, save_text("third")).expect("nothing fails");
    assert_eq!(log.checkpoints(), [third, second], "two are kept");
    let trimmed = log.trim(log.durable_lsn()).expect("it is durable");
    assert!(trimmed <= second && trimmed > first, "{trimmed}, {second}");
    log.close().expect("nothing fails");
    let (log, _) = open(&disk).expect("it is whole");
    assert_eq!(newest_text(&log), Some((third, "third".to_owned())));
    assert!(log.trim(log.durable_lsn()).expect("it is durable") <= second);
}

#[test]
fn retention_stops_at_the_oldest_checkpoint() {
    let disk = SimDisk::new(1);
    let mut config = config();
    config.retain_bytes = Some(1);
    let (log, _) = Log::open_on(Arc::new(disk.clone()), config).expect("an empty disk opens");
    log.append(b"one").expect("nothing fails");
    log.checkpoint(log.durable_lsn(), save_text("state")).expect("nothing fails");
    for _ in 0..40 {
        log.append(&[7; 9000]).expect("nothing fails");
    }
    assert_eq!(log.first_lsn(), Lsn::FIRST, "the records after the checkpoint are needed");
}

#[test]
fn what_is_refused() {
    let disk = SimDisk::new(1);
    let (log, _) = open(&disk).expect("an empty disk opens");
    for _ in 0..4 {
        log.append(b"one").expect("nothing fails");
    }
    log.append_buffered(b"not durable").expect("nothing fails");
    let beyond = log.checkpoint(log.end_lsn(), save_text("")).expect_err("it may be lost");
    assert!(matches!(beyond, ChangeError::OutOfRange { .. }), "{beyond:?}");
    log.checkpoint(Lsn::new(4), save_text("four")).expect("it is durable");
    log.checkpoint(Lsn::new(4), save_text("again")).expect("it is there");
    let older = log.checkpoint(Lsn::new(3), save_text("three")).expect_err("it is older");
    assert!(matches!(older, ChangeError::Outdated { .. }), "{older:?}");
    let failing = |_: &mut dyn Write| Err(io::Error::other("the embedder's"));
    let failed = log.checkpoint(Lsn::new(5), failing).expect_err("it says so");
    assert!(matches!(failed, ChangeError::NotTaken(_)), "{failed:?}");
    disk.fail_nth(OperationKind::Sync, 1, io::ErrorKind::Other);
    let failed = log.checkpoint(Lsn::new(5), save_text("five")).expect_err("the disk does");
    assert!(matches!(failed, ChangeError::NotTaken(_)), "{failed:?}");
    assert_eq!(newest_text(&log), Some((Lsn::new(4), "four".to_owned())));
    assert!(disk.files().iter().all(|name| !name.contains("tmp")), "{:?}", disk.files());
    log.append(b"appends go on").expect("a checkpoint that fails harms nothing");
    disk.fail_nth(OperationKind::SyncDirectory, 1, io::ErrorKind::Other);
    let failed = log.checkpoint(Lsn::new(6), save_text("six")).expect_err("the names are in doubt");
    assert!(matches!(failed, ChangeError::Poisoned(_)), "{failed:?}");
}

/// Sealed segments that the engine's checkpoint lists are not opened.
#[test]
fn an_open_behind_the_table_looks_at_no_listed_segment() {
    let disk = SimDisk::new(1);
    let (log, _) = open(&disk).expect("an empty disk opens");
    fill(&log, 24);
    log.close().expect("nothing fails");
    let before = disk.operations();
    let (log, report) = open(&disk).expect("it is whole");
    let operations = disk.operations() - before;
    assert_eq!((report.segments_listed, report.segments), (23, 24), "{report:?}");
    let records: Result<Vec<_>, _> = log.iter(..).expect("in range").collect();
    assert_eq!(records.expect("all whole").len() as u64 + 1, log.durable_lsn().get());
    fill(&log, 100);
    log.close().expect("nothing fails");
    let before = disk.operations();
    let (_, report) = open(&disk).expect("it is whole");
    assert_eq!(report.segments_listed, 99);
    let now = disk.operations() - before;
    assert!(now <= operations + 2, "{now}, not {operations}, for four times the log");
}

/// A table that is damaged costs time and nothing else.
#[test]
fn a_damaged_table_is_done_without() {
    let disk = SimDisk::new(1);
    let (log, _) = open(&disk).expect("an empty disk opens");
    fill(&log, 24);
    let end = log.durable_lsn();
    log.close().expect("nothing fails");
    let tables: Vec<String> =
        disk.files().into_iter().filter(|name| name.ends_with(".segments")).collect();
    assert_eq!(tables.len(), 2, "one while it grew, one at the end");
    for damaged in 1..=2 {
        disk.flip_bit(&tables[tables.len() - damaged], 8 * 4200);
        let (log, report) = open(&disk).expect("it is whole");
        assert_eq!((report.end_lsn, report.segments), (end, 24));
        assert!(report.segments_listed < 23, "{report:?}");
        assert!(!report.notes.is_empty());
        std::mem::forget(log);
        disk.restart_losing_all();
    }
}

/// D13 and D15, though nobody opens the file.
#[test]
fn a_listed_segment_that_is_missing_or_truncated_is_noticed() {
    for listed in [1, 9, 22] {
        for bytes in [None, Some(0), Some(4096)] {
            let disk = SimDisk::new(1);
            let (log, _) = open(&disk).expect("an empty disk opens");
            fill(&log, 24);
            log.close().expect("nothing fails");
            match bytes {
                None => disk.remove_file(&segment::file_name(listed)),
                Some(bytes) => disk.truncate_file(&segment::file_name(listed), bytes),
            }
            match open(&disk) {
                Err(OpenError::Damaged { report, .. }) => match report.verdict {
                    Verdict::Damaged(Corruption { segment, .. }) => assert_eq!(segment, listed),
                    other => panic!("{other:?}"),
                },
                other => panic!("{other:?}"),
            }
        }
    }
}

/// The log below a checkpoint had been durable: its loss is not taken for an empty log.
#[test]
fn a_checkpoint_is_evidence() {
    let disk = SimDisk::new(1);
    let (log, _) = open(&disk).expect("an empty disk opens");
    for _ in 0..10 {
        log.append(b"record").expect("nothing fails");
    }
    log.checkpoint(log.durable_lsn(), save_text("ten")).expect("nothing fails");
    log.close().expect("nothing fails");
    disk.remove_file("watermark");
    disk.remove_file(&segment::file_name(1));
    disk.remove_file(&segment::file_name(2));
    match open(&disk) {
        Err(OpenError::Damaged { report, .. }) => {
            assert_eq!(report.evidence_lsn, Lsn::new(11), "{report:?}");
        }
        other => panic!("{other:?}"),
    }
}

/// Counts records by their first byte, and remembers which LSNs it saw.
#[derive(Default)]
struct Sums {
    sums: BTreeMap<u8, u64>,
    last: u64,
}

impl StateMachine for Sums {
    fn apply(&mut self, record: &RecordRef<'_>) -> io::Result<()> {
        let Some(first) = record.bytes().first() else {
            return Err(io::Error::other("an empty record"));
        };
        assert_eq!(record.lsn.get(), self.last + 1, "each once, in order");
        self.last = record.lsn.get();
        *self.sums.entry(*first).or_default() += record.lsn.get();
        Ok(())
    }

    fn save(&self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(&self.last.to_le_bytes())?;
        for (key, sum) in &self.sums {
            out.write_all(&[*key])?;
            out.write_all(&sum.to_le_bytes())?;
        }
        Ok(())
    }

    fn restore(&mut self, input: &mut dyn Read) -> io::Result<()> {
        let mut bytes = Vec::new();
        input.read_to_end(&mut bytes)?;
        let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
        let (last, rest) = bytes.split_at(8);
        self.last = number(last);
        self.sums = rest.chunks_exact(9).map(|entry| (entry[0], number(&entry[1..]))).collect();
        Ok(())
    }
}

/// What the sums are after so many records.
fn expected_sums(records: u64) -> BTreeMap<u8, u64> {
    let mut sums = BTreeMap::new();
    for lsn in 1..=records {
        *sums.entry(key_of(lsn)).or_default() += lsn;
    }
    sums
}

fn key_of(lsn: u64) -> u8 {
    u8::try_from(lsn * 31 % 7).expect("below 7")
}

fn policy() -> CheckpointPolicy {
    CheckpointPolicy { every_bytes: Some(20_000), ..CheckpointPolicy::default() }
}

fn open_state(disk: &SimDisk) -> Result<(StateLog<Sums>, StateReport), StateError> {
    StateLog::open_on(Arc::new(disk.clone()), config(), policy(), Sums::default())
}

/// Appends so many records; how many were acknowledged in all.
fn append_some(
    store: &StateLog<Sums>,
    count: u64,
    acknowledged: &mut u64,
) -> Result<(), StateError> {
    for _ in 0..count {
        let mut record = vec![0; 1500];
        record[0] = key_of(store.applied_lsn().get());
        *acknowledged = store.append(&record)?.get();
    }
    Ok(())
}

#[test]
fn a_checkpoint_is_at_an_exact_lsn() {
    let disk = SimDisk::new(1);
    let (store, report) = open_state(&disk).expect("an empty disk opens");
    assert_eq!((report.checkpoint_lsn, report.records_replayed), (None, 0));
    let mut acknowledged = 0;
    append_some(&store, 200, &mut acknowledged).expect("nothing fails");
    assert!(store.checkpoint_failure().is_none());
    assert!(store.log().first_lsn() > Lsn::FIRST, "what checkpoints cover is dropped");
    store.close().expect("nothing fails");
    let (store, report) = open_state(&disk).expect("it is whole");
    let checkpoint_lsn = report.checkpoint_lsn.expect("one was due");
    assert_eq!(report.records_replayed, 201 - checkpoint_lsn.get());
    assert!(report.records_replayed < 40, "{report:?}");
    store.read(|state| assert_eq!(state.sums, expected_sums(200)));
}

/// What it holds is what its LSN says, whoever appends meanwhile.
#[test]
fn a_checkpoint_while_others_append() {
    let disk = SimDisk::new(1);
    let (store, _) = open_state(&disk).expect("an empty disk opens");
    std::thread::scope(|scope| {
        let appends = scope.spawn(|| {
            for _ in 0..400 {
                append_some(&store, 1, &mut 0).expect("nothing fails");
            }
        });
        while !appends.is_finished() {
            store.checkpoint().expect("nothing fails");
            let newest = store.log().newest_checkpoint().expect("it is whole");
            let mut newest = newest.expect("one was taken");
            let mut last = [0; 8];
            newest.read_exact(&mut last).expect("it was checked");
            assert_eq!(u64::from_le_bytes(last) + 1, newest.lsn().get());
        }
    });
}

/// D8: for every byte range of the newest one.
#[test]
fn a_damaged_newest_checkpoint_replays_more() {
    let disk = SimDisk::new(1);
    let (store, _) = open_state(&disk).expect("an empty disk opens");
    append_some(&store, 200, &mut 0).expect("nothing fails");
    let [newest, older] = store.log().checkpoints()[..] else { panic!("two are kept") };
    store.close().expect("nothing fails");
    let name = file_name(Kind::State, newest);
    let whole = disk.read_file(&name);
    for at in (0..whole.len()).step_by(512) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        disk.write_file(&name, &damaged);
        let (store, report) = open_state(&disk).expect("the one before serves");
        assert_eq!(report.checkpoint_lsn, Some(older), "byte {at}");
        assert_eq!(report.passed_over.len(), 1, "{report:?}");
        store.read(|state| assert_eq!(state.sums, expected_sums(200)));
    }
    disk.flip_bit(&file_name(Kind::State, older), 8 * 5000);
    let error = open_state(&disk).expect_err("none is whole, and the log was trimmed");
    assert!(matches!(error, StateError::Read(_)), "{error:?}");
}

#[test]
fn a_record_that_does_not_apply_stops_the_state_and_says_so() {
    let disk = SimDisk::new(1);
    let (store, _) = open_state(&disk).expect("an empty disk opens");
    append_some(&store, 3, &mut 0).expect("nothing fails");
    let error = store.append(b"").expect_err("it does not apply");
    assert!(matches!(error, StateError::Apply { lsn, .. } if lsn == Lsn::new(4)), "{error:?}");
    assert!(matches!(store.append(b"x"), Err(StateError::Apply { .. })), "nor does what follows");
    assert_eq!(store.applied_lsn(), Lsn::new(4));
    drop(store);
    assert!(matches!(open_state(&disk), Err(StateError::Apply { .. })));
}

/// C9, at every operation of a workload with checkpoints, trims, rolls and reopens.
#[test]
fn a_power_cut_during_checkpoints() {
    let run = |disk: &SimDisk, acknowledged: &mut u64| -> Result<(), StateError> {
        for _ in 0..2 {
            let (store, _) = open_state(disk)?;
            append_some(&store, 60, acknowledged)?;
            store.close()?;
        }
        Ok(())
    };
    let disk = SimDisk::new(3);
    run(&disk, &mut 0).expect("nothing fails without a cut");
    let operations = disk.operations();
    let mut restored = 0;
    for cut in 1..=operations {
        for seed in 0..3 {
            let disk = SimDisk::new(3);
            disk.cut_at(cut);
            let mut acknowledged = 0;
            let _ = run(&disk, &mut acknowledged);
            disk.restart(cut * 31 + seed);
            let (store, report) = open_state(&disk).expect("a power cut leaves it whole");
            restored += u64::from(report.checkpoint_lsn.is_some());
            let records = store.applied_lsn().get() - 1;
            assert!(records >= acknowledged, "cut {cut}: {records} of {acknowledged}");
            store.read(|state| assert_eq!(state.sums, expected_sums(records), "cut {cut}"));
            let files = disk.files();
            assert!(files.iter().all(|name| !name.ends_with(".tmp")), "{files:?}");
        }
    }
    assert!(restored > operations / 2, "{restored} of {operations}");
}

/// Every open begins an epoch with its first append; the history of them is the same whether it comes from
/// memory, the engine's checkpoint, or the segments themselves, and goes with what is trimmed or truncated.
#[test]
fn epochs_are_known_after_an_open_however_they_are_learned() {
    let disk = SimDisk::new(3);
    let mut expected = Vec::new();
    for life in 0..12_u64 {
        let (log, report) = Log::open_on(Arc::new(disk.clone()), config()).expect("it opens");
        assert_eq!(log.epochs(), expected, "life {life}");
        if life % 4 == 1 {
            // An open that appends nothing leaves no epoch.
            continue;
        }
        let lsn = report.end_lsn;
        for _ in 0..=life {
            log.append(&[7; 9000]).expect("it takes records");
        }
        let newest = log.epochs().last().copied().expect("this life's");
        assert_eq!((newest.epoch, newest.lsn), (report.epoch, lsn));
        expected.push(newest);
        assert_eq!(log.epochs(), expected);
        match life % 3 {
            0 => log.close().expect("it closes"),
            1 => disk.restart_losing_all(),
            _ => {
                log.close().expect("it closes");
                // Without the tables, the segments say it.
                for name in disk.files() {
                    if name.ends_with(".segments") {
                        disk.remove(&name).expect("it is there");
                    }
                }
            }
        }
    }
    let (log, _) = Log::open_on(Arc::new(disk.clone()), config()).expect("it opens");
    let cut = expected[expected.len() - 2].lsn;
    log.truncate(cut).expect("nothing fails");
    expected.truncate(expected.len() - 2);
    assert_eq!(log.epochs(), expected);
    let first = log.trim(cut).expect("nothing fails");
    expected.retain(|started| started.lsn > first || Some(started) == log.epochs().first());
    assert_eq!(log.epochs(), expected);
    assert!(expected.len() < 8 && expected[0].lsn <= first);
    log.close().expect("it closes");
    let (log, _) = Log::open_on(Arc::new(disk), config()).expect("it opens");
    assert_eq!(log.epochs(), expected);
}
