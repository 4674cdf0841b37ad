//! Deliberate repair: D7, D9, D13 and D15, and requirement 25 (what is found, kept and lost is said).
//!
//! Each damage is planned for (nothing changes), repaired, and then the log opens, holds everything that
//! was whole, gives a typed error for what was lost, and takes new records behind it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use cairnlog_engine::disk::sim::{PowerCut, SimDisk};
use cairnlog_engine::format::batch::BatchHeader;
use cairnlog_engine::format::checkpoint::{Kind, file_name as checkpoint_name};
use cairnlog_engine::format::segment::file_name;
use cairnlog_engine::{
    Config, Epoch, Inspected, Log, LogReader, Lsn, OpenError, ReadError, RepairError, RepairReport,
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
    made_of(4, parity)
}

/// The same with so many segments; of more than four, the engine's checkpoint lists the sealed ones.
fn made_of(segments: u64, parity: bool) -> (SimDisk, Vec<BatchHeader>, Lsn) {
    let disk = SimDisk::new(1);
    let (log, _) = Log::open_on(Arc::new(disk.clone()), config(parity)).expect("an empty disk");
    let mut in_active = 0;
    while in_active < 6 {
        let next = log.end_lsn().get();
        log.append_batch(&[record(next), record(next + 1)]).expect("nothing fails");
        in_active += u32::from(log.stats().segments == segments);
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

fn copy(disk: &SimDisk) -> SimDisk {
    let copied = SimDisk::new(2);
    for (name, content) in files(disk) {
        copied.write_file(&name, &content);
    }
    copied
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
            let disk = copy(&whole);
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
        let disk = copy(&whole);
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
            let disk = copy(&whole);
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
        let disk = copy(&whole);
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
            let disk = copy(&whole);
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

/// D7: of the last batches only the headers are left, and they are the only evidence of what is lost.
#[test]
fn d7_only_the_headers_of_the_last_batches_are_left() {
    for without_superblock in [false, true] {
        let (disk, batches, _) = made(false);
        let [.., first, second, third] = &batches[..] else { panic!("there are more") };
        for batch in [first, second, third] {
            flip(&disk, batch.segment, batch.offset + 200);
        }
        let names = disk.files().into_iter();
        names.filter(|name| name == "watermark" || name.ends_with(".segments")).for_each(|name| {
            disk.remove_file(&name);
        });
        if without_superblock {
            disk.remove_file("superblock");
        }
        let report = repaired(&disk);
        // The third was written when the two before it were durable.
        let lost = first.base_lsn..third.base_lsn;
        assert_eq!(third.durable_lsn, third.base_lsn);
        assert_eq!(report.lost(), std::slice::from_ref(&lost));
        holds_all_but(&disk, &[lost], third.base_lsn);
    }
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

/// A segment as it is, or kept beside the log as it was.
fn is_kept(disk: &SimDisk, segment: u64, before: &[u8]) -> bool {
    let name = file_name(segment);
    let copies = format!("{name}.replaced-");
    // A temporary file is removed by the next open.
    let is_copy = |file: &String| file.starts_with(&copies) && !file.ends_with(".tmp");
    let mut kept = disk.files().into_iter().filter(|file| *file == name || is_copy(file));
    kept.any(|file| disk.read_file(&file) == before)
}

/// C9: at every operation of the repair of some segments.
fn cut_at_every_operation(damaged: &SimDisk, segments: &[u64], lost: &[Range<Lsn>], end: Lsn) {
    for cut in 1.. {
        let mut is_done = false;
        for seed in 0..4 {
            let disk = copy(damaged);
            disk.cut_at(disk.operations() + cut);
            let repaired = repair_on(&disk, true);
            for outcome in 0..8 {
                let disk = disk.after(PowerCut::Seeded(cut * 31 + outcome));
                for segment in segments {
                    let before = damaged.read_file(&file_name(*segment));
                    assert!(is_kept(&disk, *segment, &before), "cut {cut}: segment {segment}");
                }
            }
            match seed {
                0 => disk.restart_losing_all(),
                seed => disk.restart(cut * 7 + seed),
            }
            is_done |= repaired.is_ok();
            let report = repair_on(&disk, true).expect("the rest is done");
            assert!(repaired.is_err() || report.steps.is_empty(), "cut {cut}: it was answered");
            assert!(report.lost().is_empty() || report.lost() == lost, "cut {cut}");
            holds_all_but(&disk, lost, end);
        }
        if is_done {
            assert!(cut > 12, "a repair worth cutting: {cut}");
            return;
        }
    }
}

/// One batch of segment 2 is damaged, and the header of segment 3.
fn damaged_twice() -> (SimDisk, Range<Lsn>, Lsn) {
    let (disk, batches, end) = made(false);
    let batch = batches.iter().find(|b| b.segment == 2 && b.record_count > 0).expect("some");
    flip(&disk, 2, batch.offset + 140);
    zero(&disk, 3, 0..512);
    (disk, batch.base_lsn..batch.end_lsn(), end)
}

#[test]
fn a_power_cut_during_a_repair() {
    let (damaged, lost, end) = damaged_twice();
    cut_at_every_operation(&damaged, &[2, 3], &[lost], end);
}

#[test]
fn a_power_cut_during_a_repair_from_parity() {
    let (damaged, _, end) = made(true);
    for segment in [2, 3] {
        flip(&damaged, segment, 9000);
        flip(&damaged, segment, 31_000);
    }
    cut_at_every_operation(&damaged, &[2, 3], &[], end);
}

/// D11: a new segment that the medium lost does not take the place of what is left of the old one.
#[test]
fn d11_a_lost_write_during_a_repair() {
    let (damaged, lost, end) = damaged_twice();
    let mut refused = 0;
    for nth in 1..30 {
        let disk = copy(&damaged);
        disk.lose_nth_write(nth);
        refused += u32::from(repair_on(&disk, true).is_err());
        disk.restart_losing_all();
        repair_on(&disk, true).expect("nothing lies any more");
        holds_all_but(&disk, std::slice::from_ref(&lost), end);
    }
    assert!(refused > 5, "{refused} were noticed");
}

/// D6: more damage than parity makes up for. What was derived from the segment as it was goes with it.
#[test]
fn what_a_segment_was_is_forgotten() {
    for parity in [true, false] {
        let (disk, batches, end) = made_of(7, parity);
        let listed = disk.files().iter().any(|name| name.ends_with(".segments"));
        assert!(listed, "the engine's checkpoint lists what is damaged");
        let of_it = batches.iter().filter(|b| b.segment == 2 && b.record_count > 0);
        for batch in of_it.step_by(2).take(4) {
            flip(&disk, 2, batch.offset + 140);
        }
        let report = repaired(&disk);
        assert_eq!(report.lost().len(), 4, "{report:?}");
        let verified = verify_on(&disk, &mut |_, _| {}).expect("there is a log");
        assert!(verified.is_whole(), "{verified:?}");
        holds_all_but(&disk, &report.lost(), end);
    }
}

/// D8: it is kept beside the log, and the one before it serves.
#[test]
fn d8_a_damaged_checkpoint_is_put_aside() {
    let (disk, _, end) = made(true);
    let (log, _) = Log::open_on(Arc::new(disk.clone()), config(true)).expect("it is whole");
    for lsn in [Lsn::new(5), end] {
        log.checkpoint(lsn, |out| out.write_all(b"state")).expect("nothing fails");
    }
    log.close().expect("nothing fails");
    let name = checkpoint_name(Kind::State, end);
    disk.flip_bit(&name, 8 * 4100);
    let damaged = disk.read_file(&name);
    let report = repaired(&disk);
    disk.restart_losing_all();
    assert_eq!(report.steps, [RepairStep::SetCheckpointAside { name: name.clone() }]);
    let [kept] = &report.kept[..] else { panic!("{report:?}") };
    assert!(!disk.files().contains(&name) && disk.read_file(kept) == damaged);
    let (log, report) = Log::open_on(Arc::new(disk.clone()), config(true)).expect("repaired");
    assert!(report.foreign.is_empty(), "{report:?}");
    let newest = log.newest_checkpoint().expect("one is whole").expect("there is one");
    assert_eq!((newest.lsn(), newest.passed_over().len()), (Lsn::new(5), 0));
}

/// D9: an epoch that stands in nothing but a checkpoint was promised all the same.
#[test]
fn d9_an_epoch_that_only_a_checkpoint_knows() {
    let (disk, _, end) = made(true);
    let mut promised = Epoch::NONE;
    for life in 0..4 {
        let (log, report) = Log::open_on(Arc::new(disk.clone()), config(true)).expect("whole");
        if life == 3 {
            log.checkpoint(end, |out| out.write_all(b"state")).expect("nothing fails");
        }
        promised = report.epoch;
        log.close().expect("nothing fails");
    }
    disk.remove_file("superblock");
    assert_eq!(repaired(&disk).steps, [RepairStep::RebuildSuperblock]);
    let (_, report) = Log::open_on(Arc::new(disk.clone()), config(true)).expect("repaired");
    assert!(report.epoch > promised, "{:?} was promised before {:?}", promised, report.epoch);
}
