//! What several test binaries share: a small log, and what must be true of it for those that cut the
//! power.
//!
//! Owns the model: what was appended, what was acknowledged, and what recovery may make of it. It is
//! the evidence of a run, so that it can be checked against many outcomes: a clone is cheap.
//!  P1 every record that was acknowledged is there;
//!  P2 what is there is exactly a prefix of what was appended, byte for byte;
//!  P3 and P4 a torn write damages nothing acknowledged, and is cut off without anybody's help.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::io::Read;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use cairnlog_engine::disk::Disk;
use cairnlog_engine::disk::sim::SimDisk;
use cairnlog_engine::{
    AppendError, ChangeError, Config, Epoch, Log, LogReader, Lsn, OpenError, ReadError,
    RecoveryReport, Verdict,
};

pub(crate) fn config() -> Config {
    config_of(64 << 10)
}

/// As [`config`], with other segments: a recycled file is zeroed up to 64 KiB, so that only behind that
/// it holds what it held before.
pub(crate) fn config_of(segment_bytes: u64) -> Config {
    let mut config = Config::with_segment_bytes(segment_bytes);
    config.block_bytes = 512;
    config.record_bytes_max = 20 << 10;
    config.batch_bytes_max = 4 << 10;
    config.inflight_bytes_max = 512 << 10;
    config
}

pub(crate) fn sim(disk: &SimDisk) -> Arc<dyn Disk> {
    Arc::new(disk.clone())
}

/// Runs `test` on its own thread; a hang becomes a failure.
pub(crate) fn within(seconds: u64, test: impl FnOnce() + Send + 'static) {
    let (done, wait) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        test();
        let _ = done.send(());
    });
    match wait.recv_timeout(Duration::from_secs(seconds)) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("hangs"),
        _ => {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic)
            }
        }
    }
}

/// Numbers that follow from a seed (splitmix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// What a checkpoint holds: several sectors.
fn state_at(lsn: Lsn) -> String {
    format!("everything below {lsn}. ").repeat(100)
}

/// Why a workload stopped: an error of the disk, which is what a power cut looks like from inside.
#[derive(Debug)]
pub(crate) struct Stopped;

impl From<AppendError> for Stopped {
    fn from(error: AppendError) -> Stopped {
        let expected = matches!(
            error,
            AppendError::Poisoned(_) | AppendError::NoSegment(_) | AppendError::Closed
        );
        assert!(expected, "{error:?}");
        Stopped
    }
}

impl From<ChangeError> for Stopped {
    fn from(error: ChangeError) -> Stopped {
        use ChangeError::{NotTaken, NotTruncated, Poisoned, Unreadable};
        let expected = matches!(
            error,
            Poisoned(_) | NotTaken(_) | NotTruncated(_) | Unreadable(ReadError::Io(_))
        );
        assert!(expected, "{error:?}");
        Stopped
    }
}

impl From<OpenError> for Stopped {
    fn from(error: OpenError) -> Stopped {
        assert!(matches!(error, OpenError::Io(_)), "{error:?}");
        Stopped
    }
}

/// What a test knows of one log over all its lives.
#[derive(Clone)]
pub(crate) struct Model {
    /// Everything that may be in the log, by LSN - 1; cut back to what recovery found.
    records: Vec<Arc<[u8]>>,
    /// So many records, from the first on, were acknowledged.
    pub(crate) acknowledged: u64,
    counter: u64,
    /// The cell as it was last acknowledged, and what may have replaced it.
    cell: Vec<u8>,
    next_cell: Option<Vec<u8>>,
    /// The greatest LSN that a trim was asked for, and the first LSN that one answered.
    trim_asked: Lsn,
    first_lsn: Lsn,
    /// Of the last open that was answered.
    epoch: Epoch,
    start_counter: u64,
    /// The newest checkpoint that was answered, and those that may be there beside it.
    checkpoint_lsn: Lsn,
    unanswered_checkpoints: Vec<Lsn>,
    /// Where a truncation was asked for that was not answered.
    truncating: Option<Lsn>,
    /// Whether the log drops old segments by itself.
    pub(crate) retains: bool,
    /// Whether the last life ended as it should: nothing can be torn then.
    closed: bool,
}

