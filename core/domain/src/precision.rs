//! The numbers a step computes in, and the scale that keeps small gradients within them.

use serde::{Deserialize, Serialize};

use crate::step::PreStep;

/// Type of the matrix products and of what is kept for the gradient. Weights, moments, gradients,
/// losses and every reduction are f32 under all of them (Micikevicius and others, arXiv 1710.03740,
/// section 3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// IEEE single: the only one on the CPU.
    #[default]
    F32,
    /// Eight bits of exponent as f32 has, seven of fraction. No scale is needed.
    Bf16,
    /// IEEE half: gradients below 6e-8 vanish and beyond 65,504 overflow, so the objective is scaled.
    F16,
}

impl Precision {
    /// As run files spell it.
    pub fn name(self) -> &'static str {
        match self {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
            Precision::F16 => "f16",
        }
    }
}

/// What the objective is multiplied by and its gradients divided by, so that they fit f16: halved when
/// a step overflows, doubled after enough steps that did not (arXiv 1710.03740, section 3.2; constants
/// of `PyTorch`'s `GradScaler`). A step that overflows is skipped by the host's own rule.
///
/// A fold of the log like everything else that reaches training: what a step showed says how the next
/// one is scaled.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LossScale {
    /// The factor.
    pub factor: f64,
    /// Steps without overflow since it last changed.
    pub good_steps: u32,
}

/// Steps without overflow after which the scale is doubled.
const GROWTH_STEPS: u32 = 2000;
/// Scale of the first step.
const FIRST: f64 = 65_536.0;
/// What the scale stays between. `GradScaler` has no bounds; below 1 a scale would only hide that the
/// run cannot be trained in f16.
const BOUNDS: (f64, f64) = (1.0, 16_777_216.0);

impl LossScale {
    /// The scale of a run's first step: 1 for ever unless it computes in f16.
    pub fn first(precision: Precision) -> LossScale {
        let factor = if precision == Precision::F16 { FIRST } else { 1.0 };
        LossScale { factor, good_steps: 0 }
    }

    /// Whether a step under it cannot be helped by a smaller one.
    pub fn is_at_its_floor(self) -> bool {
        self.factor <= BOUNDS.0
    }

    /// The scale after a step.
    pub fn after(self, precision: Precision, step: &PreStep) -> LossScale {
        let LossScale { factor, good_steps } = self;
        if precision != Precision::F16 {
            return self;
        }
        if !step.is_finite() {
            return LossScale { factor: (factor / 2.0).max(BOUNDS.0), good_steps: 0 };
        }
        if good_steps + 1 < GROWTH_STEPS {
            return LossScale { factor, good_steps: good_steps + 1 };
        }
        LossScale { factor: (factor * 2.0).min(BOUNDS.1), good_steps: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(gradient_norm: f64) -> PreStep {
        PreStep { loss: 2.0, gradient_norm, nonfinite_count: 0, losses: Vec::new() }
    }

    fn after(scale: LossScale, steps: u32, gradient_norm: f64) -> LossScale {
        (0..steps).fold(scale, |scale, _| scale.after(Precision::F16, &step(gradient_norm)))
    }

    #[test]
    fn overflow_halves_the_scale_and_two_thousand_good_steps_double_it() {
        let first = LossScale::first(Precision::F16);
        let halved = after(first, 1, f64::INFINITY);
        assert_eq!(halved, LossScale { factor: 32_768.0, good_steps: 0 });
        let nearly = after(halved, 1999, 1.0);
        assert_eq!(nearly, LossScale { factor: 32_768.0, good_steps: 1999 });
        assert_eq!(after(nearly, 1, 1.0), LossScale { factor: 65_536.0, good_steps: 0 });
        // One overflow on the way and the count begins again.
        assert_eq!(after(after(nearly, 1, f64::NAN), 1, 1.0).good_steps, 1);
    }

    #[test]
    fn scale_stays_within_its_bounds() {
        let first = LossScale::first(Precision::F16);
        assert_eq!(after(first, 100, f64::INFINITY).factor, 1.0);
        assert_eq!(after(first, 100 * GROWTH_STEPS, 1.0).factor, 16_777_216.0);
    }

    #[test]
    fn only_f16_is_scaled() {
        for precision in [Precision::F32, Precision::Bf16] {
            let first = LossScale::first(precision);
            assert_eq!(first.factor, 1.0);
            assert_eq!(first.after(precision, &step(f64::NAN)), first);
        }
    }
}
