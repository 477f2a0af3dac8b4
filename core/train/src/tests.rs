//! The trainer as a whole, on `nano`.

use burn::tensor::{Int, Tensor, TensorData};
use hm_domain::batch::{Batch, Sequence};
use hm_domain::checkpoint::CheckpointState;
use hm_domain::id::{Digest, DomainId};
use hm_domain::knobs::Overrides;
use hm_domain::mixture::Mixture;
use hm_domain::precision::Precision;
use hm_domain::schedule::{Schedule, Shape, Warmup};
use hm_domain::spec::*;
use hm_domain::step::{Knobs, PreStep, Verdict};

use crate::cpu::cross_entropy::Objective;
use crate::ops::{Ops, values};
use crate::*;

pub(crate) fn spec() -> RunSpec {
    let domain = |name: &str| DomainSpec {
        name: name.to_owned(),
        prior: 0.5,
        floor: 0.0,
        cap: 1.0,
        max_epochs: None,
        segments: Vec::new(),
        validation: None,
    };
    RunSpec {
        name: "test".to_owned(),
        seed: 3,
        model: preset("nano").unwrap(),
        training: TrainingSpec {
            steps: 20,
            sequences_per_step: 4,
            micro_batch_sequences: 4,
            recompute_blocks: false,
            precision: Precision::F32,
            z_loss: 0.0,
            batch_ramp: None,
        },
        optimizer: OptimizerSpec {
            beta1: 0.9,
            beta2: 0.95,
            epsilon: 1e-8,
            weight_decay: 0.1,
            clip_norm: 1.0,
        },
        schedule: Schedule {
            peak: 1e-3,
            minimum: 1e-4,
            warmup: Warmup::Steps(2),
            shape: Shape::Cosine,
        },
        domains: vec![domain("a"), domain("b")],
        tokenizer: Digest::ZERO,
        rules: RulesSpec { version: 1, rate_limit: None, freeze_steps: 0 },
        validation: ValidationSpec { every_steps: 0, sequences_per_domain: 0 },
        checkpoint: CheckpointSpec { every_steps: 10, keep: 1, keep_every: 0 },
        decision_lag: 0,
        initial_weights: None,
        plugins: Vec::new(),
    }
}

pub(crate) fn trainer(spec: &RunSpec) -> Trainer {
    Trainer::new(spec, &DeviceChoice::Cpu).unwrap()
}

/// Four sequences, two of each domain; the second domain's are harder to learn.
pub(crate) fn batch(step: u32) -> Batch {
    let sequence = |index: u32| {
        let stride = if index < 2 { 3 } else { 17 + step };
        let tokens = (0..65).map(|position| (index * 5 + position * stride) % 512).collect();
        Sequence { domain: DomainId(index / 2), tokens }
    };
    Batch { sequences: (0..4).map(sequence).collect(), draws: Vec::new() }
}

pub(crate) fn knobs() -> Knobs {
    Knobs { learning_rate: 1e-3, clip_norm: 1.0, loss_weights: vec![1.0, 1.0], loss_scale: 1.0 }
}

pub(crate) fn step(trainer: &mut Trainer, number: u32, verdict: Verdict) -> PreStep {
    trainer.step(&batch(number), &knobs(), &mut |_| verdict).unwrap().pre_step
}

pub(crate) fn state(trainer: &Trainer, next_step: u64) -> CheckpointState {
    CheckpointState {
        attempt: 0,
        next_step,
        updates: trainer.updates(),
        tokens: 0,
        cursors: Vec::new(),
        carries: Vec::new(),
        mixture: Mixture::from_shares(0, &[1.0, 1.0]).unwrap(),
        pending: Vec::new(),
        loss_weights: vec![1.0, 1.0],
        overrides: Overrides::default(),
        plugin_states: Vec::new(),
    }
}

pub(crate) fn digest(trainer: &Trainer) -> Digest {
    let folder = tempfile::tempdir().unwrap();
    trainer.save(folder.path(), &state(trainer, 0)).unwrap().digest
}

