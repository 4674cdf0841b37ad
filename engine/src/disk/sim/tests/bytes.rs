//! What a cut and a sync leave of the bytes of a file.

use std::collections::BTreeSet;
use std::io;

use super::*;

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
