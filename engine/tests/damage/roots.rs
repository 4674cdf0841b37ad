//! Damage to the superblock and the watermark, and files of a newer version.

use cairnlog_engine::disk::sim::SimDisk;
use cairnlog_engine::format::batch::HEADER_BYTES;
use cairnlog_engine::format::segment::file_name;
use cairnlog_engine::format::version::{Fault, VERSION};
use cairnlog_engine::{OpenError, verify_on};

use crate::made::{ACTIVE, BLOCK_BYTES, COPY_BYTES, Made, assert_same, files, patch};

/// D9.
#[test]
fn both_superblock_copies_damaged_is_a_safe_halt() {
    type Damage = fn(&SimDisk);
    let damages: [Damage; 4] = [
        |disk| [40, COPY_BYTES + 40].iter().for_each(|at| disk.flip_bit("superblock", at * 8)),
        |disk| disk.write_file("superblock", &[0; 8192]),
        |disk| disk.truncate_file("superblock", 0),
        |disk| disk.truncate_file("superblock", 100),
    ];
    for damage in damages {
        let made = Made::new(1);
        damage(&made.disk);
        made.look_at_everything();
        let before = files(&made.disk);
        let error = made.open().expect_err("nobody can tell what was promised");
        assert!(matches!(error, OpenError::Superblock { .. }), "{error:?}");
        assert_same(&before, &files(&made.disk));
        let error = verify_on(&made.disk, &mut |_, _| {}).expect_err("nor can verify");
        assert!(matches!(error, OpenError::Superblock { .. }), "{error:?}");
    }
}

#[test]
fn a_missing_superblock_beside_segments_is_refused() {
    let made = Made::new(1);
    made.disk.remove_file("superblock");
    made.look_at_everything();
    let before = files(&made.disk);
    let error = made.open().expect_err("segments are not started anew");
    assert!(matches!(error, OpenError::Superblock { fault: Fault::Missing, .. }), "{error:?}");
    assert_same(&before, &files(&made.disk));
}

#[test]
fn one_damaged_superblock_copy_is_repaired() {
    for copy in 0..2 {
        for at in [0, 5, 40, 1000, COPY_BYTES - 1] {
            let made = Made::new(1);
            made.disk.flip_bit("superblock", (copy * COPY_BYTES + at) * 8);
            assert_eq!(made.verify().notes.len(), 1, "copy {copy}, byte {at}");
            made.opens_whole();
            let content = made.disk.read_file("superblock");
            let (first, second) = content.split_at(content.len() / 2);
            assert!(first == second, "the damaged copy was rewritten");
            assert!(made.verify().notes.is_empty());
        }
    }
    let made = Made::new(1);
    made.disk.truncate_file("superblock", COPY_BYTES);
    made.opens_whole();
    assert_eq!(made.disk.read_file("superblock").len(), 8192);
}

/// The damaged copy is rewritten before the whole one is written to: no power cut leaves none.
#[test]
fn a_power_cut_while_a_superblock_copy_is_repaired() {
    for copy in 0..2 {
        for seed in 0..16 {
            for cut in 1.. {
                let made = Made::new(1);
                made.disk.flip_bit("superblock", (copy * COPY_BYTES + 40) * 8);
                made.disk.cut_at(made.disk.operations() + cut);
                let opened = made.open();
                let ended = opened.is_ok_and(|(log, _)| log.close().is_ok());
                made.disk.restart(seed);
                let (_, report) = made.open().expect("one copy is whole at every moment");
                assert_eq!(report.end_lsn, made.end_lsn());
                if ended {
                    break;
                }
            }
        }
    }
}

#[test]
fn a_damaged_watermark_only_loses_evidence() {
    let other = Made::new(2).disk.read_file("watermark");
    type Damage<'a> = &'a dyn Fn(&SimDisk);
    let damages: [Damage<'_>; 7] = [
        &|disk| disk.flip_bit("watermark", 40 * 8),
        &|disk| disk.flip_bit("watermark", (4096 + 40) * 8),
        &|disk| disk.write_file("watermark", &[0; 8192]),
        &|disk| disk.truncate_file("watermark", 0),
        &|disk| disk.truncate_file("watermark", 5000),
        &|disk| disk.remove_file("watermark"),
        &|disk| disk.write_file("watermark", &other),
    ];
    for damage in damages {
        let made = Made::new(1);
        damage(&made.disk);
        assert!(made.verify().is_whole());
        made.opens_whole();
        assert_eq!(made.disk.read_file("watermark").len(), 8192);
    }
}

/// Gives a structure another version and the checksum that goes with it.
fn raise_version(bytes: &mut [u8], checksum_at: usize) {
    bytes[4..6].copy_from_slice(&(VERSION + 1).to_le_bytes());
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..checksum_at]);
    hasher.update(&bytes[checksum_at + 4..]);
    bytes[checksum_at..checksum_at + 4].copy_from_slice(&hasher.finalize().to_le_bytes());
}

fn patch_version(disk: &SimDisk, name: &str, at: u64, bytes: u64, checksum_at: usize) {
    let content = disk.read_file(name);
    let start = usize::try_from(at).expect("64-bit targets");
    let end = start + usize::try_from(bytes).expect("64-bit targets");
    let mut structure = content[start..end].to_vec();
    raise_version(&mut structure, checksum_at);
    patch(disk, name, at, &structure);
}

#[test]
fn a_superblock_of_a_newer_version_is_refused() {
    let checksum_at = usize::try_from(COPY_BYTES).expect("64-bit targets") - 4;
    for copies in [&[0][..], &[1], &[0, 1]] {
        let made = Made::new(1);
        for copy in copies {
            patch_version(&made.disk, "superblock", copy * COPY_BYTES, COPY_BYTES, checksum_at);
        }
        made.look_at_everything();
        let before = files(&made.disk);
        let error = made.open().expect_err("a newer binary's");
        assert!(
            matches!(error, OpenError::Version { version, .. } if version == VERSION + 1),
            "{error:?}"
        );
        assert_same(&before, &files(&made.disk));
        let error = verify_on(&made.disk, &mut |_, _| {}).expect_err("a newer binary's");
        assert!(matches!(error, OpenError::Version { .. }), "{error:?}");
    }
}

/// A newer binary's batch or segment at the end of the log: refused untouched, whatever evidence
/// there is beside it.
#[test]
fn the_tail_of_a_newer_version_is_refused() {
    for has_watermark in [true, false] {
        for whole_segment in [false, true] {
            let made = Made::new(1);
            let last = made.batches.last().expect("there are batches").clone();
            if whole_segment {
                let name = file_name(ACTIVE);
                patch_version(&made.disk, &name, 0, BLOCK_BYTES, 252);
                for batch in made.batches_of(ACTIVE) {
                    let header = HEADER_BYTES as u64;
                    patch_version(&made.disk, &name, batch.offset, header, HEADER_BYTES - 4);
                }
            } else {
                let (name, header) = (file_name(ACTIVE), HEADER_BYTES as u64);
                patch_version(&made.disk, &name, last.offset, header, HEADER_BYTES - 4);
            }
            if !has_watermark {
                made.disk.remove_file("watermark");
            }
            made.look_at_everything();
            let before = files(&made.disk);
            let opened = made.open();
            assert!(
                opened.is_err(),
                "opened; watermark {has_watermark}, whole segment {whole_segment}: {:?}",
                opened.map(|(_, report)| report)
            );
            assert_same(&before, &files(&made.disk));
        }
    }
}
