//! How a run must end follows from its log, live and in an audit.

use super::*;
use crate::ending::{Due, NON_FINITE_STEPS_MAX};
use crate::precision::Precision;
use crate::spec::SegmentSpec;

impl Run {
    fn due(&self) -> Option<Due> {
        self.mentor.state().ending_due()
    }

    fn steps_with_loss(&mut self, count: u32, loss: f64) {
        (0..count).for_each(|_| self.step_with_loss(loss));
    }

    pub(super) fn event(&mut self, event: Event) {
        self.take(Decided { events: vec![event], states: Vec::new() });
    }

    pub(super) fn finish(&mut self, ending: Ending, reason: &str) {
        if ending == Ending::Completed {
            self.validate_if_due();
            self.checkpoint();
        }
        let step = self.mentor.state().next_step;
        self.event(Event::RunFinished(RunFinished { step, ending, reason: reason.to_owned() }));
    }

    /// Plugin states and the begin of a checkpoint: its seq.
    pub(super) fn begin_checkpoint(&mut self) -> u64 {
        if !self.mentor.state().states_are_kept() {
            let kept = self.mentor.keep_states();
            self.take(kept);
        }
        let (begun, state) = (self.log.len() as u64, self.mentor.state());
        let begin = CheckpointBegun { step: state.next_step, state: state.digest() };
        self.event(Event::CheckpointBegun(begin));
        begun
    }

    pub(super) fn checkpoint(&mut self) {
        let begun = self.begin_checkpoint();
        let (state, step) = (self.mentor.state(), self.mentor.state().next_step);
        let digest = Digest::of(&step.to_le_bytes());
        let saved = crate::made::checkpoint(state, (begun, step), (digest, 1));
        self.event(Event::CheckpointSaved(saved));
    }
}

#[test]
fn twenty_steps_in_a_row_without_numbers_end_the_run_as_failed() {
    let mut run = Run::start();
    run.steps_with_loss(5, 2.0);
    run.checkpoint();
    run.steps_with_loss(2, 2.0);
    run.steps_with_loss(NON_FINITE_STEPS_MAX - 1, f64::NAN);
    assert_eq!(run.due(), None);
    run.checkpoint();
    run.steps_with_loss(1, f64::INFINITY);
    let Due { ending, reason } = run.due().unwrap();
    assert_eq!(ending, Ending::Failed);
    for part in [
        "20 steps in a row, since step 7",
        "that of step 5 (a000-s0000000005-",
        "training.learning_rate",
    ] {
        assert!(reason.contains(part), "{reason}");
    }
    run.finish(ending, &reason);
    assert_eq!(run.audit(), Proofs::default());
}

#[test]
fn checkpoint_is_good_once_a_step_with_numbers_came_after_it() {
    let mut run = Run::start();
    let proven = |run: &Run| run.mentor.state().proven.as_ref().map(|saved| saved.step);
    run.steps_with_loss(3, 2.0);
    run.checkpoint();
    assert_eq!(proven(&run), None);
    run.steps_with_loss(3, 2.0);
    run.checkpoint();
    assert_eq!(proven(&run), Some(3));
    // The weights of step 6 are those that give no numbers.
    run.steps_with_loss(3, f64::NAN);
    run.checkpoint();
    assert_eq!(proven(&run), Some(3));
    run.steps_with_loss(NON_FINITE_STEPS_MAX - 3, f64::NAN);
    let Due { ending, reason } = run.due().unwrap();
    assert!(
        reason.contains(
            "since step 6, were no finite numbers and nothing was learned from \
        them: try a smaller training.learning_rate, a longer warm-up or a smaller \
        optimizer.clip_norm; the newest checkpoint from before them is that of step 3 (a000-s0000000003-"
        ),
        "{reason}"
    );
    run.finish(ending, &reason);
    assert_eq!(run.audit(), Proofs::default());
}

#[test]
fn step_with_numbers_proves_what_was_saved_among_steps_without() {
    let mut run = Run::start();
    run.step();
    run.steps_with_loss(2, f64::NAN);
    run.checkpoint();
    run.steps_with_loss(1, f64::NAN);
    run.step();
    assert_eq!(run.mentor.state().proven.as_ref().map(|saved| saved.step), Some(3));
}

