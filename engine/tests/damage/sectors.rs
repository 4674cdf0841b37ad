//! A sector of every file in turn, and sectors that cannot be read where nothing stands.

use std::io::ErrorKind;

use cairnlog_engine::disk::sim::OperationKind;
use cairnlog_engine::disk::{Access, Aligned, Disk as _};
use cairnlog_engine::format::batch::BatchHeader;
use cairnlog_engine::format::segment::file_name;
use cairnlog_engine::format::version::Fault;
use cairnlog_engine::{OpenError, Verdict, verify_on};

use crate::made::{
    ACTIVE, BLOCK_BYTES, Made, SEGMENT_BYTES, assert_same, body_of, files, flip, patch,
};

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

/// Where the log ends in its active segment.
fn end_offset(made: &Made) -> u64 {
    made.batches.last().expect("the log has batches").end_offset()
}

fn zero(made: &Made, batch: &BatchHeader) {
    let length = usize::try_from(batch.length).expect("64-bit targets");
    patch(&made.disk, &file_name(ACTIVE), batch.offset, &vec![0; length]);
}

fn make_unreadable(made: &Made, segment: u64, offset: u64) {
    made.disk.make_unreadable(&file_name(segment), offset..offset + 1);
}

/// The open is refused, and nothing is changed by it; whoever only reads says what it is.
fn refused_as_unreadable(made: &Made, what: &str) {
    made.look_at_everything();
    let before = files(&made.disk);
    match made.open() {
        Err(OpenError::Io(_)) => {}
        Err(other) => panic!("{what}: {other:?}"),
        Ok((_, report)) => panic!("{what}: opened: {report:?}"),
    }
    assert_same(&before, &files(&made.disk));
    let verified = made.verify();
    assert!(!verified.is_whole(), "{what}");
    assert!(
        matches!(verified.verdict, Verdict::Damaged(c) if c.fault == Fault::Unreadable),
        "{what}"
    );
}

/// D4. Where nothing was ever written nothing is lost, and the block is written before it is used.
#[test]
fn an_unreadable_block_behind_the_end_costs_nothing() {
    let end = end_offset(&Made::new(1));
    for blocks in [1, 2, 9] {
        let made = Made::new(1);
        let offset = end + blocks * BLOCK_BYTES;
        make_unreadable(&made, ACTIVE, offset);
        let report = made.opens_whole();
        let said = report.notes.iter().any(|note| note.contains(&offset.to_string()));
        assert!(said, "{blocks} blocks behind: {report:?}");
        let file = made.disk.open(&file_name(ACTIVE), Access::Read).expect("it is there");
        file.read_direct_at(&mut Aligned::zeroed(512), offset).expect("it was written");
    }
    // Behind what recovery looks at.
    let made = Made::new(1);
    make_unreadable(&made, ACTIVE, SEGMENT_BYTES - 2 * BLOCK_BYTES);
    made.opens_whole();
}

/// The block is zeroed and read back before anything is appended. Where that fails, the next open has
/// the same before it.
#[test]
fn an_unreadable_block_that_cannot_be_zeroed_is_refused() {
    let end = end_offset(&Made::new(1));
    for kind in [OperationKind::Write, OperationKind::Read] {
        let mut refused = 0;
        for nth in 1..40 {
            let made = Made::new(1);
            make_unreadable(&made, ACTIVE, end + BLOCK_BYTES);
            made.disk.fail_nth(kind, nth, ErrorKind::Other);
            match made.open() {
                Ok(_) => {}
                Err(OpenError::Io(_)) => refused += 1,
                Err(other) => panic!("{kind:?} {nth}: {other:?}"),
            }
            made.disk.restart_losing_all();
            made.opens_whole();
        }
        assert!(refused > 0, "{kind:?}");
    }
}

/// A batch that was acknowledged may stand there: a write that is cut off leaves something to read.
#[test]
fn an_unreadable_block_where_the_log_may_go_on_is_refused() {
    let made = Made::new(1);
    make_unreadable(&made, ACTIVE, end_offset(&made));
    refused_as_unreadable(&made, "at the end");
    for part in 0..3 {
        let made = Made::new(1);
        let last = made.batches.last().expect("the log has batches").clone();
        make_unreadable(&made, ACTIVE, last.offset + part * BLOCK_BYTES);
        refused_as_unreadable(&made, &format!("block {part} of the last batch"));
    }
}

/// What is damaged anyhow is reported as that.
#[test]
fn an_unreadable_block_before_a_recognized_batch_is_damage() {
    let made = Made::new(1);
    let [.., before, last] = &made.batches[..] else { panic!("the layout of the test") };
    zero(&made, before);
    make_unreadable(&made, ACTIVE, before.offset + BLOCK_BYTES);
    assert!(last.offset > before.offset + BLOCK_BYTES, "the layout of the test");
    for has_watermark in [true, false] {
        if !has_watermark {
            made.disk.write_file("watermark", &[0; 8192]);
        }
        let corruption = made.refused_as_damaged();
        assert_eq!((corruption.segment, corruption.offset), (ACTIVE, before.offset));
    }
}

/// It may hold what proves that the end was durable, or the records that are missed.
#[test]
fn an_unreadable_block_behind_an_end_in_doubt_is_refused() {
    let made = Made::new(1);
    let end = end_offset(&made);
    let last = made.batches.last().expect("the log has batches").clone();
    // Nothing behind, but evidence that there was.
    let lost = made.copy();
    zero(&lost, &last);
    make_unreadable(&lost, ACTIVE, end + BLOCK_BYTES);
    refused_as_unreadable(&lost, "durable records are gone");
    // Without it, a torn tail: who can say what stood behind.
    let torn = made.copy();
    flip(&torn.disk, ACTIVE, body_of(&last));
    torn.disk.write_file("watermark", &[0; 8192]);
    make_unreadable(&torn, ACTIVE, end + BLOCK_BYTES);
    refused_as_unreadable(&torn, "a torn tail");
    // Something that is no batch any more stands at the end.
    let garbage = made.copy();
    patch(&garbage.disk, &file_name(ACTIVE), end, &[7; 512]);
    make_unreadable(&garbage, ACTIVE, end + BLOCK_BYTES);
    refused_as_unreadable(&garbage, "no zeros at the end");
}

/// D4. A prepared segment that cannot be read everywhere is not used, and not missed.
#[test]
fn an_unreadable_block_of_a_prepared_segment_costs_nothing() {
    for offset in [0, BLOCK_BYTES, 5 * BLOCK_BYTES, SEGMENT_BYTES - BLOCK_BYTES] {
        let made = Made::new(1);
        make_unreadable(&made, ACTIVE + 1, offset);
        made.opens_whole();
        let file = made.disk.open(&file_name(ACTIVE + 1), Access::Read).expect("prepared anew");
        let mut bytes = Aligned::zeroed(usize::try_from(SEGMENT_BYTES).expect("64-bit targets"));
        file.read_direct_at(&mut bytes, 0).expect("another file");
    }
}

/// With the first place for a batch nothing tells that the segment was not started.
#[test]
fn an_unreadable_start_of_the_next_segment_is_refused() {
    let made = Made::new(1);
    made.disk.make_unreadable(&file_name(ACTIVE + 1), 0..2 * BLOCK_BYTES);
    refused_as_unreadable(&made, "header and first batch");
    let made = Made::new(1);
    make_unreadable(&made, ACTIVE, 0);
    refused_as_unreadable(&made, "the header of the active segment");
}