#[test]
fn first_loss_is_near_that_of_a_uniform_guess_and_falls() {
    let mut trainer = trainer(&spec());
    let first = step(&mut trainer, 0, Verdict::Proceed);
    // ln 512 = 6.238; small initial weights say nothing yet.
    assert!((first.loss - 512f64.ln()).abs() < 0.05, "{}", first.loss);
    let last = (0..40).map(|_| step(&mut trainer, 0, Verdict::Proceed).loss).last().unwrap();
    assert!(last < 0.8 * first.loss, "{last}");
    assert_eq!(first.losses[0].tokens, 128);
    let sum: f64 = first.losses.iter().map(|sums| sums.loss_sum).sum();
    assert!((sum / 256.0 - first.loss).abs() < 1e-12);
}

#[test]
fn chunked_head_agrees_with_plain_cross_entropy_and_its_gradients() {
    let device = burn::tensor::Device::flex();
    let tensor = |rows: usize, columns: usize, seed: f32| {
        let count = rows * columns;
        let data: Vec<f32> = (0..count).map(|i| ((i as f32 + seed) * 0.7).sin()).collect();
        Tensor::<2>::from_data(TensorData::new(data, [rows, columns]), &device)
    };
    // More rows than one chunk, and not a multiple of it.
    let (hidden, weight) = (tensor(600, 8, 1.0), tensor(8192, 8, 2.0));
    let targets: Vec<u32> = (0..600).map(|row| row * 7 % 8192).collect();
    let scales: Vec<f32> = (0..600).map(|row| 0.001 + row as f32 * 1e-5).collect();
    let z_loss = 0.02;
    let objective = Objective { scales: &scales, z_loss };
    let chunked = Ops::of(&device).head(&hidden, &weight, &targets, Some(objective), None);

    let hidden = Tensor::<2>::from_inner(hidden).require_grad();
    let weight = Tensor::<2>::from_inner(weight).require_grad();
    let logits = hidden.clone().matmul(weight.clone().transpose());
    let ids: Vec<i32> = targets.iter().map(|&id| id as i32).collect();
    let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, [600, 1]), &device);
    let logs = burn::tensor::activation::log_softmax(logits.clone(), 1);
    let log_z = logits.exp().sum_dim(1).log();
    let losses = logs.gather(1, Tensor::from_inner(ids)).neg();
    let scale = Tensor::<2>::from_data(TensorData::new(scales, [600, 1]), &device);
    let objective = losses.clone() + log_z.clone() * log_z * z_loss;
    let graph = (objective * Tensor::from_inner(scale)).sum().backward();

    let close = |a: &[f32], b: &[f32]| {
        assert_eq!(a.len(), b.len());
        a.iter().zip(b).for_each(|(a, b)| assert!((a - b).abs() < 1e-5, "{a} {b}"));
    };
    close(&values(chunked.losses_n1), &values(losses.inner()));
    let (by_hidden, by_weight) = chunked.gradients.unwrap();
    close(&values(by_hidden), &values(hidden.grad(&graph).unwrap()));
    close(&values(by_weight), &values(weight.grad(&graph).unwrap()));
}

/// Every step of a run with these blocks computed again for the gradient.
#[test]
fn blocks_computed_again_give_the_same_bits() {
    let mut again = spec();
    again.training.recompute_blocks = true;
    let digests = [spec(), again].map(|spec| {
        let mut trainer = trainer(&spec);
        (0..3).for_each(|number| drop(step(&mut trainer, number, Verdict::Proceed)));
        digest(&trainer)
    });
    assert_eq!(digests[0], digests[1]);
}

#[test]
fn gradients_agree_with_finite_differences() {
    assert_gradients_are_slopes(spec());
}

#[test]
fn gradients_with_normalised_heads_agree_with_finite_differences() {
    let mut spec = spec();
    spec.model.qk_norm = true;
    assert_gradients_are_slopes(spec);
}

