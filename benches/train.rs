//! Our training step against eager PyTorch's: same shapes, same threads, in turn.

use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use hm_domain::batch::{Batch, Sequence};
use hm_domain::id::DomainId;
use hm_domain::spec::{ModelSpec, RunSpec};
use hm_domain::step::Verdict;
use hm_train::{DeviceChoice, Trainer, preset};
use serde_json::{Value, json};

use crate::figures::{PYTORCH, child as this_program, middle, peak_mb, python, ratios, threads};
use crate::peak;
use crate::run_spec::{knobs, spec};

/// Preset, sequences of a step, pairs of timed steps.
pub(crate) const SHAPES: [(&str, u32, usize); 2] = [("tiny", 8, 60), ("small", 4, 15)];

/// Prints tokens per second and peak memory of both sides, the ratios within each pair of steps, and
/// what share of the machine's matrix peak each side reaches.
pub(crate) fn measure() {
    for (name, sequences, pairs) in SHAPES {
        let model = preset(name).expect("a preset");
        let Some([ours, theirs]) = Side::both(&model, sequences, pairs) else {
            println!("train step against PyTorch: left out, {PYTORCH} names no Python");
            return;
        };
        println!("train step, {name}, {sequences} sequences, {pairs} pairs of steps in turn:");
        let tokens = f64::from(sequences * model.sequence_length);
        let work = hm_train::flops_per_token(&model);
        for (label, side) in [("ours, f32", &ours), ("PyTorch eager, f32", &theirs)] {
            let rates: Vec<f64> = side.seconds.iter().map(|seconds| tokens / seconds).collect();
            println!(
                "  {label:18} {:24} tokens/s, peak {:5.0} MB",
                middle(&rates, 0),
                side.peak_mb
            );
            peak::print_share(label, work, &rates);
        }
        let ratios = ratios(&theirs.seconds, &ours.seconds);
        println!("  ours is {} times as fast, pair by pair", middle(&ratios, 2));
        println!("  threads: ours {}, PyTorch {}", ours.threads, theirs.threads);
        if name == "tiny" {
            // Few: without bf16 instructions a step takes a quarter of a minute.
            let mut bf16 = theirs_of(&model, sequences, "bf16").expect("PyTorch was there");
            let seconds = bf16.step();
            bf16.end(vec![seconds]);
            println!("  PyTorch bf16 autocast, one step: {:.0} tokens/s", tokens / seconds);
        }
    }
}

/// What one side's process measured.
pub(crate) struct Side {
    /// Of each timed step.
    pub(crate) seconds: Vec<f64>,
    pub(crate) peak_mb: f64,
    pub(crate) threads: u64,
}

impl Side {
    /// Ours and PyTorch's: two processes that take steps in turn, so that whatever else the machine
    /// does meets both alike. `None` without PyTorch.
    pub(crate) fn both(model: &ModelSpec, sequences: u32, pairs: usize) -> Option<[Side; 2]> {
        // Asked first, so that without PyTorch nothing is measured.
        let theirs = theirs_of(model, sequences, "f32")?;
        let arguments = ["train-steps", &text(model), &sequences.to_string()];
        let mut stepping = [Stepping::start(&mut this_program(&arguments)), theirs];
        let mut seconds = [const { Vec::new() }; 2];
        for _ in 0..pairs {
            for (process, seconds) in stepping.iter_mut().zip(&mut seconds) {
                seconds.push(process.step());
            }
        }
        let mut seconds = seconds.into_iter();
        Some(stepping.map(|process| process.end(seconds.next().expect("one of each"))))
    }
}

/// A process that takes one step for each line it is given, and says how long it took.
struct Stepping {
    child: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Stepping {
    fn start(command: &mut Command) -> Stepping {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
        let orders = child.stdin.take().expect("its input is a pipe");
        let answers = BufReader::new(child.stdout.take().expect("its output is a pipe")).lines();
        let mut process = Stepping { child, orders, answers };
        process.answer();
        process
    }

    /// Seconds of one step.
    fn step(&mut self) -> f64 {
        writeln!(self.orders).expect("it listens");
        self.answer()["seconds"].as_f64().expect("seconds")
    }

    fn answer(&mut self) -> Value {
        let line = self.answers.next().expect("it answers").expect("it prints text");
        serde_json::from_str(&line).expect("it prints JSON")
    }

    /// Ends it; its own figures beside what its steps took.
    fn end(self, seconds: Vec<f64>) -> Side {
        let Stepping { mut child, orders, mut answers } = self;
        drop(orders);
        let line = answers.next().expect("it answers").expect("it prints text");
        assert!(child.wait().expect("it ends").success(), "a side failed");
        let found: Value = serde_json::from_str(&line).expect("it prints JSON");
        let peak_mb = found["peak_mb"].as_f64().unwrap_or(f64::NAN);
        Side { seconds, peak_mb, threads: found["threads"].as_u64().unwrap_or_default() }
    }
}

fn theirs_of(model: &ModelSpec, sequences: u32, kind: &str) -> Option<Stepping> {
    let arguments = [&text(model), &sequences.to_string(), "asked", kind];
    Some(Stepping::start(&mut python(PYTORCH, "pytorch_step.py", &arguments)?))
}

fn text(model: &ModelSpec) -> String {
    serde_json::to_string(model).expect("plain data")
}

/// Steps that are not counted: they make pages and threads.
const WARM_UP_STEPS: usize = 2;

/// `train-steps MODEL-JSON SEQUENCES`: takes a step for each line of its input.
pub(crate) fn child(arguments: &[String]) {
    let [model, sequences] = arguments else { panic!("MODEL-JSON SEQUENCES") };
    let model: ModelSpec = serde_json::from_str(model).expect("a model");
    let spec = spec(model, sequences.parse().expect("a number"));
    let mut trainer = Trainer::new(&spec, &DeviceChoice::Cpu).expect("a trainer");
    let mut number = 0;
    let mut step = || {
        number += 1;
        seconds_of_step(&mut trainer, &spec, number)
    };
    for _ in 0..WARM_UP_STEPS {
        step();
    }
    println!("{}", json!({ "ready": true }));
    for _ in std::io::stdin().lines() {
        println!("{}", json!({ "seconds": step() }));
    }
    println!("{}", json!({ "peak_mb": peak_mb(), "threads": threads() }));
}

/// Seconds of so many steps after those that are not counted.
pub(crate) fn train(trainer: &mut Trainer, spec: &RunSpec, steps: usize) -> Vec<f64> {
    let mut seconds: Vec<f64> = (0..steps + WARM_UP_STEPS)
        .map(|step| seconds_of_step(trainer, spec, step as u64))
        .collect();
    seconds.split_off(WARM_UP_STEPS)
}

/// Seconds of one step.
pub(crate) fn seconds_of_step(trainer: &mut Trainer, spec: &RunSpec, number: u64) -> f64 {
    let batch = batch(&spec.model, spec.training.sequences_per_step, number);
    let start = Instant::now();
    trainer.step(&batch, &knobs(), &mut |_| Verdict::Proceed).expect("a step");
    start.elapsed().as_secs_f64()
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
