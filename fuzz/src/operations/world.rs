//! The log under test, the disk below it, and what the model knows of both.
//!
//! Owns [`World`]: what is true between two operations, and how it is reached again after a failure.
//! The operations themselves are in `appends` and `reads`.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use cairnlog_engine::disk::sim::{OperationKind, POWER_CUT, SimDisk};
use cairnlog_engine::format::version::Fault;
use cairnlog_engine::{
    AppendError, ChangeError, IoFailure, Log, Lsn, OpenError, ReadError, Records, Ticket, Verdict,
    verify_on,
};

use super::Operation;
use crate::model::{Model, config};

/// So often an open is tried; every injected fault fails one.
const OPENS_MAX: usize = 100;
const KINDS: [OperationKind; 10] = [
    OperationKind::Create,
    OperationKind::Open,
    OperationKind::Rename,
    OperationKind::Remove,
    OperationKind::List,
    OperationKind::SyncDirectory,
    OperationKind::Read,
    OperationKind::Write,
    OperationKind::Sync,
    OperationKind::Submit,
];

pub(super) struct World {
    pub(super) disk: SimDisk,
    seed: u64,
    queue_depth: usize,
    /// Open between two operations.
    pub(super) log: Option<Log>,
    pub(super) model: Model,
    /// By LSN - 1, like the model's records: who appended each, and under what number.
    pub(super) producers: Vec<Option<(u128, u64)>>,
    pub(super) last_sequence: u64,
    pub(super) tickets: VecDeque<Pending>,
    /// The first buffered record that is not durable.
    pub(super) buffered: Option<Lsn>,
    /// A buffered record was given up, and nobody was told.
    pub(super) owes_error: bool,
    /// What the log has above the acknowledged records may not be what the model has there.
    pub(super) is_unsure: bool,
    pub(super) first: Lsn,
    /// Where a truncation was begun whose end is not known.
    truncating: Option<Lsn>,
    /// What the cell may be: the last one set, and those that were being set since.
    cells: Vec<Vec<u8>>,
    /// A sync of the directory may have failed: on this disk nothing makes names durable any more
    /// before the power was off.
    names_may_be_stuck: bool,
    pub(super) iterator: Option<(Records, Lsn)>,
    pub(super) look: Option<(Records, Lsn)>,
}

/// A ticket that was not waited for.
pub(super) struct Pending {
    pub(super) ticket: Ticket,
    pub(super) first: Lsn,
    pub(super) records: Vec<Vec<u8>>,
}

impl World {
    pub(super) fn new(seed: u64, queue_depth: usize) -> World {
        let mut model = Model::default();
        model.acknowledged = Lsn::FIRST;
        let mut world = World {
            disk: SimDisk::new(seed),
            seed,
            queue_depth,
            log: None,
            model,
            producers: Vec::new(),
            last_sequence: 0,
            tickets: VecDeque::new(),
            buffered: None,
            owes_error: false,
            is_unsure: false,
            first: Lsn::FIRST,
            truncating: None,
            cells: vec![Vec::new()],
            names_may_be_stuck: false,
            iterator: None,
            look: None,
        };
        world.open();
        world
    }

    pub(super) fn log(&self) -> &Log {
        self.log.as_ref().expect("between two operations the log is open")
    }

    pub(super) fn run(&mut self, operation: &Operation) {
        match *operation {
            Operation::Trim { record } => self.trim(record),
            Operation::Truncate { record } => self.truncate_log(record),
            Operation::SetCell { bytes } => self.set_cell(bytes),
            Operation::Close => self.close(),
            Operation::CutPower { operations } => {
                self.disk.cut_at(self.disk.operations() + 1 + u64::from(operations));
            }
            Operation::Fail { kind, nth, full } => {
                let kind = KINDS[usize::from(kind) % KINDS.len()];
                let error = if full { io::ErrorKind::StorageFull } else { io::ErrorKind::Other };
                self.names_may_be_stuck |= kind == OperationKind::SyncDirectory;
                self.disk.fail_nth(kind, u64::from(nth % 16) + 1, error);
            }
            Operation::SetRoom { kib } => {
                let bytes = (kib < u8::MAX).then(|| u64::from(kib) << 10);
                self.disk.set_free_bytes(bytes);
            }
            Operation::SetClock { ms } => self.disk.set_now_ms(u64::from(ms)),
            _ if operation.appends() => self.run_append(operation),
            _ => self.run_read(operation),
        }
        let (durable, end) = (self.log().durable_lsn(), self.log().end_lsn());
        assert!(self.model.acknowledged <= durable && durable <= end);
        self.note_given_up(end);
        self.note_durable();
    }

