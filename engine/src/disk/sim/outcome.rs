//! What a power cut leaves of what was not durable.
//!
//! Owns the choice, not the data: `image` and `names` ask it one question at a time. Every outcome that
//! the contract allows has a chance, and the extremes a good one: a write is often there as a whole or
//! lost as a whole, which independent sectors would hardly ever give.

use std::collections::BTreeMap;

use super::random::Random;

/// Odds are counted in eighths.
const ODDS_MAX: usize = 8;

/// See the module.
pub(super) enum Outcome {
    /// Only what is durable.
    LoseAll,
    /// Everything, in its newest version.
    KeepAll,
    /// Anything legal.
    Seeded(Chances),
}

/// Choices that follow from a seed.
pub(super) struct Chances {
    random: Random,
    change_odds: usize,
    /// By the number of the write.
    write_odds: BTreeMap<u64, usize>,
}

impl Outcome {
    pub(super) fn seeded(seed: u64) -> Outcome {
        let mut random = Random::new(seed);
        let change_odds = draw_odds(&mut random);
        Outcome::Seeded(Chances { random, change_odds, write_odds: BTreeMap::new() })
    }

    /// Whether the next change of names is kept.
    pub(super) fn keeps_change(&mut self) -> bool {
        match self {
            Outcome::LoseAll => false,
            Outcome::KeepAll => true,
            Outcome::Seeded(chances) => chances.random.below(ODDS_MAX) < chances.change_odds,
        }
    }

    /// Whether one sector of a write reached the medium.
    pub(super) fn keeps_sector(&mut self, write: u64) -> bool {
        match self {
            Outcome::LoseAll => false,
            Outcome::KeepAll => true,
            Outcome::Seeded(Chances { random, write_odds, .. }) => {
                let odds = *write_odds.entry(write).or_insert_with(|| draw_odds(random));
                random.below(ODDS_MAX) < odds
            }
        }
    }

    /// Which of the versions of one sector that reached the medium is the last there.
    pub(super) fn last_of<'a, T>(&mut self, versions: &[&'a T]) -> Option<&'a T> {
        match self {
            Outcome::Seeded(chances) if versions.len() > 1 => {
                Some(versions[chances.random.below(versions.len())])
            }
            _ => versions.last().copied(),
        }
    }

    /// The length of a file of which `durable` bytes are certain.
    pub(super) fn len(&mut self, durable: usize, current: usize) -> usize {
        match self {
            Outcome::LoseAll => durable,
            Outcome::KeepAll => current,
            Outcome::Seeded(Chances { random, .. }) => match random.below(3) {
                0 => durable,
                1 => current,
                _ => durable + random.below(current - durable + 1),
            },
        }
    }
}

fn draw_odds(random: &mut Random) -> usize {
    match random.below(3) {
        0 => 0,
        1 => ODDS_MAX,
        _ => 1 + random.below(ODDS_MAX - 1),
    }
}
