//! The Aquila2 decoder up to its last norm and its gradient: pre-norm blocks of grouped-query attention
//! with rotate-half `RoPE`, and `SwiGLU`. No biases. The head is in `ops/head.rs`.
//!
//! B sequences, T positions, N = B T rows, C hidden, F inner, H query heads, K key heads, D = C / H.

use std::collections::BTreeMap;

use burn::tensor::Tensor;
use hm_domain::spec::ModelSpec;

use crate::block::{Block, Kept};
use crate::gradients::Gradients;
use crate::ops::{Angles, Cache, Normed, Ops};
use crate::parameters::EMBEDDING;

/// Parameters by path.
pub(crate) type Weights = BTreeMap<String, Tensor<2>>;

/// What the forward pass needs beside weights and ids.
#[derive(Clone)]
pub(crate) struct Decoder {
    pub(crate) model: ModelSpec,
    pub(crate) ops: Ops,
    pub(crate) angles: Angles,
}

/// What the gradient needs of a forward pass.
pub(crate) struct Trace {
    blocks: Vec<Kept>,
    last_nc: Tensor<2>,
    scale_n1: Tensor<2>,
}

impl Decoder {
    /// Tables for `model`, to be computed with `ops`.
    pub(crate) fn new(model: &ModelSpec, ops: Ops) -> Decoder {
        Decoder { model: model.clone(), angles: Angles::of(model, &ops), ops }
    }

    /// Hidden states after the last norm, [N, C]. `ids` are B sequences of T in row order.
    pub(crate) fn forward(&self, weights: &Weights, ids: &[u32]) -> Tensor<2> {
        let mut x_nc = self.ops.embed(&weights[EMBEDDING], ids);
        for layer in 0..self.model.layers {
            x_nc = self.block(layer, weights).forward(x_nc).0;
        }
        self.last_norm(weights, &x_nc).y_nc
    }

    /// Hidden states of the next rows of one sequence, whose earlier ones are in the blocks' caches.
    pub(crate) fn onward(&self, weights: &Weights, ids: &[u32], caches: &mut [Cache]) -> Tensor<2> {
        let mut x_nc = self.ops.embed(&weights[EMBEDDING], ids);
        for (layer, cache) in (0..self.model.layers).zip(caches) {
            x_nc = self.block(layer, weights).onward(x_nc, cache);
        }
        self.last_norm(weights, &x_nc).y_nc
    }

    /// All hidden states, keeping what the gradient needs: with `recompute` only each block's input.
    pub(crate) fn forward_traced(
        &self,
        weights: &Weights,
        ids: &[u32],
        recompute: bool,
    ) -> (Tensor<2>, Trace) {
        let mut x_nc = self.ops.embed(&weights[EMBEDDING], ids);
        let mut blocks = Vec::new();
        for layer in 0..self.model.layers {
            let input = x_nc.clone();
            let (out, trace) = self.block(layer, weights).forward(x_nc);
            x_nc = out;
            blocks.push(if recompute {
                Kept::Input(Box::new(input))
            } else {
                Kept::Trace(Box::new(trace))
            });
        }
        let Normed { y_nc, scale_n1 } = self.last_norm(weights, &x_nc);
        (y_nc, Trace { blocks, last_nc: x_nc, scale_n1 })
    }

    /// Adds the gradients of all parameters but the head's, given that by the hidden states.
    pub(crate) fn backward(
        &self,
        weights: &Weights,
        ids: &[u32],
        trace: Trace,
        dhidden_nc: Tensor<2>,
        gradients: &mut Gradients,
    ) {
        let Trace { blocks, last_nc, scale_n1 } = trace;
        let weight = &weights["model.norm.weight"];
        let nothing = last_nc.zeros_like();
        let (mut dx_nc, dweight) =
            self.ops.norm_gradient(nothing, &dhidden_nc, &last_nc, weight, &scale_n1);
        drop((dhidden_nc, last_nc));
        gradients.add("model.norm.weight", dweight);
        for (layer, kept) in (0..self.model.layers).zip(blocks).rev() {
            dx_nc = self.block(layer, weights).backward(kept, dx_nc, gradients);
        }
        let vocabulary = self.model.vocabulary as usize;
        let onto = gradients.take(EMBEDDING);
        gradients.put(EMBEDDING, self.ops.embedding_gradient(onto, &dx_nc, ids, vocabulary));
    }

    fn block<'a>(&'a self, layer: u32, weights: &'a Weights) -> Block<'a> {
        Block { decoder: self, weights, layer }
    }

    fn last_norm(&self, weights: &Weights, x_nc: &Tensor<2>) -> Normed {
        self.ops.norm(x_nc, &weights["model.norm.weight"], self.model.norm_epsilon)
    }
}
