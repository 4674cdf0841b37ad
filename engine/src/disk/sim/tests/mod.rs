//! The contract of the simulated disk, clause by clause.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use super::random::Random;
use super::{OperationKind, POWER_CUT, SECTOR_BYTES, SimDisk};
use crate::disk::{Access, Aligned, Disk, DiskFile, Entry, EntryKind, Pool, Write, WriteQueue};

const SEEDS: u64 = 200;

/// `count` sectors full of one byte.
fn sectors_of(count: usize, fill: u8) -> Aligned {
    let mut bytes = Aligned::zeroed(count * SECTOR_BYTES);
    bytes.fill(fill);
    bytes
}

/// The first byte of each sector; each sector is seen not to be torn.
fn fills(bytes: &[u8]) -> Vec<u8> {
    let whole = |sector: &[u8]| {
        assert!(sector.iter().all(|byte| *byte == sector[0]), "a torn sector");
        sector[0]
    };
    bytes.chunks(SECTOR_BYTES).map(whole).collect()
}

/// A disk with one durable file `f` of `count` sectors full of 1.
fn disk_with_file(seed: u64, count: usize) -> (SimDisk, Arc<dyn DiskFile>) {
    let disk = SimDisk::new(seed);
    disk.write_file("f", &sectors_of(count, 1));
    let file = disk.open("f", Access::Write).unwrap();
    (disk, file)
}

fn sector(number: usize) -> u64 {
    u64::try_from(number * SECTOR_BYTES).unwrap()
}

fn submit(queue: &mut dyn WriteQueue, file: &Arc<dyn DiskFile>, id: u64, at: usize, bytes: &[u8]) {
    queue.submit(write(file, id, at, bytes)).unwrap();
}

fn write(file: &Arc<dyn DiskFile>, id: u64, at: usize, bytes: &[u8]) -> Write {
    let mut buffer = Pool::new(bytes.len(), 1).appendable(bytes.len());
    buffer.push(bytes);
    Write { id, file: Arc::clone(file), offset: sector(at), bytes: buffer.freeze() }
}

fn kind<T>(result: io::Result<T>) -> Option<io::ErrorKind> {
    result.err().map(|error| error.kind())
}

#[test]
fn a_cut_leaves_of_each_sector_a_legal_version() {
    let mut seen = BTreeSet::new();
    for seed in 0..SEEDS {
        let (disk, file) = disk_with_file(7, 4);
        file.write_at(&sectors_of(2, 2), 0).unwrap();
        file.write_at(&sectors_of(2, 3), sector(1)).unwrap();
        disk.restart(seed);
        seen.insert(fills(&disk.read_file("f")));
    }
    for fills in &seen {
        assert!([1, 2].contains(&fills[0]) && [1, 2, 3].contains(&fills[1]));
        assert!([1, 3].contains(&fills[2]) && fills[3] == 1);
    }
    assert_eq!(seen.len(), 2 * 3 * 2, "some legal outcome never comes: {seen:?}");
}

#[test]
fn a_cut_that_keeps_all_keeps_the_newest() {
    let (disk, file) = disk_with_file(1, 1);
    file.write_at(&sectors_of(1, 2), 0).unwrap();
    file.write_at(&sectors_of(1, 3), 0).unwrap();
    disk.restart_keeping_all();
    assert_eq!(fills(&disk.read_file("f")), [3]);
}

#[test]
fn a_durable_write_covers_only_itself() {
    let (disk, file) = disk_with_file(1, 4);
    file.write_at(&sectors_of(4, 2), 0).unwrap();
    file.write_durable_at(&sectors_of(1, 3), sector(1)).unwrap();
    file.write_at(&sectors_of(1, 4), sector(1)).unwrap();
    assert_eq!(fills(&disk.read_file("f")), [2, 4, 2, 2]);
    disk.restart_losing_all();
    assert_eq!(fills(&disk.read_file("f")), [1, 3, 1, 1]);
}

#[test]
fn a_sync_covers_its_file_and_no_other() {
    let (disk, file) = disk_with_file(1, 2);
    disk.write_file("g", &sectors_of(1, 1));
    let other = disk.open("g", Access::Write).unwrap();
    file.write_at(&sectors_of(1, 2), 0).unwrap();
    other.write_at(&sectors_of(1, 2), 0).unwrap();
    file.sync().unwrap();
    file.write_at(&sectors_of(1, 3), sector(1)).unwrap();
    disk.restart_losing_all();
    assert_eq!(fills(&disk.read_file("f")), [2, 1]);
    assert_eq!(fills(&disk.read_file("g")), [1]);
}

