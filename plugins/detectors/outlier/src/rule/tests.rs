use proptest::prelude::*;

use super::*;

/// Noise with mean 0 and deviation 1, the same on every machine (a sum of twelve uniforms).
struct Noise(u64);

impl Noise {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
    }
}

/// A run of sequences of 100 tokens in which every domain has its own mean loss.
struct Run {
    memory: Memory,
    noise: Noise,
    step: u64,
    shares: Vec<f64>,
    loss_weights: Vec<f64>,
    levels: Vec<f64>,
    norm: f64,
}

const SEQUENCES: f64 = 40.0;
const SEQUENCE_TOKENS: f64 = 100.0;

impl Run {
    fn new(shares: &[f64], levels: &[f64]) -> Run {
        Run {
            memory: Memory::new(6.0, shares.len(), SEQUENCE_TOKENS),
            noise: Noise(7),
            step: 0,
            shares: shares.to_vec(),
            loss_weights: vec![1.0; shares.len()],
            levels: levels.to_vec(),
            norm: 1.0,
        }
    }

    /// A step as the host shows it; a domain's mean has a deviation of 0.2 nats a sequence.
    fn seen(&mut self) -> Step {
        let (mut drawn, mut weighted) = (Vec::new(), 0.0);
        for index in 0..self.shares.len() {
            let sequences = (self.shares[index] * SEQUENCES + self.noise.uniform()).floor();
            let tokens = sequences * SEQUENCE_TOKENS;
            let mean = self.levels[index] + 0.2 * self.noise.normal() / sequences.max(1.0).sqrt();
            drawn.push(Drawn { loss_sum: mean * tokens, tokens: tokens as u64 });
            weighted += self.loss_weights[index] * mean * tokens;
        }
        let tokens: u64 = drawn.iter().map(|part| part.tokens).sum();
        let weighted_loss = weighted / tokens.max(1) as f64;
        let gradient_norm = self.norm * (1.0 + 0.1 * self.noise.normal());
        Step { step: self.step, drawn, weighted_loss, gradient_norm }
    }

    fn step(&mut self) -> Option<Judgement> {
        let seen = self.seen();
        self.take(&seen)
    }

    fn take(&mut self, seen: &Step) -> Option<Judgement> {
        let judged = self.memory.judge(seen);
        let (shares, loss_weights) = (self.shares.clone(), self.loss_weights.clone());
        self.memory.told(Setting { shares, loss_weights });
        self.step += 1;
        judged
    }

    /// Steps of which none may be an outlier.
    fn go_on(&mut self, steps: u32) {
        for _ in 0..steps {
            assert_eq!(self.step(), None, "step {}", self.step - 1);
        }
    }

    fn armed() -> Run {
        let mut run = Run::new(&[0.75, 0.25], &[2.0, 4.0]);
        run.go_on(200);
        run
    }
}

#[test]
fn six_deviations_are_the_border_and_the_domain_is_named() {
    // 0.2 nats a sequence and 40 sequences: a deviation of 0.032 about a mean of 2.5.
    let above = |more: f64, domain: usize| {
        let mut run = Run::armed();
        run.levels[domain] += more;
        run.step()
    };
    assert_eq!(above(0.06, 0), None);
    let judged = above(0.6, 0).unwrap();
    assert_eq!((judged.what, judged.domain, judged.step), (Measure::Loss, Some(0), 200));
    assert!(
        (judged.due - 2.5).abs() < 0.1 && (judged.threshold - judged.due - 0.19).abs() < 0.08,
        "{judged:?}"
    );
    assert_eq!(above(2.0, 1).unwrap().domain, Some(1));
    let mut run = Run::armed();
    run.norm = 2.0;
    let judged = run.step().unwrap();
    assert_eq!((judged.what, judged.domain), (Measure::GradientNorm, None));
    assert!((judged.due - 1.0).abs() < 0.05 && (judged.threshold - 1.6).abs() < 0.1, "{judged:?}");
}

#[test]
fn nothing_is_an_outlier_before_it_is_armed_and_outliers_are_not_learned() {
    let mut run = Run::new(&[0.75, 0.25], &[2.0, 4.0]);
    run.go_on(40);
    run.levels[0] = 5.0;
    assert_eq!(run.step(), None);
    let mut run = Run::armed();
    let before = (run.memory.excesses.clone(), run.memory.norms.clone());
    run.levels[0] = 50.0;
    assert!(run.step().is_some());
    assert_eq!((run.memory.excesses.clone(), run.memory.norms.clone()), before);
    run.levels[0] = 2.0;
    run.go_on(50);
}

#[test]
fn new_mixture_is_no_outlier_though_it_moves_the_loss_and_the_norm() {
    let mut run = Run::armed();
    // Mean loss from 2.5 to 3.8: 40 deviations.
    (run.shares, run.norm) = (vec![0.1, 0.9], 3.0);
    run.go_on(200);
    // And under it a spike is found as before.
    run.levels[1] += 1.0;
    assert_eq!(run.step().unwrap().what, Measure::Loss);
    run.levels[1] -= 1.0;
    run.norm = 9.0;
    assert_eq!(run.step().unwrap().what, Measure::GradientNorm);
}

