//! Every operation of a workload fails once, and the disk runs full: what the engine says, and keeps.
//!  P1 nothing that was acknowledged is lost, whatever failed before or after;
//!  P5 after a failed write or sync the log is poisoned for good, and reads go on; reopening decides by
//!     what is on the medium;
//!  P10 without room appends are refused with a typed error, reads go on, and appends go on by
//!     themselves when there is room again.
//!
//! The disk is simulated: after a failed write or sync its cache and its medium may differ, and no
//! later sync mends that. [`every_fault`] lets the first operation of a kind fail, then the second, and
//! so on to the last one of the workload.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use cairnlog_engine::disk::sim::{OperationKind, SimDisk};
use cairnlog_engine::disk::{Access, Aligned, Appendable, Disk, DiskFile, Write};
use cairnlog_engine::{
    AppendError, ChangeError, Config, Log, LogReader, Lsn, OpenError, ReadError, RecoveryReport,
    Verdict,
};

/// More operations of one kind than the workload has.
const OPERATIONS_MAX: u64 = 5000;

fn config() -> Config {
    let mut config = Config::with_segment_bytes(64 << 10);
    config.block_bytes = 512;
    config.batch_bytes_max = 8 << 10;
    config.spare_segments_max = 1;
    config.hot_bytes_max = 64 << 10;
    config
}

fn open(disk: &SimDisk) -> Result<(Log, RecoveryReport), OpenError> {
    Log::open_on(Arc::new(disk.clone()), config())
}

/// What comes between a failure and the next open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Between {
    /// Only the process ends: the cache stays as it is.
    NewProcess,
    /// The power goes, and takes everything that was not durable.
    PowerCut,
}

/// Why the workload stopped before its end.
#[derive(Debug)]
enum Stop {
    Poisoned,
    Open,
}

/// What the test knows of one log over all its lives.
#[derive(Default)]
struct Model {
    /// By LSN: what may be there.
    written: BTreeMap<Lsn, Vec<u8>>,
    /// Every record below it was acknowledged.
    acknowledged: Lsn,
    /// The cell as it was last acknowledged, and what may have replaced it.
    cell: Vec<u8>,
    next_cell: Option<Vec<u8>>,
    /// The greatest LSN that was asked to be the first.
    trimmed: Lsn,
    counter: u64,
}

impl Model {
    fn record(&mut self) -> Vec<u8> {
        self.counter += 1;
        let bytes =
            [7000, 0, 90, 3000, 600, 5000, 1][usize::try_from(self.counter % 7).expect("< 7")];
        let mut record = self.counter.to_le_bytes().to_vec();
        record.resize(8 + bytes, self.counter.to_le_bytes()[0]);
        record
    }

    fn write(&mut self, lsn: Lsn, record: Vec<u8>) {
        self.written.insert(lsn, record);
    }

    /// Everything up to `lsn` was acknowledged.
    fn acknowledge(&mut self, lsn: Lsn) {
        self.acknowledged = self.acknowledged.max(lsn.next());
    }

    /// What the engine says about a failed append decides what may be in the log.
    fn failed(&mut self, log: &Log, error: &AppendError) -> Result<(), Stop> {
        match error {
            AppendError::Full(_) | AppendError::NoSegment(_) => {
                let end = log.end_lsn();
                assert!(end >= self.acknowledged, "an acknowledged LSN is not given again");
                self.written.split_off(&end);
                Ok(())
            }
            AppendError::Poisoned(_) => {
                self.check_poisoned(log);
                Err(Stop::Poisoned)
            }
            other => panic!("{other:?}"),
        }
    }

    fn append(&mut self, log: &Log) -> Result<(), Stop> {
        let (expected, record) = (log.end_lsn(), self.record());
        self.write(expected, record.clone());
        match log.append(&record) {
            Ok(lsn) => {
                assert_eq!(lsn, expected);
                self.acknowledge(lsn);
                Ok(())
            }
            Err(error) => self.failed(log, &error),
        }
    }

