//! `SwiGLU`'s gate (Shazeer, arXiv 2002.05202): `silu(g) u`, and its gradient.

use rayon::prelude::*;

use super::TASK_ELEMENTS;
use super::vector::{exp, vectorized};

/// `y = g sigmoid(g) u`.
pub(crate) fn forward(gate: &[f32], up: &[f32], y: &mut [f32]) {
    let tasks = y
        .par_chunks_mut(TASK_ELEMENTS)
        .zip(gate.par_chunks(TASK_ELEMENTS))
        .zip(up.par_chunks(TASK_ELEMENTS));
    tasks.for_each(|((y, gate), up)| some(y, gate, up));
}

vectorized! {
    fn some(y: &mut [f32], gate: &[f32], up: &[f32]) {
        for ((y, g), u) in y.iter_mut().zip(gate).zip(up) {
            *y = g / (1.0 + exp(-g)) * u;
        }
    }
}

/// Turns `gate` and `up` into their own gradients, given `dy`, and `dy` into what `forward` had given:
/// all three are needed at once by the products that follow.
pub(crate) fn backward(gate: &mut [f32], up: &mut [f32], dy: &mut [f32]) {
    let tasks = dy
        .par_chunks_mut(TASK_ELEMENTS)
        .zip(gate.par_chunks_mut(TASK_ELEMENTS))
        .zip(up.par_chunks_mut(TASK_ELEMENTS));
    tasks.for_each(|((dy, gate), up)| some_gradients(dy, gate, up));
}

vectorized! {
    fn some_gradients(dy: &mut [f32], gate: &mut [f32], up: &mut [f32]) {
        for ((dy, g), u) in dy.iter_mut().zip(gate).zip(up) {
            let share = 1.0 / (1.0 + exp(-*g));
            let silu = *g * share;
            let (dgate, dup) = (*dy * *u * (share + silu * (1.0 - share)), *dy * silu);
            *dy = silu * *u;
            (*g, *u) = (dgate, dup);
        }
    }
}
