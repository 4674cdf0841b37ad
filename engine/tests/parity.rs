//! Single-node correction of rot:
//!  D4 and D6 damage to any block of a sealed segment, or of its parity, is made up for while reading,
//!     and mended by the scrub; what parity cannot make up for is a typed error, and the rest is served;
//!  C9 a power cut while parity is written or a segment is mended leaves the old or the new.

use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use cairnlog_engine::disk::sim::{OperationKind, SimDisk};

use cairnlog_engine::format::parity::{HEADER_BYTES, Layout, UNIT_BYTES, file_name as parity_name};
use cairnlog_engine::format::segment::file_name;
use cairnlog_engine::format::version::Fault;
use cairnlog_engine::{
    Config, Corruption, Log, LogReader, Lsn, OpenError, ReadError, Records, RecoveryReport,
    Verdict, verify_on,
};

const SEGMENT_BYTES: u64 = 64 << 10;
/// FORMAT.md, section 12: where in the header block the checksums of the table and of the block are.
const TABLE_CHECKSUM_AT: usize = 88;
const CHECKSUM_AT: usize = 4092;

fn config() -> Config {
    let mut config = Config::with_segment_bytes(SEGMENT_BYTES);
    config.block_bytes = 512;
    config
}

fn open(disk: &SimDisk) -> Result<(Log, RecoveryReport), OpenError> {
    Log::open_on(Arc::new(disk.clone()), config())
}

/// As [`open`], but nothing is scrubbed before it is asked for.
fn open_unscrubbed(disk: &SimDisk) -> Log {
    let mut config = config();
    config.scrub_bytes_per_second = 0;
    let opened = Log::open_on(Arc::new(disk.clone()), config);
    opened.expect("parity makes up for what is damaged").0
}

fn record(lsn: u64) -> Vec<u8> {
    let bytes = [0, 40, 900, 3000][usize::try_from(lsn % 4).expect("below 4")];
    let mut record = format!("{lsn}:").into_bytes();
    record.resize(record.len() + bytes, u8::try_from(lsn % 251).expect("below 251"));
    record
}

/// Appends until there are so many segments; the next LSN.
fn fill(log: &Log, segments: u64) -> Lsn {
    while log.stats().segments < segments {
        log.append(&record(log.end_lsn().get())).expect("nothing fails");
    }
    log.end_lsn()
}

/// A closed log of three sealed segments with parity, and an active one; and its end.
fn made() -> (SimDisk, Lsn) {
    let disk = SimDisk::new(1);
    let (log, _) = open(&disk).expect("an empty disk opens");
    let end = fill(&log, 4);
    assert_eq!(log.stats().segments_unprotected, 0);
    log.close().expect("nothing fails");
    disk.restart_losing_all();
    (disk, end)
}

fn copy(disk: &SimDisk) -> SimDisk {
    let copied = SimDisk::new(9);
    for name in disk.files() {
        copied.write_file(&name, &disk.read_file(&name));
    }
    copied
}

fn holds_all(records: Records, end: Lsn) {
    let mut next = Lsn::FIRST;
    for found in records {
        let found = found.expect("parity makes up for it");
        assert_eq!((found.lsn, found.bytes()), (next, &record(next.get())[..]));
        next = next.next();
    }
    assert_eq!(next, end);
}

fn flip(disk: &SimDisk, name: &str, byte: usize) {
    disk.flip_bit(name, byte as u64 * 8 + 5);
}

#[test]
fn d6_a_flipped_bit_in_any_block_is_read_back_whole_and_mended() {
    let (whole, end) = made();
    let mut mended_reads = 0;
    for segment in 1..=3 {
        let name = file_name(segment);
        for sector in 0..usize::try_from(SEGMENT_BYTES / 512).expect("small") {
            let disk = copy(&whole);
            flip(&disk, &name, sector * 512 + sector % 512);
            let reader = LogReader::open_on(Arc::new(disk.clone())).expect("there is a log");
            holds_all(reader.iter(..).expect("in range"), end);
            let log = open_unscrubbed(&disk);
            holds_all(log.iter(..).expect("in range"), end);
            let lsn = Lsn::new(end.get() / 2);
            assert_eq!(log.read(lsn).expect("it is whole").bytes(), record(lsn.get()));
            mended_reads += u64::from(log.stats().mended_reads > 0);
            log.scrub().expect("it is not poisoned");
            assert_eq!(log.stats().units_damaged, log.stats().units_mended);
            assert!(log.damage().is_empty(), "{:?}", log.damage());
            let is_mended = disk.read_file(&name) == whole.read_file(&name);
            assert!(is_mended, "segment {segment}, sector {sector}");
            log.close().expect("nothing fails");
            let verified = verify_on(&disk, &mut |_, _| {}).expect("there is a log");
            assert!(verified.is_whole(), "{verified:?}");
        }
    }
    assert!(mended_reads > 100, "reads met the damage: {mended_reads}");
}

