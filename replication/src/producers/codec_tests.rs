//! Tables as bytes, whole, cut, changed, and made up.

use super::*;
use crate::producers::table::{Run, Verdict};
use crate::sim::random::Random;

/// A table of a log with many producers.
fn table(random: &mut Random, limits: Limits) -> ProducerTable {
    let mut table = ProducerTable::new(limits, Lsn::FIRST);
    let mut lsn = 1 + random.below(3);
    for _ in 0..random.below(60) {
        let producer_id = u128::from(random.below(7)) << random.below(2);
        let first_sequence = table.last(producer_id).map_or(0, |(next, _)| next);
        let count = 1 + random.below(4);
        let lsns = Lsn::new(lsn)..Lsn::new(lsn + count);
        table.apply(Run { producer_id, first_sequence, lsns });
        lsn += count + random.below(2);
    }
    table.advance(Lsn::new(lsn));
    table
}

#[test]
fn tables_come_back() {
    let small = Limits { producers: 3, stretches_each: 4, stretches: 8 };
    for seed in 0..400 {
        let limits = if seed % 2 == 0 { small } else { Limits::default() };
        let table = table(&mut Random::new(seed), limits);
        let bytes = encode(&table);
        let back = decode(&bytes, limits).expect("it was encoded");
        assert_eq!(back, table, "seed {seed}");
        assert_eq!(encode(&back), bytes);
        // And when less is remembered from now on, still what is newest.
        let less = Limits { producers: 2, stretches_each: 2, stretches: 3 };
        let less = decode(&bytes, less).expect("it was encoded");
        assert!(less.len() <= 2);
        for (producer_id, _) in less.remembered() {
            let (next, last) = table.last(producer_id).expect("it was there");
            assert_eq!(less.check(producer_id, next - 1, 1), Verdict::Duplicate(last));
        }
    }
}

/// Whatever the bytes are, they are refused, or are a table that encodes to them.
fn attack(bytes: &[u8]) -> bool {
    let Ok(table) = decode(bytes, Limits::default()) else { return false };
    assert_eq!(encode(&table), bytes, "E1");
    for (producer_id, remembered) in table.remembered() {
        for (before, next) in remembered.stretches.iter().zip(remembered.stretches.iter().skip(1)) {
            let count = next.first_sequence - before.first_sequence;
            let place = table.check(producer_id, before.first_sequence, count);
            assert_eq!(place, Verdict::Duplicate(before.lsn..before.lsn.plus(count)));
            assert!(before.lsn.plus(count) < next.lsn, "others are in between");
        }
        for first in [0, 1, u64::MAX] {
            let _ = table.check(producer_id, first, 1);
        }
        let (next, last) = table.last(producer_id).expect("it is remembered");
        assert_eq!(table.check(producer_id, next - 1, 1), Verdict::Duplicate(last));
    }
    true
}

#[test]
fn any_bytes() {
    let mut accepted = 0;
    for seed in 0..200 {
        let mut random = Random::new(seed);
        let bytes = encode(&table(&mut random, Limits::default()));
        for end in 0..bytes.len() {
            assert!(!attack(&bytes[..end]), "cut at {end}");
        }
        assert!(!attack(&[&bytes[..], &[0]].concat()), "one byte more");
        for _ in 0..200 {
            let mut changed = bytes.clone();
            let at = usize::try_from(random.below(bytes.len() as u64)).expect("small");
            changed[at] = match random.below(4) {
                0 => 0,
                1 => 0xff,
                2 => changed[at].wrapping_add(1),
                _ => changed[at] ^ (1 << random.below(8)),
            };
            accepted += u32::from(attack(&changed));
        }
        let length = random.below(200);
        let mut noise: Vec<u8> =
            (0..length).map(|_| u8::try_from(random.below(256)).expect("a byte")).collect();
        attack(&noise);
        noise.splice(0..0, MAGIC);
        attack(&noise);
    }
    assert!(accepted > 100, "changes of what may be otherwise get far: {accepted}");
}