    /// Everything below the published `durable_lsn` is promised.
    fn note_durable(&mut self) {
        let durable = self.log().durable_lsn();
        self.model.acknowledge(durable);
        self.buffered = self.buffered.filter(|lsn| *lsn >= durable);
    }

    /// Takes note that the log now ends at `end`: what was behind it was given up, because there was no
    /// segment for it.
    pub(super) fn note_given_up(&mut self, end: Lsn) {
        if end < self.model.end_lsn() {
            self.owes_error |= self.buffered.is_some_and(|lsn| lsn >= end);
            self.buffered = self.buffered.filter(|lsn| *lsn < end);
            self.truncate(end);
        }
    }

    fn truncate(&mut self, end: Lsn) {
        self.model.truncate(end);
        self.producers.truncate(self.model.records.len());
    }

    fn close(&mut self) {
        self.drop_readers();
        let log = self.log.take().expect("between two operations the log is open");
        match log.close() {
            Ok(()) => {
                assert!(!self.owes_error, "O5: a buffered record was given up, and close is fine");
                self.model.acknowledge(self.model.end_lsn());
                self.settle_tickets();
            }
            Err(error) => {
                self.settle_tickets();
                self.power_may_be_out(failure_of(&error));
            }
        }
        self.open();
    }

    fn trim(&mut self, record: u16) {
        let lsn = self.some_lsn(record);
        let durable = self.log().durable_lsn();
        match self.log().trim(lsn) {
            Ok(first) => {
                assert!(lsn <= durable && first <= lsn.max(self.first), "O4");
                assert!(first >= self.first, "O4: what was trimmed is back");
                self.first = first;
            }
            Err(ChangeError::OutOfRange { .. }) => assert!(lsn > durable),
            Err(ChangeError::Poisoned(failure)) => self.reopen(Some(&failure)),
            Err(error) => panic!("trimming: {error}"),
        }
    }

    fn truncate_log(&mut self, record: u16) {
        self.drop_readers();
        self.run_append(&Operation::WaitForAll);
        self.run_append(&Operation::Sync);
        let (lsn, durable) = (self.some_lsn(record), self.log().durable_lsn());
        if self.is_unsure || durable < self.model.end_lsn() {
            return;
        }
        self.truncating = Some(lsn);
        match self.log().truncate(lsn) {
            Ok(truncated) => {
                assert_eq!(truncated.given_up, lsn..durable, "O4");
                self.truncated(lsn);
            }
            Err(ChangeError::OutOfRange { .. }) => assert!(lsn > durable),
            Err(ChangeError::NotTruncated(failure)) if failure.source.kind() != POWER_CUT => {}
            Err(ChangeError::Unreadable(ReadError::Io(failure)))
                if failure.source.kind() != POWER_CUT => {}
            Err(
                ChangeError::NotTruncated(failure)
                | ChangeError::Unreadable(ReadError::Io(failure))
                | ChangeError::Poisoned(failure),
            ) => self.reopen(Some(&failure)),
            Err(error) => panic!("truncating: {error}"),
        }
        self.truncating = None;
    }

    fn truncated(&mut self, lsn: Lsn) {
        self.model.acknowledged = lsn;
        self.truncate(lsn);
    }

    fn set_cell(&mut self, bytes: u8) {
        let cell = vec![bytes; usize::from(bytes) * 4];
        self.cells.push(cell.clone());
        match self.log().set_cell(&cell) {
            Ok(()) => self.cells = vec![cell],
            Err(ChangeError::Poisoned(failure)) => self.reopen(Some(&failure)),
            Err(error) => panic!("setting the cell: {error}"),
        }
    }

    /// An LSN of the log, or the one behind it.
    pub(super) fn some_lsn(&self, record: u16) -> Lsn {
        let count = self.model.end_lsn().since(self.first) + 2;
        self.first.plus(u64::from(record) % count)
    }

    /// Goes on after an error of an append: the log stays as it is, or is opened again.
    pub(super) fn recover(&mut self, error: &AppendError) {
        match error {
            AppendError::Full(failure) | AppendError::NoSegment(failure)
                if failure.source.kind() != POWER_CUT =>
            {
                self.note_given_up(self.log().end_lsn());
            }
            AppendError::Full(_) | AppendError::NoSegment(_) | AppendError::Poisoned(_) => {
                self.reopen(failure_of(error));
            }
            error => panic!("appending: {error}"),
        }
    }