#[test]
fn d6_damage_of_the_parity_is_mended() {
    let (whole, end) = made();
    let name = parity_name(2);
    let bytes = whole.read_file(&name);
    for at in (0..bytes.len()).step_by(512) {
        let disk = copy(&whole);
        flip(&disk, &name, at);
        let (log, _) = open(&disk).expect("the segments are whole");
        holds_all(log.iter(..).expect("in range"), end);
        log.scrub().expect("it is not poisoned");
        assert!(disk.read_file(&name) == bytes, "byte {at}");
        assert_eq!(log.stats().segments_unprotected, 0);
    }
    let disk = copy(&whole);
    disk.remove_file(&name);
    let (log, _) = open(&disk).expect("the segments are whole");
    log.scrub().expect("it is not poisoned");
    assert!(disk.read_file(&name) == bytes, "a missing one is written again");
}

/// D4: with parity, no sector of a sealed segment that the medium does not give costs a record.
#[test]
fn d4_an_unreadable_sector_of_a_sealed_segment_costs_nothing() {
    let (whole, end) = made();
    for segment in 1..=3 {
        for sector in (0..SEGMENT_BYTES / 512).step_by(3).chain([1, SEGMENT_BYTES / 512 - 1]) {
            let (disk, name) = (copy(&whole), file_name(segment));
            disk.make_unreadable(&name, 512 * sector..512 * sector + 1);
            let (log, _) = open(&disk).expect("parity makes up for it");
            holds_all(log.iter(..).expect("in range"), end);
            log.scrub().expect("it is not poisoned");
            assert!(log.damage().is_empty(), "{:?}", log.damage());
            log.close().expect("nothing fails");
            let verified = verify_on(&disk, &mut |_, _| {}).expect("there is a log");
            assert!(verified.is_whole(), "segment {segment}, sector {sector}: {verified:?}");
        }
    }
}

/// Header and trailer both, so that neither makes up for the other.
#[test]
fn d6_both_ends_of_a_segment_damaged() {
    let (whole, end) = made();
    for segment in 1..=3 {
        let (disk, name) = (copy(&whole), file_name(segment));
        flip(&disk, &name, 70);
        flip(&disk, &name, usize::try_from(SEGMENT_BYTES).expect("small") - 400);
        let reader = LogReader::open_on(Arc::new(disk.clone())).expect("there is a log");
        holds_all(reader.iter(..).expect("in range"), end);
        let (log, report) = open(&disk).expect("parity makes up for it");
        assert!(report.notes.iter().any(|note| note.contains("parity")), "{report:?}");
        holds_all(log.iter(..).expect("in range"), end);
        assert!(disk.read_file(&name) == whole.read_file(&name), "mended");
    }
}

