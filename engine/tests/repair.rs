//! Deliberate repair: D7, D9, D13 and D15, and requirement 25 (what is found, kept and lost is said).
//!
//! Each damage is planned for (nothing changes), repaired, and then the log opens, holds everything that
//! was whole, gives a typed error for what was lost, and takes new records behind it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use cairnlog_engine::disk::sim::SimDisk;
use cairnlog_engine::format::batch::BatchHeader;
use cairnlog_engine::format::segment::file_name;
use cairnlog_engine::{
    Config, Inspected, Log, LogReader, Lsn, OpenError, ReadError, RepairError, RepairReport,
    RepairStep, inspect_on, repair_on, verify_on,
};

const SEGMENT_BYTES: u64 = 64 << 10;

fn config(parity: bool) -> Config {
    let mut config = Config::with_segment_bytes(SEGMENT_BYTES);
    config.block_bytes = 512;
    config.parity = parity;
    config
}

fn record(lsn: u64) -> Vec<u8> {
    let bytes = [3000, 0, 40, 900][usize::try_from(lsn % 4).expect("below 4")];
    let mut record = format!("{lsn}:").into_bytes();
    record.resize(record.len() + bytes, u8::try_from(lsn % 251).expect("below 251"));
    record
}

/// A closed log of three sealed segments and an active one, its batches, and its end.
fn made(parity: bool) -> (SimDisk, Vec<BatchHeader>, Lsn) {
    let disk = SimDisk::new(1);
    let (log, _) = Log::open_on(Arc::new(disk.clone()), config(parity)).expect("an empty disk");
    let mut in_active = 0;
    while in_active < 6 {
        let next = log.end_lsn().get();
        log.append_batch(&[record(next), record(next + 1)]).expect("nothing fails");
        in_active += u32::from(log.stats().segments == 4);
    }
    let end = log.end_lsn();
    log.close().expect("nothing fails");
    disk.restart_losing_all();
    let mut batches = Vec::new();
    let mut see = |seen| {
        if let Inspected::Batch { header, .. } = seen {
            batches.push(header);
        }
        std::ops::ControlFlow::Continue(())
    };
    inspect_on(&disk, &mut see).expect("there is a log");
    (disk, batches, end)
}

fn files(disk: &SimDisk) -> BTreeMap<String, Vec<u8>> {
    disk.files().into_iter().map(|name| (name.clone(), disk.read_file(&name))).collect()
}

fn flip(disk: &SimDisk, segment: u64, offset: u64) {
    disk.flip_bit(&file_name(segment), offset * 8 + 3);
}

fn zero(disk: &SimDisk, segment: u64, range: Range<u64>) {
    let mut content = disk.read_file(&file_name(segment));
    let range =
        usize::try_from(range.start).expect("small")..usize::try_from(range.end).expect("small");
    content[range].fill(0);
    disk.write_file(&file_name(segment), &content);
}

/// Plans, which changes nothing, and repairs.
fn repaired(disk: &SimDisk) -> RepairReport {
    let before = files(disk);
    let plan = repair_on(disk, false).expect("it can be repaired");
    assert!(!plan.is_done && plan.kept.is_empty());
    assert!(files(disk) == before, "planning changes nothing");
    let report = repair_on(disk, true).expect("it can be repaired");
    assert!(report.is_done);
    assert_eq!(report.steps, plan.steps, "what was planned is done");
    report
}

