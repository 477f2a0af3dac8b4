//! Learning rate by step: linear warm-up, then a decay. A pure function of the spec and of how far the
//! run is, in steps, sequences or tokens.

use serde::{Deserialize, Serialize};

use crate::curve::Curve;
use crate::settings::{Faults, number};

/// Linear warm-up to the peak, then down to the minimum at the end of the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Schedule {
    /// Highest learning rate.
    pub peak: f64,
    /// Learning rate at the end of the run. A constant schedule never comes to it.
    pub minimum: f64,
    /// Linear warm-up. Its unit is what the whole schedule counts by.
    pub warmup: Warmup,
    /// What follows it.
    pub shape: Shape,
}

/// Length of the warm-up. Aquila2's scripts give it in sequences, which they call samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Warmup {
    /// In steps, whatever a step draws.
    Steps(u64),
    /// In sequences drawn.
    Sequences(u64),
    /// In target tokens drawn.
    Tokens(u64),
}

impl Warmup {
    /// Its number, in its own unit.
    pub fn length(self) -> u64 {
        match self {
            Warmup::Steps(length) | Warmup::Sequences(length) | Warmup::Tokens(length) => length,
        }
    }

    /// What it counts.
    pub fn unit(self) -> &'static str {
        match self {
            Warmup::Steps(_) => "steps",
            Warmup::Sequences(_) => "sequences",
            Warmup::Tokens(_) => "tokens",
        }
    }

    /// Its key in a run file.
    pub fn key(self) -> &'static str {
        match self {
            Warmup::Steps(_) => "training.warmup_steps",
            Warmup::Sequences(_) => "training.warmup_sequences",
            Warmup::Tokens(_) => "training.warmup_tokens",
        }
    }
}

/// How the learning rate goes on after the warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Shape {
    /// Down half a cosine.
    #[default]
    Cosine,
    /// Down a straight line.
    Linear,
    /// At the peak for ever.
    Constant,
    /// At the peak, then down in the last part of the run (Hu and others, `MiniCPM`, 2404.06395,
    /// section 4: a decay over a tenth of the tokens is enough).
    WarmupStableDecay {
        /// Length of the decay as a share of the whole run, above 0 and at most 1.
        decay_share: f64,
        /// The way down.
        decay: Curve,
    },
}

/// A step's place in its run, in the unit that the schedule counts by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepSpan {
    /// What the run had drawn before the step.
    pub before: u64,
    /// The same with the step.
    pub after: u64,
    /// What the whole run draws.
    pub end: u64,
}

impl StepSpan {
    /// Of `step` (from 0) in a run of `steps`, counted in steps.
    pub fn of_step(step: u64, steps: u64) -> StepSpan {
        StepSpan { before: step, after: step.saturating_add(1), end: steps }
    }
}

impl Schedule {
    /// Learning rate of the step at `span`.
    ///
    /// In the warm-up it is the peak times the share of the warm-up that is over with the step, so the
    /// first step already moves and no step of the warm-up is above the peak.
    pub fn learning_rate(&self, span: StepSpan) -> f64 {
        let warmup = self.warmup.length();
        if span.before < warmup {
            return self.peak * span.after.min(warmup) as f64 / warmup as f64;
        }
        let (start, curve) = match self.shape {
            Shape::Constant => return self.peak,
            Shape::Cosine => (warmup, Curve::Cosine),
            Shape::Linear => (warmup, Curve::Linear),
            Shape::WarmupStableDecay { decay_share, decay } => {
                (span.end.saturating_sub(decay_length(decay_share, span.end)).max(warmup), decay)
            }
        };
        if span.before < start {
            return self.peak;
        }
        let length = span.end.saturating_sub(start).max(1);
        let done = (span.before - start).min(length) as f64 / length as f64;
        curve.rate(self.peak, self.minimum, done)
    }

    /// The same schedule with every rate scaled so that its peak is `peak`: the minimum keeps its ratio.
    pub fn scaled_to(&self, peak: f64) -> Schedule {
        Schedule { peak, minimum: self.minimum * (peak / self.peak), ..self.clone() }
    }

