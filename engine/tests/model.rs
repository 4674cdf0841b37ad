//! Random operations on a log equal the same operations on a `Vec`, across reopening and power cuts:
//!  P1 what was acknowledged stays, in every life of the log;
//!  P2 the log is exactly a prefix of what was appended, byte for byte, and every way to read it
//!     (by LSN, by range, by time, at the tail, by a reader beside the writer) shows the same records;
//!  and each error is the one that its documentation names.
//!
//! The disk is simulated and everything runs in one thread. A failure prints the shortest list of
//! operations that proptest finds.

use std::collections::BTreeMap;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use std::time::Duration;

use cairnlog_engine::disk::sim::SimDisk;
use cairnlog_engine::{
    AppendError, ChangeError, Config, Log, LogReader, Lsn, LsnRange, ReadError, RecoveryReport,
    Verdict,
};
use proptest::prelude::*;

const CELL_BYTES_MAX: usize = 1024;

/// Records of the larger segments are found through more than one entry of an index.
const SEGMENT_BYTES: [u64; 2] = [64 << 10, 256 << 10];

fn config(segment_bytes: u64) -> Config {
    let mut config = Config::with_segment_bytes(SEGMENT_BYTES[0]);
    config.segment_bytes = segment_bytes;
    config.block_bytes = 512;
    config.batch_bytes_max = 12 << 10;
    // Small, so that reads leave the memory.
    config.hot_bytes_max = 32 << 10;
    config
}

#[derive(Clone, Copy, Debug)]
enum Power {
    LoseAll,
    KeepAll,
    Seed(u64),
}

/// A place in the log, or just outside of it, whatever its length is by then.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// So many 256ths of the way from the first LSN to the durable end.
    Inside(u8),
    /// So many records from the durable end on.
    FromEnd(u8),
    /// So many records in front of the first.
    BeforeFirst(u8),
    Last,
}

#[derive(Clone, Debug)]
enum Operation {
    Append(usize),
    AppendBatch(Vec<usize>),
    /// Submits, then waits in an order that follows from the number.
    Submit(Vec<usize>, u64),
    /// Submits in the name of a producer.
    SubmitAs(u128, Vec<usize>),
    Buffered(Vec<usize>),
    Sync,
    TooLarge,
    EmptyBatch,
    Read(Place),
    Iterate(Bound<Place>, Bound<Place>),
    Tail(Place),
    AtTime(Place, i8),
    Reader,
    Trim(Place),
    SetCell(usize),
    SetClock(i32),
    Close,
    Drop,
    CutPower(Power),
}

fn bytes() -> impl Strategy<Value = usize> {
    let max = config(SEGMENT_BYTES[0]).record_bytes_max;
    prop_oneof![
        2 => Just(0),
        8 => 1..100_usize,
        6 => 100..3000_usize,
        2 => 3000..max,
        1 => Just(max),
    ]
}

fn place() -> impl Strategy<Value = Place> {
    prop_oneof![
        6 => any::<u8>().prop_map(Place::Inside),
        2 => (0..4_u8).prop_map(Place::FromEnd),
        1 => (1..4_u8).prop_map(Place::BeforeFirst),
        1 => Just(Place::Last),
    ]
}

fn bound() -> impl Strategy<Value = Bound<Place>> {
    prop_oneof![
        2 => place().prop_map(Bound::Included),
        2 => place().prop_map(Bound::Excluded),
        1 => Just(Bound::Unbounded),
    ]
}

fn operation() -> impl Strategy<Value = Operation> {
    let few = || prop::collection::vec(0..1500_usize, 1..6);
    prop_oneof![
        8 => bytes().prop_map(Operation::Append),
        4 => few().prop_map(Operation::AppendBatch),
        6 => (prop::collection::vec(bytes(), 1..6), any::<u64>())
            .prop_map(|(records, order)| Operation::Submit(records, order)),
        3 => (1..4_u128, few()).prop_map(|(id, records)| Operation::SubmitAs(id, records)),
        4 => prop::collection::vec(bytes(), 1..6).prop_map(Operation::Buffered),
        2 => Just(Operation::Sync),
        1 => Just(Operation::TooLarge),
        1 => Just(Operation::EmptyBatch),
        4 => place().prop_map(Operation::Read),
        4 => (bound(), bound()).prop_map(|(start, end)| Operation::Iterate(start, end)),
        2 => place().prop_map(Operation::Tail),
        3 => (place(), -1..=1_i8).prop_map(|(place, off)| Operation::AtTime(place, off)),
        2 => Just(Operation::Reader),
        2 => place().prop_map(Operation::Trim),
        2 => (0..CELL_BYTES_MAX + 2).prop_map(Operation::SetCell),
        1 => (-5000..5000).prop_map(Operation::SetClock),
        2 => Just(Operation::Close),
        1 => Just(Operation::Drop),
        2 => prop_oneof![
            Just(Power::LoseAll),
            Just(Power::KeepAll),
            any::<u64>().prop_map(Power::Seed),
        ]
        .prop_map(Operation::CutPower),
    ]
}

