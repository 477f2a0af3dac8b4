//! Causal grouped-query attention, in blocks of queries.

use std::ops::Range;

use burn::tensor::{Bool, Tensor};

use super::storage::{slice, tensor};
use super::{Ops, full};
use crate::cpu;
use crate::cpu::attention::{Forward, Sizes};

/// Queries of a block where tensor operations are used.
const COMPOSED_BLOCK: usize = 512;

/// What attention gives, and what its gradient needs.
#[derive(Clone)]
pub(crate) struct Attended {
    /// [B * T, heads * D].
    pub(crate) out: Tensor<2>,
    /// Logarithm of each softmax's denominator, [B * heads, T].
    pub(crate) log_sums: Tensor<2>,
}

impl Ops {
    /// Attention of queries [B * T, heads * D] over keys and values [B * (past + T), kv heads * D].
    pub(crate) fn attention(
        &self,
        q: &Tensor<2>,
        k: &Tensor<2>,
        v: &Tensor<2>,
        sizes: Sizes,
    ) -> Attended {
        if !self.kernels {
            return Composed::new(self, sizes, q, k, v).forward();
        }
        let shape = q.dims();
        let mut out = vec![0.0; shape[0] * shape[1]];
        let log_sums = cpu::attention::forward(&slice(q), &slice(k), &slice(v), sizes, &mut out);
        Attended {
            out: tensor(out, shape, &self.device),
            log_sums: tensor(log_sums, [sizes.batch * sizes.heads, sizes.length], &self.device),
        }
    }

    /// Gradients by queries, keys and values.
    pub(crate) fn attention_gradient(
        &self,
        dout: &Tensor<2>,
        [q, k, v]: [&Tensor<2>; 3],
        forward: &Attended,
        sizes: Sizes,
    ) -> [Tensor<2>; 3] {
        if !self.kernels {
            return Composed::new(self, sizes, q, k, v).gradient(dout, forward);
        }
        let shapes = [q, k, v].map(Tensor::dims);
        let [mut dq, mut dk, mut dv] = shapes.map(|[rows, columns]| vec![0.0; rows * columns]);
        let (out, log_sums) = (slice(&forward.out), slice(&forward.log_sums));
        cpu::attention::backward(
            (&slice(q), &slice(k), &slice(v)),
            Forward { out: &out, log_sums: &log_sums },
            &slice(dout),
            sizes,
            (&mut dq, &mut dk, &mut dv),
        );
        let [q, k, v] = shapes;
        [(dq, q), (dk, k), (dv, v)].map(|(values, shape)| tensor(values, shape, &self.device))
    }
}

/// The same of tensor operations. Query heads of a group become rows, so keys and values are never
/// copied. B sequences, H heads, K key heads, T positions, D head size.
struct Composed<'a> {
    ops: &'a Ops,
    sizes: Sizes,
    q_bhtd: Tensor<4>,
    k_bktd: Tensor<4>,
    v_bktd: Tensor<4>,
}

