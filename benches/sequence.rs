//! Time and memory as the sequence grows while a step's tokens stay the same: what the length alone
//! costs, ours against eager PyTorch's.

use hm_train::preset;

use crate::figures::{PYTORCH, middle, ratios};
use crate::train::Side;

/// Whose width and depth.
const PRESET: &str = "tiny";
const TOKENS: u32 = 4096;
const LENGTHS: [u32; 5] = [256, 512, 1024, 2048, 4096];
/// Pairs of timed steps at each length.
const PAIRS: usize = 8;

/// Prints tokens per second and peak memory of both sides at each length.
pub(crate) fn measure() {
    println!("train step by sequence length, {PRESET}, {TOKENS} tokens a step, {PAIRS} pairs:");
    for length in LENGTHS {
        let mut model = preset(PRESET).expect("a preset");
        model.sequence_length = length;
        let Some([ours, theirs]) = Side::both(&model, TOKENS / length, PAIRS) else {
            println!("  left out, {PYTORCH} names no Python");
            return;
        };
        print!("  length {length:4}: ");
        for (label, side) in [("ours", &ours), ("PyTorch eager", &theirs)] {
            let rate = |seconds: &f64| f64::from(TOKENS) / seconds;
            let rates: Vec<f64> = side.seconds.iter().map(rate).collect();
            print!("{label} {} tokens/s and {:.0} MB, ", middle(&rates, 0), side.peak_mb);
        }
        let ratios = ratios(&theirs.seconds, &ours.seconds);
        println!("ours is {} times as fast", middle(&ratios, 2));
    }
}
