//! What a person should know of a run's data before it starts, and when a limit acts: how often each
//! domain will be read, and what the limits, the shares and the held-out text leave out.

use hm_domain::event::MixtureLimited;
use hm_domain::mixture::Mixture;
use hm_domain::rules::Ruled;
use hm_domain::spec::{DomainSpec, RunSpec};
use serde::Serialize;

use crate::resolve::some;

/// Epochs beyond which repeated data is worth markedly less than new data (Muennighoff and others,
/// arXiv 2305.16264, section 5: up to four are nearly as good).
const EPOCHS_WORTH_WHILE: f64 = 4.0;

/// What a run is to make of one domain, if its first mixture stays.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct DomainOutlook {
    pub(crate) name: String,
    /// Share in the first mixture.
    pub(crate) share: f64,
    /// Training tokens of one epoch.
    pub(crate) tokens: u64,
    /// Sequences that it gives to the whole run.
    pub(crate) sequences: f64,
    /// How often the run reads it.
    pub(crate) epochs: f64,
    /// Sequences that each validation measures.
    pub(crate) validation_sequences: u64,
}

/// Every domain's part in the run under `mixture`.
pub(crate) fn domains(spec: &RunSpec, mixture: &Mixture) -> Vec<DomainOutlook> {
    let sequences_of_run = spec.training.sequences_of_run() as f64;
    let length = u64::from(spec.model.sequence_length.max(1));
    let outlook = |(index, domain): (usize, &DomainSpec)| {
        let share = mixture.share(index);
        let sequences = share * sequences_of_run;
        let held_out = domain.validation.as_ref().map_or(0, |segment| segment.tokens);
        DomainOutlook {
            name: domain.name.clone(),
            share,
            tokens: domain.tokens(),
            sequences,
            epochs: sequences * length as f64 / domain.tokens().max(1) as f64,
            // The last token of a sequence is only predicted.
            validation_sequences: (held_out.saturating_sub(1) / length)
                .min(spec.validation.sequences_per_domain.into()),
        }
    };
    spec.domains.iter().enumerate().map(outlook).collect()
}

/// Sentences about what a person may not expect.
pub(crate) fn remarks(spec: &RunSpec, first: &Ruled) -> Vec<String> {
    let domains = domains(spec, &first.mixture);
    let mut remarks: Vec<String> = bitten(spec, first).into_iter().collect();
    let mut tell = |what: &str, which: &dyn Fn(&DomainOutlook) -> Option<String>| {
        let found: Vec<String> = domains.iter().filter_map(which).collect();
        if !found.is_empty() {
            let found: Vec<&str> = found.iter().map(String::as_str).collect();
            remarks.push(format!("{what}: {}", some(&found)));
        }
    };
    let all = spec.training.sequences_of_run();
    tell("will never be drawn while the mixture stays, since nothing is left for it", &|domain| {
        (domain.share == 0.0).then(|| domain.name.clone())
    });
    tell(
        &format!("may never be drawn, at less than one of the run's {all} sequences"),
        &|domain| {
            let little = domain.share > 0.0 && domain.sequences < 1.0;
            little.then(|| format!("{} ({:.3})", domain.name, domain.sequences))
        },
    );
    tell("will be read many times; limits.DOMAIN.max_epochs bounds that", &|domain| {
        let often = domain.epochs > EPOCHS_WORTH_WHILE;
        often.then(|| format!("{} ({:.1} times)", domain.name, domain.epochs))
    });
    let length = spec.model.sequence_length;
    tell(
        &format!(
            "will not be validated, with less held-out text than one sequence of {length} tokens: raise data.validation.fraction, or name more files with `split: validation`"
        ),
        &|domain| (domain.validation_sequences == 0).then(|| domain.name.clone()),
    );
    remarks
}

/// What the limits make of the shares that were asked for.
fn bitten(spec: &RunSpec, first: &Ruled) -> Option<String> {
    if first.rules.is_empty() {
        return None;
    }
    let asked: f64 = spec.domains.iter().map(|domain| domain.prior).sum();
    let changed: Vec<String> = spec
        .domains
        .iter()
        .enumerate()
        .map(|(index, domain)| (domain, domain.prior / asked, first.mixture.share(index)))
        .filter(|(_, asked, given)| (asked - given).abs() > 1e-6)
        .map(|(domain, asked, given)| format!("{} {asked:.4} to {given:.4}", domain.name))
        .collect();
    let changed: Vec<&str> = changed.iter().map(String::as_str).collect();
    let rules = first.rules.join(", ");
    Some(format!("limits change the first mixture ({rules}): {}", some(&changed)))
}

/// What a limit that acts in mid-run takes from `before`.
pub(crate) fn limited(spec: &RunSpec, before: &Mixture, limited: &MixtureLimited) -> String {
    let lost: Vec<String> = (0..spec.domains.len())
        .map(|index| (index, before.share(index), limited.mixture.share(index)))
        .filter(|(_, before, after)| after < before)
        .map(|(index, before, after)| {
            format!("{} from {before:.4} to {after:.4}", spec.domains[index].name)
        })
        .collect();
    let lost: Vec<&str> = lost.iter().map(String::as_str).collect();
    let step = limited.step;
    format!(
        "step {step}: read as often as max_epochs lets it be, so its share goes down: {}",
        some(&lost)
    )
}

/// A table of domains, and the remarks under it, on standard error.
pub(crate) fn print(domains: &[DomainOutlook], remarks: &[String]) {
    eprintln!("domains, if the first mixture stays:");
    for domain in domains {
        eprintln!(
            "  {:20} share {:.4}  {:>10} tokens  read {:.2} times  {} sequences a validation",
            domain.name, domain.share, domain.tokens, domain.epochs, domain.validation_sequences
        );
    }
    for remark in remarks {
        eprintln!("{remark}");
    }
}