/// The log, and what must be in it.
struct Pair {
    disk: SimDisk,
    config: Config,
    log: Option<Log>,
    /// By LSN - 1; those that were trimmed too.
    records: Vec<Vec<u8>>,
    /// Who appended the record with an LSN, and as which of its own.
    producers: BTreeMap<Lsn, (u128, u64)>,
    first: Lsn,
    /// Everything below it was acknowledged.
    acknowledged: Lsn,
    cell: Vec<u8>,
    counter: u64,
    epoch: u64,
}

impl Pair {
    fn new(config: Config) -> Pair {
        let mut pair = Pair {
            disk: SimDisk::new(1),
            config,
            log: None,
            records: Vec::new(),
            producers: BTreeMap::new(),
            first: Lsn::FIRST,
            acknowledged: Lsn::FIRST,
            cell: Vec::new(),
            counter: 0,
            epoch: 0,
        };
        let report = pair.open();
        assert!(report.created);
        pair
    }

    fn log(&self) -> &Log {
        self.log.as_ref().expect("a log is open between two operations")
    }

    fn end(&self) -> Lsn {
        Lsn::new(self.records.len() as u64 + 1)
    }

    fn place(&self, place: Place) -> Lsn {
        let (first, durable) = (self.first.get(), self.log().durable_lsn().get());
        match place {
            Place::Inside(part) => Lsn::new(first + (durable - first) * u64::from(part) / 256),
            Place::FromEnd(records) => Lsn::new(durable + u64::from(records)),
            Place::BeforeFirst(records) => Lsn::new(first.saturating_sub(u64::from(records))),
            Place::Last => Lsn::MAX,
        }
    }

    /// A record of so many bytes that is unlike every other one of its length.
    fn record(&mut self, bytes: usize) -> Vec<u8> {
        self.counter += 1;
        let mut record = vec![self.counter.to_le_bytes()[0]; bytes];
        let number = self.counter.to_le_bytes();
        let prefix = bytes.min(8);
        record[..prefix].copy_from_slice(&number[..prefix]);
        record
    }

    fn push(&mut self, bytes: usize) -> Vec<u8> {
        let record = self.record(bytes);
        self.records.push(record.clone());
        record
    }

    fn acknowledge(&mut self, last: Lsn) {
        self.acknowledged = self.acknowledged.max(last.next());
    }

    fn apply(&mut self, operation: &Operation) {
        match operation {
            Operation::Append(bytes) => {
                let expected = self.end();
                let record = self.push(*bytes);
                assert_eq!(self.log().append(&record).expect("nothing fails"), expected);
                self.acknowledge(expected);
            }
            Operation::AppendBatch(sizes) => {
                let start = self.end();
                let batch: Vec<Vec<u8>> = sizes.iter().map(|bytes| self.push(*bytes)).collect();
                let lsns = self.log().append_batch(&batch).expect("nothing fails");
                assert_eq!(lsns, start..self.end());
                self.acknowledge(Lsn::new(self.end().get() - 1));
            }
            Operation::Submit(sizes, order) => self.submit(sizes, *order),
            Operation::SubmitAs(id, sizes) => self.submit_as(*id, sizes),
            Operation::Buffered(sizes) => {
                for bytes in sizes {
                    let expected = self.end();
                    let record = self.push(*bytes);
                    let buffered = self.log().append_buffered(&record).expect("nothing fails");
                    assert_eq!(buffered.lsn_if_durable(), expected);
                }
            }
            Operation::Sync => {
                assert_eq!(self.log().sync().expect("nothing fails"), self.end());
                assert_eq!(self.log().durable_lsn(), self.end());
                self.acknowledged = self.end();
            }
            Operation::TooLarge | Operation::EmptyBatch => self.refused(operation),
            Operation::Read(place) => self.read(self.place(*place)),
            Operation::Iterate(start, end) => {
                self.iterate((start.map(|p| self.place(p)), end.map(|p| self.place(p))));
            }
            Operation::Tail(place) => self.tail(self.place(*place)),
            Operation::AtTime(place, off) => self.at_time(self.place(*place), *off),
            Operation::Reader => self.check_reader(),
            Operation::Trim(place) => self.trim(self.place(*place)),
            Operation::SetCell(bytes) => self.set_cell(*bytes),
            Operation::SetClock(off_ms) => {
                let now = cairnlog_engine::disk::Disk::now_ms(&self.disk);
                self.disk.set_now_ms(now.saturating_add_signed(i64::from(*off_ms)));
            }
            Operation::Close => {
                self.log.take().expect("open").close().expect("nothing fails");
                self.acknowledged = self.end();
                self.reopen();
            }
            Operation::Drop => {
                drop(self.log.take());
                self.acknowledged = self.end();
                self.reopen();
            }
            Operation::CutPower(power) => self.cut_power(*power),
        }
    }

