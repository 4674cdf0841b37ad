//! Appending, in every way there is.

use cairnlog_engine::{AppendError, Lsn};

use super::Operation;
use super::world::{Pending, World};
use crate::model::RECORD_BYTES_MAX;

/// Four such records are not too much for one batch.
const SEVERAL_BYTES_MAX: u16 = 5000;

/// Who appends, and the number of the first record.
type Producer = Option<(u128, u64)>;

impl Operation {
    pub(super) fn appends(&self) -> bool {
        use Operation::{Append, AppendBatch, Buffer, Submit, SubmitAs, Sync, Wait, WaitForAll};
        matches!(self, Append { .. } | AppendBatch { .. } | Submit { .. } | SubmitAs { .. })
            || matches!(self, Buffer { .. } | Wait | WaitForAll | Sync)
    }
}

impl World {
    pub(super) fn run_append(&mut self, operation: &Operation) {
        match *operation {
            Operation::Append { bytes } => self.append(&[bytes], false),
            Operation::AppendBatch { bytes, records } => {
                self.append(&several(bytes, records), true);
            }
            Operation::Submit { bytes } => self.submit(&[bytes], None),
            Operation::SubmitAs { producer, bytes, records } => {
                let producer = (u128::from(producer % 3), self.last_sequence + 1);
                self.submit(&several(bytes, records), Some(producer));
            }
            Operation::Buffer { bytes } => self.buffer(bytes),
            Operation::Wait => self.wait(),
            Operation::WaitForAll => (0..self.tickets.len()).for_each(|_| self.wait()),
            Operation::Sync => self.sync(),
            _ => unreachable!("the others append nothing"),
        }
    }

    fn make(&mut self, bytes: &[u16]) -> Vec<Vec<u8>> {
        let bytes = bytes.iter().map(|bytes| usize::from(*bytes) % (RECORD_BYTES_MAX + 1));
        bytes.map(|bytes| self.model.make(bytes)).collect()
    }

    fn append(&mut self, bytes: &[u16], as_batch: bool) {
        let records = self.make(bytes);
        let appended = if as_batch {
            self.log().append_batch(&records).map(|lsns| lsns.start)
        } else {
            self.log().append(&records[0])
        };
        match appended {
            Ok(first) => {
                self.enter(first, &records, None);
                self.model.acknowledge(self.model.end_lsn());
            }
            Err(error) => self.failed(&records, None, &error),
        }
    }

    fn submit(&mut self, bytes: &[u16], producer: Producer) {
        let records = self.make(bytes);
        self.last_sequence += count(&records);
        let submitted = match producer {
            Some((id, first)) => self.log().submit_batch_as(id, first, &records),
            None => self.log().submit_batch(&records),
        };
        match submitted {
            Ok(ticket) => {
                let first = ticket.lsns_if_durable().start;
                self.enter(first, &records, producer);
                self.tickets.push_back(Pending { ticket, first, records });
            }
            Err(error) => self.failed(&records, producer, &error),
        }
    }

    fn buffer(&mut self, bytes: u16) {
        let records = self.make(&[bytes]);
        match self.log().append_buffered(&records[0]) {
            Ok(buffered) => {
                let first = buffered.lsn_if_durable();
                self.enter(first, &records, None);
                self.buffered = self.buffered.or(Some(first));
            }
            Err(error) => self.failed(&records, None, &error),
        }
    }

    /// Enters records into the model at the LSN that they were given.
    fn enter(&mut self, first: Lsn, records: &[Vec<u8>], producer: Producer) {
        self.note_given_up(first);
        assert_eq!(first, self.model.end_lsn(), "LSNs are dense");
        self.model.records.extend_from_slice(records);
        let numbers = 0..count(records);
        self.producers.extend(numbers.map(|n| producer.map(|(id, first)| (id, first + n))));
    }

    /// Goes on after an append that was refused or failed. One that failed may be in the log.
    fn failed(&mut self, records: &[Vec<u8>], producer: Producer, error: &AppendError) {
        if matches!(error, AppendError::Poisoned(_)) {
            let (before, end) = (self.model.end_lsn(), self.log().end_lsn());
            // Others were given up first, and whether these took their place cannot be told.
            self.is_unsure = end != before && end != before.plus(count(records));
            self.enter(before, records, producer);
        }
        self.recover(error);
    }

    fn wait(&mut self) {
        let Some(pending) = self.tickets.pop_front() else { return };
        if let Err(error) = self.settle(pending) {
            self.recover(&error);
        }
    }

    /// Waits for a ticket, and believes it.
    pub(super) fn settle(&mut self, pending: Pending) -> Result<(), AppendError> {
        let Pending { ticket, first, records } = pending;
        let lsn = ticket.wait()?;
        assert_eq!(lsn, first);
        let end = lsn.plus(count(&records));
        for (record, number) in records.iter().zip(lsn.get()..end.get()) {
            let there = self.model.record(Lsn::new(number));
            assert_eq!(there, Some(&record[..]), "O5: a ticket ends well for records of others");
        }
        self.model.acknowledge(end);
        Ok(())
    }

    fn sync(&mut self) {
        let synced = self.log().sync();
        self.note_given_up(self.log().end_lsn());
        match synced {
            Ok(end) => {
                assert_eq!(end, self.model.end_lsn(), "everything that was appended is durable");
                assert!(!self.owes_error, "O5: a buffered record was given up, and sync is fine");
                self.model.acknowledge(end);
            }
            Err(error) => {
                self.owes_error = false;
                self.recover(&error);
            }
        }
    }
}

/// The lengths of a few records that fit into one batch.
fn several(bytes: u16, records: u8) -> Vec<u16> {
    vec![bytes % SEVERAL_BYTES_MAX; usize::from(records % 4) + 1]
}

fn count(records: &[Vec<u8>]) -> u64 {
    u64::try_from(records.len()).expect("few")
}
