//! Edges of sealing, trimming and opening that a second review found; each failed first.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use cairnlog_engine::disk::sim::SimDisk;
use cairnlog_engine::*;

mod common;

use common::{config as small, sim};

/// A power cut while a footer is written leaves a trailer without its index: damage for ever.
#[test]
fn a_torn_footer_is_no_damage() {
    let mut damaged = Vec::new();
    for seed in 0..4000 {
        let disk = SimDisk::new(1);
        let (log, _) = Log::open_on(sim(&disk), small()).unwrap();
        for _ in 0..4 {
            log.append(&[7; 15 << 10]).unwrap();
        }
        disk.cut_at(disk.operations() + 1 + seed % 40);
        let _ = log.append(&[7; 15 << 10]);
        drop(log);
        disk.restart(seed);
        Log::open_on(sim(&disk), small()).unwrap().0.close().unwrap();
        let report = verify_on(&disk, &mut |_, _| {}).unwrap();
        if !report.is_whole() {
            damaged.push(format!("seed {seed}: {:?}", report.damage));
        }
    }
    let count = damaged.len();
    damaged.truncate(1);
    assert_eq!(count, 0, "of 4000: {damaged:#?}");
}

/// A flipped bit in the version of a segment header is called a newer version.
#[test]
fn rot_is_not_a_newer_version() {
    let disk = SimDisk::new(1);
    let (log, _) = Log::open_on(sim(&disk), small()).unwrap();
    for _ in 0..9 {
        log.append(&[7; 15 << 10]).unwrap();
    }
    log.close().unwrap();
    disk.flip_bit("00000000000000000001.seg", 8 * 4 + 3);
    match Log::open_on(sim(&disk), small()) {
        Ok((_, report)) => assert!(!report.notes.is_empty(), "the footer makes up for it"),
        Err(error) => panic!("{error}"),
    }
}

/// A trim point that is ahead of the segments.
#[test]
fn forged_trim_point() {
    let disk = SimDisk::new(1);
    let (log, _) = Log::open_on(sim(&disk), small()).unwrap();
    for _ in 0..9 {
        log.append(&[7; 15 << 10]).unwrap();
    }
    log.close().unwrap();
    let mut bytes = disk.read_file("superblock");
    for copy in 0..2 {
        let copy = &mut bytes[copy * 4096..(copy + 1) * 4096];
        copy[96..104].copy_from_slice(&1000u64.to_le_bytes());
        let mut h = crc32fast::Hasher::new();
        h.update(&copy[..4092]);
        let sum = h.finalize();
        copy[4092..4096].copy_from_slice(&sum.to_le_bytes());
    }
    disk.write_file("superblock", &bytes);
    if let Ok((log, _)) = Log::open_on(sim(&disk), small()) {
        let _ = log.trim(log.durable_lsn());
    }
}

/// A refused open of a fresh directory leaves a superblock behind.
#[test]
fn a_refused_open_makes_nothing() {
    let disk = SimDisk::new(1);
    disk.plant_directory("00000000000000000001.seg.tmp");
    assert!(Log::open_on(sim(&disk), small()).is_err());
    assert!(disk.files().is_empty(), "{:?}", disk.files());
}
