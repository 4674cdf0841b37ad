//! Every kind of damage to one file of a closed log, and what each part of the engine makes of it:
//!  P4 damage to what had been durable is reported (segment, offset, LSN, kind) and never cut away;
//!     an open that is refused changes no byte, and neither do `verify`, `inspect` and readers, ever;
//!  P9 no content of any file makes anything panic, or makes a reader hand out bytes nobody wrote;
//!  and what is whole stays readable behind the damage.
//!
//! The log has three sealed segments, an active one, and a prepared one behind it.

use std::collections::BTreeMap;
use std::sync::Arc;

use cairnlog_engine::disk::sim::SimDisk;
use cairnlog_engine::format::batch::{BatchHeader, HEADER_BYTES};
use cairnlog_engine::format::segment::{data_end, file_name};
use cairnlog_engine::format::version::{Fault, VERSION};
use cairnlog_engine::{
    Config, Corruption, Inspected, Log, LogReader, Lsn, OpenError, ReadError, RecoveryReport,
    Verdict, VerifyReport, inspect_on, verify_on,
};

const BLOCK_BYTES: u64 = 512;
const SEGMENT_BYTES: u64 = 64 << 10;
const COPY_BYTES: u64 = 4096;
const SEALED: u64 = 3;
const ACTIVE: u64 = SEALED + 1;

type Files = BTreeMap<String, Vec<u8>>;

fn config() -> Config {
    let mut config = Config::with_segment_bytes(SEGMENT_BYTES);
    config.block_bytes = 512;
    config
}

/// A closed log, and what is in it.
struct Made {
    disk: SimDisk,
    /// By LSN - 1.
    records: Vec<Vec<u8>>,
    /// Batches with records, in order.
    batches: Vec<BatchHeader>,
}

impl Made {
    fn new(seed: u64) -> Made {
        let disk = SimDisk::new(seed);
        let (log, _) = Log::open_on(Arc::new(disk.clone()), config()).expect("an empty disk opens");
        let mut records = Vec::new();
        let mut in_active = 0;
        while in_active < 5 {
            let batch: Vec<Vec<u8>> = (0..3).map(|n| record(seed, records.len() + n)).collect();
            log.append_batch(&batch).expect("nothing is in the way");
            records.extend(batch);
            in_active += u32::from(log.stats().segments == ACTIVE);
        }
        log.close().expect("nothing is in the way");
        disk.restart_losing_all();
        let mut made = Made { disk, records, batches: Vec::new() };
        made.batches = made.batches_on_disk();
        assert_eq!(made.batches.last().map(|b| b.segment), Some(ACTIVE), "the layout of the test");
        assert_eq!(files(&made.disk).len(), 7, "superblock, watermark, 4 segments, 1 prepared");
        made
    }

    fn batches_on_disk(&self) -> Vec<BatchHeader> {
        let mut batches = Vec::new();
        let mut see = |seen| match seen {
            Inspected::Batch { header, body_is_whole: true } if header.record_count > 0 => {
                batches.push(header);
            }
            _ => {}
        };
        inspect_on(&self.disk, &mut see).expect("the directory can be read");
        batches
    }

    fn batches_of(&self, segment: u64) -> Vec<&BatchHeader> {
        self.batches.iter().filter(|batch| batch.segment == segment).collect()
    }

    fn base_lsn(&self, segment: u64) -> Lsn {
        self.batches_of(segment)[0].base_lsn
    }

    fn end_lsn(&self) -> Lsn {
        Lsn::new(self.records.len() as u64 + 1)
    }

    fn open(&self) -> Result<(Log, RecoveryReport), OpenError> {
        Log::open_on(Arc::new(self.disk.clone()), config())
    }

    fn verify(&self) -> VerifyReport {
        verify_on(&self.disk, &mut |_, _| {}).expect("there is a log to verify")
    }

    /// Everything that only reads, over whatever there is: it neither panics nor changes a byte, and
    /// hands out nothing but what was appended.
    fn look_at_everything(&self) {
        let before = files(&self.disk);
        let _ = verify_on(&self.disk, &mut |_, _| {});
        let _ = inspect_on(&self.disk, &mut |_| {});
        if let Ok(reader) = LogReader::open_on(Arc::new(self.disk.clone())) {
            let mut from = reader.range().start;
            while from < reader.range().end {
                let records = reader.iter(from..).expect("the start is in the range");
                from = self.check_until_damage(records).1;
            }
        }
        assert_same(&before, &files(&self.disk));
    }