#[test]
fn a_failed_sync_is_not_mended() {
    let (disk, file) = disk_with_file(1, 2);
    file.write_at(&sectors_of(1, 2), 0).unwrap();
    disk.fail_nth(OperationKind::Sync, 1, io::ErrorKind::Other);
    assert_eq!(kind(file.sync()), Some(io::ErrorKind::Other));
    file.write_at(&sectors_of(1, 2), sector(1)).unwrap();
    file.sync().unwrap();
    assert_eq!(fills(&disk.read_file("f")), [2, 2], "the cache shows it");
    disk.restart_losing_all();
    assert_eq!(fills(&disk.read_file("f")), [1, 2]);
    let mut seen = BTreeSet::new();
    for seed in 0..SEEDS {
        let (disk, file) = disk_with_file(1, 1);
        file.write_at(&sectors_of(1, 2), 0).unwrap();
        disk.fail_nth(OperationKind::Sync, 1, io::ErrorKind::Other);
        file.sync().unwrap_err();
        file.sync().unwrap();
        disk.restart(seed);
        seen.insert(fills(&disk.read_file("f")));
    }
    assert_eq!(seen, BTreeSet::from([vec![1], vec![2]]));
}

#[test]
fn a_direct_read_tells_what_the_medium_has() {
    let mut seen = BTreeSet::new();
    for seed in 0..SEEDS {
        let (disk, file) = disk_with_file(seed, 2);
        disk.fail_nth(OperationKind::Write, 1, io::ErrorKind::Other);
        file.write_at(&sectors_of(2, 2), 0).unwrap_err();
        let mut direct = sectors_of(2, 0);
        assert_eq!(file.read_direct_at(&mut direct, 0).unwrap(), direct.len());
        let mut again = sectors_of(2, 0);
        file.read_direct_at(&mut again, 0).unwrap();
        assert_eq!(direct[..], again[..], "the medium changes by itself");
        assert_eq!(fills(&disk.read_file("f")), [2, 2]);
        // What was seen on the medium is made durable by a sync, and nothing else is.
        file.sync().unwrap();
        let expected = fills(&direct);
        match seed % 3 {
            0 => disk.restart_losing_all(),
            1 => disk.restart_keeping_all(),
            _ => disk.restart(seed),
        }
        assert_eq!(fills(&disk.read_file("f")), expected);
        seen.insert(expected);
    }
    assert_eq!(seen.len(), 4, "some outcome never comes: {seen:?}");
}

#[test]
fn a_failed_write_may_be_there_in_part() {
    for durable in [false, true] {
        let mut seen = BTreeSet::new();
        for seed in 0..SEEDS {
            let (disk, file) = disk_with_file(1, 2);
            disk.fail_nth(OperationKind::Write, 2, io::ErrorKind::Other);
            let bytes = sectors_of(2, 2);
            file.write_durable_at(&sectors_of(2, 3), 0).unwrap();
            let failed =
                if durable { file.write_durable_at(&bytes, 0) } else { file.write_at(&bytes, 0) };
            assert_eq!(kind(failed), Some(io::ErrorKind::Other));
            file.sync().unwrap();
            disk.restart(seed);
            seen.insert(fills(&disk.read_file("f")));
        }
        let all = [[2, 2], [2, 3], [3, 2], [3, 3]].map(Vec::from);
        assert_eq!(seen, BTreeSet::from(all));
    }
}

#[test]
fn names_survive_in_subsets_that_fit() {
    let mut seen = BTreeSet::new();
    for seed in 0..10 * SEEDS {
        let disk = SimDisk::new(1);
        disk.write_file("old", b"old");
        disk.write_file("rest", b"rest");
        disk.create("tmp", 0).unwrap();
        disk.rename("tmp", "new").unwrap();
        disk.create("tmp", 0).unwrap();
        disk.rename("old", "new").unwrap();
        disk.remove("rest").unwrap();
        assert_eq!(disk.files(), ["new", "tmp"]);
        disk.restart(seed);
        let new_is_old =
            disk.files().contains(&"new".to_owned()) && disk.read_file("new") == b"old";
        seen.insert((disk.files().join(" "), new_is_old));
    }
    let rename_of_old = |files: &str| !files.split(' ').any(|name| name == "old");
    for (files, new_is_old) in &seen {
        assert_eq!(rename_of_old(files), *new_is_old, "{files}: moved or not, but not both");
    }
    let has = |files: &str, new_is_old| seen.contains(&(files.to_owned(), new_is_old));
    assert!(has("old rest", false) && has("new tmp", true));
    assert!(has("old", false) && has("new rest", true), "changes are lost independently");
    assert!(has("new old rest", false) && has("old rest tmp", false) && has("new old tmp", false));
}

