//! What happens between steps: validations, checkpoints, wishes answered.

use serde::{Deserialize, Serialize};

use crate::id::Digest;
use crate::mixture::Mixture;
use crate::step::LossSums;

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
    /// First step drawn under it. Mixtures that a policy has decided for later steps are void.
    pub step: u64,
    /// After the caps.
    pub mixture: Mixture,
    /// Rules that changed the wish, in order.
    pub rules: Vec<String>,
    /// Why, if somebody said.
    pub reason: String,
    /// Who asked.
    pub by: String,
}

/// See [`Event::MixtureLimited`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MixtureLimited {
    /// First step drawn under it.
    pub step: u64,
    /// What the limits leave of the mixture before.
    pub mixture: Mixture,
    /// Rules that changed it, in order.
    pub rules: Vec<String>,
}

/// See [`Event::LearningRateSet`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LearningRateSet {
    /// First step trained under it.
    pub step: u64,
    /// Peak that the run's schedule is scaled to from then on.
    pub peak: f64,
    /// Why, in the words of who asked; empty if they gave none.
    pub reason: String,
    /// Who asked.
    pub by: String,
}

/// See [`Event::BatchSizeSet`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BatchSizeSet {
    /// First step drawn under it.
    pub step: u64,
    /// Sequences of every step from then on; a ramp is over.
    pub sequences: u32,
    /// Why, in the words of who asked; empty if they gave none.
    pub reason: String,
    /// Who asked.
    pub by: String,
}

/// See [`Event::CheckpointBegun`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointBegun {
    /// The next step to train.
    pub step: u64,
    /// Of the run's state right before this event, which is kept beside the checkpoint.
    pub state: Digest,
}

/// See [`Event::CheckpointSaved`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckpointSaved {
    /// The next step to train.
    pub step: u64,
    /// Seq of the [`CheckpointBegun`] that it came of: the run is as it was there.
    pub begun: u64,
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
    /// Seconds that it lay in the inbox; 0 for what the run file asks.
    pub waited_s: u64,
    /// Why not, if it was refused.
    pub refusal: Option<String>,
}
