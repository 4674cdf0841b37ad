//! Tests of checkpoints as files: whole or not there, and damage of each kind seen.

use super::*;
use crate::disk::sim::SimDisk;

fn header(lsn: u64) -> CheckpointHeader {
    CheckpointHeader {
        kind: Kind::State,
        log_id: 1,
        lsn: Lsn::new(lsn),
        epoch: Epoch::new(2),
        time_ms: 3,
        content_bytes: 0,
    }
}

fn content_of(lsn: u64, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|n| u8::try_from((n as u64 * 7 + lsn) % 251).unwrap()).collect()
}

fn write_one(disk: &SimDisk, lsn: u64, bytes: usize) -> io::Result<u64> {
    write(disk, header(lsn), &mut |out| out.write_all(&content_of(lsn, bytes)))
}

fn newest_content(disk: &SimDisk) -> Option<(u64, Vec<u8>)> {
    let lsns = list(disk, Kind::State).unwrap();
    let (found, _) = newest(disk, Kind::State, &lsns, 1);
    found.map(|mut reader| (reader.lsn().get(), content(&mut reader, u64::MAX).unwrap()))
}

#[test]
fn content_of_any_length_comes_back() {
    for bytes in
        [0, 1, PIECE_CONTENT_BYTES - 1, PIECE_CONTENT_BYTES, PIECE_CONTENT_BYTES + 1, 300_000]
    {
        let disk = SimDisk::new(1);
        let length = write_one(&disk, 5, bytes).unwrap();
        assert_eq!(length, disk.read_file(&file_name(Kind::State, Lsn::new(5))).len() as u64);
        assert_eq!(newest_content(&disk), Some((5, content_of(5, bytes))), "{bytes}");
    }
}

#[test]
fn a_damaged_newest_one_falls_back() {
    let name = file_name(Kind::State, Lsn::new(9));
    let prepared = SimDisk::new(1);
    write_one(&prepared, 5, 100_000).unwrap();
    write_one(&prepared, 9, 100_000).unwrap();
    let whole = prepared.read_file(&name);
    for at in (0..whole.len()).step_by(997).chain([0, 4095, 4096, whole.len() - 1]) {
        let mut damaged = whole.clone();
        damaged[at] ^= 4;
        prepared.write_file(&name, &damaged);
        assert_eq!(newest_content(&prepared), Some((5, content_of(5, 100_000))), "byte {at}");
    }
    for length in [0, 1, 4096, 65_536, whole.len() - 1] {
        prepared.write_file(&name, &whole[..length]);
        assert_eq!(newest_content(&prepared).map(|(lsn, _)| lsn), Some(5), "{length} bytes");
    }
    prepared.write_file(&name, &prepared.read_file(&file_name(Kind::State, Lsn::new(5))));
    assert_eq!(newest_content(&prepared).map(|(lsn, _)| lsn), Some(5), "a copy of another one");
    prepared.write_file(&name, &whole);
    assert_eq!(newest_content(&prepared).map(|(lsn, _)| lsn), Some(9));
}

#[test]
fn of_another_log_is_passed_over() {
    let disk = SimDisk::new(1);
    write_one(&disk, 5, 10).unwrap();
    let lsns = list(&disk, Kind::State).unwrap();
    let (found, notes) = newest(&disk, Kind::State, &lsns, 2);
    assert!(found.is_none() && notes.len() == 1, "{notes:?}");
}

/// C9: the old ones or the new one, and never none.
#[test]
fn a_power_cut_leaves_the_old_or_the_new() {
    let mut new = 0;
    for cut in 1..40 {
        for seed in 0..16 {
            let disk = SimDisk::new(2);
            for lsn in [5, 9] {
                write_one(&disk, lsn, 70_000).unwrap();
            }
            disk.cut_at(disk.operations() + cut);
            let written = write_one(&disk, 12, 70_000);
            let pruned = written.is_ok() && prune(&disk, Kind::State, 2).is_ok();
            disk.restart(seed);
            let (lsn, content) = newest_content(&disk).expect("one is whole at every moment");
            assert_eq!(content, content_of(lsn, 70_000));
            assert!(lsn == 12 || lsn == 9 && written.is_err(), "cut {cut}, seed {seed}: {lsn}");
            new += u64::from(lsn == 12);
            if pruned {
                assert!(list(&disk, Kind::State).unwrap().len() >= KEPT_MIN);
            }
        }
    }
    assert!(new > 50, "both outcomes were reached: {new}");
}

#[test]
fn a_full_disk_leaves_nothing() {
    let disk = SimDisk::new(1);
    write_one(&disk, 5, 100).unwrap();
    disk.set_free_bytes(Some(100_000));
    let error = write_one(&disk, 9, 300_000).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert_eq!(disk.files().len(), 1, "{:?}", disk.files());
    assert_eq!(newest_content(&disk).map(|(lsn, _)| lsn), Some(5));
}
