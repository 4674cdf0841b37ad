//! Writes in queues.

use std::collections::BTreeSet;
use std::io;
use std::sync::mpsc;
use std::time::Duration;

use super::*;

#[test]
fn a_queue_completes_in_any_order() {
    let mut orders = BTreeSet::new();
    for seed in 0..SEEDS {
        let (disk, file) = disk_with_file(seed, 4);
        let mut queue = disk.write_queue().unwrap();
        assert_eq!(queue.depth(), 4);
        for id in 0..4 {
            let at = usize::try_from(id).unwrap();
            submit(&mut *queue, &file, id, at, &sectors_of(1, 2));
        }
        assert!(queue.submit(write(&file, 4, 0, &sectors_of(1, 2))).is_err(), "too many");
        let mut completions = Vec::new();
        queue.wait(&mut completions, None).unwrap();
        let ids: Vec<u64> = completions.iter().map(|c| c.id).collect();
        assert!(!ids.is_empty() && completions.iter().all(|c| c.result.is_ok()));
        // Completed is durable, and nothing else is.
        disk.restart_losing_all();
        let fills = fills(&disk.read_file("f"));
        let durable = (0..4).filter(|id| fills[usize::try_from(*id).unwrap()] == 2);
        assert!(durable.eq(ids.iter().copied().collect::<BTreeSet<u64>>()));
        orders.insert(ids);
    }
    assert!(orders.iter().any(|ids| ids.len() == 4) && orders.iter().any(|ids| ids.len() == 1));
    assert!(orders.iter().any(|ids| !ids.is_sorted()));
}

#[test]
fn a_sync_does_not_cover_writes_in_flight() {
    let (disk, file) = disk_with_file(1, 2);
    let mut queue = disk.write_queue().unwrap();
    submit(&mut *queue, &file, 1, 0, &sectors_of(2, 2));
    file.sync().unwrap();
    assert_eq!(fills(&disk.read_file("f")), [2, 2]);
    disk.restart_losing_all();
    assert_eq!(fills(&disk.read_file("f")), [1, 1]);
    // Dropping the queue waits for its writes: then a sync finds them.
    let file = disk.open("f", Access::Write).unwrap();
    let mut queue = disk.write_queue().unwrap();
    submit(&mut *queue, &file, 1, 0, &sectors_of(2, 2));
    drop(queue);
    file.sync().unwrap();
    disk.restart_losing_all();
    assert_eq!(fills(&disk.read_file("f")), [2, 2]);
}

#[test]
fn a_completion_leaves_newer_bytes_alone() {
    let (disk, file) = disk_with_file(1, 1);
    let mut queue = disk.write_queue().unwrap();
    file.write_at(&sectors_of(1, 2), 0).unwrap();
    submit(&mut *queue, &file, 1, 0, &sectors_of(1, 3));
    file.write_at(&sectors_of(1, 4), 0).unwrap();
    queue.wait(&mut Vec::new(), None).unwrap();
    assert_eq!(fills(&disk.read_file("f")), [4]);
    disk.restart_losing_all();
    assert_eq!(fills(&disk.read_file("f")), [3]);
}

#[test]
fn a_failed_completion_is_reported_by_its_id() {
    let (disk, file) = disk_with_file(1, 2);
    disk.fail_nth(OperationKind::Write, 1, io::ErrorKind::Other);
    let mut queue = disk.write_queue().unwrap();
    submit(&mut *queue, &file, 5, 0, &sectors_of(1, 2));
    let mut completions = Vec::new();
    queue.wait(&mut completions, None).unwrap();
    assert_eq!(completions.len(), 1);
    assert_eq!(completions[0].id, 5);
    assert!(completions[0].result.is_err());
    disk.restart_losing_all();
    assert_eq!(fills(&disk.read_file("f")), [1, 1]);
}

#[test]
fn a_wait_ends_by_waker_time_and_cut() {
    let disk = SimDisk::new(1);
    let mut queue = disk.write_queue().unwrap();
    let mut completions = Vec::new();
    queue.wait(&mut completions, Some(Duration::ZERO)).unwrap();
    queue.waker().wake();
    queue.wait(&mut completions, None).unwrap();
    // Whether a wait that goes on for ever ends when `end` is done.
    let ends = |mut queue: Box<dyn WriteQueue>, end: &dyn Fn()| {
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || sender.send(queue.wait(&mut Vec::new(), None)));
        std::thread::sleep(Duration::from_millis(20));
        end();
        receiver.recv_timeout(Duration::from_secs(30)).expect("the wait ends")
    };
    let waker = queue.waker();
    ends(queue, &|| waker.wake()).unwrap();
    let cut = || {
        disk.cut_at(0);
        assert_eq!(kind(disk.sync_directory()), Some(POWER_CUT));
    };
    assert_eq!(kind(ends(disk.write_queue().unwrap(), &cut)), Some(POWER_CUT));
    disk.restart(1);
    let queue = disk.write_queue().unwrap();
    assert_eq!(kind(ends(queue, &|| disk.restart(1))), Some(POWER_CUT));
    assert!(completions.is_empty());
}

#[test]
fn a_wake_may_come_before_a_completion() {
    let mut counts = BTreeSet::new();
    for seed in 0..SEEDS {
        let (disk, file) = disk_with_file(seed, 1);
        let mut queue = disk.write_queue().unwrap();
        submit(&mut *queue, &file, 1, 0, &sectors_of(1, 2));
        queue.waker().wake();
        let mut completions = Vec::new();
        queue.wait(&mut completions, None).unwrap();
        counts.insert(completions.len());
    }
    assert_eq!(counts, BTreeSet::from([0, 1]));
}
