//! Time and memory as the sequence grows while a step's tokens stay the same: what the length alone
//! costs, ours against eager PyTorch's.

use hm_train::preset;

use crate::figures::{PYTORCH, figure, median, ratios, spread};
use crate::train::Sides;

/// Whose width and depth.
const PRESET: &str = "tiny";
const TOKENS: u32 = 4096;
const LENGTHS: [u32; 5] = [256, 512, 1024, 2048, 4096];
/// Timed steps of a process: one, so that all lengths take two minutes. The rounds say how far it varies.
const STEPS: usize = 1;
const ROUNDS: usize = 3;

/// Prints tokens per second and peak memory of both sides at each length.
pub(crate) fn measure() {
    println!("train step by sequence length, {PRESET}, {TOKENS} tokens a step, {ROUNDS} rounds:");
    for length in LENGTHS {
        let mut model = preset(PRESET).expect("a preset");
        model.sequence_length = length;
        let Some(sides) = Sides::measure(&model, TOKENS / length, STEPS, ROUNDS) else {
            println!("  left out, {PYTORCH} names no Python");
            return;
        };
        let [ours, theirs] =
            [&sides.ours, &sides.theirs].map(|side| figure(side, "tokens_per_second"));
        let [our_mb, their_mb] =
            [&sides.ours, &sides.theirs].map(|side| median(&figure(side, "peak_mb")));
        println!(
            "  length {length:4}: ours {} tokens/s and {our_mb:.0} MB, PyTorch eager {} tokens/s and {their_mb:.0} MB; \
             ours is {} times as fast",
            spread(&ours, 0),
            spread(&theirs, 0),
            spread(&ratios(&ours, &theirs), 2)
        );
    }
}
