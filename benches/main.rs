//! The numbers we hold ourselves to, as ratios: both sides of each are taken in this run.
//!
//!     make bench                      everything
//!     make bench ARMS="call audit"    some of it; an unknown name lists them all
//!
//! `HM_PYTORCH_PYTHON` and `HM_TRANSFORMERS_PYTHON` name Pythons with PyTorch and transformers; without
//! them a comparison is left out and says so. Nothing here is a test: a number is printed, never
//! asserted.

mod audit;
mod call;
mod checkpoint;
mod figures;
mod generate;
mod overhead;
mod peak;
#[path = "../tests/place.rs"]
#[allow(dead_code, reason = "the tests' place, of which the benches use a part")]
mod place;
mod profile;
mod run_spec;
mod sequence;
mod train;
mod weights;

/// Arms by name, in the order they are taken.
const ARMS: [(&str, fn()); 10] = [
    ("call", call::measure),
    ("audit", audit::measure),
    ("overhead", overhead::measure),
    ("peak", peak::measure),
    ("train", train::measure),
    ("weights", weights::measure),
    ("profile", profile::measure),
    ("sequence", sequence::measure),
    ("generate", generate::measure),
    ("checkpoint", checkpoint::measure),
];

/// A child process of an arm: one side of a pair, in a process of its own.
type Child = fn(&[String]);

const CHILDREN: [(&str, Child); 7] = [
    ("bare-run", overhead::child),
    ("products", peak::child),
    ("train-steps", train::child),
    ("profile-step", profile::child),
    ("generate-tokens", generate::child),
    ("checkpoint-times", checkpoint::child),
    ("bare-file", checkpoint::bare_child),
];

fn main() {
    // As hm does before it trains.
    if !hm_train::keep_freed_memory() {
        eprintln!("bench: this C library is not glibc, so freed memory goes back to the system");
    }
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let Some((first, rest)) = arguments.split_first()
        && let Some((_, child)) = CHILDREN.iter().find(|(name, _)| name == first)
    {
        return child(rest);
    }
    if let Some(unknown) = arguments.iter().find(|name| ARMS.iter().all(|arm| arm.0 != **name)) {
        let known = ARMS.map(|arm| arm.0).join(", ");
        eprintln!("no bench `{unknown}`; there are {known}");
        std::process::exit(2);
    }
    for (name, measure) in ARMS {
        if arguments.is_empty() || arguments.iter().any(|wanted| wanted == name) {
            measure();
        }
    }
}
