//! Learning rate by step: linear warm-up, then cosine decay.

use serde::{Deserialize, Serialize};

/// Linear warm-up to the peak, then half a cosine down to the minimum at the last step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// Highest learning rate.
    pub peak: f64,
    /// Learning rate at the end of the run.
    pub minimum: f64,
    /// Steps of linear warm-up; the first step already moves.
    pub warmup_steps: u64,
}

impl Schedule {
    /// Learning rate of `step` (from 0) in a run of `steps`.
    ///
    /// Cosine is computed here from + - * / alone, so that a run's knobs do not depend on a C library.
    pub fn learning_rate(&self, step: u64, steps: u64) -> f64 {
        if step < self.warmup_steps {
            return self.peak * (step + 1) as f64 / self.warmup_steps as f64;
        }
        let decay_steps = steps.saturating_sub(self.warmup_steps).max(1);
        let done = (step - self.warmup_steps).min(decay_steps) as f64 / decay_steps as f64;
        self.minimum + (self.peak - self.minimum) * 0.5 * (1.0 + cos_of_half_turns(done))
    }
}

/// cos(pi * x) for x in 0..=1, to a few units in the last place, by its Taylor series on 0..=1/2.
fn cos_of_half_turns(x: f64) -> f64 {
    if x > 0.5 {
        return -cos_of_half_turns(1.0 - x);
    }
    let square = (std::f64::consts::PI * x) * (std::f64::consts::PI * x);
    // Terms fall below 1e-18 at the 12th for angles up to pi/2.
    let mut sum = 0.0;
    for k in (1..=12u32).rev() {
        let denominator = f64::from((2 * k - 1) * (2 * k));
        sum = -square / denominator * (1.0 + sum);
    }
    1.0 + sum
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEDULE: Schedule = Schedule { peak: 1e-3, minimum: 1e-4, warmup_steps: 10 };

    #[test]
    fn cosine_agrees_with_the_c_library() {
        for step in 0..=1000 {
            let x = f64::from(step) / 1000.0;
            assert!((cos_of_half_turns(x) - (std::f64::consts::PI * x).cos()).abs() < 4e-16, "{x}");
        }
    }

    #[test]
    fn warms_up_linearly_and_ends_at_the_minimum() {
        assert_eq!(SCHEDULE.learning_rate(0, 110), 1e-4);
        assert_eq!(SCHEDULE.learning_rate(9, 110), 1e-3);
        assert_eq!(SCHEDULE.learning_rate(10, 110), 1e-3);
        assert!((SCHEDULE.learning_rate(60, 110) - 5.5e-4).abs() < 1e-12);
        assert!((SCHEDULE.learning_rate(110, 110) - 1e-4).abs() < 1e-12);
    }

    #[test]
    fn run_shorter_than_its_warm_up_never_divides_by_zero() {
        assert_eq!(SCHEDULE.learning_rate(4, 5), 5e-4);
        let none = Schedule { warmup_steps: 0, ..SCHEDULE };
        assert_eq!(none.learning_rate(0, 0), 1e-3);
    }
}
