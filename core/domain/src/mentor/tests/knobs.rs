//! Ramps, and knobs turned by hand: what each step is drawn and trained under.

use proptest::prelude::*;

use super::*;
use crate::checkpoint::CheckpointState;
use crate::ramp::BatchRamp;
use crate::schedule::Warmup;

/// 2 to 8 by 2 over 30 sequences, and a warm-up over 100 target tokens, which are 25 sequences of 4.
fn ramped() -> RunSpec {
    let mut spec = spec(2);
    spec.training.batch_ramp = Some(BatchRamp { from: 2, by: 2, over_sequences: 30 });
    spec.schedule.warmup = Warmup::Tokens(100);
    spec
}

fn set_peak(peak: f64) -> Command {
    Command::SetLearningRate { peak, reason: "it is too high".to_owned() }
}

impl Run {
    /// Sequences that each step drew.
    fn drawn(&self) -> Vec<u32> {
        let all = |step: &StepRecorded| step.draws.iter().map(|draw| draw.sequences).sum();
        self.steps().map(all).collect()
    }

    fn rates(&self) -> Vec<f64> {
        self.steps().map(|step| step.learning_rate).collect()
    }
}

#[test]
fn ramp_draws_more_as_more_is_drawn_and_audits_clean() {
    let mut run = Run::of(ramped());
    run.bind();
    (0..12).for_each(|_| run.step());
    assert_eq!(run.drawn(), [2, 2, 2, 2, 2, 4, 4, 4, 6, 6, 8, 8]);
    let state = run.mentor.state();
    assert_eq!((state.sequences, state.tokens), (50, 200));
    assert_eq!(state.domain_tokens.iter().sum::<u64>(), 200);
    assert_eq!(run.audit().diverged, 0);
    let mut folded = RunState::start(&run.log[0].event).unwrap();
    run.log[1..].iter().for_each(|recorded| folded.apply(&recorded.event));
    assert_eq!(&folded, run.mentor.state());
}

#[test]
fn warm_up_by_tokens_follows_the_ramp() {
    let mut run = Run::of(ramped());
    (0..9).for_each(|_| run.step());
    // Tokens with the step: 8 16 24 32 40 56 72 88 112; the warm-up is 100 of them.
    let due = [8.0, 16.0, 24.0, 32.0, 40.0, 56.0, 72.0, 88.0, 100.0].map(|t| 1e-3 * t / 100.0);
    assert_eq!(run.rates(), due);
    assert_eq!(run.mentor.state().spec.warmup_steps(), 9);
}

#[test]
fn ramp_that_cannot_be_drawn_by_starts_no_run() {
    let mut spec = ramped();
    spec.training.batch_ramp = Some(BatchRamp { from: 2, by: 0, over_sequences: 30 });
    let Event::RunStarted(mut started) = Run::start().log.remove(0).event else {
        panic!("no start")
    };
    started.spec = serde_json::to_string(&spec).unwrap();
    let refused = RunState::start(&Event::RunStarted(started)).unwrap_err().to_string();
    assert!(refused.contains("training.batch_ramp.by is 0"), "{refused}");
}

#[test]
fn peak_set_by_hand_scales_the_schedule_from_the_next_step() {
    let (mut run, mut untouched) = (Run::start(), Run::start());
    (0..40).for_each(|_| untouched.step());
    (0..20).for_each(|_| run.step());
    assert_eq!(run.command(set_peak(5e-4)), None);
    (0..10).for_each(|_| run.step());
    // Wishes do not compound: the run file's own peak is its own schedule again.
    assert_eq!(run.command(set_peak(1e-3)), None);
    (0..10).for_each(|_| run.step());
    let (rates, own) = (run.rates(), untouched.rates());
    assert_eq!(rates[..20], own[..20]);
    for step in 20..30 {
        assert!((rates[step] - 0.5 * own[step]).abs() < 1e-18, "{step}");
    }
    assert_eq!(rates[30..], own[30..]);
    assert_eq!(run.audit().diverged, 0);
}

#[test]
fn batch_set_by_hand_is_drawn_from_the_next_step_and_ends_the_ramp() {
    let mut run = Run::of(ramped());
    (0..6).for_each(|_| run.step());
    assert_eq!(run.command(set_batch(5)), None);
    (0..10).for_each(|_| run.step());
    assert_eq!(run.drawn(), [[2, 2, 2, 2, 2, 4, 5, 5].as_slice(), &[5; 8]].concat());
    assert_eq!(run.mentor.state().sequences, 64);
    let carried: i64 = run.mentor.state().carries.iter().sum();
    assert_eq!((carried, run.audit().diverged), (0, 0));
}

