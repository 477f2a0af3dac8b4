//! What the next step is drawn and trained under: a pure function of the spec, of what was drawn so far
//! and of what commands have set. Live training, catch-up and audit all ask here.

use serde::{Deserialize, Serialize};

use crate::command::Command;
use crate::event::{BatchSizeSet, Event, LearningRateSet, MixtureSet};
use crate::limits;
use crate::ramp;
use crate::rules::{self, Ruled, Situation};
use crate::schedule::{self, StepSpan, Warmup};
use crate::settings::number;
use crate::spec::RunSpec;
use crate::state::RunState;
use crate::step::Knobs;

/// How far above the run file's learning rate a command may put the peak. Ten times is a wish; more is
/// a slip of the pen, such as a factor where a rate is meant.
pub const PEAK_FACTOR_MAX: f64 = 10.0;

/// What commands have set in place of the spec's own values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Overrides {
    /// Peak that the schedule is scaled to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learning_rate_peak: Option<f64>,
    /// Sequences of every step; a ramp is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequences_per_step: Option<u32>,
}

impl Overrides {
    /// Whether the spec alone decides.
    pub fn is_empty(&self) -> bool {
        *self == Overrides::default()
    }
}

impl RunState {
    /// What the log says the next step is trained under.
    pub fn knobs(&self) -> Knobs {
        Knobs {
            learning_rate: self.learning_rate(),
            clip_norm: self.spec.optimizer.clip_norm,
            loss_weights: self.loss_weights.clone(),
            loss_scale: self.loss_scale.factor,
        }
    }

    /// Sequences that the next step draws: what a command has set, else the full batch or its ramp.
    pub fn next_sequences(&self) -> u32 {
        let planned = || self.spec.training.sequences_at(self.sequences);
        self.overrides.sequences_per_step.unwrap_or_else(planned)
    }

    /// Learning rate of the next step: the schedule, scaled to the peak that a command has set.
    ///
    /// A schedule that counts sequences or tokens ends where the spec plans the run to end. A batch size
    /// set by hand brings that end nearer or leaves it out of reach; it never makes the rate jump.
    pub fn learning_rate(&self) -> f64 {
        let schedule = &self.spec.schedule;
        let span = self.next_span();
        match self.overrides.learning_rate_peak {
            Some(peak) => schedule.scaled_to(peak).learning_rate(span),
            None => schedule.learning_rate(span),
        }
    }

    fn next_span(&self) -> StepSpan {
        let next = self.sequences.saturating_add(u64::from(self.next_sequences()));
        match self.spec.schedule.warmup {
            Warmup::Steps(_) => StepSpan::of_step(self.next_step, self.spec.training.steps),
            Warmup::Sequences(_) => {
                StepSpan { before: self.sequences, after: next, end: self.spec.schedule_end() }
            }
            Warmup::Tokens(_) => {
                let tokens = |sequences| self.spec.tokens_of(sequences);
                let end = self.spec.schedule_end();
                StepSpan { before: tokens(self.sequences), after: tokens(next), end }
            }
        }
    }

    /// Target tokens that steps from `step` on will draw, `sequences` being drawn before it: as planned,
    /// or at the batch size that a command has set.
    pub(crate) fn tokens_left(&self, step: u64, sequences: u64) -> u64 {
        let steps = self.spec.training.steps.saturating_sub(step);
        let left = match self.overrides.sequences_per_step {
            Some(batch) => steps.saturating_mul(u64::from(batch)),
            None => self.spec.training.sequences_after(sequences, steps) - sequences,
        };
        self.spec.tokens_of(left)
    }

    /// Target tokens that the steps from the next on would draw at so many sequences each.
    pub(crate) fn tokens_left_at(&self, sequences: u32) -> u64 {
        let steps = self.spec.training.steps.saturating_sub(self.next_step);
        self.spec.tokens_of(steps.saturating_mul(u64::from(sequences)))
    }
}