#[test]
fn no_file_takes_the_name_of_another() {
    let mut seen = BTreeSet::new();
    for seed in 0..SEEDS {
        let disk = SimDisk::new(1);
        disk.write_file("tmp", &[0; 1]);
        disk.rename("tmp", "one").unwrap();
        disk.create("tmp", 2).unwrap().sync().unwrap();
        disk.rename("tmp", "two").unwrap();
        disk.restart(seed);
        let named = |name: &String| (disk.read_file(name).len(), name.clone());
        let files: Vec<(usize, String)> = disk.files().iter().map(named).collect();
        assert!(files.iter().any(|(bytes, _)| *bytes == 1), "nobody removed it");
        seen.extend(files);
    }
    let expected = [(1, "one"), (2, "two"), (1, "tmp"), (2, "tmp")];
    assert_eq!(seen, expected.map(|(bytes, name)| (bytes, name.to_owned())).into());
}

#[test]
fn synced_names_survive_and_unnamed_files_are_gone() {
    let disk = SimDisk::new(1);
    let file = disk.create("a", 512).unwrap();
    disk.sync_directory().unwrap();
    file.write_durable_at(&sectors_of(1, 2), 0).unwrap();
    let lost = disk.create("b", 512).unwrap();
    lost.write_durable_at(&sectors_of(1, 2), 0).unwrap();
    disk.rename("a", "c").unwrap();
    disk.restart_losing_all();
    assert_eq!(disk.files(), ["a"]);
    assert_eq!(fills(&disk.read_file("a")), [2]);
    disk.rename("a", "c").unwrap();
    disk.create("a", 0).unwrap();
    disk.restart_keeping_all();
    assert_eq!(disk.files(), ["a", "c"]);
    assert_eq!(fills(&disk.read_file("c")), [2]);
}

#[test]
fn a_failed_directory_sync_is_not_mended() {
    let disk = SimDisk::new(1);
    disk.create("a", 0).unwrap();
    disk.fail_nth(OperationKind::SyncDirectory, 1, io::ErrorKind::Other);
    assert_eq!(kind(disk.sync_directory()), Some(io::ErrorKind::Other));
    disk.sync_directory().unwrap();
    disk.restart_losing_all();
    assert!(disk.files().is_empty());
    disk.create("a", 0).unwrap();
    disk.sync_directory().unwrap();
    disk.restart_losing_all();
    assert_eq!(disk.files(), ["a"]);
}

#[test]
fn a_length_that_was_not_synced_may_be_shorter() {
    let lengths = |prepare: fn(&dyn DiskFile)| {
        let after = |seed| {
            let disk = SimDisk::new(1);
            let file = disk.create("f", 2048).unwrap();
            disk.sync_directory().unwrap();
            prepare(&*file);
            disk.restart(seed);
            disk.read_file("f").len()
        };
        (0..SEEDS).map(after).collect::<BTreeSet<usize>>()
    };
    let unsynced = lengths(|_| {});
    assert!(unsynced.len() > 3 && unsynced.contains(&0) && unsynced.contains(&2048));
    let partly = lengths(|file| file.write_durable_at(&sectors_of(1, 2), 512).unwrap());
    assert!(partly.len() > 3 && partly.first() == Some(&1024) && partly.last() == Some(&2048));
    assert_eq!(lengths(|file| file.sync().unwrap()), BTreeSet::from([2048]));
    let grown = lengths(|file| {
        file.sync().unwrap();
        file.write_at(&sectors_of(1, 2), 4096).unwrap();
    });
    assert!(grown.first() == Some(&2048) && grown.last() == Some(&4608));
}

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

/// Does one of each operation; every result is `Ok` until the first error.
fn one_of_each(disk: &SimDisk) -> io::Result<()> {
    let file = disk.create("a", 1024)?;
    disk.sync_directory()?;
    disk.self_test(&*file, 1024)?;
    file.write_at(&sectors_of(1, 2), 0)?;
    file.sync()?;
    file.write_durable_at(&sectors_of(2, 3), 0)?;
    let mut queue = disk.write_queue()?;
    let mut completions = Vec::new();
    queue.submit(write(&file, 1, 0, &sectors_of(2, 4)))?;
    queue.wait(&mut completions, None)?;
    disk.list()?;
    disk.rename("a", "b")?;
    disk.open("b", Access::Read)?;
    disk.remove("b")
}

