//! What only a machine with a GPU can tell: whether CUDA trains as the CPU does, what happens when its
//! memory is full, and how fast it is beside PyTorch. `make gpu-check` builds and runs it.
//!
//! Every check says what it found and what was due; the process ends with 1 if one failed,
//! and with 2 where there is no GPU.

mod agreement;
mod model;
#[path = "../run_spec.rs"]
mod run_spec;
mod speed;

use std::process::ExitCode;

use hm_train::{DeviceChoice, Trainer};

fn main() -> ExitCode {
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let Some((first, rest)) = arguments.split_first()
        && first == "speed-of"
    {
        speed::child(rest);
        return ExitCode::SUCCESS;
    }
    // Without a GPU no check means anything.
    let spec = run_spec::spec(model::model("tiny"), 1);
    if let Err(error) = Trainer::new(&spec, &DeviceChoice::Cuda(vec![0])) {
        eprintln!("gpu-check: {error}");
        return ExitCode::from(2);
    }
    match arguments.split_first() {
        Some((first, [])) if first == "speed" => {
            speed::measure();
            ExitCode::SUCCESS
        }
        Some((first, [])) if first == "agreement" => agreement::check(),
        None => {
            let agreed = agreement::check();
            speed::measure();
            agreed
        }
        _ => {
            eprintln!("arguments: none for everything, or `agreement`, or `speed`");
            ExitCode::from(2)
        }
    }
}
