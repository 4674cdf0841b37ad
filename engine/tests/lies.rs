//! A disk that lies: writes that are acknowledged and lost, or land elsewhere, a cache older than the
//! medium, bytes of another history. One node cannot survive all of it, but it must notice:
//!  P4 what had been durable is there, or its absence is reported; it is never cut away silently;
//!  P9 bytes that somebody else wrote are never taken for records.
//!
//! And what is honest but hard: short writes and a disk that takes no more changes (P5).

use std::sync::Arc;

use cairnlog_engine::disk::sim::{PowerCut, SimDisk};
use cairnlog_engine::format::segment::file_name;
use cairnlog_engine::{AppendError, Log, Lsn, OpenError, ReadError, Verdict};

mod common;

use common::{Model, config};

const RECORDS: u64 = 30;

fn record(lsn: u64, history: u8) -> Vec<u8> {
    let bytes = [500, 3000, 60, 9000][usize::try_from(lsn % 4).expect("below 4")];
    let mut record = vec![history; bytes];
    record.extend_from_slice(&lsn.to_le_bytes());
    record
}

fn open(disk: &SimDisk) -> Result<Log, OpenError> {
    Log::open_on(Arc::new(disk.clone()), config()).map(|(log, _)| log)
}

/// Appends the records from the log's end to `end`, one by one; how many the log has then.
fn append_to(log: &Log, end: u64, history: u8) -> u64 {
    while log.end_lsn().get() <= end {
        if log.append(&record(log.end_lsn().get(), history)).is_err() {
            break;
        }
    }
    log.durable_lsn().get() - 1
}

/// A life that appends all records and ends as it should, as far as it knows.
fn live(disk: &SimDisk) -> u64 {
    let Ok(log) = open(disk) else { return 0 };
    let acknowledged = append_to(&log, RECORDS, 7);
    if log.close().is_ok() { acknowledged } else { 0 }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// Every acknowledged record.
    All,
    /// An error that says that something is wrong.
    Noticed,
}

/// What a later life finds; wrong bytes and silent losses end the test.
fn look(disk: &SimDisk, acknowledged: u64, what: &str) -> Found {
    let log = match open(disk) {
        Ok(log) => log,
        Err(OpenError::Damaged { .. } | OpenError::Superblock { .. }) => return Found::Noticed,
        Err(other) => panic!("{what}: {other:?}"),
    };
    assert!(log.end_lsn().get() > acknowledged, "{what}: {} are gone", acknowledged);
    for lsn in 1..=acknowledged {
        match log.read(Lsn::new(lsn)) {
            Ok(read) => assert_eq!(read.bytes(), record(lsn, 7), "{what}: LSN {lsn}"),
            Err(ReadError::Corrupt(_)) => return Found::Noticed,
            Err(other) => panic!("{what}: LSN {lsn}: {other:?}"),
        }
    }
    Found::All
}

/// Lets each write of a life lie in turn, and looks at what the next one finds.
fn every_write(what: &str, lie: impl Fn(&SimDisk, u64)) {
    let mut found = [0, 0];
    for nth in 1..400 {
        let disk = SimDisk::new(1);
        let log = open(&disk).expect("nothing lies yet");
        append_to(&log, 2, 7);
        log.close().expect("nothing lies yet");
        lie(&disk, nth);
        let before = disk.operations();
        let acknowledged = live(&disk);
        if nth > disk.operations() - before {
            break;
        }
        disk.restart_losing_all();
        match look(&disk, acknowledged, &format!("{what}, write {nth}")) {
            Found::All => found[0] += 1,
            Found::Noticed => found[1] += 1,
        }
    }
    println!("{what}: {} times nothing is missing, {} times it was noticed", found[0], found[1]);
    assert!(found[0] > 5 && found[1] > 5, "{what}: {found:?}");
}

/// D11.
#[test]
fn a_lost_write_is_noticed() {
    every_write("lost", |disk, nth| disk.lose_nth_write(nth));
}

/// D11: of the two copies of the superblock the newer one serves.
#[test]
fn a_lost_write_of_a_superblock_copy_costs_nothing() {
    for nth in 1..=2 {
        let disk = SimDisk::new(1);
        let log = open(&disk).expect("nothing lies yet");
        log.set_cell(b"old").expect("nothing fails");
        disk.lose_nth_write(nth);
        log.set_cell(b"new").expect("as far as it knows");
        disk.restart_losing_all();
        drop(log);
        assert_eq!(open(&disk).expect("one copy is enough").cell(), b"new", "copy {nth}");
    }
}

