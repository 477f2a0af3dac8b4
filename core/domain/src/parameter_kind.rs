//! Kinds of parameters of a decoder: the last part of their paths, as `q_proj` is of
//! `model.layers.0.self_attn.q_proj.weight`.

use crate::spec::ModelSpec;

/// One kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParameterKind {
    /// Its name.
    pub name: &'static str,
    /// Whether every block has one; a model has one of the others.
    pub in_blocks: bool,
    /// Whether only models with normalised query and key heads have it.
    pub of_qk_norm: bool,
}

const fn block(name: &'static str) -> ParameterKind {
    ParameterKind { name, in_blocks: true, of_qk_norm: false }
}

const fn head(name: &'static str) -> ParameterKind {
    ParameterKind { of_qk_norm: true, ..block(name) }
}

const fn whole(name: &'static str) -> ParameterKind {
    ParameterKind { in_blocks: false, ..block(name) }
}

/// All kinds, in the order in which a measurement names them.
pub const PARAMETER_KINDS: &[ParameterKind] = &[
    block("q_proj"),
    block("k_proj"),
    block("v_proj"),
    block("o_proj"),
    block("gate_proj"),
    block("up_proj"),
    block("down_proj"),
    block("input_layernorm"),
    block("post_attention_layernorm"),
    head("q_norm"),
    head("k_norm"),
    whole("embed_tokens"),
    whole("norm"),
    whole("lm_head"),
];

/// Name of every kind that a model has, and how many layers have it.
pub fn kinds(model: &ModelSpec) -> impl Iterator<Item = (&'static str, usize)> {
    let (qk_norm, layers) = (model.qk_norm, model.layers as usize);
    PARAMETER_KINDS
        .iter()
        .filter(move |kind| qk_norm || !kind.of_qk_norm)
        .map(move |kind| (kind.name, if kind.in_blocks { layers } else { 1 }))
}