    fn append_batch(&mut self, log: &Log) -> Result<(), Stop> {
        let expected = log.end_lsn();
        let batch: Vec<Vec<u8>> = (0..3).map(|n| vec![n; 900]).collect();
        for (number, record) in (0..).zip(&batch) {
            self.write(expected.plus(number), record.clone());
        }
        match log.append_batch(&batch) {
            Ok(lsns) => {
                assert_eq!(lsns, expected..expected.plus(3));
                self.acknowledge(expected.plus(2));
                Ok(())
            }
            Err(error) => self.failed(log, &error),
        }
    }

    fn submit_some(&mut self, log: &Log) -> Result<(), Stop> {
        let mut tickets = Vec::new();
        for _ in 0..6 {
            let (expected, record) = (log.end_lsn(), self.record());
            match log.submit(&record) {
                Ok(ticket) => {
                    assert_eq!(ticket.lsns_if_durable().start, expected);
                    self.write(expected, record);
                    tickets.push(ticket);
                }
                Err(error) => self.failed(log, &error)?,
            }
        }
        let mut stop = Ok(());
        for ticket in tickets {
            let lsn = ticket.lsns_if_durable().start;
            match ticket.wait() {
                Ok(durable) => {
                    assert_eq!(durable, lsn);
                    self.acknowledge(lsn);
                }
                Err(error) => stop = stop.and(self.failed(log, &error)),
            }
        }
        stop
    }

    fn append_buffered(&mut self, log: &Log) -> Result<(), Stop> {
        for _ in 0..3 {
            let (expected, record) = (log.end_lsn(), self.record());
            match log.append_buffered(&record) {
                Ok(buffered) => {
                    assert_eq!(buffered.lsn_if_durable(), expected);
                    self.write(expected, record);
                }
                Err(error) => self.failed(log, &error)?,
            }
        }
        let end = log.end_lsn();
        match log.sync() {
            Ok(durable) => {
                assert_eq!(durable, end);
                self.acknowledged = self.acknowledged.max(end);
                Ok(())
            }
            Err(error) => self.failed(log, &error),
        }
    }

    fn changed(&mut self, log: &Log, error: &ChangeError) -> Result<(), Stop> {
        assert!(matches!(error, ChangeError::Poisoned(_)), "{error:?}");
        self.check_poisoned(log);
        Err(Stop::Poisoned)
    }

    fn set_cell(&mut self, log: &Log) -> Result<(), Stop> {
        let cell = self.record();
        let cell = cell[..cell.len().min(1024)].to_vec();
        self.next_cell = Some(cell.clone());
        match log.set_cell(&cell) {
            Ok(()) => {
                self.cell = cell;
                self.next_cell = None;
                Ok(())
            }
            Err(error) => self.changed(log, &error),
        }
    }

    fn trim(&mut self, log: &Log) -> Result<(), Stop> {
        let lsn = Lsn::new(log.durable_lsn().get() * 2 / 3).max(log.first_lsn());
        self.trimmed = self.trimmed.max(lsn);
        match log.trim(lsn) {
            Ok(first) => {
                assert!(first <= lsn);
                assert_eq!(first, log.first_lsn());
                Ok(())
            }
            Err(error) => self.changed(log, &error),
        }
    }

    /// Reads everything. A read that fails says why, and the next one goes well: faults come once.
    fn read(&self, log: &Log) {
        for read in [Model::read_all, Model::read_one, Model::read_by_time] {
            if let Err(error) = read(self, log) {
                assert!(matches!(error, ReadError::Io(_)), "{error:?}");
                read(self, log).expect("the fault came once");
            }
        }
    }

    fn read_all(&self, log: &Log) -> Result<(), ReadError> {
        let mut next = log.first_lsn();
        for record in log.iter(..)? {
            let record = record?;
            assert_eq!(record.lsn, next);
            self.check_record(next, record.bytes());
            next = next.next();
        }
        assert_eq!(next, log.durable_lsn(), "no gap up to the durable end");
        assert!(next >= self.acknowledged);
        Ok(())
    }

    fn read_one(&self, log: &Log) -> Result<(), ReadError> {
        let middle = Lsn::new(log.first_lsn().get().midpoint(log.durable_lsn().get()));
        if middle < log.durable_lsn() {
            self.check_record(middle, log.read(middle)?.bytes());
        }
        Ok(())
    }

