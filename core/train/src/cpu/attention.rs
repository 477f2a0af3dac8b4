//! Causal grouped-query attention in blocks of queries: only the scores of one block of one head exist
//! at a time, so memory grows with the length, not with its square. The gradient computes them again
//! (Rabe and Staats, arXiv 2112.05682; Dao and others, arXiv 2205.14135, section 3).

use rayon::prelude::*;

use super::matrix::{Matrix, MatrixMut, Onto, multiply_here};
use super::vector::{exp, maximum, sum_of, sum_of_pairs, vectorized};

/// Queries of a block.
const BLOCK: usize = 64;

/// Sizes of one attention. Queries and outputs are [batch * length, heads * size], keys and values
/// [batch * (past + length), kv heads * size].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) batch: usize,
    /// Positions of queries: the last ones.
    pub(crate) length: usize,
    /// Positions before them, of which there are only keys and values. None while training.
    pub(crate) past: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) size: usize,
}

impl Sizes {
    fn rows(&self) -> usize {
        self.batch * self.length
    }

    fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// Views of queries, keys and values for one key head of one sequence: its group's columns.
    fn views<'a>(&self, q: &'a [f32], k: &'a [f32], v: &'a [f32], task: usize) -> [Matrix<'a>; 3] {
        let (sequence, kv_head) = (task / self.kv_heads, task % self.kv_heads);
        let view = |values: &'a [f32], heads: usize, width: usize| {
            let length = values.len() / (self.batch * heads * self.size);
            let whole = Matrix::new(values, self.batch * length, heads * self.size);
            let rows = sequence * length..(sequence + 1) * length;
            whole.part(rows, kv_head * width..(kv_head + 1) * width)
        };
        let group = self.group() * self.size;
        [
            view(q, self.heads, group),
            view(k, self.kv_heads, self.size),
            view(v, self.kv_heads, self.size),
        ]
    }

    /// Blocks of queries as `start..end`.
    fn blocks(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let length = self.length;
        (0..length).step_by(BLOCK).map(move |start| (start, (start + BLOCK).min(length)))
    }

    fn head(&self, head: usize) -> std::ops::Range<usize> {
        head * self.size..(head + 1) * self.size
    }
}

/// Writes the outputs, and for each row and head the logarithm of its softmax's denominator.
pub(crate) fn forward(q: &[f32], k: &[f32], v: &[f32], sizes: Sizes, out: &mut [f32]) -> Vec<f32> {
    let (group, length) = (sizes.group(), sizes.length);
    let mut log_sums = vec![0.0; sizes.rows() * sizes.heads];
    let width = group * sizes.size;
    let outs = MatrixMut::new(out, sizes.rows(), sizes.heads * sizes.size).blocks(length, width);
    outs.into_par_iter().zip(log_sums.par_chunks_mut(group * length)).enumerate().for_each(
        |(task, (mut out, log_sums))| {
            let [q, k, v] = sizes.views(q, k, v, task);
            let mut scores = vec![0.0; BLOCK.min(length) * (sizes.past + length)];
            for head in 0..group {
                let columns = sizes.head(head);
                for (start, end) in sizes.blocks() {
                    let seen = sizes.past + end;
                    let scores = &mut scores[..(end - start) * seen];
                    let queries = q.part(start..end, columns.clone());
                    let all = 0..sizes.size;
                    score(scores, queries, k.part(0..seen, all.clone()));
                    let sums = &mut log_sums[head * length..][start..end];
                    softmax(scores, sizes.past + start, sizes.size, sums);
                    let shares = Matrix::new(scores, end - start, seen);
                    let place = out.part(start..end, columns.clone());
                    multiply_here(place, Onto::Nothing, shares, v.part(0..seen, all));
                }
            }
        },
    );
    log_sums
}

fn score(scores: &mut [f32], queries: Matrix<'_>, keys: Matrix<'_>) {
    let (rows, columns) = (queries.rows(), keys.rows());
    multiply_here(MatrixMut::new(scores, rows, columns), Onto::Nothing, queries, keys.t());
}

vectorized! {
    /// Scores to shares, row by row; a query sees keys up to its own place and none after it.
    fn softmax(scores: &mut [f32], first: usize, size: usize, log_sums: &mut [f32]) {
        let (columns, factor) = (first + log_sums.len(), (size as f32).powf(-0.5));
        for (row, (scores, log_sum)) in scores.chunks_exact_mut(columns).zip(log_sums).enumerate() {
            let (seen, future) = scores.split_at_mut(first + row + 1);
            let highest = maximum(seen) * factor;
            seen.iter_mut().for_each(|score| *score = exp(*score * factor - highest));
            let sum = sum_of(seen, |share| share);
            let share = 1.0 / sum;
            seen.iter_mut().for_each(|value| *value *= share);
            future.fill(0.0);
            *log_sum = sum.ln() + highest;
        }
    }
}

