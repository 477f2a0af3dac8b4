//! The mentor's rules by given, when and then, on runs without a trainer.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use self::run::{Run, envelope, even, missing_state};
use super::*;
use crate::audit::{DecisionAudit, Proofs};
use crate::batch::{Cursor, DomainDraw};
use crate::chain::Envelope;
use crate::command::{Asked, Candidate, Command};
use crate::difference;
use crate::follow::{BY_RUN_FILE, RUN_FILE};
use crate::mixture::quotas;
use crate::plugin::*;
use crate::spec::RunSpec;
use crate::step::{LossSums, weighted_loss};
use crate::testing::spec;

mod attempts;
mod ending;
mod histories;
mod knobs;
mod limits;
mod malformed;
mod mutations;
mod run;
mod states;
mod weights;

#[test]
fn policy_moves_the_mixture_from_the_next_step_at_its_own_cadence() {
    let mut run = Run::start();
    run.bind();
    run.step();
    assert_eq!(run.mentor.state().mixture.version, 0);
    run.step();
    assert_eq!(run.mentor.state().mixture.version, 1);
    assert!((run.mentor.state().mixture.share(0) - 2.0 / 3.0).abs() < 1e-9);
    let Event::StepRecorded(step) = &run.log.last().unwrap().event else { panic!("no step") };
    let Output::Actions(actions) = &step.receipts[0].output else { panic!("no actions") };
    assert_eq!(actions[0].diagnostics, [("seen".to_owned(), 2.0)]);
}

#[test]
fn folding_the_log_gives_the_live_state() {
    let mut run = Run::start();
    run.bind();
    (0..7).for_each(|_| run.step());
    let mut folded = RunState::start(&run.log[0].event).unwrap();
    run.log[1..].iter().for_each(|recorded| folded.apply(&recorded.event));
    assert_eq!(&folded, run.mentor.state());
}

#[test]
fn faults_fall_back_to_the_prior_and_then_quarantine() {
    let mut run = Run::start();
    run.bind();
    (0..2).for_each(|_| run.step());
    run.plugins.faulty.store(1, Ordering::Relaxed);
    (0..2).for_each(|_| run.step());
    assert_eq!(run.mentor.state().mixture.weights, run.mentor.state().prior.weights);
    (0..8).for_each(|_| run.step());
    let quarantined = |recorded: &Recorded| matches!(recorded.event, Event::BindingQuarantined(_));
    assert_eq!(run.log.iter().filter(|recorded| quarantined(recorded)).count(), 1);
    let calls = run.log.len();
    run.step();
    let Event::StepRecorded(step) = &run.log[calls].event else { panic!("no step") };
    assert!(step.receipts.is_empty());
}

#[test]
fn what_the_machine_could_not_do_quarantines_nobody() {
    let mut run = Run::start();
    run.bind();
    (0..2).for_each(|_| run.step());
    run.plugins.faulty.store(2, Ordering::Relaxed);
    (0..20).for_each(|_| run.step());
    assert!(run.mentor.state().bindings[&BindingId(0)].live);
    run.plugins.faulty.store(0, Ordering::Relaxed);
    // A first state and one call, then ten that were never made.
    assert_eq!(run.audit(), Proofs { proved: 2, not_provable: 10, ..Proofs::default() });
}

#[test]
fn what_was_seen_since_the_last_ok_is_shown_again() {
    let mut run = Run::start();
    run.bind();
    run.plugins.faulty.store(1, Ordering::Relaxed);
    (0..4).for_each(|_| run.step());
    run.plugins.faulty.store(0, Ordering::Relaxed);
    (0..2).for_each(|_| run.step());
    let Event::StepRecorded(step) = &run.log.last().unwrap().event else { panic!("no step") };
    let Output::Actions(actions) = &step.receipts[0].output else { panic!("no actions") };
    assert_eq!(actions[0].diagnostics, [("seen".to_owned(), 6.0)]);
}

#[test]
fn honest_log_audits_clean() {
    let mut run = Run::start();
    run.bind();
    (0..5).for_each(|_| run.step());
    let kept = run.mentor.keep_states();
    run.take(kept);
    (0..5).for_each(|_| run.step());
    // One init and five calls: the kept state joins two segments.
    assert_eq!(run.audit(), Proofs { proved: 6, ..Proofs::default() });
}

/// A binding that is called for long without a kept state costs no more memory than that.
#[test]
fn calls_that_are_executed_in_parts_give_what_they_give_at_once() {
    let mut run = Run::start();
    run.bind();
    (0..20).for_each(|_| run.step());
    let at_once = run.audit();
    assert_eq!(at_once, Proofs { proved: 11, ..Proofs::default() });
    assert_eq!(run.audited(DecisionAudit::holding(2000), &run.log), at_once);
    run.forge(|event| match event {
        Event::StepRecorded(step) if step.step == 9 => {
            step.receipts[0].fuel += 1;
            true
        }
        _ => false,
    });
    // What comes after it up to the next kept state starts from a state that nobody knows.
    for holding in [usize::MAX, 2000, 0] {
        let proofs = run.audited(DecisionAudit::holding(holding), &run.log);
        assert_eq!((proofs.proved, proofs.diverged, proofs.not_provable), (5, 1, 5));
        assert!(proofs.first.unwrap().what.starts_with("fuel of Step"));
    }
}

