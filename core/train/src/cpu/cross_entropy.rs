//! Softmax and cross-entropy of a few rows of logits, and their gradient in the logits' place.

use rayon::prelude::*;

use super::vector::{exp, maximum, sum_of, vectorized};

/// What a step minimises, of the rows at hand.
#[derive(Clone, Copy)]
pub(crate) struct Objective<'a> {
    /// Each row's factor.
    pub(crate) scales: &'a [f32],
    /// Weight of the squared logarithm of the softmax's denominator, beside the cross-entropy.
    pub(crate) z_loss: f32,
}

impl Objective<'_> {
    /// The same for some of the rows.
    pub(crate) fn rows(&self, rows: std::ops::Range<usize>) -> Objective<'_> {
        Objective { scales: &self.scales[rows], ..*self }
    }
}

/// Cross-entropy of each row in nats. With an objective, the logits become its gradient by them;
/// without, they are spoilt.
pub(crate) fn cross_entropy(
    logits: &mut [f32],
    targets: &[u32],
    objective: Option<Objective<'_>>,
    losses: &mut [f32],
) {
    let vocabulary = logits.len() / targets.len();
    let rows = logits.par_chunks_exact_mut(vocabulary).zip(targets).zip(losses).enumerate();
    rows.for_each(|(at, ((logits, &target), loss))| {
        let factors = objective.map(|objective| (objective.scales[at], objective.z_loss));
        *loss = row(logits, target as usize, factors);
    });
}

vectorized! {
    fn row(logits: &mut [f32], target: usize, factors: Option<(f32, f32)>) -> f32 {
        let highest = maximum(logits);
        let of_target = logits[target] - highest;
        logits.iter_mut().for_each(|value| *value = exp(*value - highest));
        let sum = sum_of(logits, |value| value);
        if let Some((scale, z_loss)) = factors {
            // Of scale (log Z - logit of the target + z (log Z)^2), Z being the denominator.
            let log_z = sum.ln() + highest;
            let factor = scale * (1.0 + 2.0 * z_loss * log_z) / sum;
            logits.iter_mut().for_each(|value| *value *= factor);
            logits[target] -= scale;
        }
        sum.ln() - of_target
    }
}