    fn submit(&mut self, sizes: &[usize], mut order: u64) {
        let mut tickets = Vec::new();
        for bytes in sizes {
            let expected = self.end();
            let record = self.push(*bytes);
            let ticket = self.log().submit(&record).expect("nothing fails");
            assert_eq!(ticket.lsns_if_durable(), expected..expected.next());
            tickets.push(ticket);
        }
        while !tickets.is_empty() {
            let next = order % tickets.len() as u64;
            order = order.rotate_left(7);
            let ticket = tickets.swap_remove(usize::try_from(next).expect("below the length"));
            let lsn = ticket.lsns_if_durable().start;
            assert_eq!(ticket.wait().expect("nothing fails"), lsn);
            assert!(lsn < self.log().durable_lsn());
            self.acknowledge(lsn);
        }
    }

    /// A producer that leaves a number out now and then.
    fn submit_as(&mut self, id: u128, sizes: &[usize]) {
        let start = self.end();
        let first_sequence =
            self.next_sequence(id, start).map_or(7, |next| next + self.counter % 2);
        let batch: Vec<Vec<u8>> = sizes.iter().map(|bytes| self.push(*bytes)).collect();
        let ticket = self.log().submit_batch_as(id, first_sequence, &batch);
        for (number, _) in (0..).zip(&batch) {
            self.producers.insert(start.plus(number), (id, first_sequence + number));
        }
        assert_eq!(ticket.expect("nothing fails").wait().expect("nothing fails"), start);
        self.acknowledge(Lsn::new(self.end().get() - 1));
    }

    /// What a producer is told to go on with, when the log holds its records below `end`.
    fn next_sequence(&self, id: u128, end: Lsn) -> Option<u64> {
        let mut kept = self.producers.range(self.first..end).rev();
        kept.find(|(_, (by, _))| *by == id).map(|(_, (_, sequence))| sequence + 1)
    }

    /// What is over a limit changes nothing.
    fn refused(&mut self, operation: &Operation) {
        let (max, log) = (self.config.record_bytes_max, self.log());
        if matches!(operation, Operation::EmptyBatch) {
            let error = log.append_batch::<&[u8]>(&[]).expect_err("it is empty");
            assert!(matches!(error, AppendError::Empty), "{error:?}");
            return;
        }
        let record = vec![1; max + 1];
        let error = log.append(&record).expect_err("it is too large");
        let named = matches!(error, AppendError::RecordTooLarge { bytes, bytes_max }
            if bytes == max + 1 && bytes_max == max);
        assert!(named, "{error:?}");
        assert!(matches!(log.submit(&record), Err(AppendError::RecordTooLarge { .. })));
        assert!(matches!(log.append_buffered(&record), Err(AppendError::RecordTooLarge { .. })));
        let batch = [&record[..max], &record[..1]];
        let error = log.append_batch(&batch).expect_err("together they are too large");
        assert!(matches!(error, AppendError::BatchTooLarge { .. }), "{error:?}");
    }

    fn expected(&self, lsn: Lsn) -> &[u8] {
        &self.records[usize::try_from(lsn.get()).expect("64-bit targets") - 1]
    }

    fn range(&self) -> LsnRange {
        self.first..self.log().durable_lsn()
    }

