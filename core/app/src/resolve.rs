//! What a run file means, given what was prepared: the resolved spec and the first mixture.

use anyhow::{Result, bail};
use hm_data::Manifest;
use hm_domain::id::Digest;
use hm_domain::limits::first_mixture;
use hm_domain::rules::Ruled;
use hm_domain::settings::{Faults, bad_name, key_of, shown, sum_of_typed};
use hm_domain::shares::{completed, no_whole};
use hm_domain::spec::*;

use crate::run_file::RunFile;

/// What is known of the data: all of it when it is prepared, or what a run was begun with.
pub(crate) struct Known {
    vocabulary: u32,
    tokenizer: Digest,
    domains: Vec<DomainSpec>,
}

impl From<&Manifest> for Known {
    fn from(manifest: &Manifest) -> Known {
        let segment = |entry: &hm_data::SegmentEntry| SegmentSpec {
            digest: entry.digest,
            documents: entry.documents,
            tokens: entry.tokens,
            bytes: entry.bytes,
        };
        let Limits { floor, cap, max_epochs } = Limits::default();
        let domain = |domain: &hm_data::DomainEntry| DomainSpec {
            name: domain.name.clone(),
            prior: 0.0,
            floor,
            cap,
            max_epochs,
            segments: domain.segments.iter().map(segment).collect(),
            validation: domain.validation.as_ref().map(segment),
        };
        Known {
            vocabulary: manifest.vocabulary,
            tokenizer: manifest.tokenizer,
            domains: manifest.domains.iter().map(domain).collect(),
        }
    }
}

impl From<&RunSpec> for Known {
    fn from(spec: &RunSpec) -> Known {
        let (vocabulary, tokenizer) = (spec.model.vocabulary, spec.tokenizer);
        Known { vocabulary, tokenizer, domains: spec.domains.clone() }
    }
}

/// Refuses what does not fit the data, all of it at once. The file by itself is sound, and `plugins`
/// are those that it names.
pub(crate) fn resolve(
    file: &RunFile,
    plugins: &[PluginSpec],
    known: &Known,
) -> Result<(RunSpec, Ruled)> {
    if known.domains.iter().all(|domain| domain.tokens() == 0) {
        bail!("no source in data.sources gives a document that can be trained on");
    }
    let (model, initial_weights) = file.model.resolve(known.vocabulary)?;
    let mut faults = Faults::default();
    let names: Vec<&str> = known.domains.iter().map(|domain| domain.name.as_str()).collect();
    for name in &names {
        if let Some(must) = bad_name(name) {
            faults.add("the name of a domain", shown(name), must);
        }
    }
    check_keys(file, &names, &mut faults);
    let shares = prior(file, &known.domains, &mut faults);
    let spec = RunSpec {
        name: file.name.clone(),
        seed: file.seed,
        model,
        training: file.training.training_spec(),
        optimizer: file.optimizer.clone(),
        schedule: file.training.schedule(),
        domains: domains(file, known, &shares),
        tokenizer: known.tokenizer,
        rules: file.rules_spec(),
        validation: file.validation.clone(),
        checkpoint: file.checkpoint.clone(),
        decision_lag: file.decision_lag,
        initial_weights,
        plugins: plugins.to_vec(),
    };
    spec.schedule.check(Some(spec.schedule_end()), &mut faults);
    let tokens_of_run = spec.tokens_of(spec.training.sequences_of_run());
    check_domains(&spec.domains, tokens_of_run, &mut faults);
    faults.into_result()?;
    let first = first_mixture(&spec)?;
    Ok((spec, first))
}

fn domains(file: &RunFile, known: &Known, shares: &[f64]) -> Vec<DomainSpec> {
    let domain = |(domain, &prior): (&DomainSpec, &f64)| {
        let Limits { floor, cap, max_epochs } =
            file.limits.get(&domain.name).copied().unwrap_or_default();
        DomainSpec { prior, floor, cap, max_epochs, ..domain.clone() }
    };
    known.domains.iter().zip(shares).map(domain).collect()
}

/// Notes keys of `mixture` and `limits` that name no domain, where it is known which there are.
pub(crate) fn check_keys(file: &RunFile, names: &[&str], faults: &mut Faults) {
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
        let there_are = some(names);
        let (typed, best) = (name.escape_debug(), nearest(name).escape_debug());
        let must = format!(
            "`{typed}` is no domain of the data, which has {there_are}; did you mean `{best}`?"
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
fn prior(file: &RunFile, domains: &[DomainSpec], faults: &mut Faults) -> Vec<f64> {
    let tokens: Vec<f64> = domains.iter().map(|domain| domain.tokens() as f64).collect();
    let named: Vec<Option<f64>> =
        domains.iter().map(|domain| file.mixture.get(&domain.name).copied()).collect();
    let sum: f64 = file.mixture.values().sum();
    if let Some(must) = no_whole(sum, !named.is_empty() && !named.contains(&None)) {
        let value = format!("a set of shares that sum to {}", sum_of_typed(sum));
        faults.add("mixture", value, must);
    }
    completed(&named, &tokens)
}
