//! Damage inside of sealed segments: batches, headers, footers.

use std::sync::Arc;

use cairnlog_engine::format::batch::BatchHeader;
use cairnlog_engine::format::segment::{data_end, file_name};
use cairnlog_engine::format::version::Fault;
use cairnlog_engine::{Corruption, LogReader, Lsn, ReadError, Verdict};

use crate::made::{
    ACTIVE, BLOCK_BYTES, Made, SEALED, SEGMENT_BYTES, assert_same, body_of, files, flip, patch,
};

/// The damaged batch is refused with its place; the rest of the log is as readable as before.
#[test]
fn a_damaged_batch_of_a_sealed_segment() {
    for segment in 1..=SEALED {
        let count = Made::new(1).batches_of(segment).len();
        for which in [0, count / 2, count - 1] {
            for in_header in [false, true] {
                let made = Made::new(1);
                let batch = made.batches_of(segment)[which].clone();
                let at = if in_header { batch.offset + 40 } else { body_of(&batch) };
                flip(&made.disk, segment, at);
                let fault = if in_header { Fault::Checksum } else { Fault::Body };
                let (offset, lsn) = (batch.offset, batch.base_lsn);
                damaged_when_sealed(&made, &batch, &Corruption { segment, offset, lsn, fault });
            }
        }
    }
}

fn damaged_when_sealed(made: &Made, batch: &BatchHeader, expected: &Corruption) {
    made.look_at_everything();
    let verified = made.verify();
    assert_eq!((verified.verdict, &verified.damage[..]), (Verdict::Clean, &[expected.clone()][..]));
    let (log, report) = made.open().expect("sealed segments are not scanned on open");
    assert_eq!((report.verdict, report.end_lsn), (Verdict::Clean, made.end_lsn()));
    let before = files(&made.disk);
    let mut lsn = batch.base_lsn;
    while lsn < batch.end_lsn() {
        match log.read(lsn) {
            Err(ReadError::Corrupt(corruption)) => assert_eq!(corruption, *expected),
            other => panic!("{other:?}"),
        }
        lsn = lsn.next();
    }
    let all = log.iter(..).expect("the range is the log's own");
    let (count, _) = made.check_until_damage(all);
    assert_eq!(count, batch.base_lsn.get() - 1, "everything in front of the damage");
    let whole = (made.end_lsn().since(batch.end_lsn()), Lsn::MAX);
    let behind = log.iter(batch.end_lsn()..).expect("the start is in the log");
    assert_eq!(made.check_until_damage(behind), whole, "everything behind the damage");
    let reader = LogReader::open_on(Arc::new(made.disk.clone())).expect("there is a log");
    let behind = reader.iter(batch.end_lsn()..).expect("the start is in the log");
    assert_eq!(made.check_until_damage(behind), whole, "for another process too");
    assert_same(&before, &files(&made.disk));
    log.append(b"more").expect("appends go on");
}

#[test]
fn a_damaged_header_of_a_sealed_segment_is_made_up_for_by_the_footer() {
    for segment in 1..=SEALED {
        let made = Made::new(1);
        flip(&made.disk, segment, 40);
        with_damaged_header(&made, segment);
    }
}

/// A block that reads as zeros is damage like any other.
#[test]
fn a_zeroed_header_of_a_sealed_segment_is_made_up_for_by_the_footer() {
    for segment in 1..=SEALED {
        let made = Made::new(1);
        patch(&made.disk, &file_name(segment), 0, &[0; 512]);
        with_damaged_header(&made, segment);
    }
}

fn with_damaged_header(made: &Made, segment: u64) {
    let damage = made.verify().damage;
    assert_eq!(damage.len(), 1, "{damage:?}");
    assert_eq!((damage[0].segment, damage[0].offset), (segment, 0));
    let report = made.opens_whole();
    assert!(report.notes.iter().any(|n| n.contains(&format!("segment {segment}"))));
}

/// The first segment kept has nothing before it that tells what its first batch continues.
#[test]
fn a_damaged_header_of_the_first_segment_after_a_trim() {
    let made = Made::new(1);
    let (log, _) = made.open().expect("nothing is damaged");
    let first = log.trim(made.base_lsn(3)).expect("it is durable");
    assert_eq!(first, made.base_lsn(3));
    log.close().expect("nothing is in the way");
    flip(&made.disk, 3, 40);
    made.look_at_everything();
    let damage = made.verify().damage;
    assert_eq!(damage.len(), 1, "only the header is damaged: {damage:?}");
    let (log, report) = made.open().expect("the footer makes up for it");
    assert!(report.notes.iter().any(|n| n.contains("segment 3")), "{report:?}");
    let records = log.iter(..).expect("the range is the log's own");
    assert_eq!(made.check_until_damage(records), (made.end_lsn().since(first), Lsn::MAX));
}

/// Damages the last block of a segment.
fn with_damaged_footer(segment: u64) -> Made {
    let made = Made::new(1);
    flip(&made.disk, segment, SEGMENT_BYTES - BLOCK_BYTES + 40);
    made
}

#[test]
fn a_damaged_footer_is_made_up_for_by_a_scan() {
    for segment in 1..=SEALED {
        let report = with_damaged_footer(segment).opens_whole();
        assert_eq!(report.segments_scanned, 2, "that segment, and the active one");
    }
}

#[test]
fn a_segment_with_a_damaged_footer_is_sealed_again() {
    for segment in 1..=SEALED {
        let made = with_damaged_footer(segment);
        made.opens_whole();
        let (_log, report) = made.open().expect("nothing is damaged");
        assert_eq!(report.segments_scanned, 1, "segment {segment} is sealed again");
    }
}

/// A damaged footer must not keep a log from getting smaller for ever.
#[test]
fn a_segment_with_a_damaged_footer_can_be_trimmed() {
    for segment in 1..=SEALED {
        let made = with_damaged_footer(segment);
        made.opens_whole();
        let (log, _) = made.open().expect("nothing is damaged");
        let first = log.trim(made.end_lsn()).expect("it is durable");
        assert_eq!(first, made.base_lsn(ACTIVE), "all but the active segment are dropped");
    }
}

#[test]
fn a_damaged_index_is_done_without() {
    for segment in 1..=SEALED {
        let made = Made::new(1);
        flip(&made.disk, segment, data_end(SEGMENT_BYTES, 512) + 5);
        let damage = made.verify().damage;
        assert_eq!(damage.len(), 1, "{damage:?}");
        assert_eq!(damage[0].segment, segment);
        made.opens_whole();
    }
}
