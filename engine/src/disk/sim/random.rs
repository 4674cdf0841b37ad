//! Randomness from a seed.
//!
//! Owns the generator (splitmix64, for which any seed is good). Not for secrets.

/// See the module.
#[derive(Clone)]
pub(super) struct Random(u64);

/// Spreads a number over all 64 bits; different numbers stay different.
pub(super) fn mix(number: u64) -> u64 {
    let mixed = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

impl Random {
    pub(super) fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `bound`, which is above 0.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).expect("64-bit targets");
        usize::try_from(self.next() % bound).expect("below a usize")
    }
}
