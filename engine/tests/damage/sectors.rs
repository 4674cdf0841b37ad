//! A sector of every file in turn.

use cairnlog_engine::{OpenError, verify_on};

use crate::made::{BLOCK_BYTES, Made, assert_same, files};

/// I7. A sector of every file in turn, flipped, zeroed, or with the content of another one: nothing
/// panics, nobody gets wrong bytes, and no record goes missing without a word. In the ends of a file
/// each sector is damaged in each way, in its middle in one.
#[test]
fn no_damaged_sector_goes_unnoticed() {
    let made = Made::new(1);
    let sector = usize::try_from(BLOCK_BYTES).expect("64-bit targets");
    for (name, content) in &files(&made.disk) {
        let sectors = content.len() / sector;
        for number in 0..sectors {
            let at_an_end = number < 3 || number + 3 >= sectors;
            for way in (0..3).filter(|way| at_an_end || number % 3 == *way) {
                let (at, other) = (number * sector, (number + 7) % sectors * sector);
                let mut damaged = content.clone();
                match way {
                    0 => damaged[at + number % sector] ^= 0x10,
                    1 => damaged[at..at + sector].fill(0),
                    _ => damaged.copy_within(other..other + sector, at),
                }
                if damaged != *content {
                    damaged_anyhow(&made, name, &damaged, &format!("{name} {at} {way}"));
                }
            }
        }
    }
}

fn damaged_anyhow(made: &Made, name: &str, damaged: &[u8], what: &str) {
    let here = made.copy();
    here.disk.write_file(name, damaged);
    here.look_at_everything();
    let before = files(&here.disk);
    let verified = verify_on(&here.disk, &mut |_, _| {});
    match here.open() {
        Err(OpenError::Damaged { .. }) => {
            assert_same(&before, &files(&here.disk));
            assert!(!verified.expect("there is a log").is_whole(), "{what}");
        }
        Err(other) => panic!("{what}: {other:?}"),
        Ok((log, report)) => {
            assert_eq!(report.end_lsn, made.end_lsn(), "{what}: {report:?}");
            let mut readable = 0;
            let mut from = log.first_lsn();
            while from < log.end_lsn() {
                let records = log.iter(from..).expect("the start is in the log");
                let (count, next) = here.check_until_damage(records);
                (readable, from) = (readable + count, next);
            }
            // A sector is part of one batch, and that has three records.
            let unreadable = here.records.len() as u64 - readable;
            assert!(unreadable <= 3, "{what}: {unreadable} records cannot be read");
            let is_whole = verified.expect("there is a log").is_whole();
            assert!(unreadable == 0 || !is_whole, "{what}: verify missed it");
        }
    }
}
