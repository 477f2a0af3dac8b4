//! `tiny` against `PyTorch`: same weights, tokens and optimizer, so the same losses.
//!
//! Both sides make weights and tokens from one integer hash; only `PyTorch`'s results are on file
//! (`fixtures/pytorch_tiny.py` writes them).

use hm_domain::step::{Knobs, Verdict};

use crate::hashed::{batch, parameters};
use crate::tests::spec;
use crate::{DeviceChoice, Trainer, preset};

#[derive(serde::Deserialize)]
struct Found {
    torch: String,
    losses: Vec<f64>,
    gradient_norms: Vec<f64>,
}

#[test]
fn tiny_agrees_with_pytorch() {
    let found: Found = serde_json::from_str(include_str!("../fixtures/pytorch_tiny.json")).unwrap();
    let mut spec = spec();
    spec.model = preset("tiny").unwrap();
    let mut trainer = Trainer::new(&spec, &DeviceChoice::Cpu).unwrap();
    *trainer.parameters_mut() =
        parameters(&spec.model, &|norm| if norm { (1.0, 0.1) } else { (0.0, 0.1) });
    let knobs = Knobs {
        learning_rate: 1e-3,
        clip_norm: 1.0,
        loss_weights: vec![1.0, 1.0],
        loss_scale: 1.0,
    };
    assert_eq!(found.losses.len(), 5);
    for step in 0..found.losses.len() {
        let batch = batch(step, &spec.model);
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
