use proptest::prelude::*;

use super::*;

const COSINE: Schedule =
    Schedule { peak: 1e-3, minimum: 1e-4, warmup: Warmup::Steps(10), shape: Shape::Cosine };

fn at(schedule: &Schedule, step: u64, steps: u64) -> f64 {
    schedule.learning_rate(StepSpan::of_step(step, steps))
}

fn refusal(schedule: &Schedule, end: u64) -> String {
    let mut faults = Faults::default();
    schedule.check(Some(end), &mut faults);
    faults.into_result().err().map_or_else(String::new, |faults| faults.to_string())
}

#[test]
fn warms_up_linearly_and_ends_at_the_minimum() {
    assert_eq!(at(&COSINE, 0, 110), 1e-4);
    assert_eq!(at(&COSINE, 9, 110), 1e-3);
    assert_eq!(at(&COSINE, 10, 110), 1e-3);
    assert!((at(&COSINE, 60, 110) - 5.5e-4).abs() < 1e-12);
    assert!((at(&COSINE, 110, 110) - 1e-4).abs() < 1e-12);
}

#[test]
fn run_shorter_than_its_warm_up_never_divides_by_zero() {
    assert_eq!(at(&COSINE, 4, 5), 5e-4);
    let none = Schedule { warmup: Warmup::Steps(0), ..COSINE };
    assert_eq!(at(&none, 0, 0), 1e-3);
}

/// Bits of the first version of this file, before there was a choice: logs of that time hold them.
#[test]
fn cosine_has_the_bits_it_always_had() {
    let schedule = Schedule { peak: 3e-4, minimum: 3e-5, warmup: Warmup::Steps(7), ..COSINE };
    let first = |step: u64, steps: u64| -> f64 {
        if step < 7 {
            return 3e-4 * (step + 1) as f64 / 7.0;
        }
        let done = (step - 7).min(steps - 7) as f64 / (steps - 7) as f64;
        let cosine = |x: f64| {
            let square = (std::f64::consts::PI * x) * (std::f64::consts::PI * x);
            let term = |sum, k: u32| -square / f64::from((2 * k - 1) * (2 * k)) * (1.0 + sum);
            1.0 + (1..=12u32).rev().fold(0.0, term)
        };
        let cosine = if done > 0.5 { -cosine(1.0 - done) } else { cosine(done) };
        3e-5 + (3e-4 - 3e-5) * 0.5 * (1.0 + cosine)
    };
    for step in 0..=500 {
        assert_eq!(at(&schedule, step, 500).to_bits(), first(step, 500).to_bits(), "{step}");
    }
}

#[test]
fn spec_from_before_there_was_a_choice_means_the_same_and_is_written_the_same() {
    let text = r#"{"peak":0.001,"minimum":0.0001,"warmup_steps":10}"#;
    let schedule: Schedule = serde_json::from_str(text).unwrap();
    assert_eq!(schedule, COSINE);
    assert_eq!(serde_json::to_string(&schedule).unwrap(), text);
}

