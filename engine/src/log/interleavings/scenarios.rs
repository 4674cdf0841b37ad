//! Whole logs under the checker: appenders, tickets, the commit thread and the background thread, on a
//! simulated disk.
//!
//! Owns the crowds. Each ends by closing the log, which joins its threads: whoever is left waiting is a
//! deadlock, and is found.
//!
//! Invariants, in every scenario
//!  - An append or ticket that returns well is below the published `durable_lsn` (M3), and no LSN is given
//!    twice.                                                          asserted in `Crowd::acknowledged`
//!  - What was submitted becomes durable though nobody asks for it (M2).           asserted in `settle`
//!  - After a failure everybody hears of it.
//!
//! Threads: those of the checker; a stall is a time-out of the model, not one of the clock.

use std::collections::BTreeSet;
use std::io;

use shuttle::future::block_on;

use super::super::{Log, Ticket, open};
use super::bounded::Cost;
use super::{every, many, some};
use crate::config::Config;
use crate::disk::sim::{OperationKind, SimDisk};
use crate::error::IoFailure;
use crate::sync::{Arc, Mutex, thread};
use crate::{AppendError, Lsn};

fn config() -> Config {
    let mut config = Config::with_segment_bytes(64 << 10);
    config.block_bytes = 512;
    config.batch_bytes_max = 4 << 10;
    config.parity = false;
    config.scrub_bytes_per_second = 0;
    // Never over: a lost wake-up must show as a deadlock.
    config.stall_deadline_ms = 0;
    config
}

/// A log with its threads, and those who use it.
struct Crowd {
    disk: SimDisk,
    log: Arc<Log>,
    acknowledged: Mutex<BTreeSet<Lsn>>,
    members: Mutex<Vec<thread::JoinHandle<()>>>,
}

impl Crowd {
    fn new(config: Config) -> Arc<Crowd> {
        let disk = SimDisk::new(1);
        let opened = open::open_on(Arc::new(disk.clone()), config, true);
        let (log, _) = opened.expect("an empty disk is opened");
        let (acknowledged, members) = (Mutex::default(), Mutex::default());
        Arc::new(Crowd { disk, log: Arc::new(log), acknowledged, members })
    }

    /// One more thread.
    fn join_in(self: &Arc<Crowd>, member: impl FnOnce(&Crowd) + Send + 'static) {
        let crowd = Arc::clone(self);
        let joined = thread::spawn(move || member(&crowd));
        self.members.lock().expect("nobody panics").push(joined);
    }

    fn acknowledged(&self, lsn: Lsn) {
        assert!(lsn < self.log.durable_lsn(), "acknowledged and not published");
        let is_new = self.acknowledged.lock().expect("nobody panics").insert(lsn);
        assert!(is_new, "one LSN for two");
    }

    fn append(&self) {
        self.acknowledged(self.log.append(b"an append").expect("nothing fails"));
    }

    fn submit(&self) -> Ticket {
        self.log.submit(b"a ticket").expect("nothing fails")
    }

    /// Waits until all have gone.
    fn gone(&self) {
        let members = std::mem::take(&mut *self.members.lock().expect("nobody panics"));
        for member in members {
            member.join().expect("nobody panics");
        }
    }

    /// Waits until everything is durable, without asking for it.
    fn settle(&self) {
        let (end, core) = (self.log.end_lsn(), &self.log.core);
        core.progress.wait(None, || (core.progress.durable_lsn() >= end).then_some(()));
    }

    fn close(self: Arc<Crowd>) -> Result<(), AppendError> {
        let crowd = Arc::into_inner(self).expect("all have gone");
        let log = Arc::into_inner(crowd.log).expect("all have gone");
        let end = log.end_lsn();
        let core = Arc::clone(&log.core);
        let closed = log.close();
        assert!(closed.is_err() || core.progress.durable_lsn() >= end);
        closed
    }

    fn end(self: Arc<Crowd>) {
        self.gone();
        self.close().expect("nothing fails");
    }
}

fn three_append() {
    let crowd = Crowd::new(config());
    for appends in [1, 2, 2] {
        crowd.join_in(move |crowd| (0..appends).for_each(|_| crowd.append()));
    }
    crowd.end();
}

#[test]
fn appenders_lead_one_another() {
    many("three that append", three_append);
}

