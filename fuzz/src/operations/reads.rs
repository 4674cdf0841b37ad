//! Reading, from within and beside the log, at once and with readers that are kept.

use std::sync::Arc;
use std::time::Duration;

use cairnlog_engine::disk::sim::POWER_CUT;
use cairnlog_engine::{LogReader, Lsn, ReadError, Records};

use super::Operation;
use super::world::{World, assert_torn_at_worst};
use crate::model::lsn_at;

impl World {
    pub(super) fn run_read(&mut self, operation: &Operation) {
        let read = match *operation {
            Operation::Read { record } => self.read_one(record),
            Operation::ReadAll => self.read_all(),
            Operation::AtTime { record } => self.read_at_time(record),
            Operation::NextSequence { producer } => self.next_sequence(u128::from(producer % 3)),
            Operation::Iterate { record } => self.iterate(record),
            Operation::Look { record } => {
                self.look(record);
                Ok(())
            }
            Operation::GoOn { records } => {
                let (iterator, look) = (self.iterator.take(), self.look.take());
                self.iterator = self.go_on(iterator, records);
                self.look = self.go_on(look, records);
                Ok(())
            }
            _ => unreachable!("the others change something"),
        };
        match read {
            Ok(()) => {}
            // An injected fault is an excuse, damage is not.
            Err(ReadError::Io(failure)) => {
                if failure.source.kind() == POWER_CUT {
                    self.reopen(Some(&failure));
                }
            }
            Err(error) => panic!("O3: {error}"),
        }
    }

    fn read_one(&self, record: u16) -> Result<(), ReadError> {
        let (log, lsn) = (self.log(), self.some_lsn(record));
        match log.read(lsn) {
            Ok(record) => self.model.check(&record),
            Err(ReadError::OutOfRange { .. }) => {
                assert!(lsn >= log.durable_lsn() || lsn < log.first_lsn(), "O3: LSN {lsn}");
            }
            Err(error) => return Err(error),
        }
        let mut tail = log.tail(log.first_lsn())?;
        let next = tail.next_timeout(Duration::ZERO)?;
        next.iter().for_each(|record| self.model.check(record));
        Ok(())
    }

    pub(super) fn read_all(&self) -> Result<(), ReadError> {
        assert_eq!(self.model.check_all(self.log())?, self.log().durable_lsn(), "O3");
        Ok(())
    }

    fn read_at_time(&self, record: u16) -> Result<(), ReadError> {
        let Ok(record) = self.log().read(self.some_lsn(record)) else { return Ok(()) };
        let lsn = self.log().lsn_at_time(record.time_ms)?;
        assert!(lsn <= record.lsn, "a record of that time comes first");
        assert!(self.log().read(lsn)?.time_ms >= record.time_ms);
        Ok(())
    }

    fn next_sequence(&self, producer: u128) -> Result<(), ReadError> {
        let range = self.log().first_lsn()..self.log().durable_lsn();
        let found = self.log().next_sequence(producer)?;
        let known = self.producers.iter().enumerate().rev().filter_map(|(index, appended)| {
            appended.filter(|(id, _)| *id == producer && range.contains(&lsn_at(index)))
        });
        assert_eq!(found, known.map(|(_, sequence)| sequence + 1).next());
        Ok(())
    }

    fn iterate(&mut self, record: u16) -> Result<(), ReadError> {
        let lsn = self.some_lsn(record);
        self.iterator = match self.log().iter(lsn..) {
            Ok(records) => Some((records, lsn)),
            Err(ReadError::OutOfRange { .. }) => None,
            Err(error) => return Err(error),
        };
        Ok(())
    }

    fn look(&mut self, record: u16) {
        let Ok(reader) = LogReader::open_on(Arc::new(self.disk.clone())) else { return };
        assert_torn_at_worst(reader.verdict());
        let (range, end) = (reader.range(), self.model.end_lsn());
        assert!(range.end <= end, "O6: nobody wrote what ends at {}", range.end);
        let lsn = self.some_lsn(record);
        self.look = reader.iter(lsn..).ok().map(|records| (records, lsn));
    }

    /// Reads on with a reader that was kept; `None` when it is at its end.
    fn go_on(&self, reader: Option<(Records, Lsn)>, records: u8) -> Option<(Records, Lsn)> {
        let (mut reader, mut lsn) = reader?;
        for _ in 0..=records {
            match reader.next()? {
                Ok(record) => {
                    assert_eq!(record.lsn, lsn, "O6: a gap or a repetition");
                    self.model.check(&record);
                    lsn = lsn.next();
                }
                Err(ReadError::Corrupt(corruption)) => panic!("O6: {corruption}"),
                // Trimmed meanwhile, or made to fail.
                Err(_) => return None,
            }
        }
        Some((reader, lsn))
    }
}
