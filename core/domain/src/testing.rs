//! Small values for this crate's own tests.

use crate::id::Digest;
use crate::precision::Precision;
use crate::schedule::{Schedule, Shape, Warmup};
use crate::spec::*;

/// A run of 100 steps over `domain_count` domains of 100 tokens each, with no rule in the way.
pub(crate) fn spec(domain_count: usize) -> RunSpec {
    let segment =
        SegmentSpec { digest: Digest::of(b"segment"), documents: 10, tokens: 100, bytes: 400 };
    let domain = |index: usize| DomainSpec {
        name: format!("domain-{index}"),
        prior: 1.0 / domain_count as f64,
        floor: 0.0,
        cap: 1.0,
        max_epochs: None,
        segments: vec![segment.clone()],
        validation: None,
    };
    RunSpec {
        name: "test".to_owned(),
        seed: 1,
        model: ModelSpec {
            layers: 1,
            hidden_size: 8,
            ffn_size: 8,
            heads: 2,
            kv_heads: 1,
            vocabulary: 16,
            sequence_length: 4,
            rope_base: 10000.0,
            norm_epsilon: 1e-5,
            norm_init: 1.0,
            init_std: 0.02,
            scaled_init: true,
            qk_norm: false,
        },
        training: TrainingSpec {
            steps: 100,
            sequences_per_step: 8,
            micro_batch_sequences: 8,
            recompute_blocks: false,
            precision: Precision::F32,
            z_loss: 0.0,
            batch_ramp: None,
        },
        optimizer: OptimizerSpec {
            beta1: 0.9,
            beta2: 0.95,
            epsilon: 1e-8,
            weight_decay: 0.1,
            clip_norm: 1.0,
        },
        schedule: Schedule {
            peak: 1e-3,
            minimum: 1e-4,
            warmup: Warmup::Steps(10),
            shape: Shape::Cosine,
        },
        domains: (0..domain_count).map(domain).collect(),
        tokenizer: Digest::of(b"tokenizer"),
        rules: RulesSpec { version: 1, rate_limit: None, freeze_steps: 0 },
        validation: ValidationSpec { every_steps: 0, sequences_per_domain: 0 },
        checkpoint: CheckpointSpec { every_steps: 10, keep: 2, keep_every: 0 },
        decision_lag: 0,
        initial_weights: None,
        plugins: Vec::new(),
    }
}
