//! The name of one state that the explorer looked at.
//!
//! Owns its text: `seed:cut:outcome`, and `:cut:outcome` once more when the power went out again during
//! recovery. A cut is the number of the operation, counted from 1, or in a recovery from its first
//! operation. An outcome is the number of a draw, or with `x` in front its number in the walk through
//! all of them.

use std::fmt;
use std::str::FromStr;

use super::PowerCut;

/// The environment variable that lets [`Explorer::explore`](super::Explorer::explore) look at one state
/// only: the one that a [`Failure`](super::Failure) named.
pub const REPLAY_VARIABLE: &str = "CAIRNLOG_REPLAY";

/// Which of the states that a cut can leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chosen {
    Drawn(u64),
    Walked(u64),
}

/// A power cut, and what it left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) operation: u64,
    pub(super) chosen: Chosen,
}

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Replay {
    pub(super) seed: u64,
    pub(super) cut: Cut,
    pub(super) second: Option<Cut>,
}

/// What a draw stands for: the two extremes first.
pub(super) fn drawn(seed: u64, operation: u64, number: u64) -> PowerCut {
    match number {
        0 => PowerCut::LosingAll,
        1 => PowerCut::KeepingAll,
        _ => PowerCut::Seeded(scattered(seed, operation, number)),
    }
}

/// A number that follows from three others and looks like chance.
pub(super) fn scattered(one: u64, two: u64, three: u64) -> u64 {
    let mut state = 0;
    for number in [one, two, three] {
        state = (state ^ number).wrapping_add(0x9e37_79b9_7f4a_7c15);
        state = (state ^ (state >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        state ^= state >> 32;
    }
    state
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.chosen {
            Chosen::Drawn(number) => write!(f, "{}:{number}", self.operation),
            Chosen::Walked(number) => write!(f, "{}:x{number}", self.operation),
        }
    }
}

impl fmt::Display for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.seed, self.cut)?;
        self.second.map_or(Ok(()), |second| write!(f, ":{second}"))
    }
}

impl FromStr for Replay {
    type Err = String;

    fn from_str(text: &str) -> Result<Replay, String> {
        let wrong = || format!("{text:?} is not seed:cut:outcome");
        let number = |text: &str| text.parse::<u64>().map_err(|_| wrong());
        let cut = |operation: &str, chosen: &str| -> Result<Cut, String> {
            let chosen = match chosen.strip_prefix('x') {
                Some(walked) => Chosen::Walked(number(walked)?),
                None => Chosen::Drawn(number(chosen)?),
            };
            Ok(Cut { operation: number(operation)?, chosen })
        };
        let parts: Vec<&str> = text.split(':').collect();
        match parts[..] {
            [seed, at, chosen] => {
                Ok(Replay { seed: number(seed)?, cut: cut(at, chosen)?, second: None })
            }
            [seed, at, chosen, again, then] => {
                let second = Some(cut(again, then)?);
                Ok(Replay { seed: number(seed)?, cut: cut(at, chosen)?, second })
            }
            _ => Err(wrong()),
        }
    }
}
