//! Losses on what is held out, live and once more.

use anyhow::Result;
use hm_data::Sampler;
use hm_domain::event::ValidationRecorded;
use hm_domain::spec::RunSpec;
use hm_domain::step::LossSums;
use hm_train::Trainer;

use crate::work::resume::{CaughtUp, relative};

/// Losses per domain of the weights as they are.
///
/// # Errors
/// When the shards cannot be read, or a device fails.
pub(crate) fn validation(
    spec: &RunSpec,
    trainer: &Trainer,
    sampler: &Sampler,
) -> Result<Vec<LossSums>> {
    let mut losses = vec![LossSums::default(); spec.domains.len()];
    for batch in sampler.validation_batches(spec.validation.sequences_per_domain)? {
        for (sums, part) in losses.iter_mut().zip(trainer.validate(&batch)?) {
            sums.add(&part);
        }
    }
    Ok(losses)
}

/// Validates once more, and notes by how much that differs from the log.
///
/// # Errors
/// As [`validation`].
pub(crate) fn validate_again(
    logged: &ValidationRecorded,
    spec: &RunSpec,
    (trainer, sampler): (&Trainer, &Sampler),
    caught_up: &mut CaughtUp,
) -> Result<()> {
    let now = validation(spec, trainer, sampler)?;
    let bits =
        |sums: &LossSums| (sums.loss_sum.to_bits(), sums.loss_square_sum.to_bits(), sums.tokens);
    if now.iter().map(bits).eq(logged.losses.iter().map(bits)) {
        return Ok(());
    }
    let mut pairs = now.iter().zip(&logged.losses);
    let apart = pairs.find(|(now, then)| bits(now) != bits(then));
    let difference = now.iter().zip(&logged.losses).map(|(now, then)| {
        // Other tokens are other data, which no device makes up for.
        let is_same = now.tokens == then.tokens;
        if is_same { relative(now.loss_sum, then.loss_sum) } else { f64::INFINITY }
    });
    caught_up.difference_max = difference.fold(caught_up.difference_max, f64::max);
    caught_up.disagreement.get_or_insert_with(|| {
        format!("validation at step {}: {:?} now and in the log", logged.step, apart)
    });
    Ok(())
}
