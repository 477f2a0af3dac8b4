//! The checkpoint of a run that is not whole yet.

use serde::{Deserialize, Serialize};

use crate::event::CheckpointBegun;
use crate::id::Digest;

/// A checkpoint that a worker writes while training goes on: begun, and neither saved nor failed yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointInWriting {
    /// The step it is of.
    pub step: u64,
    /// Seq of the event that began it.
    pub seq: u64,
    /// Digest of the run's state there.
    pub state: Digest,
    /// Whether a step since has given a finite loss and finite gradients.
    pub(super) gave_numbers: bool,
}

impl CheckpointInWriting {
    /// One that the event at `seq` begins.
    pub(super) fn of(begun: &CheckpointBegun, seq: u64) -> CheckpointInWriting {
        let CheckpointBegun { step, state } = *begun;
        CheckpointInWriting { step, seq, state, gave_numbers: false }
    }
}