/// As many units as there are parity units may be damaged, of segment and parity together.
#[test]
fn d6_as_much_as_parity_makes_up_for_and_no_more() {
    let (whole, end) = made();
    let name = file_name(2);
    let units = usize::try_from(SEGMENT_BYTES).expect("small") / UNIT_BYTES;
    let parity_units = Layout::of(SEGMENT_BYTES).parity_units(0);
    assert_eq!(parity_units, 2);
    for first in 0..units {
        for second in 0..first {
            let disk = copy(&whole);
            flip(&disk, &name, first * UNIT_BYTES + 700);
            flip(&disk, &name, second * UNIT_BYTES + 100);
            let (log, _) = open(&disk).expect("parity makes up for it");
            holds_all(log.iter(..).expect("in range"), end);
            log.scrub().expect("it is not poisoned");
            assert!(disk.read_file(&name) == whole.read_file(&name));
        }
    }
    let disk = copy(&whole);
    for unit in [3, 4, 7] {
        flip(&disk, &name, unit * UNIT_BYTES + 600);
    }
    let (log, _) = open(&disk).expect("sealed segments are not read on open");
    log.scrub().expect("it is not poisoned");
    let [damage] = &log.damage()[..] else { panic!("{:?}", log.damage()) };
    assert_eq!(damage.segment, 2);
    let (mut next, mut lost) = (Lsn::FIRST, 0);
    while next < end {
        for found in log.iter(next..).expect("in range") {
            match found {
                Ok(found) => {
                    assert_eq!((found.lsn, found.bytes()), (next, &record(next.get())[..]));
                }
                Err(ReadError::Corrupt(corruption)) => {
                    assert_eq!((corruption.segment, corruption.lsn), (2, next));
                    lost += 1;
                }
                Err(other) => panic!("{other:?}"),
            }
            next = next.next();
        }
    }
    assert!((1..=9).contains(&lost), "{lost} records are lost, the others are served");
    let (segment, offset) = (damage.segment, damage.offset);
    assert_eq!((segment, offset / UNIT_BYTES as u64), (2, 3), "{damage:?}");
}

#[test]
fn d4_a_read_error_of_the_medium_is_made_up_for() {
    let (whole, end) = made();
    for nth in 1..60 {
        let disk = copy(&whole);
        let (log, _) = open(&disk).expect("it is whole");
        disk.fail_nth(OperationKind::Read, nth, std::io::ErrorKind::Other);
        let mut next = Lsn::FIRST;
        let mut errors = 0;
        while next < end {
            for found in log.iter(next..).expect("in range") {
                match found {
                    Ok(found) => assert_eq!(found.bytes(), record(next.get())),
                    // The active segment has no parity.
                    Err(error) => {
                        assert!(matches!(error, ReadError::Io(_)), "{error:?}");
                        errors += 1;
                        break;
                    }
                }
                next = next.next();
            }
            assert!(errors < 2, "an error comes once");
        }
    }
}

#[test]
fn d15_a_truncated_segment_is_named_and_its_parity_kept() {
    let (whole, _) = made();
    whole.truncate_file(&file_name(2), SEGMENT_BYTES - 4096);
    match open(&whole) {
        Err(OpenError::Damaged { report, .. }) => {
            assert!(matches!(report.verdict, Verdict::Damaged(_)), "{report:?}");
        }
        other => panic!("{other:?}"),
    }
    assert!(whole.files().contains(&parity_name(2)));
}

/// D6: what is damaged before it was protected stays damaged in the open.
#[test]
fn a_damaged_segment_gets_no_parity() {
    let disk = SimDisk::new(1);
    let mut unprotected = config();
    unprotected.parity = false;
    unprotected.scrub_bytes_per_second = 0;
    let (log, _) = Log::open_on(Arc::new(disk.clone()), unprotected).expect("an empty disk opens");
    fill(&log, 4);
    log.close().expect("nothing fails");
    flip(&disk, &file_name(2), 9000);
    let (log, _) = open(&disk).expect("sealed segments are not read on open");
    assert_eq!(log.damage().len(), 1, "{:?}", log.damage());
    let files = disk.files();
    assert!(files.contains(&parity_name(1)) && files.contains(&parity_name(3)));
    assert!(!files.contains(&parity_name(2)), "{files:?}");
    assert_eq!((log.stats().segments_unprotected, log.stats().segments_damaged), (1, 1));
}

#[test]
fn parity_goes_with_its_segment() {
    let (disk, _) = made();
    let (log, _) = open(&disk).expect("it is whole");
    log.trim(log.durable_lsn()).expect("it is durable");
    assert!(disk.files().iter().all(|name| !name.ends_with(".parity")), "{:?}", disk.files());
    log.close().expect("nothing fails");
    disk.write_file(&parity_name(1), b"left over from a crash");
    let (_, report) = open(&disk).expect("it is whole");
    assert!(!disk.files().contains(&parity_name(1)) && report.foreign.is_empty());
}

