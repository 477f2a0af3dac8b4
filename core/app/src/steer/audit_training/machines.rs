//! Whose machine trained which steps, as the log says, and what of that an audit cannot come to again.

use hm_domain::event::{Environment, RunResumed};
use hm_train::Trainer;

use super::DIFFERENCE_MAX;

/// Why the weights that a worker went on with are not those that come out of the stretch that it took up
/// in the middle, if so. `then` trained it before, and `is_exact` says whether that comes out to the bit.
pub(super) fn why_left(
    (then, is_exact): (&Environment, bool),
    resumed: &RunResumed,
) -> Option<String> {
    let RunResumed { step, caught_up_steps, agreed, difference_max, environment: now, .. } =
        resumed;
    // It had trained nothing itself: its weights are the checkpoint's.
    if *caught_up_steps == 0 {
        return None;
    }
    if !agreed && (is_exact || *difference_max > DIFFERENCE_MAX) {
        return Some(format!(
            "the worker that took the run up at step {step} came to other weights and went on with those"
        ));
    }
    let (was, is) = match then.device != now.device {
        true => (&then.device, &now.device),
        false if is_exact && then.processor != now.processor => (&then.processor, &now.processor),
        false => return None,
    };
    Some(format!("taken up at step {step} on {is}, trained before on {was}"))
}

/// What of the machines that trained the run may give other bits than this one.
pub(super) fn other_machines(environments: &[Environment], trainer: &Trainer) -> Option<String> {
    let mut apart: Vec<String> = Vec::new();
    for said in environments.iter().flat_map(|then| differences(then, trainer)) {
        if !apart.contains(&said) {
            apart.push(said);
        }
    }
    (!apart.is_empty())
        .then(|| format!("another machine, which may come to other bits: {}", apart.join("; ")))
}

fn differences(then: &Environment, trainer: &Trainer) -> Vec<String> {
    let now = hm_train::fingerprint();
    let pairs = [
        ("device", then.device.as_str(), trainer.device_name()),
        ("processor", &then.processor, &now.processor),
        ("instruction set", &then.instruction_set, &now.instruction_set),
        ("C library", &then.c_library, &now.c_library),
    ];
    let apart = pairs.iter().filter(|(_, then, now)| then != now);
    apart.map(|(what, then, now)| format!("{what} {now} here, {then} then")).collect()
}

#[cfg(test)]
mod tests {
    use hm_domain::id::Digest;

    use super::*;

    fn on(device: &str, processor: &str) -> Environment {
        let (device, processor) = (device.to_owned(), processor.to_owned());
        let (instruction_set, c_library, host) = (String::new(), String::new(), String::new());
        let (build, threads, process) = (Digest::ZERO, 1, 1);
        Environment { build, device, processor, instruction_set, c_library, threads, host, process }
    }

    fn resumed(caught_up_steps: u64, difference_max: f64, environment: Environment) -> RunResumed {
        RunResumed {
            step: 12,
            checkpoint: None,
            checkpoint_step: 8,
            folded_from: 0,
            caught_up_steps,
            agreed: difference_max == 0.0,
            difference_max,
            passed_over: Vec::new(),
            environment,
        }
    }

    #[test]
    fn stretch_is_left_where_a_worker_went_on_with_weights_of_its_own() {
        let (here, there, gpu) = (on("cpu", "one"), on("cpu", "other"), on("cuda", "one"));
        let left = |then: &Environment, is_exact, steps, apart, now: &Environment| {
            why_left((then, is_exact), &resumed(steps, apart, now.clone()))
        };
        assert_eq!(left(&here, true, 4, 0.0, &here), None);
        // From a checkpoint, whatever the machine.
        assert_eq!(left(&here, true, 0, 0.0, &gpu), None);
        let why = left(&here, true, 4, 0.0, &gpu).unwrap();
        assert_eq!(why, "taken up at step 12 on cuda, trained before on cpu");
        let why = left(&here, true, 4, 0.0, &there).unwrap();
        assert_eq!(why, "taken up at step 12 on other, trained before on one");
        let why = left(&here, true, 4, 1e-9, &here).unwrap();
        assert!(why.contains("came to other weights"), "{why}");
        // What is compared within bounds may differ within them.
        assert_eq!(left(&gpu, false, 4, 1e-9, &gpu), None);
        assert!(left(&gpu, false, 4, 0.5, &gpu).is_some());
    }
}
