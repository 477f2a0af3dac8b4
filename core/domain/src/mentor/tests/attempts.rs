//! Back to a checkpoint: in the same run, and in a fork of it.

use super::*;
use crate::attempt::{ReturnPoint, bound_anew, way};
use crate::id::RunId;
use crate::spec::PluginSpec;

/// What steps from `from` on were trained under and came to, without what must differ between attempts.
fn lived(log: &[Recorded], from: u64) -> Vec<String> {
    let step = |recorded: &Recorded| match &recorded.event {
        Event::StepRecorded(step) if step.step >= from => {
            let mut step = (**step).clone();
            for receipt in &mut step.receipts {
                (receipt.from_seq, receipt.to_seq) = (0, 0);
            }
            Some(format!("{step:?}"))
        }
        _ => None,
    };
    log.iter().filter_map(step).collect()
}

impl Run {
    /// A checkpoint as the worker saves it: plugin states, its begin, and the event that names it.
    pub(super) fn save(&mut self) -> ReturnPoint {
        let kept = self.mentor.keep_states();
        self.take(kept);
        let snapshot = self.mentor.state().snapshot();
        self.checkpoint();
        let recorded = self.log.last().unwrap();
        let Event::CheckpointSaved(saved) = &recorded.event else { panic!("no checkpoint") };
        let digest = Digest::of(&snapshot);
        ReturnPoint { seq: recorded.seq, saved: saved.clone(), digest, state: snapshot }
    }

    pub(super) fn go_back(&mut self, point: &ReturnPoint, skip_data: bool) -> Option<String> {
        let (to, reason) = (point.saved.step, "it spiked".to_owned());
        let command = Command::Rollback { to, skip_data, reason };
        let asked = self.asked(command);
        let decided = self.mentor.answer_rollback(&asked, Ok(point.clone()));
        let Event::CommandAnswered(answered) = &decided.events[0] else { panic!("no answer") };
        let refusal = answered.refusal.clone();
        self.take(decided);
        if refusal.is_some() {
            return refusal;
        }
        let bindings = &self.mentor.state().bindings;
        let live: Vec<_> = bindings.iter().filter(|(_, binding)| binding.live).collect();
        let wanted: Vec<_> = live.into_iter().map(|(&id, binding)| (id, binding.state)).collect();
        for (id, digest) in wanted {
            self.mentor.restore(id, self.states[&digest].clone());
        }
        refusal
    }

    /// The first event of a run that starts from `point` of this one, under another spec.
    pub(super) fn fork_started(&self, point: &ReturnPoint, spec: &RunSpec) -> Event {
        let Event::RunStarted(mut started) = self.log[0].event.clone() else { panic!("no start") };
        started.spec = serde_json::to_string(spec).unwrap();
        started.prior = crate::limits::first_mixture(spec).unwrap().mixture;
        started.parent = Some(Parent {
            run: RunId(uuid::Uuid::nil()),
            seq: point.seq,
            hash: Digest::ZERO,
            checkpoint: point.saved.clone(),
            state: point.state.clone(),
        });
        Event::RunStarted(started)
    }

    /// A run that starts so.
    pub(super) fn fork(&self, point: &ReturnPoint, spec: &RunSpec) -> Result<Run, String> {
        let event = self.fork_started(point, spec);
        let state = RunState::start(&event).map_err(|refused| refused.to_string())?;
        let mut mentor = Mentor::new(state, self.plugins.clone());
        let inherited: Vec<_> =
            mentor.state().bindings.iter().map(|(&id, binding)| (id, binding.state)).collect();
        for (id, digest) in inherited {
            mentor.restore(id, self.states[&digest].clone());
        }
        let log = vec![Recorded { seq: 0, attempt: 0, recorded_at: 0, event }];
        let (states, plugins) = (self.states.clone(), self.plugins.clone());
        Ok(Run { mentor, log, states, plugins, wishes: 0 })
    }
}

fn scripted() -> PluginSpec {
    PluginSpec {
        plugin: "scripted".to_owned(),
        digest: Digest::of(b"scripted"),
        config: serde_json::json!({}),
        role: Role::Active,
        failure: FailurePolicy::FallBack,
    }
}

/// A run with a policy that has not seen the step before the checkpoint, and some steps after it.
pub(super) fn saved_in_the_middle() -> (Run, ReturnPoint) {
    let mut spec = spec(2);
    spec.plugins = vec![scripted()];
    let mut run = Run::of(spec);
    run.bind();
    (0..5).for_each(|_| run.step());
    let point = run.save();
    (0..6).for_each(|_| run.step());
    (run, point)
}

