//! What passes between the mentor and a trainer in one step.

use serde::{Deserialize, Serialize};

use crate::settings::number;

/// Sums over one domain's target tokens in one forward pass. Sums, never means: they add up exactly
/// over micro-batches, steps and machines in a fixed order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LossSums {
    /// Sum of cross-entropies, in nats. Not multiplied by any loss weight.
    pub loss_sum: f64,
    /// Sum of squared per-sequence mean losses times the sequence's tokens (for the variance
    /// between sequences), in nats squared.
    pub loss_square_sum: f64,
    /// Target tokens.
    pub tokens: u64,
}

/// The value itself, in the one bit pattern that the log has for what is no number. What plugins are shown
/// live is what an audit reads from the log.
///
/// Never inlined: right behind an operation, which may give any NaN, the compiler leaves this out.
#[inline(never)]
pub fn canonical(value: f64) -> f64 {
    if value.is_nan() { f64::from_bits(0x7ff8_0000_0000_0000) } else { value }
}

/// Loss of a whole step in nats per token: each domain's sum times its weight, over all tokens.
pub fn weighted_loss(losses: &[LossSums], weights: &[f64], tokens: f64) -> f64 {
    let weighted: f64 =
        losses.iter().zip(weights).map(|(sums, weight)| sums.loss_sum * weight).sum();
    canonical(weighted / tokens)
}

impl LossSums {
    /// Mean loss in nats per token, or `None` without tokens.
    pub fn mean(&self) -> Option<f64> {
        (self.tokens > 0).then(|| self.loss_sum / self.tokens as f64)
    }

    /// The same, in the bits that the log has for what is no number.
    #[must_use]
    pub fn canonical(self) -> LossSums {
        let (loss_sum, square_sum) = (canonical(self.loss_sum), canonical(self.loss_square_sum));
        LossSums { loss_sum, loss_square_sum: square_sum, ..self }
    }

    /// Adds another part of the same domain.
    pub fn add(&mut self, other: &LossSums) {
        self.loss_sum += other.loss_sum;
        self.loss_square_sum += other.loss_square_sum;
        self.tokens += other.tokens;
    }
}

/// What the run loop sets for one step; only what the log says reaches it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Knobs {
    /// Optimizer learning rate.
    pub learning_rate: f64,
    /// Global gradient norm above which gradients are scaled down to it.
    pub clip_norm: f64,
    /// Multiplies each domain's loss sum; the normaliser stays the token count. One per domain.
    pub loss_weights: Vec<f64>,
    /// What the objective is multiplied by and its gradients divided by: 1 unless a step computes in f16.
    pub loss_scale: f64,
}

/// What a gate sees: after the last micro-batch, before clipping and the optimizer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PreStep {
    /// Loss of the whole step, weighted, in nats per token.
    pub loss: f64,
    /// Global norm of the gradients, before clipping.
    pub gradient_norm: f64,
    /// NaN or infinite elements in loss and gradients.
    pub nonfinite_count: u64,
    /// One per domain.
    pub losses: Vec<LossSums>,
}

impl PreStep {
    /// Whether loss and gradients are numbers that an optimizer can use.
    pub fn is_finite(&self) -> bool {
        self.nonfinite_count == 0 && self.loss.is_finite() && self.gradient_norm.is_finite()
    }

    /// Equality by bits: what is not a number agrees with itself.
    pub fn has_bits_of(&self, other: &PreStep) -> bool {
        let bits = |seen: &PreStep| -> Vec<u64> {
            let whole = [seen.loss.to_bits(), seen.gradient_norm.to_bits(), seen.nonfinite_count];
            let domain = |sums: &LossSums| {
                [sums.loss_sum.to_bits(), sums.loss_square_sum.to_bits(), sums.tokens]
            };
            whole.into_iter().chain(seen.losses.iter().flat_map(domain)).collect()
        };
        bits(self) == bits(other)
    }
}

/// What a gate asks for. Combined over bindings as halt, then skip, then the smallest clip.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "norm")]
pub enum Verdict {
    /// Update the weights.
    Proceed,
    /// Update them, with gradients clipped to this global norm if it is below the run's own.
    ClipTo(f64),
    /// Advance step, cursors, tokens and schedule, but not weights, moments or the update count.
    Skip,
    /// Leave the weights as they are and end the run.
    Halt,
}

impl Verdict {
    /// The stronger of two verdicts; of two clips the smaller.
    pub fn and(self, other: Verdict) -> Verdict {
        use Verdict::*;
        match (self, other) {
            (Halt, _) | (_, Halt) => Halt,
            (Skip, _) | (_, Skip) => Skip,
            (ClipTo(a), ClipTo(b)) => ClipTo(a.min(b)),
            (ClipTo(a), Proceed) | (Proceed, ClipTo(a)) => ClipTo(a),
            (Proceed, Proceed) => Proceed,
        }
    }

    /// Why the host does not obey it, if it does not: a clip is to a finite norm above 0.
    pub fn refusal(self) -> Option<String> {
        match self {
            Verdict::ClipTo(norm) if !norm.is_finite() || norm <= 0.0 => {
                Some(format!("a step cannot be clipped to a norm of {}", number(norm)))
            }
            _ => None,
        }
    }
}

/// What a trainer did in one step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainReport {
    /// What the gate was shown.
    pub pre_step: PreStep,
    /// What was done: the gate's answer, except that a step whose loss or gradients are not finite is
    /// skipped under any answer but halt. That is the host's own rule, on the pre-step alone, so a
    /// step trained again under its logged verdict comes to the same.
    pub verdict: Verdict,
    /// The global norm limit in force: the smaller of the run's and the verdict's.
    pub effective_clip: f64,
    /// Wall-clock time of the step in microseconds. A measurement: it never bends training.
    pub step_us: u64,
}

#[cfg(test)]
mod tests {
    use super::Verdict::*;
    use super::{LossSums, PreStep};

    #[test]
    fn step_that_is_not_a_number_agrees_with_itself_and_with_no_other() {
        let sums = LossSums { loss_sum: f64::NAN, loss_square_sum: 1.0, tokens: 4 };
        let seen =
            PreStep { loss: f64::NAN, gradient_norm: 1.0, nonfinite_count: 1, losses: vec![sums] };
        assert!(seen.has_bits_of(&seen.clone()) && !seen.is_finite());
        let other = PreStep { gradient_norm: 1.5, ..seen.clone() };
        assert!(!seen.has_bits_of(&other));
    }

    #[test]
    fn clip_to_nonsense_is_refused() {
        assert_eq!(ClipTo(0.5).refusal(), None);
        for norm in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(ClipTo(norm).refusal().unwrap().contains("clipped"));
        }
    }

    #[test]
    fn verdicts_combine_by_strength_then_smallest_clip() {
        assert_eq!(ClipTo(2.0).and(ClipTo(0.5)), ClipTo(0.5));
        assert_eq!(ClipTo(0.1).and(Skip), Skip);
        assert_eq!(Skip.and(Halt), Halt);
        assert_eq!(Proceed.and(ClipTo(1.0)), ClipTo(1.0));
    }
}