/// D10.
#[test]
fn a_misdirected_write_is_noticed() {
    for offset in [0, 512, 1024, 20 << 10] {
        let what = format!("to offset {offset} of the first segment");
        every_write(&what, |disk, nth| disk.misdirect_nth_write(nth, &file_name(1), offset));
    }
    for offset in [0, 4096] {
        let what = format!("to offset {offset} of the superblock");
        every_write(&what, |disk, nth| disk.misdirect_nth_write(nth, "superblock", offset));
    }
}

#[test]
fn a_misdirected_write_costs_evidence_at_most() {
    for nth in 1..200 {
        let disk = SimDisk::new(1);
        let log = open(&disk).expect("nothing lies yet");
        append_to(&log, 2, 7);
        log.close().expect("nothing lies yet");
        // What it should have written is missing, and that is noticed without the watermark's help.
        disk.misdirect_nth_write(nth, "watermark", 4096 * (nth % 2));
        let acknowledged = live(&disk);
        disk.restart_losing_all();
        let _ = look(&disk, acknowledged, &format!("to the watermark, write {nth}"));
    }
}

/// D4: a sector that the medium does not give costs the records in it, and only them.
#[test]
fn an_unreadable_sector_costs_what_is_in_it() {
    let (mut whole, mut in_part, mut refused) = (0, 0, 0);
    let made = SimDisk::new(1);
    assert_eq!(live(&made), RECORDS);
    for name in made.files() {
        let bytes = made.read_file(&name).len() as u64;
        for sector in (0..bytes / 512).step_by(5) {
            let disk = made.after(PowerCut::LosingAll);
            disk.make_unreadable(&name, 512 * sector..512 * sector + 1);
            let log = match open(&disk) {
                Ok(log) => log,
                Err(OpenError::Io(_)) => {
                    refused += 1;
                    continue;
                }
                Err(other) => panic!("{name}, sector {sector}: {other:?}"),
            };
            let mut missing = 0;
            for lsn in 1..=RECORDS {
                match log.read(Lsn::new(lsn)) {
                    Ok(read) => assert_eq!(read.bytes(), record(lsn, 7)),
                    Err(ReadError::Io(_) | ReadError::Corrupt(_)) => missing += 1,
                    Err(other) => panic!("{name}, sector {sector}, LSN {lsn}: {other:?}"),
                }
            }
            assert!(missing <= 1, "{name}, sector {sector}: {missing} records are missing");
            if missing == 0 { whole += 1 } else { in_part += 1 }
        }
    }
    println!("{whole} times nothing is missing, {in_part} times one record, {refused} not opened");
    assert!(whole > 20 && refused > 5);
}

/// D9: superblock and watermark are there twice, and one sector is in one copy only.
#[test]
fn an_unreadable_copy_leaves_the_other() {
    let made = SimDisk::new(1);
    assert_eq!(live(&made), RECORDS);
    for name in ["superblock", "watermark"] {
        for sector in 0..16 {
            let disk = made.after(PowerCut::LosingAll);
            disk.make_unreadable(name, 512 * sector..512 * sector + 1);
            let what = format!("{name}, sector {sector}");
            assert_eq!(look(&disk, RECORDS, &what), Found::All);
            let log = open(&disk).expect("it was written again");
            append_to(&log, RECORDS + 5, 7);
            log.close().expect("nothing fails");
            assert_eq!(look(&disk, RECORDS + 5, &what), Found::All);
        }
    }
}

/// D1: what was written short is not acknowledged, and nothing else is lost by it.
#[test]
fn a_short_write_poisons() {
    let mut poisoned = 0;
    for nth in 1..200 {
        let disk = SimDisk::new(1);
        disk.shorten_nth_write(nth, 512);
        let Ok(log) = open(&disk) else { continue };
        let acknowledged = append_to(&log, RECORDS, 7);
        if acknowledged < RECORDS {
            let again = log.append(b"x");
            let refused = matches!(again, Err(AppendError::Poisoned(_)));
            poisoned += u64::from(refused);
        }
        disk.restart_losing_all();
        drop(log);
        assert_eq!(look(&disk, acknowledged, "short"), Found::All);
    }
    assert!(poisoned > 5, "{poisoned}");
}

