//! A run without a trainer: a scripted policy behind the port, and batches with quotas only.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::audit::{DecisionAudit, Proofs};
use crate::batch::DomainDraw;
use crate::command::{Asked, Candidate, Command};
use crate::mixture::quotas;
use crate::plugin::*;
use crate::step::LossSums;
use crate::testing::spec;

/// Doubles the first domain's share each call; its state counts calls. Faults while `faulty` is 1, and
/// is not there to be called while it is 2.
#[derive(Default)]
struct Scripted {
    faulty: AtomicU64,
}

impl Plugins for Scripted {
    fn call(&self, _: &Digest, request: &Request) -> Reply {
        let ok = |state: Vec<u8>, output| Reply {
            outcome: Outcome::Ok,
            fuel: 7,
            value: Some((state, output)),
        };
        let absent = || Outcome::NotCalled("not loaded".to_owned());
        match request {
            _ if self.faulty.load(Ordering::Relaxed) == 2 => {
                Reply { outcome: absent(), fuel: 0, value: None }
            }
            Request::Init { .. } => ok(vec![0], Output::Nothing),
            Request::Step { .. } if self.faulty.load(Ordering::Relaxed) > 0 => {
                Reply { outcome: Outcome::OutOfFuel, fuel: 9, value: None }
            }
            Request::Step { state, observations } => {
                let last = observations.entries.last().expect("called with something to see");
                let mut shares = last.shares.clone();
                shares[0] *= 2.0;
                let action = Action {
                    change: Change::SetMixture(shares),
                    reason: "scripted".to_owned(),
                    diagnostics: vec![("seen".to_owned(), observations.entries.len() as f64)],
                };
                ok(vec![state[0] + 1], Output::Actions(vec![action]))
            }
            other => panic!("not called by a policy: {other:?}"),
        }
    }
}

struct Run {
    mentor: Mentor,
    log: Vec<Recorded>,
    states: BTreeMap<Digest, Vec<u8>>,
    plugins: Arc<Scripted>,
}

impl Run {
    fn start() -> Run {
        let spec = spec(2);
        let started = Event::RunStarted(RunStarted {
            spec: serde_json::to_string(&spec).unwrap(),
            prior: crate::mixture::Mixture::from_shares(0, &[0.5, 0.5]).unwrap(),
            environment: Environment {
                build: Digest::ZERO,
                device: String::new(),
                processor: String::new(),
                instruction_set: String::new(),
                c_library: String::new(),
                threads: 1,
                host: String::new(),
                process: 1,
            },
            parent: None,
        });
        let plugins = Arc::new(Scripted::default());
        let state = RunState::start(&started).unwrap();
        let log = vec![Recorded { seq: 0, attempt: 0, recorded_at: 0, event: started }];
        let mentor = Mentor::new(state, plugins.clone());
        Run { mentor, log, states: BTreeMap::new(), plugins }
    }

    fn take(&mut self, decided: Decided) {
        for bytes in decided.states {
            self.states.insert(Digest::of(&bytes), bytes);
        }
        for event in decided.events {
            self.mentor.apply(&event);
            let seq = self.log.len() as u64;
            self.log.push(Recorded { seq, attempt: 0, recorded_at: 0, event });
        }
    }

    fn command(&mut self, command: Command) -> Option<String> {
        let candidate = Candidate {
            plugin: Digest::of(b"scripted"),
            world: World::Policy,
            interface: "0.1.0".to_owned(),
            description: Description {
                name: "scripted".to_owned(),
                version: "1.0.0".to_owned(),
                documentation: String::new(),
                config_schema: "{}".to_owned(),
                columns: vec!["loss_sum".to_owned()],
                every_steps: 2,
                gates: false,
                watches: false,
                wants_timings: false,
            },
            engine: Digest::ZERO,
            limits: Limits::default(),
        };
        let asked = Asked { number: 1, by: "test".to_owned(), command };
        let decided = self.mentor.answer(&asked, Ok(candidate));
        let Event::CommandAnswered(answered) = &decided.events[0] else { panic!("no answer") };
        let refusal = answered.refusal.clone();
        self.take(decided);
        refusal
    }

    fn bind(&mut self) {
        let config = serde_json::json!({});
        let (role, failure) = (Role::Active, FailurePolicy::FallBack);
        let plugin = "scripted".to_owned();
        assert_eq!(self.command(Command::Bind { plugin, config, role, failure }), None);
    }

    fn step(&mut self) {
        self.step_with_loss(2.0);
    }

    /// A step as the trainer makes it: one that is not finite is skipped.
    fn step_with_loss(&mut self, loss: f64) {
        let state = self.mentor.state();
        let mut carries = state.carries.clone();
        let counts = quotas(&state.mixture, 8, &mut carries);
        let draws = (0..2).map(|index| DomainDraw {
            sequences: counts[index],
            from: state.cursors[index],
            to: state.cursors[index],
            carry: carries[index],
        });
        let batch = Batch { sequences: vec![], draws: draws.collect() };
        let sums = |sequences: u32| LossSums {
            loss_sum: f64::from(sequences) * 8.0,
            loss_square_sum: 1.0,
            tokens: u64::from(sequences) * 4,
        };
        let pre_step = PreStep {
            loss,
            gradient_norm: 1.0,
            nonfinite_count: 0,
            losses: counts.iter().map(|&count| sums(count)).collect(),
        };
        let knobs = self.mentor.knobs();
        let asked = self.mentor.gate(&pre_step);
        let verdict = if pre_step.is_finite() { asked } else { asked.and(Verdict::Skip) };
        let report = TrainReport { pre_step, verdict, effective_clip: 1.0, step_us: 5 };
        let decided = self.mentor.decide(&batch, &knobs, report);
        self.take(decided);
    }

    fn audit(&self) -> Proofs {
        let mut audit = DecisionAudit::default();
        let (mut proofs, mut segments) = (Proofs::default(), Vec::new());
        for recorded in &self.log {
            let (divergences, complete) = audit.fold(recorded);
            divergences.into_iter().for_each(|divergence| proofs.diverge(divergence));
            segments.extend(complete);
        }
        segments.extend(audit.finish());
        for segment in segments {
            let kept = match segment.start {
                crate::audit::Start::Kept(digest) => self.states.get(&digest).cloned(),
                crate::audit::Start::Init(_) => None,
            };
            proofs.add(segment.execute(&*self.plugins, kept, Digest::ZERO));
        }
        proofs
    }
}

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
    assert_eq!(first.what, "applied effects");
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
    assert_eq!(run.command(Command::SetMixture { shares: vec![3.0, 1.0] }), None);
    assert_eq!(run.mentor.state().mixture.share(0), 0.75);
    let refusal = run.command(Command::SetMixture { shares: vec![1.0] });
    assert_eq!(refusal.as_deref(), Some("1 weights for 2 domains"));
    assert_eq!(run.command(Command::Resume).as_deref(), Some("the run is not paused"));
}

#[test]
fn step_that_is_not_finite_must_be_skipped_and_nothing_else() {
    let mut run = Run::start();
    run.step_with_loss(f64::NAN);
    assert_eq!(run.audit().diverged, 0);
    let Event::StepRecorded(step) = &mut run.log[1].event else { panic!("no step") };
    assert_eq!(step.verdict, Verdict::Skip);
    step.verdict = Verdict::Proceed;
    assert_eq!(run.audit().first.unwrap().what, "verdict");
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
