//! Our training step against eager PyTorch's: same shapes, same threads, in turn.

use std::time::Instant;

use hm_domain::batch::{Batch, Sequence};
use hm_domain::id::DomainId;
use hm_domain::spec::{ModelSpec, RunSpec};
use hm_domain::step::Verdict;
use hm_train::{DeviceChoice, Trainer, preset};
use serde_json::Value;

use crate::figures::{
    PYTORCH, child as this_program, figure, figures_of, median, peak_mb, python, ratios, spread,
    threads,
};
use crate::peak;
use crate::run_spec::{knobs, spec};

/// Preset, sequences of a step, timed steps of a process, rounds.
pub(crate) const SHAPES: [(&str, u32, usize, usize); 2] = [("tiny", 8, 10, 5), ("small", 4, 4, 3)];

/// Prints tokens per second and peak memory of both sides, the ratios within each round, and what
/// share of the machine's matrix peak each side reaches.
pub(crate) fn measure() {
    for (name, sequences, steps, rounds) in SHAPES {
        let model = preset(name).expect("a preset");
        let Some(sides) = Sides::measure(&model, sequences, steps, rounds) else {
            println!("train step against PyTorch: left out, {PYTORCH} names no Python");
            return;
        };
        println!("train step, {name}, {sequences} sequences, {rounds} rounds in turn:");
        let rates = [&sides.ours, &sides.theirs].map(|side| figure(side, "tokens_per_second"));
        let peaks = [&sides.ours, &sides.theirs].map(|side| median(&figure(side, "peak_mb")));
        for (at, label) in LABELS.into_iter().enumerate() {
            println!(
                "  {label:22} {:28} tokens/s, peak {:5.0} MB; ours is {} times it",
                spread(&rates[at], 0),
                peaks[at],
                spread(&ratios(&rates[0], &rates[at]), 2)
            );
        }
        let work = hm_train::flops_per_token(&model);
        LABELS.iter().zip(&rates).for_each(|(label, rates)| peak::print_share(label, work, rates));
        let threads = [&sides.ours, &sides.theirs].map(|side| side[0]["threads"].clone());
        println!("  threads: ours {}, PyTorch {}", threads[0], threads[1]);
        if name == "tiny" {
            // Once and short: without bf16 instructions a step takes a quarter of a minute.
            let found = theirs(&model, sequences, 1, "bf16").expect("PyTorch was there");
            let rate = found["tokens_per_second"].as_f64().unwrap_or(f64::NAN);
            println!("  PyTorch bf16 autocast, one step after two: {rate:.0} tokens/s");
        }
    }
}

const LABELS: [&str; 2] = ["ours, f32", "PyTorch eager, f32"];

/// What the processes of both sides measured, round by round.
pub(crate) struct Sides {
    pub(crate) ours: Vec<Value>,
    pub(crate) theirs: Vec<Value>,
}

impl Sides {
    /// Each side in turn; `None` without PyTorch.
    pub(crate) fn measure(
        model: &ModelSpec,
        sequences: u32,
        steps: usize,
        rounds: usize,
    ) -> Option<Sides> {
        let mut sides = Sides { ours: Vec::new(), theirs: Vec::new() };
        for _ in 0..rounds {
            // Asked first, so that without PyTorch nothing is measured.
            sides.theirs.push(theirs(model, sequences, steps, "f32")?);
            let arguments = [text(model), sequences.to_string(), steps.to_string()];
            let [model, sequences, steps] = arguments.each_ref().map(String::as_str);
            sides.ours.push(figures_of(&mut this_program(&[
                "train-steps",
                model,
                sequences,
                steps,
            ])));
        }
        Some(sides)
    }
}

fn theirs(model: &ModelSpec, sequences: u32, steps: usize, kind: &str) -> Option<Value> {
    let (sequences, steps) = (sequences.to_string(), steps.to_string());
    let arguments = [&text(model), &sequences, &steps, kind];
    Some(figures_of(&mut python(PYTORCH, "pytorch_step.py", &arguments)?))
}

fn text(model: &ModelSpec) -> String {
    serde_json::to_string(model).expect("plain data")
}

/// `train-steps MODEL-JSON SEQUENCES STEPS`: prints what one process measured.
pub(crate) fn child(arguments: &[String]) {
    let [model, sequences, steps] = arguments else { panic!("MODEL-JSON SEQUENCES STEPS") };
    let model: ModelSpec = serde_json::from_str(model).expect("a model");
    let (sequences, steps): (u32, usize) = (sequences.parse().unwrap(), steps.parse().unwrap());
    let spec = spec(model, sequences);
    let mut trainer = Trainer::new(&spec, &DeviceChoice::Cpu).expect("a trainer");
    let (seconds, first_loss) = train(&mut trainer, &spec, steps);
    let tokens = f64::from(sequences * spec.model.sequence_length);
    let figures = serde_json::json!({
        "tokens_per_second": tokens / median(&seconds),
        "peak_mb": peak_mb(),
        "threads": threads(),
        "first_loss": first_loss,
    });
    println!("{figures}");
}

/// Seconds of so many steps after two that are not counted, and the first loss.
pub(crate) fn train(trainer: &mut Trainer, spec: &RunSpec, steps: usize) -> (Vec<f64>, f64) {
    let knobs = knobs();
    let (mut seconds, mut losses) = (Vec::new(), Vec::new());
    for step in 0..steps + 2 {
        let batch = batch(&spec.model, spec.training.sequences_per_step, step as u64);
        let start = Instant::now();
        let report = trainer.step(&batch, &knobs, &mut |_| Verdict::Proceed).expect("a step");
        seconds.push(start.elapsed().as_secs_f64());
        losses.push(report.pre_step.loss);
    }
    (seconds.split_off(2), losses[0])
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
