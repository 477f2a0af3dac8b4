//! What a measurement of the weights costs, in training steps.

use std::time::Instant;

use hm_domain::step::Verdict;
use hm_train::{DeviceChoice, Trainer, preset};

use crate::figures::{median, spread};
use crate::run_spec::{knobs, spec};
use crate::train::batch;

/// Preset, sequences of a step, timed steps.
const SHAPES: [(&str, u32, u64); 2] = [("tiny", 8, 8), ("small", 4, 4)];
/// Measurements after each step.
const MEASUREMENTS: usize = 5;

/// Prints both times, in turn, and what measuring every 100 steps adds to a run.
pub(crate) fn measure() {
    for (name, sequences, steps) in SHAPES {
        let spec = spec(preset(name).expect("a preset"), sequences);
        let mut trainer = Trainer::new(&spec, &DeviceChoice::Cpu).expect("a trainer");
        let knobs = knobs();
        let (mut stepping, mut measuring) = (Vec::new(), Vec::new());
        for step in 0..steps + 1 {
            let batch = batch(&spec.model, sequences, step);
            let start = Instant::now();
            trainer.step(&batch, &knobs, &mut |_| Verdict::Proceed).expect("a step");
            stepping.push(start.elapsed().as_secs_f64() * 1e3);
            for _ in 0..MEASUREMENTS {
                let start = Instant::now();
                std::hint::black_box(trainer.weight_state().expect("a CPU"));
                measuring.push(start.elapsed().as_secs_f64() * 1e3);
            }
        }
        // The first of each pays for memory and threads.
        let (stepping, measuring) = (&stepping[1..], &measuring[MEASUREMENTS..]);
        let share = 100.0 * median(measuring) / median(stepping);
        println!("weight state, {name}, {sequences} sequences:");
        println!("  a step {} ms, a measurement {} ms", spread(stepping, 1), spread(measuring, 3));
        println!("  {share:.2} % of a step; every 100 steps {:.4} % of a run", share / 100.0);
    }
}
