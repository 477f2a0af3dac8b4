//! Floors, caps and epoch caps of runs that no policy steers, and mixtures set by hand under a lag.

use proptest::prelude::*;

use super::*;

/// 100 steps of 8 sequences of 4 tokens: 3200 tokens, of two domains of 100.
fn limited(max_epochs: f64) -> RunSpec {
    let mut spec = spec(2);
    spec.domains[0].max_epochs = Some(max_epochs);
    spec
}

impl Run {
    fn limited_steps(&self) -> Vec<u64> {
        let limited = |recorded: &Recorded| match &recorded.event {
            Event::MixtureLimited(limited) => Some(limited.step),
            _ => None,
        };
        self.log.iter().filter_map(limited).collect()
    }

    fn share(&self, domain: usize) -> f64 {
        self.mentor.state().mixture.share(domain)
    }
}

#[test]
fn first_mixture_is_held_to_floors_and_caps() {
    let mut spec = spec(2);
    (spec.domains[0].prior, spec.domains[1].prior) = (0.9, 0.1);
    spec.domains[0].cap = 0.3;
    let run = Run::of(spec.clone());
    assert!((run.share(0) - 0.3).abs() < 1e-9);
    spec.domains[0].cap = 1.0;
    spec.domains[1].floor = 0.25;
    let first = crate::limits::first_mixture(&spec).unwrap();
    assert!((first.mixture.share(1) - 0.25).abs() < 1e-9);
    assert_eq!((first.mixture.version, first.rules), (0, vec!["floor".to_owned()]));
}

#[test]
fn domain_is_read_as_often_as_it_may_be_without_a_policy() {
    // Four times 100 of 3200 tokens: an eighth, where a half is asked for.
    let mut run = Run::of(limited(4.0));
    assert!((run.share(0) - 0.125).abs() < 1e-9);
    (0..100).for_each(|_| run.step());
    assert_eq!(run.mentor.state().domain_tokens, [400, 2800]);
    assert_eq!(run.audit().diverged, 0);
}

#[test]
fn larger_batch_leaves_a_domain_its_epochs_to_the_end_of_the_run() {
    // Twice the batch reads the domain at twice the pace; the first mixture does not know of it.
    let mut run = Run::of(limited(4.0));
    run.command(set_batch(16));
    (0..100).for_each(|_| run.step());
    let served = run.mentor.state().domain_tokens[0];
    assert!((384..=416).contains(&served), "{served}");
    assert_eq!(run.limited_steps()[0], 0);
    assert!(run.limited_steps().len() <= 3, "{:?}", run.limited_steps());
    assert!(run.mentor.state().domain_tokens[1] >= 6400 - 416);
    assert_eq!(run.audit().diverged, 0);
    // Folded again it is the same run.
    let mut folded = RunState::start(&run.log[0].event).unwrap();
    run.log[1..].iter().for_each(|recorded| folded.apply(&recorded.event));
    assert_eq!(&folded, run.mentor.state());
}

/// 3200 tokens, of which the second domain may give seven times 100 and the first nine tenths.
fn capped() -> RunSpec {
    let mut spec = spec(2);
    spec.domains[0].cap = 0.9;
    spec.domains[1].max_epochs = Some(7.0);
    spec
}

#[test]
fn batch_for_which_the_domains_do_not_last_is_refused_by_the_largest_that_does() {
    let mut run = Run::of(capped());
    (0..10).for_each(|_| run.step());
    let refusal = run.command(set_batch(64)).unwrap();
    // 68 of 320 tokens are drawn of the second; 90 steps of 64 sequences of 4 tokens are left.
    for part in [
        "a batch of 64 sequences draws 23040 tokens in the steps that are left",
        " of them within limits.domain-0.cap 0.9, limits.domain-1.max_epochs 7: ",
        "at most 18 sequences last to the end",
    ] {
        assert!(refusal.contains(part), "{refusal}");
    }
    assert_eq!(run.mentor.state().overrides.sequences_per_step, None);
    assert_eq!(run.command(set_batch(18)), None);
    (10..100).for_each(|_| run.step());
    let served = &run.mentor.state().domain_tokens;
    // But for what whole sequences explain.
    assert!(served[1] <= 700 + 32 && served[0] as f64 <= 0.9 * 6800.0 + 32.0, "{served:?}");
    assert_eq!(run.audit().diverged, 0);
}

