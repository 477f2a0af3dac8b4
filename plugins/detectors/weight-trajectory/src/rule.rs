//! How far each kind of parameter moves per billion tokens, held against how far it has moved lately.

use serde::{Deserialize, Serialize};

use crate::frechet;

/// When a distance is a finding.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// Times the running mean.
    pub factor: f64,
    /// Distances behind the running mean: a plain mean of the first ones, then each new one counts
    /// one part in so many.
    pub window: u32,
    /// Distances before any is judged.
    pub armed_after: u32,
}

/// The weights at one step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    pub attempt: u32,
    pub step: u64,
    pub tokens: u64,
    /// Of each kind its deviations over the layers; empty for a kind that was not shown.
    pub stds: Vec<Vec<f64>>,
}

/// A kind that moved further than it should.
#[derive(Clone, Debug, PartialEq)]
pub struct Strayed {
    /// Its place among the kinds.
    pub kind: usize,
    /// Step of the measurement before.
    pub since_step: u64,
    /// Per billion tokens.
    pub distance: f64,
    /// The factor times the running mean.
    pub threshold: f64,
}

/// Times the mean that a distance counts for at most, and below which part of it the mean is begun anew:
/// one look at a broken model, before or after it is armed, must not set what every later one is held
/// against. Ours, as the whole threshold is.
const LEAP: f64 = 10.0;

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Mean {
    value: f64,
    count: u32,
}

/// What is kept between calls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    rule: Rule,
    last: Option<Measured>,
    means: Vec<Mean>,
}

impl Memory {
    /// Empty.
    pub fn new(rule: Rule, kinds: usize) -> Memory {
        Memory { rule, last: None, means: vec![Mean::default(); kinds] }
    }

    /// Takes the next measurement; gives the kinds that strayed since the one before.
    pub fn take(&mut self, measured: Measured) -> Vec<Strayed> {
        let Some(last) = self.last.replace(measured.clone()) else { return Vec::new() };
        // A run that was rolled back has not moved from there to here.
        if last.attempt != measured.attempt || last.tokens >= measured.tokens {
            return Vec::new();
        }
        let billions = (measured.tokens - last.tokens) as f64 / 1e9;
        let mut strayed = Vec::new();
        for kind in 0..self.means.len() {
            let distance = frechet::distance(&last.stds[kind], &measured.stds[kind])
                .map(|distance| distance / billions)
                .filter(|distance| distance.is_finite());
            let Some(distance) = distance else { continue };
            if let Some(threshold) = self.judge(kind, distance) {
                strayed.push(Strayed { kind, since_step: last.step, distance, threshold });
            }
        }
        strayed
    }