/// D20: a disk that became read-only ends the appends and nothing else.
#[test]
fn a_read_only_disk_poisons() {
    let disk = SimDisk::new(1);
    let mut model = Model::default();
    let log = model.open(&disk, &config()).expect("an empty disk opens");
    for _ in 0..5 {
        model.append_some(&log).expect("nothing fails yet");
    }
    model.sync(&log).expect("nothing fails yet");
    disk.set_read_only(true);
    let refused = log.append(b"x");
    assert!(matches!(refused, Err(AppendError::Poisoned(_))), "{refused:?}");
    model.check_records(&log);
    drop(log);
    assert!(matches!(open(&disk), Err(OpenError::Io(_))));
    disk.set_read_only(false);
    model.record_of(0);
    model.check(&disk, &config());
}

/// D12: readers that get pages from before a file was recycled give no old records for new ones.
#[test]
fn a_stale_cache_gives_no_wrong_records() {
    let (disk, mut right, mut refused) = (SimDisk::new(1), 0, 0);
    let log = open(&disk).expect("an empty disk opens");
    append_to(&log, 60, 7);
    log.trim(log.durable_lsn()).expect("nothing fails");
    for name in disk.files() {
        disk.set_stale(&name, true);
    }
    append_to(&log, 120, 7);
    log.close().expect("nothing fails");
    let log = open(&disk).expect("recovery does not ask the cache");
    for lsn in log.first_lsn().get()..log.end_lsn().get() {
        match log.read(Lsn::new(lsn)) {
            Ok(read) => {
                assert_eq!(read.bytes(), record(lsn, 7));
                right += 1;
            }
            Err(ReadError::Corrupt(_)) => refused += 1,
            Err(other) => panic!("{other:?}"),
        }
    }
    println!("{right} right, {refused} refused");
    assert!(right + refused > 50);
}

/// The bytes of the first segment of a log, and its disk.
fn made(seed: u64, history: u8) -> (SimDisk, Vec<u8>) {
    let disk = SimDisk::new(seed);
    let log = open(&disk).expect("an empty disk opens");
    append_to(&log, 3, 7);
    append_to(&log, 4, history);
    append_to(&log, 6, 7);
    log.close().expect("nothing fails");
    let bytes = disk.read_file(&file_name(1));
    (disk, bytes)
}

/// Two logs were one until LSN 4, with the same identity and epoch. A batch of the one in the place of
/// the other's is whole and has the right address: only the chain tells.
#[test]
fn a_batch_of_another_history_is_noticed() {
    let ((disk, ours), (_, theirs)) = (made(1, 7), made(1, 8));
    let differs = |(one, other): (&[u8], &[u8])| one != other;
    let mut blocks = ours.chunks(512).zip(theirs.chunks(512));
    let first = blocks.position(differs).expect("LSN 4 differs");
    // Record 4 and its header; what follows links back to the batch that was there.
    let batch = first * 512..(first + 2) * 512;
    assert_ne!(ours[batch.end..], theirs[batch.end..], "the chain went another way");
    let mut mixed = ours;
    mixed[batch.clone()].copy_from_slice(&theirs[batch]);
    disk.write_file(&file_name(1), &mixed);
    let refused = open(&disk).map(drop);
    let Err(OpenError::Damaged { report, .. }) = refused else { panic!("{refused:?}") };
    assert!(matches!(report.verdict, Verdict::Damaged(_)), "{}", report.verdict);
}

/// Where each bit of a header counts, although a torn write never damages a part of a sector.
#[test]
fn a_flipped_bit_in_a_header_is_noticed() {
    let ((disk, ours), (_, theirs)) = (made(1, 7), made(1, 8));
    let differs = |(one, other): (&[u8], &[u8])| one != other;
    let block = ours.chunks(512).zip(theirs.chunks(512)).position(differs);
    let start = 8 * 512 * block.expect("LSN 4 differs") as u64;
    for bit in (start..start + 8 * 128).step_by(5) {
        disk.write_file(&file_name(1), &ours);
        disk.flip_bit(&file_name(1), bit);
        let refused = open(&disk).map(drop);
        assert!(matches!(refused, Err(OpenError::Damaged { .. })), "bit {bit}: {refused:?}");
    }
}

/// Another log of the same age: everything but the identity fits.
#[test]
fn batches_of_another_log_are_refused() {
    let ((disk, ours), (_, theirs)) = (made(1, 7), made(2, 8));
    let mut mixed = ours;
    mixed[512..].copy_from_slice(&theirs[512..]);
    disk.write_file(&file_name(1), &mixed);
    assert!(matches!(open(&disk), Err(OpenError::Damaged { .. })));
}
