//! One block of the decoder: attention and `SwiGLU`, each normalised before and added to its input.

use burn::tensor::Tensor;

use crate::cpu::attention::Sizes;
use crate::cpu::rotary::Turn;
use crate::gradients::Gradients;
use crate::model::{Decoder, Weights};
use crate::ops::{Attended, Cache, Normed};

/// A block's weights and how to compute with them.
pub(crate) struct Block<'a> {
    pub(crate) decoder: &'a Decoder,
    pub(crate) weights: &'a Weights,
    pub(crate) layer: u32,
}

/// What a block keeps for its gradient.
pub(crate) enum Kept {
    /// Everything.
    Trace(Box<BlockTrace>),
    /// Its input alone: the rest is computed again.
    Input(Box<Tensor<2>>),
}

/// Everything that a block's gradient needs.
pub(crate) struct BlockTrace {
    x_nc: Tensor<2>,
    before_attention: Normed,
    q: Tensor<2>,
    k: Tensor<2>,
    v: Tensor<2>,
    /// Queries and keys before they were normalised, where they are.
    before_head_norms: [Option<BeforeNorm>; 2],
    attended: Attended,
    middle_nc: Tensor<2>,
    before_gate: Normed,
    gate_nf: Tensor<2>,
    up_nf: Tensor<2>,
}

/// What a norm was given, and each row's scale.
struct BeforeNorm {
    x: Tensor<2>,
    scale: Tensor<2>,
}

