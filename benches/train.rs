//! Our training step against eager PyTorch's: same shapes, same threads, in turn.

use std::process::Command;
use std::time::Instant;

use hm_domain::batch::{Batch, Sequence};
use hm_domain::id::{Digest, DomainId};
use hm_domain::precision::Precision;
use hm_domain::schedule::{Schedule, Shape, Warmup};
use hm_domain::spec::*;
use hm_domain::step::{Knobs, Verdict};
use hm_train::{DeviceChoice, Trainer, preset};

use crate::figures::{child as this_program, figures_of, median, peak_mb, spread};

/// Preset, sequences of a step, timed steps of a process, rounds.
const SHAPES: [(&str, u32, usize, usize); 2] = [("tiny", 8, 10, 5), ("small", 4, 4, 3)];

/// Prints tokens per second and peak memory of both sides, and the ratios within each round.
pub(crate) fn measure() {
    let Some(python) = std::env::var_os("HM_PYTORCH_PYTHON") else {
        println!("train step against PyTorch: left out, HM_PYTORCH_PYTHON names no Python");
        return;
    };
    let script = crate::place::repository().join("benches/pytorch_step.py");
    for (name, sequences, steps, rounds) in SHAPES {
        let model = serde_json::to_string(&preset(name).expect("a preset")).expect("plain data");
        let [sequences, steps] = [sequences.to_string(), steps.to_string()];
        let ours = || figures_of(&mut this_program(&["train-steps", name, &sequences, &steps]));
        let theirs = |kind: &str, steps: &str| {
            let mut command = Command::new(&python);
            command.arg("-W").arg("ignore").arg(&script).args([&model, &sequences, steps, kind]);
            figures_of(&mut command)
        };
        let mut sides = [const { Vec::new() }; 2];
        for _ in 0..rounds {
            for (side, found) in sides.iter_mut().zip([ours(), theirs("f32", &steps)]) {
                side.push(found);
            }
        }
        println!("train step, {name}, {sequences} sequences, {rounds} rounds in turn:");
        let of = |side: usize, figure: &str| -> Vec<f64> {
            sides[side].iter().map(|found| found[figure].as_f64().unwrap_or(f64::NAN)).collect()
        };
        for (side, label) in ["ours, f32", "PyTorch eager, f32"].iter().enumerate() {
            let rates = of(side, "tokens_per_second");
            let ratios: Vec<f64> =
                of(0, "tokens_per_second").iter().zip(&rates).map(|(a, b)| a / b).collect();
            println!(
                "  {label:22} {:28} tokens/s, peak {:5.0} MB; ours is {} times it",
                spread(&rates, 0),
                median(&of(side, "peak_mb")),
                spread(&ratios, 2)
            );
        }
        println!("  threads: ours {}, PyTorch {}", sides[0][0]["threads"], sides[1][0]["threads"]);
        if name == "tiny" {
            // Once and short: without bf16 instructions a step takes a quarter of a minute.
            let rate = theirs("bf16", "1")["tokens_per_second"].as_f64().unwrap_or(f64::NAN);
            println!("  PyTorch bf16 autocast, one step after two: {rate:.0} tokens/s");
        }
    }
}

/// `train-steps PRESET SEQUENCES STEPS`: prints what one process measured.
pub(crate) fn child(arguments: &[String]) {
    let [name, sequences, steps] = arguments else { panic!("PRESET SEQUENCES STEPS") };
    let (sequences, steps): (u32, usize) = (sequences.parse().unwrap(), steps.parse().unwrap());
    let spec = spec(preset(name).expect("a preset"), sequences);
    let mut trainer = Trainer::new(&spec, &DeviceChoice::Cpu).expect("a trainer");
    let knobs = knobs();
    let (mut seconds, mut first_loss) = (Vec::new(), None);
    for step in 0..steps + 2 {
        let batch = batch(&spec.model, sequences, step as u64);
        let start = Instant::now();
        let report = trainer.step(&batch, &knobs, &mut |_| Verdict::Proceed).expect("a step");
        seconds.push(start.elapsed().as_secs_f64());
        first_loss.get_or_insert(report.pre_step.loss);
    }
    let tokens = f64::from(sequences * spec.model.sequence_length);
    let figures = serde_json::json!({
        "tokens_per_second": tokens / median(&seconds[2..]),
        "peak_mb": peak_mb(),
        "threads": hm_train::fingerprint().threads,
        "first_loss": first_loss,
    });
    println!("{figures}");
}

/// What every timed step is trained under.
pub(crate) fn knobs() -> Knobs {
    Knobs { learning_rate: 1e-3, clip_norm: 1.0, loss_weights: vec![1.0], loss_scale: 1.0 }
}

/// A run of one domain with Aquila2's optimizer.
pub(crate) fn spec(model: ModelSpec, sequences: u32) -> RunSpec {
    let segment =
        SegmentSpec { digest: Digest::ZERO, documents: 1000, tokens: 1 << 30, bytes: 4 << 30 };
    RunSpec {
        name: "bench".to_owned(),
        seed: 1,
        model,
        training: TrainingSpec {
            steps: 1 << 20,
            sequences_per_step: sequences,
            micro_batch_sequences: sequences,
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
            warmup: Warmup::Steps(10),
            shape: Shape::Cosine,
        },
        domains: vec![DomainSpec {
            name: "bench".to_owned(),
            prior: 1.0,
            floor: 0.0,
            cap: 1.0,
            max_epochs: None,
            segments: vec![segment],
            validation: None,
        }],
        tokenizer: Digest::ZERO,
        rules: RulesSpec { version: 1, rate_limit: None, freeze_steps: 0 },
        validation: ValidationSpec { every_steps: 0, sequences_per_domain: 0 },
        checkpoint: CheckpointSpec { every_steps: 1 << 20, keep: 1 },
        decision_lag: 0,
        initial_weights: None,
    }
}

/// Tokens that look random, the same in every process.
pub(crate) fn batch(model: &ModelSpec, sequences: u32, step: u64) -> Batch {
    let mut state = step + 1;
    let mut token = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) % u64::from(model.vocabulary)) as u32
    };
    let mut sequence = || Sequence {
        domain: DomainId(0),
        tokens: (0..=model.sequence_length).map(|_| token()).collect(),
    };
    Batch { sequences: (0..sequences).map(|_| sequence()).collect(), draws: Vec::new() }
}
