//! Tokens a second, MFU and memory beside PyTorch's on the same models, in turn.

use std::process::Command;
use std::time::Instant;

use hm_domain::precision::Precision;
use hm_train::{DeviceChoice, Peak, Trainer, model_flops_utilization};
use serde_json::{Value, json};

use crate::model::{batch, model, spec, step};

/// Model, sequences at once.
const SHAPES: [(&str, u32); 2] = [("125m", 16), ("1.3b", 4)];
/// Timed steps of a process. Those before it choose kernels.
const STEPS: usize = 10;
const WARM_UP_STEPS: usize = 5;
const ROUNDS: usize = 2;

/// Prints both sides, and by how much they differ.
pub(crate) fn measure() {
    let python = std::env::var_os("HM_PYTORCH_PYTHON");
    let script = std::env::var_os("HM_PYTORCH_STEP");
    for (name, sequences) in SHAPES {
        let sequences = sequences.to_string();
        for precision in ["f32", "bf16"] {
            println!("{name}, {sequences} sequences of 2048 at once, {precision}:");
            for _ in 0..ROUNDS {
                let us = std::env::current_exe().expect("this program");
                let mut command = Command::new(us);
                told("ours", figures(command.args(["speed-of", name, &sequences, precision])));
                let (Some(python), Some(script)) = (&python, &script) else {
                    println!("  PyTorch: left out, HM_PYTORCH_PYTHON and HM_PYTORCH_STEP name it");
                    continue;
                };
                let model = serde_json::to_string(&model(name)).expect("plain data");
                let steps = STEPS.to_string();
                let mut command = Command::new(python);
                command.arg(script).args([&model, &sequences, &steps, precision, "cuda"]);
                told("PyTorch, eager", figures(&mut command).map(|found| with_mfu(name, found)));
            }
        }
    }
}

/// What a process printed last; its own words if it failed.
fn figures(command: &mut Command) -> Result<Value, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().unwrap_or_default();
    serde_json::from_str(last).map_err(|_| String::from_utf8_lossy(&output.stderr).into_owned())
}

fn told(side: &str, found: Result<Value, String>) {
    match found {
        Ok(found) => println!(
            "  {side:14} {:9.0} tokens/s, MFU {:5.1} %, {:7.0} MB",
            found["tokens_per_second"].as_f64().unwrap_or(f64::NAN),
            found["mfu"].as_f64().unwrap_or(f64::NAN) * 100.0,
            found["peak_mb"].as_f64().unwrap_or(f64::NAN)
        ),
        Err(words) => println!("  {side:14} failed: {}", words.trim()),
    }
}

/// PyTorch's figures with the same formula over the same peak.
fn with_mfu(name: &str, mut found: Value) -> Value {
    let rate = found["tokens_per_second"].as_f64().unwrap_or(f64::NAN);
    let device = found["device"].as_str().unwrap_or_default().to_owned();
    let mfu =
        Peak::of(&device, None).map(|peak| model_flops_utilization(&model(name), rate, peak, 1));
    found["mfu"] = json!(mfu);
    found
}

/// `speed-of MODEL SEQUENCES PRECISION`: prints what one process measured.
pub(crate) fn child(arguments: &[String]) {
    let [name, sequences, precision] = arguments else { panic!("MODEL SEQUENCES PRECISION") };
    let sequences: u32 = sequences.parse().expect("a number");
    let precision = match precision.as_str() {
        "f32" => Precision::F32,
        "bf16" => Precision::Bf16,
        other => panic!("no precision `{other}`"),
    };
    let spec = spec(model(name), sequences, precision);
    let mut trainer = Trainer::new(&spec, &DeviceChoice::Cuda(vec![0])).expect("a trainer");
    let mut seconds = Vec::new();
    for number in 0..WARM_UP_STEPS + STEPS {
        let batch = batch(&spec.model, sequences, number as u32);
        let start = Instant::now();
        step(&mut trainer, &batch, 1.0).expect("a step");
        seconds.push(start.elapsed().as_secs_f64());
    }
    // Losses are read in every step, so a step waits for the one before it; the last update alone is
    // not waited for, and the first timed step waits for one that is not timed.
    let timed = &mut seconds[WARM_UP_STEPS..];
    timed.sort_by(f64::total_cmp);
    let rate = f64::from(sequences * spec.model.sequence_length) / timed[timed.len() / 2];
    let peak = Peak::of(trainer.device_name(), None);
    let mfu = peak.map(|peak| model_flops_utilization(&spec.model, rate, peak, 1));
    let peak_mb = trainer.device_bytes().map(|bytes| bytes as f64 / 1e6);
    let device = trainer.device_name();
    println!(
        "{}",
        json!({"tokens_per_second": rate, "mfu": mfu, "peak_mb": peak_mb, "device": device})
    );
}
