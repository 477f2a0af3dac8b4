//! What passes between the mentor and a trainer in one step.

use serde::{Deserialize, Serialize};

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

impl LossSums {
    /// Mean loss in nats per token, or `None` without tokens.
    pub fn mean(&self) -> Option<f64> {
        (self.tokens > 0).then(|| self.loss_sum / self.tokens as f64)
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
}

/// What a trainer did in one step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainReport {
    /// What the gate was shown.
    pub pre_step: PreStep,
    /// What the gate answered and the trainer obeyed.
    pub verdict: Verdict,
    /// The global norm limit in force: the smaller of the run's and the verdict's.
    pub effective_clip: f64,
    /// Wall-clock time of the step in microseconds. A measurement: it never bends training.
    pub step_us: u64,
}

#[cfg(test)]
mod tests {
    use super::Verdict::*;

    #[test]
    fn verdicts_combine_by_strength_then_smallest_clip() {
        assert_eq!(ClipTo(2.0).and(ClipTo(0.5)), ClipTo(0.5));
        assert_eq!(ClipTo(0.1).and(Skip), Skip);
        assert_eq!(Skip.and(Halt), Halt);
        assert_eq!(Proceed.and(ClipTo(1.0)), ClipTo(1.0));
    }
}
