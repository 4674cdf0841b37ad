//! Every operation of the workload fails once: the first of a kind, then the second, and so on to the
//! last one.

use std::io;
use std::sync::Arc;

use cairnlog_engine::disk::sim::{OperationKind, SimDisk};
use cairnlog_engine::disk::{Access, Aligned, Appendable, Disk, DiskFile, Write};

use crate::model::{Model, Stop};

/// More operations of one kind than the workload has.
const OPERATIONS_MAX: u64 = 5000;

/// What comes between a failure and the next open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Between {
    /// Only the process ends: the cache stays as it is.
    NewProcess,
    /// The power goes, and takes everything that was not durable.
    PowerCut,
}

/// How many operations of a kind the workload has: what is left of a distant fault behind it tells.
fn operations_of(kind: OperationKind) -> u64 {
    let disk = SimDisk::new(1);
    disk.fail_nth(kind, OPERATIONS_MAX, io::ErrorKind::Other);
    Model::default().run(&disk).expect("nothing fails");
    let left = (1..=OPERATIONS_MAX).find(|_| operation(&disk, kind).is_err());
    OPERATIONS_MAX - left.expect("the workload has fewer operations")
}

/// One operation of a kind, away from the log.
fn operation(disk: &SimDisk, kind: OperationKind) -> io::Result<()> {
    const NAME: &str = "probe";
    disk.write_file(NAME, &[0; 512]);
    let bytes = Aligned::zeroed(512);
    match kind {
        OperationKind::Create => disk.create("another", 0).and_then(|_| disk.remove("another")),
        OperationKind::Open => disk.open(NAME, Access::Read).map(drop),
        OperationKind::Rename => disk.rename(NAME, "renamed"),
        OperationKind::Remove => disk.remove(NAME),
        OperationKind::List => disk.list().map(drop),
        OperationKind::SyncDirectory => disk.sync_directory(),
        OperationKind::Read => disk.open(NAME, Access::Read)?.read_at(&mut [0], 0).map(drop),
        OperationKind::Write => disk.open(NAME, Access::Write)?.write_at(&bytes, 0),
        OperationKind::Sync => disk.open(NAME, Access::Write)?.sync(),
        OperationKind::Submit => submit(disk, disk.open(NAME, Access::Write)?),
    }
}

fn submit(disk: &SimDisk, file: Arc<dyn DiskFile>) -> io::Result<()> {
    let mut buffer = Appendable::alone(512);
    buffer.pad_to(512);
    let bytes = buffer.freeze();
    disk.write_queue()?.submit(Write { id: 1, file, offset: 0, bytes })
}

/// The whole loop for one kind; what came of it, for people who look with `--nocapture`.
fn every_fault(kind: OperationKind, error: io::ErrorKind, between: Between) {
    let operations = operations_of(kind);
    assert!(operations > 0, "the workload has no {kind:?}");
    let mut ends = [0_u64; 3];
    for nth in 1..=operations {
        println!("{kind:?} {nth} gives {error:?}, then {between:?}");
        ends[one_fault(kind, nth, error, between)] += 1;
    }
    let [went_on, poisoned, refused] = ends;
    println!("{went_on} times it went on, {poisoned} poisoned, {refused} not opened");
}

fn one_fault(kind: OperationKind, nth: u64, error: io::ErrorKind, between: Between) -> usize {
    let disk = SimDisk::new(1);
    disk.fail_nth(kind, nth, error);
    let mut model = Model::default();
    let ended = model.run(&disk);
    if between == Between::PowerCut {
        disk.restart_losing_all();
    }
    model.check_after(&disk);
    match ended {
        Ok(()) => 0,
        Err(Stop::Poisoned) => 1,
        Err(Stop::Open) => 2,
    }
}

#[test]
fn each_create_fails() {
    every_fault(OperationKind::Create, io::ErrorKind::Other, Between::NewProcess);
    every_fault(OperationKind::Create, io::ErrorKind::StorageFull, Between::PowerCut);
}

#[test]
fn each_open_fails() {
    every_fault(OperationKind::Open, io::ErrorKind::Other, Between::NewProcess);
    every_fault(OperationKind::Open, io::ErrorKind::StorageFull, Between::PowerCut);
}

#[test]
fn each_rename_fails() {
    every_fault(OperationKind::Rename, io::ErrorKind::Other, Between::NewProcess);
    every_fault(OperationKind::Rename, io::ErrorKind::StorageFull, Between::PowerCut);
}

#[test]
fn each_remove_fails() {
    every_fault(OperationKind::Remove, io::ErrorKind::Other, Between::NewProcess);
    every_fault(OperationKind::Remove, io::ErrorKind::StorageFull, Between::PowerCut);
}

#[test]
fn each_list_fails() {
    every_fault(OperationKind::List, io::ErrorKind::Other, Between::NewProcess);
    every_fault(OperationKind::List, io::ErrorKind::StorageFull, Between::PowerCut);
}

#[test]
fn each_read_fails() {
    every_fault(OperationKind::Read, io::ErrorKind::Other, Between::NewProcess);
    every_fault(OperationKind::Read, io::ErrorKind::StorageFull, Between::PowerCut);
}

#[test]
fn each_submit_fails() {
    every_fault(OperationKind::Submit, io::ErrorKind::Other, Between::NewProcess);
    every_fault(OperationKind::Submit, io::ErrorKind::Other, Between::PowerCut);
    every_fault(OperationKind::Submit, io::ErrorKind::StorageFull, Between::PowerCut);
}

#[test]
fn each_write_fails_before_a_new_process() {
    every_fault(OperationKind::Write, io::ErrorKind::Other, Between::NewProcess);
}

#[test]
fn each_write_fails_before_a_power_cut() {
    every_fault(OperationKind::Write, io::ErrorKind::Other, Between::PowerCut);
}

#[test]
fn each_write_finds_no_room() {
    every_fault(OperationKind::Write, io::ErrorKind::StorageFull, Between::PowerCut);
}

#[test]
fn each_sync_fails() {
    every_fault(OperationKind::Sync, io::ErrorKind::Other, Between::NewProcess);
    every_fault(OperationKind::Sync, io::ErrorKind::Other, Between::PowerCut);
    every_fault(OperationKind::Sync, io::ErrorKind::StorageFull, Between::PowerCut);
}

/// Only with a power cut behind it: a later process cannot find out that a sync of the directory
/// failed.
#[test]
fn each_sync_of_the_directory_fails() {
    every_fault(OperationKind::SyncDirectory, io::ErrorKind::Other, Between::PowerCut);
    every_fault(OperationKind::SyncDirectory, io::ErrorKind::StorageFull, Between::PowerCut);
}
