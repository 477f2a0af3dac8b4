//! Floors, caps and epoch caps bind whoever made the mixture: the first one at once, the one in force
//! as the run reads its domains. What they do to a wish is in `rules`; this says when they act by
//! themselves, and what a person is told of them beforehand.

use crate::event::MixtureLimited;
use crate::mixture::NotAMixture;
use crate::rules::{self, Ruled, Situation, tokens_left_of};
use crate::spec::RunSpec;
use crate::state::RunState;

/// The mixture that a run starts with: the shares that its spec asks for, within the limits.
///
/// # Errors
/// When those are no shares.
pub fn first_mixture(spec: &RunSpec) -> Result<Ruled, NotAMixture> {
    let shares: Vec<f64> = spec.domains.iter().map(|domain| domain.prior).collect();
    let situation = Situation {
        spec,
        previous: None,
        domain_tokens: &vec![0; spec.domains.len()],
        tokens_left: spec.tokens_of(spec.training.sequences_of_run()),
        rate_limited: false,
    };
    rules::rule(&shares, situation)
}

/// What must take the place of the mixture in force before the next step, where that step is due to
/// read a domain more often than it may be. Since only whole sequences are drawn, a domain may still
/// pass its limit by what one step draws.
pub(crate) fn held(state: &RunState) -> Option<MixtureLimited> {
    let step_tokens = state.spec.tokens_of(state.next_sequences().into()) as f64;
    let domains = state.spec.domains.iter().zip(&state.domain_tokens).enumerate();
    let mut runs_out = domains.filter(|(index, (domain, served))| {
        let share = state.mixture.share(*index);
        domain.max_epochs.is_some_and(|max_epochs| {
            share > 0.0 && tokens_left_of(domain, max_epochs, **served) < share * step_tokens
        })
    });
    runs_out.next()?;
    let situation = Situation::of_next_step(state);
    let Ruled { mixture, rules } = rules::rule(&state.mixture.shares(), situation).ok()?;
    // Where no domain may give any more, the limits leave no mixture, and the one in force stays.
    let without_room = rules.iter().any(|rule| rule == rules::CAPS_RELAXED);
    let unchanged = mixture.weights == state.mixture.weights;
    (!without_room && !unchanged).then_some(MixtureLimited {
        step: state.next_step,
        mixture,
        rules,
    })
}
