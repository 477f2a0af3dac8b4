//! Where the time of a training step on the CPU goes: each kind of operation by itself, at the shapes
//! and as often as one step has it, by the trainer's kernels and by burn's tensor operations.

mod cases;

use std::hint::black_box;
use std::time::{Duration, Instant};

use burn::tensor::Device;
use hm_domain::batch::{Batch, Sequence};
use hm_domain::id::DomainId;
use hm_domain::spec::{ModelSpec, RunSpec};
use hm_domain::step::{Knobs, Verdict};

use crate::cpu::matrix::{Matrix, MatrixMut, Onto, multiply};
use crate::error::Result;
use crate::ops::Ops;
use crate::split_mix::SplitMix64;
use crate::trainer::Trainer;

/// Which spelling of the operations is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spelling {
    /// What training on the CPU uses.
    Kernels,
    /// Burn's tensor operations.
    Composed,
}

/// One kind of operation, in all of one step.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Operation {
    /// What it does.
    pub name: String,
    /// Floating-point operations of its matrix products; 0 where products are not what it is about.
    pub product_flops: u64,
    /// Milliseconds of each repeat. What it reads was touched just before, so caches are warmer and
    /// memory is more at hand than within a step.
    pub ms: Vec<f64>,
}

/// What a step costs, whole and by kind of operation.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct StepProfile {
    /// Milliseconds of the whole step in each repeat.
    pub step_ms: Vec<f64>,
    /// Everything in it that costs, in the order of a step.
    pub operations: Vec<Operation>,
}

/// Profiles one step of this run, as a single micro-batch whose blocks are kept. The threads are those
/// of the global pool.
///
/// # Errors
/// When the model cannot be built.
pub fn step_profile(spec: &RunSpec, spelling: Spelling, repeats: usize) -> Result<StepProfile> {
    let mut spec = spec.clone();
    spec.training.micro_batch_sequences = spec.training.sequences_per_step;
    spec.training.recompute_blocks = false;
    let step_ms = whole_steps(&spec, spelling, repeats)?;
    let mut operations = Vec::new();
    for mut case in cases::of_step(&spec, spelling) {
        // One that is not counted: pages and threads.
        (case.run)();
        let ms = (0..repeats).map(|_| milliseconds((case.run)()) * f64::from(case.times));
        operations.push(Operation {
            name: case.name.to_owned(),
            product_flops: case.product_flops * u64::from(case.times),
            ms: ms.collect(),
        });
    }
    Ok(StepProfile { step_ms, operations })
}

fn whole_steps(spec: &RunSpec, spelling: Spelling, repeats: usize) -> Result<Vec<f64>> {
    spec.model.checked()?;
    let ops = operations(spelling, &Device::flex());
    let mut trainer = Trainer::computing_with(spec, vec![ops], "cpu".to_owned())?;
    let loss_weights = vec![1.0; spec.domains.len()];
    let knobs = Knobs { learning_rate: 1e-4, clip_norm: 1.0, loss_weights, loss_scale: 1.0 };
    let mut step_ms = Vec::new();
    for repeat in 0..=repeats {
        let batch = batch(&spec.model, spec.training.sequences_per_step, repeat as u64);
        let start = Instant::now();
        trainer.step(&batch, &knobs, &mut |_| Verdict::Proceed)?;
        step_ms.push(milliseconds(start.elapsed()));
    }
    // The first makes pages and threads.
    Ok(step_ms.split_off(1))
}

/// Billions of floating-point operations a second of `[rows, inner] [inner, columns]` in f32, the
/// latter transposed in memory as a layer's weights are: the fastest of the products that fit into
/// `at_least`.
pub fn product_gflops(rows: usize, inner: usize, columns: usize, at_least: Duration) -> f64 {
    let (a, b) = (noise(rows * inner, 1), noise(columns * inner, 2));
    let mut out = vec![0.0; rows * columns];
    let (start, mut fastest) = (Instant::now(), f64::INFINITY);
    while start.elapsed() < at_least || fastest.is_infinite() {
        let (a, b) = (Matrix::new(&a, rows, inner), Matrix::new(&b, columns, inner).t());
        let product = Instant::now();
        multiply(MatrixMut::new(&mut out, rows, columns), Onto::Nothing, a, b);
        fastest = fastest.min(product.elapsed().as_secs_f64());
        black_box(&mut out);
    }
    2.0 * (rows * inner * columns) as f64 / fastest / 1e9
}

fn operations(spelling: Spelling, device: &Device) -> Ops {
    match spelling {
        Spelling::Kernels => Ops::of(device),
        Spelling::Composed => Ops::composed(device),
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Numbers in -1 to 1, the same in every process.
fn noise(count: usize, seed: u64) -> Vec<f32> {
    let mut bits = SplitMix64(seed);
    (0..count).map(|_| (bits.next_53_bits() as f64 / (1u64 << 52) as f64 - 1.0) as f32).collect()
}

fn ids(count: usize, vocabulary: u32, seed: u64) -> Vec<u32> {
    let mut bits = SplitMix64(seed);
    (0..count).map(|_| (bits.next_53_bits() % u64::from(vocabulary)) as u32).collect()
}

fn batch(model: &ModelSpec, sequences: u32, seed: u64) -> Batch {
    let length = model.sequence_length as usize + 1;
    let all = ids(sequences as usize * length, model.vocabulary, seed);
    let sequence = |tokens: &[u32]| Sequence { domain: DomainId(0), tokens: tokens.to_vec() };
    Batch { sequences: all.chunks(length).map(sequence).collect(), draws: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::flops_per_token;
    use crate::tests::spec;

    #[test]
    fn products_of_a_profile_are_the_work_of_its_tokens() {
        // flops_per_token counts the scores of attention too, which no row of products has.
        let spec = spec();
        let model = &spec.model;
        let tokens = u64::from(spec.training.sequences_per_step * model.sequence_length);
        let [layers, hidden, length] =
            [model.layers, model.hidden_size, model.sequence_length].map(u64::from);
        let norms = (2 * layers + 1) * hidden;
        let expected = flops_per_token(model) - 12 * layers * hidden * length - 6 * norms;
        for spelling in [Spelling::Kernels, Spelling::Composed] {
            let profile = step_profile(&spec, spelling, 2).unwrap();
            let products: u64 = profile.operations.iter().map(|one| one.product_flops).sum();
            assert_eq!(products, expected * tokens);
            assert_eq!(profile.step_ms.len(), 2);
            assert!(profile.operations.iter().all(|one| one.ms.len() == 2));
        }
    }

    #[test]
    fn speed_of_a_product_is_a_positive_number() {
        let found = product_gflops(3, 4, 5, Duration::ZERO);
        assert!(found.is_finite() && found > 0.0, "{found}");
    }
}