/// The log opens, holds everything but what was lost, takes more, and is whole.
fn holds_all_but(disk: &SimDisk, lost: &[Range<Lsn>], end: Lsn) {
    let (log, report) = Log::open_on(Arc::new(disk.clone()), config(true)).expect("it is repaired");
    assert_eq!(report.end_lsn, end, "{report:?}");
    let mut next = log.first_lsn();
    let mut found_lost = Vec::new();
    while next < end {
        for found in log.iter(next..).expect("in range") {
            match found {
                Ok(found) => {
                    assert_eq!((found.lsn, found.bytes()), (next, &record(next.get())[..]));
                    next = next.next();
                }
                Err(ReadError::Lost { range }) => {
                    assert_eq!(range.start, next);
                    assert!(matches!(log.read(next), Err(ReadError::Lost { .. })));
                    next = range.end;
                    found_lost.push(range);
                }
                Err(other) => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(found_lost, lost);
    assert_eq!(log.append(&record(end.get())).expect("the log goes on"), end);
    assert_eq!(log.read(end).expect("it is durable").bytes(), record(end.get()));
    log.close().expect("nothing fails");
    let verified = verify_on(disk, &mut |_, _| {}).expect("there is a log");
    assert!(verified.is_whole(), "{verified:?}");
    let reader = LogReader::open_on(Arc::new(disk.clone())).expect("there is a log");
    assert_eq!(reader.range().end, end.next());
    let again = repair_on(disk, false).expect("nothing is in the way");
    assert_eq!(again.steps, [], "nothing is left to repair");
}

#[test]
fn a_whole_log_needs_no_repair() {
    for parity in [false, true] {
        let (disk, _, end) = made(parity);
        let before = files(&disk);
        let report = repaired(&disk);
        assert_eq!((report.steps, report.kept), (Vec::new(), Vec::new()));
        assert!(files(&disk) == before);
        holds_all_but(&disk, &[], end);
    }
}

/// D6 and D7: any damaged batch, in a sealed segment or in the active one.
#[test]
fn lost_records_are_an_error_and_the_rest_is_served() {
    let (whole, batches, end) = made(false);
    for (number, batch) in batches.iter().enumerate() {
        let is_last = number + 1 == batches.len();
        for at in [40, 140] {
            // Without a header nothing but the watermark says that the last batch was there.
            let disk = SimDisk::new(2);
            for (name, content) in files(&whole) {
                disk.write_file(&name, &content);
            }
            flip(&disk, batch.segment, batch.offset + at);
            let report = repaired(&disk);
            let lsns = batch.base_lsn..batch.end_lsn();
            let offset = batch.offset;
            let step = RepairStep::GiveUp { segment: batch.segment, offset, lsns: lsns.clone() };
            let lost: Vec<_> = Some(lsns).filter(|lsns| !lsns.is_empty()).into_iter().collect();
            assert_eq!(report.steps, [step], "batch {number}, byte {at}, last: {is_last}");
            assert_eq!(report.lost(), lost);
            holds_all_but(&disk, &lost, end);
        }
    }
}

#[test]
fn what_is_replaced_is_kept() {
    let (disk, batches, _) = made(false);
    let batch = batches.iter().find(|b| b.segment == 2 && b.record_count > 0).expect("some");
    flip(&disk, 2, batch.offset + 140);
    let damaged = disk.read_file(&file_name(2));
    let report = repaired(&disk);
    let [kept] = &report.kept[..] else { panic!("{report:?}") };
    assert!(disk.read_file(kept) == damaged);
    let (log, report) = Log::open_on(Arc::new(disk.clone()), config(false)).expect("repaired");
    assert!(report.foreign.is_empty(), "{report:?}");
    log.trim(log.durable_lsn()).expect("it is durable");
    log.close().expect("nothing fails");
    assert!(disk.read_file(kept) == damaged, "nobody but a person removes it");
}

#[test]
fn d13_a_missing_segment_is_bridged() {
    let (whole, batches, end) = made(false);
    for segment in 1..=4 {
        let disk = SimDisk::new(2);
        for (name, content) in files(&whole) {
            disk.write_file(&name, &content);
        }
        disk.remove_file(&file_name(segment));
        let of_it = || batches.iter().filter(|batch| batch.segment == segment);
        let first = of_it().map(|batch| batch.base_lsn).min().expect("some");
        let last = of_it().map(BatchHeader::end_lsn).max().expect("some");
        let report = repaired(&disk);
        assert_eq!(report.lost(), [first..last], "segment {segment}: {report:?}");
        holds_all_but(&disk, &[first..last], end);
    }
}

/// Nothing is left but what says that there was something.
#[test]
fn d13_every_segment_is_missing() {
    let (disk, _, end) = made(false);
    for segment in 1..=5 {
        disk.remove_file(&file_name(segment));
    }
    let report = repaired(&disk);
    assert_eq!(report.lost(), [Lsn::FIRST..end]);
    holds_all_but(&disk, &[Lsn::FIRST..end], end);
}

#[test]
fn d15_a_truncated_segment_keeps_what_is_there() {
    let (whole, _, end) = made(false);
    for segment in 1..=4 {
        for bytes in [0, 512, 5000, 30_000, SEGMENT_BYTES - 512] {
            let disk = SimDisk::new(2);
            for (name, content) in files(&whole) {
                disk.write_file(&name, &content);
            }
            disk.truncate_file(&file_name(segment), bytes);
            let report = repaired(&disk);
            assert!(report.lost().len() < 2, "{report:?}");
            holds_all_but(&disk, &report.lost(), end);
        }
    }
}

/// With parity nothing is lost, not even when the end of the file is gone.
#[test]
fn d15_a_truncated_segment_is_rebuilt_from_parity() {
    let (whole, _, end) = made(true);
    for segment in 1..=3 {
        let disk = SimDisk::new(2);
        for (name, content) in files(&whole) {
            disk.write_file(&name, &content);
        }
        disk.truncate_file(&file_name(segment), SEGMENT_BYTES - 8192);
        let report = repaired(&disk);
        assert_eq!(report.steps, [RepairStep::MendSegment { segment }]);
        assert!(disk.read_file(&file_name(segment)) == whole.read_file(&file_name(segment)));
        holds_all_but(&disk, &[], end);
    }
}

#[test]
fn damaged_ends_are_made_anew() {
    let (whole, _, end) = made(false);
    for segment in 1..=3 {
        for ends in [vec![70], vec![70, SEGMENT_BYTES - 400], vec![SEGMENT_BYTES - 400]] {
            let disk = SimDisk::new(2);
            for (name, content) in files(&whole) {
                disk.write_file(&name, &content);
            }
            for offset in &ends {
                flip(&disk, segment, *offset);
            }
            let report = repaired(&disk);
            assert_eq!(report.steps, [RepairStep::RewriteSegment { segment }], "{ends:?}");
            holds_all_but(&disk, &[], end);
        }
    }
}

#[test]
fn several_places_at_once() {
    let (disk, batches, end) = made(false);
    let hurt: Vec<&BatchHeader> =
        batches.iter().filter(|batch| batch.record_count > 0).step_by(7).collect();
    assert!(hurt.len() > 5);
    for batch in &hurt {
        flip(&disk, batch.segment, batch.offset + 140);
    }
    let report = repaired(&disk);
    let lost: Vec<Range<Lsn>> = hurt.iter().map(|batch| batch.base_lsn..batch.end_lsn()).collect();
    assert_eq!(report.lost(), lost);
    holds_all_but(&disk, &lost, end);
}

/// D9: the identity is in every segment.
#[test]
fn d9_both_superblock_copies_damaged() {
    let (disk, batches, end) = made(true);
    let newest = batches.iter().map(|batch| batch.epoch).max().expect("some");
    for damage in 0..2 {
        match damage {
            0 => [40, 4096 + 40].into_iter().for_each(|at| disk.flip_bit("superblock", at * 8)),
            _ => disk.remove_file("superblock"),
        }
        let report = repaired(&disk);
        assert_eq!(report.steps, [RepairStep::RebuildSuperblock]);
        let (log, report) = Log::open_on(Arc::new(disk.clone()), config(true)).expect("repaired");
        assert!(report.epoch > newest, "promises do not go back: {report:?}");
        drop(log);
        disk.restart_losing_all();
    }
    holds_all_but(&disk, &[], end);
}

#[test]
fn what_cannot_be_repaired_says_so() {
    let disk = SimDisk::new(1);
    assert!(matches!(repair_on(&disk, true), Err(RepairError::Open(OpenError::NotFound(_)))));
    let (log, _) = Log::open_on(Arc::new(disk.clone()), config(true)).expect("an empty disk");
    for confirmed in [false, true] {
        let error = repair_on(&disk, confirmed).expect_err("a writer is at work");
        assert!(matches!(error, RepairError::Open(OpenError::Locked(_))), "{error:?}");
    }
    log.close().expect("nothing fails");
    disk.write_file("superblock", &[0; 8192]);
    let error = repair_on(&disk, true).expect_err("nothing says which log this is");
    assert!(matches!(error, RepairError::Impossible(_)), "{error:?}");
}

/// C9: at every operation of the repair.
#[test]
fn a_power_cut_during_a_repair() {
    let (whole, batches, end) = made(false);
    let batch = batches.iter().find(|b| b.segment == 2 && b.record_count > 0).expect("some");
    let damaged = || {
        let disk = SimDisk::new(2);
        for (name, content) in files(&whole) {
            disk.write_file(&name, &content);
        }
        flip(&disk, 2, batch.offset + 140);
        zero(&disk, 3, 0..512);
        disk
    };
    let lost = batch.base_lsn..batch.end_lsn();
    for cut in 1.. {
        let mut is_done = false;
        for seed in 0..4 {
            let disk = damaged();
            disk.cut_at(disk.operations() + cut);
            let repaired = repair_on(&disk, true);
            disk.restart(cut * 7 + seed);
            is_done |= repaired.is_ok();
            let report = repair_on(&disk, true).expect("the rest is done");
            assert!(report.lost().is_empty() || report.lost() == [lost.clone()], "cut {cut}");
            holds_all_but(&disk, std::slice::from_ref(&lost), end);
        }
        if is_done {
            assert!(cut > 20, "a repair worth cutting: {cut}");
            break;
        }
    }
}
