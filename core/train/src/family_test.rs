//! The members of the family against Hugging Face transformers' Llama: at full size the shapes and their
//! number of parameters, scaled down the logits, every parameter's gradient and 20 steps' losses.
//!
//! `fixtures/transformers_family.py` writes what transformers finds. `HM_TRANSFORMERS_FAMILY` names
//! another file to agree with: `make verify-hf` has it written anew.

use std::collections::BTreeMap;

use hm_domain::id::Digest;
use hm_domain::spec::ModelSpec;
use hm_domain::step::{Knobs, Verdict};
use serde::Deserialize;

use crate::hashed::{batch, parameters};
use crate::ops::values;
use crate::parameters::shapes;
use crate::tests::spec;
use crate::{DeviceChoice, Trainer, preset};

#[derive(Deserialize)]
struct Found {
    members: BTreeMap<String, Member>,
    family: BTreeMap<String, Scaled>,
}

#[derive(Deserialize)]
struct Member {
    parameters: u64,
    listing_sha256: Digest,
}

#[derive(Deserialize)]
struct Scaled {
    model: ModelSpec,
    losses: Vec<f64>,
    logits: Vec<Logits>,
    gradients: BTreeMap<String, Gradient>,
}

#[derive(Deserialize)]
struct Logits {
    sequence: usize,
    position: usize,
    every_16th: Vec<f32>,
    log_sum: f64,
}

#[derive(Deserialize)]
struct Gradient {
    norm: f64,
    largest: f64,
    samples: Vec<(usize, f64)>,
}

fn found() -> Found {
    let text = match std::env::var_os("HM_TRANSFORMERS_FAMILY") {
        Some(path) => std::fs::read_to_string(path).unwrap(),
        None => include_str!("../fixtures/transformers_family.json").to_owned(),
    };
    serde_json::from_str(&text).unwrap()
}

/// The scaled member, filled from the hash: matrices with the member's deviation, norms around its
/// first value.
fn trainer(model: &ModelSpec) -> Trainer {
    let mut spec = spec();
    spec.model = model.clone();
    let mut trainer = Trainer::new(&spec, &DeviceChoice::Cpu).unwrap();
    *trainer.parameters_mut() = parameters(model, &|norm| match norm {
        true => (model.norm_init, 0.1 * model.norm_init),
        false => (0.0, model.init_std * 12f64.sqrt()),
    });
    trainer
}

/// The largest distance of a logit.
fn check_logits(name: &str, trainer: &Trainer, scaled: &Scaled) -> f64 {
    assert!(scaled.logits.len() >= 8, "{name}");
    let batch = batch(0, &scaled.model);
    let rows: Vec<Vec<Vec<f32>>> = batch
        .sequences
        .iter()
        .map(|sequence| trainer.logits(&sequence.tokens[..sequence.tokens.len() - 1]).unwrap())
        .collect();
    let mut largest = 0f64;
    for theirs in &scaled.logits {
        let ours = &rows[theirs.sequence][theirs.position];
        let log_sum = ours.iter().map(|&logit| f64::from(logit).exp()).sum::<f64>().ln();
        let mut apart = (log_sum - theirs.log_sum).abs();
        for (a, b) in ours.iter().step_by(16).zip(&theirs.every_16th) {
            apart = apart.max(f64::from((a - b).abs()));
        }
        let place = (theirs.sequence, theirs.position);
        // A tenth of what is promised: the logits of a narrow member are below 1.
        assert!(apart < 1e-5, "{name} {place:?}: logits are {apart} from those of transformers");
        largest = largest.max(apart);
    }
    largest
}

