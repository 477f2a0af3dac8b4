//! What a checkpoint holds beside parameters and moments. Its digest covers this and them, and
//! nothing that depends on when or where it was saved.

use serde::{Deserialize, Serialize};

use crate::batch::Cursor;
use crate::id::{BindingId, Digest};
use crate::knobs::Overrides;
use crate::mixture::Mixture;

/// What the name of a checkpoint's folder begins with.
pub fn folder_stem(attempt: u32, step: u64) -> String {
    format!("a{attempt:03}-s{step:010}")
}

/// The name of a checkpoint's folder: with its digest, as short as people see it.
pub fn folder_name(attempt: u32, step: u64, digest: &Digest) -> String {
    format!("{}-{}", folder_stem(attempt, step), digest.short())
}

/// The run's state after some step, beside the trainer's tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointState {
    /// Attempt that saved it.
    pub attempt: u32,
    /// The next step to train: steps before it are in the parameters.
    pub next_step: u64,
    /// Optimizer updates so far: steps less skipped ones. Adam's count.
    pub updates: u64,
    /// Target tokens trained on so far.
    pub tokens: u64,
    /// One per domain.
    pub cursors: Vec<Cursor>,
    /// Carried error of the quotas, one per domain.
    pub carries: Vec<i64>,
    /// The mixture that `next_step` is drawn under.
    pub mixture: Mixture,
    /// Decided mixtures that wait for their step: (step, mixture).
    pub pending: Vec<(u64, Mixture)>,
    /// One per domain.
    pub loss_weights: Vec<f64>,
    /// Knobs that commands have set: written only where there are any, as the digest covers it.
    #[serde(default, skip_serializing_if = "Overrides::is_empty")]
    pub overrides: Overrides,
    /// State hash of every live binding.
    pub plugin_states: Vec<(BindingId, Digest)>,
}
