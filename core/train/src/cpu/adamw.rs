//! `AdamW` with decoupled decay (Loshchilov and Hutter, arXiv 1711.05101, algorithm 2) in one pass over
//! a parameter.

use rayon::prelude::*;

use super::TASK_ELEMENTS;
use super::vector::vectorized;

/// The constants of one update of one parameter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Update {
    /// Multiplies the gradient: the global clip.
    pub(crate) scale: f32,
    pub(crate) beta1: f32,
    pub(crate) beta2: f32,
    pub(crate) epsilon: f32,
    /// Learning rate over the first moment's bias correction.
    pub(crate) rate: f32,
    /// One over the second moment's bias correction.
    pub(crate) second_correction: f32,
    /// Multiplies the weights before the step: one less decay times learning rate.
    pub(crate) decay: f32,
}

/// Updates weights and moments in place.
pub(crate) fn update(
    values: &mut [f32],
    first: &mut [f32],
    second: &mut [f32],
    gradient: &[f32],
    by: Update,
) {
    let tasks = values
        .par_chunks_mut(TASK_ELEMENTS)
        .zip(first.par_chunks_mut(TASK_ELEMENTS))
        .zip(second.par_chunks_mut(TASK_ELEMENTS))
        .zip(gradient.par_chunks(TASK_ELEMENTS));
    tasks.for_each(|(((values, first), second), gradient)| {
        some(values, first, second, gradient, by)
    });
}

vectorized! {
    fn some(values: &mut [f32], first: &mut [f32], second: &mut [f32], gradient: &[f32], by: Update) {
        let Update { scale, beta1, beta2, epsilon, rate, second_correction, decay } = by;
        for ((value, (m, v)), g) in values.iter_mut().zip(first.iter_mut().zip(second)).zip(gradient) {
            let g = g * scale;
            *m = *m * beta1 + g * (1.0 - beta1);
            *v = *v * beta2 + g * g * (1.0 - beta2);
            let root = (*v * second_correction).sqrt() + epsilon;
            *value = *value * decay - *m / root * rate;
        }
    }
}