    /// Reads on to the end or the first damage; how many records came, and the LSN to go on from.
    fn check_until_damage(&self, records: cairnlog_engine::Records) -> (u64, Lsn) {
        let mut count = 0;
        let mut next = records.next_lsn();
        for record in records {
            match record {
                Ok(record) => {
                    assert_eq!(record.lsn, next, "no gap, no duplicate");
                    assert_eq!(record.bytes(), self.record(next), "LSN {next}");
                    next = next.next();
                    count += 1;
                }
                Err(_) => return (count, next.next()),
            }
        }
        (count, Lsn::MAX)
    }

    fn record(&self, lsn: Lsn) -> &[u8] {
        &self.records[usize::try_from(lsn.get()).expect("64-bit targets") - 1]
    }

    /// The open is refused with this verdict, and nothing is touched by it or by looking.
    fn refused(&self) -> Verdict {
        self.look_at_everything();
        let before = files(&self.disk);
        let verdict = match self.open() {
            Err(OpenError::Damaged { report, .. }) => report.verdict,
            Err(other) => panic!("{other:?}"),
            Ok((_, report)) => panic!("opened: {report:?}"),
        };
        assert_same(&before, &files(&self.disk));
        let verified = self.verify();
        assert_eq!(verified.verdict, verdict, "verify says what recovery says");
        assert!(!verified.is_whole());
        verdict
    }

    fn refused_as_damaged(&self) -> Corruption {
        match self.refused() {
            Verdict::Damaged(corruption) => corruption,
            other => panic!("{other:?}"),
        }
    }

    /// The log opens, holds every record, takes more, and holds all after another open.
    fn opens_whole(&self) -> RecoveryReport {
        self.look_at_everything();
        let (log, report) = self.open().expect("nothing durable is damaged");
        assert_eq!(report.verdict, Verdict::Clean);
        assert_eq!(report.end_lsn, self.end_lsn());
        self.holds_everything(&log);
        assert_eq!(log.append(b"more").expect("the log goes on"), self.end_lsn());
        log.close().expect("nothing is in the way");
        let (log, _) = self.open().expect("nothing is damaged");
        self.holds_everything(&log);
        assert_eq!(log.read(self.end_lsn()).expect("it was durable").bytes(), b"more");
        report
    }

    fn holds_everything(&self, log: &Log) {
        let range = ..self.end_lsn();
        let records = log.iter(range).expect("the range is the log's own");
        let (count, end) = self.check_until_damage(records);
        assert_eq!((count, end), (self.records.len() as u64, Lsn::MAX));
    }
}

fn record(seed: u64, number: usize) -> Vec<u8> {
    let bytes = [0, 30, 700, 1500][number % 4];
    let mut record = format!("{seed}/{number}:").into_bytes();
    record.resize(record.len() + bytes, u8::try_from(number % 251).expect("below 251"));
    record
}

fn files(disk: &SimDisk) -> Files {
    disk.files().into_iter().map(|name| (name.clone(), disk.read_file(&name))).collect()
}

fn assert_same(before: &Files, after: &Files) {
    let names = |files: &Files| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(before), names(after), "no file comes or goes");
    for (name, bytes) in before {
        assert!(bytes == &after[name], "{name} was changed");
    }
}

/// Overwrites bytes of a file, durably.
fn patch(disk: &SimDisk, name: &str, offset: u64, bytes: &[u8]) {
    let mut content = disk.read_file(name);
    let start = usize::try_from(offset).expect("64-bit targets");
    content[start..start + bytes.len()].copy_from_slice(bytes);
    disk.write_file(name, &content);
}

fn flip(disk: &SimDisk, segment: u64, offset: u64) {
    disk.flip_bit(&file_name(segment), offset * 8 + 3);
}

fn body_of(batch: &BatchHeader) -> u64 {
    batch.offset + HEADER_BYTES as u64 + 9
}

#[test]
fn an_undamaged_log_is_whole() {
    let made = Made::new(1);
    let verified = made.verify();
    assert!(verified.is_whole(), "{verified:?}");
    assert_eq!(verified.records, made.records.len() as u64);
    assert_eq!((verified.end_lsn, verified.segments), (made.end_lsn(), ACTIVE));
    assert!(verified.notes.is_empty() && verified.foreign.is_empty(), "{verified:?}");
    let report = made.opens_whole();
    assert_eq!((report.segments, report.segments_scanned), (ACTIVE, 1));
}