#[test]
fn a_power_cut_while_a_segment_is_protected() {
    let run = |disk: &SimDisk| -> Option<()> {
        let (log, _) = open(disk).ok()?;
        while log.stats().segments < 4 {
            log.append(&record(log.end_lsn().get())).ok()?;
        }
        log.close().ok()
    };
    let uncut = SimDisk::new(1);
    run(&uncut).expect("nothing fails without a cut");
    let whole = uncut.read_file(&parity_name(2));
    for cut in 1..=uncut.operations() {
        for seed in 0..3 {
            let disk = SimDisk::new(1);
            disk.cut_at(cut);
            run(&disk);
            disk.restart(cut * 7 + seed);
            for name in disk.files().iter().filter(|name| name.ends_with(".parity")) {
                let is_whole = disk.read_file(name) == uncut.read_file(name);
                assert!(is_whole, "cut {cut}: {name} has its name too early");
            }
            let (log, _) = open(&disk).expect("a power cut leaves it whole");
            let end = fill(&log, 4);
            holds_all(log.iter(..).expect("in range"), end);
            log.scrub().expect("it is not poisoned");
            assert!(log.damage().is_empty(), "cut {cut}: {:?}", log.damage());
            assert_eq!((log.stats().units_damaged, log.stats().segments_unprotected), (0, 0));
            assert_eq!(disk.read_file(&parity_name(2)).len(), whole.len());
        }
    }
}

#[test]
fn a_power_cut_while_a_segment_is_mended() {
    let (whole, end) = made();
    let name = file_name(2);
    // As much as parity makes up for, so that a mix of old and new shows.
    let places = [9000, 31_000];
    let damaged = || {
        let disk = copy(&whole);
        places.iter().for_each(|at| flip(&disk, &name, *at));
        disk
    };
    let disk = damaged();
    let log = open_unscrubbed(&disk);
    let before = disk.operations();
    log.scrub().expect("it is not poisoned");
    let operations = disk.operations() - before;
    assert!(operations > 5, "it is mended here, and not before: {operations}");
    for cut in 1..=operations {
        for seed in 0..6 {
            let disk = damaged();
            let log = open_unscrubbed(&disk);
            disk.cut_at(disk.operations() + cut);
            let _ = log.scrub();
            drop(log);
            disk.restart(cut * 7 + seed);
            let content = disk.read_file(&name);
            let mut old = whole.read_file(&name);
            let is_new = content == old;
            places.iter().for_each(|at| old[*at] ^= 1 << 5);
            assert!(is_new || content == old, "cut {cut}: a mix of old and new");
            let (log, _) = open(&disk).expect("a power cut leaves it whole");
            holds_all(log.iter(..).expect("in range"), end);
            log.scrub().expect("it is not poisoned");
            assert!(disk.read_file(&name) == whole.read_file(&name));
        }
    }
}

/// C9: whoever scrubs beside the log's own scrub does not rename a file that the other one still writes.
#[test]
fn a_power_cut_while_two_scrub_at_once() {
    let (whole, end) = made();
    let name = file_name(2);
    let mut old = whole.read_file(&name);
    for cut in 6..=30 {
        for seed in 0..16 {
            let disk = copy(&whole);
            flip(&disk, &name, 9000);
            let log = open_unscrubbed(&disk);
            disk.cut_at(disk.operations() + cut);
            let start = Barrier::new(2);
            std::thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| {
                        start.wait();
                        log.scrub()
                    });
                }
            });
            drop(log);
            disk.restart(cut * 7 + seed);
            let content = disk.read_file(&name);
            old[9000] ^= 1 << 5;
            let is_one = content == old || content == whole.read_file(&name);
            old[9000] ^= 1 << 5;
            assert!(is_one, "cut {cut}, seed {seed}: neither the old nor the new");
            for name in disk.files().iter().filter(|name| name.ends_with(".parity")) {
                let is_whole = disk.read_file(name) == whole.read_file(name);
                assert!(is_whole, "cut {cut}, seed {seed}: {name} has its name too early");
            }
            let (log, _) = open(&disk).expect("a power cut leaves it whole");
            holds_all(log.iter(..).expect("in range"), end);
        }
    }
}

/// D11: a mended segment that the medium lost takes nobody's place.
#[test]
fn d11_a_lost_write_while_a_segment_is_mended() {
    let (whole, end) = made();
    let name = file_name(2);
    let mut refused = 0;
    for nth in 1..5 {
        let disk = copy(&whole);
        flip(&disk, &name, 9000);
        let log = open_unscrubbed(&disk);
        disk.lose_nth_write(nth);
        log.scrub().expect("it is not poisoned");
        refused += log.stats().scrub_failures;
        disk.restart_losing_all();
        let (log, _) = open(&disk).expect("nothing that counts was lost");
        holds_all(log.iter(..).expect("in range"), end);
        assert!(log.damage().is_empty(), "write {nth}: {:?}", log.damage());
    }
    assert_eq!(refused, 1, "the one write of the new file");
}

