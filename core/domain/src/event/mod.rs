//! What happened: immutable facts, in the past tense. Stored types and wire types are others.

mod between;
mod binding;
mod run;
mod step;
mod weights;

use serde::{Deserialize, Serialize};

pub use self::between::*;
pub use self::binding::*;
pub use self::run::*;
pub use self::step::*;
pub use self::weights::*;
use crate::plugin::Output;
use crate::step::Verdict;

/// A fact of a run, or of the system stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
pub enum Event {
    /// The first event of a run.
    RunStarted(RunStarted),
    /// One step: everything it was and caused.
    StepRecorded(Box<StepRecorded>),
    /// Held-out losses.
    ValidationRecorded(ValidationRecorded),
    /// A mixture set by hand. A policy's mixtures stand in the receipts of steps.
    MixtureSet(MixtureSet),
    /// The schedule's peak set by hand. The learning rate itself stands in each step.
    LearningRateSet(LearningRateSet),
    /// The batch size set by hand. What was drawn stands in each step.
    BatchSizeSet(BatchSizeSet),
    /// A plugin was bound, promoted or released.
    BindingChanged(Box<BindingChanged>),
    /// N faults in a row: the binding is no longer called.
    BindingQuarantined(BindingQuarantined),
    /// A plugin's state was kept, under its digest.
    PluginStateSaved(PluginStateSaved),
    /// The weights are copied, to be saved as a checkpoint.
    CheckpointBegun(CheckpointBegun),
    /// A checkpoint is on disk.
    CheckpointSaved(CheckpointSaved),
    /// A checkpoint could not be saved.
    CheckpointFailed(CheckpointFailed),
    /// A wish from outside was obeyed or refused.
    CommandAnswered(CommandAnswered),
    /// The run waits at a step boundary.
    RunPaused(RunPaused),
    /// It goes on.
    RunContinued(RunContinued),
    /// The run went back to a checkpoint: a new attempt begins.
    RolledBack(Box<RolledBack>),
    /// A worker took the run up again.
    RunResumed(RunResumed),
    /// The worker ended before the run did, and says why.
    RunInterrupted(RunInterrupted),
    /// The run ended.
    RunFinished(RunFinished),
    /// System stream: a plugin was installed.
    PluginInstalled(PluginInstalled),
    /// The weights after a step, because a plugin asked. The step's own event comes next.
    WeightsMeasured(WeightsMeasured),
    /// The mixture in force would have read a domain more often than it may be: its share goes to
    /// others.
    MixtureLimited(MixtureLimited),
}

impl Event {
    /// Number of the kind in stored events. Never reused.
    pub fn kind(&self) -> u16 {
        match self {
            Event::RunStarted(_) => 1,
            Event::StepRecorded(_) => 2,
            Event::ValidationRecorded(_) => 3,
            Event::MixtureSet(_) => 4,
            Event::BindingChanged(_) => 5,
            Event::BindingQuarantined(_) => 6,
            Event::PluginStateSaved(_) => 7,
            Event::CheckpointSaved(_) => 8,
            Event::CheckpointFailed(_) => 9,
            Event::CommandAnswered(_) => 10,
            Event::RunPaused(_) => 11,
            Event::RunContinued(_) => 12,
            Event::RunResumed(_) => 13,
            Event::RunInterrupted(_) => 14,
            Event::RunFinished(_) => 15,
            Event::PluginInstalled(_) => 16,
            Event::LearningRateSet(_) => 17,
            Event::BatchSizeSet(_) => 18,
            Event::WeightsMeasured(_) => 19,
            Event::MixtureLimited(_) => 20,
            Event::RolledBack(_) => 21,
            Event::CheckpointBegun(_) => 22,
        }
    }

    /// The step it belongs to, if any.
    pub fn step(&self) -> Option<u64> {
        match self {
            Event::RunStarted(_) | Event::PluginInstalled(_) => None,
            Event::StepRecorded(event) => Some(event.step),
            Event::ValidationRecorded(event) => Some(event.step),
            Event::MixtureSet(event) => Some(event.step),
            Event::LearningRateSet(event) => Some(event.step),
            Event::BatchSizeSet(event) => Some(event.step),
            Event::BindingChanged(event) => Some(event.step),
            Event::BindingQuarantined(event) => Some(event.step),
            Event::PluginStateSaved(event) => Some(event.step),
            Event::CheckpointSaved(event) => Some(event.step),
            Event::CheckpointFailed(event) => Some(event.step),
            Event::CommandAnswered(event) => Some(event.step),
            Event::RunPaused(event) => Some(event.step),
            Event::RunContinued(event) => Some(event.step),
            Event::RunResumed(event) => Some(event.step),
            Event::RunInterrupted(event) => Some(event.step),
            Event::RunFinished(event) => Some(event.step),
            Event::WeightsMeasured(event) => Some(event.step),
            Event::MixtureLimited(event) => Some(event.step),
            Event::RolledBack(event) => Some(event.step),
            Event::CheckpointBegun(event) => Some(event.step),
        }
    }

    /// Whether it must be on disk before the run goes on (design section 5). All but ordinary steps:
    /// what a crash may lose is only what is re-created bit for bit.
    pub fn durable_first(&self) -> bool {
        match self {
            Event::StepRecorded(event) => {
                event.verdict != Verdict::Proceed || event.receipts.iter().any(|receipt| {
                    !receipt.outcome.provable(true)
                        || matches!(&receipt.output, Output::Findings(found) if !found.is_empty())
                })
            }
            Event::ValidationRecorded(_)
            | Event::PluginStateSaved(_)
            | Event::WeightsMeasured(_)
            | Event::CheckpointBegun(_)
            | Event::MixtureLimited(_) => false,
            _ => true,
        }
    }
}

/// An event with its place in the stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    /// Position in the stream.
    pub seq: u64,
    /// Attempt it belongs to.
    pub attempt: u32,
    /// Microseconds since the Unix epoch.
    pub recorded_at: i64,
    /// What happened.
    pub event: Event,
}
