//! The resolved run: everything that decides what a run computes, and nothing about where files lie.
//!
//! A run file becomes a `RunSpec` once; its JSON stands in `RunStarted`, and a run refuses to go on
//! under another.

mod check;
mod domains;

use serde::{Deserialize, Serialize};

pub use self::check::{CLIP_NORM_MAX, STEPS_MAX, check_decision_lag};
pub use self::domains::{Limits, check_domains};
use crate::event::{FailurePolicy, Role};
use crate::id::Digest;
pub use crate::model_spec::ModelSpec;
use crate::precision::Precision;
use crate::ramp::BatchRamp;
use crate::schedule::Schedule;

/// One run, resolved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunSpec {
    /// What people call it; `hm train` continues the unfinished run of this name.
    pub name: String,
    /// Seeds initial weights and document permutations.
    pub seed: u64,
    /// Shape of the model.
    pub model: ModelSpec,
    /// Length and batching.
    pub training: TrainingSpec,
    /// Optimizer constants.
    pub optimizer: OptimizerSpec,
    /// Learning rate by step.
    pub schedule: Schedule,
    /// Sources in the order of every per-domain array.
    pub domains: Vec<DomainSpec>,
    /// Digest of the tokenizer file.
    pub tokenizer: Digest,
    /// What the host holds every mixture to.
    pub rules: RulesSpec,
    /// Held-out losses.
    pub validation: ValidationSpec,
    /// When to save.
    pub checkpoint: CheckpointSpec,
    /// A decision made on step t takes effect at t + 1 + this many.
    pub decision_lag: u64,
    /// Digest of the weights it starts from; none where they are drawn from the seed. Left out then,
    /// so that a spec from before this was known reads and writes the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial_weights: Option<Digest>,
    /// Bound before the first step, in this order. What is bound later is a wish, and not here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plugins: Vec<PluginSpec>,
}

/// A plugin that the run file names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PluginSpec {
    /// As it is named: a digest, a name or name@version.
    pub plugin: String,
    /// What that named when the run began.
    pub digest: Digest,
    /// JSON, valid under the plugin's schema.
    pub config: serde_json::Value,
    /// Obeyed or only logged.
    pub role: Role,
    /// What a fault costs.
    pub failure: FailurePolicy,
}

fn is_false(value: &bool) -> bool {
    !value
}

fn is_default(value: &Precision) -> bool {
    *value == Precision::default()
}

fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

/// Length and batching.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingSpec {
    /// Steps of the whole run.
    pub steps: u64,
    /// Sequences of one step; with a ramp, of one after it.
    pub sequences_per_step: u32,
    /// Sequences in memory at once; gradients accumulate over the step.
    pub micro_batch_sequences: u32,
    /// Keep only every block's input for the gradient, and compute the block again: less memory, a
    /// third more work, the same bits.
    #[serde(default, skip_serializing_if = "is_false")]
    pub recompute_blocks: bool,
    /// What the step computes in.
    #[serde(default, skip_serializing_if = "is_default")]
    pub precision: Precision,
    /// Weight of the squared logarithm of the softmax's denominator in the objective (Chowdhery and
    /// others, arXiv 2204.02311, section 5); 0 for none. Losses are reported without it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub z_loss: f64,
    /// How the batch grows to that, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_ramp: Option<BatchRamp>,
}

/// `AdamW` (Loshchilov and Hutter, 1711.05101). Matrices decay, norms do not. What a run file leaves
/// out is Aquila2's (arXiv 2408.07410, tables 12 and 13).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OptimizerSpec {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Global gradient norm to clip to.
    pub clip_norm: f64,
}

impl Default for OptimizerSpec {
    fn default() -> Self {
        OptimizerSpec { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weight_decay: 0.1, clip_norm: 1.0 }
    }
}

/// A source of documents with its own cursor and losses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DomainSpec {
    /// What people call it.
    pub name: String,
    /// Share of the prior mixture; shares of a run sum to 1.
    pub prior: f64,
    /// Smallest share of any mixture, whoever sets it.
    pub floor: f64,
    /// Largest share of any mixture, whoever sets it.
    pub cap: f64,
    /// Most passes over the domain in the whole run, if limited.
    pub max_epochs: Option<f64>,
    /// Immutable batches of documents, in order.
    pub segments: Vec<SegmentSpec>,
    /// Held-out documents' shard, if any.
    pub validation: Option<SegmentSpec>,
}

impl DomainSpec {
    /// Training tokens of one epoch.
    pub fn tokens(&self) -> u64 {
        self.segments.iter().map(|segment| segment.tokens).sum()
    }

    /// Tokens that it may still give, `served` being given, before it has been read as often as it may.
    pub fn gives(&self, served: u64) -> f64 {
        let all = |max_epochs: f64| self.tokens() as f64 * max_epochs;
        self.max_epochs
            .map_or(f64::INFINITY, |max_epochs| (all(max_epochs) - served as f64).max(0.0))
    }
}

/// An immutable, hashed batch of one domain's documents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SegmentSpec {
    /// SHA-256 over the shard's index and token files.
    pub digest: Digest,
    /// Documents in it.
    pub documents: u64,
    /// Tokens in it, end-of-document marks included.
    pub tokens: u64,
    /// Bytes of text it was made from.
    pub bytes: u64,
}

/// What the host holds mixtures to beside the domains' limits, which bind whoever sets one (rules
/// version 1). These are for a policy's alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RulesSpec {
    /// Which set of rules; old sets stay executable.
    pub version: u32,
    /// Largest L1 distance between a mixture and its successor, or none.
    pub rate_limit: Option<f64>,
    /// First steps in which a policy's mixtures are logged but not applied.
    pub freeze_steps: u64,
}

/// Held-out losses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ValidationSpec {
    /// Steps between validations; 0 for only the first and last.
    pub every_steps: u64,
    /// Sequences per domain, from the start of its held-out documents; fewer where it has fewer.
    pub sequences_per_domain: u32,
}

impl Default for ValidationSpec {
    fn default() -> Self {
        ValidationSpec { every_steps: 100, sequences_per_domain: 8 }
    }
}

/// When to save.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CheckpointSpec {
    /// Steps between checkpoints; 0 for only the one at the end.
    pub every_steps: u64,
    /// Checkpoints kept on disk, beside the newest that is known to give numbers; older ones are deleted
    /// after a newer one is on record.
    pub keep: u32,
    /// Steps between milestones, which are never deleted: the first checkpoint at or after each multiple.
    /// 0 for none.
    #[serde(skip_serializing_if = "is_none")]
    pub keep_every: u64,
}

fn is_none(steps: &u64) -> bool {
    *steps == 0
}

impl Default for CheckpointSpec {
    fn default() -> Self {
        CheckpointSpec { every_steps: 100, keep: 2, keep_every: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spec_from_before_initial_weights_reads_and_writes_the_same() {
        let spec = crate::testing::spec(1);
        let text = serde_json::to_string(&spec).unwrap();
        assert!(!text.contains("initial_weights"));
        assert_eq!(serde_json::from_str::<RunSpec>(&text).unwrap(), spec);
        let started = RunSpec { initial_weights: Some(Digest::of(b"weights")), ..spec };
        let text = serde_json::to_string(&started).unwrap();
        assert_eq!(serde_json::from_str::<RunSpec>(&text).unwrap(), started);
    }
}
