//! Logs that no worker writes: an audit names the event and ends there.

use super::*;
use crate::mixture::Mixture;

/// What an audit first finds in a run of five steps with a policy, one event of which is changed.
fn found(change: impl Fn(&mut Event) -> bool) -> String {
    let mut run = Run::start();
    run.bind();
    (0..5).for_each(|_| run.step());
    run.command(Command::SetMixture { shares: vec![3.0, 1.0], reason: String::new() });
    run.command(set_batch(4));
    (0..3).for_each(|_| run.step());
    assert_eq!(run.audit().diverged, 0);
    run.forge(change);
    run.first_divergence()
}

fn in_a_step(change: impl Fn(&mut StepRecorded)) -> String {
    found(|event| match event {
        Event::StepRecorded(step) if step.step == 3 => {
            change(step);
            true
        }
        _ => false,
    })
}

fn with_weights(weights: &[u64]) -> String {
    found(|event| match event {
        Event::MixtureSet(set) => {
            set.mixture = Mixture { version: 1, weights: weights.to_vec() };
            true
        }
        _ => false,
    })
}

#[test]
fn event_that_cannot_be_folded_is_named_and_nothing_panics() {
    let shape = "shape of the event";
    assert_eq!(in_a_step(|step| step.draws.truncate(1)), shape);
    assert_eq!(in_a_step(|step| step.draws[0].carry = i64::MIN), shape);
    assert_eq!(in_a_step(|step| step.pre_step.losses.clear()), shape);
    assert_eq!(in_a_step(|step| step.pre_step.losses[1].tokens = u64::MAX), shape);
    assert_eq!(in_a_step(|step| step.tokens = u64::MAX), shape);
    assert_eq!(in_a_step(|step| step.step = u64::MAX), shape);
    assert_eq!(in_a_step(|step| step.receipts[0].binding = BindingId(7)), shape);
    let huge = Mixture { version: 2, weights: vec![u64::MAX, 1] };
    let effect = Effect::Mixture { mixture: huge, effective_step: 4, rules: Vec::new() };
    assert_eq!(in_a_step(|step| step.receipts[0].effects = vec![effect.clone()]), shape);
    let weights = Effect::LossWeights { weights: vec![1.0] };
    assert_eq!(in_a_step(|step| step.receipts[0].effects = vec![weights.clone()]), shape);
    for weights in [&[0, 0][..], &[1 << 32], &[1 << 62, 1 << 62], &[1 << 31, 1 << 31, 0]] {
        assert_eq!(with_weights(weights), shape, "{weights:?}");
    }
    let batch = found(|event| match event {
        Event::BatchSizeSet(set) => {
            set.sequences = u32::MAX;
            true
        }
        _ => false,
    });
    assert_eq!(batch, shape);
}

#[test]
fn first_event_that_makes_no_run_is_named() {
    let started = |change: &dyn Fn(&mut RunSpec)| {
        found(|event| match event {
            Event::RunStarted(started) => {
                let mut spec: RunSpec = serde_json::from_str(&started.spec).unwrap();
                change(&mut spec);
                started.spec = serde_json::to_string(&spec).unwrap();
                true
            }
            _ => false,
        })
    };
    assert_eq!(started(&|spec| spec.domains.clear()), "start of the run");
    assert_eq!(started(&|spec| spec.domains.truncate(1)), "start of the run");
    assert_eq!(started(&|spec| spec.model.heads = 0), "start of the run");
    assert_eq!(started(&|spec| spec.domains[0].segments[0].tokens = u64::MAX), "start of the run");
    assert_eq!(started(&|spec| spec.training.steps = 0), "start of the run");
    let twice = found(|event| match event {
        Event::RunStarted(_) => {
            *event = Event::RunPaused(RunPaused { step: 0 });
            true
        }
        _ => false,
    });
    assert_eq!(twice, "start of the run");
}