#[test]
fn without_a_good_checkpoint_the_end_says_so() {
    let mut run = Run::start();
    run.checkpoint();
    run.steps_with_loss(NON_FINITE_STEPS_MAX, f64::NAN);
    let reason = run.due().unwrap().reason;
    assert!(reason.ends_with("; there is no checkpoint from before them"), "{reason}");
}

#[test]
fn fewer_are_told_at_the_end_and_a_good_one_between_them_begins_the_count_anew() {
    let mut run = Run::start();
    for _ in 0..2 {
        run.steps_with_loss(NON_FINITE_STEPS_MAX - 1, f64::NAN);
        run.step();
    }
    run.steps_with_loss(60, 2.0);
    let Due { ending, reason } = run.due().unwrap();
    assert_eq!(ending, Ending::Completed);
    let due = "all steps are done; skipped since loss or gradients were no finite numbers: 38 of 100 steps";
    assert_eq!(reason, due);
    run.finish(ending, &reason);
    assert_eq!(run.audit(), Proofs::default());
}

#[test]
fn run_whose_last_steps_and_validation_give_no_numbers_has_failed() {
    let validated = |loss_sum: f64| {
        let mut spec = spec(2);
        spec.validation.sequences_per_domain = 2;
        let held_out = SegmentSpec { tokens: 9, ..spec.domains[0].segments[0].clone() };
        spec.domains[0].validation = Some(held_out);
        let mut run = Run::of(spec);
        run.steps_with_loss(97, 2.0);
        run.checkpoint();
        run.steps_with_loss(1, 2.0);
        run.steps_with_loss(2, f64::NAN);
        // Of the steps alone nobody knows whether it was the batch or the weights.
        assert_eq!(run.due().unwrap().ending, Ending::Completed);
        run.validate_with_loss(loss_sum / 8.0);
        let due = run.due().unwrap();
        run.finish(due.ending, &due.reason);
        assert_eq!(run.audit(), Proofs::default());
        due
    };
    let Due { ending, reason } = validated(f64::NAN);
    assert_eq!(ending, Ending::Failed);
    for part in ["2 steps in a row, since step 98", "that of step 97 (a000-s0000000097-"] {
        assert!(reason.contains(part), "{reason}");
    }
    assert_eq!(validated(16.0).ending, Ending::Completed);
}

#[test]
fn overflow_that_a_smaller_loss_scale_may_help_does_not_count() {
    let mut spec = spec(2);
    spec.training.precision = Precision::F16;
    let mut run = Run::of(spec);
    // From 65,536 to 1 it is halved 16 times.
    run.steps_with_loss(16 + NON_FINITE_STEPS_MAX - 1, f64::NAN);
    assert_eq!(run.due(), None);
    run.steps_with_loss(1, f64::NAN);
    assert!(run.due().unwrap().reason.contains("36 steps in a row, since step 0"));
}

#[test]
fn obeyed_stop_is_due_whatever_comes_after_it_until_the_run_has_ended() {
    let mut run = Run::start();
    run.steps_with_loss(3, 2.0);
    assert_eq!(run.command(Command::Stop { reason: String::new() }), None);
    assert_eq!(run.command(Command::Pause { reason: String::new() }), None);
    let due = run.due().unwrap();
    assert_eq!((due.ending, due.reason.as_str()), (Ending::Stopped, "stopped by test"));
    // A worker that died here leaves a log in which it is due still.
    let mut folded = RunState::start(&run.log[0].event).unwrap();
    run.log[1..].iter().for_each(|recorded| folded.apply(&recorded.event));
    assert_eq!(folded.ending_due(), Some(due.clone()));
    run.finish(due.ending, &due.reason);
    assert_eq!(run.audit(), Proofs::default());
}

#[test]
fn fault_of_a_plugin_without_which_the_run_must_not_go_on_ends_it() {
    let mut run = Run::start();
    let (role, failure) = (Role::Active, FailurePolicy::StopRun);
    let (plugin, config) = ("scripted".to_owned(), serde_json::json!({}));
    assert_eq!(
        run.command(Command::Bind { plugin, config, role, failure, reason: String::new() }),
        None
    );
    run.plugins.faulty.store(1, Ordering::Relaxed);
    run.steps_with_loss(2, 2.0);
    let due = run.due().unwrap();
    let reason = "plugin scripted (binding #0, failure stop-run) failed: it used up its fuel";
    assert_eq!((due.ending, due.reason.as_str()), (Ending::Failed, reason));
}