    /// The threshold, if the distance is above it. The mean learns every distance, this one too: what
    /// stays high is told some times and is then how the run is; what falls far is so at once.
    fn judge(&mut self, kind: usize, distance: f64) -> Option<f64> {
        let Rule { factor, window, armed_after } = self.rule;
        let mean = &mut self.means[kind];
        let threshold = factor * mean.value;
        let armed = mean.count >= armed_after && mean.value > 0.0;
        let learned = if armed { distance.min(LEAP * mean.value) } else { distance };
        if distance < mean.value / LEAP {
            *mean = Mean::default();
        }
        mean.count = (mean.count + 1).min(window.max(armed_after).max(1));
        mean.value += (learned - mean.value) / f64::from(mean.count.min(window.max(1)));
        (armed && distance > threshold).then_some(threshold)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RULE: Rule = Rule { factor: 3.0, window: 10, armed_after: 5 };

    /// A measurement of one kind in two layers, of which the second is at `std`.
    fn at(step: u64, std: f64) -> Measured {
        Measured {
            attempt: 0,
            step,
            // A quarter of a billion tokens a step.
            tokens: step * 250_000_000,
            stds: vec![vec![0.5, std]],
        }
    }

    /// Five distances of 1 per billion tokens, the last measurement being `at(5, 1.25)`.
    fn armed() -> Memory {
        let mut memory = Memory::new(RULE, 1);
        for step in 0..=5 {
            assert_eq!(memory.take(at(step, step as f64 / 4.0)), []);
        }
        assert_eq!(memory.means[0], Mean { value: 1.0, count: 5 });
        memory
    }

    #[test]
    fn distance_is_per_billion_tokens_and_the_factor_is_the_border() {
        // 0.75 in a quarter of a billion: 3, which is not above 3 times 1.
        assert_eq!(armed().take(at(6, 2.0)), []);
        let strayed = armed().take(at(6, 2.25));
        let due = Strayed { kind: 0, since_step: 5, distance: 4.0, threshold: 3.0 };
        assert_eq!(strayed, [due]);
        // Twice as many tokens for the same way: 2.
        assert_eq!(armed().take(at(7, 2.25)), []);
    }

    #[test]
    fn mean_is_plain_at_first_and_learns_what_stays() {
        let mut memory = armed();
        memory.take(at(6, 2.75));
        // (5 times 1 + 6) / 6.
        assert!((memory.means[0].value - 11.0 / 6.0).abs() < 1e-12);
        // 6 again is above 5.5, then it is not above three times (11 + 6) / 7 any more.
        assert_eq!(memory.take(at(7, 4.25)).len(), 1);
        assert_eq!(memory.take(at(8, 5.75)), []);
        for step in 9..60 {
            assert_eq!(memory.take(at(step, 5.75 + (step - 8) as f64 * 1.5)), []);
        }
        // By now a distance counts one part in ten of a mean of nearly 6.
        let before = memory.means[0].value;
        memory.take(at(60, 5.75 + 51.0 * 1.5 + 0.75));
        assert!((memory.means[0].value - (before * 0.9 + 0.3)).abs() < 1e-9, "{before}");
    }

    #[test]
    fn nothing_is_judged_before_it_is_armed_or_against_a_kind_at_rest() {
        let mut memory = Memory::new(RULE, 1);
        for (step, std) in [(0, 0.5), (1, 0.75), (2, 100.0), (3, 0.5)] {
            assert_eq!(memory.take(at(step, std)), []);
        }
        let mut still = Memory::new(RULE, 1);
        (0..9).for_each(|step| assert_eq!(still.take(at(step, 0.5)), []));
        assert_eq!(still.take(at(9, 0.75)), []);
    }

    #[test]
    fn a_rollback_and_what_is_not_a_number_move_nothing() {
        let mut memory = armed();
        let back = Measured { attempt: 1, ..at(3, 50.0) };
        assert_eq!(memory.take(back), []);
        assert_eq!(memory.take(Measured { attempt: 1, ..at(4, f64::NAN) }), []);
        assert_eq!(memory.take(Measured { attempt: 1, ..at(5, 50.0) }), []);
        assert_eq!(memory.means, armed().means);
        assert_eq!(memory.take(Measured { attempt: 1, ..at(6, 51.0) }).len(), 1);
    }

    #[test]
    fn one_look_at_broken_weights_is_forgotten_within_the_window() {
        // Before it is armed.
        let mut memory = Memory::new(RULE, 1);
        memory.take(at(0, 1e38));
        (1..9).for_each(|step| assert_eq!(memory.take(at(step, step as f64 / 4.0)), []));
        assert_eq!(memory.means[0].value, 1.0);
        assert_eq!(memory.take(at(9, 3.25)).len(), 1);
        // And after: there and back are told, as ten times the mean are they learned.
        let mut memory = armed();
        assert_eq!(memory.take(at(6, 1e38)).len(), 1);
        assert_eq!(memory.take(at(7, 1.75)).len(), 1);
        (8..30).for_each(|step| assert_eq!(memory.take(at(step, step as f64 / 4.0)), []));
        assert!((1.0..2.0).contains(&memory.means[0].value), "{memory:?}");
    }

    proptest! {
        #[test]
        fn means_stay_numbers_whatever_is_measured(
            seen in prop::collection::vec((0u32..2, 0u64..1 << 60, prop::collection::vec(any::<f64>(), 0..4)), 0..60),
        ) {
            let mut memory = Memory::new(RULE, 1);
            for (step, (attempt, tokens, stds)) in (0..).zip(seen) {
                let told = memory.take(Measured { attempt, step, tokens, stds: vec![stds] });
                prop_assert!(told.iter().all(|strayed| strayed.distance > strayed.threshold));
                prop_assert!(memory.means[0].value.is_finite() && memory.means[0].value >= 0.0);
            }
        }
    }
}