    fn read_by_time(&self, log: &Log) -> Result<(), ReadError> {
        if log.first_lsn() < log.durable_lsn() {
            let first = log.read(log.first_lsn())?;
            assert_eq!(log.lsn_at_time(first.time_ms)?, first.lsn);
        }
        assert_eq!(log.lsn_at_time(u64::MAX)?, log.durable_lsn());
        Ok(())
    }

    fn check_record(&self, lsn: Lsn, bytes: &[u8]) {
        let written = self.written.get(&lsn);
        assert!(written.is_some_and(|written| written == bytes), "LSN {lsn}: nobody wrote this");
    }

    /// P5, on the log at hand.
    fn check_poisoned(&self, log: &Log) {
        let poisoned = |result: Result<(), AppendError>| {
            assert!(matches!(result, Err(AppendError::Poisoned(_))), "{result:?}");
        };
        poisoned(log.append(b"x").map(drop));
        poisoned(log.append_batch(&[b"x", b"y"]).map(drop));
        poisoned(log.submit(b"x").map(drop));
        poisoned(log.append_buffered(b"x").map(drop));
        poisoned(log.sync().map(drop));
        let cell = log.set_cell(b"x");
        assert!(matches!(cell, Err(ChangeError::Poisoned(_))), "{cell:?}");
        let trim = log.trim(log.first_lsn());
        assert!(matches!(trim, Err(ChangeError::Poisoned(_))), "{trim:?}");
        self.read(log);
    }

    /// What is there after an open.
    fn check_opened(&mut self, log: &Log, report: &RecoveryReport) {
        assert!(
            matches!(report.verdict, Verdict::Clean | Verdict::TornTail { .. }),
            "{:?}",
            report.verdict
        );
        assert!(
            report.first_lsn <= self.trimmed.max(Lsn::FIRST),
            "more was trimmed than asked for"
        );
        assert!(report.end_lsn >= self.acknowledged, "{} was acknowledged", self.acknowledged);
        assert_eq!((log.first_lsn(), log.end_lsn()), (report.first_lsn, report.end_lsn));
        assert_eq!(log.durable_lsn(), report.end_lsn);
        self.read(log);
        self.written.split_off(&report.end_lsn);
        self.acknowledged = report.end_lsn;
        let cell = log.cell();
        assert!(cell == self.cell || Some(&cell) == self.next_cell.as_ref(), "{cell:?}");
        (self.cell, self.next_cell) = (cell, None);
    }

    /// Two lives of a log, until something poisons it.
    fn run(&mut self, disk: &SimDisk) -> Result<(), Stop> {
        for _ in 0..2 {
            let (log, report) = match open(disk) {
                Ok(opened) => opened,
                Err(OpenError::Io(_) | OpenError::Full(_)) => return Err(Stop::Open),
                Err(other) => panic!("{other:?}"),
            };
            self.check_opened(&log, &report);
            for round in 0..4 {
                for _ in 0..3 {
                    self.append(&log)?;
                }
                self.append_batch(&log)?;
                self.submit_some(&log)?;
                self.append_buffered(&log)?;
                if round == 2 {
                    self.read(&log);
                    self.set_cell(&log)?;
                    self.trim(&log)?;
                }
            }
            let end = log.end_lsn();
            match log.close() {
                Ok(()) => self.acknowledged = end,
                Err(AppendError::Poisoned(_)) => return Err(Stop::Poisoned),
                Err(other) => panic!("{other:?}"),
            }
        }
        Ok(())
    }

    /// The fault has been: the log opens, holds what was acknowledged, and works, also after the power
    /// goes.
    fn check_after(&mut self, disk: &SimDisk) {
        for _ in 0..2 {
            let (log, report) = open(disk).expect("the fault came once");
            self.check_opened(&log, &report);
            for _ in 0..3 {
                self.append(&log).expect("the fault came once");
                self.submit_some(&log).expect("the fault came once");
            }
            let mut reader = LogReader::open_on(Arc::new(disk.clone())).expect("there is a log");
            reader.refresh().expect("there is a log");
            for record in reader.iter(..).expect("the range is the log's own") {
                let record = record.expect("nothing is damaged");
                self.check_record(record.lsn, record.bytes());
            }
            log.close().expect("the fault came once");
            disk.restart_losing_all();
        }
    }
}

