//! Every operation of a truncation fails once.

use std::io;
use std::sync::Arc;

use cairnlog_engine::disk::sim::{OperationKind, SimDisk};
use cairnlog_engine::{AppendError, ChangeError, Log, Lsn};

use crate::model::{config, open};

const KINDS: [OperationKind; 9] = [
    OperationKind::Create,
    OperationKind::Open,
    OperationKind::Rename,
    OperationKind::Remove,
    OperationKind::List,
    OperationKind::SyncDirectory,
    OperationKind::Read,
    OperationKind::Write,
    OperationKind::Sync,
];
/// At least as many operations of a kind as a truncation has.
const OPERATIONS_MAX: u64 = 40;
const RECORDS: u64 = 60;

fn record(lsn: u64) -> Vec<u8> {
    let mut record = lsn.to_le_bytes().to_vec();
    record.resize(4000, record[0]);
    record
}

/// Several segments; each batch holds two records.
fn filled(disk: &SimDisk) -> Log {
    let (log, _) = open(disk).expect("an empty disk");
    for lsn in (1..=RECORDS).step_by(2) {
        log.append_batch(&[record(lsn), record(lsn + 1)]).expect("nothing fails yet");
    }
    log
}

fn check_records(log: &Log, end_lsn: Lsn) {
    for lsn in 1..end_lsn.get().min(RECORDS + 1) {
        // The fault may have waited until now.
        let read = log.read(Lsn::new(lsn)).or_else(|_| log.read(Lsn::new(lsn)));
        assert!(read.expect("it was kept").bytes() == record(lsn), "{lsn}");
    }
}

/// Nobody who comes after a failure goes on with what memory held before it.
fn check_poisoned(log: &Log) {
    let lsn = Lsn::new(5);
    assert!(matches!(log.append(b"no"), Err(AppendError::Poisoned(_))));
    assert!(matches!(log.truncate(lsn), Err(ChangeError::Poisoned(_))));
    assert!(matches!(log.set_cell(b"no"), Err(ChangeError::Poisoned(_))));
    assert!(matches!(log.trim(lsn), Err(ChangeError::Poisoned(_))));
    let taken = log.checkpoint(lsn, |out| out.write_all(b"no"));
    assert!(matches!(taken, Err(ChangeError::Poisoned(_))));
}

/// In the middle of a batch; the number of truncations that a failure ended.
fn each_fails(kind: OperationKind, error: io::ErrorKind) -> u64 {
    let (cut, whole) = (Lsn::new(RECORDS / 2 + 2), Lsn::new(RECORDS + 1));
    let mut failures = 0;
    for nth in 1..=OPERATIONS_MAX {
        let disk = SimDisk::new(1);
        let log = filled(&disk);
        disk.fail_nth(kind, nth, error);
        match log.truncate(cut) {
            Ok(_) => {
                assert_eq!(log.end_lsn(), cut);
                check_records(&log, cut);
            }
            Err(ChangeError::Poisoned(_)) => {
                failures += 1;
                check_poisoned(&log);
            }
            Err(_) => {
                failures += 1;
                assert_eq!(log.end_lsn(), whole, "nothing was changed");
                check_records(&log, whole);
                log.truncate(cut).expect("it fails once");
                assert_eq!(log.end_lsn(), cut);
            }
        }
        drop(log);
        if nth % 2 == 0 {
            disk.restart_losing_all();
        } else {
            disk.kill_process();
        }
        let log = match Log::open_on(Arc::new(disk.clone()), config()) {
            Ok((log, _)) => log,
            // Or until now.
            Err(_) => open(&disk).expect("it fails once").0,
        };
        let end = log.end_lsn();
        assert!(end == cut || end == whole, "{kind:?} {nth}: the log ends at {end}");
        check_records(&log, end);
    }
    failures
}

#[test]
fn each_operation_of_a_truncation_fails() {
    let mut failures = 0;
    for kind in KINDS {
        let ended =
            each_fails(kind, io::ErrorKind::Other) + each_fails(kind, io::ErrorKind::StorageFull);
        println!("{kind:?}: {ended} ended a truncation");
        failures += ended;
    }
    assert!(failures > 20, "{failures}");
}