    fn read(&self, lsn: Lsn) {
        let range = self.range();
        match self.log().read(lsn) {
            Ok(record) => {
                assert!(range.contains(&lsn), "{lsn} was read, the range is {range:?}");
                assert_eq!(record.lsn, lsn);
                assert!(record.bytes() == self.expected(lsn), "LSN {lsn}");
            }
            Err(ReadError::OutOfRange { lsn: named, range: held }) => {
                assert_eq!((named, &held), (lsn, &range));
                assert!(!range.contains(&lsn), "{lsn} was not read, the range is {range:?}");
            }
            Err(other) => panic!("{other:?}"),
        }
    }

    fn iterate(&self, bounds: (Bound<Lsn>, Bound<Lsn>)) {
        let range = self.range();
        let start = match bounds.start_bound() {
            Bound::Included(lsn) => *lsn,
            Bound::Excluded(lsn) => lsn.next(),
            Bound::Unbounded => range.start,
        };
        let records = match self.log().iter(bounds) {
            Ok(records) => records,
            Err(ReadError::OutOfRange { lsn, .. }) => {
                assert_eq!(lsn, start);
                assert!(start < range.start || start > range.end, "{start} is in {range:?}");
                return;
            }
            Err(other) => panic!("{other:?}"),
        };
        assert!(start >= range.start && start <= range.end, "{start} is not in {range:?}");
        let mut next = start;
        for record in records {
            let record = record.expect("nothing is damaged");
            assert_eq!(record.lsn, next);
            assert!(record.bytes() == self.expected(next), "LSN {next}");
            next = next.next();
        }
        let in_bounds = |lsn: Lsn| (Bound::Unbounded, bounds.1).contains(&lsn);
        let ended = next == range.end || !in_bounds(next);
        assert!(ended, "{bounds:?} ended at {next}, the range is {range:?}");
        assert!(next == start || in_bounds(Lsn::new(next.get() - 1)), "{bounds:?} went too far");
    }

    fn tail(&self, from: Lsn) {
        let range = self.range();
        let mut tail = match self.log().tail(from) {
            Ok(tail) => tail,
            Err(error) => {
                assert!(matches!(error, ReadError::OutOfRange { .. }), "{error:?}");
                assert!(from < range.start || from > range.end, "{from} is in {range:?}");
                return;
            }
        };
        while let Some(record) = tail.next_timeout(Duration::ZERO).expect("nothing is damaged") {
            assert!(record.bytes() == self.expected(record.lsn), "LSN {}", record.lsn);
            assert_eq!(tail.next_lsn(), record.lsn.next());
        }
        assert_eq!(tail.next_lsn(), range.end);
    }

    /// Looks for the time of a record, or a millisecond beside it.
    fn at_time(&self, lsn: Lsn, off: i8) {
        let times = self.times();
        let time_of = |lsn: &Lsn| times.iter().find(|(l, _)| l == lsn).map(|(_, time)| *time);
        let time_ms = time_of(&lsn).map_or(u64::MAX, |t| t.saturating_add_signed(off.into()));
        let first = times.iter().find(|(_, time)| *time >= time_ms).map(|(lsn, _)| *lsn);
        let found = self.log().lsn_at_time(time_ms).expect("nothing is damaged");
        assert_eq!(found, first.unwrap_or(self.range().end), "{time_ms} in {times:?}");
        assert_eq!(self.log().lsn_at_time(0).expect("nothing is damaged"), self.first);
    }

    fn times(&self) -> Vec<(Lsn, u64)> {
        let mut records = self.log().iter(..).expect("the range is the log's own");
        let mut times: Vec<(Lsn, u64)> = Vec::new();
        while let Some(record) = records.next_ref().expect("nothing is damaged") {
            let (_, before) = times.last().copied().unwrap_or_default();
            assert!(before <= record.time_ms, "time goes back at LSN {}", record.lsn);
            assert!(record.bytes() == self.expected(record.lsn), "LSN {}", record.lsn);
            times.push((record.lsn, record.time_ms));
        }
        times
    }

    /// A reader beside the writer sees records up to an end that may lag behind.
    fn check_reader(&self) {
        let reader = LogReader::open_on(Arc::new(self.disk.clone())).expect("there is a log");
        assert!(reader.writer_lives());
        let (range, own) = (reader.range(), self.range());
        assert!(range.start >= own.start && range.end <= own.end, "{range:?} of {own:?}");
        self.check_all_of(&reader);
    }

