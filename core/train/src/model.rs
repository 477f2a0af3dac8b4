//! The Aquila2 decoder up to its last norm: pre-norm blocks of grouped-query attention with rotate-half
//! `RoPE`, and `SwiGLU`. No biases. The head is in `head.rs`.
//!
//! B sequences, T positions, C hidden, H query heads, K key heads, G = H / K, D = C / H.

use std::collections::BTreeMap;

use burn::tensor::activation::{silu, softmax};
use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use hm_domain::spec::ModelSpec;

/// Parameters on the autodiff graph, or off it for validation.
pub(crate) type Weights = BTreeMap<String, Tensor<2>>;

/// What the forward pass needs beside weights and ids.
#[derive(Clone)]
pub(crate) struct Decoder {
    model: ModelSpec,
    cos_td: Tensor<4>,
    sin_td: Tensor<4>,
    future_tt: Tensor<4, Bool>,
}

impl Decoder {
    /// Tables for `model` on `device`.
    pub(crate) fn new(model: &ModelSpec, device: &Device) -> Decoder {
        let (length, size) = (model.sequence_length as usize, model.head_size() as usize);
        let half = size / 2;
        let (mut cos, mut sin) = (Vec::new(), Vec::new());
        for position in 0..length {
            for column in 0..size {
                let exponent = 2.0 * (column % half) as f64 / size as f64;
                let angle = position as f64 / model.rope_base.powf(exponent);
                cos.push(angle.cos() as f32);
                sin.push(angle.sin() as f32);
            }
        }
        let table =
            |values| Tensor::<4>::from_data(TensorData::new(values, [1, 1, length, size]), device);
        Decoder {
            model: model.clone(),
            cos_td: table(cos),
            sin_td: table(sin),
            future_tt: Tensor::<2, Bool>::tril_mask([length, length], 0, device)
                .reshape([1, 1, length, length]),
        }
    }

    /// Hidden states after the last norm, [B * T, C]. `ids` are [B * T] in row order.
    pub(crate) fn forward(&self, weights: &Weights, ids: Tensor<1, Int>) -> Tensor<2> {
        let mut x_nc = weights["model.embed_tokens.weight"].clone().select(0, ids);
        for layer in 0..self.model.layers {
            let weight =
                |name: &str| weights[&format!("model.layers.{layer}.{name}.weight")].clone();
            let normed = self.norm(x_nc.clone(), weight("input_layernorm"));
            x_nc = x_nc + self.attention(normed, &weight);
            let normed = self.norm(x_nc.clone(), weight("post_attention_layernorm"));
            let gated = silu(linear(normed.clone(), weight("mlp.gate_proj")));
            let up = linear(normed, weight("mlp.up_proj"));
            x_nc = x_nc + linear(gated * up, weight("mlp.down_proj"));
        }
        self.norm(x_nc, weights["model.norm.weight"].clone())
    }

    fn norm(&self, x_nc: Tensor<2>, weight_1c: Tensor<2>) -> Tensor<2> {
        let mean_square = (x_nc.clone() * x_nc.clone()).mean_dim(1);
        let scale = (mean_square + self.model.norm_epsilon as f32).sqrt().recip();
        x_nc * scale * weight_1c
    }

    fn attention(&self, x_nc: Tensor<2>, weight: &dyn Fn(&str) -> Tensor<2>) -> Tensor<2> {
        let [rows, hidden] = x_nc.dims();
        let length = self.model.sequence_length as usize;
        let batch = rows / length;
        let [heads, kv_heads, size] =
            [self.model.heads, self.model.kv_heads, self.model.head_size()]
                .map(|count| count as usize);
        let split = |name: &str, heads: usize| {
            linear(x_nc.clone(), weight(name)).reshape([batch, length, heads, size]).swap_dims(1, 2)
        };
        let q_bhtd = self.rotate(split("self_attn.q_proj", heads)) * (size as f32).powf(-0.5);
        let k_bktd = self.rotate(split("self_attn.k_proj", kv_heads));
        let v_bktd = split("self_attn.v_proj", kv_heads);
        // Query heads of a group become rows, so that keys and values are never copied.
        let folded = [batch, kv_heads, heads / kv_heads * length, size];
        let scores = q_bhtd.reshape(folded).matmul(k_bktd.swap_dims(2, 3));
        let square = [batch, heads, length, length];
        let future = self.future_tt.clone().expand(square);
        let shares = softmax(scores.reshape(square).mask_fill(future, f32::NEG_INFINITY), 3);
        let rows_of_group = [batch, kv_heads, heads / kv_heads * length, length];
        let mixed = shares.reshape(rows_of_group).matmul(v_bktd);
        let merged =
            mixed.reshape([batch, heads, length, size]).swap_dims(1, 2).reshape([rows, hidden]);
        linear(merged, weight("self_attn.o_proj"))
    }

    /// Rotate-half `RoPE`, as Llama has it.
    fn rotate(&self, x_bhtd: Tensor<4>) -> Tensor<4> {
        let [batch, heads, length, size] = x_bhtd.dims();
        let half = size / 2;
        let part = |from: usize, to: usize| {
            x_bhtd.clone().slice([0..batch, 0..heads, 0..length, from..to])
        };
        let turned = Tensor::cat(vec![part(half, size).neg(), part(0, half)], 3);
        let on_graph = |table: &Tensor<4>| {
            if x_bhtd.is_autodiff() { Tensor::from_inner(table.clone()) } else { table.clone() }
        };
        x_bhtd.clone() * on_graph(&self.cos_td) + turned * on_graph(&self.sin_td)
    }
}

/// `x W^T`, W being [outputs, inputs].
fn linear(x_ni: Tensor<2>, weight_oi: Tensor<2>) -> Tensor<2> {
    x_ni.matmul(weight_oi.transpose())
}