/// The largest distance of a gradient, in its parameter's norm or largest element.
///
/// After one unclipped update from zero moments, the first moment is (1 - beta1) times the gradient.
fn check_gradients(name: &str, mut trainer: Trainer, scaled: &Scaled) -> f64 {
    let knobs =
        Knobs { learning_rate: 0.0, clip_norm: 1e9, loss_weights: vec![1.0, 1.0], loss_scale: 1.0 };
    trainer.step(&batch(0, &scaled.model), &knobs, &mut |_| Verdict::Proceed).unwrap();
    assert!(scaled.gradients.keys().eq(trainer.parameters().keys()), "{name}: other parameters");
    let mut largest = 0f64;
    for (path, theirs) in &scaled.gradients {
        let moment = values(trainer.parameters()[path].first_moment.clone());
        let ours: Vec<f64> = moment.into_iter().map(|value| f64::from(value) / 0.1).collect();
        let norm = ours.iter().map(|value| value * value).sum::<f64>().sqrt();
        let mut apart = (norm - theirs.norm).abs() / theirs.norm;
        for &(place, value) in &theirs.samples {
            apart = apart.max((ours[place] - value).abs() / theirs.largest);
        }
        assert!(apart < 1e-4, "{name} {path}: {apart} from the gradient of transformers");
        largest = largest.max(apart);
    }
    largest
}

/// The largest relative distance of a loss.
fn check_losses(name: &str, mut trainer: Trainer, scaled: &Scaled) -> f64 {
    let knobs = Knobs {
        learning_rate: 1e-3,
        clip_norm: 1.0,
        loss_weights: vec![1.0, 1.0],
        loss_scale: 1.0,
    };
    assert_eq!(scaled.losses.len(), 20);
    let mut largest = 0f64;
    for (step, theirs) in scaled.losses.iter().enumerate() {
        let batch = batch(step, &scaled.model);
        let report = trainer.step(&batch, &knobs, &mut |_| Verdict::Proceed).unwrap();
        let ours = report.pre_step.loss;
        let apart = (ours - theirs).abs() / theirs;
        assert!(apart < 1e-4, "{name} step {step}: loss {ours}, transformers has {theirs}");
        largest = largest.max(apart);
    }
    largest
}

fn agrees(name: &str) {
    let scaled = &found().family[name];
    let logits = check_logits(name, &trainer(&scaled.model), scaled);
    let gradients = check_gradients(name, trainer(&scaled.model), scaled);
    let losses = check_losses(name, trainer(&scaled.model), scaled);
    println!("{name}: logits within {logits:.0e}, gradients {gradients:.0e}, losses {losses:.0e}");
}

#[test]
fn scaled_7b_agrees_with_transformers() {
    agrees("7b");
}

#[test]
fn scaled_34b_agrees_with_transformers() {
    agrees("34b");
}

#[test]
fn scaled_70b_agrees_with_transformers() {
    agrees("70b");
}

#[test]
fn scaled_members_share_heads_and_first_values_with_the_members() {
    for (name, scaled) in found().family {
        let (member, scaled) = (preset(&name).unwrap(), scaled.model);
        assert_eq!(member.heads / member.kv_heads, scaled.heads / scaled.kv_heads, "{name}");
        assert_eq!(
            (member.norm_init, member.init_std, member.rope_base, member.norm_epsilon),
            (scaled.norm_init, scaled.init_std, scaled.rope_base, scaled.norm_epsilon),
            "{name}"
        );
    }
}

#[test]
fn members_have_the_tensors_of_transformers_llama_and_its_parameter_count() {
    let members = found().members;
    assert!(members.keys().eq(["34b", "70b", "7b"]));
    for (name, theirs) in members {
        let model = preset(&name).unwrap();
        let listing: String = shapes(&model)
            .iter()
            .map(|(path, shape)| format!("{path} {}\n", listed(shape)))
            .collect();
        assert_eq!(model.parameter_count(), theirs.parameters, "{name}");
        assert_eq!(Digest::of(listing.as_bytes()), theirs.listing_sha256, "{name}");
    }
}

fn listed(shape: &[usize]) -> String {
    serde_json::to_string(shape).unwrap()
}
