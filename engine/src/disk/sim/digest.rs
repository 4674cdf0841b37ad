//! A 64-bit hash of what happens on a disk and of what is on it.
//!
//! Owns the hash function. It tells states and traces apart by chance, not against an enemy: two
//! different ones agree once in 2^64.
//!
//! Invariants
//!  H1. The same calls give the same value, in every process and on every machine.
//!                                                  test `the_same_seed_leaves_the_same_trace`

use super::random::mix;

const FACTOR: u64 = 0x9fb2_1c65_1e98_df25;

/// See the module.
#[derive(Clone, Copy, Default)]
pub(super) struct Digest(u64);

impl Digest {
    pub(super) fn number(&mut self, number: u64) {
        self.0 = mix(self.0.rotate_left(23) ^ number);
    }

    pub(super) fn length(&mut self, length: usize) {
        self.number(u64::try_from(length).expect("64-bit targets"));
    }

    /// The bytes and their number, so that two pieces are not the same as their sum.
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.length(bytes.len());
        let (words, rest) = bytes.as_chunks::<8>();
        let mut state = self.0;
        for word in words {
            state = (state ^ u64::from_le_bytes(*word)).wrapping_mul(FACTOR).rotate_left(29);
        }
        for byte in rest {
            state = (state ^ u64::from(*byte)).wrapping_mul(FACTOR).rotate_left(29);
        }
        self.0 = mix(state);
    }

    pub(super) fn value(self) -> u64 {
        self.0
    }
}
