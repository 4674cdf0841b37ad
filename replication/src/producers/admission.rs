//! What a leader takes from producers.
//!
//! Owns [`Admission`]: the table of everything durable, and the numbered appends that were given LSNs and have not become
//! durable yet. These may still be refused by the log, for want of room, and their LSNs given to others: what overlaps
//! them is neither new nor a duplicate before that is known.
//!
//! The caller sees to it that, while a refused append is not known here as refused, no other numbered one gets LSNs
//! (`InOrder` of the engine does), and asks, appends and tells under one lock. Then of each producer the log holds every
//! sequence once, from the first one on.
//!
//! Invariants
//!  D1. Appends that were admitted have growing LSNs.                                      asserted in `admit`
//!  D2. What is durable is applied in LSN order.                                            asserted in the table
//!  D3. No record of a producer is twice in the log, and none is missing in front of another, whatever is
//!      refused and sent again.                                                             test `each_record_once`
//!  D4. A duplicate is only said to be where it is durable.                                 test `each_record_once`
//!
//! Bounds: those of the table, and what the log has on its way.

use std::collections::{HashMap, VecDeque};

use super::table::{ProducerTable, Run, Verdict};

/// An append that was admitted, to tell of its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admitted(u64);

/// See the module.
#[derive(Debug)]
pub struct Admission {
    table: ProducerTable,
    /// In LSN order.
    pending: VecDeque<Pending>,
    /// The number of the first one that is pending.
    first_number: u64,
    /// Of each producer with something pending.
    ahead: HashMap<u128, Ahead>,
}

#[derive(Debug)]
struct Pending {
    run: Run,
    /// Whether it is durable, once that is known.
    is_durable: Option<bool>,
}

#[derive(Clone, Copy, Debug)]
struct Ahead {
    /// Where the producer goes on when all of it becomes durable. When some of it was refused nothing is admitted
    /// before all of it is settled.
    next_sequence: u64,
    appends: u64,
}

impl Admission {
    /// Begins with the table of a log, up to its end.
    #[must_use]
    pub fn new(table: ProducerTable) -> Admission {
        let (pending, ahead) = (VecDeque::new(), HashMap::new());
        Admission { table, pending, first_number: 0, ahead }
    }

    /// What is durable.
    #[must_use]
    pub fn table(&self) -> &ProducerTable {
        &self.table
    }

    /// Whether of everything that was admitted the end is known.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.pending.is_empty()
    }

    /// Whether of everything that was admitted of one producer the end is known.
    #[must_use]
    pub fn is_settled_for(&self, producer_id: u128) -> bool {
        !self.ahead.contains_key(&producer_id)
    }

    /// What is known of records; `None` when that depends on what is not durable yet. At least one record.
    #[must_use]
    pub fn check(&self, producer_id: u128, first_sequence: u64, count: u64) -> Option<Verdict> {
        let Some(ahead) = self.ahead.get(&producer_id) else {
            return Some(self.table.check(producer_id, first_sequence, count));
        };
        if first_sequence == ahead.next_sequence {
            return Some(Verdict::New);
        }
        match self.table.check(producer_id, first_sequence, count) {
            known @ (Verdict::Duplicate(_) | Verdict::Scattered | Verdict::Forgotten) => {
                Some(known)
            }
            // What was admitted last may come to nothing.
            _ => None,
        }
    }

    /// Records that are new were given LSNs.
    pub fn admit(&mut self, run: Run) -> Admitted {
        let last = self.pending.back().map_or(self.table.end_lsn(), |last| last.run.lsns.end);
        assert!(last <= run.lsns.start && run.lsns.start < run.lsns.end, "D1: {run:?}");
        let count = run.lsns.end.since(run.lsns.start);
        let ahead = self.ahead.entry(run.producer_id);
        let ahead = ahead.or_insert(Ahead { next_sequence: run.first_sequence, appends: 0 });
        assert_eq!(ahead.next_sequence, run.first_sequence, "only what is new is admitted");
        ahead.next_sequence = run.first_sequence.saturating_add(count);
        ahead.appends += 1;
        let number = self.first_number + self.pending.len() as u64;
        self.pending.push_back(Pending { run, is_durable: None });
        Admitted(number)
    }

    /// An append has become durable, or was refused.
    pub fn settle(&mut self, Admitted(number): Admitted, is_durable: bool) {
        let at = number.checked_sub(self.first_number).and_then(|at| usize::try_from(at).ok());
        let pending = at.and_then(|at| self.pending.get_mut(at)).expect("it settles once");
        assert_eq!(pending.is_durable, None, "it settles once");
        pending.is_durable = Some(is_durable);
        while let Some(is_durable) = self.pending.front().and_then(|first| first.is_durable) {
            let Pending { run, .. } = self.pending.pop_front().expect("looked at above");
            self.first_number += 1;
            self.leave(&run);
            if is_durable {
                self.table.apply(run);
            }
        }
    }

    fn leave(&mut self, run: &Run) {
        let ahead = self.ahead.get_mut(&run.producer_id).expect("it was admitted");
        ahead.appends -= 1;
        if ahead.appends == 0 {
            self.ahead.remove(&run.producer_id);
        }
    }
}

#[cfg(test)]
#[path = "admission_tests.rs"]
mod tests;
