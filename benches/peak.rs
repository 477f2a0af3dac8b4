//! The machine's matrix peak: the fastest f32 product that our kernel or PyTorch finds on it, on all
//! threads. What training reaches is a share of it.

use std::sync::OnceLock;
use std::time::Duration;

use hm_train::preset;
use serde_json::Value;

use crate::figures::{PYTORCH, child as this_program, figures_of, middle, python, ratios, spread};
use crate::train::SHAPES;

const ROUNDS: usize = 3;
/// Milliseconds that one shape is tried for in one round; the fastest product counts.
const TRIED_MS: &str = "400";
/// Sides of the square products.
const SQUARES: [usize; 4] = [512, 1024, 2048, 3072];

/// Rates of both sides by shape and round, in GFLOP/s.
struct Rates {
    shapes: Vec<(String, [usize; 3])>,
    ours: Vec<Vec<f64>>,
    /// Empty without PyTorch.
    theirs: Vec<Vec<f64>>,
}

/// Prints what both sides make of every shape.
pub(crate) fn measure() {
    let rates = rates();
    let count = crate::figures::threads();
    println!("matrix products in f32, {count} threads, the fastest of {ROUNDS} rounds in turn:");
    for (at, (name, [rows, inner, columns])) in rates.shapes.iter().enumerate() {
        let of = |side: &[Vec<f64>]| side.iter().map(|round| round[at]).collect::<Vec<f64>>();
        let (ours, theirs) = (of(&rates.ours), of(&rates.theirs));
        let shape = format!("{rows} x {inner} x {columns}");
        print!("  {name:20} {shape:20} ours {:6.1} GFLOP/s", best(&ours));
        match theirs.is_empty() {
            true => println!(),
            false => println!(
                ", PyTorch {:6.1} GFLOP/s; ours is {} times it",
                best(&theirs),
                spread(&ratios(&ours, &theirs), 2)
            ),
        }
    }
    println!("  the machine's matrix peak: {:.1} GFLOP/s", machine_gflops());
}

/// The fastest product of any shape on either side, in GFLOP/s. Measured once in a run.
pub(crate) fn machine_gflops() -> f64 {
    let rates = rates();
    best(&rates.ours.iter().chain(&rates.theirs).map(|round| best(round)).collect::<Vec<f64>>())
}

fn best(rates: &[f64]) -> f64 {
    rates.iter().copied().fold(f64::NEG_INFINITY, f64::max)
}

fn rates() -> &'static Rates {
    static RATES: OnceLock<Rates> = OnceLock::new();
    RATES.get_or_init(|| {
        let shapes = shapes();
        let list: Vec<[usize; 3]> = shapes.iter().map(|(_, shape)| *shape).collect();
        let text = serde_json::to_string(&list).expect("numbers");
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            ours.push(numbers(figures_of(&mut this_program(&["products", &text, TRIED_MS]))));
            if let Some(mut command) = python(PYTORCH, "pytorch_products.py", &[&text, TRIED_MS]) {
                theirs.push(numbers(figures_of(&mut command)));
            }
        }
        Rates { shapes, ours, theirs }
    })
}

fn numbers(found: Value) -> Vec<f64> {
    serde_json::from_value(found["gflops"].clone()).expect("a number per shape")
}

/// Squares, and products of the models that `train` trains: rows, inner, columns.
fn shapes() -> Vec<(String, [usize; 3])> {
    let square = |&side: &usize| (format!("square of {side}"), [side; 3]);
    let mut shapes: Vec<_> = SQUARES.iter().map(square).collect();
    for (name, sequences, ..) in SHAPES {
        let model = preset(name).expect("a preset");
        let [rows, hidden, inner, vocabulary] = [
            sequences * model.sequence_length,
            model.hidden_size,
            model.ffn_size,
            model.vocabulary,
        ]
        .map(|size| size as usize);
        shapes.push((format!("{name}, attention"), [rows, hidden, hidden]));
        shapes.push((format!("{name}, up"), [rows, hidden, inner]));
        shapes.push((format!("{name}, down"), [rows, inner, hidden]));
        shapes.push((format!("{name}, head"), [rows, hidden, vocabulary]));
    }
    shapes
}

/// `products SHAPES-JSON MILLISECONDS`: prints the rate of each shape.
pub(crate) fn child(arguments: &[String]) {
    let [shapes, milliseconds] = arguments else { panic!("SHAPES-JSON MILLISECONDS") };
    let shapes: Vec<[usize; 3]> = serde_json::from_str(shapes).expect("shapes");
    let tried = Duration::from_millis(milliseconds.parse().expect("milliseconds"));
    let rate = |[rows, inner, columns]: [usize; 3]| {
        hm_train::profile::product_gflops(rows, inner, columns, tried)
    };
    let gflops: Vec<f64> = shapes.into_iter().map(rate).collect();
    println!("{}", serde_json::json!({ "gflops": gflops }));
}

/// Prints what share of the machine's peak a training rate is.
pub(crate) fn print_share(label: &str, flops_per_token: u64, tokens_per_second: &[f64]) {
    let peak = machine_gflops();
    let rate = |tokens: &f64| flops_per_token as f64 * tokens / 1e9;
    let gflops: Vec<f64> = tokens_per_second.iter().map(rate).collect();
    let shares: Vec<f64> = gflops.iter().map(|rate| 100.0 * rate / peak).collect();
    println!(
        "  {label:18} {:24} GFLOP/s of useful work, {} % of the machine's matrix peak of {peak:.1}",
        middle(&gflops, 1),
        middle(&shares, 1)
    );
}
