//! What a run file means, given what was prepared: the resolved spec and the first mixture.

use anyhow::Result;
use hm_data::Manifest;
use hm_domain::limits::first_mixture;
use hm_domain::rules::Ruled;
use hm_domain::settings::{Faults, bad_name, key_of, shown, sum_of_typed};
use hm_domain::shares::{completed, no_whole};
use hm_domain::spec::*;

use crate::run_file::RunFile;

/// Refuses what does not fit the data, all of it at once. The file by itself is sound.
pub(crate) fn resolve(file: &RunFile, manifest: &Manifest) -> Result<(RunSpec, Ruled)> {
    let (model, initial_weights) = file.model.resolve(manifest.vocabulary)?;
    let mut faults = Faults::default();
    check_names(file, manifest, &mut faults);
    let shares = prior(file, manifest, &mut faults);
    let spec = RunSpec {
        name: file.name.clone(),
        seed: file.seed,
        model,
        training: file.training.training_spec(),
        optimizer: file.optimizer.clone(),
        schedule: file.training.schedule(),
        domains: domains(file, manifest, &shares),
        tokenizer: manifest.tokenizer,
        rules: file.rules_spec(),
        validation: file.validation.clone(),
        checkpoint: file.checkpoint.clone(),
        decision_lag: file.decision_lag,
        initial_weights,
    };
    spec.schedule.check(Some(spec.schedule_end()), &mut faults);
    let tokens_of_run = spec.tokens_of(spec.training.sequences_of_run());
    check_domains(&spec.domains, tokens_of_run, &mut faults);
    faults.into_result()?;
    let first = first_mixture(&spec)?;
    Ok((spec, first))
}

fn domains(file: &RunFile, manifest: &Manifest, shares: &[f64]) -> Vec<DomainSpec> {
    let segment = |entry: &hm_data::SegmentEntry| SegmentSpec {
        digest: entry.digest,
        documents: entry.documents,
        tokens: entry.tokens,
        bytes: entry.bytes,
    };
    let domain = |(domain, &prior): (&hm_data::DomainEntry, &f64)| {
        let limits = file.limits.get(&domain.name).copied().unwrap_or_default();
        DomainSpec {
            name: domain.name.clone(),
            prior,
            floor: limits.floor,
            cap: limits.cap,
            max_epochs: limits.max_epochs,
            segments: domain.segments.iter().map(segment).collect(),
            validation: domain.validation.as_ref().map(segment),
        }
    };
    manifest.domains.iter().zip(shares).map(domain).collect()
}

/// Names of domains that people can type, and keys that name one of them.
fn check_names(file: &RunFile, manifest: &Manifest, faults: &mut Faults) {
    let names: Vec<&str> = manifest.domains.iter().map(|domain| domain.name.as_str()).collect();
    for name in &names {
        if let Some(must) = bad_name(name) {
            faults.add("the name of a domain", shown(name), must);
        }
    }
    let nearest = |typed: &str| {
        let alike = |name: &&&str| strsim::jaro_winkler(typed, name);
        names.iter().max_by(|a, b| alike(a).total_cmp(&alike(b))).copied().unwrap_or_default()
    };
    let mixture = file.mixture.iter().map(|(name, share)| ("mixture", name, share.to_string()));
    let limits = file.limits.keys().map(|name| ("limits", name, "given".to_owned()));
    for (section, name, value) in mixture.chain(limits) {
        if names.contains(&name.as_str()) {
            continue;
        }
        let there_are = some(&names);
        let must = format!(
            "`{name}` is no domain of the data, which has {there_are}; did you mean `{}`?",
            nearest(name)
        );
        faults.add(key_of(section, name), value, must);
    }
}

/// As many names as one sentence carries.
pub(crate) fn some(names: &[&str]) -> String {
    const NAMES_SHOWN_MAX: usize = 20;
    match names.len().saturating_sub(NAMES_SHOWN_MAX) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names[..NAMES_SHOWN_MAX].join(", ")),
    }
}

/// Shares as named; domains that are not named share the rest by tokens.
fn prior(file: &RunFile, manifest: &Manifest, faults: &mut Faults) -> Vec<f64> {
    let tokens = |domain: &hm_data::DomainEntry| -> f64 {
        domain.segments.iter().map(|segment| segment.tokens as f64).sum()
    };
    let tokens: Vec<f64> = manifest.domains.iter().map(tokens).collect();
    let named: Vec<Option<f64>> =
        manifest.domains.iter().map(|domain| file.mixture.get(&domain.name).copied()).collect();
    let sum: f64 = file.mixture.values().sum();
    if let Some(must) = no_whole(sum, !named.is_empty() && !named.contains(&None)) {
        let value = format!("a set of shares that sum to {}", sum_of_typed(sum));
        faults.add("mixture", value, must);
    }
    completed(&named, &tokens)
}
