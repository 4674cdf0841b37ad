//! What a power cut leaves of what was not durable.
//!
//! Owns the choice, not the data: `image` and `names` ask it one question at a time. Every outcome that
//! the contract allows has a chance, and the extremes a good one: a write is often there as a whole or
//! lost as a whole, which independent sectors would hardly ever give. [`Choices`] instead walks through
//! every outcome, one after the other.
//!
//! Invariants
//!  O1. A walk takes every path through the questions once, if the same answers lead to the same
//!      questions.                                        asserted in `Choices::choose`

use std::collections::BTreeMap;

use super::image::SECTOR_BYTES;
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
    /// The next of all legal ones.
    Listed(Choices),
}

/// A version of a sector that may have reached the medium.
pub(super) struct Candidate<'a> {
    /// The number of the write it is part of.
    pub(super) write: u64,
    pub(super) bytes: &'a [u8],
}

/// A walk through all outcomes: the answers given so far, and out of how many.
#[derive(Default)]
pub(super) struct Choices {
    path: Vec<(usize, usize)>,
    at: usize,
}

impl Choices {
    fn choose(&mut self, count: usize) -> usize {
        if count < 2 {
            return 0;
        }
        if self.at == self.path.len() {
            self.path.push((0, count));
        }
        let (choice, known) = self.path[self.at];
        assert_eq!(known, count, "the same answers lead to the same questions");
        self.at += 1;
        choice
    }

    /// Goes on to the next outcome; false when there is none.
    pub(super) fn advance(&mut self) -> bool {
        self.path.truncate(self.at);
        self.at = 0;
        while let Some((choice, count)) = self.path.last_mut() {
            *choice += 1;
            if choice < count {
                return true;
            }
            self.path.pop();
        }
        false
    }
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
            Outcome::Listed(choices) => choices.choose(2) == 1,
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
            Outcome::Listed(choices) => choices.choose(2) == 1,
        }
    }

    /// Which version of a sector is on the medium in the end; `None` for the one that was durable,
    /// `before`. A walk does not ask which of several equal ones it is.
    pub(super) fn landed(&mut self, before: &[u8], versions: &[Candidate<'_>]) -> Option<usize> {
        if let Outcome::Listed(choices) = self {
            let mut different: Vec<usize> = Vec::new();
            for (number, version) in versions.iter().enumerate() {
                let known = |n: &usize| versions[*n].bytes == version.bytes;
                if version.bytes != before && !different.iter().any(known) {
                    different.push(number);
                }
            }
            let choice = choices.choose(different.len() + 1);
            return choice.checked_sub(1).map(|choice| different[choice]);
        }
        let landed: Vec<usize> =
            (0..versions.len()).filter(|n| self.keeps_sector(versions[*n].write)).collect();
        self.last_of(&landed)
    }

    /// Which of the versions of one sector that reached the medium is the last there.
    fn last_of(&mut self, versions: &[usize]) -> Option<usize> {
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
            // A length between two sectors is as good as the one before it.
            Outcome::Listed(choices) => {
                let sectors = (current - durable).div_ceil(SECTOR_BYTES);
                current.min(durable + choices.choose(sectors + 1) * SECTOR_BYTES)
            }
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
