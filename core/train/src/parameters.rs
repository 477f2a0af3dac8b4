//! The parameters of an Aquila2 decoder by their Hugging Face Llama paths, and their first values.
//!
//! Matrices are stored as [outputs, inputs]; norms as one row.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor, TensorData};
use hm_domain::id::Digest;
use hm_domain::spec::ModelSpec;
use rayon::prelude::*;

use crate::ops::moved;
use crate::split_mix::SplitMix64;

/// Path of the embedding.
pub(crate) const EMBEDDING: &str = "model.embed_tokens.weight";
/// Path of the head.
pub(crate) const HEAD: &str = "lm_head.weight";

/// One parameter with its Adam moments, all off the autodiff graph.
#[derive(Clone)]
pub(crate) struct Parameter {
    /// Shape in files: norms have one axis.
    pub(crate) shape: Vec<usize>,
    pub(crate) value: Tensor<2>,
    pub(crate) first_moment: Tensor<2>,
    pub(crate) second_moment: Tensor<2>,
}

impl Parameter {
    /// Whether it is a matrix: norms are not. Matrices decay, norms do not.
    pub(crate) fn is_matrix(&self) -> bool {
        self.shape.len() == 2
    }

    /// A copy on another device.
    pub(crate) fn on(&self, device: &Device) -> Parameter {
        let copy = |tensor: &Tensor<2>| moved(tensor, device);
        Parameter {
            shape: self.shape.clone(),
            value: copy(&self.value),
            first_moment: copy(&self.first_moment),
            second_moment: copy(&self.second_moment),
        }
    }
}

/// All parameters, in order of path.
pub(crate) type Parameters = BTreeMap<String, Parameter>;

pub(crate) fn rows_and_columns(shape: &[usize]) -> [usize; 2] {
    match shape {
        [rows, columns] => [*rows, *columns],
        [columns] => [1, *columns],
        _ => unreachable!("a decoder has matrices and vectors only"),
    }
}

/// Path and shape of every parameter.
pub(crate) fn shapes(model: &ModelSpec) -> BTreeMap<String, Vec<usize>> {
    let [hidden, ffn, vocabulary] =
        [model.hidden_size, model.ffn_size, model.vocabulary].map(|size| size as usize);
    let kv = (model.kv_heads * model.head_size()) as usize;
    let mut shapes = BTreeMap::from([
        (EMBEDDING.to_owned(), vec![vocabulary, hidden]),
        ("model.norm.weight".to_owned(), vec![hidden]),
        (HEAD.to_owned(), vec![vocabulary, hidden]),
    ]);
    for layer in 0..model.layers {
        for (name, shape) in [
            ("self_attn.q_proj", vec![hidden, hidden]),
            ("self_attn.k_proj", vec![kv, hidden]),
            ("self_attn.v_proj", vec![kv, hidden]),
            ("self_attn.o_proj", vec![hidden, hidden]),
            ("mlp.gate_proj", vec![ffn, hidden]),
            ("mlp.up_proj", vec![ffn, hidden]),
            ("mlp.down_proj", vec![hidden, ffn]),
            ("input_layernorm", vec![hidden]),
            ("post_attention_layernorm", vec![hidden]),
        ] {
            shapes.insert(format!("model.layers.{layer}.{name}.weight"), shape);
        }
        if model.qk_norm {
            for name in ["q_norm", "k_norm"] {
                let path = format!("model.layers.{layer}.self_attn.{name}.weight");
                shapes.insert(path, vec![model.head_size() as usize]);
            }
        }
    }
    shapes
}

/// How the first values of a parameter are made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum FirstValues {
    /// From N(0, std).
    Normal {
        /// Standard deviation.
        std: f64,
    },
    /// All the same.
    Constant(f64),
}

/// Matrices, embedding and head included, from N(0, `init_std`), those that write to the residual stream
/// smaller where the model has it so; norms of hidden states at `norm_init`, those of heads, which the
/// family does not have, at 1.
pub(crate) fn first_values(model: &ModelSpec, path: &str, shape: &[usize]) -> FirstValues {
    let writes = path.ends_with("o_proj.weight") || path.ends_with("down_proj.weight");
    match shape.len() {
        2 if writes && model.scaled_init => {
            FirstValues::Normal { std: model.init_std / (2.0 * f64::from(model.layers)).sqrt() }
        }
        2 => FirstValues::Normal { std: model.init_std },
        _ if path.contains("self_attn") => FirstValues::Constant(1.0),
        _ => FirstValues::Constant(model.norm_init),
    }
}

/// First values of every parameter on a device.
pub(crate) fn initial(model: &ModelSpec, seed: u64, device: &Device) -> Parameters {
    drawn(model, seed, &|shape, values| of_values(shape, values, device))
}

/// First values of every parameter, keyed by seed and path alone; `made` makes a parameter of a shape and
/// values.
pub(crate) fn drawn(
    model: &ModelSpec,
    seed: u64,
    made: &dyn Fn(Vec<usize>, Vec<f32>) -> Parameter,
) -> Parameters {
    shapes(model)
        .into_iter()
        .map(|(path, shape)| {
            let count = shape.iter().product();
            let values = match first_values(model, &path, &shape) {
                FirstValues::Normal { std } => normal(count, std, seed, &path),
                FirstValues::Constant(value) => vec![value as f32; count],
            };
            (path, made(shape, values))
        })
        .collect()
}

