//! Structures with right checksums and impossible contents: no panic, no hang, whatever is done with them.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::ops::ControlFlow;

use cairnlog_engine::disk::sim::SimDisk;
use cairnlog_engine::*;

mod common;

use common::{config as small, sim, within};

fn seal(block: &mut [u8], at: usize) {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&block[..at]);
    hasher.update(&block[at + 4..]);
    let sum = hasher.finalize();
    block[at..at + 4].copy_from_slice(&sum.to_le_bytes());
}

fn sealed_log() -> SimDisk {
    let disk = SimDisk::new(1);
    let (log, _) = Log::open_on(sim(&disk), small()).unwrap();
    for _ in 0..12 {
        log.append(&[1; 15 << 10]).unwrap();
    }
    log.close().unwrap();
    disk
}

fn forge_superblock(disk: &SimDisk, at: usize, value: u64) {
    let mut bytes = disk.read_file("superblock");
    for copy in 0..2 {
        let copy = &mut bytes[copy * 4096..(copy + 1) * 4096];
        copy[at..at + 8].copy_from_slice(&value.to_le_bytes());
        seal(copy, 4092);
    }
    disk.write_file("superblock", &bytes);
}

fn use_it(disk: &SimDisk) {
    let _ = verify_on(&disk.clone(), &mut |_, _| {});
    let _ = inspect_on(&disk.clone(), &mut |_| ControlFlow::Continue(()));
    if let Ok(reader) = LogReader::open_on(sim(disk)) {
        if let Ok(records) = reader.iter(..) {
            let _ = records.count();
        }
        let _ = reader.lsn_at_time(1_750_000_000_100);
        let range = reader.range();
        for lsn in range.start.get()..range.end.get().min(range.start.get().saturating_add(50)) {
            let lsn = Lsn::new(lsn);
            if let Ok(records) = reader.iter(lsn..lsn.next()) {
                let _ = records.count();
            }
        }
    }
    if let Ok((log, _)) = Log::open_on(sim(disk), small()) {
        if let Ok(records) = log.iter(..) {
            let _ = records.count();
        }
        for _ in 0..12 {
            let _ = log.append(&[1; 15 << 10]);
        }
        let _ = log.trim(log.durable_lsn());
        let _ = log.close();
    }
}

#[test]
fn forged_superblock_sequence() {
    within(20, || {
        let disk = sealed_log();
        forge_superblock(&disk, 8, u64::MAX);
        use_it(&disk);
    });
}

#[test]
fn forged_superblock_start_counter() {
    within(20, || {
        let disk = sealed_log();
        forge_superblock(&disk, 64, u64::MAX);
        use_it(&disk);
    });
}

#[test]
fn forged_superblock_first_lsn_and_segment() {
    within(20, || {
        let disk = sealed_log();
        forge_superblock(&disk, 96, u64::MAX - 1);
        forge_superblock(&disk, 104, u64::MAX);
        use_it(&disk);
    });
}

#[test]
fn forged_watermark_sequence() {
    within(20, || {
        let disk = sealed_log();
        let mut bytes = disk.read_file("watermark");
        for block in 0..2 {
            let block = &mut bytes[block * 4096..(block + 1) * 4096];
            block[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
            seal(block, 4092);
        }
        disk.write_file("watermark", &bytes);
        use_it(&disk);
    });
}

fn forge_trailer(disk: &SimDisk, segment: u64, at: usize, value: u64) {
    let name = format!("{segment:020}.seg");
    let mut bytes = disk.read_file(&name);
    let start = bytes.len() - 512;
    bytes[start + at..start + at + 8].copy_from_slice(&value.to_le_bytes());
    seal(&mut bytes[start..], 252);
    disk.write_file(&name, &bytes);
}

/// A trailer that promises a record the segment does not hold: readers go round for ever.
#[test]
fn forged_trailer_end_lsn() {
    within(20, || {
        let disk = sealed_log();
        forge_trailer(&disk, 1, 40, 1000);
        use_it(&disk);
    });
}

/// An index entry that leads outside of the file.
#[test]
fn forged_index_offset() {
    within(20, || {
        let disk = sealed_log();
        let name = "00000000000000000001.seg";
        let mut bytes = disk.read_file(name);
        let data_end = bytes.len() - 1024;
        bytes[data_end + 8..data_end + 16].copy_from_slice(&u64::MAX.to_le_bytes());
        let sum = crc32fast::hash(&bytes[data_end..data_end + 24]);
        let start = bytes.len() - 512;
        bytes[start + 92..start + 96].copy_from_slice(&1u32.to_le_bytes());
        bytes[start + 96..start + 100].copy_from_slice(&sum.to_le_bytes());
        seal(&mut bytes[start..], 252);
        disk.write_file(name, &bytes);
        use_it(&disk);
    });
}

/// A segment file that is nothing but the trailer of a segment: no forging needed, only a cut in front.
#[test]
fn a_file_that_is_only_a_trailer() {
    within(20, || {
        let disk = sealed_log();
        let name = "00000000000000000001.seg";
        let bytes = disk.read_file(name);
        disk.write_file(name, &bytes[bytes.len() - 512..]);
        use_it(&disk);
    });
}