/// How many operations of a kind the workload has: what is left of a distant fault behind it tells.
fn operations_of(kind: OperationKind) -> u64 {
    let disk = SimDisk::new(1);
    disk.fail_nth(kind, OPERATIONS_MAX, io::ErrorKind::Other);
    Model::default().run(&disk).expect("nothing fails");
    let left = (1..=OPERATIONS_MAX).find(|_| operation(&disk, kind).is_err());
    OPERATIONS_MAX - left.expect("the workload has fewer operations")
}

/// One operation of a kind, away from the log.
fn operation(disk: &SimDisk, kind: OperationKind) -> io::Result<()> {
    const NAME: &str = "probe";
    disk.write_file(NAME, &[0; 512]);
    let bytes = Aligned::zeroed(512);
    match kind {
        OperationKind::Create => disk.create("another", 0).and_then(|_| disk.remove("another")),
        OperationKind::Open => disk.open(NAME, Access::Read).map(drop),
        OperationKind::Rename => disk.rename(NAME, "renamed"),
        OperationKind::Remove => disk.remove(NAME),
        OperationKind::List => disk.list().map(drop),
        OperationKind::SyncDirectory => disk.sync_directory(),
        OperationKind::Read => disk.open(NAME, Access::Read)?.read_at(&mut [0], 0).map(drop),
        OperationKind::Write => disk.open(NAME, Access::Write)?.write_at(&bytes, 0),
        OperationKind::Sync => disk.open(NAME, Access::Write)?.sync(),
        OperationKind::Submit => submit(disk, disk.open(NAME, Access::Write)?),
    }
}

fn submit(disk: &SimDisk, file: Arc<dyn DiskFile>) -> io::Result<()> {
    let mut buffer = Appendable::alone(512);
    buffer.pad_to(512);
    let bytes = buffer.freeze();
    disk.write_queue()?.submit(Write { id: 1, file, offset: 0, bytes })
}

/// The whole loop for one kind; what came of it, for people who look with `--nocapture`.
fn every_fault(kind: OperationKind, error: io::ErrorKind, between: Between) {
    let operations = operations_of(kind);
    assert!(operations > 0, "the workload has no {kind:?}");
    let mut ends = [0_u64; 3];
    for nth in 1..=operations {
        println!("{kind:?} {nth} gives {error:?}, then {between:?}");
        ends[one_fault(kind, nth, error, between)] += 1;
    }
    let [went_on, poisoned, refused] = ends;
    println!("{went_on} times it went on, {poisoned} poisoned, {refused} not opened");
}

fn one_fault(kind: OperationKind, nth: u64, error: io::ErrorKind, between: Between) -> usize {
    let disk = SimDisk::new(1);
    disk.fail_nth(kind, nth, error);
    let mut model = Model::default();
    let ended = model.run(&disk);
    if between == Between::PowerCut {
        disk.restart_losing_all();
    }
    model.check_after(&disk);
    match ended {
        Ok(()) => 0,
        Err(Stop::Poisoned) => 1,
        Err(Stop::Open) => 2,
    }
}

#[test]
fn each_create_fails() {
    every_fault(OperationKind::Create, io::ErrorKind::Other, Between::NewProcess);
    every_fault(OperationKind::Create, io::ErrorKind::StorageFull, Between::PowerCut);
}

#[test]
fn each_open_fails() {
    every_fault(OperationKind::Open, io::ErrorKind::Other, Between::NewProcess);
    every_fault(OperationKind::Open, io::ErrorKind::StorageFull, Between::PowerCut);
}

#[test]
fn each_rename_fails() {
    every_fault(OperationKind::Rename, io::ErrorKind::Other, Between::NewProcess);
    every_fault(OperationKind::Rename, io::ErrorKind::StorageFull, Between::PowerCut);
}

#[test]
fn each_remove_fails() {
    every_fault(OperationKind::Remove, io::ErrorKind::Other, Between::NewProcess);
    every_fault(OperationKind::Remove, io::ErrorKind::StorageFull, Between::PowerCut);
}

