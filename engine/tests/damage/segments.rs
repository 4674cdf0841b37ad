//! Segment files that are missing, shorter, longer, older, swapped, or another log's.

use cairnlog_engine::format::segment::file_name;
use cairnlog_engine::format::version::Fault;
use cairnlog_engine::{Corruption, Lsn, Verdict};

use crate::made::{ACTIVE, Made, SEGMENT_BYTES, assert_at, first_lost, record, segment_of};

/// D13.
#[test]
fn a_missing_segment() {
    for segment in 1..=ACTIVE {
        let made = Made::new(1);
        made.disk.remove_file(&file_name(segment));
        let corruption = made.refused_as_damaged();
        let expected =
            Corruption { segment, offset: 0, lsn: made.base_lsn(segment), fault: Fault::Missing };
        assert_eq!(corruption, expected);
    }
}

/// With no file behind it, only the watermark knows of it.
#[test]
fn a_missing_last_segment_with_nothing_behind() {
    let made = Made::new(1);
    made.disk.remove_file(&file_name(ACTIVE + 1));
    made.disk.remove_file(&file_name(ACTIVE));
    let lsn = made.base_lsn(ACTIVE);
    match made.refused() {
        Verdict::LostDurable { range, .. } => assert_eq!(range, lsn..made.end_lsn()),
        Verdict::Damaged(corruption) => assert_eq!(corruption.lsn, lsn),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_segment_missing() {
    let made = Made::new(1);
    for segment in 1..=ACTIVE + 1 {
        made.disk.remove_file(&file_name(segment));
    }
    assert_at(&made.refused(), 1, 0, Lsn::FIRST);
}

#[test]
fn a_truncated_segment_is_refused() {
    for segment in 1..=ACTIVE {
        for bytes in [0, 1, 511, 512, 1000, 1536, 20_000, 32_768, SEGMENT_BYTES - 512] {
            let made = Made::new(1);
            made.disk.truncate_file(&file_name(segment), bytes);
            assert_eq!(
                first_lost(&made.refused()),
                made.base_lsn(segment),
                "segment {segment}, {bytes} bytes left"
            );
        }
    }
}

/// D15. The report must lead the operator to the file that is damaged.
#[test]
fn a_truncated_segment_is_named() {
    for segment in 1..=ACTIVE {
        for bytes in [0, 512, 1536, 32_768, SEGMENT_BYTES - 512] {
            let made = Made::new(1);
            made.disk.truncate_file(&file_name(segment), bytes);
            let named = segment_of(&made.refused());
            assert_eq!(named, segment, "{bytes} bytes left");
        }
    }
}

/// More bytes than a segment has are as little its own as fewer.
#[test]
fn a_lengthened_segment_is_refused() {
    for segment in 1..=ACTIVE {
        for more in [1, 512, SEGMENT_BYTES] {
            let made = Made::new(1);
            made.disk.truncate_file(&file_name(segment), SEGMENT_BYTES + more);
            assert_eq!(first_lost(&made.refused()), made.base_lsn(segment), "{more} bytes more");
        }
    }
}

/// The active segment as it was some time ago, say out of a backup: only the watermark knows better.
#[test]
fn an_older_copy_of_the_active_segment_is_refused() {
    let made = Made::new(1);
    let name = file_name(ACTIVE);
    let old = made.disk.read_file(&name);
    let (log, _) = made.open().expect("nothing is damaged");
    log.append(b"newer").expect("the log goes on");
    log.close().expect("nothing is in the way");
    made.disk.write_file(&name, &old);
    let Verdict::LostDurable { range, segment, .. } = made.refused() else {
        panic!("one record is gone, with nothing in its place");
    };
    assert_eq!((range, segment), (made.end_lsn()..made.end_lsn().next(), ACTIVE));
}

fn swapped(one: u64, other: u64) -> Made {
    let made = Made::new(1);
    let (first, second) = (file_name(one), file_name(other));
    let (content, other_content) = (made.disk.read_file(&first), made.disk.read_file(&second));
    made.disk.write_file(&first, &other_content);
    made.disk.write_file(&second, &content);
    made
}

#[test]
fn two_swapped_segments_are_refused() {
    for one in 1..ACTIVE {
        for other in one + 1..=ACTIVE {
            let made = swapped(one, other);
            assert_eq!(first_lost(&made.refused()), made.base_lsn(one), "{one} and {other}");
        }
    }
}

/// D16.
#[test]
fn two_swapped_segments_are_named() {
    for one in 1..ACTIVE {
        for other in one + 1..=ACTIVE {
            let corruption = swapped(one, other).refused_as_damaged();
            assert_eq!((corruption.segment, corruption.fault), (one, Fault::Misplaced));
        }
    }
}

/// A log with the segment of another log in place of one of its own.
fn with_foreign_segment(segment: u64) -> Made {
    let (made, other) = (Made::new(1), Made::new(2));
    let name = file_name(segment);
    made.disk.write_file(&name, &other.disk.read_file(&name));
    made
}

#[test]
fn a_segment_of_another_log_is_refused() {
    for segment in 1..=ACTIVE {
        let made = with_foreign_segment(segment);
        assert_eq!(first_lost(&made.refused()), made.base_lsn(segment));
    }
}

#[test]
fn a_segment_of_another_log_is_named() {
    for segment in 1..=ACTIVE {
        let corruption = with_foreign_segment(segment).refused_as_damaged();
        assert_eq!((corruption.segment, corruption.fault), (segment, Fault::ForeignLog));
    }
}

/// A segment of another log behind the end is in nobody's way, or the open is refused; it is never
/// written to and never removed: it may be all that is left of the other log.
#[test]
fn a_segment_of_another_log_behind_the_end_is_not_touched() {
    for behind in 1..=2 {
        let (made, other) = (Made::new(1), Made::new(2));
        let name = file_name(ACTIVE + behind);
        let foreign = other.disk.read_file(&file_name(ACTIVE));
        made.disk.write_file(&name, &foreign);
        made.look_at_everything();
        if let Ok((log, _)) = made.open() {
            made.holds_everything(&log);
            for number in 0..100 {
                log.append(&record(3, number)).expect("the log goes on");
            }
            log.close().expect("nothing is in the way");
        }
        let there = made.disk.files().contains(&name);
        assert!(there && made.disk.read_file(&name) == foreign, "{name} was touched");
    }
}
