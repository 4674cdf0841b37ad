//! The log that is damaged, and what is asked of it afterwards.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, OnceLock};

use cairnlog_engine::disk::sim::SimDisk;
use cairnlog_engine::format::batch::{BatchHeader, HEADER_BYTES};
use cairnlog_engine::format::segment::file_name;
use cairnlog_engine::{
    Config, Corruption, Inspected, Log, LogReader, Lsn, OpenError, RecoveryReport, Verdict,
    VerifyReport, inspect_on, verify_on,
};

pub(crate) const BLOCK_BYTES: u64 = 512;
pub(crate) const SEGMENT_BYTES: u64 = 64 << 10;
pub(crate) const COPY_BYTES: u64 = 4096;
pub(crate) const SEALED: u64 = 3;
pub(crate) const ACTIVE: u64 = SEALED + 1;

pub(crate) type Files = BTreeMap<String, Vec<u8>>;

pub(crate) fn config() -> Config {
    let mut config = Config::with_segment_bytes(SEGMENT_BYTES);
    config.block_bytes = 512;
    // What parity makes up for is tested in `parity.rs`.
    config.parity = false;
    config
}

/// A closed log, and what is in it.
pub(crate) struct Made {
    pub(crate) disk: SimDisk,
    /// By LSN - 1.
    pub(crate) records: Vec<Vec<u8>>,
    /// Batches with records, in order.
    pub(crate) batches: Vec<BatchHeader>,
}

impl Made {
    /// A copy of the log that follows from the seed, 1 or 2.
    pub(crate) fn new(seed: u64) -> Made {
        static WRITTEN: [OnceLock<Made>; 2] = [const { OnceLock::new() }; 2];
        let which = usize::try_from(seed).expect("64-bit targets") - 1;
        WRITTEN[which].get_or_init(|| Made::write(seed)).copy()
    }

    pub(crate) fn copy(&self) -> Made {
        let disk = SimDisk::new(9);
        for (name, content) in files(&self.disk) {
            disk.write_file(&name, &content);
        }
        Made { disk, records: self.records.clone(), batches: self.batches.clone() }
    }

    pub(crate) fn write(seed: u64) -> Made {
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
        assert_eq!(
            files(&made.disk).len(),
            8,
            "superblock, watermark, 4 segments, 1 prepared, the reserve"
        );
        made
    }

    pub(crate) fn batches_on_disk(&self) -> Vec<BatchHeader> {
        let mut batches = Vec::new();
        let mut see = |seen| {
            match seen {
                Inspected::Batch { header, body_is_whole: true } if header.record_count > 0 => {
                    batches.push(header);
                }
                _ => {}
            }
            ControlFlow::Continue(())
        };
        inspect_on(&self.disk, &mut see).expect("the directory can be read");
        batches
    }

    pub(crate) fn batches_of(&self, segment: u64) -> Vec<&BatchHeader> {
        self.batches.iter().filter(|batch| batch.segment == segment).collect()
    }

    pub(crate) fn base_lsn(&self, segment: u64) -> Lsn {
        self.batches_of(segment)[0].base_lsn
    }

    pub(crate) fn end_lsn(&self) -> Lsn {
        Lsn::new(self.records.len() as u64 + 1)
    }

    pub(crate) fn open(&self) -> Result<(Log, RecoveryReport), OpenError> {
        Log::open_on(Arc::new(self.disk.clone()), config())
    }

    pub(crate) fn verify(&self) -> VerifyReport {
        verify_on(&self.disk, &mut |_, _| {}).expect("there is a log to verify")
    }

    /// Everything that only reads, over whatever there is: it neither panics nor changes a byte, and
    /// hands out nothing but what was appended.
    pub(crate) fn look_at_everything(&self) {
        let before = files(&self.disk);
        let _ = verify_on(&self.disk, &mut |_, _| {});
        let _ = inspect_on(&self.disk, &mut |_| ControlFlow::Continue(()));
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
    pub(crate) fn check_until_damage(&self, records: cairnlog_engine::Records) -> (u64, Lsn) {
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

    pub(crate) fn record(&self, lsn: Lsn) -> &[u8] {
        &self.records[usize::try_from(lsn.get()).expect("64-bit targets") - 1]
    }

    /// The open is refused with this verdict, and nothing is touched by it or by looking.
    pub(crate) fn refused(&self) -> Verdict {
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

    pub(crate) fn refused_as_damaged(&self) -> Corruption {
        match self.refused() {
            Verdict::Damaged(corruption) => corruption,
            other => panic!("{other:?}"),
        }
    }

    /// The log opens, holds every record, takes more, and holds all after another open.
    pub(crate) fn opens_whole(&self) -> RecoveryReport {
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

    pub(crate) fn holds_everything(&self, log: &Log) {
        let range = ..self.end_lsn();
        let records = log.iter(range).expect("the range is the log's own");
        let (count, end) = self.check_until_damage(records);
        assert_eq!((count, end), (self.records.len() as u64, Lsn::MAX));
    }
}

pub(crate) fn record(seed: u64, number: usize) -> Vec<u8> {
    let bytes = [0, 30, 700, 1500][number % 4];
    let mut record = format!("{seed}/{number}:").into_bytes();
    record.resize(record.len() + bytes, u8::try_from(number % 251).expect("below 251"));
    record
}

pub(crate) fn files(disk: &SimDisk) -> Files {
    disk.files().into_iter().map(|name| (name.clone(), disk.read_file(&name))).collect()
}

pub(crate) fn assert_same(before: &Files, after: &Files) {
    let names = |files: &Files| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(before), names(after), "no file comes or goes");
    for (name, bytes) in before {
        assert!(bytes == &after[name], "{name} was changed");
    }
}

/// Overwrites bytes of a file, durably.
pub(crate) fn patch(disk: &SimDisk, name: &str, offset: u64, bytes: &[u8]) {
    let mut content = disk.read_file(name);
    let start = usize::try_from(offset).expect("64-bit targets");
    content[start..start + bytes.len()].copy_from_slice(bytes);
    disk.write_file(name, &content);
}

pub(crate) fn flip(disk: &SimDisk, segment: u64, offset: u64) {
    disk.flip_bit(&file_name(segment), offset * 8 + 3);
}

pub(crate) fn body_of(batch: &BatchHeader) -> u64 {
    batch.offset + HEADER_BYTES as u64 + 9
}

pub(crate) fn assert_at(verdict: &Verdict, at_segment: u64, at_offset: u64, at_lsn: Lsn) {
    let place = match verdict {
        Verdict::Damaged(Corruption { segment, offset, lsn, .. }) => (*segment, *offset, *lsn),
        Verdict::LostDurable { range, segment, offset } => (*segment, *offset, range.start),
        other => panic!("{other:?}"),
    };
    assert_eq!(place, (at_segment, at_offset, at_lsn), "{verdict:?}");
}

pub(crate) fn first_lost(verdict: &Verdict) -> Lsn {
    match verdict {
        Verdict::Damaged(corruption) => corruption.lsn,
        Verdict::LostDurable { range, .. } => range.start,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn segment_of(verdict: &Verdict) -> u64 {
    match verdict {
        Verdict::Damaged(Corruption { segment, .. }) | Verdict::LostDurable { segment, .. } => {
            *segment
        }
        other => panic!("{other:?}"),
    }
}