#[test]
fn each_list_fails() {
    every_fault(OperationKind::List, io::ErrorKind::Other, Between::NewProcess);
    every_fault(OperationKind::List, io::ErrorKind::StorageFull, Between::PowerCut);
}

#[test]
fn each_read_fails() {
    every_fault(OperationKind::Read, io::ErrorKind::Other, Between::NewProcess);
    every_fault(OperationKind::Read, io::ErrorKind::StorageFull, Between::PowerCut);
}

#[test]
fn each_submit_fails() {
    every_fault(OperationKind::Submit, io::ErrorKind::Other, Between::NewProcess);
    every_fault(OperationKind::Submit, io::ErrorKind::Other, Between::PowerCut);
    every_fault(OperationKind::Submit, io::ErrorKind::StorageFull, Between::PowerCut);
}

#[test]
fn each_write_fails_before_a_new_process() {
    every_fault(OperationKind::Write, io::ErrorKind::Other, Between::NewProcess);
}

#[test]
fn each_write_fails_before_a_power_cut() {
    every_fault(OperationKind::Write, io::ErrorKind::Other, Between::PowerCut);
}

#[test]
fn each_write_finds_no_room() {
    every_fault(OperationKind::Write, io::ErrorKind::StorageFull, Between::PowerCut);
}

#[test]
fn each_sync_fails() {
    every_fault(OperationKind::Sync, io::ErrorKind::Other, Between::NewProcess);
    every_fault(OperationKind::Sync, io::ErrorKind::Other, Between::PowerCut);
    every_fault(OperationKind::Sync, io::ErrorKind::StorageFull, Between::PowerCut);
}

/// Only with a power cut behind it: a later process cannot find out that a sync of the directory
/// failed.
#[test]
fn each_sync_of_the_directory_fails() {
    every_fault(OperationKind::SyncDirectory, io::ErrorKind::Other, Between::PowerCut);
    every_fault(OperationKind::SyncDirectory, io::ErrorKind::StorageFull, Between::PowerCut);
}

/// Appends until the disk is full; how many records went in.
fn fill(model: &mut Model, log: &Log) -> u64 {
    for count in 0..1000 {
        let end = log.end_lsn();
        model.write(end, vec![7; 8000]);
        match log.append(&[7; 8000]) {
            Ok(lsn) => model.acknowledge(lsn),
            Err(error) => {
                check_full(model, log, &error);
                assert_eq!(log.end_lsn(), end, "a refused record takes no LSN");
                return count;
            }
        }
    }
    panic!("the disk is not as full as it should be");
}

fn check_full(model: &mut Model, log: &Log, error: &AppendError) {
    assert!(matches!(error, AppendError::Full(_)), "{error:?}");
    model.failed(log, error).expect("it is not poisoned");
}

/// Every way to append says the same on a full disk, and nothing else stops working.
fn check_while_full(model: &mut Model, log: &Log, disk: &SimDisk) {
    for _ in 0..2 {
        let error = log.append_batch(&[[1; 4000], [2; 4000]]).expect_err("full");
        check_full(model, log, &error);
        let tickets: Vec<_> = (0..3).map(|_| log.submit(&[3; 8000])).collect();
        for ticket in tickets {
            let error = ticket.and_then(|ticket| ticket.wait()).expect_err("full");
            check_full(model, log, &error);
        }
        let buffered = log.append_buffered(&[4; 8000]);
        let error = buffered.map(drop).and_then(|()| log.sync().map(drop)).expect_err("full");
        check_full(model, log, &error);
        assert_eq!(log.end_lsn(), log.durable_lsn(), "nothing is left behind");
        model.read(log);
        model.set_cell(log).expect("the superblock does not grow");
    }
    let reader = LogReader::open_on(Arc::new(disk.clone())).expect("there is a log");
    for record in reader.iter(..).expect("the range is the log's own") {
        let record = record.expect("nothing is damaged");
        model.check_record(record.lsn, record.bytes());
    }
}

