//! Whether an event can be folded at all. A log that nobody has touched holds no other; one that
//! somebody has written may, and an audit names the event where a fold would lose its way.

use crate::event::*;
use crate::mixture::{Mixture, WEIGHT_TOTAL};
use crate::ramp::check_sequences;
use crate::spec::{RunSpec, STEPS_MAX, SegmentSpec};
use crate::state::RunState;

/// Tokens of which no count comes near the end of its type: a million steps' worth of the largest batch
/// of the longest sequences.
const TOKENS_MAX: u64 = 1 << 60;

/// What is wrong with the state that a first event makes.
pub(super) fn wrong_start(state: &RunState) -> Option<String> {
    let RunSpec { model, domains, .. } = &state.spec;
    if let Err(faults) = model.checked() {
        return Some(faults.to_string());
    }
    if domains.is_empty() {
        return Some("a run of some domains".to_owned());
    }
    let counts: [fn(&SegmentSpec) -> u64; 3] =
        [|segment| segment.tokens, |segment| segment.documents, |segment| segment.bytes];
    let all = |count: fn(&SegmentSpec) -> u64| {
        let segments = domains.iter().flat_map(|domain| &domain.segments);
        segments.map(count).fold(0, u64::saturating_add)
    };
    let count = domains.len();
    let lengths = [state.cursors.len(), state.carries.len(), state.loss_weights.len()];
    if lengths.into_iter().any(|length| length != count) || state.domain_tokens.len() != count {
        return Some(format!("a state of {count} domains"));
    }
    let mixtures = state.pending.iter().map(|(_, mixture)| mixture).chain([&state.mixture]);
    if let Some(wrong) = mixtures.filter_map(|mixture| bad_mixture(count, mixture)).next() {
        return Some(wrong);
    }
    let countable = counts.into_iter().all(|count| all(count) <= TOKENS_MAX);
    (!countable)
        .then(|| format!("data of at most {TOKENS_MAX} tokens"))
        .or_else(|| bad_mixture(domains.len(), &state.prior))
        .or_else(|| bad_past(state))
}

/// What is wrong with what a fork goes on from.
fn bad_past(state: &RunState) -> Option<String> {
    let domains = state.spec.domains.len();
    let drawn = state.domain_tokens.iter().fold(state.tokens, |sum, one| sum.saturating_add(*one));
    let counted = [drawn, state.sequences, state.updates, state.non_finite.steps];
    if counted.iter().any(|count| *count > TOKENS_MAX) || state.next_step > STEPS_MAX {
        return Some(format!("a past of at most {STEPS_MAX} steps and {TOKENS_MAX} tokens"));
    }
    let mixtures = std::iter::once(&state.mixture).chain(state.pending.iter().map(|(_, it)| it));
    one_each(domains, "cursors", state.cursors.len())
        .or_else(|| one_each(domains, "carried errors", state.carries.len()))
        .or_else(|| one_each(domains, "tokens", state.domain_tokens.len()))
        .or_else(|| one_each(domains, "loss weights", state.loss_weights.len()))
        .or_else(|| state.carries.iter().find_map(|carry| bad_carry(domains, *carry)))
        .or_else(|| mixtures.into_iter().find_map(|mixture| bad_mixture(domains, mixture)))
}

/// In units of a sequence's share. A domain is owed fewer sequences than there are domains.
fn bad_carry(domains: usize, carry: i64) -> Option<String> {
    let most = WEIGHT_TOTAL.saturating_mul(16 * domains as u64);
    (carry.unsigned_abs() > most).then(|| "a carried error of a few sequences".to_owned())
}

/// What is wrong with an event that follows upon `state`.
pub(super) fn wrong(state: &RunState, event: &Event) -> Option<String> {
    let domains = state.spec.domains.len();
    if event.step().is_some_and(|step| step > STEPS_MAX) {
        return Some(format!("a step of at most {STEPS_MAX}"));
    }
    match event {
        Event::StepRecorded(step) => bad_step(state, step),
        Event::ValidationRecorded(validation) => {
            one_each(domains, "losses", validation.losses.len()).or_else(|| {
                let counts = validation.losses.iter().map(|sums| sums.tokens);
                let all = counts.fold(0, u64::saturating_add);
                (all > TOKENS_MAX).then(|| format!("at most {TOKENS_MAX} tokens"))
            })
        }
        Event::MixtureSet(set) => bad_mixture(domains, &set.mixture),
        Event::MixtureLimited(limited) => bad_mixture(domains, &limited.mixture),
        Event::BatchSizeSet(set) => check_sequences(set.sequences).err(),
        Event::RunStarted(_) => Some("a run that starts once".to_owned()),
        Event::PluginInstalled(_) => Some("an event of a run".to_owned()),
        _ => None,
    }
}

fn bad_step(state: &RunState, step: &StepRecorded) -> Option<String> {
    let domains = state.spec.domains.len();
    let losses = &step.pre_step.losses;
    one_each(domains, "draws", step.draws.len())
        .or_else(|| one_each(domains, "losses", losses.len()))
        .or_else(|| {
            let counts = losses.iter().map(|sums| sums.tokens);
            let drawn: u64 =
                state.domain_tokens.iter().fold(0, |sum, one| sum.saturating_add(*one));
            let all = counts.fold(drawn, u64::saturating_add).max(step.tokens);
            (all > TOKENS_MAX).then(|| format!("at most {TOKENS_MAX} tokens"))
        })
        .or_else(|| step.draws.iter().find_map(|draw| bad_carry(domains, draw.carry)))
        .or_else(|| step.receipts.iter().find_map(|receipt| bad_receipt(state, receipt)))
}

fn bad_receipt(state: &RunState, receipt: &Receipt) -> Option<String> {
    let domains = state.spec.domains.len();
    if !state.bindings.contains_key(&receipt.binding) {
        return Some(format!("a binding that there is, not {}", receipt.binding));
    }
    receipt.effects.iter().find_map(|effect| match effect {
        Effect::Mixture { mixture, .. } => bad_mixture(domains, mixture),
        Effect::LossWeights { weights } => one_each(domains, "loss weights", weights.len()),
        Effect::Validate | Effect::Noted | Effect::Refused { .. } => None,
    })
}

fn one_each(domains: usize, what: &str, found: usize) -> Option<String> {
    (found != domains).then(|| format!("{what} of {domains} domains, not {found}"))
}

/// Weights that no draw can be made by, or a version that cannot be counted on from.
fn bad_mixture(domains: usize, mixture: &Mixture) -> Option<String> {
    one_each(domains, "weights", mixture.weights.len()).or_else(|| {
        let sum = mixture.weights.iter().fold(0, |sum: u64, weight| sum.saturating_add(*weight));
        let holds = sum == WEIGHT_TOTAL && mixture.version < 1 << 60;
        (!holds).then(|| format!("weights that sum to {WEIGHT_TOTAL}, and a version"))
    })
}
