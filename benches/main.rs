//! The numbers we hold ourselves to, as ratios: both sides of each are taken in this run.
//!
//!     make bench                                        everything
//!     cargo bench -p hm --bench product -- audit call   some of it: train, overhead, audit, call, weights
//!
//! `HM_PYTORCH_PYTHON` names a Python with PyTorch; without it the comparison with PyTorch is left out
//! and says so. Nothing here is a test: a number is printed, never asserted.

mod audit;
mod call;
mod figures;
mod overhead;
#[path = "../tests/place.rs"]
#[allow(dead_code, reason = "the tests' place, of which the benches use a part")]
mod place;
mod train;
mod weights;

fn main() {
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.first().map(String::as_str) {
        // A child process of an arm below: one side of a pair, in a process of its own.
        Some("train-steps") => return train::child(&arguments[1..]),
        Some("bare-run") => return overhead::child(&arguments[1..]),
        _ => {}
    }
    let arms: [(&str, fn()); 5] = [
        ("call", call::measure),
        ("audit", audit::measure),
        ("overhead", overhead::measure),
        ("train", train::measure),
        ("weights", weights::measure),
    ];
    if let Some(unknown) = arguments.iter().find(|name| arms.iter().all(|arm| arm.0 != **name)) {
        let known = arms.map(|arm| arm.0).join(", ");
        eprintln!("no bench `{unknown}`; there are {known}");
        std::process::exit(2);
    }
    for (name, measure) in arms {
        if arguments.is_empty() || arguments.iter().any(|wanted| wanted == name) {
            measure();
        }
    }
}
