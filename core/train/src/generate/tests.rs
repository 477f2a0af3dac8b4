//! What is generated, against the whole sequence computed at once and against shares worked by hand.

use burn::tensor::Device;

use super::*;
use crate::Trainer;
use crate::tests::{spec, trainer};

fn generator(trainer: &Trainer, ops: Ops) -> Generator {
    Generator::of(&trainer.model, trainer.first().weights(), ops)
}

#[test]
fn tokens_one_by_one_give_the_logits_of_the_whole_sequence() {
    for qk_norm in [false, true] {
        let mut spec = spec();
        spec.model.qk_norm = qk_norm;
        spec.model.init_std = 0.2;
        let trainer = trainer(&spec);
        let ids: Vec<u32> = (0..64).map(|at| (at * at * 7 + 3) % 512).collect();
        let whole = trainer.logits(&ids).unwrap();
        let device = Device::flex();
        for ops in [Ops::of(&device), Ops::composed(&device)] {
            let mut generator = generator(&trainer, ops);
            // A prompt, a few at once, then one by one.
            let mut fed = 0;
            for count in [17, 5].into_iter().chain(std::iter::repeat_n(1, 42)) {
                let logits = generator.feed(&ids[fed..fed + count]).unwrap();
                fed += count;
                assert_eq!(logits.len(), 512);
                for (found, expected) in logits.iter().zip(&whole[fed - 1]) {
                    assert!((found - expected).abs() < 1e-4, "{fed}: {found} {expected}");
                }
            }
            assert_eq!(generator.room(), 0);
            let error = generator.feed(&[1]).unwrap_err().to_string();
            assert!(error.contains("65") && error.contains("64"), "{error}");
        }
    }
}

fn choice() -> Choice {
    Choice { temperature: 1.0, top_k: 0, top_p: 1.0, seed: 7 }
}

/// How often each of three tokens is drawn.
fn drawn(choice: Choice, logits: &[f32]) -> [f64; 3] {
    let mut chooser = Chooser::new(choice).unwrap();
    let mut counts = [0.0; 3];
    (0..20_000).for_each(|_| counts[chooser.next(logits) as usize] += 1.0 / 20_000.0);
    counts
}

#[test]
fn tokens_are_drawn_by_their_shares_sharpened_and_cut() {
    // Shares 0.2, 0.5 and 0.3.
    let logits = [0.2f32, 0.5, 0.3].map(f32::ln);
    let near = |found: [f64; 3], expected: [f64; 3]| {
        let apart = found.iter().zip(&expected).map(|(a, b)| (a - b).abs());
        assert!(apart.fold(0.0, f64::max) < 0.015, "{found:?} {expected:?}");
    };
    near(drawn(choice(), &logits), [0.2, 0.5, 0.3]);
    // At half the temperature shares are squared: 0.04, 0.25, 0.09 of 0.38.
    let cold = Choice { temperature: 0.5, ..choice() };
    near(drawn(cold, &logits), [0.105, 0.658, 0.237]);
    near(drawn(Choice { top_k: 2, ..choice() }, &logits), [0.0, 0.625, 0.375]);
    near(drawn(Choice { top_p: 0.6, ..choice() }, &logits), [0.0, 0.625, 0.375]);
    near(drawn(Choice { top_p: 0.5, ..choice() }, &logits), [0.0, 1.0, 0.0]);
    near(drawn(Choice { temperature: 0.0, ..choice() }, &logits), [0.0, 1.0, 0.0]);
}

#[test]
fn equal_seeds_draw_equal_tokens_and_others_do_not() {
    let logits = [0.0f32; 50];
    let text = |seed| -> Vec<u32> {
        let mut chooser = Chooser::new(Choice { seed, ..choice() }).unwrap();
        (0..20).map(|_| chooser.next(&logits)).collect()
    };
    assert_eq!(text(1), text(1));
    assert_ne!(text(1), text(2));
}

#[test]
fn choices_that_mean_nothing_are_refused_with_their_value() {
    let refused = |choice: Choice| Chooser::new(choice).unwrap_err().to_string();
    let error = refused(Choice { temperature: -1.0, ..choice() });
    assert!(error.starts_with("temperature is -1"), "{error}");
    assert!(refused(Choice { top_p: 0.0, ..choice() }).starts_with("top-p is 0"));
    assert!(refused(Choice { top_p: 1.5, ..choice() }).starts_with("top-p is 1.5"));
}