    fn check_all_of(&self, reader: &LogReader) {
        let mut next = reader.range().start;
        for record in reader.iter(..).expect("the range is the log's own") {
            let record = record.expect("nothing is damaged");
            assert_eq!(record.lsn, next);
            assert!(record.bytes() == self.expected(next), "LSN {next}");
            next = next.next();
        }
        assert_eq!(next, reader.range().end);
    }

    fn trim(&mut self, lsn: Lsn) {
        let durable = self.log().durable_lsn();
        match self.log().trim(lsn) {
            Ok(first) => {
                assert!(lsn <= durable);
                assert!(first >= self.first, "the trim point went back");
                assert!(first <= lsn.max(self.first), "records from {lsn} on were given up");
                assert_eq!(self.log().first_lsn(), first);
                self.first = first;
                if lsn == self.log().end_lsn() {
                    assert!(self.log().stats().segments <= 1, "only the active segment stays");
                }
            }
            Err(ChangeError::OutOfRange { lsn: named, durable_lsn }) => {
                assert_eq!((named, durable_lsn), (lsn, durable));
                assert!(lsn > durable);
            }
            Err(other) => panic!("{other:?}"),
        }
    }

    fn set_cell(&mut self, bytes: usize) {
        let cell = self.record(bytes);
        match self.log().set_cell(&cell) {
            Ok(()) => {
                assert!(bytes <= CELL_BYTES_MAX);
                self.cell = cell;
            }
            Err(ChangeError::CellTooLarge { bytes: named, bytes_max }) => {
                assert_eq!((named, bytes_max), (bytes, CELL_BYTES_MAX));
                assert!(bytes > CELL_BYTES_MAX);
            }
            Err(other) => panic!("{other:?}"),
        }
    }

    fn cut_power(&mut self, power: Power) {
        match power {
            Power::LoseAll => self.disk.restart_losing_all(),
            Power::KeepAll => self.disk.restart_keeping_all(),
            Power::Seed(seed) => self.disk.restart(seed),
        }
        drop(self.log.take());
        self.reopen();
    }

    fn reopen(&mut self) {
        let reader = LogReader::open_on(Arc::new(self.disk.clone())).expect("there is a log");
        assert!(!reader.writer_lives());
        self.check_all_of(&reader);
        let report = self.open();
        assert!(!report.created);
        assert_eq!(reader.range().end, report.end_lsn, "a reader sees what recovery keeps");
    }

    fn open(&mut self) -> RecoveryReport {
        let disk = Arc::new(self.disk.clone());
        let (log, report) = Log::open_on(disk, self.config.clone()).expect("nothing is damaged");
        assert!(
            matches!(report.verdict, Verdict::Clean | Verdict::TornTail { .. }),
            "{:?}",
            report.verdict
        );
        assert_eq!(report.first_lsn, self.first);
        let kept = self.acknowledged..=self.end();
        assert!(kept.contains(&report.end_lsn), "{} is not in {kept:?}", report.end_lsn);
        assert!(report.epoch.get() > self.epoch, "the epoch rises with each life");
        self.epoch = report.epoch.get();
        let records = report.end_lsn.get() - 1;
        self.records.truncate(usize::try_from(records).expect("64-bit targets"));
        self.producers.split_off(&report.end_lsn);
        self.acknowledged = report.end_lsn;
        self.log = Some(log);
        report
    }

    /// What holds after every operation.
    fn check(&self) {
        let log = self.log();
        assert_eq!((log.first_lsn(), log.end_lsn()), (self.first, self.end()));
        let durable = log.durable_lsn();
        assert!(durable >= self.acknowledged && durable <= log.end_lsn());
        assert_eq!(log.cell(), self.cell);
        let id = u128::from(self.counter % 4);
        let next = log.next_sequence(id).expect("nothing is damaged");
        assert_eq!(next, self.next_sequence(id, durable), "producer {id}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_log_equals_a_vec(
        segment_bytes in prop::sample::select(&SEGMENT_BYTES[..]),
        operations in prop::collection::vec(operation(), 1..80),
    ) {
        let mut pair = Pair::new(config(segment_bytes));
        for operation in &operations {
            pair.apply(operation);
            pair.check();
        }
        pair.apply(&Operation::Close);
        pair.iterate((Bound::Unbounded, Bound::Unbounded));
    }
}