#[test]
fn nonsense_knobs_are_refused_with_a_sentence_and_change_nothing() {
    let mut run = Run::start();
    for peak in [0.0, -1e-3, f64::NAN, f64::INFINITY] {
        let refusal = run.command(set_peak(peak)).unwrap();
        assert!(refusal.contains("must be at least 1e-8"), "{refusal}");
    }
    let refusal = run.command(set_peak(0.5)).unwrap();
    assert!(refusal.contains("0.5 is more than 10 times the run's own of 0.001"), "{refusal}");
    assert_eq!(run.command(set_peak(1e-2)), None, "the bound itself is allowed");
    for sequences in [0, 65_537, u32::MAX] {
        let refusal = run.command(set_batch(sequences)).unwrap();
        assert!(refusal.contains("at least 1 and at most 65536"), "{refusal}");
    }
    let long = Command::SetBatchSize { sequences: 4, reason: "x".repeat(1001) };
    assert!(run.command(long).unwrap().contains("a reason of 1001 bytes"));
    run.step();
    assert_eq!(run.drawn(), [8]);
    assert_eq!(run.audit().diverged, 0);
}

#[test]
fn checkpoint_covers_the_knobs_set_by_hand_and_old_ones_are_read() {
    let mut run = Run::start();
    let before = serde_json::to_string(&run.mentor.state().checkpoint_state()).unwrap();
    assert!(!before.contains("overrides"), "{before}");
    run.command(set_peak(5e-4));
    run.command(set_batch(4));
    let content = run.mentor.state().checkpoint_state();
    let after = serde_json::to_string(&content).unwrap();
    assert!(after.contains(r#""learning_rate_peak":0.0005,"sequences_per_step":4"#), "{after}");
    assert_eq!(serde_json::from_str::<CheckpointState>(&after).unwrap(), content);
    assert!(serde_json::from_str::<CheckpointState>(&before).unwrap().overrides.is_empty());
}

#[test]
fn learning_rate_that_spec_and_commands_do_not_give_is_named() {
    let mut run = Run::start();
    (0..3).for_each(|_| run.step());
    run.command(set_peak(5e-4));
    (0..3).for_each(|_| run.step());
    run.forge(|event| match event {
        Event::StepRecorded(step) if step.step == 4 => {
            step.learning_rate *= 2.0;
            true
        }
        _ => false,
    });
    assert_eq!(run.first_divergence(), "learning_rate");
}

#[test]
fn sequences_that_spec_and_commands_do_not_give_are_named() {
    let mut run = Run::of(ramped());
    (0..7).for_each(|_| run.step());
    run.forge(|event| match event {
        Event::StepRecorded(step) if step.step == 5 => {
            step.draws[0].sequences += 1;
            true
        }
        _ => false,
    });
    assert_eq!(run.first_divergence(), "draws[0].sequences");
}

#[test]
fn knob_turned_otherwise_than_asked_or_by_nobody_is_named() {
    let turned = |forge: fn(&mut Event) -> bool| {
        let mut run = Run::start();
        run.command(set_peak(5e-4));
        run.command(set_batch(4));
        assert_eq!(run.audit().diverged, 0);
        run.forge(forge);
        run.first_divergence()
    };
    let what = turned(|event| match event {
        Event::LearningRateSet(set) => {
            set.peak = 6e-4;
            true
        }
        _ => false,
    });
    assert_eq!(what, "peak");
    let what = turned(|event| match event {
        Event::BatchSizeSet(_) => {
            *event = Event::RunPaused(RunPaused { step: 0 });
            true
        }
        _ => false,
    });
    assert_eq!(what, "what may come here");
    let what = turned(|event| match event {
        Event::CommandAnswered(answered) => {
            answered.refusal = Some("no".to_owned());
            true
        }
        _ => false,
    });
    assert_eq!(what, "refusal");
    let what = turned(|event| match event {
        Event::CommandAnswered(answered) => {
            answered.asked = r#"{"command":"pause"}"#.to_owned();
            true
        }
        _ => false,
    });
    assert_eq!(what, "asked");
}

/// What may happen between two steps, or a step.
#[derive(Clone, Debug)]
enum Happening {
    Step,
    Peak(f64),
    Batch(u32),
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let one = prop_oneof![
        4 => Just(Happening::Step),
        1 => (-1e-3f64..2e-2).prop_map(Happening::Peak),
        1 => (0u32..20).prop_map(Happening::Batch),
    ];
    prop::collection::vec(one, 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However knobs are turned, the log alone gives the state, the counts add up, and an audit agrees.
    #[test]
    fn knobs_turned_at_any_boundary_fold_and_audit_clean(happenings in happenings()) {
        let mut run = Run::of(ramped());
        for happening in happenings {
            match happening {
                Happening::Step => run.step(),
                Happening::Peak(peak) => {
                    let refused = run.command(set_peak(peak)).is_some();
                    prop_assert_eq!(refused, peak <= 0.0 || peak > 1e-2);
                }
                Happening::Batch(sequences) => {
                    prop_assert_eq!(run.command(set_batch(sequences)).is_some(), sequences == 0);
                }
            }
        }
        prop_assert_eq!(run.audit().diverged, 0);
        let state = run.mentor.state();
        let drawn: u64 = run.drawn().iter().map(|&sequences| u64::from(sequences)).sum();
        prop_assert_eq!((state.sequences, state.tokens), (drawn, 4 * drawn));
        prop_assert_eq!(state.carries.iter().sum::<i64>(), 0);
        let mut folded = RunState::start(&run.log[0].event).unwrap();
        run.log[1..].iter().for_each(|recorded| folded.apply(&recorded.event));
        prop_assert_eq!(&folded, state);
    }
}
