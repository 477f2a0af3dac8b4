//! Facts of a run as a whole: how it starts, waits, goes on and ends.

use serde::{Deserialize, Serialize};

use crate::event::CheckpointSaved;
use crate::id::{Digest, RunId};
use crate::mixture::Mixture;

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

/// The run and checkpoint that a fork started from, and all that its log is folded from without the
/// other's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Parent {
    /// Run id.
    pub run: RunId,
    /// Seq of the event that the checkpoint was saved by.
    pub seq: u64,
    /// That event's hash.
    pub hash: Digest,
    /// What that event says.
    pub checkpoint: CheckpointSaved,
    /// The run's state at that checkpoint ([`RunState::snapshot`](crate::state::RunState::snapshot)).
    pub state: Vec<u8>,
}

/// See [`Event::RolledBack`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RolledBack {
    /// The next step to train until then.
    pub step: u64,
    /// The next step to train from then on.
    pub to_step: u64,
    /// The attempt that begins.
    pub attempt: u32,
    /// Seq of the event that the checkpoint was saved by.
    pub seq: u64,
    /// What that event says.
    pub checkpoint: CheckpointSaved,
    /// The run's state at that checkpoint ([`RunState::snapshot`](crate::state::RunState::snapshot)).
    pub state: Vec<u8>,
    /// Whether the data drawn since is passed over; else it is drawn again.
    pub skipped_data: bool,
    /// Why, in the words of who asked; empty if they gave none.
    pub reason: String,
    /// Who asked.
    pub by: String,
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
    /// First event that was verified and folded: the log before it was believed, by the digest of the
    /// state there.
    pub folded_from: u64,
    /// Steps trained again under the log.
    pub caught_up_steps: u64,
    /// Whether all of them agreed with the log.
    pub agreed: bool,
    /// Largest relative difference of a loss, 0 when they agreed.
    pub difference_max: f64,
    /// Newer checkpoints on record that could not be taken up, newest first.
    pub passed_over: Vec<PassedOver>,
    /// What executes it now.
    pub environment: Environment,
}

/// A checkpoint on record that a worker could not take up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassedOver {
    /// Its step.
    pub step: u64,
    /// Its digest.
    pub checkpoint: Digest,
    /// Why not, in a sentence.
    pub reason: String,
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
    /// Nothing more could be learned, or a failure policy stopped it.
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