#[test]
fn a_flipped_bit_in_a_durable_batch_of_the_active_segment() {
    let count = Made::new(1).batches_of(ACTIVE).len();
    for which in 0..count {
        let made = Made::new(1);
        let batch = made.batches_of(ACTIVE)[which].clone();
        flip(&made.disk, ACTIVE, body_of(&batch));
        let Corruption { segment, offset, lsn, fault } = made.refused_as_damaged();
        assert_eq!((segment, offset, lsn), (ACTIVE, batch.offset, batch.base_lsn));
        assert_eq!(fault, Fault::Body);
    }
    for which in 0..count - 1 {
        let made = Made::new(1);
        let batch = made.batches_of(ACTIVE)[which].clone();
        flip(&made.disk, ACTIVE, batch.offset + 40);
        let Corruption { segment, offset, lsn, fault } = made.refused_as_damaged();
        assert_eq!((segment, offset, lsn), (ACTIVE, batch.offset, batch.base_lsn));
        assert_eq!(fault, Fault::Checksum);
    }
}

/// Without a header nothing says that it was a batch but the watermark.
#[test]
fn a_flipped_bit_in_the_header_of_the_last_batch() {
    let made = Made::new(1);
    let last = made.batches.last().expect("there are batches").clone();
    flip(&made.disk, ACTIVE, last.offset + 40);
    assert_at(&made.refused(), ACTIVE, last.offset, last.base_lsn);
}

fn assert_at(verdict: &Verdict, at_segment: u64, at_offset: u64, at_lsn: Lsn) {
    let place = match verdict {
        Verdict::Damaged(Corruption { segment, offset, lsn, .. }) => (*segment, *offset, *lsn),
        Verdict::LostDurable { range, segment, offset } => (*segment, *offset, range.start),
        other => panic!("{other:?}"),
    };
    assert_eq!(place, (at_segment, at_offset, at_lsn), "{verdict:?}");
}

