//! The power goes out during every single operation of a workload, and recovery is held to the
//! promises:
//!  P1 every record that was acknowledged is there;
//!  P2 what is there is exactly a prefix of what was appended, byte for byte;
//!  P3 and P4 a torn write damages nothing acknowledged, and is cut off without anybody's help.
//!
//! The disk is simulated: at a cut every unsynced sector may be kept, lost or torn on its own.

use std::sync::Arc;

use cairnlog_engine::disk::sim::{OperationKind, SimDisk};
use cairnlog_engine::{AppendError, Config, Log, LogReader, Lsn, RecoveryReport, Verdict};

/// How often the outcome of one cut is drawn: nothing unsynced survives, all of it does, and so many
/// seeded mixtures. `CAIRNLOG_OUTCOMES` asks for more.
fn outcomes() -> u64 {
    let asked = std::env::var("CAIRNLOG_OUTCOMES").ok().and_then(|text| text.parse().ok());
    asked.unwrap_or(4)
}

fn config() -> Config {
    let mut config = Config::with_segment_bytes(64 << 10);
    config.block_bytes = 512;
    config.record_bytes_max = 20 << 10;
    config.batch_bytes_max = 4 << 10;
    config.inflight_bytes_max = 512 << 10;
    config
}

/// What the test knows of one log over all its lives.
#[derive(Default)]
struct Model {
    /// Everything that may be in the log, by LSN - 1; cut back to what recovery found.
    records: Vec<Vec<u8>>,
    /// Records below it were acknowledged.
    acknowledged: u64,
    counter: u64,
}

impl Model {
    fn record(&mut self) -> Vec<u8> {
        self.counter += 1;
        let bytes = [0, 1, 90, 600, 5000, 13_000];
        let [low, ..] = self.counter.to_le_bytes();
        let mut record = vec![low; bytes[usize::from(low) * 7 % bytes.len()]];
        record.extend_from_slice(&self.counter.to_le_bytes());
        record
    }

    fn acknowledge(&mut self, lsn: Lsn) {
        self.acknowledged = self.acknowledged.max(lsn.get());
    }

    /// One append in each way there is; stops at the first failure.
    fn append_some(&mut self, log: &Log) -> Result<(), AppendError> {
        let record = self.record();
        self.records.push(record.clone());
        let lsn = log.append(&record)?;
        assert_eq!(lsn.get(), self.records.len() as u64);
        self.acknowledge(lsn);

        let batch = [self.record(), self.record()];
        self.records.extend(batch.iter().cloned());
        let lsns = log.append_batch(&batch)?;
        assert_eq!(lsns.end.get(), self.records.len() as u64 + 1);
        self.acknowledge(Lsn::new(lsns.end.get() - 1));

        let mut tickets = Vec::new();
        for _ in 0..5 {
            let record = self.record();
            self.records.push(record.clone());
            tickets.push(log.submit(&record)?);
        }
        for ticket in tickets {
            let lsn = ticket.wait()?;
            self.acknowledge(lsn);
        }

        let record = self.record();
        self.records.push(record.clone());
        log.append_buffered(&record)?;
        Ok(())
    }

    /// Runs until the power goes out, or to the end.
    fn run(&mut self, disk: &SimDisk, config: &Config) -> Result<(), AppendError> {
        for life in 0..3 {
            let Ok((log, report)) = Log::open_on(Arc::new(disk.clone()), config.clone()) else {
                return Err(AppendError::Closed);
            };
            self.check_report(report.first_lsn, report.end_lsn);
            for _ in 0..6 {
                self.append_some(&log)?;
            }
            if life == 1 {
                let middle = Lsn::new(self.acknowledged / 2);
                if log.trim(middle).is_err() {
                    return Err(AppendError::Closed);
                }
                if log.set_cell(b"applied").is_err() {
                    return Err(AppendError::Closed);
                }
            }
            if life != 0 {
                log.close()?;
                self.acknowledge(Lsn::new(self.records.len() as u64));
            }
        }
        Ok(())
    }

    fn check_report(&mut self, first: Lsn, end: Lsn) {
        let kept = end.get() - 1;
        assert!(kept >= self.acknowledged, "acknowledged {} of {kept}", self.acknowledged);
        assert!(kept <= self.records.len() as u64, "nobody wrote LSN {kept}");
        assert!(first <= end);
        self.records.truncate(usize::try_from(kept).expect("a small log"));
    }

