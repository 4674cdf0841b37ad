//! The table against a naive one that keeps every record by itself, and examples of each verdict.

use super::*;
use crate::sim::random::Random;

const SMALL: Limits = Limits { producers: 4, stretches_each: 3, stretches: 9 };

fn lsns(start: u64, end: u64) -> LsnRange {
    Lsn::new(start)..Lsn::new(end)
}

fn run(producer_id: u128, first_sequence: u64, start: u64, end: u64) -> Run {
    Run { producer_id, first_sequence, lsns: lsns(start, end) }
}

/// Every record that is remembered, by producer, the least recent producer first.
#[derive(Default)]
struct Naive(Vec<(u128, Vec<(u64, u64)>)>);

/// How many stretches these records are.
fn stretches(records: &[(u64, u64)]) -> usize {
    1 + records.windows(2).filter(|pair| pair[0].1 + 1 != pair[1].1).count()
}

impl Naive {
    fn apply(&mut self, run: &Run) {
        let at = self.0.iter().position(|(id, _)| *id == run.producer_id);
        let mut records = at.map(|at| self.0.remove(at).1).unwrap_or_default();
        if records.last().is_some_and(|(last, _)| last + 1 != run.first_sequence) {
            records.clear();
        }
        let lsns = run.lsns.start.get()..run.lsns.end.get();
        records.extend((run.first_sequence..).zip(lsns));
        while stretches(&records) > SMALL.stretches_each {
            records.remove(0);
        }
        self.0.push((run.producer_id, records));
        let all = |naive: &Naive| naive.0.iter().map(|(_, r)| stretches(r)).sum::<usize>();
        while self.0.len() > SMALL.producers || all(self) > SMALL.stretches {
            self.0.remove(0);
        }
    }

    fn check(&self, producer_id: u128, first: u64, count: u64) -> Verdict {
        let Some((_, records)) = self.0.iter().find(|(id, _)| *id == producer_id) else {
            return if first == 0 { Verdict::New } else { Verdict::Unknown };
        };
        let next = records.last().expect("it has one").0 + 1;
        let place = |sequence| records.iter().find(|(s, _)| *s == sequence).map(|(_, lsn)| *lsn);
        let places: Vec<Option<u64>> = (first..first + count).map(place).collect();
        match places[0] {
            _ if first > next => Verdict::Gap(next),
            _ if first == next => Verdict::New,
            _ if first + count > next => Verdict::Partial(next),
            None => Verdict::Forgotten,
            Some(lsn) => {
                let follow = (lsn..).zip(&places).all(|(lsn, place)| *place == Some(lsn));
                if follow { Verdict::Duplicate(lsns(lsn, lsn + count)) } else { Verdict::Scattered }
            }
        }
    }
}

#[test]
fn it_is_what_the_log_says() {
    let mut seen = [0_u32; 7];
    for seed in 0..300 {
        let mut random = Random::new(seed);
        let (mut table, mut naive) = (ProducerTable::new(SMALL, Lsn::FIRST), Naive::default());
        let mut lsn = 1;
        for _ in 0..120 {
            let id = u128::from(random.below(6));
            let next = table.last(id).map_or(0, |(next, _)| next);
            // Mostly as a server would let it, now and then as somebody who is not asked.
            let first = if random.per_mille(950) { next } else { random.below(40) };
            lsn += random.below(3) / 2;
            let count = 1 + random.below(4);
            let run = run(id, first, lsn, lsn + count);
            lsn += count;
            naive.apply(&run);
            table.apply(run);
            assert_eq!(table.end_lsn().get(), lsn);
            for _ in 0..20 {
                let (id, count) = (u128::from(random.below(6)), 1 + random.below(5));
                let next = table.last(id).map_or(0, |(next, _)| next);
                let first = (next + 2).saturating_sub(random.below(20));
                let verdict = table.check(id, first, count);
                assert_eq!(verdict, naive.check(id, first, count), "seed {seed}");
                seen[match verdict {
                    Verdict::New => 0,
                    Verdict::Duplicate(_) => 1,
                    Verdict::Scattered => 2,
                    Verdict::Partial(_) => 3,
                    Verdict::Gap(_) => 4,
                    Verdict::Forgotten => 5,
                    Verdict::Unknown => 6,
                }] += 1;
            }
        }
        assert_eq!(table.len(), naive.0.len());
    }
    assert!(seen.iter().all(|count| *count > 100), "{seen:?}");
}

#[test]
fn a_window_is_remembered() {
    let mut table = ProducerTable::new(Limits::default(), Lsn::FIRST);
    let window = APPENDS_IN_FLIGHT_MAX as u64;
    // Another one comes between any two of them.
    for append in 0..2 * window {
        table.apply(run(1, 3 * append, 1 + 4 * append, 4 + 4 * append));
        table.apply(run(2, append, 4 + 4 * append, 5 + 4 * append));
    }
    for append in window..2 * window {
        let place = lsns(1 + 4 * append, 4 + 4 * append);
        assert_eq!(table.check(1, 3 * append, 3), Verdict::Duplicate(place));
    }
    assert_eq!(table.check(1, 3 * (window - 1), 3), Verdict::Forgotten);
    assert_eq!(table.last(1), Some((6 * window, lsns(8 * window - 1, 8 * window))));
}

#[test]
fn one_producer_alone_takes_no_room() {
    let mut table = ProducerTable::new(SMALL, Lsn::FIRST);
    for append in 0..1000 {
        table.apply(run(1, 2 * append, 1 + 2 * append, 3 + 2 * append));
    }
    assert_eq!(table.stretches, 1);
    // What was appended in other portions is found as well.
    assert_eq!(table.check(1, 1, 900), Verdict::Duplicate(lsns(2, 902)));
    assert_eq!(table.check(1, 1999, 1), Verdict::Duplicate(lsns(2000, 2001)));
    assert_eq!(table.check(1, 1999, 2), Verdict::Partial(2000));
}

#[test]
fn the_least_recent_is_forgotten() {
    let mut table = ProducerTable::new(SMALL, Lsn::FIRST);
    for id in 0..4 {
        let lsn = 1 + u64::try_from(id).expect("small");
        table.apply(run(id, 0, lsn, lsn + 1));
    }
    table.apply(run(0, 1, 5, 6));
    assert!(!table.has_forgotten());
    table.apply(run(9, 0, 6, 7));
    assert!(table.has_forgotten());
    assert_eq!(table.check(1, 1, 1), Verdict::Unknown);
    assert_eq!(table.check(1, 0, 1), Verdict::New, "it begins again");
    assert_eq!(table.check(0, 0, 1), Verdict::Duplicate(lsns(1, 2)));
    assert_eq!(table.len(), 4);
    assert!(ProducerTable::new(SMALL, Lsn::new(2)).has_forgotten(), "the log was trimmed");
}

#[test]
fn the_last_of_all_sequences_is_no_panic() {
    let mut table = ProducerTable::new(SMALL, Lsn::FIRST);
    table.apply(run(1, u64::MAX, 1, 3));
    assert!(table.is_empty());
    table.apply(run(1, 0, 3, 4));
    assert_eq!(table.check(1, u64::MAX, u64::MAX), Verdict::Gap(1));
    assert_eq!(table.check(1, 0, u64::MAX), Verdict::Partial(1));
}
