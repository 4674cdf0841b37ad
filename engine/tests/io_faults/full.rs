//! A full disk: refused with a typed error, and over when there is room again (P10).

use std::sync::Arc;

use cairnlog_engine::disk::sim::SimDisk;
use cairnlog_engine::{AppendError, Log, LogReader, Lsn, OpenError};

use crate::model::{Model, open};

/// Appends until the disk is full; how many records went in.
fn fill(model: &mut Model, log: &Log) -> u64 {
    for count in 0..1000 {
        let end = log.end_lsn();
        model.write(end, vec![7; 8000]);
        match log.append(&[7; 8000]) {
            Ok(lsn) => model.acknowledge(lsn),
            Err(error) => {
                check_full(model, log, &error);
                assert_eq!(log.end_lsn(), end, "a refused record takes no LSN");
                return count;
            }
        }
    }
    panic!("the disk is not as full as it should be");
}

fn check_full(model: &mut Model, log: &Log, error: &AppendError) {
    assert!(matches!(error, AppendError::Full(_)), "{error:?}");
    model.failed(log, error).expect("it is not poisoned");
}

/// Every way to append says the same on a full disk, and nothing else stops working.
fn check_while_full(model: &mut Model, log: &Log, disk: &SimDisk) {
    for _ in 0..2 {
        let error = log.append_batch(&[[1; 4000], [2; 4000]]).expect_err("full");
        check_full(model, log, &error);
        let tickets: Vec<_> = (0..3).map(|_| log.submit(&[3; 8000])).collect();
        for ticket in tickets {
            let error = ticket.and_then(|ticket| ticket.wait()).expect_err("full");
            check_full(model, log, &error);
        }
        let buffered = log.append_buffered(&[4; 8000]);
        let error = buffered.map(drop).and_then(|()| log.sync().map(drop)).expect_err("full");
        check_full(model, log, &error);
        assert_eq!(log.end_lsn(), log.durable_lsn(), "nothing is left behind");
        model.read(log);
        model.set_cell(log).expect("the superblock does not grow");
    }
    let reader = LogReader::open_on(Arc::new(disk.clone())).expect("there is a log");
    for record in reader.iter(..).expect("the range is the log's own") {
        let record = record.expect("nothing is damaged");
        model.check_record(record.lsn, record.bytes());
    }
}

#[test]
fn a_full_disk_refuses_appends_until_there_is_room() {
    for free in [0, 1, 30_000, 64 << 10, 100_000, 128 << 10] {
        let disk = SimDisk::new(1);
        let mut model = Model::default();
        let (log, _) = open(&disk).expect("an empty disk opens");
        for _ in 0..20 {
            model.append(&log).expect("nothing fails");
        }
        for _ in 0..2 {
            disk.set_free_bytes(Some(free));
            fill(&mut model, &log);
            check_while_full(&mut model, &log, &disk);
            disk.set_free_bytes(None);
            let before = log.end_lsn();
            model.append(&log).expect("nothing fails");
            model.submit_some(&log).expect("nothing fails");
            model.append_buffered(&log).expect("nothing fails");
            assert_eq!(log.durable_lsn(), before.plus(10), "appends go on by themselves");
        }
        log.close().expect("nothing fails");
        disk.restart_losing_all();
        model.check_after(&disk);
    }
}

/// What is behind a refused ticket is refused too, before anybody knows of the refusal.
#[test]
fn tickets_in_order_leave_no_hole_on_a_full_disk() {
    let disk = SimDisk::new(1);
    let mut model = Model::default();
    let (log, _) = open(&disk).expect("an empty disk opens");
    disk.set_free_bytes(Some(0));
    fill(&mut model, &log);
    let in_order = log.in_order();
    let first = in_order.submit_batch(&[[1; 8000]]).expect("it waits for a segment");
    // Somebody else finds out that there is no room.
    assert!(matches!(log.append(&[2; 10]), Err(AppendError::Full(_))));
    disk.set_free_bytes(None);
    assert!(matches!(in_order.check(), Err(AppendError::Full(_))), "before anything is submitted");
    let behind = in_order.clone().submit_batch(&[[3; 8000]]);
    assert!(matches!(behind, Err(AppendError::Full(_))), "{behind:?}");
    assert!(matches!(first.wait(), Err(AppendError::Full(_))));
    let in_order = log.in_order();
    let again = in_order.submit_batch(&[[1; 8000]]).expect("there is room");
    assert!(in_order.clone().submit_batch(&[[1; 1 << 16]]).is_err(), "too large");
    assert!(in_order.check().is_ok(), "that was another one's");
    assert!(in_order.submit_batch(&[[1; 1 << 16]]).is_err(), "too large");
    assert!(in_order.check().is_err());
    assert!(in_order.submit_batch(&[[1; 8000]]).is_err(), "behind what is too large");
    assert_eq!(again.wait().expect("there is room").next(), log.end_lsn());
}

/// A recycled segment takes no room, so that a trim is enough.
#[test]
fn a_trim_makes_room_on_a_full_disk() {
    let disk = SimDisk::new(1);
    let mut model = Model::default();
    let (log, _) = open(&disk).expect("an empty disk opens");
    fill_some(&mut model, &log);
    disk.set_free_bytes(Some(0));
    fill(&mut model, &log);
    model.trim(&log).expect("a trim takes no room");
    assert!(log.first_lsn() > Lsn::FIRST, "something was trimmed");
    let count = fill(&mut model, &log);
    assert!(count > 5, "the dropped segment was used again: {count}");
    model.read(&log);
    log.close().expect("nothing fails");
    disk.restart_losing_all();
    disk.set_free_bytes(None);
    model.check_after(&disk);
}

fn fill_some(model: &mut Model, log: &Log) {
    while log.stats().segments < 4 {
        model.append(log).expect("nothing fails");
    }
}

#[test]
fn a_log_opens_and_reads_on_a_full_disk() {
    let disk = SimDisk::new(1);
    let mut model = Model::default();
    let (log, _) = open(&disk).expect("an empty disk opens");
    fill_some(&mut model, &log);
    log.close().expect("nothing fails");
    disk.restart_losing_all();
    disk.set_free_bytes(Some(0));
    for _ in 0..2 {
        let (log, report) = open(&disk).expect("opening takes no room");
        model.check_opened(&log, &report);
        fill(&mut model, &log);
        check_while_full(&mut model, &log, &disk);
        log.close().expect("closing takes no room");
    }
    disk.set_free_bytes(None);
    model.check_after(&disk);
}

#[test]
fn a_log_is_not_made_on_a_full_disk() {
    for free in [0, 4096, 8192, 12_288, 16_384, 40_000] {
        let disk = SimDisk::new(1);
        disk.set_free_bytes(Some(free));
        let mut model = Model::default();
        match open(&disk) {
            Err(error) => assert!(matches!(error, OpenError::Full(_)), "{error:?}"),
            Ok((log, _)) => assert_eq!(fill(&mut model, &log), 0, "no segment fits"),
        }
        disk.set_free_bytes(None);
        model.check_after(&disk);
    }
}
