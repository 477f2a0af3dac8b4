//! Whether CUDA trains as the CPU does, and fails as it should.

use std::process::ExitCode;

use hm_domain::precision::Precision;
use hm_train::{DeviceChoice, TrainError, Trainer};

use crate::model::{batch, model, spec, step};

/// Steps of a curve.
const STEPS: u32 = 30;
/// Sequences of its steps.
const SEQUENCES: u32 = 8;

/// Runs every check, and tells them all even if the first fails.
pub(crate) fn check() -> ExitCode {
    let results = [
        f32_agrees_with_the_cpu(),
        half_precisions_stay_near_f32(),
        runs_differ_by_little(),
        devices_share_a_step(),
        full_memory_is_an_error_with_advice(),
    ];
    if results.into_iter().all(|passed| passed) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Losses of a curve of `tiny`.
fn curve(choice: &DeviceChoice, precision: Precision, micro_batch: u32) -> Vec<f64> {
    let mut spec = spec(model("tiny"), SEQUENCES, precision);
    spec.training.micro_batch_sequences = micro_batch;
    let loss_scale = if precision == Precision::F16 { 65_536.0 } else { 1.0 };
    let mut trainer = Trainer::new(&spec, choice).expect("a trainer");
    let mut loss = |number| {
        let batch = batch(&spec.model, SEQUENCES, number);
        step(&mut trainer, &batch, loss_scale).expect("a step").loss
    };
    (0..STEPS).map(&mut loss).collect()
}

fn first_gpu() -> DeviceChoice {
    DeviceChoice::Cuda(vec![0])
}

/// Largest relative difference of two curves.
fn difference(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs() / b.abs()).fold(0.0, f64::max)
}

fn told(what: &str, found: f64, due: f64) -> bool {
    let passed = found <= due;
    let word = if passed { "passed" } else { "FAILED" };
    println!("{word}: {what}: {found:.2e}, at most {due:.0e} is due");
    passed
}

fn f32_agrees_with_the_cpu() -> bool {
    let expected = curve(&DeviceChoice::Cpu, Precision::F32, SEQUENCES);
    let found = curve(&first_gpu(), Precision::F32, SEQUENCES);
    println!("loss of tiny on the CPU: {:.4} to {:.4}", expected[0], expected[STEPS as usize - 1]);
    // Products on a GPU may round their factors to TF32, which has ten bits of fraction.
    told("f32 on CUDA against the CPU, 30 losses", difference(&found, &expected), 1e-3)
}

fn half_precisions_stay_near_f32() -> bool {
    let full = curve(&first_gpu(), Precision::F32, SEQUENCES);
    let check = |precision: Precision, due| {
        let found = curve(&first_gpu(), precision, SEQUENCES);
        told(
            &format!("{} against f32, 30 losses", precision.name()),
            difference(&found, &full),
            due,
        )
    };
    let bf16 = check(Precision::Bf16, 1e-2);
    check(Precision::F16, 2e-3) && bf16
}

/// How far two equal runs part: a measurement, with a bound that only nonsense exceeds.
fn runs_differ_by_little() -> bool {
    let run = || curve(&first_gpu(), Precision::F32, SEQUENCES);
    told("two equal f32 runs, 30 losses", difference(&run(), &run()), 1e-3)
}

fn devices_share_a_step() -> bool {
    let choice = DeviceChoice::AllCuda;
    let spec = spec(model("nano"), 1, Precision::F32);
    let count = Trainer::new(&spec, &choice).expect("a trainer").device_count();
    if count < 2 {
        println!("not checked: several devices in one step; there is one device");
        return true;
    }
    let one = curve(&first_gpu(), Precision::F32, 1);
    let all = curve(&choice, Precision::F32, 1);
    told(&format!("{count} devices against one, 30 losses"), difference(&all, &one), 1e-3)
}

fn full_memory_is_an_error_with_advice() -> bool {
    // Activations of 4096 sequences of 2048 tokens: more than any device holds.
    let sequences = 4096;
    let spec = spec(model("125m"), sequences, Precision::Bf16);
    let mut trainer = Trainer::new(&spec, &first_gpu()).expect("a trainer");
    let batch = batch(&spec.model, sequences, 0);
    match step(&mut trainer, &batch, 1.0) {
        Err(error @ TrainError::OutOfMemory { .. }) => {
            println!("passed: full memory: {error}");
            true
        }
        Err(error) => {
            println!("FAILED: full memory is told as something else: {error}");
            false
        }
        Ok(_) => {
            println!("FAILED: {sequences} sequences at once fit into this device");
            false
        }
    }
}
