//! Which steps are outliers, what is learned of the others, and when a level counts as new.

use serde::{Deserialize, Serialize};

use crate::level::{Drawn, Levels};

/// Accepted steps remembered (OLMo-core's `SkipStep`, Levanter's `skip_bad_steps`).
const WINDOW: usize = 128;
/// Gradient norms before one is an outlier (the same). A loss is held against its domains once they have
/// half as many draws, and judged after as many steps again.
const ARMED_AFTER: usize = 64;
/// Draws of a domain in a row that may be skipped. What goes on longer is no spike but how the run is now:
/// the last rung of the ladder of School-of-AI/LLM#558, where ours learns the level anew. Without it a
/// lasting change would be skipped for ever, the mistake of FlagScale's `auto_skip_spiky_loss`.
pub const SKIPS_MAX: u32 = 10;
/// Sequences by which a domain's part of a step may differ from its share: quotas carry less than one over
/// from step to step.
const ROUNDING_SEQUENCES: f64 = 2.0;
/// Change of a share, or part of a loss weight, that makes a mixture another one.
const JUMP: f64 = 0.1;

/// What of a step is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Measure {
    Loss,
    GradientNorm,
}

impl Measure {
    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Measure::Loss => "loss",
            Measure::GradientNorm => "gradient-norm",
        }
    }
}

/// Why a step is an outlier.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    pub step: u64,
    /// What lies too high.
    pub what: Measure,
    /// What was measured, what was due, and what would have been too high.
    pub score: f64,
    pub due: f64,
    pub threshold: f64,
    /// The domain that makes most of it.
    pub domain: Option<usize>,
}

/// A step before the optimizer.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    pub step: u64,
    /// One per domain.
    pub drawn: Vec<Drawn>,
    /// With loss weights: it tells whether they changed.
    pub weighted_loss: f64,
    pub gradient_norm: f64,
}

/// What the last step was drawn and weighted by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Setting {
    pub shares: Vec<f64>,
    pub loss_weights: Vec<f64>,
}

/// Mean and deviation of the last accepted steps.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Window(Vec<f64>);

impl Window {
    /// The mean and the deviation, once there are enough.
    fn spread(&self, armed_after: usize) -> Option<(f64, f64)> {
        let count = self.0.len() as f64;
        let mean = self.0.iter().sum::<f64>() / count;
        let square = self.0.iter().map(|value| (value - mean) * (value - mean)).sum::<f64>();
        (self.0.len() >= armed_after).then_some((mean, (square / count).sqrt()))
    }

    fn push(&mut self, value: f64) {
        if self.0.len() == WINDOW {
            self.0.remove(0);
        }
        self.0.push(value);
    }
}

/// What is kept between calls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    sigmas: f64,
    sequence_tokens: f64,
    /// The last judgement, until `watch` has told it.
    pub last: Option<Judgement>,
    /// Domains whose level is learned anew, until `watch` has told it.
    pub forgotten: Vec<usize>,
    levels: Levels,
    /// Excesses of accepted steps in standard errors, oldest first.
    excesses: Window,
    /// Gradient norms of accepted steps under the present setting, oldest first.
    norms: Window,
    setting: Option<Setting>,
}

impl Memory {
    /// Empty. A step of one sequence has so many tokens.
    pub fn new(sigmas: f64, domains: usize, sequence_tokens: f64) -> Memory {
        Memory {
            sigmas,
            sequence_tokens,
            last: None,
            forgotten: Vec::new(),
            levels: Levels::new(domains),
            excesses: Window::default(),
            norms: Window::default(),
            setting: None,
        }
    }

    /// Judges a step and, if it is no outlier, learns it. What is not a number is neither.
    pub fn judge(&mut self, seen: &Step) -> Option<Judgement> {
        let sums = seen.drawn.iter().all(|part| part.loss_sum.is_finite());
        if !sums || !seen.weighted_loss.is_finite() || !seen.gradient_norm.is_finite() {
            return None;
        }
        // Norms move with the mixture and the weights, by nobody knows how much: they are learned anew.
        if self.setting.as_ref().is_some_and(|setting| !self.holds(setting, seen)) {
            self.norms = Window::default();
        }
        let excess = self.levels.excess(&seen.drawn);
        let standard = excess.as_ref().map(|excess| (excess.loss - excess.due) / excess.error);
        let loss =
            excess.zip(self.excesses.spread(ARMED_AFTER / 2)).map(|(excess, (mean, deviation))| {
                let threshold = excess.due + (mean + self.sigmas * deviation) * excess.error;
                let (score, due) = (excess.loss, excess.due);
                Judgement {
                    step: seen.step,
                    what: Measure::Loss,
                    score,
                    due,
                    threshold,
                    domain: excess.top,
                }
            });
        let norm = self.norms.spread(ARMED_AFTER).map(|(due, deviation)| {
            let threshold = due + self.sigmas * deviation;
            let (score, what) = (seen.gradient_norm, Measure::GradientNorm);
            Judgement { step: seen.step, what, score, due, threshold, domain: None }
        });
        let outlier = loss.into_iter().chain(norm).find(|judged| judged.score > judged.threshold);
        if outlier.is_some() {
            self.last = outlier.clone();
            self.skip(seen);
        } else {
            self.levels.learn(&seen.drawn);
            self.norms.push(seen.gradient_norm);
            standard.into_iter().for_each(|standard| self.excesses.push(standard));
        }
        outlier
    }

    fn skip(&mut self, seen: &Step) {
        let forgotten = self.levels.skip(&seen.drawn, SKIPS_MAX);
        if !forgotten.is_empty() {
            self.norms = Window::default();
            self.forgotten = forgotten;
        }
    }

    /// Whether a step was drawn and weighted as the last one was told to be.
    fn holds(&self, setting: &Setting, seen: &Step) -> bool {
        let tokens: f64 = seen.drawn.iter().map(|part| part.tokens as f64).sum();
        let drawn = seen.drawn.iter().zip(&setting.shares).all(|(part, share)| {
            let off = part.tokens as f64 - share * tokens;
            off.abs() <= ROUNDING_SEQUENCES * self.sequence_tokens
        });
        let weighted = seen.drawn.iter().zip(&setting.loss_weights);
        let weighted: f64 = weighted.map(|(part, weight)| weight * part.loss_sum).sum();
        let loss = weighted / tokens.max(1.0);
        drawn && (loss - seen.weighted_loss).abs() <= 1e-3 * seen.weighted_loss.abs()
    }

    /// Takes in what the step that was just trained was drawn and weighted by.
    pub fn told(&mut self, setting: Setting) {
        let jumped = self.setting.as_ref().is_some_and(|before| {
            let mut shares = before.shares.iter().zip(&setting.shares);
            let mut weights = before.loss_weights.iter().zip(&setting.loss_weights);
            shares.any(|(before, now)| (before - now).abs() > JUMP)
                || weights.any(|(before, now)| (before - now).abs() > JUMP * before.abs())
        });
        if jumped {
            self.norms = Window::default();
        }
        self.setting = Some(setting);
    }
}

#[cfg(test)]
mod tests;