#[test]
fn halt_of_a_gate_ends_the_run() {
    let mut run = Run::start();
    run.steps_with_loss(3, 2.0);
    let mut step = run.log.last().unwrap().event.clone();
    let Event::StepRecorded(halted) = &mut step else { panic!("no step") };
    (halted.step, halted.verdict) = (3, Verdict::Halt);
    run.event(step);
    let due = run.due().unwrap();
    let reason = "a gate halted the run at step 3";
    assert_eq!((due.ending, due.reason.as_str()), (Ending::Halted, reason));
}

#[test]
fn end_that_does_not_follow_from_the_log_is_named() {
    let ended_as = |ending, reason: &str| {
        let mut run = Run::start();
        run.steps_with_loss(NON_FINITE_STEPS_MAX, f64::NAN);
        run.finish(ending, reason);
        run.first_divergence()
    };
    let failed = "some other reason";
    assert_eq!(ended_as(Ending::Completed, "all steps are done"), "ending");
    assert_eq!(ended_as(Ending::Failed, failed), "reason");
    let mut early = Run::start();
    early.step();
    early.finish(Ending::Completed, "all steps are done");
    assert_eq!(early.first_divergence(), "what may come here");
    // One step more than there may be.
    let mut on = Run::start();
    on.steps_with_loss(NON_FINITE_STEPS_MAX + 1, f64::NAN);
    assert_eq!(on.first_divergence(), "what may come here");
}

/// A run whose file asks for a plugin.
fn with_a_plugin() -> Run {
    let plugin = crate::spec::PluginSpec {
        plugin: "x".to_owned(),
        digest: Digest::of(b"x"),
        config: serde_json::json!({}),
        role: Role::Active,
        failure: FailurePolicy::HoldLast,
    };
    Run::of(RunSpec { plugins: vec![plugin], ..spec(2) })
}

/// What it does not get.
fn refused(run: &Run, reason: &str) -> Event {
    let wish = run.mentor.state().plugins_to_bind()[0].wish();
    Event::CommandAnswered(CommandAnswered {
        command: 0,
        step: 0,
        asked: serde_json::to_string(&wish).unwrap(),
        by: "run file".to_owned(),
        waited_s: 0,
        refusal: Some(reason.to_owned()),
    })
}

fn not_saved(run: &mut Run, reason: &str) {
    run.begin_checkpoint();
    let step = run.mentor.state().next_step;
    run.event(Event::CheckpointFailed(CheckpointFailed { step, reason: reason.to_owned() }));
}

#[test]
fn failure_that_no_rule_gives_has_its_reason_right_before_it() {
    let mut unbound = with_a_plugin();
    unbound.event(refused(&unbound, "it refuses"));
    unbound.finish(Ending::Failed, "plugin `x` of the run file could not be bound: it refuses");
    assert_eq!(unbound.audit(), Proofs::default());
    let mut broken = Run::start();
    broken.steps_with_loss(3, 2.0);
    not_saved(&mut broken, "a weight is NaN");
    let reason = "at step 3 a weight is NaN; try a smaller training.learning_rate; there is no \
                  checkpoint from before";
    broken.finish(Ending::Failed, reason);
    assert_eq!(broken.audit(), Proofs::default());
    // All was done, and then the weights could not be saved.
    let mut unsaved = Run::start();
    unsaved.steps_with_loss(100, 2.0);
    unsaved.validate_if_due();
    not_saved(&mut unsaved, "a weight is NaN");
    unsaved.finish(Ending::Failed, "all steps are done, but a weight is NaN");
    assert_eq!(unsaved.audit(), Proofs::default());
}

