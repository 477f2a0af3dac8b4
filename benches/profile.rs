//! Where a training step's time goes: each kind of operation by itself at the step's shapes, what our
//! kernel gains over burn's tensor operations, what the other threads gain, and the same of PyTorch.

use hm_train::preset;
use hm_train::profile::{Spelling, StepProfile, step_profile};
use serde_json::Value;

use crate::figures::{
    PYTORCH, child as this_program, figure, figures_of, median, python, ratios, spread, threads,
};
use crate::train::SHAPES;

const ROUNDS: usize = 3;
/// Of one process, which gives their median, for each of [`SHAPES`]: fewer where a step takes seconds.
const REPEATS: [&str; SHAPES.len()] = ["3", "1"];

/// One figure of each round, in milliseconds a step.
type Rounds = Vec<f64>;

/// What the processes of one kind found: a row of figures for each operation, and the whole step.
struct Side {
    profiles: Vec<StepProfile>,
}

/// Prints a table for each model that `train` trains.
pub(crate) fn measure() {
    let all = threads();
    for ((name, sequences, ..), repeats) in SHAPES.into_iter().zip(REPEATS) {
        let model = serde_json::to_string(&preset(name).expect("a preset")).expect("plain data");
        let count = sequences.to_string();
        let process = |spelling: &str, threads: u32| -> StepProfile {
            let mut command = this_program(&["profile-step", name, &count, spelling, repeats]);
            let found = figures_of(command.env("RAYON_NUM_THREADS", threads.to_string()));
            serde_json::from_value(found).expect("a profile")
        };
        let [mut kernels, mut composed, mut alone] =
            [(); 3].map(|()| Side { profiles: Vec::new() });
        let mut pytorch = Vec::new();
        for _ in 0..ROUNDS {
            kernels.profiles.push(process("kernels", all));
            composed.profiles.push(process("composed", all));
            alone.profiles.push(process("kernels", 1));
            let arguments = [model.as_str(), &count, repeats];
            pytorch
                .extend(python(PYTORCH, "pytorch_profile.py", &arguments).as_mut().map(figures_of));
        }
        println!(
            "where a step's time goes, {name}, {sequences} sequences, {all} threads, medians of {ROUNDS} rounds in turn;"
        );
        println!(
            "gain: burn's tensor operations take so many times as long; speed-up: 1 thread does"
        );
        println!(
            "  {:26} {:>9} {:>7} {:>8}  {:24} {:24}",
            "operation", "ms a step", "share", "GFLOP/s", "gain", "speed-up"
        );
        table(&kernels, &composed, &alone);
        beside_pytorch(&kernels, &pytorch);
    }
}

/// What the operators of eager PyTorch take, in the same three heaps.
fn beside_pytorch(kernels: &Side, pytorch: &[Value]) {
    if pytorch.is_empty() {
        println!("  by PyTorch eager: left out, {PYTORCH} names no Python");
        return;
    }
    let operations = &kernels.profiles[0].operations;
    let is_product = |at: usize| operations[at].product_flops > 0;
    let is_attention = |at: usize| operations[at].name.starts_with("attention");
    let (products, attention) = (kernels.of(is_product), kernels.of(is_attention));
    let whole = kernels.whole();
    let known = products.iter().zip(&attention).map(|(a, b)| a + b);
    let others = whole.iter().zip(known).map(|(whole, known)| whole - known).collect();
    println!("  by PyTorch eager, which its profiler slows a little:");
    for (label, name, ours) in [
        ("products with weights", "products", products),
        ("attention", "attention", attention),
        ("all else", "others", others),
        ("whole step", "whole", whole),
    ] {
        let theirs = figure(pytorch, name);
        println!(
            "  {label:26} {:9.1} ms a step, ours {:9.1}; it takes {} times as long",
            median(&theirs),
            median(&ours),
            spread(&ratios(&theirs, &ours), 2)
        );
    }
}

fn table(kernels: &Side, composed: &Side, alone: &Side) {
    let whole = kernels.whole();
    let line = |name: &str, work: u64, of: &dyn Fn(&Side) -> Rounds| {
        let ours = of(kernels);
        let rate = match work {
            0 => String::new(),
            work => format!("{:.1}", work as f64 / median(&ours) / 1e6),
        };
        println!(
            "  {name:26} {:9.1} {:5.1} % {rate:>8}  {:24} {:24}",
            median(&ours),
            100.0 * median(&ratios(&ours, &whole)),
            spread(&ratios(&of(composed), &ours), 2),
            spread(&ratios(&of(alone), &ours), 2)
        );
    };
    let operations = &kernels.profiles[0].operations;
    for (at, operation) in operations.iter().enumerate() {
        line(&operation.name, operation.product_flops, &|side| side.of(|index| index == at));
    }
    let is_product = |at: usize| operations[at].product_flops > 0;
    let work = operations.iter().map(|operation| operation.product_flops).sum();
    line("all products with weights", work, &|side| side.of(is_product));
    line("all the others", 0, &|side| side.of(|at| !is_product(at)));
    // A difference of two measured times: it may be near zero or below, so nothing is held against it.
    let rests = whole.iter().zip(kernels.of(|_| true)).map(|(whole, known)| whole - known);
    let rests: Rounds = rests.collect();
    let share = 100.0 * median(&ratios(&rests, &whole));
    println!("  {:26} {:9.1} {share:5.1} %", "the rest of the step", median(&rests));
    line("whole step", 0, &|side| side.whole());
}

impl Side {
    fn whole(&self) -> Rounds {
        self.profiles.iter().map(|profile| median(&profile.step_ms)).collect()
    }

    /// The sum of the operations at these places.
    fn of(&self, wanted: impl Fn(usize) -> bool) -> Rounds {
        let sum = |profile: &StepProfile| {
            let wanted = profile.operations.iter().enumerate().filter(|(at, _)| wanted(*at));
            wanted.map(|(_, operation)| median(&operation.ms)).sum()
        };
        self.profiles.iter().map(sum).collect()
    }
}

/// `profile-step PRESET SEQUENCES kernels|composed REPEATS`: prints a profile.
pub(crate) fn child(arguments: &[String]) {
    let [name, sequences, spelling, repeats] = arguments else {
        panic!("PRESET SEQUENCES kernels|composed REPEATS")
    };
    let spelling = match spelling.as_str() {
        "kernels" => Spelling::Kernels,
        "composed" => Spelling::Composed,
        other => panic!("`{other}` is not kernels or composed"),
    };
    let spec = crate::run_spec::spec(preset(name).expect("a preset"), sequences.parse().unwrap());
    let profile = step_profile(&spec, spelling, repeats.parse().unwrap()).expect("a model");
    println!("{}", serde_json::to_string(&profile).expect("plain data"));
}
