//! Models, batches and steps that the checks share.

use hm_domain::batch::{Batch, Sequence};
use hm_domain::id::DomainId;
use hm_domain::precision::Precision;
use hm_domain::spec::{ModelSpec, RunSpec};
use hm_domain::step::{Knobs, PreStep, Verdict};
use hm_train::{Trainer, preset};

use crate::run_spec;

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

/// A run of one domain in a precision.
pub(crate) fn spec(model: ModelSpec, sequences: u32, precision: Precision) -> RunSpec {
    let mut spec = run_spec::spec(model, sequences);
    spec.training.precision = precision;
    spec
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
    let knobs = Knobs { loss_scale, ..run_spec::knobs() };
    Ok(trainer.step(batch, &knobs, &mut |_| Verdict::Proceed)?.pre_step)
}