#[test]
fn readers_go_over_to_the_mended_file() {
    let (disk, _) = made();
    flip(&disk, &file_name(2), 9000);
    let log = open_unscrubbed(&disk);
    // They hold the damaged file as long as they live.
    let held: Vec<_> = log.iter(..).expect("in range").collect();
    assert!(log.stats().mended_reads > 0 && held.iter().all(Result::is_ok));
    log.scrub().expect("it is not poisoned");
    log.scrub().expect("it is not poisoned");
    assert_eq!((log.stats().units_damaged, log.stats().units_mended), (1, 1));
    drop(held);
}

/// D16.
#[test]
fn d16_parity_of_something_else_is_not_trusted() {
    let (whole, end) = made();
    let other_log = SimDisk::new(2);
    let (log, _) = open(&other_log).expect("an empty disk opens");
    assert_eq!(fill(&log, 4), end, "it has the same records");
    let name = parity_name(2);
    let own = whole.read_file(&name);
    for foreign in [other_log.read_file(&name), whole.read_file(&parity_name(1))] {
        let disk = copy(&whole);
        disk.write_file(&name, &foreign);
        let verified = verify_on(&disk, &mut |_, _| {}).expect("there is a log");
        let [damaged] = &verified.damaged_files[..] else { panic!("{verified:?}") };
        assert_eq!(damaged.name, name);
        let (log, _) = open(&disk).expect("the segments are whole");
        holds_all(log.iter(..).expect("in range"), end);
        log.scrub().expect("it is not poisoned");
        assert!(disk.read_file(&name) == own, "it is made again");
        assert!(log.damage().is_empty(), "{:?}", log.damage());
    }
}

/// Lets a parity file say that its units are right as they are now.
fn forge_checksums(file: &mut [u8]) {
    let layout = Layout::of(SEGMENT_BYTES);
    let checksum = |parts: &[&[u8]]| {
        let mut hasher = crc32fast::Hasher::new();
        parts.iter().for_each(|part| hasher.update(part));
        hasher.finalize().to_le_bytes()
    };
    let at = |offset: u64| usize::try_from(offset).expect("small");
    let units = layout.data_units(0);
    for (header_at, table_at) in layout.copies().map(|(header, table)| (at(header), at(table))) {
        for unit in 0..layout.parity_units(0) {
            let unit_at = at(layout.parity_offset(0, unit));
            let sum = blake3::hash(&file[unit_at..unit_at + UNIT_BYTES]);
            file[table_at + 4 * (units + unit)..][..4].copy_from_slice(&sum.as_bytes()[..4]);
        }
        let sum = checksum(&[&file[table_at..table_at + layout.table_bytes()]]);
        file[header_at + TABLE_CHECKSUM_AT..][..4].copy_from_slice(&sum);
        let header = &file[header_at..header_at + HEADER_BYTES];
        let sum = checksum(&[&header[..CHECKSUM_AT], &header[CHECKSUM_AT + 4..]]);
        file[header_at + CHECKSUM_AT..][..4].copy_from_slice(&sum);
    }
}

/// Whatever the parity units are, what is rebuilt has the checksum of what was there.
#[test]
fn d6_what_is_rebuilt_wrong_is_not_believed() {
    let (disk, end) = made();
    let name = parity_name(2);
    let mut parity = disk.read_file(&name);
    forge_checksums(&mut parity);
    assert!(parity == disk.read_file(&name), "nothing is forged yet");
    let unit_at = usize::try_from(Layout::of(SEGMENT_BYTES).parity_offset(0, 0)).expect("small");
    parity[unit_at..unit_at + UNIT_BYTES].fill(7);
    forge_checksums(&mut parity);
    disk.write_file(&name, &parity);
    flip(&disk, &file_name(2), 9000);
    let damaged = disk.read_file(&file_name(2));
    let (log, _) = open(&disk).expect("sealed segments are not read on open");
    log.scrub().expect("it is not poisoned");
    assert!(disk.read_file(&file_name(2)) == damaged, "nothing better is there");
    let [damage] = &log.damage()[..] else { panic!("{:?}", log.stats()) };
    assert_eq!(damage.segment, 2);
    let lost = (1..end.get()).filter(|lsn| log.read(Lsn::new(*lsn)).is_err()).count();
    assert_eq!(lost, 1, "the others are served");
}