#[test]
fn completed_run_that_is_written_down_as_failed_is_named() {
    let done = || {
        let mut run = Run::start();
        run.steps_with_loss(100, 2.0);
        run.validate_if_due();
        run
    };
    let mut made_up = done();
    made_up.checkpoint();
    made_up.finish(Ending::Failed, "the machine broke");
    assert_eq!(made_up.first_divergence(), "ending");
    // A reason that the log does not give, or one that is over.
    let mut another = done();
    not_saved(&mut another, "a weight is NaN");
    another.finish(Ending::Failed, "the machine broke");
    assert_eq!(another.first_divergence(), "what may come here");
    let mut saved = done();
    not_saved(&mut saved, "the disk is full");
    saved.checkpoint();
    saved.finish(Ending::Failed, "all steps are done, but the disk is full");
    assert_eq!(saved.first_divergence(), "ending");
    let mut unbound = Run::start();
    unbound.finish(Ending::Failed, "plugin `x` of the run file could not be bound: it refuses");
    assert_eq!(unbound.first_divergence(), "what may come here");
}

#[test]
fn training_goes_on_while_a_checkpoint_is_written_and_what_becomes_of_it_names_it() {
    let written = |event: &dyn Fn(u64) -> Event| {
        let mut run = Run::start();
        run.steps_with_loss(3, 2.0);
        let begun = run.begin_checkpoint();
        run.steps_with_loss(2, 2.0);
        run.event(event(begun));
        run
    };
    let saved = |step: u64, begun| {
        let state = Run::start().mentor.state().clone();
        Event::CheckpointSaved(crate::made::checkpoint(&state, (begun, step), (Digest::ZERO, 1)))
    };
    let run = written(&|begun| saved(3, begun));
    assert_eq!(run.audit().diverged, 0);
    let state = run.mentor.state();
    assert!(state.proven.is_some(), "the steps since have given numbers");
    assert_eq!((&state.proven, state.begun), (&state.checkpoint, None));
    assert_eq!(written(&|begun| saved(5, begun)).first_divergence(), "folder");
    assert_eq!(written(&|begun| saved(3, begun - 1)).first_divergence(), "what may come here");
    let state = run.mentor.state().digest();
    let another = |_| Event::CheckpointBegun(CheckpointBegun { step: 5, state });
    assert!(written(&another).audit().first.is_some(), "one at a time");
}

#[test]
fn what_happens_between_steps_is_held_to_the_step_before_which_it_does() {
    let wrong = |event: Event| {
        let mut run = Run::start();
        run.steps_with_loss(3, 2.0);
        run.event(event);
        run.first_divergence()
    };
    assert_eq!(wrong(Event::RunPaused(RunPaused { step: 4 })), "what may come here");
    let digest = Digest::ZERO;
    let saved = CheckpointSaved { step: 2, begun: 1, digest, folder: "2".to_owned(), bytes: 1 };
    assert_eq!(wrong(Event::CheckpointSaved(saved)), "what may come here");
    let mut run = Run::start();
    run.steps_with_loss(100, 2.0);
    run.validate_if_due();
    run.checkpoint();
    let reason = "all steps are done".to_owned();
    let ending = Ending::Completed;
    run.event(Event::RunFinished(RunFinished { step: 7, ending, reason }));
    assert_eq!(run.first_divergence(), "step");
    // Nothing follows the end.
    let mut on = Run::start();
    on.steps_with_loss(100, 2.0);
    on.finish(Ending::Completed, "all steps are done");
    on.event(Event::RunPaused(RunPaused { step: 100 }));
    assert_eq!(on.first_divergence(), "what may come here");
}

#[test]
fn wish_that_waited_for_more_than_a_day_is_obeyed_no_more() {
    let mut run = Run::start();
    let command = Command::Pause { reason: String::new() };
    let mut asked = run.asked(command);
    asked.waited_s = crate::command::WISH_PATIENCE_S + 3600;
    let decided = run.mentor.answer(&asked, Err(String::new()));
    run.take(decided);
    let Event::CommandAnswered(answered) = &run.log.last().unwrap().event else {
        panic!("it was obeyed")
    };
    let reason = answered.refusal.clone().expect("a refusal");
    assert!(reason.starts_with("it was asked 25 hours ago"), "{reason}");
    assert_eq!(run.audit().first, None);
    let obeyed = |mut log: Vec<Recorded>| {
        let Event::CommandAnswered(answered) = &mut log.last_mut().unwrap().event else {
            unreachable!()
        };
        answered.refusal = None;
        log
    };
    assert!(run.audit_log(&obeyed(run.log.clone())).first.is_some(), "nobody may obey it");
}
