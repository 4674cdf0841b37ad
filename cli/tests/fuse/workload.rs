//! What is done to a log while things go wrong, and what must hold afterwards.
//!
//! Owns a fixed workload that makes, fills, reads, trims, recycles, closes and opens a log, and the
//! [`Model`] that knows what was promised of it. Which faults there are is up to the cases.
//!
//! Invariants that [`Model::check`] holds against a log:
//!  W1. Every acknowledged record has its LSN and its content, unless a trim was asked to drop it.
//!  W2. Records are in the order of their appends, without gap or duplicate; nothing else is there.
//!  W3. A record that was refused with a retryable error is not there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use cairnlog_engine::disk::{BackendChoice, DurableWrite};
use cairnlog_engine::{
    AppendError, ChangeError, Config, Log, LogReader, Lsn, OpenError, ReadError, Record, Ticket,
    Verdict, verify,
};

/// Short segments, few spares, and nothing kept in memory, so that everything touches the files.
pub(crate) fn config(backend: BackendChoice, durable_write: DurableWrite) -> Config {
    let mut config = Config::with_segment_bytes(64 << 10);
    config.backend = backend;
    config.durable_write = Some(durable_write);
    config.hot_bytes_max = 0;
    config.spare_segments_max = 1;
    config.watermark_interval_ms = 1;
    // Its reads come at no fixed moment, and would take what fails the nth time.
    config.scrub_bytes_per_second = 0;
    config
}

/// Why the workload ended early.
#[derive(Debug)]
pub(crate) enum Stop {
    Open(OpenError),
    /// Nothing more is acknowledged.
    Poisoned,
}

/// What the test knows of one log over all its lives.
#[derive(Debug, Default)]
pub(crate) struct Model {
    /// Records so far, whatever became of them. Each carries its number.
    appended: u64,
    acknowledged: BTreeMap<Lsn, u64>,
    refused: BTreeSet<u64>,
    /// No record below it has to be there.
    trimmed: Lsn,
    /// Errors of reads and retryable errors of appends.
    pub(crate) errors: Vec<String>,
}

fn content(number: u64) -> Vec<u8> {
    let bytes = usize::try_from(number * 1237 % 12_000).expect("< 12000");
    let fill = number.to_le_bytes()[0];
    [number.to_le_bytes().as_slice(), &vec![fill; bytes]].concat()
}

impl Model {
    pub(crate) fn acknowledged(&self) -> usize {
        self.acknowledged.len()
    }

    pub(crate) fn refused(&self) -> usize {
        self.refused.len()
    }

    fn next(&mut self) -> (u64, Vec<u8>) {
        self.appended += 1;
        (self.appended, content(self.appended))
    }

    /// Notes how an append ended.
    fn note(&mut self, number: u64, result: Result<Lsn, AppendError>) -> Result<(), Stop> {
        match result {
            Ok(lsn) => {
                assert_eq!(self.acknowledged.insert(lsn, number), None, "{lsn} was given twice");
                Ok(())
            }
            Err(error @ (AppendError::Full(_) | AppendError::NoSegment(_))) => {
                self.refused.insert(number);
                self.errors.push(error.to_string());
                Ok(())
            }
            Err(AppendError::Poisoned(_)) => Err(Stop::Poisoned),
            Err(error) => panic!("{error}"),
        }
    }

    /// Appends one record and waits for it.
    pub(crate) fn append(&mut self, log: &Log) -> Result<(), Stop> {
        let (number, record) = self.next();
        let result = log.append(&record);
        self.note(number, result)
    }

    /// Appends some records that are on their way together.
    pub(crate) fn append_together(&mut self, log: &Log, records: u64) -> Result<(), Stop> {
        let mut submitted: Vec<(u64, Result<Ticket, AppendError>)> = Vec::new();
        for _ in 0..records {
            let (number, record) = self.next();
            submitted.push((number, log.submit(&record)));
        }
        let mut ended = Ok(());
        for (number, ticket) in submitted {
            // All of them, because one behind a failure could be acknowledged wrongly.
            ended = ended.and(self.note(number, ticket.and_then(Ticket::wait)));
        }
        ended
    }

    /// Reads everything there is; what cannot be read is noted.
    fn read(&mut self, log: &Log) {
        for record in log.iter(..).into_iter().flatten() {
            self.note_read(record);
        }
    }

    fn note_read(&mut self, record: Result<Record, ReadError>) {
        match record {
            Ok(record) => self.expect(&record),
            Err(error) => self.errors.push(error.to_string()),
        }
    }

