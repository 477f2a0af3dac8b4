//! Softmax and cross-entropy of a few rows of logits, and their gradient in the logits' place.

use rayon::prelude::*;

use super::vector::{exp, maximum, sum_of, vectorized};

/// Cross-entropy of each row in nats. With `scales`, each row's factor in the objective, the logits
/// become the gradient of the objective by them; without, they are spoilt.
pub(crate) fn cross_entropy(
    logits: &mut [f32],
    targets: &[u32],
    scales: Option<&[f32]>,
    losses: &mut [f32],
) {
    let vocabulary = logits.len() / targets.len();
    let rows = logits.par_chunks_exact_mut(vocabulary).zip(targets).zip(losses).enumerate();
    rows.for_each(|(at, ((logits, &target), loss))| {
        let scale = scales.map(|scales| scales[at]);
        *loss = row(logits, target as usize, scale);
    });
}

vectorized! {
    fn row(logits: &mut [f32], target: usize, scale: Option<f32>) -> f32 {
        let highest = maximum(logits);
        let of_target = logits[target] - highest;
        logits.iter_mut().for_each(|value| *value = exp(*value - highest));
        let sum = sum_of(logits, |value| value);
        if let Some(scale) = scale {
            let factor = scale / sum;
            logits.iter_mut().for_each(|value| *value *= factor);
            logits[target] -= scale;
        }
        sum.ln() - of_target
    }
}