#[test]
fn batch_under_which_a_floor_cannot_be_fed_is_refused_and_a_smaller_one_never_is() {
    let mut spec = limited(4.0);
    spec.domains[0].floor = 0.1;
    let mut run = Run::of(spec);
    let refusal = run.command(set_batch(16)).unwrap();
    assert!(
        refusal.contains(
            "limits.domain-0.floor 0.1 takes 640 of them, and limits.domain-0.max_epochs 4 leaves it 400: at most 10 sequences"
        ),
        "{refusal}"
    );
    assert_eq!(run.command(set_batch(10)), None);
    assert_eq!(run.command(set_batch(1)), None);
}

/// As a log from before limits were asked for a whole run may be.
#[test]
fn limits_that_leave_no_mixture_give_way_and_say_so_once() {
    let mut spec = spec(2);
    spec.domains.iter_mut().for_each(|domain| domain.max_epochs = Some(4.0));
    let mut run = Run::of(spec);
    (0..40).for_each(|_| run.step());
    let told: Vec<Vec<String>> = run
        .log
        .iter()
        .filter_map(|recorded| match &recorded.event {
            Event::MixtureLimited(limited) => Some(limited.rules.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains(&"epoch-cap-relaxed".to_owned()), "{told:?}");
    assert_eq!(run.share(0), 0.5);
    // Not a batch that draws less, though that is still too much; it is told once more.
    assert_eq!(run.command(set_batch(7)), None);
    run.step();
    assert_eq!(run.limited_steps(), [0, 40]);
    assert!(run.command(set_batch(8)).is_some());
    assert_eq!(run.audit().diverged, 0);
}

#[test]
fn mixture_set_by_hand_is_held_to_the_limits() {
    let mut run = Run::of(limited(4.0));
    assert_eq!(
        run.command(Command::SetMixture { shares: vec![9.0, 1.0], reason: String::new() }),
        None
    );
    assert!((run.share(0) - 0.125).abs() < 1e-9);
    (0..100).for_each(|_| run.step());
    assert_eq!(run.mentor.state().domain_tokens, [400, 2800]);
}

#[test]
fn limit_that_was_left_out_or_made_up_is_named() {
    let mut run = Run::of(limited(4.0));
    run.command(set_batch(16));
    (0..60).for_each(|_| run.step());
    let seq = run.limited_steps().len();
    assert!(seq > 0);
    let mut forged = Run::of(limited(4.0));
    forged.log = run.log.clone();
    for recorded in &mut forged.log {
        if let Event::MixtureLimited(limited) = &mut recorded.event {
            limited.mixture = run.log[0].event.clone().prior();
        }
    }
    assert_eq!(forged.audit().first.unwrap().what, "mixture.version");
    // Nobody may hold a mixture that keeps within its limits.
    let mut made_up = Run::start();
    made_up.step();
    let state = made_up.mentor.state();
    let mixture = crate::mixture::Mixture::from_shares(1, &[0.9, 0.1]).unwrap();
    let limited = MixtureLimited { step: state.next_step, mixture, rules: Vec::new() };
    made_up.take(Decided { events: vec![Event::MixtureLimited(limited)], states: Vec::new() });
    assert_eq!(made_up.audit().first.unwrap().what, "what may come here");
}

#[test]
fn first_mixture_that_the_spec_does_not_give_is_named() {
    let mut run = Run::of(limited(4.0));
    run.forge(|event| match event {
        Event::RunStarted(started) => {
            started.prior = crate::mixture::Mixture::from_shares(0, &[0.5, 0.5]).unwrap();
            true
        }
        _ => false,
    });
    assert_eq!(run.audit().first.unwrap().what, "prior.weights[0]");
}

#[test]
fn mixture_set_by_hand_that_nobody_asked_for_is_named() {
    let mut run = Run::start();
    run.command(Command::SetMixture { shares: vec![3.0, 1.0], reason: String::new() });
    run.step();
    run.forge(|event| match event {
        Event::MixtureSet(set) => {
            set.mixture = crate::mixture::Mixture::from_shares(1, &[0.9, 0.1]).unwrap();
            true
        }
        _ => false,
    });
    assert_eq!(run.audit().first.unwrap().what, "mixture.weights[0]");
}

#[test]
fn mixture_set_by_hand_takes_effect_when_its_event_says_whatever_the_lag() {
    let mut run = Run::of(RunSpec { decision_lag: 6, ..spec(2) });
    run.bind();
    (0..3).for_each(|_| run.step());
    assert_eq!(run.mentor.state().pending.len(), 1, "the policy has decided for a step to come");
    assert_eq!(
        run.command(Command::SetMixture { shares: vec![1.0, 3.0], reason: String::new() }),
        None
    );
    let Event::MixtureSet(set) = &run.log.last().unwrap().event else { panic!("not set") };
    assert_eq!((set.step, run.share(1)), (3, 0.75));
    // What the policy decided before is void; what it decides after follows upon the hand.
    run.step();
    let Event::StepRecorded(step) = &run.log.last().unwrap().event else { panic!("no step") };
    let Effect::Mixture { mixture, effective_step, .. } = &step.receipts[0].effects[0] else {
        panic!("no mixture")
    };
    assert_eq!((*effective_step, mixture.version), (10, set_version(&run) + 1));
    (4..10).for_each(|_| run.step());
    assert!((run.share(1) - 0.75 / 1.25).abs() < 1e-9);
    assert_eq!(run.audit().diverged, 0);
}

fn set_version(run: &Run) -> u64 {
    run.log
        .iter()
        .find_map(|recorded| match &recorded.event {
            Event::MixtureSet(set) => Some(set.mixture.version),
            _ => None,
        })
        .unwrap()
}

impl Event {
    fn prior(self) -> crate::mixture::Mixture {
        let Event::RunStarted(started) = self else { panic!("not the first event") };
        started.prior
    }
}

proptest! {
    /// Whatever is asked for and turned, a domain passes its limit by a step's draw at most.
    #[test]
    fn no_domain_is_read_more_often_than_it_may_be(
        epochs in 0.0f64..20.0,
        wishes in prop::collection::vec((0u64..60, 1u32..20, 0.01f64..10.0), 0..6),
    ) {
        let mut run = Run::of(limited(epochs));
        for step in 0..100 {
            for &(at, batch, share) in &wishes {
                if at == step {
                    run.command(set_batch(batch));
                    run.command(Command::SetMixture { shares: vec![share, 1.0], reason: String::new() });
                }
            }
            run.step();
        }
        let served = run.mentor.state().domain_tokens[0] as f64;
        prop_assert!(served <= epochs * 100.0 + 20.0 * 4.0, "{} of {}", served, epochs * 100.0);
        prop_assert_eq!(run.audit().diverged, 0);
        prop_assert!(run.limited_steps().len() <= 30, "{:?}", run.limited_steps());
    }
}

proptest! {
    /// Limits that hold a mixture for the run hold it at every step, whatever is asked for meanwhile.
    #[test]
    fn hard_caps_floors_and_epochs_are_kept_to_the_end(
        caps in prop::collection::vec(0.2f64..1.0, 3),
        floors in prop::collection::vec(0.0f64..0.2, 3),
        epochs in prop::collection::vec(prop::option::of(2.0f64..40.0), 3),
        wishes in prop::collection::vec((0u64..60, 1u32..40, prop::collection::vec(0.01f64..10.0, 3)), 0..5),
    ) {
        let mut spec = spec(3);
        for (index, domain) in spec.domains.iter_mut().enumerate() {
            (domain.cap, domain.floor) = (caps[index], floors[index]);
            domain.max_epochs = epochs[index];
        }
        let mut faults = crate::settings::Faults::default();
        crate::spec::check_domains(&spec.domains, 3200, &mut faults);
        prop_assume!(faults.is_empty());
        let mut run = Run::of(spec);
        for step in 0..100 {
            for (at, batch, shares) in &wishes {
                if *at == step {
                    run.command(set_batch(*batch));
                    run.command(Command::SetMixture { shares: shares.clone(), reason: String::new() });
                }
            }
            run.step();
            for (index, cap) in caps.iter().enumerate() {
                prop_assert!(run.share(index) <= cap + 1e-6, "step {}: {:?}", step, caps);
            }
        }
        let served = &run.mentor.state().domain_tokens;
        let drawn = served.iter().sum::<u64>() as f64;
        for ((&served, floor), epochs) in served.iter().zip(&floors).zip(&epochs) {
            let most = epochs.map_or(f64::INFINITY, |epochs| epochs * 100.0);
            // Whole sequences, and a step's draw.
            let slack = 40.0 * 4.0;
            prop_assert!(served as f64 <= most + slack, "{} of {}", served, most);
            prop_assert!(served as f64 >= floor * drawn - slack, "{} of {}", served, drawn);
        }
        prop_assert_eq!(run.audit().diverged, 0);
    }
}
