//! What a log must hold: the records that were appended, and how much of it was promised.
//!
//! Owns [`Model`], the configuration of the logs in here, and the reading of a log against its model.

use cairnlog_engine::{Config, Log, Lsn, ReadError, Record};

/// Small segments and blocks, so that few records make many of both.
pub(crate) fn config() -> Config {
    let mut config = Config::with_segment_bytes(64 << 10);
    config.block_bytes = BLOCK_BYTES;
    config.record_bytes_max = RECORD_BYTES_MAX;
    config.batch_bytes_max = 4 << 10;
    config.inflight_bytes_max = 512 << 10;
    config.hot_bytes_max = 16 << 10;
    config
}

pub(crate) const BLOCK_BYTES: u32 = 512;
pub(crate) const RECORD_BYTES_MAX: usize = 20 << 10;

/// The records of a log by LSN - 1, over all its lives.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub(crate) records: Vec<Vec<u8>>,
    /// Every record below it was acknowledged, or found by recovery.
    pub(crate) acknowledged: Lsn,
    counter: u64,
}

impl Model {
    /// A record that was not appended before, as far as `bytes` allow.
    pub(crate) fn make(&mut self, bytes: usize) -> Vec<u8> {
        self.counter += 1;
        let mut record = self.counter.to_le_bytes().to_vec();
        record.resize(bytes, record[0]);
        record
    }

    /// The next LSN that can be assigned.
    pub(crate) fn end_lsn(&self) -> Lsn {
        lsn_at(self.records.len())
    }

    pub(crate) fn record(&self, lsn: Lsn) -> Option<&[u8]> {
        let at = usize::try_from(lsn.get().checked_sub(1)?).ok()?;
        self.records.get(at).map(Vec::as_slice)
    }

    /// Every record below `end` is promised from now on.
    pub(crate) fn acknowledge(&mut self, end: Lsn) {
        assert!(end <= self.end_lsn(), "LSN {end} was never assigned");
        self.acknowledged = self.acknowledged.max(end);
    }

    /// Forgets the records from `end` on, none of which may have been promised.
    pub(crate) fn truncate(&mut self, end: Lsn) {
        let acknowledged = self.acknowledged;
        assert!(end >= acknowledged, "acknowledged below {acknowledged}, and it ends at {end}");
        assert!(end <= self.end_lsn(), "nobody wrote what ends at {end}");
        self.records.truncate(usize::try_from(end.get() - 1).expect("as long as a vector"));
    }

    /// Believes a record that was read, where it is not known what was appended.
    pub(crate) fn replace(&mut self, record: &Record) {
        let at = usize::try_from(record.lsn.get() - 1).expect("as long as a vector");
        self.records[at] = record.bytes().to_vec();
    }

    /// Holds a record that was read against the one that was appended.
    pub(crate) fn check(&self, record: &Record) {
        let appended = self.record(record.lsn);
        assert_eq!(Some(record.bytes()), appended, "LSN {}", record.lsn);
    }

    /// Reads everything that is there, and says where it ended. What is read is right, without gaps.
    pub(crate) fn check_all(&self, log: &Log) -> Result<Lsn, ReadError> {
        self.check_records(log.first_lsn(), log.iter(..)?)
    }

    /// See [`Model::check_all`].
    pub(crate) fn check_records(
        &self,
        first: Lsn,
        records: impl Iterator<Item = Result<Record, ReadError>>,
    ) -> Result<Lsn, ReadError> {
        let mut expected = first;
        for record in records {
            let record = record?;
            assert_eq!(record.lsn, expected, "a gap or a repetition");
            self.check(&record);
            expected = expected.next();
        }
        Ok(expected)
    }
}

/// The LSN of the record at a place in a vector.
pub(crate) fn lsn_at(index: usize) -> Lsn {
    Lsn::FIRST.plus(u64::try_from(index).expect("64-bit targets"))
}
