//! What a step must be given, checked before anything is computed: a batch of the model's shape and
//! knobs that mean something. A refusal names what was found and what is wanted.

use hm_domain::batch::Batch;
use hm_domain::spec::ModelSpec;
use hm_domain::step::Knobs;

use crate::error::{Result, TrainError};

/// Gradients clipped to at most this have squares and sums of squares that fit f32.
const CLIP_NORM_MAX: f64 = 1e18;

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
pub(crate) fn check_knobs(knobs: &Knobs, domain_count: usize) -> Result<()> {
    let refuse =
        |knob: String, value: String, must: String| Err(TrainError::Knob { knob, value, must });
    let rate = knobs.learning_rate;
    if !(rate.is_finite() && rate >= 0.0) {
        let must = "must be finite and not negative".to_owned();
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
