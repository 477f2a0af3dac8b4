//! What the weights were after a step, kind by kind and layer by layer.

use serde::{Deserialize, Serialize};

use crate::step::canonical;

/// See [`Event::WeightsMeasured`](super::Event::WeightsMeasured).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WeightsMeasured {
    /// The step after whose update they were measured. Its own event comes next; where anything else does,
    /// they are measured again.
    pub step: u64,
    /// One per kind that the model has, in the order of
    /// [`PARAMETER_KINDS`](crate::parameter_kind::PARAMETER_KINDS).
    pub kinds: Vec<KindState>,
}

/// One kind of parameter over the layers; a kind outside the blocks has one layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KindState {
    /// Last part of its path: `q_proj`.
    pub kind: String,
    /// Standard deviation of the elements about a mean of 0, as the Aquila2 report takes it
    /// (arXiv 2408.07410, section 3.2.3): the root of their mean square. One per layer.
    pub std: Vec<f64>,
    /// L2 norm of the elements, one per layer.
    pub norm: Vec<f64>,
}

impl KindState {
    /// A kind of which nothing is known yet.
    pub fn new(kind: &str) -> KindState {
        KindState { kind: kind.to_owned(), std: Vec::new(), norm: Vec::new() }
    }

    /// Adds the next layer, by the sum of its squared elements and their number. NaN is canonical:
    /// what a plugin is shown live is what an audit reads from the log.
    pub fn push(&mut self, square_sum: f64, count: usize) {
        self.std.push(canonical((square_sum / count as f64).sqrt()));
        self.norm.push(canonical(square_sum.sqrt()));
    }
}

impl WeightsMeasured {
    /// Equality by bits: what is not a number agrees with itself.
    pub fn has_bits_of(&self, other: &WeightsMeasured) -> bool {
        let shape = |measured: &WeightsMeasured| -> (u64, Vec<(String, usize)>) {
            let kind = |kind: &KindState| (kind.kind.clone(), kind.std.len());
            (measured.step, measured.kinds.iter().map(kind).collect())
        };
        let bits = |measured: &WeightsMeasured| -> Vec<u64> {
            measured.values().map(f64::to_bits).collect()
        };
        shape(self) == shape(other) && bits(self) == bits(other)
    }

    /// Largest relative difference of a value; 0 where all are equal.
    pub fn difference(&self, other: &WeightsMeasured) -> f64 {
        self.values()
            .zip(other.values())
            .filter(|(a, b)| a.to_bits() != b.to_bits())
            .map(|(a, b)| (a - b).abs() / b.abs().max(f64::MIN_POSITIVE))
            .fold(0.0, f64::max)
    }

    fn values(&self) -> impl Iterator<Item = f64> {
        self.kinds.iter().flat_map(|kind| kind.std.iter().chain(&kind.norm)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(squares: [f64; 2]) -> WeightsMeasured {
        let mut kind = KindState::new("q_proj");
        squares.into_iter().for_each(|square| kind.push(square, 4));
        WeightsMeasured { step: 3, kinds: vec![kind] }
    }

    #[test]
    fn deviation_is_about_a_mean_of_zero() {
        // Four elements of 3: they do not vary about their own mean, but do about 0.
        let kind = &measured([36.0, 100.0]).kinds[0];
        assert_eq!((&kind.std[..], &kind.norm[..]), (&[3.0, 5.0][..], &[6.0, 10.0][..]));
    }

    #[test]
    fn what_is_not_a_number_agrees_with_itself_in_one_bit_pattern() {
        let bad = measured([-f64::NAN, 36.0]);
        assert_eq!(bad.kinds[0].std[0].to_bits(), 0x7ff8_0000_0000_0000);
        assert!(bad.has_bits_of(&bad.clone()) && bad.difference(&bad) == 0.0);
        let other = measured([36.0, 36.0]);
        assert!(!bad.has_bits_of(&other));
        assert_eq!(other.difference(&measured([144.0, 36.0])), 0.5);
    }
}
