//! The mixture: sampling weights over domains, as integers that sum to 2^32, and how a step's
//! sequences are shared out by them. Exact arithmetic, so it is the same on any machine.

use serde::{Deserialize, Serialize};

use crate::settings::number;

/// What all weights of a mixture add up to.
pub const WEIGHT_TOTAL: u64 = 1 << 32;

/// Sampling weights over a run's domains, with the number of the change that set them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mixture {
    /// Counts up by one at every change; 0 is the prior the run started from.
    pub version: u64,
    /// One per domain, adding up to [`WEIGHT_TOTAL`].
    pub weights: Vec<u64>,
}

/// Shares that are no mixture.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum NotAMixture {
    /// Another number of weights than there are domains.
    #[error("{got} weights for {expected} domains")]
    WrongLength {
        /// Weights given.
        got: usize,
        /// Domains of the run.
        expected: usize,
    },
    /// A weight is negative, NaN or infinite.
    #[error("weight {index} is {}: weights are finite and not negative", number(*.value))]
    BadWeight {
        /// Position of the weight.
        index: usize,
        /// Its value.
        value: f64,
    },
    /// Nothing to share out.
    #[error("all weights are zero")]
    AllZero,
    /// No number holds their sum.
    #[error("the weights are too large to be added up")]
    TooLarge,
}

/// Checks that `shares` has one finite, non-negative value per domain and a positive sum.
pub fn check_shares(shares: &[f64], domain_count: usize) -> Result<(), NotAMixture> {
    if shares.len() != domain_count {
        return Err(NotAMixture::WrongLength { got: shares.len(), expected: domain_count });
    }
    for (index, &value) in shares.iter().enumerate() {
        if !value.is_finite() || value < 0.0 {
            return Err(NotAMixture::BadWeight { index, value });
        }
    }
    let sum: f64 = shares.iter().sum();
    match sum {
        0.0 => Err(NotAMixture::AllZero),
        sum if !sum.is_finite() => Err(NotAMixture::TooLarge),
        _ => Ok(()),
    }
}

impl Mixture {
    /// Rounds `shares` (any positive scale) to integer weights by largest remainder, lower index first.
    pub fn from_shares(version: u64, shares: &[f64]) -> Result<Mixture, NotAMixture> {
        check_shares(shares, shares.len())?;
        let sum: f64 = shares.iter().sum();
        let scaled: Vec<f64> =
            shares.iter().map(|share| share / sum * WEIGHT_TOTAL as f64).collect();
        let mut weights: Vec<u64> = scaled.iter().map(|value| *value as u64).collect();
        let mut order: Vec<usize> = (0..shares.len()).collect();
        // Floors of values whose exact sum is 2^32 fall short by less than one per domain;
        // rounding of the division can move that by a few units either way.
        order.sort_by(|&a, &b| {
            let remainder = |index: usize| scaled[index] - weights[index] as f64;
            remainder(b).total_cmp(&remainder(a)).then(a.cmp(&b))
        });
        settle(&mut weights, &order);
        Ok(Mixture { version, weights })
    }

    /// The share of domain `index`, from 0 to 1.
    pub fn share(&self, index: usize) -> f64 {
        self.weights[index] as f64 / WEIGHT_TOTAL as f64
    }

    /// All shares, adding up to 1 exactly: every one is a multiple of 2^-32.
    pub fn shares(&self) -> Vec<f64> {
        (0..self.weights.len()).map(|index| self.share(index)).collect()
    }
}

/// Adds or takes single units in `order`, round and round, until the sum is [`WEIGHT_TOTAL`].
fn settle(weights: &mut [u64], order: &[usize]) {
    let mut sum: u64 = weights.iter().sum();
    for &index in order.iter().cycle() {
        match sum.cmp(&WEIGHT_TOTAL) {
            std::cmp::Ordering::Equal => break,
            std::cmp::Ordering::Less => {
                // A weight of exactly zero was meant: it gets nothing from rounding.
                if weights[index] > 0 {
                    weights[index] += 1;
                    sum += 1;
                }
            }
            std::cmp::Ordering::Greater => {
                if weights[index] > 0 {
                    weights[index] -= 1;
                    sum -= 1;
                }
            }
        }
    }
}