#[test]
fn every_operation_can_be_cut() {
    let disk = SimDisk::new(1);
    one_of_each(&disk).unwrap();
    let operations = disk.operations();
    assert_eq!(operations, 12);
    for cut in 1..=operations {
        let mut seen = BTreeSet::new();
        for seed in 0..SEEDS {
            let disk = SimDisk::new(1);
            disk.cut_at(cut);
            assert_eq!(kind(one_of_each(&disk)), Some(POWER_CUT), "operation {cut}");
            assert_eq!(disk.operations(), cut);
            assert_eq!(kind(disk.list()), Some(POWER_CUT));
            assert_eq!(disk.operations(), cut);
            disk.restart(seed);
            let contents = disk.files().into_iter().map(|f| (disk.read_file(&f), f));
            seen.insert(contents.collect::<Vec<_>>());
            one_of_each(&SimDisk::new(seed)).unwrap();
        }
        let bytes: BTreeSet<Vec<u8>> =
            seen.iter().flatten().filter(|(b, _)| b.len() == 1024).map(|(b, _)| fills(b)).collect();
        let names: BTreeSet<&str> = seen.iter().flatten().map(|(_, name)| &name[..]).collect();
        let absent = seen.contains(&Vec::new());
        match cut {
            // Creation and the sync of its name: there or not.
            1 | 2 => assert!(absent && names == BTreeSet::from(["a"])),
            // The durable write and the queue's write are there in any part until they are done.
            6 => assert_eq!(bytes.len(), 4),
            7 | 8 => assert_eq!(bytes, [[3, 3], [3, 4], [4, 3], [4, 4]].map(Vec::from).into()),
            9 => assert_eq!(bytes, [vec![4, 4]].into()),
            10 | 11 => assert!(!absent && names == BTreeSet::from(["a", "b"])),
            12 => assert!(absent && names == BTreeSet::from(["a", "b"])),
            _ => {}
        }
    }
}

#[test]
fn old_handles_stay_dead() {
    let (disk, file) = disk_with_file(1, 1);
    let before = disk.clone();
    let mut queue = disk.write_queue().unwrap();
    submit(&mut *queue, &file, 1, 0, &sectors_of(1, 2));
    disk.restart_losing_all();
    assert_eq!(kind(file.write_at(&sectors_of(1, 3), 0)), Some(POWER_CUT));
    assert_eq!(kind(file.sync()), Some(POWER_CUT));
    assert_eq!(kind(file.len()), Some(POWER_CUT));
    assert_eq!(kind(queue.wait(&mut Vec::new(), None)), Some(POWER_CUT));
    assert_eq!(kind(before.remove("f")), Some(POWER_CUT));
    drop((file, queue));
    let reopened = disk.clone().open("f", Access::Write).unwrap();
    let mut queue = disk.write_queue().unwrap();
    submit(&mut *queue, &reopened, 1, 0, &sectors_of(1, 4));
    queue.wait(&mut Vec::new(), None).unwrap();
    disk.restart_losing_all();
    assert_eq!(fills(&disk.read_file("f")), [4]);
}

#[test]
fn a_queue_refuses_files_of_another_disk() {
    let (disk, _) = disk_with_file(1, 1);
    let (_other, file) = disk_with_file(1, 1);
    let mut queue = disk.write_queue().unwrap();
    assert!(queue.submit(write(&file, 1, 0, &sectors_of(1, 2))).is_err());
}

/// Everything that can be told of a disk after some random work, a cut and a restart.
fn story(seed: u64) -> (Vec<(String, Vec<u8>)>, u128, u64, u64) {
    let disk = SimDisk::new(seed);
    let mut random = Random::new(seed ^ 1);
    disk.cut_at(60);
    let mut work = || -> io::Result<()> {
        for number in 0.. {
            let file = disk.create(&format!("{number}"), 4096)?;
            let mut queue = disk.write_queue()?;
            for id in 0..3 {
                let fill = u8::try_from(random.below(256)).unwrap();
                file.write_at(&sectors_of(2, fill), sector(random.below(6)))?;
                queue.submit(write(&file, id, random.below(8), &sectors_of(1, fill)))?;
            }
            queue.wait(&mut Vec::new(), None)?;
            if random.below(2) == 0 {
                disk.sync_directory()?;
            }
        }
        Ok(())
    };
    work().unwrap_err();
    disk.restart(seed);
    let contents = disk.files().into_iter().map(|f| (f.clone(), disk.read_file(&f))).collect();
    (contents, disk.random_id().unwrap(), disk.now_ms(), disk.operations())
}