#[test]
fn state_as_bytes_comes_back_and_only_its_own_way_to_be_written_is_read() {
    let (run, point) = saved_in_the_middle();
    for state in [run.mentor.state(), &RunState::from_snapshot(&point.state).unwrap()] {
        let bytes = state.snapshot();
        let back = RunState::from_snapshot(&bytes).unwrap();
        assert_eq!((&back, back.snapshot()), (state, bytes.clone()));
        for cut in [0, 1, 2, bytes.len() / 2, bytes.len() - 1] {
            assert!(RunState::from_snapshot(&bytes[..cut]).is_err(), "{cut}");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert!(RunState::from_snapshot(&longer).is_err());
    }
}

#[test]
fn state_keeps_no_more_than_a_plugin_may_still_be_shown() {
    let mut run = Run::start();
    (0..50).for_each(|_| run.step());
    assert_eq!(run.mentor.state().seen.len(), 0);
    run.bind();
    (0..49).for_each(|_| run.step());
    assert_eq!(run.mentor.state().seen.len(), 1, "it is called every second step");
    run.plugins.faulty.store(1, Ordering::Relaxed);
    run.step();
    assert_eq!(run.mentor.state().seen.len(), 2, "what it failed on is shown again");
}

#[test]
fn rolled_back_run_lives_the_same_steps_again() {
    let (mut run, point) = saved_in_the_middle();
    let first = lived(&run.log, 5);
    let turned = run.log.len();
    assert_eq!(run.go_back(&point, false), None);
    assert_eq!((run.mentor.state().attempt, run.mentor.state().next_step), (1, 5));
    assert_eq!(run.mentor.state().checkpoint.as_ref(), Some(&point.saved));
    (0..6).for_each(|_| run.step());
    assert_eq!(lived(&run.log[turned..], 5), first);
    let proofs = run.audit();
    assert_eq!((proofs.diverged, proofs.first), (0, None));
    assert_eq!(proofs.proved, 1 + 5 + 3, "init, and both attempts' calls");
}

#[test]
fn what_was_bound_and_turned_since_the_checkpoint_is_undone() {
    let (mut run, point) = saved_in_the_middle();
    run.bind();
    run.command(Command::SetBatchSize { sequences: 4, reason: String::new() });
    run.go_back(&point, false);
    let state = run.mentor.state();
    let live: Vec<bool> = state.bindings.values().map(|binding| binding.live).collect();
    assert_eq!(live, [true, false]);
    assert!(state.overrides.is_empty());
    run.step();
    run.bind();
    assert_eq!(run.mentor.state().bindings.len(), 3, "no number is given twice");
    (0..4).for_each(|_| run.step());
    assert_eq!(run.audit().first, None);
}

#[test]
fn data_that_is_skipped_stays_drawn() {
    let (mut run, point) = saved_in_the_middle();
    let (cursors, drawn) = {
        let state = run.mentor.state();
        (state.cursors.clone(), state.domain_tokens.clone())
    };
    run.go_back(&point, true);
    let state = run.mentor.state();
    assert_eq!((&state.cursors, &state.domain_tokens), (&cursors, &drawn));
    assert_eq!((state.next_step, state.sequences, state.tokens), (5, 40, 160));
    run.step();
    assert_eq!(run.audit().first, None);
}

#[test]
fn run_goes_back_again_and_into_an_attempt_that_it_had_left() {
    let (mut run, early) = saved_in_the_middle();
    let late = run.save();
    run.step();
    run.go_back(&early, false);
    run.step();
    run.go_back(&late, false);
    assert_eq!((run.mentor.state().attempt, run.mentor.state().next_step), (2, 11));
    run.step();
    assert_eq!(run.audit().first, None);
    let turns: Vec<(u64, u64)> = run
        .log
        .iter()
        .filter_map(|recorded| match &recorded.event {
            Event::RolledBack(rolled) => Some((recorded.seq, rolled.checkpoint.begun)),
            _ => None,
        })
        .collect();
    let (second, begun) = turns[1];
    assert_eq!(way(&turns, u64::MAX), [0..begun + 1, second..u64::MAX]);
}

#[test]
fn run_that_must_end_does_not_go_back() {
    let (mut run, point) = saved_in_the_middle();
    run.command(Command::Stop { reason: String::new() });
    let refusal = run.go_back(&point, false).unwrap();
    assert_eq!(refusal, "the run must end (stopped by test): fork it from that checkpoint instead");
    assert_eq!(run.mentor.state().attempt, 0);
}

#[test]
fn rollback_that_nobody_asked_for_or_to_another_state_is_named() {
    let forged = |forge: fn(&mut RolledBack)| {
        let (mut run, point) = saved_in_the_middle();
        run.go_back(&point, false);
        run.step();
        run.forge(|event| match event {
            Event::RolledBack(rolled) => {
                forge(rolled);
                true
            }
            _ => false,
        });
        run.first_divergence()
    };
    assert_eq!(forged(|rolled| rolled.skipped_data = true), "skipped_data");
    assert_eq!(forged(|rolled| rolled.by = "the boss".to_owned()), "by");
    assert_eq!(forged(|rolled| rolled.attempt = 9), "attempt");
    assert_eq!(forged(|rolled| rolled.seq -= 1), "what may come here");
    assert_eq!(forged(|rolled| rolled.to_step = 4), "to_step");
    assert_eq!(
        forged(|rolled| {
            let mut state = RunState::from_snapshot(&rolled.state).unwrap();
            state.tokens += 1;
            rolled.state = state.snapshot();
        }),
        "what may come here"
    );
    let (mut run, _) = saved_in_the_middle();
    run.forge(|event| match event {
        Event::CheckpointBegun(begun) => {
            begun.state = Digest::of(b"another");
            true
        }
        _ => false,
    });
    assert_eq!(run.first_divergence(), "state");
}

#[test]
fn fork_under_the_same_spec_lives_its_parents_steps() {
    let (run, point) = saved_in_the_middle();
    let mut fork = run.fork(&point, &run.mentor.state().spec).unwrap();
    assert_eq!(bound_anew(fork.mentor.state()), []);
    (0..6).for_each(|_| fork.step());
    assert_eq!(lived(&fork.log, 5), lived(&run.log, 5));
    let proofs = fork.audit();
    assert_eq!((proofs.proved, proofs.first), (3, None));
}

#[test]
fn fork_takes_what_its_own_spec_sets_anew() {
    let (run, point) = saved_in_the_middle();
    let mut other = run.mentor.state().spec.clone();
    other.training.steps = 500;
    other.domains[0].prior = 0.75;
    other.domains[1].prior = 0.25;
    other.plugins[0].config = serde_json::json!({ "rate": 2 });
    let mut fork = run.fork(&point, &other).unwrap();
    assert_eq!(fork.mentor.state().mixture.share(0), 0.75);
    assert!(
        fork.mentor.state().mixture.version
            > RunState::from_snapshot(&point.state).unwrap().mixture.version
    );
    assert_eq!(bound_anew(fork.mentor.state()), other.plugins);
    assert_eq!(fork.command(other.plugins[0].wish()), None);
    (0..4).for_each(|_| fork.step());
    assert_eq!(fork.audit().first, None);
    let segment = &mut other.domains[1].segments;
    segment.push(segment[0].clone());
    assert!(run.fork(&point, &other).is_ok(), "a segment may be added");
}

/// Only a policy sets them: without one nothing could set them back.
#[test]
fn loss_weights_go_on_in_a_fork_only_under_a_policy_that_goes_on() {
    let (run, point) = saved_in_the_middle();
    let mut state = RunState::from_snapshot(&point.state).unwrap();
    state.loss_weights = vec![0.5, 2.0];
    let weighted = ReturnPoint { state: state.snapshot(), ..point };
    let weights = |change: fn(&mut RunSpec)| {
        let mut spec = run.mentor.state().spec.clone();
        change(&mut spec);
        run.fork(&weighted, &spec).unwrap().mentor.state().loss_weights.clone()
    };
    assert_eq!(weights(|_| {}), [0.5, 2.0]);
    assert_eq!(weights(|spec| spec.plugins.clear()), [1.0, 1.0]);
    assert_eq!(weights(|spec| spec.plugins[0].role = Role::Shadow), [1.0, 1.0]);
    let configured = |spec: &mut RunSpec| {
        spec.plugins[0].config = serde_json::json!({ "rate": 2 });
    };
    assert_eq!(weights(configured), [1.0, 1.0], "another one is bound in its place");
}

#[test]
fn fork_of_another_model_or_other_domains_is_refused_in_a_sentence() {
    let (run, point) = saved_in_the_middle();
    let refused = |change: fn(&mut RunSpec)| {
        let mut other = run.mentor.state().spec.clone();
        change(&mut other);
        run.fork(&point, &other).err().unwrap_or_default()
    };
    assert!(refused(|spec| spec.model.layers = 2).contains("another model"));
    assert!(refused(|spec| spec.seed = 9).contains("another seed"));
    assert!(refused(|spec| spec.tokenizer = Digest::ZERO).contains("another tokenizer"));
    assert!(refused(|spec| spec.domains[1].name = "b".to_owned()).contains("domain-0, b"));
    assert_eq!(
        refused(|spec| spec.training.steps = 5),
        "training.steps is 5 and the fork begins at step 5: set more"
    );
}

#[test]
fn way_leaves_out_what_was_left_behind() {
    assert_eq!(way(&[], 9), vec![0..9; 1]);
    assert_eq!(way(&[(20, 10)], 30), [0..11, 20..30]);
    // Back before the first turn, which is left behind with all that came of it.
    assert_eq!(way(&[(20, 10), (30, 5)], 40), [0..6, 30..40]);
    // After it, and then into what it had left.
    assert_eq!(way(&[(20, 10), (30, 25)], 40), [0..11, 20..26, 30..40]);
    assert_eq!(way(&[(20, 10), (30, 15)], 40), [0..16, 30..40]);
}