/// Of every parameter the element with the largest gradient, moved a little to both sides.
fn assert_gradients_are_slopes(mut spec: RunSpec) {
    spec.optimizer.clip_norm = 1e9;
    // Weights large enough that every part of the model matters.
    spec.model.init_std = 0.12;
    let mut updated = trainer(&spec);
    let knobs = Knobs { clip_norm: 1e9, ..knobs() };
    updated.step(&batch(0), &knobs, &mut |_| Verdict::Proceed).unwrap();
    let mut moved = trainer(&spec);
    for (path, parameter) in updated.parameters() {
        // After one update from zero moments, the first moment is (1 - beta1) times the gradient.
        let gradient: Vec<f64> = values(parameter.first_moment.clone())
            .into_iter()
            .map(|moment| f64::from(moment) / 0.1)
            .collect();
        let size = |at: &usize| gradient[*at].abs();
        let at = (0..gradient.len()).max_by(|a, b| size(a).total_cmp(&size(b))).unwrap();
        let slope = slope(&mut moved, path, at);
        let difference = (gradient[at] - slope).abs();
        assert!(difference < 1e-2 * slope.abs(), "{path}[{at}]: {}, slope {slope}", gradient[at]);
    }
}

/// How much the loss changes with one element.
fn slope(trainer: &mut Trainer, path: &str, at: usize) -> f64 {
    let width = 2e-3f32;
    let parameter = trainer.parameters()[path].clone();
    let mut loss_with = |change: f32| {
        let mut data = values(parameter.value.clone());
        data[at] += change;
        let shape = parameter.value.dims();
        let device = burn::tensor::Device::flex();
        let value = Tensor::<2>::from_data(TensorData::new(data, shape), &device);
        trainer.parameters_mut().get_mut(path).unwrap().value = value;
        let sums = trainer.validate(&batch(0)).unwrap();
        sums.iter().map(|sums| sums.loss_sum).sum::<f64>() / 256.0
    };
    let slope = (loss_with(width) - loss_with(-width)) / f64::from(2.0 * width);
    trainer.parameters_mut().insert(path.to_owned(), parameter);
    slope
}

#[test]
fn two_micro_batches_equal_one_batch() {
    let whole = spec();
    let mut parts = spec();
    parts.training.micro_batch_sequences = 2;
    let (mut a, mut b) = (trainer(&whole), trainer(&parts));
    for number in 0..3 {
        let (a, b) =
            (step(&mut a, number, Verdict::Proceed), step(&mut b, number, Verdict::Proceed));
        assert!((a.loss - b.loss).abs() < 1e-6 * a.loss, "{} {}", a.loss, b.loss);
        assert!((a.gradient_norm - b.gradient_norm).abs() < 1e-5 * a.gradient_norm);
    }
}

#[test]
fn loss_weights_multiply_their_domain_and_leave_the_sums() {
    let mut plain = trainer(&spec());
    let mut weighted = trainer(&spec());
    let knobs = Knobs { loss_weights: vec![2.0, 0.0], ..knobs() };
    let seen = weighted.step(&batch(0), &knobs, &mut |_| Verdict::Skip).unwrap().pre_step;
    let plain = step(&mut plain, 0, Verdict::Skip);
    assert_eq!(seen.losses, plain.losses);
    assert_eq!(seen.loss, 2.0 * plain.losses[0].loss_sum / 256.0);
    assert_ne!(seen.gradient_norm, plain.gradient_norm);
}

#[test]
fn skip_and_halt_leave_the_weights_to_the_bit_and_clip_is_obeyed() {
    let mut trainer = trainer(&spec());
    step(&mut trainer, 0, Verdict::Proceed);
    let before = digest(&trainer);
    step(&mut trainer, 1, Verdict::Skip);
    step(&mut trainer, 1, Verdict::Halt);
    assert_eq!((digest(&trainer), trainer.updates()), (before, 1));
    let report = trainer.step(&batch(1), &knobs(), &mut |_| Verdict::ClipTo(0.01)).unwrap();
    assert_eq!(report.effective_clip, 0.01);
    assert_ne!(digest(&trainer), before);
}

#[test]
fn resumed_run_matches_unbroken_run() {
    let folder = tempfile::tempdir().unwrap();
    let mut unbroken = trainer(&spec());
    (0..5).for_each(|number| drop(step(&mut unbroken, number, Verdict::Proceed)));
    let saved = unbroken.save(folder.path(), &state(&unbroken, 5)).unwrap();
    let mut other = spec();
    other.seed = 99;
    let mut resumed = trainer(&other);
    let held = resumed.load(&folder.path().join(&saved.folder), saved.digest).unwrap();
    assert_eq!(held, state(&unbroken, 5));
    for number in 5..10 {
        let losses = [&mut unbroken, &mut resumed].map(|t| step(t, number, Verdict::Proceed));
        assert_eq!(losses[0], losses[1], "step {number}");
    }
    assert_eq!(digest(&unbroken), digest(&resumed));
}

