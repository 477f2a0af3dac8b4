//! Models, batches and steps that the checks share.

use hm_domain::batch::{Batch, Sequence};
use hm_domain::id::{Digest, DomainId};
use hm_domain::precision::Precision;
use hm_domain::schedule::{Schedule, Shape, Warmup};
use hm_domain::spec::*;
use hm_domain::step::{Knobs, PreStep, Verdict};
use hm_train::{Trainer, preset};

/// Sequence length of the speed figures.
const LENGTH: u32 = 2048;

/// A model by name: a preset, or one of the sizes that others publish figures of.
pub(crate) fn model(name: &str) -> ModelSpec {
    let sized = |layers, hidden_size, ffn_size, heads| ModelSpec {
        layers,
        hidden_size,
        ffn_size,
        heads,
        kv_heads: heads,
        vocabulary: 50_304,
        sequence_length: LENGTH,
        ..preset("tiny").expect("a preset")
    };
    match name {
        "125m" => sized(12, 768, 2048, 12),
        "1.3b" => sized(24, 2048, 5504, 16),
        other => preset(other).unwrap_or_else(|| panic!("no model `{other}`")),
    }
}

/// A run of one domain with Aquila2's optimizer.
pub(crate) fn spec(model: ModelSpec, sequences: u32, precision: Precision) -> RunSpec {
    RunSpec {
        name: "gpu".to_owned(),
        seed: 1,
        model,
        training: TrainingSpec {
            steps: 1 << 20,
            sequences_per_step: sequences,
            micro_batch_sequences: sequences,
            recompute_blocks: false,
            precision,
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
            name: "gpu".to_owned(),
            prior: 1.0,
            floor: 0.0,
            cap: 1.0,
            max_epochs: None,
            segments: Vec::new(),
            validation: None,
        }],
        tokenizer: Digest::ZERO,
        rules: RulesSpec { version: 1, rate_limit: None, freeze_steps: 0 },
        validation: ValidationSpec { every_steps: 0, sequences_per_domain: 0 },
        checkpoint: CheckpointSpec { every_steps: 1 << 20, keep: 1 },
        decision_lag: 0,
        initial_weights: None,
    }
}

/// Sequences with something to learn: each counts on by a stride of its own.
pub(crate) fn batch(model: &ModelSpec, sequences: u32, step: u32) -> Batch {
    let sequence = |index: u32| {
        let stride = 1 + (index * 7 + step % 4) % 13;
        let token = |at: u32| (index * 31 + at * stride) % model.vocabulary;
        Sequence { domain: DomainId(0), tokens: (0..=model.sequence_length).map(token).collect() }
    };
    Batch { sequences: (0..sequences).map(sequence).collect(), draws: Vec::new() }
}

/// One step that is updated with.
pub(crate) fn step(
    trainer: &mut Trainer,
    batch: &Batch,
    loss_scale: f64,
) -> hm_train::Result<PreStep> {
    let knobs = Knobs { learning_rate: 1e-3, clip_norm: 1.0, loss_weights: vec![1.0], loss_scale };
    Ok(trainer.step(batch, &knobs, &mut |_| Verdict::Proceed)?.pre_step)
}