#[test]
fn the_same_seed_tells_the_same_story() {
    let stories: Vec<_> = (0..20).map(story).collect();
    assert_eq!(stories, (0..20).map(story).collect::<Vec<_>>());
    let different: BTreeSet<_> = stories.into_iter().collect();
    assert_eq!(different.len(), 20);
}

#[test]
fn faults_come_once_and_at_their_turn() {
    let full = io::ErrorKind::QuotaExceeded;
    let disk = SimDisk::new(1);
    for kind in [OperationKind::Create, OperationKind::Rename, OperationKind::Remove] {
        disk.fail_nth(kind, 2, full);
    }
    disk.create("a", 512).unwrap();
    assert_eq!(kind(disk.create("b", 0)), Some(full));
    disk.rename("a", "b").unwrap();
    assert_eq!(kind(disk.rename("b", "a")), Some(full));
    assert_eq!(disk.files(), ["b"]);
    disk.remove("b").unwrap();
    let file = disk.create("c", 512).unwrap();
    assert_eq!(kind(disk.remove("c")), Some(full));
    for kind in [OperationKind::Read, OperationKind::Open, OperationKind::List] {
        disk.fail_nth(kind, 1, full);
    }
    assert_eq!(kind(file.read_at(&mut [0; 1], 0)), Some(full));
    assert_eq!(file.read_at(&mut [0; 1], 0).unwrap(), 1);
    assert_eq!(kind(disk.open("c", Access::Read)), Some(full));
    assert_eq!(kind(disk.list()), Some(full));
    disk.fail_nth(OperationKind::Submit, 1, full);
    let mut queue = disk.write_queue().unwrap();
    assert_eq!(kind(queue.submit(write(&file, 1, 0, &sectors_of(1, 2)))), Some(full));
    assert_eq!(fills(&disk.read_file("c")), [0]);
}

#[test]
fn a_full_disk_refuses_and_recovers() {
    let disk = SimDisk::new(1);
    disk.create("a", 4096).unwrap();
    disk.set_free_bytes(Some(1024));
    assert_eq!(kind(disk.create("b", 2048)), Some(io::ErrorKind::StorageFull));
    assert_eq!(kind(disk.create("a", 2048)), Some(io::ErrorKind::AlreadyExists));
    let file = disk.create("b", 1024).unwrap();
    file.write_at(&sectors_of(2, 2), 0).unwrap();
    let grown = file.write_at(&sectors_of(1, 2), 1024);
    assert_eq!(kind(grown), Some(io::ErrorKind::StorageFull));
    disk.remove("a").unwrap();
    disk.create("c", 2048).unwrap();
    disk.set_free_bytes(None);
    disk.create("d", 1 << 30).unwrap();
}

#[test]
fn refuses_what_a_real_file_refuses() {
    let (disk, file) = disk_with_file(1, 2);
    let bytes = sectors_of(2, 2);
    let invalid = Some(io::ErrorKind::InvalidInput);
    assert_eq!(kind(file.write_at(&bytes[1..513], 0)), invalid, "memory");
    assert_eq!(kind(file.write_at(&bytes[..100], 0)), invalid, "length");
    assert_eq!(kind(file.write_durable_at(&bytes, 100)), invalid, "offset");
    assert_eq!(kind(file.read_direct_at(&mut Aligned::zeroed(512), 1)), invalid);
    let huge = file.write_at(&bytes, u64::MAX - 511);
    assert_eq!(kind(huge), Some(io::ErrorKind::FileTooLarge));
    let reader = disk.open("f", Access::Read).unwrap();
    assert_eq!(kind(reader.write_at(&bytes, 0)), Some(io::ErrorKind::PermissionDenied));
    disk.plant_directory("d");
    assert_eq!(kind(disk.open("d", Access::Read)), invalid);
    assert_eq!(kind(disk.rename("f", "d")), Some(io::ErrorKind::IsADirectory));
    assert_eq!(kind(disk.rename("d", "f")), Some(io::ErrorKind::NotADirectory));
    assert_eq!(kind(disk.remove("d")), Some(io::ErrorKind::IsADirectory));
    let missing = Some(io::ErrorKind::NotFound);
    assert_eq!(kind(disk.open("x", Access::Read)), missing);
    assert_eq!(kind(disk.rename("x", "y")), missing);
    assert_eq!(kind(disk.remove("x")), missing);
    assert_eq!(fills(&disk.read_file("f")), [1, 1]);
}