impl<'a> Composed<'a> {
    fn new(
        ops: &'a Ops,
        sizes: Sizes,
        q: &Tensor<2>,
        k: &Tensor<2>,
        v: &Tensor<2>,
    ) -> Composed<'a> {
        let split = |x: &Tensor<2>| split(sizes, x);
        Composed { ops, sizes, q_bhtd: split(q), k_bktd: split(k), v_bktd: split(v) }
    }

    fn factor(&self) -> f32 {
        (self.sizes.size as f32).powf(-0.5)
    }

    fn blocks(&self) -> Vec<Range<usize>> {
        let length = self.sizes.length;
        (0..length)
            .step_by(COMPOSED_BLOCK)
            .map(|at| at..(at + COMPOSED_BLOCK).min(length))
            .collect()
    }

    /// Rows of heads as rows of groups: [B, H, R, X] to [B, K, H / K * R, X].
    fn grouped(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, heads, rows, columns] = x.dims();
        let kv_heads = self.sizes.kv_heads;
        x.reshape([batch, kv_heads, heads / kv_heads * rows, columns])
    }

    /// And back.
    fn ungrouped(&self, x: Tensor<4>, rows: usize) -> Tensor<4> {
        let [batch, _, _, columns] = x.dims();
        x.reshape([batch, self.sizes.heads, rows, columns])
    }

    /// Positions of keys or values that a block sees.
    fn until(x: &Tensor<4>, end: usize) -> Tensor<4> {
        let [batch, heads, _, size] = x.dims();
        x.clone().slice([0..batch, 0..heads, 0..end, 0..size])
    }

    fn block_of(x: &Tensor<4>, block: &Range<usize>) -> Tensor<4> {
        let [batch, heads, _, size] = x.dims();
        x.clone().slice([0..batch, 0..heads, block.clone(), 0..size])
    }

    /// Scaled scores of a block, [B, H, rows, past + end], the future at minus infinity.
    fn scores(&self, block: &Range<usize>) -> Tensor<4> {
        let (rows, end) = (block.len(), self.sizes.past + block.end);
        // Queries are scaled, not scores: those of f16 would overflow first.
        let queries = self.grouped(full(Self::block_of(&self.q_bhtd, block)) * self.factor());
        let keys = Self::until(&self.k_bktd, end).swap_dims(2, 3);
        let scores = self.ungrouped(full(self.ops.matmul(queries, keys)), rows);
        let mask = Tensor::<2, Bool>::tril_mask(
            [rows, end],
            (self.sizes.past + block.start) as i64,
            &scores.device(),
        );
        let mask = mask.reshape([1, 1, rows, end]).expand(scores.dims());
        scores.mask_fill(mask, f32::NEG_INFINITY)
    }

    fn forward(&self) -> Attended {
        let Sizes { batch, length, heads, .. } = self.sizes;
        let (mut outs, mut log_sums) = (Vec::new(), Vec::new());
        for block in self.blocks() {
            let scores = self.scores(&block);
            let highest = scores.clone().max_dim(3);
            let exponentials = (scores - highest.clone()).exp();
            let sum = exponentials.clone().sum_dim(3);
            let shares = self.grouped(exponentials / sum.clone());
            let seen = self.sizes.past + block.end;
            let mixed = self.ops.matmul(shares, Self::until(&self.v_bktd, seen));
            outs.push(self.ungrouped(mixed, block.len()));
            log_sums.push(sum.log() + highest);
        }
        let log_sums = Tensor::cat(log_sums, 2).reshape([batch * heads, length]);
        Attended { out: merge(Tensor::cat(outs, 2)), log_sums }
    }

    fn gradient(&self, dout: &Tensor<2>, forward: &Attended) -> [Tensor<2>; 3] {
        let Sizes { batch, length, heads, .. } = self.sizes;
        let ops = self.ops;
        let (dout, out) = (split(self.sizes, dout), split(self.sizes, &forward.out));
        let log_sums = forward.log_sums.clone().reshape([batch, heads, length, 1]);
        let delta = (full(dout.clone()) * full(out)).sum_dim(3);
        let (mut dq, mut dk, mut dv) =
            (Vec::new(), full(self.k_bktd.zeros_like()), full(self.v_bktd.zeros_like()));
        for block in self.blocks() {
            let (rows, end) = (block.len(), block.end);
            let shares = (self.scores(&block) - Self::block_of(&log_sums, &block)).exp();
            let dout = self.grouped(Self::block_of(&dout, &block));
            let values = Self::until(&self.v_bktd, end).swap_dims(2, 3);
            let dshares = full(ops.matmul(dout.clone(), values));
            let dshares = self.ungrouped(dshares, rows) - Self::block_of(&delta, &block);
            let dscores = self.grouped(shares.clone() * dshares * self.factor());
            let queries = self.grouped(Self::block_of(&self.q_bhtd, &block));
            let keys = Self::until(&self.k_bktd, end);
            let dscores = ops.lowered(dscores);
            dq.push(self.ungrouped(ops.matmul(dscores.clone(), keys), rows));
            let dkeys = ops.matmul(dscores.swap_dims(2, 3), queries);
            dk = add_until(dk, full(dkeys), end);
            let dvalues = ops.matmul(self.grouped(shares).swap_dims(2, 3), dout);
            dv = add_until(dv, full(dvalues), end);
        }
        [merge(Tensor::cat(dq, 2)), merge(dk), merge(dv)]
    }
}

/// Adds to the first positions.
fn add_until(sum: Tensor<4>, part: Tensor<4>, end: usize) -> Tensor<4> {
    let [batch, heads, length, size] = sum.dims();
    if end == length {
        return sum + part;
    }
    let place = [0..batch, 0..heads, 0..end, 0..size];
    let old = sum.clone().slice(place.clone());
    sum.slice_assign(place, old + part)
}

/// [B * T, heads * D] to [B, heads, T, D].
fn split(sizes: Sizes, x: &Tensor<2>) -> Tensor<4> {
    let [rows, width] = x.dims();
    let shape = [sizes.batch, rows / sizes.batch, width / sizes.size, sizes.size];
    x.clone().reshape(shape).swap_dims(1, 2)
}

/// And back.
fn merge(x: Tensor<4>) -> Tensor<2> {
    let [batch, heads, length, size] = x.dims();
    x.swap_dims(1, 2).reshape([batch * length, heads * size])
}
