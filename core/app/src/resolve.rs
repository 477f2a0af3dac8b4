//! What a run file means, given what was prepared: the resolved spec and the prior mixture.

use anyhow::{Result, anyhow, bail};
use hm_data::Manifest;
use hm_domain::id::Digest;
use hm_domain::mixture::Mixture;
use hm_domain::spec::*;
use hm_train::{InitialWeights, preset};

use crate::run_file::RunFile;

/// Refuses what does not fit together, by name and value.
pub(crate) fn resolve(file: &RunFile, manifest: &Manifest) -> Result<(RunSpec, Mixture)> {
    let (model, initial_weights) = model(file, manifest)?;
    let known = |name: &String| manifest.domains.iter().any(|domain| domain.name == *name);
    if let Some(name) = file.mixture.keys().chain(file.limits.keys()).find(|name| !known(name)) {
        let names: Vec<_> = manifest.domains.iter().map(|domain| domain.name.as_str()).collect();
        bail!("`{name}` is no domain of the data; there are {}", names.join(", "));
    }
    let shares = prior(file, manifest)?;
    let segment = |entry: &hm_data::SegmentEntry| SegmentSpec {
        digest: entry.digest,
        documents: entry.documents,
        tokens: entry.tokens,
        bytes: entry.bytes,
    };
    let domains = manifest.domains.iter().zip(&shares).map(|(domain, &prior)| {
        let limits = file.limits.get(&domain.name);
        DomainSpec {
            name: domain.name.clone(),
            prior,
            floor: limits.map_or(0.0, |limits| limits.floor),
            cap: limits.map_or(1.0, |limits| limits.cap),
            max_epochs: limits.and_then(|limits| limits.max_epochs),
            segments: domain.segments.iter().map(segment).collect(),
            validation: domain.validation.as_ref().map(segment),
        }
    });
    let training = file.training.training_spec();
    training.check_batch()?;
    let spec = RunSpec {
        name: file.name.clone(),
        seed: file.seed,
        model,
        training,
        optimizer: file.optimizer_spec(),
        schedule: file.training.schedule()?,
        domains: domains.collect(),
        tokenizer: manifest.tokenizer,
        rules: file.rules_spec(),
        validation: file.validation_spec(),
        checkpoint: file.checkpoint_spec(),
        decision_lag: file.decision_lag,
        initial_weights,
    };
    spec.schedule.check(spec.schedule_end())?;
    Ok((spec, Mixture::from_shares(0, &shares)?))
}

/// Shape of the model, and the digest of the weights it starts from, if any.
fn model(file: &RunFile, manifest: &Manifest) -> Result<(ModelSpec, Option<Digest>)> {
    let choice = &file.model;
    match (&choice.preset, file.initial_weights()?) {
        (Some(name), None) => {
            let mut model = preset(name).ok_or_else(|| {
                anyhow!("model.preset `{name}` is not one of {}", hm_train::PRESETS.join(", "))
            })?;
            model.vocabulary = manifest.vocabulary;
            model.sequence_length = choice.sequence_length.unwrap_or(model.sequence_length);
            model.qk_norm = choice.qk_norm;
            model.check()?;
            Ok((model, None))
        }
        (None, Some(_)) if choice.qk_norm => {
            bail!("model.qk_norm is true: the weights of model.from have no norms for heads")
        }
        (None, Some(InitialWeights { mut model, digest, .. })) => {
            let (tokens, rows) = (manifest.vocabulary, model.vocabulary);
            if tokens > rows {
                bail!(
                    "the tokenizer has {tokens} ids, the weights of model.from {rows} rows for them"
                );
            }
            let length = choice.sequence_length.unwrap_or(model.sequence_length);
            if length > model.sequence_length {
                let longest = model.sequence_length;
                bail!(
                    "model.sequence_length is {length}: the weights of model.from have seen {longest} at most"
                );
            }
            model.sequence_length = length;
            model.check()?;
            Ok((model, Some(digest)))
        }
        (Some(name), Some(_)) => {
            bail!("model names both the preset `{name}` and weights to start from: leave one out")
        }
        (None, None) => bail!(
            "model names no shape: set model.preset to one of {}, or model.from to a folder of `hm import`",
            hm_train::PRESETS.join(", ")
        ),
    }
}

/// Shares as named; domains that are not named share the rest by tokens.
fn prior(file: &RunFile, manifest: &Manifest) -> Result<Vec<f64>> {
    let tokens = |domain: &hm_data::DomainEntry| -> f64 {
        domain.segments.iter().map(|segment| segment.tokens as f64).sum()
    };
    let named: f64 = file.mixture.values().sum();
    let unnamed: f64 = manifest
        .domains
        .iter()
        .filter(|domain| !file.mixture.contains_key(&domain.name))
        .map(tokens)
        .sum();
    let rest = 1.0 - named;
    if rest < -1e-9 || (unnamed == 0.0 && rest > 1e-9) || file.mixture.values().any(|&s| s < 0.0) {
        bail!("the shares in `mixture` sum to {named}: all together must be 1, none negative");
    }
    let share = |domain: &hm_data::DomainEntry| match file.mixture.get(&domain.name) {
        Some(&share) => share,
        None => rest.max(0.0) * tokens(domain) / unnamed,
    };
    Ok(manifest.domains.iter().map(share).collect())
}
