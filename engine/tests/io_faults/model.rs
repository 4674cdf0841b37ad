//! A log, what was done to it, and what must be true of it after any fault.
//!
//! Owns the workload and the checks. Does not know which fault comes, nor when.

use std::collections::BTreeMap;
use std::sync::Arc;

use cairnlog_engine::disk::sim::SimDisk;
use cairnlog_engine::{
    AppendError, ChangeError, Config, Log, LogReader, Lsn, OpenError, ReadError, RecoveryReport,
    Verdict,
};

pub(crate) fn config() -> Config {
    let mut config = Config::with_segment_bytes(64 << 10);
    config.block_bytes = 512;
    config.batch_bytes_max = 8 << 10;
    config.spare_segments_max = 1;
    config.hot_bytes_max = 64 << 10;
    config
}

pub(crate) fn open(disk: &SimDisk) -> Result<(Log, RecoveryReport), OpenError> {
    Log::open_on(Arc::new(disk.clone()), config())
}

/// Why the workload stopped before its end.
#[derive(Debug)]
pub(crate) enum Stop {
    Poisoned,
    Open,
}

/// What the test knows of one log over all its lives.
#[derive(Default)]
pub(crate) struct Model {
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

    pub(crate) fn write(&mut self, lsn: Lsn, record: Vec<u8>) {
        self.written.insert(lsn, record);
    }

    /// Everything up to `lsn` was acknowledged.
    pub(crate) fn acknowledge(&mut self, lsn: Lsn) {
        self.acknowledged = self.acknowledged.max(lsn.next());
    }

    /// What the engine says about a failed append decides what may be in the log.
    pub(crate) fn failed(&mut self, log: &Log, error: &AppendError) -> Result<(), Stop> {
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

    pub(crate) fn append(&mut self, log: &Log) -> Result<(), Stop> {
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

    pub(crate) fn append_batch(&mut self, log: &Log) -> Result<(), Stop> {
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

    pub(crate) fn submit_some(&mut self, log: &Log) -> Result<(), Stop> {
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

    pub(crate) fn append_buffered(&mut self, log: &Log) -> Result<(), Stop> {
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

    pub(crate) fn set_cell(&mut self, log: &Log) -> Result<(), Stop> {
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

    pub(crate) fn trim(&mut self, log: &Log) -> Result<(), Stop> {
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
    pub(crate) fn read(&self, log: &Log) {
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

    pub(crate) fn check_record(&self, lsn: Lsn, bytes: &[u8]) {
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
    pub(crate) fn check_opened(&mut self, log: &Log, report: &RecoveryReport) {
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
    pub(crate) fn run(&mut self, disk: &SimDisk) -> Result<(), Stop> {
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
    pub(crate) fn check_after(&mut self, disk: &SimDisk) {
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
