//! Any bytes as the table of producers of a checkpoint.
//!
//! Properties
//!  T1. Decoding answers, whatever the bytes are.
//!  T2. What decodes encodes to the same bytes.
//!  T3. The table that it is takes another run, and answers.

use cairnlog_engine::Lsn;
use cairnlog_replication::producers::{Limits, Run, Verdict, decode, encode};

/// Holds T1 to T3 against the content of a checkpoint.
pub fn check(bytes: &[u8]) {
    let Ok(mut table) = decode(bytes, Limits::default()) else { return };
    assert_eq!(encode(&table), bytes, "T2");
    let start = table.end_lsn();
    if start < Lsn::new(u64::MAX - 2) {
        let (producer_id, lsns) = (7, start..start.plus(2));
        table.apply(Run { producer_id, first_sequence: 5, lsns: lsns.clone() });
        assert_eq!(table.check(producer_id, 5, 2), Verdict::Duplicate(lsns), "T3");
        assert_eq!(table.check(producer_id, 7, 1), Verdict::New, "T3");
    }
}
