//! What each fault of the simulated disk does, and does not do.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::{OperationKind, POWER_CUT, SECTOR_BYTES, SimDisk};
use crate::disk::{Access, Aligned, Disk, DiskFile, Pool, Write, WriteQueue};

fn sectors_of(count: usize, fill: u8) -> Aligned {
    let mut bytes = Aligned::zeroed(count * SECTOR_BYTES);
    bytes.fill(fill);
    bytes
}

/// A disk with durable files `f` and `g` of four sectors full of 1.
fn disk_with_files() -> (SimDisk, Arc<dyn DiskFile>) {
    let disk = SimDisk::new(1);
    disk.write_file("f", &sectors_of(4, 1));
    disk.write_file("g", &sectors_of(4, 1));
    let file = disk.open("f", Access::Write).unwrap();
    (disk, file)
}

/// The first byte of each sector.
fn fills(bytes: &[u8]) -> Vec<u8> {
    bytes.chunks(SECTOR_BYTES).map(|sector| sector[0]).collect()
}

fn on_medium(file: &dyn DiskFile) -> Vec<u8> {
    let mut bytes = Aligned::zeroed(4 * SECTOR_BYTES);
    let filled = file.read_direct_at(&mut bytes, 0).unwrap();
    fills(&bytes[..filled])
}

fn kind<T>(result: io::Result<T>) -> Option<io::ErrorKind> {
    result.err().map(|error| error.kind())
}

fn submit(queue: &mut dyn WriteQueue, file: &Arc<dyn DiskFile>, id: u64, count: usize) {
    let bytes = sectors_of(count, 2);
    let mut buffer = Pool::new(bytes.len(), 1).appendable(bytes.len());
    buffer.push(&bytes);
    let write = Write { id, file: Arc::clone(file), offset: 0, bytes: buffer.freeze() };
    queue.submit(write).unwrap();
}

/// What becomes of the completion of one write through a queue.
fn through_a_queue(disk: &SimDisk, file: &Arc<dyn DiskFile>, count: usize) -> io::Result<()> {
    let mut queue = disk.write_queue().unwrap();
    submit(&mut *queue, file, 1, count);
    let mut completions = Vec::new();
    queue.wait(&mut completions, None).unwrap();
    completions.remove(0).result
}

#[test]
fn a_lost_write() {
    for queued in [false, true] {
        let (disk, file) = disk_with_files();
        disk.lose_nth_write(2);
        file.write_durable_at(&sectors_of(1, 3), 3 * 512).unwrap();
        if queued {
            through_a_queue(&disk, &file, 2).unwrap();
        } else {
            file.write_durable_at(&sectors_of(2, 2), 0).unwrap();
        }
        assert_eq!(fills(&disk.read_file("f")), [2, 2, 1, 3], "the cache shows it");
        assert_eq!(on_medium(&*file), [1, 1, 1, 3]);
        file.sync().unwrap();
        disk.restart_keeping_all();
        assert_eq!(fills(&disk.read_file("f")), [1, 1, 1, 3]);
    }
}

#[test]
fn a_misdirected_write() {
    for (name, f, g) in [("f", [1, 1, 2, 2], [1; 4]), ("g", [1; 4], [1, 1, 2, 2])] {
        for queued in [false, true] {
            let (disk, file) = disk_with_files();
            disk.misdirect_nth_write(1, name, 2 * 512);
            if queued {
                through_a_queue(&disk, &file, 2).unwrap();
            } else {
                file.write_durable_at(&sectors_of(2, 2), 0).unwrap();
            }
            assert_eq!(on_medium(&*file), f);
            file.sync().unwrap();
            disk.restart_losing_all();
            assert_eq!(fills(&disk.read_file("f")), f);
            assert_eq!(fills(&disk.read_file("g")), g);
        }
    }
}

#[test]
fn a_misdirected_write_behind_the_end() {
    let (disk, file) = disk_with_files();
    disk.misdirect_nth_write(1, "g", 5 * 512);
    file.write_durable_at(&sectors_of(1, 2), 0).unwrap();
    assert_eq!(fills(&disk.read_file("g")), [1, 1, 1, 1, 0, 2]);
}

