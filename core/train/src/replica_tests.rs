//! Precisions and replicas: what CUDA does, by the same tensor operations, on the CPU.

use burn::tensor::Device;
use hm_domain::precision::Precision;
use hm_domain::ramp::BatchRamp;
use hm_domain::spec::RunSpec;
use hm_domain::step::{Knobs, PreStep, Verdict};

use crate::ops::{DeviceFailed, Ops, values};
use crate::replica::Pass;
use crate::tests::{batch, digest, knobs, spec, trainer};
use crate::{DeviceChoice, Devices, TrainError, Trainer};

/// A trainer of tensor operations, as every device but the CPU has.
fn composed(spec: &RunSpec, precision: Precision, replicas: usize) -> Trainer {
    let ops = Ops::composed(&Device::flex()).computing_in(precision).unwrap();
    Trainer::computing_with(spec, vec![ops; replicas], "tensors".to_owned()).unwrap()
}

fn train(trainer: &mut Trainer, steps: u32, knobs: &Knobs) -> Vec<PreStep> {
    let mut step =
        |number| trainer.step(&batch(number % 4), knobs, &mut |_| Verdict::Proceed).unwrap();
    (0..steps).map(|number| step(number).pre_step).collect()
}

fn relative(a: f64, b: f64) -> f64 {
    (a - b).abs() / b.abs()
}

#[test]
fn losses_of_half_precisions_stay_near_those_of_f32() {
    let spec = spec();
    let full = train(&mut composed(&spec, Precision::F32, 1), 30, &knobs());
    assert!(full[29].loss < 0.8 * full[0].loss, "nothing was learnt");
    for (precision, loss_scale, near) in
        [(Precision::Bf16, 1.0, 1e-2), (Precision::F16, 65_536.0, 2e-3)]
    {
        let knobs = Knobs { loss_scale, ..knobs() };
        let mut trainer = composed(&spec, precision, 1);
        let half = train(&mut trainer, 30, &knobs);
        for (at, (found, expected)) in half.iter().zip(&full).enumerate() {
            let difference = relative(found.loss, expected.loss);
            assert!(difference < near, "{precision:?}, step {at}: {difference}");
            let difference = relative(found.gradient_norm, expected.gradient_norm);
            assert!(difference < 10.0 * near, "{precision:?}, norm of step {at}: {difference}");
        }
        // It is another computation: equal numbers would mean that nothing was lowered.
        assert!(half.iter().zip(&full).any(|(a, b)| a.loss != b.loss), "{precision:?}");
        // Master weights have more bits than the products.
        let weight = values(trainer.parameters()["lm_head.weight"].value.clone());
        assert!(weight.iter().any(|value| value.to_bits() & 0x1fff != 0), "{precision:?}");
    }
}

#[test]
fn loss_scale_that_is_a_power_of_two_changes_no_bit_of_an_f32_step() {
    let (mut plain, mut scaled) = (trainer(&spec()), trainer(&spec()));
    let knobs = |loss_scale| Knobs { loss_scale, clip_norm: 0.5, ..knobs() };
    assert_eq!(train(&mut plain, 5, &knobs(1.0)), train(&mut scaled, 5, &knobs(65_536.0)));
    assert_eq!(digest(&plain), digest(&scaled));
}

#[test]
fn small_gradients_vanish_in_f16_without_a_scale() {
    let norm = |loss_scale| {
        let knobs = Knobs { loss_scale, loss_weights: vec![1e-7, 1e-7], ..knobs() };
        train(&mut composed(&spec(), Precision::F16, 1), 1, &knobs)[0].gradient_norm
    };
    let expected = {
        let knobs = Knobs { loss_weights: vec![1e-7, 1e-7], ..knobs() };
        train(&mut composed(&spec(), Precision::F32, 1), 1, &knobs)[0].gradient_norm
    };
    assert!(relative(norm(65_536.0 * 65_536.0), expected) < 1e-2);
    assert!(relative(norm(1.0), expected) > 0.1);
}

#[test]
fn step_that_overflows_f16_is_skipped() {
    let mut trainer = composed(&spec(), Precision::F16, 1);
    let before = digest(&trainer);
    let knobs = Knobs { loss_scale: 1e12, ..knobs() };
    let report = trainer.step(&batch(0), &knobs, &mut |_| Verdict::Proceed).unwrap();
    assert_eq!(report.verdict, Verdict::Skip);
    assert!(report.pre_step.nonfinite_count > 0 && report.pre_step.loss.is_finite());
    assert_eq!((digest(&trainer), trainer.updates()), (before, 0));
}

#[test]
fn replicas_train_as_one_device_does() {
    let mut spec = spec();
    // Four sequences: three replicas have two, one and one; five have one or none.
    spec.training.micro_batch_sequences = 1;
    let one = train(&mut composed(&spec, Precision::F32, 1), 20, &knobs());
    for count in [2, 3, 5] {
        let mut shared = composed(&spec, Precision::F32, count);
        let found = train(&mut shared, 20, &knobs());
        assert_eq!(
            found[0].losses, one[0].losses,
            "the first losses are those of the same weights"
        );
        for (found, one) in found.iter().zip(&one) {
            assert!(relative(found.loss, one.loss) < 1e-5, "{count}: {} {}", found.loss, one.loss);
        }
        let [first, others @ ..] = shared.team.replicas() else { panic!("no replica") };
        for (path, parameter) in first.parameters() {
            for other in others {
                let values = |p: &crate::parameters::Parameter| {
                    [&p.value, &p.first_moment, &p.second_moment].map(|t| values(t.clone()))
                };
                assert_eq!(values(parameter), values(&other.parameters()[path]), "{path}");
            }
        }
    }
}

