//! `tiny` against `PyTorch`: same weights, tokens and optimizer, so the same losses.
//!
//! Both sides make weights and tokens from one integer hash; only `PyTorch`'s results are on file
//! (`fixtures/pytorch_tiny.py` writes them).

use burn::tensor::Device;
use hm_domain::batch::{Batch, Sequence};
use hm_domain::id::DomainId;
use hm_domain::step::{Knobs, Verdict};

use crate::parameters::{of_values, shapes};
use crate::tests::spec;
use crate::{DeviceChoice, Trainer, preset};

#[derive(serde::Deserialize)]
struct Found {
    torch: String,
    losses: Vec<f64>,
    gradient_norms: Vec<f64>,
}

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

fn values(path: &str, shape: &[usize]) -> Vec<f32> {
    let (base, center) = (key(path), if shape.len() == 1 { 1.0 } else { 0.0 });
    (0..shape.iter().product::<usize>() as u64)
        .map(|index| (mix(base ^ index) >> 40) as f64 / f64::from(1 << 24))
        .map(|unit| (center + (unit - 0.5) * 0.1) as f32)
        .collect()
}

fn batch(step: usize, vocabulary: u64, width: u64) -> Batch {
    let base = key(&format!("tokens.{step}"));
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

#[test]
fn tiny_agrees_with_pytorch() {
    let found: Found = serde_json::from_str(include_str!("../fixtures/pytorch_tiny.json")).unwrap();
    let mut spec = spec();
    spec.model = preset("tiny").unwrap();
    let mut trainer = Trainer::new(&spec, DeviceChoice::Cpu).unwrap();
    let device = Device::flex();
    trainer.parameters = shapes(&spec.model)
        .into_iter()
        .map(|(path, shape)| {
            let values = values(&path, &shape);
            (path, of_values(shape, values, &device))
        })
        .collect();
    let knobs = Knobs { learning_rate: 1e-3, clip_norm: 1.0, loss_weights: vec![1.0, 1.0] };
    assert_eq!(found.losses.len(), 5);
    for step in 0..found.losses.len() {
        let batch = batch(step, u64::from(spec.model.vocabulary), 257);
        let seen = trainer.step(&batch, &knobs, &mut |_| Verdict::Proceed).unwrap().pre_step;
        for (name, ours, theirs) in [
            ("loss", seen.loss, found.losses[step]),
            ("gradient norm", seen.gradient_norm, found.gradient_norms[step]),
        ] {
            let apart = (ours - theirs).abs() / theirs;
            let torch = &found.torch;
            assert!(apart < 1e-4, "step {step} {name}: {ours}, torch {torch} has {theirs}");
        }
    }
}
