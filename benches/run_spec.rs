//! The run whose steps are timed: one domain, Aquila2's optimizer.

use hm_domain::id::Digest;
use hm_domain::precision::Precision;
use hm_domain::schedule::{Schedule, Shape, Warmup};
use hm_domain::spec::*;
use hm_domain::step::Knobs;

/// What every timed step is trained under.
pub(crate) fn knobs() -> Knobs {
    Knobs { learning_rate: 1e-3, clip_norm: 1.0, loss_weights: vec![1.0], loss_scale: 1.0 }
}

/// A run of one domain with Aquila2's optimizer.
pub(crate) fn spec(model: ModelSpec, sequences: u32) -> RunSpec {
    let segment =
        SegmentSpec { digest: Digest::ZERO, documents: 1000, tokens: 1 << 30, bytes: 4 << 30 };
    RunSpec {
        name: "bench".to_owned(),
        seed: 1,
        model,
        training: TrainingSpec {
            steps: 1 << 20,
            sequences_per_step: sequences,
            micro_batch_sequences: sequences,
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
        domains: vec![DomainSpec {
            name: "bench".to_owned(),
            prior: 1.0,
            floor: 0.0,
            cap: 1.0,
            max_epochs: None,
            segments: vec![segment],
            validation: None,
        }],
        tokenizer: Digest::ZERO,
        rules: RulesSpec { version: 1, rate_limit: None, freeze_steps: 0 },
        validation: ValidationSpec { every_steps: 0, sequences_per_domain: 0 },
        checkpoint: CheckpointSpec { every_steps: 1 << 20, keep: 1, keep_every: 0 },
        decision_lag: 0,
        initial_weights: None,
        plugins: Vec::new(),
    }
}
