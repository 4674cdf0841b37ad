//! What a cut leaves of names.

use std::collections::BTreeSet;
use std::io;

use super::*;

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
