//! Damage to batches of the active segment.

use cairnlog_engine::format::segment::file_name;
use cairnlog_engine::format::version::Fault;
use cairnlog_engine::{Corruption, Verdict};

use crate::made::{ACTIVE, Made, assert_at, body_of, flip, patch};

/// D7.
#[test]
fn a_flipped_bit_in_a_durable_batch_of_the_active_segment() {
    let count = Made::new(1).batches_of(ACTIVE).len();
    for which in 0..count {
        let made = Made::new(1);
        let batch = made.batches_of(ACTIVE)[which].clone();
        flip(&made.disk, ACTIVE, body_of(&batch));
        let Corruption { segment, offset, lsn, fault } = made.refused_as_damaged();
        assert_eq!((segment, offset, lsn), (ACTIVE, batch.offset, batch.base_lsn));
        assert_eq!(fault, Fault::Body);
    }
    for which in 0..count - 1 {
        let made = Made::new(1);
        let batch = made.batches_of(ACTIVE)[which].clone();
        flip(&made.disk, ACTIVE, batch.offset + 40);
        let Corruption { segment, offset, lsn, fault } = made.refused_as_damaged();
        assert_eq!((segment, offset, lsn), (ACTIVE, batch.offset, batch.base_lsn));
        assert_eq!(fault, Fault::Checksum);
    }
}

/// Without a header nothing says that it was a batch but the watermark.
#[test]
fn a_flipped_bit_in_the_header_of_the_last_batch() {
    let made = Made::new(1);
    let last = made.batches.last().expect("there are batches").clone();
    flip(&made.disk, ACTIVE, last.offset + 40);
    assert_at(&made.refused(), ACTIVE, last.offset, last.base_lsn);
}

#[test]
fn the_last_durable_batch_zeroed() {
    let made = Made::new(1);
    let last = made.batches.last().expect("there are batches").clone();
    let zeros = vec![0; usize::try_from(last.length).expect("64-bit targets")];
    patch(&made.disk, &file_name(ACTIVE), last.offset, &zeros);
    let lost = Verdict::LostDurable {
        range: last.base_lsn..made.end_lsn(),
        segment: ACTIVE,
        offset: last.offset,
    };
    assert_eq!(made.refused(), lost);
}