#[test]
fn a_full_disk_refuses_appends_until_there_is_room() {
    for free in [0, 1, 30_000, 64 << 10, 100_000, 128 << 10] {
        let disk = SimDisk::new(1);
        let mut model = Model::default();
        let (log, _) = open(&disk).expect("an empty disk opens");
        for _ in 0..20 {
            model.append(&log).expect("nothing fails");
        }
        for _ in 0..2 {
            disk.set_free_bytes(Some(free));
            fill(&mut model, &log);
            check_while_full(&mut model, &log, &disk);
            disk.set_free_bytes(None);
            let before = log.end_lsn();
            model.append(&log).expect("nothing fails");
            model.submit_some(&log).expect("nothing fails");
            model.append_buffered(&log).expect("nothing fails");
            assert_eq!(log.durable_lsn(), before.plus(10), "appends go on by themselves");
        }
        log.close().expect("nothing fails");
        disk.restart_losing_all();
        model.check_after(&disk);
    }
}

/// What is behind a refused ticket is refused too, before anybody knows of the refusal.
#[test]
fn tickets_in_order_leave_no_hole_on_a_full_disk() {
    let disk = SimDisk::new(1);
    let mut model = Model::default();
    let (log, _) = open(&disk).expect("an empty disk opens");
    disk.set_free_bytes(Some(0));
    fill(&mut model, &log);
    let in_order = log.in_order();
    let first = in_order.submit_batch(&[[1; 8000]]).expect("it waits for a segment");
    // Somebody else finds out that there is no room.
    assert!(matches!(log.append(&[2; 10]), Err(AppendError::Full(_))));
    disk.set_free_bytes(None);
    let behind = in_order.submit_batch(&[[3; 8000]]);
    assert!(matches!(behind, Err(AppendError::Full(_))), "{behind:?}");
    assert!(matches!(first.wait(), Err(AppendError::Full(_))));
    let in_order = log.in_order();
    let again = in_order.submit_batch(&[[1; 8000]]).expect("there is room");
    assert!(in_order.submit_batch(&[[1; 1 << 16]]).is_err(), "too large");
    assert!(in_order.submit_batch(&[[1; 8000]]).is_err(), "behind what is too large");
    assert_eq!(again.wait().expect("there is room").next(), log.end_lsn());
}

/// A recycled segment takes no room, so that a trim is enough.
#[test]
fn a_trim_makes_room_on_a_full_disk() {
    let disk = SimDisk::new(1);
    let mut model = Model::default();
    let (log, _) = open(&disk).expect("an empty disk opens");
    fill_some(&mut model, &log);
    disk.set_free_bytes(Some(0));
    fill(&mut model, &log);
    model.trim(&log).expect("a trim takes no room");
    assert!(log.first_lsn() > Lsn::FIRST, "something was trimmed");
    let count = fill(&mut model, &log);
    assert!(count > 5, "the dropped segment was used again: {count}");
    model.read(&log);
    log.close().expect("nothing fails");
    disk.restart_losing_all();
    disk.set_free_bytes(None);
    model.check_after(&disk);
}

fn fill_some(model: &mut Model, log: &Log) {
    while log.stats().segments < 4 {
        model.append(log).expect("nothing fails");
    }
}

#[test]
fn a_log_opens_and_reads_on_a_full_disk() {
    let disk = SimDisk::new(1);
    let mut model = Model::default();
    let (log, _) = open(&disk).expect("an empty disk opens");
    fill_some(&mut model, &log);
    log.close().expect("nothing fails");
    disk.restart_losing_all();
    disk.set_free_bytes(Some(0));
    for _ in 0..2 {
        let (log, report) = open(&disk).expect("opening takes no room");
        model.check_opened(&log, &report);
        fill(&mut model, &log);
        check_while_full(&mut model, &log, &disk);
        log.close().expect("closing takes no room");
    }
    disk.set_free_bytes(None);
    model.check_after(&disk);
}

#[test]
fn a_log_is_not_made_on_a_full_disk() {
    for free in [0, 4096, 8192, 12_288, 16_384, 40_000] {
        let disk = SimDisk::new(1);
        disk.set_free_bytes(Some(free));
        let mut model = Model::default();
        match open(&disk) {
            Err(error) => assert!(matches!(error, OpenError::Full(_)), "{error:?}"),
            Ok((log, _)) => assert_eq!(fill(&mut model, &log), 0, "no segment fits"),
        }
        disk.set_free_bytes(None);
        model.check_after(&disk);
    }
}