#[test]
fn a_short_write_is_an_error() {
    for queued in [false, true] {
        let (disk, file) = disk_with_files();
        disk.shorten_nth_write(1, 1023);
        let result = if queued {
            through_a_queue(&disk, &file, 3)
        } else {
            file.write_durable_at(&sectors_of(3, 2), 0)
        };
        assert_eq!(kind(result), Some(io::ErrorKind::WriteZero));
        assert_eq!(on_medium(&*file), [2, 1, 1, 1]);
        disk.restart_losing_all();
        assert_eq!(fills(&disk.read_file("f")), [2, 1, 1, 1]);
    }
}

#[test]
fn a_short_buffered_write_is_there_in_part() {
    let (disk, file) = disk_with_files();
    disk.shorten_nth_write(1, 512);
    assert!(file.write_at(&sectors_of(2, 2), 0).is_err());
    assert_eq!(fills(&disk.read_file("f")), [2, 1, 1, 1]);
    file.sync().unwrap();
    disk.restart_losing_all();
    assert_eq!(fills(&disk.read_file("f")), [2, 1, 1, 1]);
}

/// A failed sync is reported once; the next one reports success and mends nothing.
#[test]
fn a_failed_sync_is_told_once() {
    let (disk, file) = disk_with_files();
    file.write_at(&sectors_of(1, 2), 0).unwrap();
    disk.fail_nth(OperationKind::Sync, 1, io::ErrorKind::Other);
    assert!(file.sync().is_err());
    file.sync().unwrap();
    assert_eq!(fills(&disk.read_file("f")), [2, 1, 1, 1], "the pages look clean");
    disk.restart_losing_all();
    assert_eq!(fills(&disk.read_file("f")), [1, 1, 1, 1]);
}

#[test]
fn an_unreadable_sector() {
    let (disk, file) = disk_with_files();
    disk.make_unreadable("f", 600..601);
    assert!(file.read_at(&mut [0; 10], 500).is_ok());
    assert!(file.read_at(&mut [0; 13], 500).is_err());
    assert!(file.read_direct_at(&mut Aligned::zeroed(512), 512).is_err());
    let mapping = file.map().unwrap();
    assert!(mapping.populate(0..512).is_ok());
    assert!(mapping.populate(0..513).is_err());
    disk.restart_losing_all();
    let file = disk.open("f", Access::Write).unwrap();
    assert!(file.read_at(&mut [0], 512).is_err(), "a restart does not mend it");
    file.write_durable_at(&sectors_of(1, 2), 512).unwrap();
    assert_eq!(on_medium(&*file), [1, 2, 1, 1], "a write does");
}

#[test]
fn a_failed_read_comes_once() {
    let (disk, file) = disk_with_files();
    disk.fail_nth(OperationKind::Read, 1, io::ErrorKind::Other);
    assert!(file.read_at(&mut [0], 0).is_err());
    assert!(file.read_at(&mut [0], 0).is_ok());
}

#[test]
fn no_room_for_names() {
    let (disk, _) = disk_with_files();
    let full = io::ErrorKind::StorageFull;
    for kind in [OperationKind::Create, OperationKind::Rename] {
        disk.fail_nth(kind, 1, full);
    }
    assert_eq!(kind(disk.create("h", 0)), Some(full));
    assert_eq!(kind(disk.rename("f", "h")), Some(full));
    assert_eq!(disk.files(), ["f", "g"]);
    disk.set_free_bytes(Some(511));
    assert_eq!(kind(disk.create("h", 512)), Some(full));
    disk.rename("f", "h").unwrap();
    assert_eq!(disk.files(), ["g", "h"]);
}

#[test]
fn a_read_only_disk() {
    let (disk, file) = disk_with_files();
    disk.set_read_only(true);
    let refused = Some(io::ErrorKind::ReadOnlyFilesystem);
    assert_eq!(kind(disk.create("h", 0)), refused);
    assert_eq!(kind(disk.rename("f", "h")), refused);
    assert_eq!(kind(disk.remove("f")), refused);
    assert_eq!(kind(disk.open("f", Access::Write)), refused);
    assert_eq!(kind(disk.sync_directory()), refused);
    assert_eq!(kind(file.write_at(&sectors_of(1, 2), 0)), refused);
    assert_eq!(kind(file.write_durable_at(&sectors_of(1, 2), 0)), refused);
    assert_eq!(kind(file.sync()), refused);
    assert!(disk.open("f", Access::Read).is_ok());
    assert_eq!(on_medium(&*file), [1; 4]);
    assert_eq!(disk.files(), ["f", "g"]);
    disk.set_read_only(false);
    file.write_durable_at(&sectors_of(1, 2), 0).unwrap();
}

