//! A leader's log with producers that send again, and a disk that is full now and then.

use super::*;
use crate::producers::table::Limits;
use crate::sim::random::Random;
use crate::{Lsn, LsnRange};

/// A log as the engine keeps it: what is pending is refused from some append on, to the end, and then nothing is
/// taken before all of that is known.
struct Log {
    admission: Admission,
    durable: Vec<Run>,
    pending: VecDeque<(Admitted, Run)>,
    /// Of these so many are durable, for one behind them is.
    sure: usize,
    /// Appends from this one on were refused.
    refused: Option<usize>,
    end: u64,
}

impl Log {
    fn new() -> Log {
        let table = ProducerTable::new(Limits::default(), Lsn::FIRST);
        let (durable, pending) = (Vec::new(), VecDeque::new());
        let admission = Admission::new(table);
        Log { admission, durable, pending, sure: 0, refused: None, end: 1 }
    }

    /// Sends an append, for the first time or again.
    fn send(&mut self, producer_id: u128, first_sequence: u64, count: u64) -> Option<Verdict> {
        let verdict = self.admission.check(producer_id, first_sequence, count);
        if self.admission.is_settled() {
            assert_ne!(verdict, None, "all is known");
            self.refused = None;
        }
        if verdict == Some(Verdict::New) && self.refused.is_none() {
            let lsns = Lsn::new(self.end)..Lsn::new(self.end + count);
            self.end += count;
            let run = Run { producer_id, first_sequence, lsns };
            self.pending.push_back((self.admission.admit(run.clone()), run));
        }
        verdict
    }

    /// There is no room for the last of what is pending; others may get the LSNs.
    fn refuse(&mut self, appends: usize, others: u64) {
        let first = self.pending.len().saturating_sub(appends).max(self.sure);
        if let Some((_, run)) = self.pending.get(first)
            && self.refused.is_none()
        {
            self.refused = Some(first);
            self.end = run.lsns.start.get() + others;
        }
    }

    /// The end of one append becomes known, mostly of the first.
    fn settle(&mut self, random: &mut Random) {
        let Some(last) = self.pending.len().checked_sub(1) else { return };
        let at = if random.per_mille(800) { 0 } else { random.below(last as u64 + 1) };
        let at = usize::try_from(at).expect("small");
        let (admitted, run) = self.pending.remove(at).expect("it is there");
        let is_durable = self.refused.is_none_or(|refused| at < refused);
        if let Some(refused) = &mut self.refused
            && at < *refused
        {
            *refused -= 1;
        }
        if at < self.sure {
            self.sure -= 1;
        } else if is_durable {
            self.sure = at;
        }
        self.admission.settle(admitted, is_durable);
        if is_durable {
            self.durable.push(run);
        }
    }

    fn place(&self, producer_id: u128, sequence: u64) -> Option<Lsn> {
        let runs = self.durable.iter().filter(|run| run.producer_id == producer_id);
        let place = |run: &Run| {
            let into = sequence.checked_sub(run.first_sequence)?;
            let lsn = run.lsns.start.plus(into);
            (lsn < run.lsns.end).then_some(lsn)
        };
        let places: Vec<Lsn> = runs.filter_map(place).collect();
        assert!(places.len() <= 1, "D3: {sequence} of {producer_id} is at {places:?}");
        places.first().copied()
    }
}

#[test]
fn each_record_once() {
    let (mut duplicates, mut refusals) = (0, 0);
    for seed in 0..400 {
        let mut random = Random::new(seed);
        let mut log = Log::new();
        for _ in 0..300 {
            let producer_id = u128::from(random.below(3));
            match random.below(10) {
                0..=4 => {
                    let durable =
                        log.admission.table().last(producer_id).map_or(0, |(next, _)| next);
                    let first = (durable + random.below(6)).saturating_sub(random.below(6));
                    let count = 1 + random.below(3);
                    if let Some(Verdict::Duplicate(lsns)) = log.send(producer_id, first, count) {
                        duplicates += 1;
                        let places = (first..first + count).map(|s| log.place(producer_id, s));
                        let lsns = lsns.start.get()..lsns.end.get();
                        assert!(places.eq(lsns.map(|lsn| Some(Lsn::new(lsn)))), "D4, seed {seed}");
                    }
                }
                5..=8 => log.settle(&mut random),
                _ if random.per_mille(300) => {
                    refusals += 1;
                    log.refuse(usize::try_from(random.below(4)).expect("small"), random.below(3));
                }
                _ => {}
            }
        }
        while !log.pending.is_empty() {
            log.settle(&mut random);
        }
        assert!(log.admission.is_settled());
        for producer_id in 0..3 {
            assert!(log.admission.is_settled_for(producer_id));
            let next = log.admission.table().last(producer_id).map_or(0, |(next, _)| next);
            for sequence in 0..next {
                assert!(log.place(producer_id, sequence).is_some(), "D3: {sequence} is missing");
            }
            assert_eq!(log.place(producer_id, next), None);
        }
    }
    assert!(duplicates > 1000 && refusals > 1000, "{duplicates} {refusals}");
}

fn lsns(start: u64, end: u64) -> LsnRange {
    Lsn::new(start)..Lsn::new(end)
}

#[test]
fn what_is_not_durable_is_no_duplicate() {
    let mut admission = Log::new().admission;
    assert_eq!(admission.check(1, 0, 2), Some(Verdict::New));
    let run = Run { producer_id: 1, first_sequence: 0, lsns: lsns(1, 3) };
    let first = admission.admit(run.clone());
    assert_eq!(admission.check(1, 0, 2), None, "it may be refused yet");
    assert_eq!(admission.check(1, 2, 1), Some(Verdict::New), "behind it");
    assert_eq!(admission.check(1, 3, 1), None, "it may come yet");
    assert_eq!(admission.check(2, 3, 1), Some(Verdict::Unknown));
    let run_2 = Run { producer_id: 1, first_sequence: 2, lsns: lsns(3, 4) };
    let second = admission.admit(run_2);
    // Refused, and others have their LSNs.
    admission.settle(second, false);
    assert_eq!(admission.check(1, 0, 2), None);
    admission.settle(first, false);
    assert_eq!(admission.check(1, 0, 2), Some(Verdict::New));
    assert_eq!(admission.check(1, 2, 1), Some(Verdict::Unknown));
    let again = admission.admit(Run { lsns: lsns(2, 4), ..run });
    admission.settle(again, true);
    assert_eq!(admission.check(1, 0, 2), Some(Verdict::Duplicate(lsns(2, 4))));
    assert_eq!(admission.check(1, 3, 1), Some(Verdict::Gap(2)));
}
