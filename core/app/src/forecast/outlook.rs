//! What a person should know of a run's data before it starts or goes on, when a hand turns its knobs
//! and when a limit acts: how often each domain will be read, and what the limits, the shares and the
//! held-out text leave out.

use hm_domain::command::Command;
use hm_domain::event::MixtureLimited;
use hm_domain::mixture::Mixture;
use hm_domain::rules::{Ruled, Situation, in_words, rule};
use hm_domain::settings::{key_of, number};
use hm_domain::spec::{DomainSpec, RunSpec};
use hm_domain::state::RunState;
use serde::Serialize;

use crate::run_file::resolve::some;

/// Epochs beyond which repeated data is worth markedly less than new data (Muennighoff and others,
/// arXiv 2305.16264, section 5: up to four are nearly as good).
const EPOCHS_WORTH_WHILE: f64 = 4.0;

/// Peaks of the learning rate above this are most likely a slip.
const PEAK_USUAL_MAX: f64 = 0.1;

/// What a run is to make of one domain, if its mixture stays.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct DomainOutlook {
    pub(crate) name: String,
    /// Share in the mixture.
    pub(crate) share: f64,
    /// Training tokens of one epoch.
    pub(crate) tokens: u64,
    /// Sequences that it gives to what is left of the run.
    pub(crate) sequences: f64,
    /// How often the run has read it at its end.
    pub(crate) epochs: f64,
    /// Sequences that each validation measures.
    pub(crate) validation_sequences: u64,
}

/// Every domain's part in a run's first mixture.
pub(crate) fn domains(spec: &RunSpec, first: &Mixture) -> Vec<DomainOutlook> {
    let none = vec![0; spec.domains.len()];
    parts(Situation::at_the_start(spec, &none), first)
}

/// Every domain's part in the rest of a run under `mixture`.
fn parts(situation: Situation<'_>, mixture: &Mixture) -> Vec<DomainOutlook> {
    let Situation { spec, domain_tokens, tokens_left, .. } = situation;
    let length = u64::from(spec.model.sequence_length.max(1));
    let outlook = |(index, domain): (usize, &DomainSpec)| {
        let share = mixture.share(index);
        let tokens = share * tokens_left as f64;
        let held_out = domain.validation.as_ref().map_or(0, |segment| segment.tokens);
        DomainOutlook {
            name: domain.name.clone(),
            share,
            tokens: domain.tokens(),
            sequences: tokens / length as f64,
            epochs: (domain_tokens[index] as f64 + tokens) / domain.tokens().max(1) as f64,
            // The last token of a sequence is only predicted.
            validation_sequences: (held_out.saturating_sub(1) / length)
                .min(spec.validation.sequences_per_domain.into()),
        }
    };
    spec.domains.iter().enumerate().map(outlook).collect()
}

/// Sentences about what a person may not expect of a run that starts.
pub(crate) fn remarks(spec: &RunSpec, first: &Ruled) -> Vec<String> {
    let asked: Vec<f64> = spec.domains.iter().map(|domain| domain.prior).collect();
    let none = vec![0; spec.domains.len()];
    let situation = Situation::at_the_start(spec, &none);
    let mut remarks: Vec<String> =
        changed("limits change the first mixture", spec, &asked, first).into_iter().collect();
    remarks.extend(ahead(situation, &first.mixture));
    remarks.extend(unvalidated(situation, &first.mixture));
    let peak = spec.schedule.peak;
    if peak > PEAK_USUAL_MAX {
        remarks.push(format!(
            "training.learning_rate {} is far above what AdamW usually bears, 1e-4 to 1e-2: the loss may not \
             fall",
            number(peak)
        ));
    }
    remarks
}

/// The same of one that goes on.
pub(crate) fn resumed(state: &RunState) -> Vec<String> {
    let situation = Situation::of_next_step(state);
    let mut remarks = ahead(situation, &state.mixture);
    remarks.extend(unvalidated(situation, &state.mixture));
    remarks
}

/// The same of one in which `command` has just been obeyed, as far as it bears on the data.
pub(crate) fn turned(state: &RunState, command: &Command) -> Vec<String> {
    let situation = Situation::of_next_step(state);
    let mut remarks = Vec::new();
    match command {
        Command::SetMixture { shares, .. } => {
            let what = "limits change the mixture that was asked for";
            let ruled = rule(shares, situation).ok();
            remarks.extend(ruled.and_then(|ruled| changed(what, &state.spec, shares, &ruled)));
        }
        Command::SetBatchSize { .. } => {}
        _ => return remarks,
    }
    remarks.extend(ahead(situation, &state.mixture));
    remarks
}