impl Block<'_> {
    /// The block's output.
    pub(crate) fn forward(&self, x_nc: Tensor<2>) -> (Tensor<2>, BlockTrace) {
        let Decoder { model, ops, angles } = self.decoder;
        let before_attention = ops.norm(&x_nc, self.weight("input_layernorm"), model.norm_epsilon);
        let [(q, q_before_norm), (k, k_before_norm), (v, _)] = self.project(&before_attention.y_nc);
        let [q, k] = [q, k].map(|heads| ops.turn(heads, angles, Turn::Forward));
        let attended = ops.attention(&q, &k, &v, self.sizes(&x_nc));
        let middle_nc =
            ops.linear_onto(x_nc.clone(), &attended.out, self.weight("self_attn.o_proj"));

        let before_gate =
            ops.norm(&middle_nc, self.weight("post_attention_layernorm"), model.norm_epsilon);
        let gate_nf = ops.linear(&before_gate.y_nc, self.weight("mlp.gate_proj"));
        let up_nf = ops.linear(&before_gate.y_nc, self.weight("mlp.up_proj"));
        let gated = ops.gate(&gate_nf, &up_nf);
        let out = ops.linear_onto(middle_nc.clone(), &gated, self.weight("mlp.down_proj"));
        let trace = BlockTrace {
            x_nc,
            before_attention,
            q,
            k,
            v,
            before_head_norms: [q_before_norm, k_before_norm],
            attended,
            middle_nc,
            before_gate,
            gate_nf,
            up_nf,
        };
        (out, trace)
    }

    /// The output of the next rows of one sequence, whose earlier ones are in the cache.
    pub(crate) fn onward(&self, x_nc: Tensor<2>, cache: &mut Cache) -> Tensor<2> {
        let Decoder { model, ops, angles } = self.decoder;
        let past = cache.positions();
        let sizes = Sizes { batch: 1, length: x_nc.dims()[0], past, ..self.sizes(&x_nc) };
        let y_nc = ops.norm(&x_nc, self.weight("input_layernorm"), model.norm_epsilon).y_nc;
        let [(q, _), (k, _), (v, _)] = self.project(&y_nc);
        let [q, k] = [q, k].map(|heads| ops.turn_from(past, heads, angles, Turn::Forward));
        let attended = ops.attention_onward([&q, &k, &v], sizes, cache);
        let x_nc = ops.linear_onto(x_nc, &attended, self.weight("self_attn.o_proj"));

        let weight = self.weight("post_attention_layernorm");
        let y_nc = ops.norm(&x_nc, weight, model.norm_epsilon).y_nc;
        let gate_nf = ops.linear(&y_nc, self.weight("mlp.gate_proj"));
        let up_nf = ops.linear(&y_nc, self.weight("mlp.up_proj"));
        ops.linear_onto(x_nc, &ops.gate(&gate_nf, &up_nf), self.weight("mlp.down_proj"))
    }

    /// Queries, keys and values that have not turned, and what was normalised where heads are.
    fn project(&self, y_nc: &Tensor<2>) -> [(Tensor<2>, Option<BeforeNorm>); 3] {
        let project = |name: &str| self.decoder.ops.linear(y_nc, self.weight(name));
        [
            self.head_norm("self_attn.q_norm", project("self_attn.q_proj")),
            self.head_norm("self_attn.k_norm", project("self_attn.k_proj")),
            (project("self_attn.v_proj"), None),
        ]
    }

    /// Adds the gradients of the block's weights; gives the one by its input.
    pub(crate) fn backward(
        &self,
        kept: Kept,
        dout_nc: Tensor<2>,
        gradients: &mut Gradients,
    ) -> Tensor<2> {
        let trace = match kept {
            Kept::Trace(trace) => *trace,
            Kept::Input(x_nc) => self.forward(*x_nc).1,
        };
        // Each part is let go as soon as it has served.
        let BlockTrace { x_nc, before_attention, q, k, v, attended, before_head_norms, .. } = trace;
        let ops = &self.decoder.ops;
        let dmiddle_nc = self.feed_forward_gradient(
            (trace.middle_nc, trace.before_gate),
            [trace.gate_nf, trace.up_nf],
            dout_nc,
            gradients,
        );
        let pair = (&dmiddle_nc, &attended.out);
        let dattended = self.linear_gradient("self_attn.o_proj", pair, None, gradients);
        let sizes = self.sizes(&x_nc);
        let [dq, dk, dv] = ops.attention_gradient(&dattended, [&q, &k, &v], &attended, sizes);
        drop((dattended, attended, q, k, v));
        let [dq, dk] = [dq, dk].map(|heads| ops.turn(heads, &self.decoder.angles, Turn::Back));
        let [q_before_norm, k_before_norm] = before_head_norms;
        let dq = self.head_norm_gradient("self_attn.q_norm", q_before_norm, dq, gradients);
        let dk = self.head_norm_gradient("self_attn.k_norm", k_before_norm, dk, gradients);
        let mut dy_nc = None;
        for (name, dy) in
            [("self_attn.q_proj", dq), ("self_attn.k_proj", dk), ("self_attn.v_proj", dv)]
        {
            let pair = (&dy, &before_attention.y_nc);
            dy_nc = Some(self.linear_gradient(name, pair, dy_nc, gradients));
        }
        let dy_nc = dy_nc.expect("three projections");
        let onto = (dmiddle_nc, &dy_nc);
        self.norm_gradient("input_layernorm", onto, &x_nc, &before_attention, gradients)
    }

    fn feed_forward_gradient(
        &self,
        (middle_nc, before_gate): (Tensor<2>, Normed),
        [gate_nf, up_nf]: [Tensor<2>; 2],
        dout_nc: Tensor<2>,
        gradients: &mut Gradients,
    ) -> Tensor<2> {
        let ops = &self.decoder.ops;
        let dgated = ops.input_gradient(None, &dout_nc, self.weight("mlp.down_proj"));
        let [dgate, dup, gated] = ops.gate_gradient(gate_nf, up_nf, dgated);
        let path = self.path("mlp.down_proj");
        let onto = gradients.take(&path);
        gradients.put(&path, ops.weight_gradient(onto, &dout_nc, &gated));
        let mut dy_nc = None;
        for (name, dy) in [("mlp.gate_proj", dgate), ("mlp.up_proj", dup)] {
            dy_nc = Some(self.linear_gradient(name, (&dy, &before_gate.y_nc), dy_nc, gradients));
        }
        let dy_nc = dy_nc.expect("two projections");
        let name = "post_attention_layernorm";
        self.norm_gradient(name, (dout_nc, &dy_nc), &middle_nc, &before_gate, gradients)
    }

    /// Adds a projection's gradient by its weight; gives the one by its input, added to `onto`.
    fn linear_gradient(
        &self,
        name: &str,
        (dy, x): (&Tensor<2>, &Tensor<2>),
        onto: Option<Tensor<2>>,
        gradients: &mut Gradients,
    ) -> Tensor<2> {
        let (ops, path) = (&self.decoder.ops, self.path(name));
        let sum = gradients.take(&path);
        gradients.put(&path, ops.weight_gradient(sum, dy, x));
        ops.input_gradient(onto, dy, &self.weights[&path])
    }

    /// Adds a norm's gradient by its weight; gives the one by its input, added to `onto`.
    fn norm_gradient(
        &self,
        name: &str,
        (onto, dy): (Tensor<2>, &Tensor<2>),
        x: &Tensor<2>,
        normed: &Normed,
        gradients: &mut Gradients,
    ) -> Tensor<2> {
        let path = self.path(name);
        let ops = &self.decoder.ops;
        let (dx, dweight) = ops.norm_gradient(onto, dy, x, &self.weights[&path], &normed.scale_n1);
        gradients.add(&path, dweight);
        dx
    }

    /// Every head of [N, heads * D] normalised by itself, where the model does so.
    fn head_norm(&self, name: &str, x: Tensor<2>) -> (Tensor<2>, Option<BeforeNorm>) {
        let model = &self.decoder.model;
        if !model.qk_norm {
            return (x, None);
        }
        let [rows, width] = x.dims();
        let size = model.head_size() as usize;
        let x = x.reshape([rows * width / size, size]);
        let Normed { y_nc, scale_n1 } =
            self.decoder.ops.norm(&x, self.weight(name), model.norm_epsilon);
        (y_nc.reshape([rows, width]), Some(BeforeNorm { x, scale: scale_n1 }))
    }

    fn head_norm_gradient(
        &self,
        name: &str,
        before: Option<BeforeNorm>,
        dy: Tensor<2>,
        gradients: &mut Gradients,
    ) -> Tensor<2> {
        let Some(BeforeNorm { x, scale }) = before else { return dy };
        let (whole, path) = (dy.dims(), self.path(name));
        let dy = dy.reshape(x.dims());
        let weight = &self.weights[&path];
        let (dx, dweight) = self.decoder.ops.norm_gradient(x.zeros_like(), &dy, &x, weight, &scale);
        gradients.add(&path, dweight);
        dx.reshape(whole)
    }

    fn path(&self, name: &str) -> String {
        format!("model.layers.{}.{name}.weight", self.layer)
    }

    fn weight(&self, name: &str) -> &Tensor<2> {
        &self.weights[&self.path(name)]
    }

    fn sizes(&self, x_nc: &Tensor<2>) -> Sizes {
        let model = &self.decoder.model;
        let length = model.sequence_length as usize;
        Sizes {
            batch: x_nc.dims()[0] / length,
            length,
            past: 0,
            heads: model.heads as usize,
            kv_heads: model.kv_heads as usize,
            size: model.head_size() as usize,
        }
    }
}
