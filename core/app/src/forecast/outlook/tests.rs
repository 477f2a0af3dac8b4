use hm_domain::event::{BatchSizeSet, Environment, Event, RunStarted};
use hm_domain::id::Digest;
use hm_domain::limits::first_mixture;

use super::*;

/// 100 steps of 8 sequences of 4 tokens, of two domains of 100.
fn spec() -> RunSpec {
    serde_json::from_str(include_str!("../../../../store/tests/spec.json")).unwrap()
}

fn state(spec: &RunSpec) -> RunState {
    let none = String::new;
    RunState::start(&Event::RunStarted(RunStarted {
        spec: serde_json::to_string(spec).unwrap(),
        prior: first_mixture(spec).unwrap().mixture,
        environment: Environment {
            build: Digest::ZERO,
            device: none(),
            processor: none(),
            instruction_set: none(),
            c_library: none(),
            threads: 1,
            host: none(),
            process: 1,
        },
        parent: None,
    }))
    .unwrap()
}

fn of_start(spec: &RunSpec) -> String {
    remarks(spec, &first_mixture(spec).unwrap()).join("\n")
}

#[test]
fn domain_that_is_read_many_times_is_told_unless_its_passes_are_bounded() {
    let mut spec = spec();
    let often =
        "will be read many times; limits.a.max_epochs bounds that: a (16.0 times), b (16.0 times)";
    assert!(of_start(&spec).contains(often), "{}", of_start(&spec));
    spec.domains[0].max_epochs = Some(7.0);
    let told = of_start(&spec);
    assert!(told.contains("limits.b.max_epochs bounds that: b (25.0 times)"), "{told}");
    let changed = "limits change the first mixture: a 0.5000 to 0.2188, b 0.5000 to 0.7812; max_epochs \
                   holds a share down";
    assert!(told.starts_with(changed), "{told}");
}

#[test]
fn knob_turned_by_hand_is_told_by_what_it_makes_of_the_rest() {
    let mut spec = spec();
    let mut later = state(&spec);
    let (reason, by) = (String::new(), String::new());
    later.apply(&Event::BatchSizeSet(BatchSizeSet { step: 0, sequences: 16, reason, by }));
    let reason = String::new;
    let told = turned(&later, &Command::SetBatchSize { sequences: 16, reason: reason() });
    assert_eq!(told.len(), 1);
    assert!(told[0].ends_with("a (32.0 times), b (32.0 times)"), "{told:?}");
    assert_eq!(told[0], resumed(&later)[0]);
    assert!(turned(&later, &Command::Pause { reason: reason() }).is_empty());
    spec.domains[0].max_epochs = Some(4.0);
    let set = Command::SetMixture { shares: vec![3.0, 1.0], reason: reason() };
    let told = turned(&state(&spec), &set);
    let due = "limits change the mixture that was asked for: a 0.7500 to 0.1250, b 0.2500 to 0.8750; \
               max_epochs holds a share down";
    assert_eq!(told[0], due);
}

#[test]
fn limit_that_acts_in_mid_run_is_a_sentence() {
    let before = Mixture::from_shares(0, &[0.5, 0.5]).unwrap();
    let rules = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let moved = MixtureLimited {
        step: 7,
        mixture: Mixture::from_shares(1, &[0.25, 0.75]).unwrap(),
        rules: rules(&["epoch-cap"]),
    };
    assert_eq!(
        limited(&spec(), &before, &moved),
        "step 7: limits act on the mixture: a 0.5000 to 0.2500, b 0.5000 to 0.7500; max_epochs holds a \
         share down"
    );
    let given_way =
        MixtureLimited { mixture: before.clone(), rules: rules(&["epoch-cap-relaxed"]), ..moved };
    assert_eq!(
        limited(&spec(), &before, &given_way),
        "step 7: limits act on the mixture: no share moves; max_epochs gives way, since the domains may \
         not give what is still to be drawn"
    );
}

#[test]
fn nothing_held_out_is_told_once_and_a_peak_that_is_a_slip_too() {
    let mut spec = spec();
    spec.domains.iter_mut().for_each(|domain| domain.validation = None);
    spec.schedule.peak = 100.0;
    let told = of_start(&spec);
    assert!(told.contains("nothing is held out, so no validation has a loss: set data.validation"));
    assert!(!told.contains("raise data.validation.fraction"), "{told}");
    assert!(told.contains("training.learning_rate 100 is far above"), "{told}");
}