#[test]
fn a_stale_cache() {
    let (disk, file) = disk_with_files();
    disk.set_stale("f", true);
    file.write_durable_at(&sectors_of(1, 2), 0).unwrap();
    let mut bytes = [0; 4 * SECTOR_BYTES];
    file.read_at(&mut bytes, 0).unwrap();
    assert_eq!(fills(&bytes), [1; 4]);
    assert_eq!(fills(&file.map().unwrap()), [1; 4]);
    assert_eq!(on_medium(&*file), [2, 1, 1, 1]);
    disk.restart_losing_all();
    assert_eq!(fills(&disk.read_file("f")), [2, 1, 1, 1]);
}

#[test]
fn a_hung_write_ends_with_the_power() {
    let (disk, file) = disk_with_files();
    disk.hang_nth(OperationKind::Write, 1);
    let thread = std::thread::spawn(move || kind(file.write_durable_at(&sectors_of(1, 2), 0)));
    while disk.hung_threads().is_empty() {
        std::thread::yield_now();
    }
    assert!(!thread.is_finished());
    disk.restart_losing_all();
    assert_eq!(thread.join().unwrap(), Some(POWER_CUT));
    assert_eq!(fills(&disk.read_file("f")), [1; 4]);
}

#[test]
fn a_hung_completion_leaves_the_others_alone() {
    let (disk, file) = disk_with_files();
    let other = disk.open("g", Access::Write).unwrap();
    disk.hang_nth(OperationKind::Write, 1);
    let mut queue = disk.write_queue().unwrap();
    submit(&mut *queue, &file, 1, 1);
    submit(&mut *queue, &other, 2, 1);
    let mut completions = Vec::new();
    queue.wait(&mut completions, None).unwrap();
    assert_eq!(completions.len(), 1);
    queue.wait(&mut completions, Some(Duration::from_millis(1))).unwrap();
    assert_eq!(completions.len(), 1, "the other one never comes");
    disk.restart_losing_all();
    assert!(queue.wait(&mut completions, None).is_err());
}

/// What a killed process had on its way is not lost with it, and its handles do nothing more.
#[test]
fn a_killed_process_leaves_the_cache() {
    let (disk, file) = disk_with_files();
    let other = disk.open("g", Access::Write).unwrap();
    let _lock = disk.lock().unwrap();
    file.write_at(&sectors_of(1, 2), 0).unwrap();
    let mut queue = disk.write_queue().unwrap();
    submit(&mut *queue, &other, 1, 1);
    disk.kill_process();
    drop(queue);
    assert_eq!(kind(file.write_at(&sectors_of(1, 3), 0)), Some(POWER_CUT));
    assert_eq!(kind(file.sync()), Some(POWER_CUT));
    let _lock = disk.lock().unwrap();
    for name in ["f", "g"] {
        assert_eq!(fills(&disk.read_file(name)), [2, 1, 1, 1]);
        disk.open(name, Access::Write).unwrap().sync().unwrap();
    }
    disk.restart_losing_all();
    assert_eq!(fills(&disk.read_file("f")), [2, 1, 1, 1]);
}

#[test]
fn a_process_can_die_between_any_two_operations() {
    for at in 1..6 {
        let (disk, file) = disk_with_files();
        let start = disk.operations();
        disk.kill_at(start + at);
        let done = (1..6).take_while(|n| file.write_at(&sectors_of(1, *n), 0).is_ok()).count();
        assert_eq!(u64::try_from(done).unwrap(), at - 1);
        disk.kill_process();
        let fill = u8::try_from(done).unwrap().max(1);
        assert_eq!(fills(&disk.read_file("f")), [fill, 1, 1, 1]);
        disk.open("f", Access::Write).unwrap().sync().unwrap();
    }
}