#[test]
fn step_that_is_not_finite_never_updates_whatever_the_gate_says() {
    // A loss weight beyond f32 makes every gradient infinite or NaN, but not the loss.
    let overflowing = Knobs { loss_weights: vec![1e300, 1.0], ..knobs() };
    let mut trainer = trainer(&spec());
    step(&mut trainer, 0, Verdict::Proceed);
    let before = digest(&trainer);
    let answers = [
        (Verdict::Proceed, Verdict::Skip),
        (Verdict::ClipTo(0.5), Verdict::Skip),
        (Verdict::Skip, Verdict::Skip),
        (Verdict::Halt, Verdict::Halt),
    ];
    for (answer, done) in answers {
        let report = trainer.step(&batch(1), &overflowing, &mut |_| answer).unwrap();
        assert!(report.pre_step.nonfinite_count > 0, "the gate is shown the count");
        assert_eq!((report.verdict, report.effective_clip), (done, 1.0));
        assert_eq!((digest(&trainer), trainer.updates()), (before, 1));
    }
}

#[test]
fn skipped_by_the_host_is_the_same_run_when_trained_again_under_the_log() {
    let knobs_of = |number: u32| match number {
        2 => Knobs { loss_weights: vec![1e300, 1.0], ..knobs() },
        _ => knobs(),
    };
    let mut first = trainer(&spec());
    let log: Vec<Verdict> = (0..5)
        .map(|number| {
            let mut proceed = |_: &PreStep| Verdict::Proceed;
            first.step(&batch(number), &knobs_of(number), &mut proceed).unwrap().verdict
        })
        .collect();
    assert_eq!(log[2], Verdict::Skip);
    assert_eq!((log[3], first.updates()), (Verdict::Proceed, 4));
    let mut again = trainer(&spec());
    for (number, &logged) in (0..).zip(&log) {
        let report = again.step(&batch(number), &knobs_of(number), &mut |_| logged).unwrap();
        assert_eq!(report.verdict, logged);
    }
    assert_eq!((digest(&again), again.updates()), (digest(&first), first.updates()));
}

#[test]
fn gradients_whose_squares_overflow_f32_are_clipped_like_any_others() {
    let direction = |factor: f64| {
        let mut trainer = trainer(&spec());
        let loss_weights = vec![factor, factor];
        let knobs = Knobs { loss_weights, clip_norm: 1e-3, ..knobs() };
        let report = trainer.step(&batch(0), &knobs, &mut |_| Verdict::Proceed).unwrap();
        assert_eq!(report.pre_step.nonfinite_count, 0);
        assert_eq!(report.verdict, Verdict::Proceed);
        let norm = report.pre_step.gradient_norm / factor;
        (norm, values(trainer.parameters()["lm_head.weight"].first_moment.clone()))
    };
    let ((norm, plain), (large_norm, large)) = (direction(1.0), direction(1e24));
    assert!((large_norm / norm - 1.0).abs() < 1e-4, "{large_norm} {norm}");
    let largest = plain.iter().fold(0f32, |largest, value| largest.max(value.abs()));
    assert!(largest > 0.0);
    plain.iter().zip(&large).for_each(|(a, b)| assert!((a - b).abs() < 1e-3 * largest, "{a} {b}"));
}

#[test]
fn clip_below_zero_never_turns_the_step_uphill() {
    let mut trainer = trainer(&spec());
    trainer.step(&batch(0), &knobs(), &mut |_| Verdict::ClipTo(-1.0)).unwrap();
    let moments = values(trainer.parameters()["lm_head.weight"].first_moment.clone());
    assert!(moments.iter().all(|&moment| moment == 0.0));
}

#[cfg(not(feature = "cuda"))]
#[test]
fn cuda_that_is_not_built_in_is_a_sentence() {
    let error = Trainer::new(&spec(), &DeviceChoice::Cuda(vec![0])).err().unwrap();
    assert!(error.to_string().contains("--device cpu"), "{error}");
}