fn two_append() {
    let crowd = Crowd::new(config());
    for _ in 0..2 {
        crowd.join_in(Crowd::append);
    }
    crowd.end();
}

#[test]
fn two_appenders_with_one_departure() {
    every("two that append", Cost::Departure, 1, two_append);
}

fn append_and_tickets() {
    let crowd = Crowd::new(config());
    crowd.join_in(|crowd| {
        drop(crowd.submit());
        crowd.append();
        drop(crowd.submit());
    });
    crowd.join_in(|crowd| {
        let (first, second) = (crowd.submit(), crowd.submit());
        crowd.acknowledged(block_on(second).expect("nothing fails"));
        crowd.acknowledged(first.wait().expect("nothing fails"));
    });
    crowd.join_in(Crowd::append);
    crowd.gone();
    // Dropped tickets are written all the same.
    crowd.settle();
    crowd.end();
}

#[test]
fn tickets_are_written_whoever_drives() {
    many("tickets beside appends", append_and_tickets);
}

fn ticket_beside_append() {
    let crowd = Crowd::new(config());
    crowd.join_in(|crowd| drop(crowd.submit()));
    crowd.join_in(Crowd::append);
    crowd.gone();
    crowd.settle();
    crowd.end();
}

#[test]
fn a_dropped_ticket_with_one_departure() {
    every("a dropped ticket beside an append", Cost::Departure, 1, ticket_beside_append);
}

fn sync_among_others() {
    let crowd = Crowd::new(config());
    crowd.join_in(|crowd| {
        let buffered = crowd.log.append_buffered(b"a buffered one").expect("nothing fails");
        let synced = crowd.log.sync().expect("nothing fails");
        assert!(buffered.lsn_if_durable() < synced && synced <= crowd.log.durable_lsn());
    });
    crowd.join_in(|crowd| {
        drop(crowd.submit());
        let synced = crowd.log.sync().expect("nothing fails");
        assert!(synced <= crowd.log.durable_lsn());
    });
    crowd.join_in(Crowd::append);
    crowd.end();
}

#[test]
fn a_sync_drives_or_waits() {
    many("syncs beside appends", sync_among_others);
}

fn waits_that_time_out() {
    let mut config = config();
    config.stall_deadline_ms = 3_600_000;
    let crowd = Crowd::new(config);
    for _ in 0..2 {
        crowd.join_in(|crowd| (0..2).for_each(|_| crowd.append()));
    }
    crowd.join_in(|crowd| crowd.acknowledged(crowd.submit().wait().expect("nothing fails")));
    crowd.end();
}

#[test]
fn a_time_out_loses_no_request_to_lead() {
    many("waits that time out", waits_that_time_out);
}

/// What is said to those whose records are lost; what is acknowledged is durable even then.
fn poisoned(result: Result<Lsn, AppendError>, crowd: &Crowd) {
    match result {
        Ok(lsn) => crowd.acknowledged(lsn),
        Err(error) => assert!(matches!(error, AppendError::Poisoned(_)), "{error}"),
    }
}

fn a_write_fails() {
    let crowd = Crowd::new(config());
    // The segment's header, the epoch's start or the first batch is the first; a later one by luck.
    crowd.disk.fail_nth(OperationKind::Write, 3, io::ErrorKind::Other);
    crowd.join_in(|crowd| (0..2).for_each(|_| poisoned(crowd.log.append(b"one"), crowd)));
    crowd.join_in(|crowd| poisoned(crowd.log.append(b"another"), crowd));
    crowd.join_in(|crowd| {
        if let Ok(ticket) = crowd.log.submit(b"a ticket") {
            poisoned(block_on(ticket), crowd);
        }
    });
    crowd.gone();
    // It may have been the last write of all, a note of the background thread.
    let _ = crowd.close();
}

#[test]
fn a_failed_write_is_heard_by_all() {
    many("a write fails", a_write_fails);
}

fn poison_from_outside() {
    let mut config = config();
    config.stall_deadline_ms = 3_600_000;
    let crowd = Crowd::new(config);
    crowd.join_in(|crowd| (0..2).for_each(|_| poisoned(crowd.log.append(b"one"), crowd)));
    crowd.join_in(|crowd| {
        if let Ok(ticket) = crowd.log.submit(b"a ticket") {
            poisoned(ticket.wait(), crowd);
        }
        let _ = crowd.log.sync();
    });
    // As a stall, the background thread or a panic does it, beside a write that then ends well.
    crowd.join_in(|crowd| {
        let error = io::Error::other("from outside");
        crowd.log.core.fail(IoFailure::new("write to", "the disk", error));
    });
    crowd.gone();
    assert!(crowd.close().is_err());
}