/// More unreadable units than parity makes up for are damage, and not only a scrub that failed.
#[test]
fn d4_a_segment_that_cannot_be_read_is_named() {
    let (disk, _) = made();
    for unit in [3, 4, 7] {
        let at = unit * UNIT_BYTES as u64 + 600;
        disk.make_unreadable(&file_name(2), at..at + 1);
    }
    let (log, _) = open(&disk).expect("sealed segments are not read on open");
    log.scrub().expect("it is not poisoned");
    let [damage] = &log.damage()[..] else { panic!("{:?}", log.stats()) };
    assert_eq!((damage.segment, damage.fault), (2, Fault::Unreadable));
}

/// Segments in which every checksum and every link is right, with other records than when their digest
/// was taken: only the digest tells, and nobody may take a new one.
#[test]
fn d12_records_that_were_exchanged_are_noticed() {
    let made_of = |history: u8| {
        let disk = SimDisk::new(1);
        let (log, _) = open(&disk).expect("an empty disk opens");
        while log.stats().segments < 4 {
            log.append(&[history; 3000]).expect("nothing fails");
        }
        log.close().expect("nothing fails");
        disk
    };
    let (ours, theirs) = (made_of(7), made_of(8));
    let disk = copy(&ours);
    for name in theirs.files().iter().filter(|name| !name.ends_with(".parity")) {
        disk.write_file(name, &theirs.read_file(name));
    }
    let is_noticed = |damage: &[Corruption]| {
        let found: Vec<_> = damage.iter().map(|d| (d.segment, d.fault)).collect();
        assert_eq!(found, [1, 2, 3].map(|segment| (segment, Fault::Digest)));
    };
    let before = verify_on(&disk, &mut |_, _| {}).expect("there is a log");
    is_noticed(&before.damage);
    let (log, _) = open(&disk).expect("sealed segments are not read on open");
    log.scrub().expect("it is not poisoned");
    is_noticed(&log.damage());
    log.close().expect("nothing fails");
    let after = verify_on(&disk, &mut |_, _| {}).expect("there is a log");
    is_noticed(&after.damage);
}

/// The same on real files, with the threads of a real log, and a segment of more than one slab.
#[test]
fn a_real_log_protects_and_mends_in_the_background() {
    let directory = std::env::temp_dir().join(format!("cairnlog-parity-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&directory);
    let mut config = Config::with_segment_bytes(5 << 20);
    config.scrub_bytes_per_second = 1 << 30;
    config.hot_bytes_max = 0;
    let (log, _) = Log::open(&directory, config.clone()).expect("it is made");
    let payload = vec![7; 50_000];
    while log.stats().segments < 3 {
        log.append(&payload).expect("nothing fails");
    }
    let deadline = Instant::now() + Duration::from_secs(60);
    while log.stats().segments_unprotected > 0 || log.stats().segments_protected < 2 {
        assert!(Instant::now() < deadline, "{:?}", log.stats());
        std::thread::sleep(Duration::from_millis(20));
    }
    let path = directory.join(file_name(1));
    let whole = std::fs::read(&path).expect("it is there");
    let mut damaged = whole.clone();
    for at in [10, 5000, 700_000, 4_300_000, 5_242_000] {
        damaged[at] ^= 0x40;
    }
    std::fs::write(&path, &damaged).expect("it can be written");
    let end = log.durable_lsn();
    let records: Vec<_> = log.iter(..).expect("in range").collect();
    assert_eq!(records.len() as u64 + 1, end.get());
    for record in records {
        assert!(record.expect("parity makes up for it").bytes() == payload);
    }
    log.scrub().expect("it is not poisoned");
    assert_eq!((log.stats().units_damaged, log.stats().units_mended), (5, 5));
    assert!(std::fs::read(&path).expect("it is there") == whole);
    log.close().expect("nothing fails");
    std::fs::remove_dir_all(&directory).expect("it is there");
}
