//! What happened: immutable facts, in the past tense. Stored types and wire types are others.

use serde::{Deserialize, Serialize};

use crate::batch::DomainDraw;
use crate::id::{BindingId, Digest};
use crate::mixture::Mixture;
use crate::plugin::{Description, Limits, Outcome, Output, World};
use crate::step::{LossSums, PreStep, Verdict};

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
    /// A plugin was bound, promoted or released.
    BindingChanged(Box<BindingChanged>),
    /// N faults in a row: the binding is no longer called.
    BindingQuarantined(BindingQuarantined),
    /// A plugin's state was kept, under its digest.
    PluginStateSaved(PluginStateSaved),
    /// A checkpoint is on disk.
    CheckpointSaved(CheckpointSaved),
    /// A checkpoint could not be saved; the run went on.
    CheckpointFailed(CheckpointFailed),
    /// A wish from outside was obeyed or refused.
    CommandAnswered(CommandAnswered),
    /// The run waits at a step boundary.
    RunPaused(RunPaused),
    /// It goes on.
    RunContinued(RunContinued),
    /// A worker took the run up again.
    RunResumed(RunResumed),
    /// The worker ended before the run did, in good order.
    RunInterrupted(RunInterrupted),
    /// The run ended.
    RunFinished(RunFinished),
    /// System stream: a plugin was installed.
    PluginInstalled(PluginInstalled),
}

/// See [`Event::RunStarted`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunStarted {
    /// The resolved spec, as JSON text.
    pub spec: String,
    /// Mixture of the first step.
    pub prior: Mixture,
    /// What executes it.
    pub environment: Environment,
    /// Where a fork came from.
    pub parent: Option<Parent>,
}

/// What may change bits: equality is promised only where this is equal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    /// Digest of the executable.
    pub build: Digest,
    /// Training device.
    pub device: String,
    /// Processor model.
    pub processor: String,
    /// Widest vector instructions in use.
    pub instruction_set: String,
    /// C library and version.
    pub c_library: String,
    /// Threads of the trainer.
    pub threads: u32,
    /// Host name.
    pub host: String,
    /// Process id.
    pub process: u32,
}

/// The run and checkpoint that a fork started from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Parent {
    /// Run id.
    pub run: crate::id::RunId,
    /// Event of its checkpoint.
    pub seq: u64,
    /// That event's hash.
    pub hash: Digest,
    /// The checkpoint.
    pub checkpoint: Digest,
}

/// See [`Event::StepRecorded`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepRecorded {
    /// Step, from 0.
    pub step: u64,
    /// Target tokens so far, this step included.
    pub tokens: u64,
    /// Knob in force.
    pub learning_rate: f64,
    /// Mixture the batch was drawn under.
    pub mixture_version: u64,
    /// One per domain.
    pub draws: Vec<DomainDraw>,
    /// SHA-256 of the batch's domain and token ids.
    pub batch: Digest,
    /// What the gates were shown, with the sums per domain.
    pub pre_step: PreStep,
    /// What they answered together.
    pub verdict: Verdict,
    /// Global norm limit in force.
    pub effective_clip: f64,
    /// Wall-clock microseconds: the only field that a re-execution may differ in.
    pub step_us: u64,
    /// One per plugin call, in call order.
    pub receipts: Vec<Receipt>,
}

/// Which function of a plugin was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hook {
    /// A policy's `step`.
    Step,
    /// A detector's `gate`.
    Gate,
    /// A detector's `watch`.
    Watch,
}

/// One plugin call: enough to execute it again and to see what the host made of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Receipt {
    /// Whose call.
    pub binding: BindingId,
    /// Which function.
    pub hook: Hook,
    /// First event it saw.
    pub from_seq: u64,
    /// Last event it saw.
    pub to_seq: u64,
    /// Older observations that did not fit.
    pub dropped: u64,
    /// State going in.
    pub state_before: Digest,
    /// State coming out; equal to the former unless the outcome is `Ok`.
    pub state_after: Digest,
    /// How it ended.
    pub outcome: Outcome,
    /// Fuel used.
    pub fuel: u64,
    /// What it answered, unchanged.
    pub output: Output,
    /// What the host made of it, one per action; empty for a shadow's.
    pub effects: Vec<Effect>,
}

/// What the host made of one action or verdict.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Effect {
    /// A mixture was decided.
    Mixture {
        /// After the host's rules.
        mixture: Mixture,
        /// First step drawn under it.
        effective_step: u64,
        /// Rules that changed the proposal, in order.
        rules: Vec<String>,
    },
    /// Loss weights were set, from the next step.
    LossWeights {
        /// One per domain.
        weights: Vec<f64>,
    },
    /// A validation was asked for.
    Validate,
    /// Logged only.
    Noted,
    /// Not obeyed.
    Refused {
        /// Why.
        reason: String,
    },
}

/// See [`Event::ValidationRecorded`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ValidationRecorded {
    /// Steps trained before it.
    pub step: u64,
    /// One per domain; no tokens where a domain holds nothing out.
    pub losses: Vec<LossSums>,
}

/// See [`Event::MixtureSet`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MixtureSet {
    /// First step drawn under it.
    pub step: u64,
    /// After the caps.
    pub mixture: Mixture,
    /// Rules that changed the wish, in order.
    pub rules: Vec<String>,
    /// Who asked.
    pub by: String,
}