#[test]
fn json_gives_every_schedule_back_and_refuses_two_warm_ups_or_none() {
    let shapes = [
        Shape::Cosine,
        Shape::Linear,
        Shape::Constant,
        Shape::WarmupStableDecay { decay_share: 0.1, decay: Curve::SquareRoot },
    ];
    for shape in shapes {
        for warmup in [Warmup::Steps(0), Warmup::Sequences(5), Warmup::Tokens(u64::MAX)] {
            let schedule = Schedule { warmup, shape, ..COSINE };
            let text = serde_json::to_string(&schedule).unwrap();
            assert_eq!(serde_json::from_str::<Schedule>(&text).unwrap(), schedule, "{text}");
        }
    }
    let refused = |text: &str| serde_json::from_str::<Schedule>(text).unwrap_err().to_string();
    let two = refused(r#"{"peak":1,"minimum":0,"warmup_steps":1,"warmup_tokens":1}"#);
    assert!(two.contains("one of warmup_steps"), "{two}");
    assert!(refused(r#"{"peak":1,"minimum":0}"#).contains("one of warmup_steps"));
    let unknown = refused(r#"{"peak":1,"minimum":0,"warmup_steps":1,"warm_up":1}"#);
    assert!(unknown.contains("warm_up"), "{unknown}");
}

#[test]
fn linear_and_constant_are_as_worked_by_hand() {
    let linear = Schedule { shape: Shape::Linear, ..COSINE };
    // A quarter of the 100 steps after the warm-up: 1e-3 - 0.25 * 9e-4.
    assert!((at(&linear, 35, 110) - 7.75e-4).abs() < 1e-18);
    let constant = Schedule { shape: Shape::Constant, ..COSINE };
    assert_eq!([4, 10, 60, 110].map(|step| at(&constant, step, 110)), [5e-4, 1e-3, 1e-3, 1e-3]);
}

#[test]
fn stable_part_lasts_until_the_decay_share_is_left() {
    let shape = Shape::WarmupStableDecay { decay_share: 0.2, decay: Curve::Linear };
    let schedule = Schedule { minimum: 0.0, shape, ..COSINE };
    // 100 steps: the decay is the last 20, a twentieth of the peak each.
    assert_eq!([9, 10, 50, 79, 80].map(|step| at(&schedule, step, 100)), [1e-3; 5]);
    for (step, due) in [(81, 9.5e-4), (90, 5e-4), (99, 5e-5), (100, 0.0)] {
        assert!((at(&schedule, step, 100) - due).abs() < 1e-18, "{step}");
    }
}

/// Aquila2-34B: 500,000 samples of warm-up to 1.5e-4, a cosine to 1.5e-5 at 488,281,250 samples.
#[test]
fn schedule_of_the_report_counts_sequences() {
    let schedule = Schedule {
        peak: 1.5e-4,
        minimum: 1.5e-5,
        warmup: Warmup::Sequences(500_000),
        shape: Shape::Cosine,
    };
    let rate = |before: u64, sequences: u64| {
        schedule.learning_rate(StepSpan { before, after: before + sequences, end: 488_281_250 })
    };
    assert_eq!(rate(0, 32), 1.5e-4 * 32.0 / 500_000.0);
    assert_eq!(rate(249_968, 32), 0.75e-4);
    assert_eq!(rate(499_980, 512), 1.5e-4, "the step that ends the warm-up is not above the peak");
    // Half of the way from 500,000 to the end.
    assert!((rate(244_390_625, 1024) - 0.825e-4).abs() < 1e-18);
    assert!((rate(488_281_250, 1024) - 1.5e-5).abs() < 1e-18);
}

#[test]
fn scaled_schedule_keeps_its_form() {
    let scaled = COSINE.scaled_to(5e-4);
    for step in 0..=110 {
        assert!((at(&scaled, step, 110) - 0.5 * at(&COSINE, step, 110)).abs() < 1e-18, "{step}");
    }
    assert_eq!(COSINE.scaled_to(1e-3), COSINE);
}

#[test]
fn contradictions_are_refused_by_key_and_value() {
    assert_eq!(refusal(&COSINE, 10), "");
    assert_eq!(
        refusal(&COSINE, 9),
        "training.warmup_steps is 10: must be at most the run's 9 steps"
    );
    let tokens = Schedule { warmup: Warmup::Tokens(1000), ..COSINE };
    assert_eq!(
        refusal(&tokens, 999),
        "training.warmup_tokens is 1000: must be at most the run's 999 tokens"
    );
    for peak in [0.0, -1.0, 1e39, 1e-40, 1e-9, f64::NAN, f64::INFINITY] {
        let text = refusal(&Schedule { peak, ..COSINE }, 100);
        assert!(text.starts_with("training.learning_rate is "), "{text}");
    }
    for minimum in [-1e-9, 2e-3, f64::NAN] {
        let text = refusal(&Schedule { minimum, ..COSINE }, 100);
        assert!(text.starts_with("training.learning_rate_minimum is "), "{text}");
    }
    let stable = |decay_share, decay| Schedule {
        minimum: 0.0,
        shape: Shape::WarmupStableDecay { decay_share, decay },
        ..COSINE
    };
    for share in [0.0, 1.5, f64::NAN] {
        let text = refusal(&stable(share, Curve::Linear), 100);
        assert!(text.starts_with("training.schedule.decay_share is "), "{text}");
    }
    assert!(refusal(&stable(0.1, Curve::Exponential), 100).contains("must be above 0 for an exp"));
    let both = Schedule { peak: 0.0, ..stable(0.0, Curve::Linear) };
    assert!(refusal(&both, 100).starts_with("2 settings cannot be used"));
    let text = refusal(&stable(0.95, Curve::Linear), 100);
    assert!(text.starts_with("training.warmup_steps is 10: must be at most the 5 steps"), "{text}");
}

fn shape() -> impl Strategy<Value = Shape> {
    let curve = prop_oneof![
        Just(Curve::Cosine),
        Just(Curve::Linear),
        Just(Curve::Exponential),
        Just(Curve::SquareRoot)
    ];
    let stable = (0.01f64..1.0, curve)
        .prop_map(|(decay_share, decay)| Shape::WarmupStableDecay { decay_share, decay });
    prop_oneof![Just(Shape::Cosine), Just(Shape::Linear), Just(Shape::Constant), stable]
}

proptest! {
    #[test]
    fn rate_rises_in_the_warm_up_and_never_again(shape in shape(), warmup in 0u64..50, steps in 1u64..200) {
        let schedule = Schedule { warmup: Warmup::Steps(warmup), shape, ..COSINE };
        let rates: Vec<f64> = (0..steps + 5).map(|step| at(&schedule, step, steps)).collect();
        for (step, pair) in (0..).zip(rates.windows(2)) {
            let rises = pair[1] > pair[0];
            let due = if step + 1 < warmup { rises } else { !rises || pair[1] - pair[0] < 1e-17 };
            prop_assert!(due, "step {}: {:?}", step, pair);
        }
        prop_assert!(rates.iter().all(|&rate| rate > 0.0 && rate <= schedule.peak));
    }

    /// At one batch size it is the same whether steps, sequences or tokens are counted.
    #[test]
    fn unit_makes_no_difference_where_every_step_draws_the_same(
        shape in shape(), warmup in 0u64..50, step in 0u64..200, batch in 1u64..9,
    ) {
        let in_steps = Schedule { warmup: Warmup::Steps(warmup), shape, ..COSINE };
        let in_sequences = Schedule { warmup: Warmup::Sequences(warmup * batch), ..in_steps.clone() };
        // A share of the run is rounded down to whole units, so it must divide.
        prop_assume!(!matches!(shape, Shape::WarmupStableDecay { .. }));
        let span = StepSpan { before: step * batch, after: (step + 1) * batch, end: 200 * batch };
        let (a, b) = (at(&in_steps, step, 200), in_sequences.learning_rate(span));
        prop_assert!((a / b - 1.0).abs() < 1e-14, "{a} {b}");
    }
}
