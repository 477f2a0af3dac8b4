//! The only source of numbers that look random, seeded by whoever asks.

/// `SplitMix64` (Steele, Lea and Flood, 2014).
#[derive(Clone, Debug)]
pub(crate) struct SplitMix64(pub(crate) u64);

/// What the state grows by at each number.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

impl SplitMix64 {
    /// The generator that has given so many numbers more than this one.
    pub(crate) fn after(&self, numbers: u64) -> SplitMix64 {
        SplitMix64(self.0.wrapping_add(numbers.wrapping_mul(STEP)))
    }

    /// The next 53 bits.
    pub(crate) fn next_53_bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) >> 11
    }
}