fn first_lost(verdict: &Verdict) -> Lsn {
    match verdict {
        Verdict::Damaged(corruption) => corruption.lsn,
        Verdict::LostDurable { range, .. } => range.start,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_last_durable_batch_zeroed() {
    let made = Made::new(1);
    let last = made.batches.last().expect("there are batches").clone();
    let zeros = vec![0; usize::try_from(last.length).expect("64-bit targets")];
    patch(&made.disk, &file_name(ACTIVE), last.offset, &zeros);
    let lost = Verdict::LostDurable {
        range: last.base_lsn..made.end_lsn(),
        segment: ACTIVE,
        offset: last.offset,
    };
    assert_eq!(made.refused(), lost);
}

#[test]
fn a_missing_segment() {
    for segment in 1..=ACTIVE {
        let made = Made::new(1);
        made.disk.remove_file(&file_name(segment));
        let corruption = made.refused_as_damaged();
        let expected =
            Corruption { segment, offset: 0, lsn: made.base_lsn(segment), fault: Fault::Missing };
        assert_eq!(corruption, expected);
    }
}

/// With no file behind it, only the watermark knows of it.
#[test]
fn a_missing_last_segment_with_nothing_behind() {
    let made = Made::new(1);
    made.disk.remove_file(&file_name(ACTIVE + 1));
    made.disk.remove_file(&file_name(ACTIVE));
    let lsn = made.base_lsn(ACTIVE);
    match made.refused() {
        Verdict::LostDurable { range, .. } => assert_eq!(range, lsn..made.end_lsn()),
        Verdict::Damaged(corruption) => assert_eq!(corruption.lsn, lsn),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_segment_missing() {
    let made = Made::new(1);
    for segment in 1..=ACTIVE + 1 {
        made.disk.remove_file(&file_name(segment));
    }
    assert_at(&made.refused(), 1, 0, Lsn::FIRST);
}

#[test]
fn a_truncated_segment_is_refused() {
    for segment in 1..=ACTIVE {
        for bytes in [0, 1, 511, 512, 1000, 1536, 20_000, 32_768, SEGMENT_BYTES - 512] {
            let made = Made::new(1);
            made.disk.truncate_file(&file_name(segment), bytes);
            assert_eq!(
                first_lost(&made.refused()),
                made.base_lsn(segment),
                "segment {segment}, {bytes} bytes left"
            );
        }
    }
}

/// The report must lead the operator to the file that is damaged.
#[test]
fn a_truncated_segment_is_named() {
    for segment in 1..=ACTIVE {
        for bytes in [0, 512, 1536, 32_768, SEGMENT_BYTES - 512] {
            let made = Made::new(1);
            made.disk.truncate_file(&file_name(segment), bytes);
            let named = segment_of(&made.refused());
            assert_eq!(named, segment, "{bytes} bytes left");
        }
    }
}

fn segment_of(verdict: &Verdict) -> u64 {
    match verdict {
        Verdict::Damaged(Corruption { segment, .. }) | Verdict::LostDurable { segment, .. } => {
            *segment
        }
        other => panic!("{other:?}"),
    }
}

/// More bytes than a segment has are as little its own as fewer.
#[test]
fn a_lengthened_segment_is_refused() {
    for segment in 1..=ACTIVE {
        for more in [1, 512, SEGMENT_BYTES] {
            let made = Made::new(1);
            made.disk.truncate_file(&file_name(segment), SEGMENT_BYTES + more);
            assert_eq!(first_lost(&made.refused()), made.base_lsn(segment), "{more} bytes more");
        }
    }
}

/// The active segment as it was some time ago, say out of a backup: only the watermark knows better.
#[test]
fn an_older_copy_of_the_active_segment_is_refused() {
    let made = Made::new(1);
    let name = file_name(ACTIVE);
    let old = made.disk.read_file(&name);
    let (log, _) = made.open().expect("nothing is damaged");
    log.append(b"newer").expect("the log goes on");
    log.close().expect("nothing is in the way");
    made.disk.write_file(&name, &old);
    let Verdict::LostDurable { range, segment, .. } = made.refused() else {
        panic!("one record is gone, with nothing in its place");
    };
    assert_eq!((range, segment), (made.end_lsn()..made.end_lsn().next(), ACTIVE));
}

fn swapped(one: u64, other: u64) -> Made {
    let made = Made::new(1);
    let (first, second) = (file_name(one), file_name(other));
    let (content, other_content) = (made.disk.read_file(&first), made.disk.read_file(&second));
    made.disk.write_file(&first, &other_content);
    made.disk.write_file(&second, &content);
    made
}

#[test]
fn two_swapped_segments_are_refused() {
    for one in 1..ACTIVE {
        for other in one + 1..=ACTIVE {
            let made = swapped(one, other);
            assert_eq!(first_lost(&made.refused()), made.base_lsn(one), "{one} and {other}");
        }
    }
}

#[test]
fn two_swapped_segments_are_named() {
    for one in 1..ACTIVE {
        for other in one + 1..=ACTIVE {
            let corruption = swapped(one, other).refused_as_damaged();
            assert_eq!((corruption.segment, corruption.fault), (one, Fault::Misplaced));
        }
    }
}

/// A log with the segment of another log in place of one of its own.
fn with_foreign_segment(segment: u64) -> Made {
    let (made, other) = (Made::new(1), Made::new(2));
    let name = file_name(segment);
    made.disk.write_file(&name, &other.disk.read_file(&name));
    made
}

#[test]
fn a_segment_of_another_log_is_refused() {
    for segment in 1..=ACTIVE {
        let made = with_foreign_segment(segment);
        assert_eq!(first_lost(&made.refused()), made.base_lsn(segment));
    }
}

#[test]
fn a_segment_of_another_log_is_named() {
    for segment in 1..=ACTIVE {
        let corruption = with_foreign_segment(segment).refused_as_damaged();
        assert_eq!((corruption.segment, corruption.fault), (segment, Fault::ForeignLog));
    }
}

/// A segment of another log behind the end is in nobody's way, or the open is refused; it is never
/// written to and never removed: it may be all that is left of the other log.
#[test]
fn a_segment_of_another_log_behind_the_end_is_not_touched() {
    for behind in 1..=2 {
        let (made, other) = (Made::new(1), Made::new(2));
        let name = file_name(ACTIVE + behind);
        let foreign = other.disk.read_file(&file_name(ACTIVE));
        made.disk.write_file(&name, &foreign);
        made.look_at_everything();
        if let Ok((log, _)) = made.open() {
            made.holds_everything(&log);
            for number in 0..100 {
                log.append(&record(3, number)).expect("the log goes on");
            }
            log.close().expect("nothing is in the way");
        }
        let there = made.disk.files().contains(&name);
        assert!(there && made.disk.read_file(&name) == foreign, "{name} was touched");
    }
}

#[test]
fn foreign_files_are_reported_and_left_alone() {
    let made = Made::new(1);
    let names = ["notes.txt", "7.seg", "00000000000000000001.seg.bak", "superblock.old", "x.tmp"];
    for name in names {
        made.disk.write_file(name, b"somebody's");
    }
    made.disk.plant_directory("folder");
    let report = made.opens_whole();
    let mut foreign = report.foreign;
    foreign.sort();
    let mut expected: Vec<String> = names.map(str::to_owned).into();
    expected.push("folder".to_owned());
    expected.sort();
    assert_eq!(foreign, expected);
    let mut verified = made.verify().foreign;
    verified.sort();
    assert_eq!(verified, expected);
    for name in names {
        assert_eq!(made.disk.read_file(name), b"somebody's");
    }
}

#[test]
fn a_directory_of_another_program_is_refused() {
    let disk = SimDisk::new(1);
    disk.write_file("PG_VERSION", b"17");
    let error = Log::open_on(Arc::new(disk.clone()), config()).expect_err("not a log");
    assert!(matches!(&error, OpenError::NotALog { found, .. } if found == "PG_VERSION"), "{error}");
    assert_eq!(disk.files(), ["PG_VERSION"]);
    let _ = inspect_on(&disk, &mut |_| {});
    assert!(verify_on(&disk, &mut |_, _| {}).is_err());
    assert_eq!(disk.files(), ["PG_VERSION"]);
}

#[test]
fn a_log_is_not_made_unasked() {
    let disk = SimDisk::new(1);
    let mut config = config();
    config.create = false;
    let error = Log::open_on(Arc::new(disk.clone()), config).expect_err("there is none");
    assert!(matches!(error, OpenError::NotFound(_)), "{error:?}");
    assert!(LogReader::open_on(Arc::new(disk.clone())).is_err());
    assert!(disk.files().is_empty());
}

#[test]
fn a_directory_in_place_of_a_file() {
    let names = (1..=ACTIVE + 1).map(file_name).chain(["superblock".to_owned()]);
    for name in names {
        let made = Made::new(1);
        made.disk.plant_directory(&name);
        made.look_at_everything();
        let before = files(&made.disk);
        let error = made.open().expect_err("it is no file");
        assert!(matches!(&error, OpenError::NotAFile(n) if *n == name), "{name}: {error:?}");
        assert_same(&before, &files(&made.disk));
    }
}

#[test]
fn a_directory_in_place_of_the_watermark() {
    let made = Made::new(1);
    made.disk.plant_directory("watermark");
    made.look_at_everything();
    let before = files(&made.disk);
    let error = made.open().expect_err("it is no file");
    assert!(matches!(&error, OpenError::NotAFile(n) if n == "watermark"), "{error:?}");
    assert_same(&before, &files(&made.disk));
}

/// The damaged batch is refused with its place; the rest of the log is as readable as before.
#[test]
fn a_damaged_batch_of_a_sealed_segment() {
    for segment in 1..=SEALED {
        let count = Made::new(1).batches_of(segment).len();
        for which in [0, count / 2, count - 1] {
            for in_header in [false, true] {
                let made = Made::new(1);
                let batch = made.batches_of(segment)[which].clone();
                let at = if in_header { batch.offset + 40 } else { body_of(&batch) };
                flip(&made.disk, segment, at);
                let fault = if in_header { Fault::Checksum } else { Fault::Body };
                let (offset, lsn) = (batch.offset, batch.base_lsn);
                damaged_when_sealed(&made, &batch, &Corruption { segment, offset, lsn, fault });
            }
        }
    }
}

fn damaged_when_sealed(made: &Made, batch: &BatchHeader, expected: &Corruption) {
    made.look_at_everything();
    let verified = made.verify();
    assert_eq!((verified.verdict, &verified.damage[..]), (Verdict::Clean, &[expected.clone()][..]));
    let (log, report) = made.open().expect("sealed segments are not scanned on open");
    assert_eq!((report.verdict, report.end_lsn), (Verdict::Clean, made.end_lsn()));
    let before = files(&made.disk);
    let mut lsn = batch.base_lsn;
    while lsn < batch.end_lsn() {
        match log.read(lsn) {
            Err(ReadError::Corrupt(corruption)) => assert_eq!(corruption, *expected),
            other => panic!("{other:?}"),
        }
        lsn = lsn.next();
    }
    let all = log.iter(..).expect("the range is the log's own");
    let (count, _) = made.check_until_damage(all);
    assert_eq!(count, batch.base_lsn.get() - 1, "everything in front of the damage");
    let next_segment = made.base_lsn(expected.segment + 1);
    let behind = log.iter(next_segment..).expect("the start is in the log");
    assert_eq!(made.check_until_damage(behind), (made.end_lsn().since(next_segment), Lsn::MAX));
    let reader = LogReader::open_on(Arc::new(made.disk.clone())).expect("there is a log");
    let behind = reader.iter(next_segment..).expect("the start is in the log");
    assert_eq!(made.check_until_damage(behind), (made.end_lsn().since(next_segment), Lsn::MAX));
    assert_same(&before, &files(&made.disk));
    log.append(b"more").expect("appends go on");
}

/// "Others stay readable: read from a later LSN", says the error.
#[test]
fn records_behind_the_damage_in_the_same_segment_stay_readable() {
    let made = Made::new(1);
    let batches = made.batches_of(2);
    let (damaged, next) = (batches[2].clone(), batches[3].clone());
    flip(&made.disk, 2, body_of(&damaged));
    let (log, _) = made.open().expect("sealed segments are not scanned on open");
    let record = log.read(next.base_lsn).expect("this batch is whole");
    assert_eq!(record.bytes(), made.record(next.base_lsn));
    let behind = log.iter(next.base_lsn..).expect("the start is in the log");
    assert_eq!(made.check_until_damage(behind).0, made.end_lsn().since(next.base_lsn));
}

#[test]
fn a_damaged_header_of_a_sealed_segment_is_made_up_for_by_the_footer() {
    for segment in 1..=SEALED {
        let made = Made::new(1);
        flip(&made.disk, segment, 40);
        let damage = made.verify().damage;
        assert_eq!(damage.len(), 1, "{damage:?}");
        assert_eq!((damage[0].segment, damage[0].offset), (segment, 0));
        let report = made.opens_whole();
        assert!(report.notes.iter().any(|n| n.contains(&format!("segment {segment}"))));
    }
}

/// The first segment kept has nothing before it that tells what its first batch continues.
#[test]
fn a_damaged_header_of_the_first_segment_after_a_trim() {
    let made = Made::new(1);
    let (log, _) = made.open().expect("nothing is damaged");
    let first = log.trim(made.base_lsn(3)).expect("it is durable");
    assert_eq!(first, made.base_lsn(3));
    log.close().expect("nothing is in the way");
    flip(&made.disk, 3, 40);
    made.look_at_everything();
    let damage = made.verify().damage;
    assert_eq!(damage.len(), 1, "only the header is damaged: {damage:?}");
    let (log, report) = made.open().expect("the footer makes up for it");
    assert!(report.notes.iter().any(|n| n.contains("segment 3")), "{report:?}");
    let records = log.iter(..).expect("the range is the log's own");
    assert_eq!(made.check_until_damage(records), (made.end_lsn().since(first), Lsn::MAX));
}

/// Damages the last block of a segment.
fn with_damaged_footer(segment: u64) -> Made {
    let made = Made::new(1);
    flip(&made.disk, segment, SEGMENT_BYTES - BLOCK_BYTES + 40);
    made
}

#[test]
fn a_damaged_footer_is_made_up_for_by_a_scan() {
    for segment in 1..=SEALED {
        let report = with_damaged_footer(segment).opens_whole();
        assert_eq!(report.segments_scanned, 2, "that segment, and the active one");
    }
}

#[test]
fn a_segment_with_a_damaged_footer_is_sealed_again() {
    for segment in 1..=SEALED {
        let made = with_damaged_footer(segment);
        made.opens_whole();
        let (_log, report) = made.open().expect("nothing is damaged");
        assert_eq!(report.segments_scanned, 1, "segment {segment} is sealed again");
    }
}

/// A damaged footer must not keep a log from getting smaller for ever.
#[test]
fn a_segment_with_a_damaged_footer_can_be_trimmed() {
    for segment in 1..=SEALED {
        let made = with_damaged_footer(segment);
        made.opens_whole();
        let (log, _) = made.open().expect("nothing is damaged");
        let first = log.trim(made.end_lsn()).expect("it is durable");
        assert_eq!(first, made.base_lsn(ACTIVE), "all but the active segment are dropped");
    }
}

#[test]
fn a_damaged_index_is_done_without() {
    for segment in 1..=SEALED {
        let made = Made::new(1);
        flip(&made.disk, segment, data_end(SEGMENT_BYTES, 512) + 5);
        let damage = made.verify().damage;
        assert_eq!(damage.len(), 1, "{damage:?}");
        assert_eq!(damage[0].segment, segment);
        made.opens_whole();
    }
}

#[test]
fn both_superblock_copies_damaged_is_a_safe_halt() {
    type Damage = fn(&SimDisk);
    let damages: [Damage; 4] = [
        |disk| [40, COPY_BYTES + 40].iter().for_each(|at| disk.flip_bit("superblock", at * 8)),
        |disk| disk.write_file("superblock", &[0; 8192]),
        |disk| disk.truncate_file("superblock", 0),
        |disk| disk.truncate_file("superblock", 100),
    ];
    for damage in damages {
        let made = Made::new(1);
        damage(&made.disk);
        made.look_at_everything();
        let before = files(&made.disk);
        let error = made.open().expect_err("nobody can tell what was promised");
        assert!(matches!(error, OpenError::Superblock { .. }), "{error:?}");
        assert_same(&before, &files(&made.disk));
        let error = verify_on(&made.disk, &mut |_, _| {}).expect_err("nor can verify");
        assert!(matches!(error, OpenError::Superblock { .. }), "{error:?}");
    }
}

#[test]
fn a_missing_superblock_beside_segments_is_refused() {
    let made = Made::new(1);
    made.disk.remove_file("superblock");
    made.look_at_everything();
    let before = files(&made.disk);
    let error = made.open().expect_err("segments are not started anew");
    assert!(matches!(error, OpenError::Superblock { fault: Fault::Missing, .. }), "{error:?}");
    assert_same(&before, &files(&made.disk));
}

#[test]
fn one_damaged_superblock_copy_is_repaired() {
    for copy in 0..2 {
        for at in [0, 5, 40, 1000, COPY_BYTES - 1] {
            let made = Made::new(1);
            made.disk.flip_bit("superblock", (copy * COPY_BYTES + at) * 8);
            assert_eq!(made.verify().notes.len(), 1, "copy {copy}, byte {at}");
            made.opens_whole();
            let content = made.disk.read_file("superblock");
            let (first, second) = content.split_at(content.len() / 2);
            assert!(first == second, "the damaged copy was rewritten");
            assert!(made.verify().notes.is_empty());
        }
    }
    let made = Made::new(1);
    made.disk.truncate_file("superblock", COPY_BYTES);
    made.opens_whole();
    assert_eq!(made.disk.read_file("superblock").len(), 8192);
}

#[test]
fn a_damaged_watermark_only_loses_evidence() {
    let other = Made::new(2).disk.read_file("watermark");
    type Damage<'a> = &'a dyn Fn(&SimDisk);
    let damages: [Damage<'_>; 7] = [
        &|disk| disk.flip_bit("watermark", 40 * 8),
        &|disk| disk.flip_bit("watermark", (4096 + 40) * 8),
        &|disk| disk.write_file("watermark", &[0; 8192]),
        &|disk| disk.truncate_file("watermark", 0),
        &|disk| disk.truncate_file("watermark", 5000),
        &|disk| disk.remove_file("watermark"),
        &|disk| disk.write_file("watermark", &other),
    ];
    for damage in damages {
        let made = Made::new(1);
        damage(&made.disk);
        assert!(made.verify().is_whole());
        made.opens_whole();
        assert_eq!(made.disk.read_file("watermark").len(), 8192);
    }
}

/// Gives a structure another version and the checksum that goes with it.
fn raise_version(bytes: &mut [u8], checksum_at: usize) {
    bytes[4..6].copy_from_slice(&(VERSION + 1).to_le_bytes());
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..checksum_at]);
    hasher.update(&bytes[checksum_at + 4..]);
    bytes[checksum_at..checksum_at + 4].copy_from_slice(&hasher.finalize().to_le_bytes());
}

fn patch_version(disk: &SimDisk, name: &str, at: u64, bytes: u64, checksum_at: usize) {
    let content = disk.read_file(name);
    let start = usize::try_from(at).expect("64-bit targets");
    let end = start + usize::try_from(bytes).expect("64-bit targets");
    let mut structure = content[start..end].to_vec();
    raise_version(&mut structure, checksum_at);
    patch(disk, name, at, &structure);
}

#[test]
fn a_superblock_of_a_newer_version_is_refused() {
    let checksum_at = usize::try_from(COPY_BYTES).expect("64-bit targets") - 4;
    for copies in [&[0][..], &[1], &[0, 1]] {
        let made = Made::new(1);
        for copy in copies {
            patch_version(&made.disk, "superblock", copy * COPY_BYTES, COPY_BYTES, checksum_at);
        }
        made.look_at_everything();
        let before = files(&made.disk);
        let error = made.open().expect_err("a newer binary's");
        assert!(
            matches!(error, OpenError::Version { version, .. } if version == VERSION + 1),
            "{error:?}"
        );
        assert_same(&before, &files(&made.disk));
        let error = verify_on(&made.disk, &mut |_, _| {}).expect_err("a newer binary's");
        assert!(matches!(error, OpenError::Version { .. }), "{error:?}");
    }
}

/// A newer binary's batch or segment at the end of the log: refused untouched, whatever evidence
/// there is beside it.
#[test]
fn the_tail_of_a_newer_version_is_refused() {
    for has_watermark in [true, false] {
        for whole_segment in [false, true] {
            let made = Made::new(1);
            let last = made.batches.last().expect("there are batches").clone();
            if whole_segment {
                let name = file_name(ACTIVE);
                patch_version(&made.disk, &name, 0, BLOCK_BYTES, 252);
                for batch in made.batches_of(ACTIVE) {
                    let header = HEADER_BYTES as u64;
                    patch_version(&made.disk, &name, batch.offset, header, HEADER_BYTES - 4);
                }
            } else {
                let (name, header) = (file_name(ACTIVE), HEADER_BYTES as u64);
                patch_version(&made.disk, &name, last.offset, header, HEADER_BYTES - 4);
            }
            if !has_watermark {
                made.disk.remove_file("watermark");
            }
            made.look_at_everything();
            let before = files(&made.disk);
            let opened = made.open();
            assert!(
                opened.is_err(),
                "opened; watermark {has_watermark}, whole segment {whole_segment}: {:?}",
                opened.map(|(_, report)| report)
            );
            assert_same(&before, &files(&made.disk));
        }
    }
}

/// A sector of every file in turn, flipped, zeroed, or with the content of another one: nothing
/// panics, nobody gets wrong bytes, and no record goes missing without a word. In the ends of a file
/// each sector is damaged in each way, in its middle in one.
#[test]
fn no_damaged_sector_goes_unnoticed() {
    let made = Made::new(1);
    let whole = files(&made.disk);
    let sector = usize::try_from(BLOCK_BYTES).expect("64-bit targets");
    for (name, content) in &whole {
        let sectors = content.len() / sector;
        for number in 0..sectors {
            let at_an_end = number < 3 || number + 3 >= sectors;
            for way in (0..3).filter(|way| at_an_end || number % 3 == *way) {
                let (at, other) = (number * sector, (number + 7) % sectors * sector);
                let mut damaged = content.clone();
                match way {
                    0 => damaged[at + number % sector] ^= 0x10,
                    1 => damaged[at..at + sector].fill(0),
                    _ => damaged.copy_within(other..other + sector, at),
                }
                if damaged != *content {
                    damaged_anyhow(&made, &whole, name, &damaged, &format!("{name} {at} {way}"));
                }
            }
        }
    }
}

fn damaged_anyhow(made: &Made, whole: &Files, name: &str, damaged: &[u8], what: &str) {
    let disk = SimDisk::new(9);
    for (name, content) in whole {
        disk.write_file(name, content);
    }
    disk.write_file(name, damaged);
    let here = Made { disk, records: made.records.clone(), batches: Vec::new() };
    here.look_at_everything();
    let before = files(&here.disk);
    let verified = verify_on(&here.disk, &mut |_, _| {});
    match here.open() {
        Err(OpenError::Damaged { .. }) => {
            assert_same(&before, &files(&here.disk));
            assert!(!verified.expect("there is a log").is_whole(), "{what}");
        }
        Err(other) => panic!("{what}: {other:?}"),
        Ok((log, report)) => {
            assert_eq!(report.end_lsn, made.end_lsn(), "{what}: {report:?}");
            let records = log.iter(..).expect("the range is the log's own");
            let (count, _) = here.check_until_damage(records);
            let is_whole = verified.expect("there is a log").is_whole();
            assert!(count == here.records.len() as u64 || !is_whole, "{what}: verify missed it");
        }
    }
}
