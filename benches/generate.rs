//! Greedy text from a model with a cache of keys and values: ours against transformers' `generate`, on
//! the same weights, the same prompt and as many new tokens.

use std::path::Path;
use std::time::Instant;

use hm_train::{
    Choice, Chooser, DeviceChoice, Devices, ElementType, ExportChoice, ExportSource, Generator,
    InitialWeights, Trainer, export, import, preset,
};
use serde_json::Value;

use crate::figures::{
    TRANSFORMERS, child as this_program, figure, figures_of, median, peak_mb, python, ratios,
    spread, threads,
};

/// Preset, tokens of the prompt, new tokens.
const SHAPES: [(&str, usize, usize); 2] = [("tiny", 64, 128), ("small", 128, 256)];
const ROUNDS: usize = 3;
/// Texts that a process makes after one that is not counted; it gives the median.
const REPEATS: &str = "3";

/// Prints tokens per second of both sides, prompt and new tokens apart, and whether the ids are equal.
pub(crate) fn measure() {
    if std::env::var_os(TRANSFORMERS).is_none() {
        println!("generate against transformers: left out, {TRANSFORMERS} names no Python");
        return;
    }
    for (name, prompt, new) in SHAPES {
        let folder = tempfile::tempdir().expect("a folder");
        let [exported, imported] = weights(name, folder.path());
        let count = threads().to_string();
        let sizes = [prompt.to_string(), new.to_string()];
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let arguments = ["generate-tokens", &imported, &sizes[0], &sizes[1], REPEATS];
            ours.push(figures_of(&mut this_program(&arguments)));
            let arguments = [exported.as_str(), &sizes[0], &sizes[1], REPEATS, &count];
            let command = python(TRANSFORMERS, "transformers_generate.py", &arguments);
            theirs.push(figures_of(&mut command.expect("it was named")));
        }
        println!(
            "greedy text, {name}, f32, {new} tokens after {prompt}, {count} threads, {ROUNDS} rounds in turn:"
        );
        for (what, unit) in [("prefill", "prompt tokens/s"), ("decode", "new tokens/s")] {
            let [ours, theirs] = [&ours, &theirs].map(|side| figure(side, what));
            println!(
                "  {what:8} ours {} {unit}, transformers {} {unit}; ours is {} times as fast",
                spread(&ours, 0),
                spread(&theirs, 0),
                spread(&ratios(&ours, &theirs), 2)
            );
        }
        let peaks = [&ours, &theirs].map(|side| median(&figure(side, "peak_mb")));
        println!("  peak memory: ours {:.0} MB, transformers {:.0} MB", peaks[0], peaks[1]);
        println!("  {}", agreement(&ours[0]["ids"], &theirs[0]["ids"]));
    }
}

fn agreement(ours: &Value, theirs: &Value) -> String {
    let [ours, theirs] = [ours, theirs].map(|ids| ids.as_array().expect("ids"));
    match ours.iter().zip(theirs).position(|(a, b)| a != b) {
        Some(at) => {
            format!("the ids DIFFER from new token {at} on: {} and {}", ours[at], theirs[at])
        }
        None if ours.len() != theirs.len() => {
            format!("the ids DIFFER in number: {} and {}", ours.len(), theirs.len())
        }
        None => format!("both sides choose the same {} ids", ours.len()),
    }
}

/// A model with its first values as a Hugging Face folder, and that folder imported again.
fn weights(name: &str, folder: &Path) -> [String; 2] {
    let model = preset(name).expect("a preset");
    let spec = crate::run_spec::spec(model.clone(), 1);
    let trainer = Trainer::new(&spec, &DeviceChoice::Cpu).expect("a trainer");
    let saved = trainer.save(folder, &crate::checkpoint::state(0)).expect("it is saved");
    let digest = saved.digest;
    let source = ExportSource::Checkpoint { folder: folder.join(saved.folder), model, digest };
    let [exported, imported] = ["exported", "imported"].map(|name| folder.join(name));
    let choice = ExportChoice { element: ElementType::F32, shard_bytes: u64::MAX };
    export(&source, &exported, choice, None, &mut |_, _| {}).expect("it is exported");
    import(&exported, &imported, None, &mut |_, _| {}).expect("it is imported");
    [exported, imported].map(|path| path.to_str().expect("a path of text").to_owned())
}

/// `generate-tokens FOLDER PROMPT NEW REPEATS`: prints rates and the ids of one process.
pub(crate) fn child(arguments: &[String]) {
    let [folder, sizes @ ..] = arguments else { panic!("FOLDER PROMPT NEW REPEATS") };
    let sizes: Vec<usize> = sizes.iter().map(|size| size.parse().expect("a number")).collect();
    let [prompt, new, repeats] = sizes[..] else { panic!("FOLDER PROMPT NEW REPEATS") };
    let weights = InitialWeights::read(folder.as_ref()).expect("imported weights");
    let vocabulary = weights.model.vocabulary;
    let prompt: Vec<u32> = (0..prompt as u32).map(|at| prompt_id(at, vocabulary)).collect();
    let source = ExportSource::Initial(weights);
    let devices = Devices::open(&DeviceChoice::Cpu).expect("a CPU");
    let (mut prefill, mut decode, mut ids) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..=repeats {
        let mut generator =
            Generator::open(&source, &devices, &mut |_, _| {}).expect("a generator");
        let greedy = Choice { temperature: 0.0, top_k: 0, top_p: 1.0, seed: 0 };
        let mut chooser = Chooser::new(greedy).expect("greedy");
        let start = Instant::now();
        let mut next = chooser.next(&generator.feed(&prompt).expect("room"));
        let first = start.elapsed().as_secs_f64();
        ids = vec![next];
        while ids.len() < new {
            next = chooser.next(&generator.feed(&[next]).expect("room"));
            ids.push(next);
        }
        prefill.push(prompt.len() as f64 / first);
        decode.push((new - 1) as f64 / (start.elapsed().as_secs_f64() - first));
    }
    let figures = serde_json::json!({
        "prefill": median(&prefill[1..]),
        "decode": median(&decode[1..]),
        "peak_mb": peak_mb(),
        "ids": ids,
    });
    println!("{figures}");
}

/// The same prompt on both sides, spread over the vocabulary.
fn prompt_id(at: u32, vocabulary: u32) -> u32 {
    (at * 7919 + 13) % vocabulary
}
