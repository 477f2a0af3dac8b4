//! Whether an event can be folded at all. A log that nobody has touched holds no other; one that
//! somebody has written may, and an audit names the event where a fold would lose its way.

use crate::event::*;
use crate::ramp::check_sequences;
use crate::spec::{RunSpec, STEPS_MAX, SegmentSpec};
use crate::state::RunState;
use crate::whole::{self, TOKENS_MAX, bad_carry, bad_mixture, one_each};

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
    let countable = counts.into_iter().all(|count| all(count) <= TOKENS_MAX);
    (!countable)
        .then(|| format!("data of at most {TOKENS_MAX} tokens"))
        .or_else(|| whole::wrong(state))
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
