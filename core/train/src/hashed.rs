//! Weights and tokens from one integer hash, the same on both sides of an agreement test:
//! `fixtures/hashed.py` is this file in Python.

use burn::tensor::Device;
use hm_domain::batch::{Batch, Sequence};
use hm_domain::id::DomainId;
use hm_domain::spec::ModelSpec;

use crate::parameters::{Parameters, of_values, shapes};

/// The output function of `SplitMix64` (Steele, Lea and Flood, 2014).
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// FNV-1a over the path's bytes (Fowler, Noll and Vo).
fn key(path: &str) -> u64 {
    path.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Uniform in `center` +- `width` / 2.
fn values(path: &str, count: usize, center: f64, width: f64) -> Vec<f32> {
    let base = key(path);
    (0..count as u64)
        .map(|index| (mix(base ^ index) >> 40) as f64 / f64::from(1 << 24))
        .map(|unit| (center + (unit - 0.5) * width) as f32)
        .collect()
}

/// A model's parameters; `range` gives center and width for matrices (false) and norms (true).
pub(crate) fn parameters(model: &ModelSpec, range: &dyn Fn(bool) -> (f64, f64)) -> Parameters {
    let device = Device::flex();
    shapes(model)
        .into_iter()
        .map(|(path, shape)| {
            let (center, width) = range(shape.len() == 1);
            let values = values(&path, shape.iter().product(), center, width);
            (path, of_values(shape, values, &device))
        })
        .collect()
}

/// Two sequences of a domain each; low ids are likelier, so that there is something to learn.
pub(crate) fn batch(step: usize, model: &ModelSpec) -> Batch {
    let (base, vocabulary) = (key(&format!("tokens.{step}")), u64::from(model.vocabulary));
    let width = u64::from(model.sequence_length) + 1;
    let token = |index: u64| {
        let high = mix(base ^ index);
        ((high >> 32) % vocabulary % (1 + (high & 0xffff) % vocabulary)) as u32
    };
    let sequence = |row: u64| Sequence {
        domain: DomainId(row as u32),
        tokens: (row * width..(row + 1) * width).map(token).collect(),
    };
    Batch { sequences: (0..2).map(sequence).collect(), draws: Vec::new() }
}