#[test]
fn a_poison_from_outside_is_heard_by_all() {
    many("the log is poisoned beside the driver", poison_from_outside);
}

fn a_disk_without_room() {
    let crowd = Crowd::new(config());
    crowd.disk.set_free_bytes(Some(0));
    let refused = |result: Result<Lsn, AppendError>, crowd: &Crowd| match result {
        Ok(lsn) => crowd.acknowledged(lsn),
        Err(error) => assert!(matches!(error, AppendError::Full(_)), "{error}"),
    };
    for _ in 0..2 {
        crowd.join_in(move |crowd| refused(crowd.log.append(b"one"), crowd));
    }
    crowd.join_in(move |crowd| {
        let ticket = crowd.log.submit(b"a ticket").expect("taken, and refused later");
        refused(ticket.wait(), crowd);
    });
    crowd.join_in(|crowd| crowd.disk.set_free_bytes(None));
    crowd.gone();
    // There is room again.
    crowd.append();
    crowd.end();
}

#[test]
fn a_refusal_is_heard_by_all() {
    many("a disk without room", a_disk_without_room);
}

fn backlog() {
    let mut config = config();
    config.segment_bytes = 1 << 20;
    config.record_bytes_max = 128 << 10;
    // Three of the records, so that the fourth finds too much on its way.
    config.inflight_bytes_max = 400 << 10;
    let crowd = Crowd::new(config);
    let big = || vec![7; 120 << 10];
    crowd.join_in(move |crowd| {
        let tickets = [(); 3].map(|()| crowd.log.submit(&big()).expect("nothing fails"));
        for ticket in tickets {
            crowd.acknowledged(ticket.wait().expect("nothing fails"));
        }
    });
    crowd.join_in(move |crowd| {
        crowd.acknowledged(crowd.log.append(&big()).expect("nothing fails"));
        let _ = crowd.log.append_buffered(&big()).expect("nothing fails");
    });
    crowd.gone();
    crowd.end();
}

#[test]
fn who_waits_for_room_gets_it() {
    some("more than may be on its way", backlog);
}

/// Whoever appends waits while the log is truncated; what comes later stands behind the cut.
fn truncation_among_others() {
    let crowd = Crowd::new(config());
    crowd.append();
    crowd.join_in(|crowd| {
        crowd.log.append(b"before or behind the cut").expect("nothing fails");
    });
    crowd.join_in(|crowd| {
        let ticket = crowd.log.submit(b"a ticket").expect("nothing fails");
        ticket.wait().expect("nothing fails");
        crowd.log.sync().expect("nothing fails");
    });
    crowd.join_in(|crowd| {
        let truncated = crowd.log.truncate(Lsn::new(2)).expect("nothing fails");
        assert!(truncated.given_up.start == Lsn::new(2) && truncated.given_up.end <= Lsn::new(4));
    });
    crowd.gone();
    let (end, records) = (crowd.log.end_lsn(), crowd.log.iter(..).expect("from the first"));
    assert!((2..=4).contains(&end.get()));
    assert_eq!(records.filter(Result::is_ok).count() as u64, end.get() - 1);
    crowd.end();
}

#[test]
fn appenders_wait_for_a_truncation() {
    some("a truncation beside appends", truncation_among_others);
}

fn close_beside_a_handle() {
    let crowd = Crowd::new(config());
    let handle = crowd.log.in_order();
    let ticket = crowd.submit();
    let submits = thread::spawn(move || match handle.submit_batch(&[b"late"]) {
        Ok(ticket) => ticket.wait().map(drop),
        Err(error) => Err(error),
    });
    let waits = thread::spawn(move || ticket.wait());
    crowd.close().expect("nothing fails");
    let late = submits.join().expect("nobody panics");
    assert!(matches!(late, Ok(()) | Err(AppendError::Closed)), "{late:?}");
    waits.join().expect("nobody panics").expect("it was submitted before the close");
}

#[test]
fn a_close_leaves_nobody_waiting() {
    many("a close beside a handle that submits", close_beside_a_handle);
}