/// Shares `sequences` out by the mixture: largest remainder with carried error.
///
/// `carry` holds, per domain and in units of 2^-32 sequences, what earlier steps owe it; it is
/// updated in place and always sums to zero. A quota is never negative, and over any stretch a
/// domain is served to within a bounded number of sequences of its exact due (property test).
///
/// # Panics
/// When `carry` and the mixture have different lengths: both come from one run.
pub fn quotas(mixture: &Mixture, sequences: u32, carry: &mut [i64]) -> Vec<u32> {
    assert_eq!(mixture.weights.len(), carry.len(), "one carried error per domain");
    let unit = WEIGHT_TOTAL as i64;
    let due: Vec<i64> = mixture
        .weights
        .iter()
        .zip(carry.iter())
        .map(|(&weight, &owed)| weight as i64 * i64::from(sequences) + owed)
        .collect();
    let mut counts: Vec<i64> = due.iter().map(|&value| value.div_euclid(unit).max(0)).collect();
    let mut left = i64::from(sequences) - counts.iter().sum::<i64>();
    let mut order: Vec<usize> = (0..due.len()).collect();
    // Whoever is owed most gets the next sequence; whoever is over-served most gives one back.
    while left != 0 {
        let owed = |index: usize, counts: &[i64]| due[index] - counts[index] * unit;
        order.sort_by(|&a, &b| owed(b, &counts).cmp(&owed(a, &counts)).then(a.cmp(&b)));
        if left > 0 {
            counts[order[0]] += 1;
            left -= 1;
        } else {
            let giver = *order.iter().rev().find(|&&index| counts[index] > 0).expect("some count");
            counts[giver] -= 1;
            left += 1;
        }
    }
    for ((owed, &value), &count) in carry.iter_mut().zip(&due).zip(&counts) {
        *owed = value - count * unit;
    }
    counts.into_iter().map(|count| count as u32).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn weights_sum_exactly() {
        let mixture = Mixture::from_shares(0, &[1.0, 1.0, 1.0]).unwrap();
        assert_eq!(mixture.weights, [1431655766, 1431655765, 1431655765]);
        assert_eq!(Mixture::from_shares(0, &[5.0]).unwrap().weights, [WEIGHT_TOTAL]);
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        let bad = |shares: &[f64]| Mixture::from_shares(0, shares).unwrap_err();
        assert_eq!(bad(&[0.0, 0.0]), NotAMixture::AllZero);
        assert_eq!(bad(&[]), NotAMixture::AllZero);
        assert_eq!(bad(&[0.5, -0.5]), NotAMixture::BadWeight { index: 1, value: -0.5 });
        assert!(matches!(bad(&[f64::NAN]), NotAMixture::BadWeight { index: 0, .. }));
    }

    #[test]
    fn quotas_follow_largest_remainder() {
        // 10 sequences at 0.55, 0.25, 0.2: dues 5.5, 2.5, 2.0; the first half goes to the lower index.
        let mixture = Mixture::from_shares(0, &[0.55, 0.25, 0.2]).unwrap();
        let mut carry = vec![0; 3];
        assert_eq!(quotas(&mixture, 10, &mut carry), [6, 2, 2]);
        assert_eq!(quotas(&mixture, 10, &mut carry), [5, 3, 2]);
    }

    proptest! {
        #[test]
        fn served_counts_stay_near_their_due(
            steps in prop::collection::vec(
                (prop::collection::vec(0u32..1000, 5), 1u32..40), 1..60)
        ) {
            let mut carry = vec![0i64; 5];
            let (mut exact, mut served) = ([0i128; 5], [0i128; 5]);
            for (raw, sequences) in steps {
                let shares: Vec<f64> = raw.iter().map(|&weight| f64::from(weight)).collect();
                let Ok(mixture) = Mixture::from_shares(0, &shares) else { continue };
                prop_assert_eq!(mixture.weights.iter().sum::<u64>(), WEIGHT_TOTAL);
                let counts = quotas(&mixture, sequences, &mut carry);
                prop_assert_eq!(counts.iter().sum::<u32>(), sequences);
                prop_assert_eq!(carry.iter().sum::<i64>(), 0);
                for index in 0..5 {
                    exact[index] += i128::from(mixture.weights[index]) * i128::from(sequences);
                    served[index] += i128::from(counts[index]) << 32;
                    // Never a whole domain count away from what it is owed.
                    prop_assert!((exact[index] - served[index]).abs() <= 5i128 << 32);
                }
            }
        }
    }
}