/// Whether a binding is obeyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Its decisions are applied.
    Active,
    /// It decides beside the active one and is only logged.
    Shadow,
}

/// What a fault of a binding costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailurePolicy {
    /// The last mixture stays.
    #[default]
    HoldLast,
    /// The prior mixture comes back.
    FallBack,
    /// The run stops.
    StopRun,
}

/// Why a binding changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BindingChange {
    /// It is new.
    Bound,
    /// A shadow became active, or an active one a shadow.
    RoleChanged,
    /// It is called no more.
    Released,
}

/// See [`Event::BindingChanged`]. What does not change from call to call stands here once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BindingChanged {
    /// Which binding.
    pub binding: BindingId,
    /// What happened to it.
    pub change: BindingChange,
    /// First step it is called for.
    pub step: u64,
    /// Role from now on.
    pub role: Role,
    /// SHA-256 of the component.
    pub plugin: Digest,
    /// World it implements.
    pub world: World,
    /// Interface version, as `0.1.0`.
    pub interface: String,
    /// What it says of itself.
    pub description: Description,
    /// Configuration as JSON text.
    pub config: String,
    /// SHA-256 of that text.
    pub config_digest: Digest,
    /// Engine and host interface: fuel compares only where it is equal.
    pub engine: Digest,
    /// Limits of each call.
    pub limits: Limits,
    /// What a fault costs.
    pub failure: FailurePolicy,
    /// Faults in a row before quarantine.
    pub quarantine_after: u32,
    /// State made by `init`.
    pub initial_state: Digest,
    /// Fuel of `init`.
    pub initial_fuel: u64,
    /// Who asked.
    pub by: String,
}

/// See [`Event::BindingQuarantined`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BindingQuarantined {
    /// Which binding.
    pub binding: BindingId,
    /// First step it is not called for.
    pub step: u64,
    /// Faults in a row.
    pub faults: u32,
}

/// See [`Event::PluginStateSaved`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PluginStateSaved {
    /// Whose state.
    pub binding: BindingId,
    /// Steps recorded before it.
    pub step: u64,
    /// Calls so far, all hooks together.
    pub calls: u64,
    /// SHA-256 of the state: names the blob.
    pub state: Digest,
}

/// See [`Event::CheckpointSaved`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckpointSaved {
    /// The next step to train.
    pub step: u64,
    /// Over canonical content only.
    pub digest: Digest,
    /// Folder under the run's checkpoint folder.
    pub folder: String,
    /// Bytes on disk.
    pub bytes: u64,
}

/// See [`Event::CheckpointFailed`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckpointFailed {
    /// The next step to train.
    pub step: u64,
    /// Why, in a sentence.
    pub reason: String,
}

/// See [`Event::CommandAnswered`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CommandAnswered {
    /// The command's number in the inbox.
    pub command: u64,
    /// Step boundary at which it was answered.
    pub step: u64,
    /// What was asked, as JSON text.
    pub asked: String,
    /// Who asked.
    pub by: String,
    /// Why not, if it was refused.
    pub refusal: Option<String>,
}

/// See [`Event::RunPaused`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunPaused {
    /// The next step to train.
    pub step: u64,
}

/// See [`Event::RunContinued`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunContinued {
    /// The next step to train.
    pub step: u64,
}

/// See [`Event::RunResumed`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunResumed {
    /// The next step to train after catch-up.
    pub step: u64,
    /// Checkpoint it started from; none when it started from the beginning.
    pub checkpoint: Option<Digest>,
    /// Step of that checkpoint.
    pub checkpoint_step: u64,
    /// Steps trained again under the log.
    pub caught_up_steps: u64,
    /// Whether all of them agreed with the log.
    pub agreed: bool,
    /// Largest relative difference of a loss, 0 when they agreed.
    pub difference_max: f64,
    /// What executes it now.
    pub environment: Environment,
}

/// See [`Event::RunInterrupted`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunInterrupted {
    /// The next step to train.
    pub step: u64,
    /// Why, in a sentence.
    pub reason: String,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// All steps done.
    Completed,
    /// Stopped by command.
    Stopped,
    /// Halted by a gate.
    Halted,
    /// Stopped by a failure policy.
    Failed,
}

/// See [`Event::RunFinished`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunFinished {
    /// Steps done.
    pub step: u64,
    /// How it ended.
    pub ending: Ending,
    /// Why, in a sentence.
    pub reason: String,
}

/// See [`Event::PluginInstalled`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PluginInstalled {
    /// SHA-256 of the component.
    pub plugin: Digest,
    /// Name it gives itself.
    pub name: String,
    /// Version it gives itself.
    pub version: String,
    /// World it implements.
    pub world: World,
    /// Who installed it.
    pub by: String,
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
        }
    }

    /// The step it belongs to, if any.
    pub fn step(&self) -> Option<u64> {
        match self {
            Event::RunStarted(_) | Event::PluginInstalled(_) => None,
            Event::StepRecorded(event) => Some(event.step),
            Event::ValidationRecorded(event) => Some(event.step),
            Event::MixtureSet(event) => Some(event.step),
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
            Event::ValidationRecorded(_) | Event::PluginStateSaved(_) => false,
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