/// What the gradient needs of the forward pass beside queries, keys and values.
#[derive(Clone, Copy)]
pub(crate) struct Forward<'a> {
    pub(crate) out: &'a [f32],
    pub(crate) log_sums: &'a [f32],
}

/// Writes the gradients by queries, keys and values, of an attention without a past.
pub(crate) fn backward(
    (q, k, v): (&[f32], &[f32], &[f32]),
    forward: Forward<'_>,
    dout: &[f32],
    sizes: Sizes,
    (dq, dk, dv): (&mut [f32], &mut [f32], &mut [f32]),
) {
    let (group, length) = (sizes.group(), sizes.length);
    let blocks = |values, heads: usize, per_task: usize| {
        MatrixMut::new(values, sizes.rows(), heads * sizes.size)
            .blocks(length, per_task * sizes.size)
    };
    let places = blocks(dq, sizes.heads, group)
        .into_par_iter()
        .zip(blocks(dk, sizes.kv_heads, 1))
        .zip(blocks(dv, sizes.kv_heads, 1));
    let sums = forward.log_sums.par_chunks(group * length);
    places.zip(sums).enumerate().for_each(|(task, (((mut dq, mut dk), mut dv), log_sums))| {
        let views = sizes.views(q, k, v, task);
        let [out, ..] = sizes.views(forward.out, k, v, task);
        let [dout, ..] = sizes.views(dout, k, v, task);
        let mut scratch = [vec![0.0; BLOCK * length], vec![0.0; BLOCK * length]];
        // From the last block back: it sees every key, so it writes all of dk and dv and the others add.
        let order: Vec<(usize, usize)> = sizes.blocks().collect();
        for head in 0..group {
            for &(start, end) in order.iter().rev() {
                let onto = if head == 0 && end == length { Onto::Nothing } else { Onto::Old };
                let block = Block { head, start, end, onto };
                let sums = &log_sums[head * length..][start..end];
                let grads = (&mut dq, &mut dk, &mut dv);
                block.gradients(sizes, views, (out, dout), sums, &mut scratch, grads);
            }
        }
    });
}

/// One block of queries of one head.
struct Block {
    head: usize,
    start: usize,
    end: usize,
    onto: Onto,
}

impl Block {
    fn gradients(
        &self,
        sizes: Sizes,
        [q, k, v]: [Matrix<'_>; 3],
        (out, dout): (Matrix<'_>, Matrix<'_>),
        log_sums: &[f32],
        [shares, dshares]: &mut [Vec<f32>; 2],
        (dq, dk, dv): (&mut MatrixMut<'_>, &mut MatrixMut<'_>, &mut MatrixMut<'_>),
    ) {
        let Block { head, start, end, onto } = *self;
        let (columns, all, rows) = (sizes.head(head), 0..sizes.size, end - start);
        let [queries, out, dout] =
            [q, out, dout].map(|whole| whole.part(start..end, columns.clone()));
        let [keys, values] = [k, v].map(|whole| whole.part(0..end, all.clone()));
        let (shares, dshares) = (&mut shares[..rows * end], &mut dshares[..rows * end]);
        score(shares, queries, keys);
        score(dshares, dout, values);
        score_gradients(shares, dshares, [out, dout], log_sums, start);
        let (shares, dscores) = (Matrix::new(shares, rows, end), Matrix::new(dshares, rows, end));
        multiply_here(dv.part(0..end, all.clone()), onto, shares.t(), dout);
        multiply_here(dk.part(0..end, all.clone()), onto, dscores.t(), queries);
        multiply_here(dq.part(start..end, columns), Onto::Nothing, dscores, keys);
    }
}

vectorized! {
    /// Scores become shares again, and gradients by shares gradients by scores: of a row,
    /// `P (dP - sum(dO O)) / sqrt(size)`.
    fn score_gradients(
        shares: &mut [f32],
        dshares: &mut [f32],
        outs: [Matrix<'_>; 2],
        log_sums: &[f32],
        first: usize,
    ) {
        let [out, dout] = outs;
        let (columns, size) = (first + log_sums.len(), out.columns());
        let factor = (size as f32).powf(-0.5);
        let rows = shares.chunks_exact_mut(columns).zip(dshares.chunks_exact_mut(columns));
        for (row, ((shares, dshares), log_sum)) in rows.zip(log_sums).enumerate() {
            let seen = first + row + 1;
            let delta = sum_of_pairs(out.row(row), dout.row(row), |a, b| a * b);
            shares[seen..].fill(0.0);
            dshares[seen..].fill(0.0);
            for (share, dshare) in shares[..seen].iter_mut().zip(&mut dshares[..seen]) {
                *share = exp(*share * factor - log_sum);
                *dshare = *share * (*dshare - delta) * factor;
            }
        }
    }
}