/// What a limit that acts in mid-run makes of `before`.
pub(crate) fn limited(spec: &RunSpec, before: &Mixture, limited: &MixtureLimited) -> String {
    let MixtureLimited { step, mixture, rules } = limited.clone();
    let what = format!("step {step}: limits act on the mixture");
    changed(&what, spec, &before.shares(), &Ruled { mixture, rules }).unwrap_or(what)
}

/// What rules make of the shares before, on any scale, and which; nothing where none did.
fn changed(what: &str, spec: &RunSpec, before: &[f64], after: &Ruled) -> Option<String> {
    let Ruled { mixture, rules } = after;
    if rules.is_empty() {
        return None;
    }
    let sum: f64 = before.iter().sum();
    let moved: Vec<String> = spec
        .domains
        .iter()
        .enumerate()
        .map(|(index, domain)| (&domain.name, before[index] / sum, mixture.share(index)))
        .filter(|(_, before, after)| (before - after).abs() > 1e-6)
        .map(|(name, before, after)| format!("{name} {before:.4} to {after:.4}"))
        .collect();
    let moved = match &moved.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => "no share moves".to_owned(),
        moved => some(moved),
    };
    Some(format!("{what}: {moved}; {}", rules_in_words(rules)))
}

/// Names of rules as a sentence.
pub(crate) fn rules_in_words(rules: &[String]) -> String {
    rules.iter().map(|rule| in_words(rule)).collect::<Vec<_>>().join(", and ")
}

/// What the rest of the run makes of its domains, where that may not be expected.
fn ahead(situation: Situation<'_>, mixture: &Mixture) -> Vec<String> {
    let spec = situation.spec;
    if situation.tokens_left == 0 {
        return Vec::new();
    }
    let domains = parts(situation, mixture);
    let all = situation.tokens_left / u64::from(spec.model.sequence_length.max(1));
    let is_bounded = |name: &str| {
        spec.domains.iter().any(|domain| domain.name == name && domain.max_epochs.is_some())
    };
    let never = told(
        "will never be drawn while the mixture stays, since nothing is left for it",
        &domains,
        |domain| (domain.share == 0.0).then(|| domain.name.clone()),
    );
    let hardly = told(
        &format!("may never be drawn, at less than one of the {all} sequences to come"),
        &domains,
        |domain| {
            let little = domain.share > 0.0 && domain.sequences < 1.0;
            little.then(|| format!("{} ({:.3})", domain.name, domain.sequences))
        },
    );
    // Whoever has set a bound knows it.
    let often =
        |domain: &&DomainOutlook| domain.epochs > EPOCHS_WORTH_WHILE && !is_bounded(&domain.name);
    let key = domains.iter().find(often).map(|domain| key_of("limits", &domain.name));
    let many = told(
        &format!("will be read many times; {}.max_epochs bounds that", key.unwrap_or_default()),
        &domains,
        |domain| often(&domain).then(|| format!("{} ({:.1} times)", domain.name, domain.epochs)),
    );
    [never, hardly, many].into_iter().flatten().collect()
}

fn unvalidated(situation: Situation<'_>, mixture: &Mixture) -> Option<String> {
    if situation.spec.domains.iter().all(|domain| domain.validation.is_none()) {
        return Some(
            "nothing is held out, so no validation has a loss: set data.validation: { fraction: 0.02 }, or \
             name files with `split: validation`"
                .to_owned(),
        );
    }
    let length = situation.spec.model.sequence_length;
    told(
        &format!(
            "will not be validated, with less held-out text than one sequence of {length} tokens: raise data.validation.fraction, or name more files with `split: validation`"
        ),
        &parts(situation, mixture),
        |domain| (domain.validation_sequences == 0).then(|| domain.name.clone()),
    )
}

/// A sentence about the domains of which there is something to tell.
fn told(
    what: &str,
    domains: &[DomainOutlook],
    which: impl Fn(&DomainOutlook) -> Option<String>,
) -> Option<String> {
    let found: Vec<String> = domains.iter().filter_map(which).collect();
    let found: Vec<&str> = found.iter().map(String::as_str).collect();
    (!found.is_empty()).then(|| format!("{what}: {}", some(&found)))
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

#[cfg(test)]
mod tests;