/// Copies on another device.
pub(crate) fn on(parameters: &Parameters, device: &Device) -> Parameters {
    parameters.iter().map(|(path, one)| (path.clone(), one.on(device))).collect()
}

/// A parameter with zero moments.
pub(crate) fn of_values(shape: Vec<usize>, values: Vec<f32>, device: &Device) -> Parameter {
    let size = rows_and_columns(&shape);
    Parameter {
        value: Tensor::from_data(TensorData::new(values, size), device),
        first_moment: Tensor::zeros(size, device),
        second_moment: Tensor::zeros(size, device),
        shape,
    }
}

/// Numbers that one thread draws at once; even, since they are made in pairs.
const DRAWN_AT_ONCE: usize = 1 << 14;

/// Box-Muller over `SplitMix64`, a number of which goes into each value: whatever thread draws a part
/// begins where the part before it ends, so the values depend on seed and path alone.
fn normal(count: usize, std: f64, seed: u64, path: &str) -> Vec<f32> {
    let digest = Digest::of(format!("heurimentor.init.v1\0{seed}\0{path}").as_bytes());
    let state = u64::from_le_bytes(digest.0[..8].try_into().expect("eight bytes"));
    let mut values = vec![0.0; count];
    values.par_chunks_mut(DRAWN_AT_ONCE).enumerate().for_each(|(index, part)| {
        let mut bits = SplitMix64(state).after((index * DRAWN_AT_ONCE) as u64);
        // Never 0: the logarithm below is finite.
        let mut uniform = || (bits.next_53_bits() as f64 + 0.5) / (1u64 << 53) as f64;
        for pair in part.chunks_mut(2) {
            let radius = std * (-2.0 * uniform().ln()).sqrt();
            let angle = std::f64::consts::TAU * uniform();
            pair[0] = (radius * angle.cos()) as f32;
            if let [_, second] = pair {
                *second = (radius * angle.sin()) as f32;
            }
        }
    });
    values
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presets::preset;

    #[test]
    fn shapes_add_up_to_the_parameter_count() {
        for (name, qk_norm) in [("nano", false), ("nano", true), ("tiny", false), ("34b", false)] {
            let model = ModelSpec { qk_norm, ..preset(name).unwrap() };
            let count: usize =
                shapes(&model).values().map(|shape| shape.iter().product::<usize>()).sum();
            assert_eq!(count as u64, model.parameter_count(), "{name}");
        }
    }

    #[test]
    fn initial_values_have_the_deviation_asked_for() {
        let values = normal(100_000, 0.02, 1, "x");
        let mean = values.iter().map(|&value| f64::from(value)).sum::<f64>() / 1e5;
        let square = values.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>() / 1e5;
        assert!(mean.abs() < 3e-4 && (square.sqrt() - 0.02).abs() < 2e-4, "{mean} {square}");
        assert_ne!(values[..10], normal(10, 0.02, 1, "y")[..]);
        assert_eq!(values[..10], normal(10, 0.02, 1, "x")[..]);
    }

    #[test]
    fn drawn_values_do_not_depend_on_the_number_of_threads() {
        // An odd count over several parts.
        let count = 3 * DRAWN_AT_ONCE + 7;
        let with = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| normal(count, 0.02, 5, "x"))
        };
        let drawn = with(1);
        assert_eq!(drawn, with(3));
        // One number after another, as if there were no parts.
        let state = Digest::of(b"heurimentor.init.v1\x005\0x").0[..8].try_into().unwrap();
        let mut bits = SplitMix64(u64::from_le_bytes(state));
        let mut uniform = || (bits.next_53_bits() as f64 + 0.5) / (1u64 << 53) as f64;
        for pair in drawn.chunks(2) {
            let radius = 0.02 * (-2.0 * uniform().ln()).sqrt();
            let angle = std::f64::consts::TAU * uniform();
            let due = [(radius * angle.cos()) as f32, (radius * angle.sin()) as f32];
            assert_eq!(pair, &due[..pair.len()]);
        }
    }

    #[test]
    fn output_projections_begin_smaller_by_the_root_of_twice_the_layers() {
        let model = ModelSpec { layers: 8, ..preset("tiny").unwrap() };
        let deviation = |model: &ModelSpec, end: &str| {
            let parameters = initial(model, 1, &Device::flex());
            let path = format!("model.layers.3.{end}.weight");
            let values = crate::ops::values(parameters[&path].value.clone());
            let square: f64 = values.iter().map(|&value| f64::from(value).powi(2)).sum();
            (square / values.len() as f64).sqrt()
        };
        for (end, scale) in [
            ("self_attn.o_proj", 4.0),
            ("mlp.down_proj", 4.0),
            ("self_attn.q_proj", 1.0),
            ("mlp.up_proj", 1.0),
        ] {
            // 65,536 values at least: the deviation is off by 0.3 % at one sigma.
            let found = deviation(&model, end) * scale / model.init_std;
            assert!((found - 1.0).abs() < 0.012, "{end}: {found}");
            let plain = ModelSpec { scaled_init: false, ..model.clone() };
            let found = deviation(&plain, end) / model.init_std;
            assert!((found - 1.0).abs() < 0.012, "{end}: {found}");
        }
    }
}
