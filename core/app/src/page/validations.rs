//! Validations as means: the log keeps sums.

use anyhow::{Context as _, Result};
use hm_domain::id::RunId;
use hm_serve::Validation;
use hm_store::Store;
use serde_json::Value;

/// All validations of a run, in order.
pub(crate) async fn all(store: &Store, id: RunId) -> Result<Vec<Validation>> {
    store.validations(id).await?.iter().map(validation).collect()
}

/// A domain without tokens has no loss.
fn validation(row: &Value) -> Result<Validation> {
    let sums: Vec<Option<f64>> = serde_json::from_value(row["loss_sums"].clone())?;
    let tokens: Vec<u64> = serde_json::from_value(row["loss_tokens"].clone())?;
    let total: Option<f64> = sums.iter().copied().sum();
    let domain_losses = sums.iter().zip(&tokens).map(|(sum, &tokens)| mean((*sum)?, tokens));
    Ok(Validation {
        step: row["step"].as_u64().context("a validation without a step")?,
        loss: total.and_then(|total| mean(total, tokens.iter().sum())),
        domain_losses: domain_losses.collect(),
    })
}

/// None where there is nothing to divide by, or nothing finite comes of it.
pub(crate) fn mean(sum: f64, tokens: u64) -> Option<f64> {
    Some(sum / tokens as f64).filter(|mean| tokens > 0 && mean.is_finite())
}
