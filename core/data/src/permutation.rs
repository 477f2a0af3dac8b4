//! A keyed permutation of 0..count, one value at a time: a Feistel network with cycle walking.
//!
//! O(1) memory and time per rank, so a cursor into a shuffled segment is just a number.

use hm_domain::id::Digest;

/// Feistel rounds: enough that neighbouring ranks look unrelated.
const ROUNDS: u64 = 6;

/// One permutation of `0..count`.
#[derive(Clone, Debug)]
pub struct Permutation {
    count: u64,
    half_bits: u32,
    key: u64,
}

impl Permutation {
    /// The permutation of a segment's documents in one epoch of a run.
    pub fn new(count: u64, seed: u64, domain: u32, epoch: u32, segment: u32) -> Permutation {
        let mut bytes = b"heurimentor.permutation.v1\0".to_vec();
        bytes.extend(seed.to_le_bytes());
        [domain, epoch, segment].iter().for_each(|part| bytes.extend(part.to_le_bytes()));
        let digest = Digest::of(&bytes);
        let key = u64::from_le_bytes(digest.0[..8].try_into().expect("eight bytes"));
        // The smallest even number of bits that holds every rank: at most three walks in four miss.
        let bits = u64::BITS - count.saturating_sub(1).leading_zeros();
        Permutation { count, half_bits: bits.div_ceil(2).max(1), key }
    }

    /// The document at `rank`.
    ///
    /// # Panics
    /// When `rank` is not below the count.
    pub fn at(&self, rank: u64) -> u64 {
        assert!(rank < self.count, "rank {rank} of {}", self.count);
        let mut value = rank;
        loop {
            value = self.feistel(value);
            if value < self.count {
                return value;
            }
        }
    }

    fn feistel(&self, value: u64) -> u64 {
        let mask = (1u64 << self.half_bits) - 1;
        let (mut left, mut right) = (value >> self.half_bits, value & mask);
        for round in 0..ROUNDS {
            let mixed = split_mix(right ^ self.key.wrapping_add(round)) & mask;
            (left, right) = (right, left ^ mixed);
        }
        (left << self.half_bits) | right
    }
}

/// The finaliser of `SplitMix64` (Steele, Lea and Flood, 2014).
fn split_mix(value: u64) -> u64 {
    let mut mixed = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_document_comes_exactly_once(count in 1u64..500, seed: u64) {
            let permutation = Permutation::new(count, seed, 1, 2, 3);
            let mut seen: Vec<u64> = (0..count).map(|rank| permutation.at(rank)).collect();
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..count).collect::<Vec<_>>());
        }
    }

    #[test]
    fn epochs_and_segments_are_shuffled_apart() {
        let order = |epoch, segment| -> Vec<u64> {
            let permutation = Permutation::new(100, 7, 0, epoch, segment);
            (0..100).map(|rank| permutation.at(rank)).collect()
        };
        assert_ne!(order(0, 0), order(1, 0));
        assert_ne!(order(0, 0), order(0, 1));
        assert_eq!(order(0, 0), order(0, 0));
    }
}
