//! What the host makes of a plugin's answer. A function of the state and the answer alone, so that an
//! audit comes to the same effects.

use crate::event::{Effect, FailurePolicy, Receipt, Role, StepRecorded};
use crate::id::BindingId;
use crate::plugin::{Action, Change, Outcome, Output};
use crate::rules::{self, Situation};
use crate::state::RunState;
use crate::step::Verdict;

/// What all active gates together ask for. What the host does not obey counts as no objection.
pub fn gate_verdict<'a>(
    state: &RunState,
    answers: impl IntoIterator<Item = (BindingId, &'a Output)>,
) -> Verdict {
    let active = |binding: &BindingId| {
        let binding = state.bindings.get(binding);
        binding.is_some_and(|binding| binding.facts.role == Role::Active)
    };
    answers
        .into_iter()
        .filter(|(binding, _)| active(binding))
        .filter_map(|(_, output)| match *output {
            Output::Verdict(verdict) if verdict.refusal().is_none() => Some(verdict),
            _ => None,
        })
        .fold(Verdict::Proceed, Verdict::and)
}

/// Effects of one answer: of a policy's, one per action; of a gate's, why it is not obeyed; of a
/// fault, what the failure policy says.
///
/// `state` is the state before the step's event; `recorded` is that event.
pub fn effects(state: &RunState, recorded: &StepRecorded, receipt: &Receipt) -> Vec<Effect> {
    let Receipt { outcome, output, .. } = receipt;
    let facts = &state.bindings[&receipt.binding].facts;
    if facts.role == Role::Shadow {
        return Vec::new();
    }
    if *outcome != Outcome::Ok {
        return match facts.failure {
            FailurePolicy::FallBack if facts.world == crate::plugin::World::Policy => {
                vec![mixture(state, recorded, &state.prior.shares(), false)]
            }
            _ => Vec::new(),
        };
    }
    match output {
        Output::Actions(actions) => {
            actions.iter().map(|action| effect(state, recorded, action)).collect()
        }
        Output::Verdict(verdict) => {
            verdict.refusal().map(|reason| Effect::Refused { reason }).into_iter().collect()
        }
        Output::Findings(_) | Output::Nothing => Vec::new(),
    }
}

fn effect(state: &RunState, recorded: &StepRecorded, action: &Action) -> Effect {
    match &action.change {
        Change::SetMixture(shares) => {
            let freeze_steps = state.spec.rules.freeze_steps;
            if recorded.step < freeze_steps {
                let reason = format!("mixtures are frozen for the first {freeze_steps} steps");
                return Effect::Refused { reason };
            }
            mixture(state, recorded, shares, true)
        }
        Change::SetLossWeights(weights) => {
            let count = state.spec.domains.len();
            let usable = |weight: &f64| weight.is_finite() && *weight >= 0.0;
            let some = weights.iter().any(|weight| *weight > 0.0);
            if weights.len() == count && some && weights.iter().all(usable) {
                Effect::LossWeights { weights: weights.clone() }
            } else {
                let reason =
                    format!("loss weights are {count} finite numbers, none negative and not all 0");
                Effect::Refused { reason }
            }
        }
        Change::Validate => Effect::Validate,
        Change::Note => Effect::Noted,
    }
}

fn mixture(state: &RunState, recorded: &StepRecorded, shares: &[f64], limited: bool) -> Effect {
    let drawn: u64 = recorded.draws.iter().map(|draw| u64::from(draw.sequences)).sum();
    let domain_tokens: Vec<u64> = state
        .domain_tokens
        .iter()
        .zip(&recorded.pre_step.losses)
        .map(|(&before, sums)| before + sums.tokens)
        .collect();
    let situation = Situation {
        spec: &state.spec,
        previous: Some(state.newest_mixture()),
        domain_tokens: &domain_tokens,
        tokens_left: state.tokens_left(recorded.step + 1, state.sequences + drawn),
        rate_limited: limited,
    };
    match rules::rule(shares, situation) {
        Ok(ruled) => Effect::Mixture {
            mixture: ruled.mixture,
            effective_step: (recorded.step + 1).saturating_add(state.spec.decision_lag),
            rules: ruled.rules,
        },
        Err(refused) => Effect::Refused { reason: refused.to_string() },
    }
}