#[test]
fn one_weight_changed_in_a_decision_is_named() {
    let mut run = Run::start();
    run.bind();
    (0..6).for_each(|_| run.step());
    let seq = run
        .log
        .iter()
        .position(|recorded| {
            matches!(&recorded.event, Event::StepRecorded(step) if !step.receipts.is_empty())
        })
        .unwrap();
    let Event::StepRecorded(step) = &mut run.log[seq].event else { panic!("no step") };
    let Effect::Mixture { mixture, .. } = &mut step.receipts[0].effects[0] else {
        panic!("no mixture")
    };
    mixture.weights[0] -= 1;
    mixture.weights[1] += 1;
    let first = run.audit().first.unwrap();
    assert_eq!((first.seq, first.plugin.as_str()), (seq as u64, "scripted@1.0.0"));
    assert_eq!(first.what, "receipts[0].effects[0].mixture.weights[0]");
}

#[test]
fn output_changed_in_a_receipt_is_named_by_re_execution() {
    let mut run = Run::start();
    run.bind();
    (0..4).for_each(|_| run.step());
    let Event::StepRecorded(step) = &mut run.log.last_mut().unwrap().event else {
        panic!("no step")
    };
    let Output::Actions(actions) = &mut step.receipts[0].output else { panic!("no actions") };
    actions[0].reason = "forged".to_owned();
    let first = run.audit().first.unwrap();
    assert_eq!(first.seq, run.log.len() as u64 - 1);
    assert!(first.what.starts_with("output of Step"), "{first:?}");
}

#[test]
fn operators_mixture_takes_effect_at_the_boundary_and_nonsense_is_refused() {
    let mut run = Run::start();
    assert_eq!(
        run.command(Command::SetMixture { shares: vec![3.0, 1.0], reason: String::new() }),
        None
    );
    assert_eq!(run.mentor.state().mixture.share(0), 0.75);
    let refusal = run.command(Command::SetMixture { shares: vec![1.0], reason: String::new() });
    assert_eq!(
        refusal.as_deref(),
        Some("1 weights for 2 domains: give one for each of domain-0, domain-1")
    );
    assert_eq!(
        run.command(Command::Resume { reason: String::new() }).as_deref(),
        Some("the run is not paused")
    );
}

#[test]
fn step_that_is_not_finite_must_be_skipped_and_nothing_else() {
    let mut run = Run::start();
    run.step_with_loss(f64::NAN);
    assert_eq!(run.audit().diverged, 0);
    let Event::StepRecorded(step) = &mut run.log[2].event else { panic!("no step") };
    assert_eq!(step.verdict, Verdict::Skip);
    step.verdict = Verdict::Proceed;
    assert_eq!(run.audit().first.unwrap().what, "verdict.kind");
}

#[test]
fn auditor_without_the_plugin_proves_nothing_and_accuses_nobody() {
    let mut run = Run::start();
    run.bind();
    (0..4).for_each(|_| run.step());
    run.plugins.faulty.store(2, Ordering::Relaxed);
    // The init and two calls.
    assert_eq!(run.audit(), Proofs { not_provable: 3, ..Proofs::default() });
}

#[test]
fn second_active_policy_takes_the_first_ones_place_and_the_log_says_so() {
    let mut run = Run::start();
    run.bind();
    (0..2).for_each(|_| run.step());
    run.bind();
    (0..2).for_each(|_| run.step());
    let released: Vec<BindingId> = run
        .log
        .iter()
        .filter_map(|recorded| match &recorded.event {
            Event::BindingChanged(changed) if changed.change == BindingChange::Released => {
                Some(changed.binding)
            }
            _ => None,
        })
        .collect();
    assert_eq!(released, [BindingId(0)]);
    let Event::StepRecorded(step) = &run.log.last().unwrap().event else { panic!("no step") };
    assert_eq!(
        step.receipts.iter().map(|receipt| receipt.binding).collect::<Vec<_>>(),
        [BindingId(1)]
    );
    assert_eq!(run.audit().diverged, 0);
}

fn set_batch(sequences: u32) -> Command {
    Command::SetBatchSize { sequences, reason: String::new() }
}

impl Run {
    fn steps(&self) -> impl Iterator<Item = &StepRecorded> {
        self.log.iter().filter_map(|recorded| match &recorded.event {
            Event::StepRecorded(step) => Some(&**step),
            _ => None,
        })
    }

    /// Changes the first event that `change` takes.
    fn forge(&mut self, change: impl Fn(&mut Event) -> bool) {
        assert!(
            self.log.iter_mut().any(|recorded| change(&mut recorded.event)),
            "nothing to forge"
        );
    }

    fn first_divergence(&self) -> String {
        self.audit().first.expect("something diverged").what
    }
}
