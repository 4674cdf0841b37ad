//! What a walk through all outcomes of a power cut visits, and that hashes tell disks and traces apart.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{PowerCut, SECTOR_BYTES, SimDisk};
use crate::disk::{Access, Aligned, Disk, DiskFile};

fn sectors_of(count: usize, fill: u8) -> Aligned {
    let mut bytes = Aligned::zeroed(count * SECTOR_BYTES);
    bytes.fill(fill);
    bytes
}

fn contents(disk: &SimDisk) -> Vec<(String, Vec<u8>)> {
    disk.files().into_iter().map(|name| (name.clone(), disk.read_file(&name))).collect()
}

fn disk_with_file(seed: u64) -> (SimDisk, Arc<dyn DiskFile>) {
    let disk = SimDisk::new(seed);
    disk.write_file("f", &sectors_of(4, 1));
    let file = disk.open("f", Access::Write).unwrap();
    (disk, file)
}

#[test]
fn every_outcome_comes_once() {
    let (disk, file) = disk_with_file(1);
    file.write_at(&sectors_of(2, 2), 0).unwrap();
    file.write_at(&sectors_of(2, 3), 512).unwrap();
    let seen: Vec<_> = disk.every_outcome().map(|disk| contents(&disk)).collect();
    assert_eq!(seen.len(), 2 * 3 * 2);
    assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), seen.len());
}

/// The walk visits all that chance ever shows, with names and lengths.
#[test]
fn chance_finds_nothing_that_the_walk_leaves_out() {
    let disk = SimDisk::new(1);
    disk.write_file("a", &[1; 512]);
    disk.rename("a", "b").unwrap();
    disk.create("c", 1024).unwrap();
    let file = disk.open("b", Access::Write).unwrap();
    file.write_at(&sectors_of(3, 2), 0).unwrap();
    let walked: BTreeSet<u64> = disk.every_outcome().map(|disk| disk.fingerprint()).collect();
    let mut drawn = BTreeSet::new();
    for seed in 0..4000 {
        let outcome = disk.after(PowerCut::Seeded(seed));
        // Chance also draws lengths between two sectors.
        if contents(&outcome).iter().all(|(_, bytes)| bytes.len() % SECTOR_BYTES == 0) {
            drawn.insert(outcome.fingerprint());
        }
    }
    assert!(drawn.is_subset(&walked));
    assert!(walked.contains(&disk.after(PowerCut::LosingAll).fingerprint()));
    assert!(walked.contains(&disk.after(PowerCut::KeepingAll).fingerprint()));
    // `a` or `b`, of three lengths with what was written there; no `c`, or one of three lengths.
    assert_eq!(walked.len(), 2 * (2 + 4 + 8) * (1 + 3));
}

#[test]
fn equal_versions_are_one() {
    let (disk, file) = disk_with_file(1);
    file.write_at(&sectors_of(4, 1), 0).unwrap();
    assert_eq!(disk.every_outcome().count(), 1, "the same bytes were durable before");
    file.write_at(&sectors_of(1, 2), 0).unwrap();
    file.write_at(&sectors_of(1, 2), 0).unwrap();
    assert_eq!(disk.every_outcome().count(), 2);
}

/// A disk after a cut is another disk: neither changes the other.
#[test]
fn a_disk_after_a_cut_stands_alone() {
    let (disk, file) = disk_with_file(1);
    file.write_at(&sectors_of(1, 2), 0).unwrap();
    let after = disk.after(PowerCut::KeepingAll);
    after.remove_file("f");
    file.sync().unwrap();
    assert_eq!(disk.files(), ["f"]);
    assert!(after.files().is_empty());
    assert_eq!(after.operations() + 1, disk.operations());
}

#[test]
fn the_same_seed_leaves_the_same_trace() {
    let story = |seed: u64, name: &str, fill: u8| {
        let (disk, file) = disk_with_file(seed);
        file.write_durable_at(&sectors_of(1, fill), 512).unwrap();
        disk.create(name, 512).unwrap();
        (disk.trace(), disk.fingerprint())
    };
    assert_eq!(story(1, "g", 2), story(1, "g", 2));
    let (trace, fingerprint) = story(1, "g", 2);
    for (other_trace, other_fingerprint) in [story(1, "h", 2), story(1, "g", 3)] {
        assert_ne!(trace, other_trace);
        assert_ne!(fingerprint, other_fingerprint);
    }
}