impl Default for Model {
    fn default() -> Model {
        Model {
            records: Vec::new(),
            acknowledged: 0,
            counter: 0,
            cell: Vec::new(),
            next_cell: None,
            trim_asked: Lsn::FIRST,
            first_lsn: Lsn::FIRST,
            epoch: Epoch::NONE,
            start_counter: 0,
            checkpoint_lsn: Lsn::NONE,
            unanswered_checkpoints: Vec::new(),
            truncating: None,
            retains: false,
            closed: false,
        }
    }
}

impl Model {
    /// A new record, different from all others, which may be in the log from now on.
    pub(crate) fn record(&mut self) -> Arc<[u8]> {
        let bytes = [0, 1, 90, 600, 5000, 13_000];
        let [low, ..] = (self.counter + 1).to_le_bytes();
        self.record_of(bytes[usize::from(low) * 7 % bytes.len()])
    }

    /// As [`Model::record`], of 8 bytes and so many more.
    pub(crate) fn record_of(&mut self, bytes: usize) -> Arc<[u8]> {
        self.counter += 1;
        let [low, ..] = self.counter.to_le_bytes();
        let mut record = vec![low; bytes];
        record.extend_from_slice(&self.counter.to_le_bytes());
        let record: Arc<[u8]> = record.into();
        self.records.push(Arc::clone(&record));
        record
    }

    fn acknowledge(&mut self, lsn: Lsn) {
        self.acknowledged = self.acknowledged.max(lsn.get());
    }

    fn appended(&self) -> u64 {
        self.records.len() as u64
    }

    pub(crate) fn append(&mut self, log: &Log) -> Result<(), Stopped> {
        let record = self.record();
        let lsn = log.append(&record)?;
        assert_eq!(lsn.get(), self.appended());
        self.acknowledge(lsn);
        Ok(())
    }

    /// Appends so many large records, of which a segment holds five.
    pub(crate) fn append_large(&mut self, log: &Log, count: u64) -> Result<(), Stopped> {
        for _ in 0..count {
            let record = self.record_of(12_000);
            let lsn = log.append(&record)?;
            self.acknowledge(lsn);
        }
        Ok(())
    }

    pub(crate) fn append_batch(&mut self, log: &Log) -> Result<(), Stopped> {
        let batch = [self.record(), self.record()];
        let lsns = log.append_batch(&batch)?;
        assert_eq!(lsns.end.get(), self.appended() + 1);
        self.acknowledge(Lsn::new(lsns.end.get() - 1));
        Ok(())
    }

    /// Appends with several tickets at once, which may be on their way together.
    pub(crate) fn submit(&mut self, log: &Log, count: u64) -> Result<(), Stopped> {
        let records: Vec<_> = (0..count).map(|_| self.record()).collect();
        self.submit_records(log, &records)
    }

    /// As [`Model::submit`], with four batches, whatever their records hold.
    pub(crate) fn submit_four(&mut self, log: &Log) -> Result<(), Stopped> {
        let records = [5000, 90, 4500, 600].map(|bytes| self.record_of(bytes));
        self.submit_records(log, &records)
    }

    /// As [`Model::submit`], with two batches, a small one and a large one.
    pub(crate) fn submit_two(&mut self, log: &Log) -> Result<(), Stopped> {
        let records = [600, 5000].map(|bytes| self.record_of(bytes));
        self.submit_records(log, &records)
    }

    fn submit_records(&mut self, log: &Log, records: &[Arc<[u8]>]) -> Result<(), Stopped> {
        let (mut tickets, before) = (Vec::new(), self.records.len() - records.len());
        for (number, record) in (1..).zip(records) {
            let ticket = log.submit(record)?;
            assert_eq!(ticket.lsns_if_durable().start.get(), before as u64 + number);
            tickets.push(ticket);
        }
        let mut stopped = Ok(());
        for ticket in tickets {
            match ticket.wait() {
                Ok(lsn) => self.acknowledge(lsn),
                Err(error) => stopped = Err(Stopped::from(error)),
            }
        }
        stopped
    }