    /// The log after a cut: opened, read in full, and appended to.
    fn check(&mut self, disk: &SimDisk, config: &Config) -> RecoveryReport {
        let before = LogReader::open_on(Arc::new(disk.clone())).map(|r| r.range());
        let (log, report) = match Log::open_on(Arc::new(disk.clone()), config.clone()) {
            Ok(opened) => opened,
            Err(error) => panic!("the log does not open: {error}"),
        };
        assert!(
            matches!(report.verdict, Verdict::Clean | Verdict::TornTail { .. }),
            "{:?}",
            report.verdict
        );
        if let Ok(range) = before {
            assert_eq!(range.end, report.end_lsn, "a reader sees what recovery keeps");
        }
        self.check_report(report.first_lsn, report.end_lsn);
        self.check_records(&log);
        self.append_some(&log).expect("a repaired log takes records");
        self.check_records(&log);
        log.close().expect("a repaired log closes");
        report
    }

    fn check_records(&self, log: &Log) {
        let mut expected = log.first_lsn();
        for record in log.iter(..).expect("the range is the log's own") {
            let record = record.expect("what recovery kept is whole");
            assert_eq!(record.lsn, expected);
            let index = usize::try_from(expected.get() - 1).expect("a small log");
            assert_eq!(record.bytes(), &self.records[index][..], "LSN {expected}");
            expected = expected.next();
        }
        assert_eq!(expected, log.durable_lsn(), "no gap up to the durable end");
    }
}

fn operations_of_workload(config: &Config, depth: usize) -> u64 {
    let disk = SimDisk::new(1);
    disk.set_queue_depth(depth);
    Model::default().run(&disk, config).expect("nothing fails without a cut");
    disk.operations()
}

fn cut_everywhere(depth: usize) {
    let config = config();
    let operations = operations_of_workload(&config, depth);
    assert!(operations > 300, "the workload is worth cutting: {operations}");
    let (mut torn, mut rolled) = (0, 0);
    for cut in 1..=operations {
        for outcome in 0..outcomes() {
            let disk = SimDisk::new(1);
            disk.set_queue_depth(depth);
            disk.cut_at(cut);
            let mut model = Model::default();
            let ended = model.run(&disk, &config);
            assert!(ended.is_err() || cut == operations, "cut {cut} was not felt");
            match outcome {
                0 => disk.restart_losing_all(),
                1 => disk.restart_keeping_all(),
                seed => disk.restart(seed * 7919 + cut),
            }
            disk.set_queue_depth(depth);
            let report = model.check(&disk, &config);
            torn += u64::from(matches!(report.verdict, Verdict::TornTail { .. }));
            rolled += u64::from(report.segments > 1);
        }
    }
    let states = operations * outcomes();
    println!("{states} power cuts, {torn} torn tails, {rolled} with several segments");
    assert!(torn > 20 && rolled > states / 4, "the interesting states were reached");
}

#[test]
fn every_cut_point_with_several_writes_on_their_way() {
    cut_everywhere(4);
}

#[test]
fn every_cut_point_with_one_write_at_a_time() {
    cut_everywhere(1);
}

/// The power goes out again during each operation of the recovery from a first cut, twice.
#[test]
fn crash_during_recovery() {
    let config = config();
    let operations = operations_of_workload(&config, 4);
    for cut in (10..operations).step_by(7) {
        let mut second = 1;
        loop {
            let disk = SimDisk::new(1);
            disk.cut_at(cut);
            let mut model = Model::default();
            let _ = model.run(&disk, &config);
            disk.restart(cut);
            disk.cut_at(disk.operations() + second);
            let recovered = Log::open_on(Arc::new(disk.clone()), config.clone());
            let was_cut = match recovered {
                Ok((log, _)) => log.close().is_err(),
                Err(_) => true,
            };
            disk.restart(cut + second);
            model.check(&disk, &config);
            if !was_cut {
                break;
            }
            second += 1;
        }
    }
}

/// A process dies after a write that nobody synced, and the next one finds its bytes: what it appends
/// behind them must not stand on bytes that a power cut then takes away.
#[test]
fn what_was_found_is_synced_before_anything_stands_on_it() {
    let mut kept = 0;
    for seed in 0..40 {
        let disk = SimDisk::new(seed);
        let (log, _) = Log::open_on(Arc::new(disk.clone()), config()).expect("an empty disk");
        log.append(b"acknowledged").expect("nothing fails yet");
        disk.fail_nth(OperationKind::Write, 1, std::io::ErrorKind::Other);
        assert!(log.append(b"in doubt").is_err());
        // Poisoned, so that it writes nothing any more.
        drop(log);
        let (log, report) = Log::open_on(Arc::new(disk.clone()), config()).expect("it recovers");
        kept += u64::from(report.end_lsn > Lsn::new(2));
        let last = log.append(b"on top of it").expect("a repaired log takes records");
        std::mem::forget(log);
        disk.restart_losing_all();
        let (log, report) = Log::open_on(Arc::new(disk.clone()), config()).expect("it recovers");
        assert_eq!(report.end_lsn, last.next(), "seed {seed}");
        assert_eq!(log.read(last).expect("acknowledged").bytes(), b"on top of it");
    }
    assert!(kept > 5, "the case that matters was reached: {kept}");
}