impl RunSpec {
    /// Target tokens of so many sequences.
    pub fn tokens_of(&self, sequences: u64) -> u64 {
        sequences.saturating_mul(u64::from(self.model.sequence_length))
    }

    /// Where the schedule ends, in the unit that it counts by.
    pub fn schedule_end(&self) -> u64 {
        match self.schedule.warmup {
            Warmup::Steps(_) => self.training.steps,
            Warmup::Sequences(_) => self.training.sequences_of_run(),
            Warmup::Tokens(_) => self.tokens_of(self.training.sequences_of_run()),
        }
    }

    /// Steps that begin within the warm-up, as the spec plans them.
    pub fn warmup_steps(&self) -> u64 {
        match self.schedule.warmup {
            Warmup::Steps(steps) => steps,
            Warmup::Sequences(sequences) => self.training.steps_until(sequences),
            Warmup::Tokens(tokens) => {
                let length = u64::from(self.model.sequence_length.max(1));
                self.training.steps_until(tokens.div_ceil(length))
            }
        }
    }
}

/// The event by which a wish turns a knob at the next step boundary, or why it does not. None for a wish
/// of another kind. Answering and auditing both come here.
pub(crate) fn turned(
    state: &RunState,
    command: &Command,
    by: &str,
) -> Option<Result<Event, String>> {
    let (step, by) = (state.next_step, by.to_owned());
    let event = match command {
        Command::SetLearningRate { peak, reason } => {
            let (peak, reason) = (*peak, reason.clone());
            Ok(Event::LearningRateSet(LearningRateSet { step, peak, reason, by }))
        }
        Command::SetBatchSize { sequences, reason } => {
            let (sequences, reason) = (*sequences, reason.clone());
            limits::check_batch(state, sequences)
                .map(|()| Event::BatchSizeSet(BatchSizeSet { step, sequences, reason, by }))
        }
        Command::SetMixture { shares, reason } => mixture_set(state, shares, (by, reason)),
        _ => return None,
    };
    Some(command.check(&state.spec).and(event))
}

/// What an operator sets by hand skips the rate limit, not the caps.
fn mixture_set(
    state: &RunState,
    shares: &[f64],
    (by, reason): (String, &str),
) -> Result<Event, String> {
    let Ruled { mixture, rules } = rules::rule(shares, Situation::of_next_step(state))
        .map_err(|refused| refused.to_string())?;
    let (step, reason) = (state.next_step, reason.to_owned());
    Ok(Event::MixtureSet(MixtureSet { step, mixture, rules, reason, by }))
}

/// Whether a command may set this peak; `spec` is the run's, where it is known.
///
/// # Errors
/// A sentence that says what is wrong with it.
pub fn check_peak(peak: f64, spec: Option<&RunSpec>) -> Result<(), String> {
    let told = number(peak);
    if let Some(must) = schedule::no_rate(peak) {
        return Err(format!("a learning rate of {told}: it {must}"));
    }
    let Some(RunSpec { schedule, optimizer, .. }) = spec else { return Ok(()) };
    if peak > schedule.peak * PEAK_FACTOR_MAX {
        return Err(format!(
            "a peak learning rate of {told} is more than {PEAK_FACTOR_MAX} times the run's own of {}: \
             start another run for that",
            number(schedule.peak)
        ));
    }
    let most = optimizer.learning_rate_max();
    if peak > most || optimizer.decays_all(peak) {
        return Err(format!(
            "a peak learning rate of {told} is too much with optimizer.weight_decay {} and \
             optimizer.beta1 {}: updates would leave single precision or take the weights away",
            optimizer.weight_decay, optimizer.beta1
        ));
    }
    Ok(())
}

/// Whether a command may set this batch size.
///
/// # Errors
/// A sentence that says what is wrong with it.
pub fn check_batch_size(sequences: u32) -> Result<(), String> {
    ramp::check_sequences(sequences)
        .map_err(|must| format!("a batch of {sequences} sequences: it {must}"))
}

#[cfg(test)]
mod tests;
