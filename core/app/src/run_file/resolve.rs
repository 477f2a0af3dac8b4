//! What a run file means, given what was prepared: the resolved spec and the first mixture.

use anyhow::{Result, bail};
use hm_data::{Estimate, Manifest};
use hm_domain::id::Digest;
use hm_domain::limits::first_mixture;
use hm_domain::rules::Ruled;
use hm_domain::settings::{Faults, bad_name, key_of, shown, sum_of_typed};
use hm_domain::shares::{completed, no_whole};
use hm_domain::spec::*;

use crate::run_file::RunFile;

/// What is known of the data: all of it when it is prepared, what a run was begun with, or an estimate.
pub(crate) struct Known {
    vocabulary: u32,
    tokenizer: Digest,
    domains: Vec<DomainSpec>,
    /// Whether there are no other domains.
    has_all_domains: bool,
    /// Whether amounts are counted.
    is_counted: bool,
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
            has_all_domains: true,
            is_counted: true,
        }
    }
}

impl From<&Estimate> for Known {
    fn from(estimate: &Estimate) -> Known {
        let Estimate { manifest, is_prepared, all_domains_known } = estimate;
        let (has_all_domains, is_counted) = (*all_domains_known, *is_prepared);
        Known { has_all_domains, is_counted, ..Known::from(manifest) }
    }
}

impl From<&RunSpec> for Known {
    fn from(spec: &RunSpec) -> Known {
        let (vocabulary, tokenizer) = (spec.model.vocabulary, spec.tokenizer);
        let domains = spec.domains.clone();
        Known { vocabulary, tokenizer, domains, has_all_domains: true, is_counted: true }
    }
}

impl Known {
    /// The domains, and those that the file names and that may yet be met.
    fn domains_with(&self, file: &RunFile) -> Vec<DomainSpec> {
        let mut domains = self.domains.clone();
        if self.has_all_domains {
            return domains;
        }
        let mut named: Vec<&String> = file.mixture.keys().chain(file.limits.keys()).collect();
        named.sort();
        named.dedup();
        named.retain(|name| domains.iter().all(|domain| domain.name != **name));
        let Limits { floor, cap, max_epochs } = Limits::default();
        domains.extend(named.into_iter().map(|name| DomainSpec {
            name: name.clone(),
            prior: 0.0,
            floor,
            cap,
            max_epochs,
            segments: Vec::new(),
            validation: None,
        }));
        domains
    }

    /// Holds limits against the domains, as far as those are known.
    fn check_limits(&self, spec: &RunSpec, faults: &mut Faults) {
        let mut domains = spec.domains.clone();
        for domain in &mut domains {
            if !self.is_counted {
                domain.max_epochs = None;
            }
            if !self.has_all_domains {
                domain.cap = 1.0;
            }
        }
        check_domains(&domains, spec.tokens_of(spec.training.sequences_of_run()), faults);
    }
}

/// What will be refused when the data is counted, if it is as it was estimated.
pub(crate) fn likely_faults(spec: &RunSpec) -> Faults {
    let mut faults = Faults::default();
    check_domains(&spec.domains, spec.tokens_of(spec.training.sequences_of_run()), &mut faults);
    faults
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
    let found = known.domains_with(file);
    let names: Vec<&str> = found.iter().map(|domain| domain.name.as_str()).collect();
    for name in &names {
        if let Some(must) = bad_name(name) {
            faults.add("the name of a domain", shown(name), must);
        }
    }
    check_keys(file, &names, &mut faults);
    let shares = prior(file, &found, known.has_all_domains, &mut faults);
    let spec = RunSpec {
        name: file.name.clone(),
        seed: file.seed,
        model,
        training: file.training.training_spec(),
        optimizer: file.optimizer.clone(),
        schedule: file.training.schedule(),
        domains: domains(file, &found, &shares),
        tokenizer: known.tokenizer,
        rules: file.rules_spec(),
        validation: file.validation.clone(),
        checkpoint: file.checkpoint.clone(),
        decision_lag: file.decision_lag,
        initial_weights,
        plugins: plugins.to_vec(),
    };
    spec.schedule.check(Some(spec.schedule_end()), &mut faults);
    known.check_limits(&spec, &mut faults);
    faults.into_result()?;
    let first = first_mixture(&spec)?;
    Ok((spec, first))
}

fn domains(file: &RunFile, found: &[DomainSpec], shares: &[f64]) -> Vec<DomainSpec> {
    let domain = |(domain, &prior): (&DomainSpec, &f64)| {
        let Limits { floor, cap, max_epochs } =
            file.limits.get(&domain.name).copied().unwrap_or_default();
        DomainSpec { prior, floor, cap, max_epochs, ..domain.clone() }
    };
    found.iter().zip(shares).map(domain).collect()
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
fn prior(file: &RunFile, domains: &[DomainSpec], are_all: bool, faults: &mut Faults) -> Vec<f64> {
    let tokens: Vec<f64> = domains.iter().map(|domain| domain.tokens() as f64).collect();
    let named: Vec<Option<f64>> =
        domains.iter().map(|domain| file.mixture.get(&domain.name).copied()).collect();
    let sum: f64 = file.mixture.values().sum();
    if let Some(must) = no_whole(sum, are_all && !named.is_empty() && !named.contains(&None)) {
        let value = format!("a set of shares that sum to {}", sum_of_typed(sum));
        faults.add("mixture", value, must);
    }
    completed(&named, &tokens)
}