    /// A record that was read is one that was appended.
    fn expect(&self, record: &Record) {
        let number = u64::from_le_bytes(record[..8].try_into().expect("it has a number"));
        assert!(record.bytes() == content(number), "{}: not what was appended", record.lsn);
        if let Some(acknowledged) = self.acknowledged.get(&record.lsn) {
            assert_eq!(number, *acknowledged, "{}", record.lsn);
        }
    }

    fn trim(&mut self, log: &Log, lsn: Lsn) -> Result<(), Stop> {
        self.trimmed = self.trimmed.max(lsn);
        stop_if_poisoned(log.trim(lsn).map(drop))
    }

    /// The workload; where it stops with an error, the log is dropped.
    pub(crate) fn run(&mut self, directory: &Path, config: &Config) -> Result<(), Stop> {
        let (log, _) = Log::open(directory, config.clone()).map_err(Stop::Open)?;
        self.first_life(&log).inspect_err(|_| self.check_poisoned(&log))?;
        stop_if_not_closed(log)?;
        if let Ok(reader) = LogReader::open(directory) {
            for record in reader.iter(..).into_iter().flatten() {
                self.note_read(record);
            }
        }
        let (log, _) = Log::open(directory, config.clone()).map_err(Stop::Open)?;
        let second = self.append_together(&log, 5);
        second.inspect_err(|_| self.check_poisoned(&log))?;
        self.read(&log);
        stop_if_not_closed(log)
    }

    fn first_life(&mut self, log: &Log) -> Result<(), Stop> {
        for round in 0..7 {
            self.append_together(log, 1 + round % 3)?;
            self.append(log)?;
        }
        self.read(log);
        let lsn = Lsn::new(self.appended * 3 / 4).min(log.durable_lsn());
        self.trim(log, lsn)?;
        for _ in 0..4 {
            self.append_together(log, 2)?;
        }
        stop_if_poisoned(log.set_cell(b"a cell"))
    }

    /// P5: after a failure nothing is acknowledged any more, and what was is still read.
    pub(crate) fn check_poisoned(&self, log: &Log) {
        let again = log.append(b"after the failure");
        assert!(matches!(again, Err(AppendError::Poisoned(_))), "{again:?}");
        let synced = log.sync();
        assert!(matches!(synced, Err(AppendError::Poisoned(_))), "{synced:?}");
    }

    /// Opens the log, which works now, and holds it against what is known.
    pub(crate) fn check(&mut self, directory: &Path, config: &Config) -> Verdict {
        if directory.join("superblock").exists() {
            let report = verify(directory, &mut |_, _| {}).expect("it can be verified");
            assert!(report.is_whole(), "before the open: {report:?}");
        }
        let (log, report) = Log::open(directory, config.clone()).expect("the log opens again");
        self.check_open(&log);
        assert!(self.append(&log).is_ok(), "{:?}", self.errors);
        log.close().expect("it closes");
        let report_after = verify(directory, &mut |_, _| {}).expect("it can be verified");
        assert!(report_after.is_whole(), "{report_after:?}");
        assert_eq!(report_after.verdict, Verdict::Clean);
        report.verdict
    }

    /// W1 to W3.
    pub(crate) fn check_open(&self, log: &Log) {
        let first = log.first_lsn();
        assert!(first <= self.trimmed.max(Lsn::FIRST), "{first}: too much was dropped");
        let (mut next, mut last_number) = (first, 0);
        for record in log.iter(..).expect("it starts at its first record") {
            let record = record.expect("what recovery kept can be read");
            assert_eq!(record.lsn, next, "a gap");
            self.expect(&record);
            let number = u64::from_le_bytes(record[..8].try_into().expect("it has a number"));
            assert!(number > last_number, "{next}: a duplicate, or out of order");
            assert!(!self.refused.contains(&number), "{next}: it was refused");
            (next, last_number) = (next.next(), number);
        }
        if let Some((last, _)) = self.acknowledged.last_key_value() {
            assert!(*last < next, "{last} was acknowledged, and is lost: the log ends at {next}");
        }
    }
}

fn stop_if_poisoned(changed: Result<(), ChangeError>) -> Result<(), Stop> {
    match changed {
        Err(ChangeError::Poisoned(_)) => Err(Stop::Poisoned),
        other => {
            other.expect("only the disk fails");
            Ok(())
        }
    }
}

fn stop_if_not_closed(log: Log) -> Result<(), Stop> {
    match log.close() {
        Err(AppendError::Poisoned(_)) => Err(Stop::Poisoned),
        // A buffered or submitted record that was refused: known already.
        Ok(()) | Err(AppendError::Full(_) | AppendError::NoSegment(_)) => Ok(()),
        Err(error) => panic!("{error}"),
    }
}
