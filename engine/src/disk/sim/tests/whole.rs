//! The disk as a whole: cuts anywhere, handles, seeds, faults, locks and clock.

use std::collections::BTreeSet;
use std::io;

use super::*;

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