    pub(crate) fn append_buffered(&mut self, log: &Log) -> Result<(), Stopped> {
        let record = self.record();
        let buffered = log.append_buffered(&record)?;
        assert_eq!(buffered.lsn_if_durable().get(), self.appended());
        Ok(())
    }

    pub(crate) fn sync(&mut self, log: &Log) -> Result<(), Stopped> {
        let durable = log.sync()?;
        assert_eq!(durable.get(), self.appended() + 1);
        self.acknowledge(Lsn::new(self.appended()));
        Ok(())
    }

    /// One append in each way there is; stops at the first failure.
    pub(crate) fn append_some(&mut self, log: &Log) -> Result<(), Stopped> {
        self.append(log)?;
        self.append_batch(log)?;
        self.submit(log, 5)?;
        self.append_buffered(log)
    }

    pub(crate) fn set_cell(&mut self, log: &Log) -> Result<(), Stopped> {
        self.counter += 1;
        let cell = self.counter.to_le_bytes().to_vec();
        self.next_cell = Some(cell.clone());
        log.set_cell(&cell)?;
        (self.cell, self.next_cell) = (cell, None);
        Ok(())
    }

    /// Takes a checkpoint of everything that is durable; its content follows from its LSN.
    pub(crate) fn checkpoint(&mut self, log: &Log) -> Result<(), Stopped> {
        let lsn = log.durable_lsn();
        self.unanswered_checkpoints.push(lsn);
        log.checkpoint(lsn, |out| out.write_all(state_at(lsn).as_bytes()))?;
        self.checkpoint_lsn = lsn;
        self.unanswered_checkpoints.clear();
        Ok(())
    }

    /// The newest checkpoint answered is there, or one that was being taken.
    fn check_checkpoint(&mut self, log: &Log) {
        let newest = log.newest_checkpoint().expect("one is whole");
        let lsn = newest.as_ref().map_or(Lsn::NONE, |newest| newest.lsn());
        let is_known = lsn == self.checkpoint_lsn || self.unanswered_checkpoints.contains(&lsn);
        assert!(is_known, "nobody took a checkpoint at {lsn}");
        assert!(lsn >= self.checkpoint_lsn, "{lsn} instead of {}", self.checkpoint_lsn);
        if let Some(mut newest) = newest {
            let mut content = String::new();
            newest.read_to_string(&mut content).expect("it was checked");
            assert_eq!(content, state_at(lsn));
        }
        self.checkpoint_lsn = lsn;
    }

    /// Trims to a place between the first record and the durable end, in eighths.
    pub(crate) fn trim(&mut self, log: &Log, eighths: u64) -> Result<(), Stopped> {
        let (first, end) = (log.first_lsn().get(), log.durable_lsn().get());
        let lsn = Lsn::new(first + (end - first) * eighths / 8);
        self.trim_asked = self.trim_asked.max(lsn);
        self.first_lsn = log.trim(lsn)?;
        assert!(self.first_lsn <= self.trim_asked || self.retains);
        Ok(())
    }

    /// Gives up every record from `lsn` on; the name of the file that holds them then.
    pub(crate) fn truncate(&mut self, log: &Log, lsn: Lsn) -> Result<Option<String>, Stopped> {
        self.truncating = Some(lsn);
        let truncated = log.truncate(lsn)?;
        let given_up = lsn..Lsn::new(self.appended() + 1);
        assert_eq!((truncated.given_up, log.end_lsn()), (given_up, lsn));
        assert_eq!(log.durable_lsn(), lsn);
        self.truncated(lsn);
        Ok(truncated.fork)
    }

    /// Truncates to any place that leaves the newest checkpoint alone.
    pub(crate) fn truncate_somewhere(
        &mut self,
        log: &Log,
        random: &mut Random,
    ) -> Result<(), Stopped> {
        self.sync(log)?;
        let newest = log.checkpoints().first().copied().unwrap_or(Lsn::NONE);
        let oldest = log.first_lsn().max(self.checkpoint_lsn).max(newest).get();
        let back = random.below(log.end_lsn().get() - oldest + 1);
        self.truncate(log, Lsn::new(log.end_lsn().get() - back)).map(drop)
    }

