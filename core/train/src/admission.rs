//! What a step must be given, checked before anything is computed: a batch of the model's shape and
//! knobs that mean something. A refusal names what was found and what is wanted.

use hm_domain::batch::Batch;
use hm_domain::knobs::PEAK_FACTOR_MAX;
use hm_domain::spec::{CLIP_NORM_MAX, ModelSpec, OptimizerSpec};
use hm_domain::step::Knobs;

use crate::error::{Result, TrainError};

/// Sequences of the model's length and vocabulary, of domains that the run has.
pub(crate) fn check_batch(batch: &Batch, model: &ModelSpec, domain_count: usize) -> Result<()> {
    let expected = model.sequence_length as usize + 1;
    let vocabulary = model.vocabulary;
    for (index, sequence) in batch.sequences.iter().enumerate() {
        if sequence.tokens.len() != expected {
            let found = sequence.tokens.len();
            return Err(TrainError::Sequence { index, found, expected });
        }
        if let Some(&id) = sequence.tokens.iter().find(|&&id| id >= vocabulary) {
            return Err(TrainError::Token { id, vocabulary });
        }
        if sequence.domain.index() >= domain_count {
            let domain = sequence.domain.0;
            return Err(TrainError::Domain { index, domain, domain_count });
        }
    }
    Ok(())
}

/// Knobs under which an update moves the weights by a finite, downhill step.
pub(crate) fn check_knobs(
    knobs: &Knobs,
    domain_count: usize,
    optimizer: &OptimizerSpec,
) -> Result<()> {
    let refuse =
        |knob: String, value: String, must: String| Err(TrainError::Knob { knob, value, must });
    let rate = knobs.learning_rate;
    if !(rate.is_finite() && rate >= 0.0) {
        let must = "must be finite and not negative".to_owned();
        return refuse("the learning rate".to_owned(), rate.to_string(), must);
    }
    // What a run file may say, and how far above it a command may go.
    let most = optimizer.learning_rate_max() * PEAK_FACTOR_MAX;
    if rate > most {
        let must = format!("must be at most {most:.1e}, or updates leave f32");
        return refuse("the learning rate".to_owned(), rate.to_string(), must);
    }
    let clip = knobs.clip_norm;
    if !(clip > 0.0 && clip <= CLIP_NORM_MAX) {
        let must = format!("must be above 0 and at most {CLIP_NORM_MAX:e}");
        return refuse("the clip norm".to_owned(), clip.to_string(), must);
    }
    let weights = &knobs.loss_weights;
    if weights.len() != domain_count {
        let must = format!("must be {domain_count}, one per domain");
        return refuse("the number of loss weights".to_owned(), weights.len().to_string(), must);
    }
    let unusable = |weight: &&f64| !(weight.is_finite() && **weight >= 0.0);
    if let Some((index, weight)) = weights.iter().enumerate().find(|(_, weight)| unusable(weight)) {
        let must = "must be finite and not negative".to_owned();
        return refuse(format!("the loss weight of domain {index}"), weight.to_string(), must);
    }
    let scale = knobs.loss_scale;
    if !(scale.is_finite() && scale > 0.0) {
        let must = "must be finite and above 0".to_owned();
        return refuse("the loss scale".to_owned(), scale.to_string(), must);
    }
    if weights.iter().all(|&weight| weight == 0.0) {
        let must = "must be above 0, or nothing would be learned".to_owned();
        return refuse("the largest loss weight".to_owned(), "0".to_owned(), must);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use hm_domain::id::DomainId;
    use hm_domain::step::{PreStep, Verdict};

    use super::*;
    use crate::tests::{batch, digest, knobs, spec, trainer};

    #[test]
    fn batches_that_do_not_fit_are_refused_with_both_values() {
        let mut trainer = trainer(&spec());
        let changed = |change: &dyn Fn(&mut Batch)| {
            let mut batch = batch(0);
            change(&mut batch);
            batch
        };
        let cases = [
            (
                changed(&|batch| batch.sequences[1].tokens.push(0)),
                "sequence 1 has 66 tokens, the model wants 65",
            ),
            (
                changed(&|batch| batch.sequences[3].tokens.clear()),
                "sequence 3 has 0 tokens, the model wants 65",
            ),
            (
                changed(&|batch| batch.sequences[0].tokens[0] = 512),
                "token id 512 is not below the vocabulary of 512",
            ),
            (
                changed(&|batch| batch.sequences[2].domain = DomainId(2)),
                "sequence 2 is of domain 2, the run has 2, numbered from 0",
            ),
            (
                changed(&|batch| batch.sequences.clear()),
                "the batch has 0 sequences, a step needs at least 1",
            ),
        ];
        let before = digest(&trainer);
        for (batch, sentence) in cases {
            let mut gate = |_: &PreStep| -> Verdict { panic!("the gate is not asked") };
            let error = trainer.step(&batch, &knobs(), &mut gate).unwrap_err();
            assert_eq!(error.to_string(), sentence);
            if !batch.sequences.is_empty() {
                assert_eq!(trainer.validate(&batch).unwrap_err().to_string(), sentence);
            }
        }
        assert_eq!(digest(&trainer), before);
    }

    #[test]
    fn knobs_that_mean_nothing_are_refused_with_both_values() {
        let mut trainer = trainer(&spec());
        let weights = |weights: &[f64]| Knobs { loss_weights: weights.to_vec(), ..knobs() };
        let cases = [
            (weights(&[1.0]), "the number of loss weights is 1: must be 2, one per domain"),
            (
                weights(&[1.0, f64::NAN]),
                "the loss weight of domain 1 is NaN: must be finite and not negative",
            ),
            (
                weights(&[f64::INFINITY, 1.0]),
                "the loss weight of domain 0 is inf: must be finite and not negative",
            ),
            (
                weights(&[-0.5, 1.0]),
                "the loss weight of domain 0 is -0.5: must be finite and not negative",
            ),
            (
                weights(&[0.0, 0.0]),
                "the largest loss weight is 0: must be above 0, or nothing would be learned",
            ),
            (
                Knobs { learning_rate: f64::NAN, ..knobs() },
                "the learning rate is NaN: must be finite and not negative",
            ),
            (
                // Finite in f64 alone.
                Knobs { learning_rate: 1e39, ..knobs() },
                "the learning rate is 1000000000000000000000000000000000000000: must be at most 3.4e32, or \
                 updates leave f32",
            ),
            (
                Knobs { clip_norm: 0.0, ..knobs() },
                "the clip norm is 0: must be above 0 and at most 1e18",
            ),
        ];
        let before = digest(&trainer);
        for (knobs, sentence) in cases {
            let error = trainer.step(&batch(0), &knobs, &mut |_| Verdict::Proceed).unwrap_err();
            assert_eq!(error.to_string(), sentence);
        }
        assert_eq!(digest(&trainer), before);
    }

    #[test]
    fn largest_learning_rate_that_is_admitted_leaves_weights_that_can_be_saved() {
        let mut trainer = trainer(&spec());
        let learning_rate = spec().optimizer.learning_rate_max() * PEAK_FACTOR_MAX;
        for step in 0..4 {
            let knobs = Knobs { learning_rate, ..knobs() };
            trainer.step(&batch(step), &knobs, &mut |_| Verdict::Proceed).unwrap();
            digest(&trainer);
        }
    }
}
