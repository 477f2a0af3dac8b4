use super::*;
use crate::event::{RunStarted, StepRecorded};
use crate::mixture::Mixture;
use crate::precision::Precision;
use crate::ramp::BatchRamp;
use crate::step::{PreStep, Verdict};
use crate::testing::spec;

fn state(spec: &RunSpec) -> RunState {
    let text = serde_json::to_string(spec).unwrap();
    let digest = crate::id::Digest::ZERO;
    let none = String::new;
    RunState::start(&Event::RunStarted(RunStarted {
        spec: text,
        prior: Mixture::from_shares(0, &[1.0, 1.0]).unwrap(),
        environment: crate::event::Environment {
            build: digest,
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

#[test]
fn tokens_left_follow_the_ramp_or_the_batch_set_by_hand() {
    let mut spec = spec(2);
    spec.training.steps = 12;
    spec.training.batch_ramp = Some(BatchRamp { from: 2, by: 2, over_sequences: 30 });
    let mut state = state(&spec);
    // 2 2 2 2 2 4 4 4 6 6 8 8 sequences of 4 tokens.
    assert_eq!(state.tokens_left(0, 0), 50 * 4);
    assert_eq!(state.tokens_left(5, 10), 40 * 4);
    assert_eq!(state.tokens_left(12, 50), 0);
    state.overrides.sequences_per_step = Some(3);
    assert_eq!(state.tokens_left(5, 10), 7 * 3 * 4);
}

#[test]
fn schedule_by_sequences_ends_where_the_spec_plans_the_end() {
    let mut spec = spec(2);
    spec.training.steps = 12;
    spec.training.batch_ramp = Some(BatchRamp { from: 2, by: 2, over_sequences: 30 });
    spec.schedule.warmup = Warmup::Sequences(10);
    assert_eq!((spec.schedule_end(), spec.warmup_steps()), (50, 5));
    let mut state = state(&spec);
    state.sequences = 30;
    // Half of the way from 10 to 50: half-way between 1e-3 and 1e-4, whatever the batch is.
    assert!((state.learning_rate() - 5.5e-4).abs() < 1e-18);
    state.overrides.sequences_per_step = Some(1);
    assert!((state.learning_rate() - 5.5e-4).abs() < 1e-18);
    state.sequences = 70;
    assert!((state.learning_rate() - 1e-4).abs() < 1e-18);
}

#[test]
fn numbers_near_the_end_of_the_range_do_not_panic() {
    let mut state = state(&spec(2));
    state.spec.training.steps = u64::MAX;
    for warmup in [Warmup::Steps(u64::MAX), Warmup::Sequences(u64::MAX), Warmup::Tokens(u64::MAX)] {
        state.spec.schedule.warmup = warmup;
        for place in [0, u64::MAX - 1, u64::MAX] {
            (state.sequences, state.next_step) = (place, place);
            assert!(state.learning_rate().is_finite());
            let _ = (state.tokens_left(place, place), state.spec.warmup_steps());
        }
    }
}

#[test]
fn wish_is_read_without_a_reason_and_refused_without_a_number() {
    let read = |text: &str| serde_json::from_str::<Command>(text);
    let wish = read(r#"{"command":"set-learning-rate","peak":5e-4}"#).unwrap();
    assert_eq!(wish, Command::SetLearningRate { peak: 5e-4, reason: String::new() });
    let wish = read(r#"{"command":"set-batch-size","sequences":64,"reason":"why"}"#).unwrap();
    assert_eq!(wish, Command::SetBatchSize { sequences: 64, reason: "why".to_owned() });
    for text in [
        r#"{"command":"set-learning-rate","peak":null}"#,
        r#"{"command":"set-batch-size","sequences":-1}"#,
        r#"{"command":"set-batch-size","sequences":1.5}"#,
        r#"{"command":"set-batch-size","sequences":4,"step":3}"#,
    ] {
        assert!(read(text).is_err(), "{text}");
    }
}

#[test]
fn loss_scale_is_a_fold_of_what_steps_showed() {
    let mut spec = spec(2);
    spec.training.precision = Precision::F16;
    let mut state = state(&spec);
    let mut scale_after = |step: u64, nonfinite_count: u64| {
        let pre_step =
            PreStep { loss: 1.0, gradient_norm: 1.0, nonfinite_count, losses: Vec::new() };
        state.apply(&Event::StepRecorded(Box::new(StepRecorded {
            step,
            tokens: 0,
            learning_rate: 0.0,
            mixture_version: 0,
            draws: Vec::new(),
            batch: crate::id::Digest::ZERO,
            pre_step,
            verdict: Verdict::Skip,
            effective_clip: 1.0,
            step_us: 0,
            receipts: Vec::new(),
        })));
        state.knobs().loss_scale
    };
    assert_eq!(scale_after(0, 0), 65_536.0);
    assert_eq!(scale_after(1, 3), 32_768.0);
    assert_eq!(scale_after(2, 0), 32_768.0);
}