    /// Drops the log, as a process that fails does, and opens it again.
    pub(super) fn reopen(&mut self, failure: Option<&IoFailure>) {
        self.drop_readers();
        self.note_durable();
        self.log = None;
        self.settle_tickets();
        self.power_may_be_out(failure);
        self.open();
    }

    pub(super) fn drop_readers(&mut self) {
        (self.iterator, self.look) = (None, None);
    }

    /// Whatever the tickets say, after the log has ended.
    fn settle_tickets(&mut self) {
        for pending in std::mem::take(&mut self.tickets) {
            // Those that end badly may be there all the same.
            let _ = self.settle(pending);
        }
    }

    fn power_may_be_out(&mut self, failure: Option<&IoFailure>) {
        if failure.is_none_or(|failure| failure.source.kind() == POWER_CUT) {
            self.restart();
        }
    }

    fn restart(&mut self) {
        self.seed += 1;
        self.names_may_be_stuck = false;
        self.disk.restart(self.seed);
    }

    /// Opens the log; nothing but an injected fault may keep it from that.
    fn open(&mut self) {
        self.disk.set_queue_depth(self.queue_depth);
        for attempt in 0..OPENS_MAX {
            if self.names_may_be_stuck {
                self.restart();
            }
            match Log::open_on(Arc::new(self.disk.clone()), config()) {
                Ok((log, report)) => {
                    assert_torn_at_worst(&report.verdict);
                    assert!(report.first_lsn >= self.first, "O4: what was trimmed is back");
                    self.first = report.first_lsn;
                    if self.truncating.take() == Some(report.end_lsn) {
                        self.truncated(report.end_lsn);
                    }
                    self.truncate(report.end_lsn);
                    self.take_over(log);
                    return;
                }
                Err(OpenError::Io(failure)) => self.power_may_be_out(Some(&failure)),
                Err(OpenError::Full(_)) => self.disk.set_free_bytes(None),
                Err(OpenError::Damaged { report, .. }) if is_unreadable(&report.verdict) => {
                    // A fault, many of them, or the power.
                    if attempt > OPENS_MAX / 2 {
                        self.restart();
                    }
                }
                Err(error) => panic!("O2: {error}"),
            }
        }
        panic!("O2: the log does not open");
    }

    /// What recovery found is promised from now on.
    fn take_over(&mut self, log: Log) {
        let cell = log.cell();
        assert!(self.cells.contains(&cell), "O4: {cell:?}");
        self.cells = vec![cell];
        (self.buffered, self.owes_error) = (None, false);
        if std::mem::take(&mut self.is_unsure) {
            let unsure = self.model.acknowledged.max(log.first_lsn());
            for record in log.iter(unsure..).into_iter().flatten().flatten() {
                self.model.replace(&record);
            }
        }
        self.model.acknowledge(log.durable_lsn());
        self.log = Some(log);
    }

    /// At the end, without any more faults, everything is as it should be.
    pub(super) fn end(mut self) {
        self.drop_readers();
        self.note_durable();
        self.log = None;
        self.settle_tickets();
        self.restart();
        self.disk.set_free_bytes(None);
        self.open();
        self.read_all().unwrap_or_else(|error| panic!("O3: {error}"));
        self.run(&Operation::Append { bytes: 1000 });
        let log = self.log.take().expect("it was opened");
        log.close().unwrap_or_else(|error| panic!("nothing fails any more: {error}"));
        let report = verify_on(&self.disk, &mut |_, _| {});
        let report = report.unwrap_or_else(|error| panic!("nothing fails any more: {error}"));
        assert!(report.is_whole(), "O2: {report:?}");
        assert_eq!((report.verdict, report.end_lsn), (Verdict::Clean, self.model.end_lsn()));
    }
}

pub(super) fn assert_torn_at_worst(verdict: &Verdict) {
    let torn = matches!(verdict, Verdict::Clean | Verdict::TornTail { .. });
    assert!(torn || is_unreadable(verdict), "O2: {verdict}");
}

/// A read was made to fail.
fn is_unreadable(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Damaged(corruption) if corruption.fault == Fault::Unreadable)
}

pub(super) fn failure_of(error: &AppendError) -> Option<&IoFailure> {
    match error {
        AppendError::Full(failure)
        | AppendError::NoSegment(failure)
        | AppendError::Poisoned(failure) => Some(failure),
        _ => None,
    }
}