    fn truncated(&mut self, lsn: Lsn) {
        self.truncating = None;
        self.acknowledged = lsn.get() - 1;
        self.records.truncate(usize::try_from(self.acknowledged).expect("a small log"));
    }

    pub(crate) fn close(&mut self, log: Log) -> Result<(), Stopped> {
        log.close()?;
        self.acknowledge(Lsn::new(self.appended()));
        self.closed = true;
        Ok(())
    }

    /// Opens the log during a workload, and checks what it finds.
    pub(crate) fn open(&mut self, disk: &SimDisk, config: &Config) -> Result<Log, Stopped> {
        let (log, report) = Log::open_on(Arc::new(disk.clone()), config.clone())?;
        self.check_report(&log, &report);
        Ok(log)
    }

    /// A workload that is always the same: until the power goes out, or to the end.
    pub(crate) fn run(&mut self, disk: &SimDisk, config: &Config) -> Result<(), Stopped> {
        for life in 0..3 {
            let log = self.open(disk, config)?;
            for _ in 0..6 {
                self.append_some(&log)?;
            }
            if life == 1 {
                self.trim(&log, 4)?;
                self.set_cell(&log)?;
            }
            if life != 0 {
                self.close(log)?;
            }
        }
        Ok(())
    }

    /// What an open says must fit to all that is known; from then on it is what is known.
    fn check_report(&mut self, log: &Log, report: &RecoveryReport) {
        let (first, end) = (report.first_lsn, report.end_lsn);
        let kept = end.get() - 1;
        if let Some(lsn) = self.truncating.take().filter(|lsn| *lsn == end) {
            self.truncated(lsn);
        }
        let repaired = matches!(report.verdict, Verdict::Clean | Verdict::TornTail { .. });
        assert!(repaired, "{:?}", report.verdict);
        assert!(report.verdict == Verdict::Clean || !self.closed, "{:?}", report.verdict);
        assert!(kept >= self.acknowledged, "{} acknowledged, {kept} kept", self.acknowledged);
        assert!(kept <= self.appended(), "nobody wrote LSN {kept}");
        assert!(first <= end);
        assert!(first >= self.first_lsn, "a trim was answered, and is undone");
        let asked = first <= self.trim_asked || self.retains;
        assert!(asked, "more was trimmed than was asked for");
        assert!(report.epoch > self.epoch, "{:?} was promised before", report.epoch);
        assert!(report.start_counter > self.start_counter);
        assert!(report.foreign.is_empty(), "{:?}", report.foreign);
        let cell = log.cell();
        assert!(cell == self.cell || self.next_cell.as_ref() == Some(&cell), "{cell:?}");
        (self.cell, self.next_cell) = (cell, None);
        self.records.truncate(usize::try_from(kept).expect("a small log"));
        (self.acknowledged, self.first_lsn) = (kept, first);
        (self.epoch, self.start_counter) = (report.epoch, report.start_counter);
        self.closed = false;
    }

    /// The log after a cut: looked at, opened, and read in full.
    pub(crate) fn check_open(&mut self, disk: &SimDisk, config: &Config) -> (Log, RecoveryReport) {
        let before = LogReader::open_on(Arc::new(disk.clone())).map(|r| r.range());
        let opened = Log::open_on(Arc::new(disk.clone()), config.clone());
        let (log, report) = opened.unwrap_or_else(|e| panic!("the log does not open: {e}"));
        if let Ok(range) = before {
            // What a truncation in the middle of a batch keeps of it is back only with the next open.
            let seen = range.end == report.end_lsn || self.truncating.is_some();
            assert!(seen, "a reader sees what recovery keeps");
        }
        self.check_report(&log, &report);
        self.check_checkpoint(&log);
        self.check_records(&log);
        (log, report)
    }

    /// The log after a cut: whole, and as good as new.
    pub(crate) fn check(&mut self, disk: &SimDisk, config: &Config) -> RecoveryReport {
        let (log, report) = self.check_open(disk, config);
        self.append_some(&log).expect("a repaired log takes records");
        self.check_records(&log);
        self.close(log).expect("a repaired log closes");
        report
    }

    pub(crate) fn check_records(&self, log: &Log) {
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
