//! Rotate-half `RoPE` (Su and others, arXiv 2104.09864; halves as in Llama), in place.

use rayon::prelude::*;

use super::TASK_ROWS;
use super::vector::vectorized;

/// Which way to turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// By the position's angle.
    Forward,
    /// Back: the gradient of a turn is the turn back.
    Back,
}

/// Cosines and sines of each position, `half` of each: half the size of a head.
#[derive(Clone, Copy)]
pub(crate) struct Tables<'a> {
    pub(crate) cos: &'a [f32],
    pub(crate) sin: &'a [f32],
    pub(crate) half: usize,
}

/// Turns every head of every row of `width` values. Rows are positions `first..` of one sequence after
/// another, over and over to the tables' length.
pub(crate) fn turn(rows: &mut [f32], width: usize, first: usize, tables: Tables<'_>, turn: Turn) {
    let tasks = rows.par_chunks_mut(TASK_ROWS * width).enumerate();
    tasks.for_each(|(task, rows)| some_rows(rows, width, first + task * TASK_ROWS, tables, turn));
}

vectorized! {
    fn some_rows(rows: &mut [f32], width: usize, first: usize, tables: Tables<'_>, turn: Turn) {
        let Tables { cos, sin, half } = tables;
        let (length, sign) = (cos.len() / half, if turn == Turn::Forward { 1.0 } else { -1.0 });
        for (row, values) in rows.chunks_exact_mut(width).enumerate() {
            let at = (first + row) % length * half;
            let (cos, sin) = (&cos[at..at + half], &sin[at..at + half]);
            for head in values.chunks_exact_mut(2 * half) {
                let (left, right) = head.split_at_mut(half);
                for (((a, b), cos), sin) in left.iter_mut().zip(right).zip(cos).zip(sin) {
                    let sin = sin * sign;
                    (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
                }
            }
        }
    }
}