#[test]
fn reads_end_at_the_end_of_the_file() {
    let disk = SimDisk::new(1);
    disk.write_file("f", &[7; 700]);
    let file = disk.open("f", Access::Write).unwrap();
    let mut bytes = [0; 1000];
    assert_eq!(file.read_at(&mut bytes, 650).unwrap(), 50);
    assert_eq!(bytes[49..51], [7, 0]);
    assert_eq!(file.read_at(&mut bytes, u64::MAX).unwrap(), 0);
    let mut direct = Aligned::zeroed(1024);
    assert_eq!(file.read_direct_at(&mut direct, 512).unwrap(), 188);
    assert_eq!(file.read_direct_at(&mut direct, u64::MAX - 511).unwrap(), 0);
    file.write_at(&sectors_of(1, 8), 1024).unwrap();
    assert_eq!(file.len().unwrap(), 1536);
    let mapping = file.map().unwrap();
    assert_eq!((mapping.len(), mapping[699], mapping[700], mapping[1024]), (1536, 7, 0, 8));
    assert_eq!(file.read_at(&mut bytes, 600).unwrap(), 936);
    assert_eq!((bytes[423], bytes[424]), (0, 8));
}

#[test]
fn the_locks_exclude_as_on_a_real_disk() {
    let (disk, file) = disk_with_file(1, 1);
    let held = disk.lock().unwrap();
    assert!(disk.is_locked().unwrap());
    assert_eq!(kind(disk.clone().lock()), Some(io::ErrorKind::WouldBlock));
    disk.restart(1);
    assert!(!disk.is_locked().unwrap());
    let held_again = disk.lock().unwrap();
    drop(held);
    assert!(disk.is_locked().unwrap(), "a lock of before the restart frees nothing");
    drop(held_again);
    assert!(!disk.is_locked().unwrap());
    assert_eq!(kind(file.lock_shared()), Some(POWER_CUT));

    let handles = [(); 2].map(|()| disk.open("f", Access::Read).unwrap());
    let [one, other] = &handles;
    one.lock_shared().unwrap();
    other.lock_shared().unwrap();
    assert!(!one.try_lock_exclusive().unwrap());
    other.unlock().unwrap();
    assert!(one.try_lock_exclusive().unwrap());
    assert_eq!(kind(other.lock_shared()), Some(io::ErrorKind::WouldBlock));
    drop(handles);
    assert!(disk.open("f", Access::Write).unwrap().try_lock_exclusive().unwrap());
}

#[test]
fn tests_can_damage_files() {
    let (disk, file) = disk_with_file(1, 2);
    file.write_at(&sectors_of(1, 2), 0).unwrap();
    disk.flip_bit("f", 8 * 3 + 1);
    assert_eq!(disk.read_file("f")[2..5], [2, 0, 2]);
    disk.restart_losing_all();
    assert_eq!(disk.read_file("f")[2..5], [1, 3, 1]);
    disk.truncate_file("f", 5);
    disk.plant_directory("d");
    disk.write_file("g", b"foreign");
    disk.rename("g", "h").unwrap();
    disk.remove_file("h");
    disk.create("i", 0).unwrap();
    disk.remove_file("i");
    disk.restart_keeping_all();
    assert_eq!(disk.read_file("f"), [1, 1, 1, 3, 1]);
    assert_eq!(disk.files(), ["f"]);
    let entry = |name: &str, kind| Entry { name: name.to_owned(), kind };
    let expected = [entry("d", EntryKind::Other), entry("f", EntryKind::File(5))];
    assert_eq!(disk.list().unwrap(), expected);
}

#[test]
fn the_clock_goes_on_and_can_be_set() {
    let disk = SimDisk::new(1);
    let before = disk.now_ms();
    disk.sync_directory().unwrap();
    assert_eq!(disk.now_ms(), before + 1);
    disk.set_now_ms(5);
    assert_eq!(disk.now_ms(), 5);
    assert_ne!(disk.random_id().unwrap(), disk.random_id().unwrap());
    assert_eq!((disk.describe().as_str(), disk.backend_name()), ("sim", "sim"));
}