/// burn's CPU with automatic differentiation switched on counts as a second device here: a tensor made
/// there says so, and what is computed with it says so too.
fn on_two_devices(spec: &RunSpec) -> Trainer {
    let ops = [Device::flex(), Device::flex().autodiff()].map(|device| Ops::composed(&device));
    Trainer::computing_with(spec, ops.to_vec(), "two".to_owned()).unwrap()
}

#[test]
fn gradients_of_every_replica_are_on_its_own_device() {
    let trainer = on_two_devices(&spec());
    let batch = batch(0);
    let knobs = knobs();
    let pass = Pass { knobs: &knobs, step_tokens: 256.0, z_loss: 0.0, recompute: false };
    let sequences = &batch.sequences[..];
    // Both have work; then the second has none, and zeros of its own.
    for micro_batches in [vec![&sequences[..2], &sequences[2..]], vec![sequences]] {
        let idle = micro_batches.len() == 1;
        let parts = trainer.parts(&micro_batches, &pass).unwrap();
        for (rank, part) in parts.into_iter().enumerate() {
            let paths: Vec<String> = part.gradients.clone().into_iter().map(|(p, _)| p).collect();
            assert!(paths.iter().eq(trainer.parameters().keys()), "rank {rank}");
            for (path, gradient) in part.gradients {
                assert_eq!(gradient.is_autodiff(), rank == 1, "{path} of rank {rank}");
                let zero = values(gradient.without_autodiff()).iter().all(|&value| value == 0.0);
                assert_eq!(zero, idle && rank == 1, "{path} of rank {rank}");
            }
        }
    }
}

#[test]
fn parameters_stay_on_their_device_and_alike_through_steps_and_loads() {
    let folder = tempfile::tempdir().unwrap();
    let mut spec = spec();
    // The whole step at once: it is shared all the same.
    spec.training.micro_batch_sequences = 4;
    let mut trainer = on_two_devices(&spec);
    train(&mut trainer, 3, &knobs());
    let saved = trainer.save(folder.path(), &crate::tests::state(&trainer, 3)).unwrap();
    let mut loaded = on_two_devices(&spec);
    loaded.load(&folder.path().join(&saved.folder), saved.digest).unwrap();
    train(&mut loaded, 1, &knobs());
    for trainer in [&trainer, &loaded] {
        let [first, second] = trainer.team.replicas() else { panic!("two replicas") };
        for (path, one) in first.parameters() {
            let other = &second.parameters()[path];
            for (one, other) in [
                (&one.value, &other.value),
                (&one.first_moment, &other.first_moment),
                (&one.second_moment, &other.second_moment),
            ] {
                assert!(!one.is_autodiff() && other.is_autodiff(), "{path}");
                assert_eq!(values(one.clone()), values(other.clone().without_autodiff()), "{path}");
            }
        }
    }
}

#[test]
fn more_devices_than_sequences_are_refused_with_both_numbers() {
    let mut spec = spec();
    let refused = |spec: &RunSpec| {
        let each = vec![Device::flex(); 3];
        Trainer::on(spec, Devices::named(each, "three")).err().map(|error| error.to_string())
    };
    assert_eq!(refused(&spec), None, "four sequences");
    spec.training.sequences_per_step = 2;
    assert_eq!(
        refused(&spec).unwrap(),
        "3 devices share each step, and the smallest step draws 2: name at most 2 devices with \
         --device, or raise training.sequences_per_step to at least 3"
    );
    spec.training.sequences_per_step = 8;
    spec.training.batch_ramp = Some(BatchRamp { from: 1, by: 1, over_sequences: 20 });
    assert!(refused(&spec).unwrap().ends_with("training.batch_ramp.from to at least 3"));
}

#[test]
fn checkpoint_is_loaded_into_every_replica() {
    let (spec, folder) = (spec(), tempfile::tempdir().unwrap());
    let mut trained = composed(&spec, Precision::F32, 2);
    train(&mut trained, 3, &knobs());
    let saved = trained.save(folder.path(), &crate::tests::state(&trained, 3)).unwrap();
    let mut loaded = composed(&spec, Precision::F32, 2);
    loaded.load(&folder.path().join(&saved.folder), saved.digest).unwrap();
    assert_eq!(train(&mut loaded, 2, &knobs()), train(&mut trained, 2, &knobs()));
}

#[test]
fn processor_computes_in_f32_alone() {
    let mut spec = spec();
    spec.training.precision = Precision::Bf16;
    let error = Trainer::new(&spec, &DeviceChoice::Cpu).err().unwrap().to_string();
    assert_eq!(
        error,
        "training.precision is bf16: the cpu computes in f32 alone; set f32, or train on a GPU with --device cuda"
    );
}

#[test]
fn full_memory_of_a_device_is_told_with_advice() {
    let trainer = trainer(&spec());
    // What burn says: reading fails, or a thread panics with the same words inside.
    for words in [
        "An error happened during execution\nCaused by:\n  out of device memory allocating 4096 bytes",
        "called `Result::unwrap()` on an `Err` value: OutOfMemory { size: 4096 }",
    ] {
        let error = trainer.failed(&DeviceFailed(words.to_owned()));
        assert!(matches!(error, TrainError::OutOfMemory { micro_batch_sequences: 4, .. }));
        assert!(error.to_string().contains("training.recompute_blocks"), "{error}");
    }
    let other = trainer.failed(&DeviceFailed("an illegal address".to_owned()));
    assert_eq!(other.to_string(), "cpu failed: an illegal address");
}
