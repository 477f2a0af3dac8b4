//! Whether a state can be gone on from at all. One that a fold has made can; bytes that somebody else wrote
//! may hold any, and what counts on from that would lose its way.

use crate::catalogue::is_per_layer;
use crate::ending::NonFinite;
use crate::mixture::{Mixture, WEIGHT_TOTAL};
use crate::observe::Seen;
use crate::plugin::OBSERVATIONS_MAX;
use crate::ramp::check_sequences;
use crate::spec::STEPS_MAX;
use crate::state::{Binding, RunState};

/// Tokens of which no count comes near the end of its type: a million steps' worth of the largest batch
/// of the longest sequences. No other count is larger.
pub(crate) const TOKENS_MAX: u64 = 1 << 60;

/// What the counts of 32 bits stay below: of attempts, and of steps that are alike.
const ALIKE_MAX: u32 = 1 << 30;

/// What a state must have that this one has not.
pub(crate) fn wrong(state: &RunState) -> Option<String> {
    let domains = state.spec.domains.len();
    let lengths = [
        ("cursors", state.cursors.len()),
        ("carried errors", state.carries.len()),
        ("tokens", state.domain_tokens.len()),
        ("loss weights", state.loss_weights.len()),
    ];
    let pending = state.pending.iter().map(|(_, mixture)| mixture);
    let mut mixtures = pending.chain([&state.mixture, &state.prior]);
    lengths
        .into_iter()
        .find_map(|(what, found)| one_each(domains, what, found))
        .or_else(|| state.carries.iter().find_map(|carry| bad_carry(domains, *carry)))
        .or_else(|| mixtures.find_map(|mixture| bad_mixture(domains, mixture)))
        .or_else(|| bad_counts(state))
        .or_else(|| state.overrides.sequences_per_step.and_then(bad_batch))
        .or_else(|| state.bindings.values().find_map(bad_binding))
        .or_else(|| bad_memory(domains, state))
}

/// Counts that the next step could not be added to.
fn bad_counts(state: &RunState) -> Option<String> {
    let NonFinite { steps, in_a_row, counted, .. } = state.non_finite;
    let drawn = state.domain_tokens.iter().fold(state.tokens, |sum, one| sum.saturating_add(*one));
    let counts = [drawn, state.sequences, state.updates, state.next_seq, steps, in_a_row];
    let alike = [state.attempt, counted, state.loss_scale.good_steps];
    let holds = state.next_step <= STEPS_MAX
        && counts.iter().all(|count| *count <= TOKENS_MAX)
        && alike.iter().all(|count| *count <= ALIKE_MAX);
    (!holds).then(|| format!("a past of at most {STEPS_MAX} steps and {TOKENS_MAX} tokens"))
}

fn bad_batch(sequences: u32) -> Option<String> {
    let drawable = check_sequences(sequences);
    drawable.err().map(|_| format!("a batch that can be drawn, not of {sequences} sequences"))
}

fn bad_binding(binding: &Binding) -> Option<String> {
    let Binding { calls, unseen, seen_seq, .. } = *binding;
    let holds = [calls, unseen, seen_seq].iter().all(|count| *count <= TOKENS_MAX);
    let id = binding.facts.binding;
    (!holds).then(|| format!("counts of at most {TOKENS_MAX} of binding {id}"))
}

/// What the plugins have not seen yet.
fn bad_memory(domains: usize, state: &RunState) -> Option<String> {
    let kept = state.seen.len();
    let too_many = kept > OBSERVATIONS_MAX;
    too_many
        .then(|| format!("at most {OBSERVATIONS_MAX} observations, not {kept}"))
        .or_else(|| state.seen.iter().find_map(|seen| bad_observation(domains, seen)))
}

fn bad_observation(domains: usize, seen: &Seen) -> Option<String> {
    let mut columns = seen.full.columns.iter().filter(|column| !is_per_layer(&column.name));
    one_each(domains, "observed shares", seen.full.shares.len()).or_else(|| {
        columns.find_map(|column| one_each(domains, "observed values", column.values.len()))
    })
}

pub(crate) fn one_each(domains: usize, what: &str, found: usize) -> Option<String> {
    (found != domains).then(|| format!("{what} of {domains} domains, not {found}"))
}

/// In units of a sequence's share. A domain is owed fewer sequences than there are domains.
pub(crate) fn bad_carry(domains: usize, carry: i64) -> Option<String> {
    let most = WEIGHT_TOTAL.saturating_mul(16 * domains as u64);
    (carry.unsigned_abs() > most).then(|| "a carried error of a few sequences".to_owned())
}

/// Weights that no draw can be made by, or a version that cannot be counted on from.
pub(crate) fn bad_mixture(domains: usize, mixture: &Mixture) -> Option<String> {
    one_each(domains, "weights", mixture.weights.len()).or_else(|| {
        let sum = mixture.weights.iter().fold(0, |sum: u64, weight| sum.saturating_add(*weight));
        let holds = sum == WEIGHT_TOTAL && mixture.version < TOKENS_MAX;
        (!holds).then(|| format!("weights that sum to {WEIGHT_TOTAL}, and a version"))
    })
}