#[test]
fn domain_that_comes_new_or_back_after_long_is_learned_first() {
    let mut run = Run::new(&[1.0, 0.0], &[2.0, 6.0]);
    run.go_on(200);
    run.shares = vec![0.5, 0.5];
    run.go_on(100);
    run.shares = vec![1.0, 0.0];
    run.go_on(200);
    // Meanwhile it was forgotten: by the model, and here.
    (run.shares, run.levels) = (vec![0.5, 0.5], vec![2.0, 9.0]);
    run.go_on(100);
}

#[test]
fn loss_weights_do_not_enter() {
    let mut run = Run::armed();
    (run.loss_weights, run.norm) = (vec![1.0, 10.0], 5.0);
    run.go_on(200);
    run.levels[1] += 2.0;
    assert_eq!(run.step().unwrap().what, Measure::Loss);
}

#[test]
fn what_goes_on_is_learned_anew_after_ten_skips_and_told() {
    let mut run = Run::armed();
    run.levels = vec![3.0, 5.0];
    for _ in 0..SKIPS_MAX {
        assert_eq!(run.memory.forgotten, Vec::<usize>::new());
        assert!(run.step().is_some());
    }
    assert_eq!(run.memory.forgotten, [0, 1]);
    run.go_on(200);
    run.levels[0] += 1.0;
    assert!(run.step().is_some());
    // A lasting rise of the norm alone is learned as well.
    let mut run = Run::armed();
    run.norm = 3.0;
    (0..SKIPS_MAX).for_each(|_| assert!(run.step().is_some()));
    run.go_on(200);
}

#[test]
fn rare_domain_that_rises_for_good_is_not_skipped_for_ever() {
    let mut run = Run::new(&[1.0, 0.0], &[2.0, 4.0]);
    // A tenth of the step, every third step.
    let turn = |run: &mut Run| {
        let rare = if run.step % 3 == 0 { 0.1 } else { 0.0 };
        run.shares = vec![1.0 - rare, rare];
        run.step()
    };
    (0..600).for_each(|_| assert_eq!(turn(&mut run), None));
    run.levels[1] = 12.0;
    let skipped = (0..300).filter(|_| turn(&mut run).is_some()).count();
    assert_eq!(skipped, SKIPS_MAX as usize);
    assert_eq!(run.memory.forgotten, [1]);
}

#[test]
fn falling_losses_are_no_outliers() {
    let mut run = Run::new(&[0.6, 0.4], &[0.0, 0.0]);
    for step in 0..3000 {
        let curve = 8.0 / f64::from(step + 30).sqrt();
        run.levels = vec![2.2 + curve, 3.0 + curve];
        assert_eq!(run.step(), None, "step {step}");
    }
}

#[test]
fn step_of_nothing_and_step_of_no_numbers_leave_everything_as_it_is() {
    let mut run = Run::armed();
    let before = run.memory.clone();
    for odd in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let good = run.seen();
        let bad = Drawn { loss_sum: odd, tokens: 100 };
        assert_eq!(run.memory.judge(&Step { weighted_loss: odd, ..good.clone() }), None);
        assert_eq!(run.memory.judge(&Step { gradient_norm: odd, ..good.clone() }), None);
        assert_eq!(run.memory.judge(&Step { drawn: vec![bad, good.drawn[1]], ..good }), None);
    }
    assert_eq!(run.memory, before);
    let nothing = Drawn { loss_sum: 0.0, tokens: 0 };
    let empty = Step { step: 0, drawn: vec![nothing; 2], weighted_loss: 0.0, gradient_norm: 1.0 };
    assert_eq!(run.take(&empty), None);
}

#[test]
fn one_domain_is_held_against_itself() {
    let mut run = Run::new(&[1.0], &[2.0]);
    run.go_on(200);
    run.levels[0] = 2.5;
    assert_eq!(run.step().unwrap().domain, Some(0));
}

fn odd_step() -> impl Strategy<Value = Step> {
    let number = prop_oneof![4 => any::<f64>(), 1 => 0.0..10.0f64];
    let drawn = (number.clone(), prop_oneof![Just(0), Just(u64::MAX), 0u64..10_000])
        .prop_map(|(loss_sum, tokens)| Drawn { loss_sum, tokens });
    (prop::collection::vec(drawn, 2), number.clone(), number).prop_map(
        |(drawn, weighted_loss, gradient_norm)| Step {
            step: 0,
            drawn,
            weighted_loss,
            gradient_norm,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn detector_survives_whatever_it_is_shown(
        odd in prop::collection::vec(odd_step(), 0..200),
        told in prop::collection::vec(any::<f64>(), 2),
    ) {
        let mut run = Run::new(&[0.75, 0.25], &[2.0, 4.0]);
        for step in &odd {
            run.memory.judge(step);
            run.memory.told(Setting { shares: told.clone(), loss_weights: told.clone() });
        }
        // After what it takes to forget, ordinary steps pass and a leap of the loss is found.
        let skipped = (0..1500).filter(|_| run.step().is_some()).count();
        prop_assert!(skipped <= 2 * SKIPS_MAX as usize, "{skipped} ordinary steps were skipped");
        run.go_on(20);
        run.levels = vec![9.0, 9.0];
        prop_assert!(run.step().is_some());
    }
}
