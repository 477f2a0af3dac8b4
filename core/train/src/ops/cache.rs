//! Keys and values of the positions already seen, so that the next one costs one row.

use burn::tensor::Tensor;

use super::Ops;
use super::storage::{slice, tensor};
use crate::cpu;
use crate::cpu::attention::Sizes;

/// Keys and values of one block.
#[derive(Clone, Default)]
pub(crate) struct Cache {
    /// Where kernels are used: rows one after another, room for more behind them.
    rows: [Vec<f32>; 2],
    /// Where tensor operations are.
    tensors: Option<[Tensor<2>; 2]>,
    positions: usize,
}

impl Cache {
    /// Positions seen.
    pub(crate) fn positions(&self) -> usize {
        self.positions
    }
}

impl Ops {
    /// Attention of the next rows of one sequence over all seen so far and themselves; their keys and
    /// values are kept.
    pub(crate) fn attention_onward(
        &self,
        [q, k, v]: [&Tensor<2>; 3],
        sizes: Sizes,
        cache: &mut Cache,
    ) -> Tensor<2> {
        cache.positions += sizes.length;
        if self.kernels {
            let (shape, [keys, values]) = (q.dims(), &mut cache.rows);
            keys.extend_from_slice(&slice(k));
            values.extend_from_slice(&slice(v));
            let mut out = vec![0.0; shape[0] * shape[1]];
            cpu::attention::forward(&slice(q), keys, values, sizes, &mut out);
            return tensor(out, shape, &self.device);
        }
        let [keys, values] = match cache.tensors.take() {
            Some([keys, values]) => {
                [Tensor::cat(vec![keys, k.clone()], 0), Tensor::cat(vec![values, v.clone()], 0)]
            }
            None => [k.clone(), v.clone()],
        };
        let out = self.attention(q, &keys, &values, sizes).out;
        cache.tensors = Some([keys, values]);
        out
    }
}
