//! Every kind of damage to one file of a closed log, and what each part of the engine makes of it:
//!  P4 damage to what had been durable is reported (segment, offset, LSN, kind) and never cut away;
//!     an open that is refused changes no byte, and neither do `verify`, `inspect` and readers, ever;
//!  P9 no content of any file makes anything panic, or makes a reader hand out bytes nobody wrote;
//!  and what is whole stays readable behind the damage.
//!
//! The log has three sealed segments, an active one, and a prepared one behind it.

mod directory;
mod made;
mod roots;
mod sealed;
mod sectors;
mod segments;
mod tail;

use made::{ACTIVE, Made};

#[test]
fn an_undamaged_log_is_whole() {
    let made = Made::new(1);
    let verified = made.verify();
    assert!(verified.is_whole(), "{verified:?}");
    assert_eq!(verified.records, made.records.len() as u64);
    assert_eq!((verified.end_lsn, verified.segments), (made.end_lsn(), ACTIVE));
    assert!(verified.notes.is_empty() && verified.foreign.is_empty(), "{verified:?}");
    let report = made.opens_whole();
    assert_eq!((report.segments, report.segments_scanned), (ACTIVE, 1));
}
