//! Where a reader is.
//!
//! Owns which records the caller still gets, whatever servers send: no I/O.
//!
//! Invariants
//!  C1. Records come in order, each once, with no gap.            tests `duplicates_are_left_out`, `a_gap_is_seen`
//!  C2. A server that is asked later does not give less: it waits for what was given already. test `it_goes_on_behind`
//!  C3. No more than `count` records, none at or behind `to`.                      test `it_ends_where_it_should`
//!
//! Bounds: none; it holds numbers only.

use crate::Lsn;
use crate::wire::request::{Reason, Request, Visibility, WireRecord};

/// What to read.
#[derive(Clone, Debug)]
pub struct ReadOptions {
    /// From this one on; the oldest that the first server keeps when there is none.
    pub from: Option<Lsn>,
    /// In front of this one.
    pub to: Option<Lsn>,
    /// At most so many.
    pub count: Option<u64>,
    /// Wait until the server has everything in front of this one, to read what was written elsewhere.
    pub min_lsn: Option<Lsn>,
    /// Which. What is only durable may leave the log when another node takes over; a reader that gave such records
    /// does not take them back.
    pub visibility: Visibility,
    /// Whether to wait for more at the end of the log.
    pub follows: bool,
}

impl Default for ReadOptions {
    fn default() -> ReadOptions {
        let visibility = Visibility::Committed;
        ReadOptions { from: None, to: None, count: None, min_lsn: None, visibility, follows: false }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Cursor {
    /// What is left to read: `from` and `count` move on.
    left: ReadOptions,
    has_given: bool,
    is_at_end: bool,
}

/// A record that came cannot be the next one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Gap;

impl Cursor {
    pub(super) fn new(options: ReadOptions) -> Cursor {
        Cursor { left: options, has_given: false, is_at_end: false }
    }

    /// What to ask the next server for.
    pub(super) fn request(&self) -> Request {
        let ReadOptions { from, to, count, min_lsn, visibility, follows } = self.left;
        let min_lsn = if self.has_given { min_lsn.max(from) } else { min_lsn };
        Request::Read { from, to, count, min_lsn, visibility, follows }
    }

    /// A record that came; none when the caller has it already.
    pub(super) fn take(&mut self, record: WireRecord) -> Result<Option<WireRecord>, Gap> {
        if let Some(next) = self.left.from {
            if record.lsn < next {
                return Ok(None);
            }
            if record.lsn > next {
                return Err(Gap);
            }
        }
        if self.is_done() {
            return Ok(None);
        }
        self.left.from = Some(record.lsn.plus(1));
        self.left.count = self.left.count.map(|count| count.saturating_sub(1));
        self.has_given = true;
        Ok(Some(record))
    }

    /// The server says that there is no more; the next record will be `lsn`. False when that cannot be.
    #[must_use]
    pub(super) fn end(&mut self, lsn: Lsn) -> bool {
        if self.left.follows || self.left.from.is_some_and(|next| self.has_given && lsn < next) {
            return false;
        }
        if self.left.from.is_none() {
            self.left.from = Some(lsn);
        }
        self.is_at_end = true;
        true
    }

    /// Whether the caller has everything.
    pub(super) fn is_done(&self) -> bool {
        let is_behind_to = self.left.from.zip(self.left.to).is_some_and(|(next, to)| next >= to);
        self.is_at_end || is_behind_to || self.left.count == Some(0)
    }

    /// The LSN of the next record, as soon as it is known.
    pub(super) fn next_lsn(&self) -> Option<Lsn> {
        self.left.from
    }

    pub(super) fn follows(&self) -> bool {
        self.left.follows
    }

    /// Whether this is the refusal of a node that lacks what another one gave, so that others should be asked.
    pub(super) fn is_behind(&self, reason: Option<&Reason>) -> bool {
        match (reason, self.left.from) {
            (Some(Reason::OutOfRange(kept)), Some(next)) => self.has_given && kept.end < next,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Epoch;

    fn record(lsn: u64) -> WireRecord {
        WireRecord { lsn: Lsn::new(lsn), epoch: Epoch::new(1), time_ms: 0, data: Vec::new() }
    }

    #[test]
    fn duplicates_are_left_out() {
        let mut cursor = Cursor::new(ReadOptions::default());
        assert_eq!(cursor.take(record(5)), Ok(Some(record(5))), "the oldest is whatever it is");
        assert_eq!(cursor.take(record(4)), Ok(None));
        assert_eq!(cursor.take(record(5)), Ok(None));
        assert_eq!(cursor.take(record(6)), Ok(Some(record(6))));
    }

    #[test]
    fn a_gap_is_seen() {
        let options = ReadOptions { from: Some(Lsn::new(3)), ..ReadOptions::default() };
        let mut cursor = Cursor::new(options);
        assert_eq!(cursor.take(record(4)), Err(Gap));
        assert_eq!(cursor.take(record(3)), Ok(Some(record(3))));
        assert_eq!(cursor.take(record(5)), Err(Gap));
    }

    #[test]
    fn it_goes_on_behind() {
        let options = ReadOptions { count: Some(5), ..ReadOptions::default() };
        let mut cursor = Cursor::new(options);
        let fresh = cursor.request();
        assert!(matches!(fresh, Request::Read { from: None, min_lsn: None, .. }));
        cursor.take(record(7)).expect("the first");
        let request = cursor.request();
        let Request::Read { from, count, min_lsn, .. } = request else { panic!("{request:?}") };
        assert_eq!((from, count, min_lsn), (Some(Lsn::new(8)), Some(4), Some(Lsn::new(8))));
        assert!(cursor.is_behind(Some(&Reason::OutOfRange(Lsn::new(1)..Lsn::new(6)))));
        assert!(!cursor.is_behind(Some(&Reason::OutOfRange(Lsn::new(9)..Lsn::new(20)))));
        assert!(!cursor.end(Lsn::new(7)), "a node that has less than was given is not at the end");
        assert!(cursor.end(Lsn::new(8)) && cursor.is_done());
    }

    #[test]
    fn it_ends_where_it_should() {
        let to = ReadOptions { to: Some(Lsn::new(2)), ..ReadOptions::default() };
        let mut cursor = Cursor::new(to);
        cursor.take(record(1)).expect("the first");
        assert!(cursor.is_done());
        assert_eq!(cursor.take(record(2)), Ok(None));
        let two = ReadOptions { count: Some(2), ..ReadOptions::default() };
        let mut cursor = Cursor::new(two);
        cursor.take(record(1)).expect("the first");
        assert!(!cursor.is_done());
        cursor.take(record(2)).expect("the second");
        assert!(cursor.is_done());
        let mut follower = Cursor::new(ReadOptions { follows: true, ..ReadOptions::default() });
        assert!(!follower.end(Lsn::new(1)) && !follower.is_done());
    }
}
