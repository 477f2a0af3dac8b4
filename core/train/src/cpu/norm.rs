//! `RMSNorm` (Zhang and Sennrich, arXiv 1910.07467, equation 4) and its gradient, row by row.

use rayon::prelude::*;

use super::vector::{sum_of, vectorized};
use super::{TASK_ELEMENTS, TASK_ROWS};

/// `y = x s w` with `s = 1 / sqrt(mean(x^2) + epsilon)` of each row; `s` is kept for the gradient.
pub(crate) fn forward(x: &[f32], weight: &[f32], epsilon: f32, y: &mut [f32], scales: &mut [f32]) {
    let width = weight.len();
    let tasks = y
        .par_chunks_mut(TASK_ROWS * width)
        .zip(x.par_chunks(TASK_ROWS * width))
        .zip(scales.par_chunks_mut(TASK_ROWS));
    tasks.for_each(|((y, x), scales)| rows(y, x, scales, weight, epsilon));
}

vectorized! {
    fn rows(y: &mut [f32], x: &[f32], scales: &mut [f32], weight: &[f32], epsilon: f32) {
        let width = weight.len();
        for ((y, x), scale) in y.chunks_exact_mut(width).zip(x.chunks_exact(width)).zip(scales) {
            let mean_square = sum_of(x, |x| x * x) / width as f32;
            *scale = 1.0 / (mean_square + epsilon).sqrt();
            for ((y, x), weight) in y.iter_mut().zip(x).zip(weight) {
                *y = x * *scale * weight;
            }
        }
    }
}

/// Adds the gradient by `x` to `dx`; gives the gradient by `weight`.
///
/// With `n = x s` and `g = dy w` of a row: `dx = s (g - n mean(g n))`, `dw = sum over rows of dy n`.
pub(crate) fn backward(
    dy: &[f32],
    x: &[f32],
    weight: &[f32],
    scales: &[f32],
    dx: &mut [f32],
) -> Vec<f32> {
    let width = weight.len();
    let rows = TASK_ROWS * width;
    let tasks = dx
        .par_chunks_mut(rows)
        .zip(x.par_chunks(rows))
        .zip(dy.par_chunks(rows))
        .zip(scales.par_chunks(TASK_ROWS));
    let parts: Vec<Vec<f32>> =
        tasks.map(|(((dx, x), dy), scales)| row_gradients(dx, x, dy, weight, scales)).collect();
    let mut sum = vec![0.0; width];
    for part in parts {
        sum.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
    }
    sum
}

vectorized! {
    /// Adds to `dx`; gives these rows' part of the gradient by the weight.
    fn row_gradients(dx: &mut [f32], x: &[f32], dy: &[f32], weight: &[f32], scales: &[f32]) -> Vec<f32> {
        let width = weight.len();
        let mut dweight = vec![0.0; width];
        let rows = dx.chunks_exact_mut(width).zip(x.chunks_exact(width));
        for (((dx, x), dy), &scale) in rows.zip(dy.chunks_exact(width)).zip(scales) {
            for ((dweight, dy), x) in dweight.iter_mut().zip(dy).zip(x) {
                *dweight += dy * (x * scale);
            }
            row_gradient(dx, x, dy, weight, scale);
        }
        dweight
    }
}

#[inline(always)]
fn row_gradient(dx: &mut [f32], x: &[f32], dy: &[f32], weight: &[f32], scale: f32) {
    let width = dx.len();
    let mut product = [0.0f32; 16];
    let parts =
        x.as_chunks::<16>().0.iter().zip(dy.as_chunks::<16>().0).zip(weight.as_chunks::<16>().0);
    for ((x, dy), weight) in parts {
        for lane in 0..16 {
            product[lane] += dy[lane] * weight[lane] * (x[lane] * scale);
        }
    }
    let rest = width - width % 16;
    for at in rest..width {
        product[at - rest] += dy[at] * weight[at] * (x[at] * scale);
    }
    let mean = sum_of(&product, |part| part) / width as f32;
    for (((dx, x), dy), weight) in dx.iter_mut().zip(x).zip(dy).zip(weight) {
        *dx += scale * (dy * weight - x * scale * mean);
    }
}

/// The squared norm of the elements, in f64, and how many are not finite.
pub(crate) fn squares(values: &[f32]) -> (f64, u64) {
    let tasks = values.par_chunks(TASK_ELEMENTS);
    let parts: Vec<(f64, u64)> = tasks.map(some_squares).collect();
    parts.into_iter().fold((0.0, 0), |(square, bad), part| (square + part.0, bad + part.1))
}

vectorized! {
    fn some_squares(values: &[f32]) -> (f64, u64) {
        let few = values.chunks(256);
        let part: f64 = few.map(|few| f64::from(sum_of(few, |value| value * value))).sum();
        if part.is_finite() {
            return (part, 0);
        }
        // An f32 square or sum has overflowed, or something is not finite: slowly, in f64.
        let square = |value: &f32| f64::from(*value) * f64::from(*value);
        let bad = values.iter().filter(|value| !value.is_finite()).count();
        (values.iter().map(square).sum(), bad as u64)
    }
}