    /// Refuses what does not fit together, under the run file's keys. `end` is what the whole run draws,
    /// in the warm-up's unit; none where that is not known yet.
    pub fn check(&self, end: Option<u64>, faults: &mut Faults) {
        let peak = self.peak;
        if let Some(must) = no_rate(peak) {
            faults.add("training.learning_rate", peak, must);
        } else if !(self.minimum >= 0.0 && self.minimum <= peak) {
            let must = format!("must be from 0 to training.learning_rate {}", number(peak));
            faults.add("training.learning_rate_minimum", self.minimum, must);
        }
        let decays = match self.shape {
            Shape::WarmupStableDecay { decay_share, decay } => {
                self.check_decay(decay_share, decay, faults).then_some(decay_share)
            }
            _ => None,
        };
        let Some(end) = end else { return };
        let (warmup, unit) = (self.warmup.length(), self.warmup.unit());
        if warmup > end {
            let must = format!("must be at most the run's {end} {unit}");
            faults.add(self.warmup.key(), warmup, must);
        } else if let Some(share) = decays {
            let rest = end - decay_length(share, end);
            let must = format!(
                "must be at most the {rest} {unit} before the decay, which takes \
                 training.schedule.decay_share {share} of {end}"
            );
            faults.require(warmup <= rest, self.warmup.key(), warmup, must);
        }
    }

    /// Whether its length is usable.
    fn check_decay(&self, decay_share: f64, decay: Curve, faults: &mut Faults) -> bool {
        if decay == Curve::Exponential && self.minimum == 0.0 {
            let must = "must be above 0 for an exponential decay; or choose another \
                        training.schedule.decay";
            faults.add("training.learning_rate_minimum", self.minimum, must);
        }
        let usable = decay_share > 0.0 && decay_share <= 1.0;
        let must = "must be above 0 and at most 1";
        faults.require(usable, "training.schedule.decay_share", decay_share, must);
        usable
    }
}

/// An update of `AdamW` moves a weight by about the rate. Weights are f32 of a few hundredths, and a
/// move by less than this is lost as they are rounded.
const LEARNING_RATE_MIN: f64 = 1e-8;

/// What a peak must be instead, in a run file or set by hand, if nothing can be learned at it.
pub(crate) fn no_rate(peak: f64) -> Option<String> {
    let holds = peak >= LEARNING_RATE_MIN && (peak as f32).is_finite();
    (!holds).then(|| {
        format!(
            "must be at least {}, or single precision loses every update, and finite there",
            number(LEARNING_RATE_MIN)
        )
    })
}

/// Rounded down, and never longer than the run.
fn decay_length(share: f64, end: u64) -> u64 {
    ((share * end as f64) as u64).min(end)
}

/// A schedule as JSON. What is not there means what it meant before there was a choice.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    peak: f64,
    minimum: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    warmup_steps: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    warmup_sequences: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    warmup_tokens: Option<u64>,
    #[serde(default, skip_serializing_if = "is_cosine")]
    shape: Shape,
}

fn is_cosine(shape: &Shape) -> bool {
    *shape == Shape::Cosine
}

impl TryFrom<Written> for Schedule {
    type Error = String;

    fn try_from(written: Written) -> Result<Schedule, String> {
        let Written { peak, minimum, warmup_steps, warmup_sequences, warmup_tokens, shape } =
            written;
        let warmup = match (warmup_steps, warmup_sequences, warmup_tokens) {
            (Some(length), None, None) => Warmup::Steps(length),
            (None, Some(length), None) => Warmup::Sequences(length),
            (None, None, Some(length)) => Warmup::Tokens(length),
            _ => {
                let one = "a schedule has one of warmup_steps, warmup_sequences and warmup_tokens";
                return Err(one.to_owned());
            }
        };
        Ok(Schedule { peak, minimum, warmup, shape })
    }
}

impl From<Schedule> for Written {
    fn from(schedule: Schedule) -> Written {
        let Schedule { peak, minimum, warmup, shape } = schedule;
        let (mut steps, mut sequences, mut tokens) = (None, None, None);
        match warmup {
            Warmup::Steps(length) => steps = Some(length),
            Warmup::Sequences(length) => sequences = Some(length),
            Warmup::Tokens(length) => tokens = Some(length),
        }
        Written {
            peak,
            minimum,
            warmup_steps: steps,
            warmup_sequences: sequences,
            warmup_tokens: tokens,
            shape,
        }
    }
}

#[cfg(test)]
mod tests;
