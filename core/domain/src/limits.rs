//! Floors, caps and epoch caps bind whoever made the mixture: the first one at once, the one in force
//! as the run reads its domains, a batch before it is set. What they do to a wish is in `rules`; this
//! says whether they hold a mixture at all, and when they act by themselves.

use crate::event::MixtureLimited;
use crate::mixture::NotAMixture;
use crate::ramp::SEQUENCES_PER_STEP_MAX;
use crate::rules::{self, Ruled, Situation, whole_sequences};
use crate::settings::{key_of, number};
use crate::spec::{DomainSpec, RunSpec};
use crate::state::RunState;

/// Why limits hold no mixture over the tokens that are to be drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shortage {
    /// All floors together are more than a whole.
    Floors {
        /// What they are.
        sum: f64,
    },
    /// A floor takes more of its domain than its epochs let it give.
    Floor {
        /// Which domain's.
        domain: usize,
        /// Tokens that it takes.
        takes: f64,
    },
    /// All domains together do not give what is drawn.
    Whole {
        /// Tokens that they give.
        gives: f64,
    },
}

/// Whether the limits of `domains`, of which `served` tokens are drawn, hold a mixture for `tokens`
/// more: why not, if not. Settings, wishes that draw more, and the rules ask here. A shortage of `slack`
/// tokens is none.
pub fn shortages(domains: &[DomainSpec], served: &[u64], tokens: u64, slack: f64) -> Vec<Shortage> {
    let mut found = Vec::new();
    let tokens = tokens.max(1) as f64;
    // As many roundings as there are domains.
    let rounding = domains.len() as f64 * f64::EPSILON;
    let slack = slack + tokens * rounding;
    let sum: f64 = domains.iter().map(|domain| domain.floor).sum();
    if sum > 1.0 + rounding {
        found.push(Shortage::Floors { sum });
    }
    let mut whole = 0.0;
    for (index, (domain, &served)) in domains.iter().zip(served).enumerate() {
        let (gives, takes) = (domain.gives(served), domain.floor * tokens);
        if takes > gives + slack {
            found.push(Shortage::Floor { domain: index, takes });
        }
        whole += gives.min(domain.cap * tokens);
    }
    if whole + slack < tokens {
        found.push(Shortage::Whole { gives: whole });
    }
    found
}

/// Key and value of every limit that keeps its domain from giving all of `tokens`.
pub(crate) fn binding(domains: &[DomainSpec], served: &[u64], tokens: u64) -> Vec<(String, f64)> {
    let tokens = tokens.max(1) as f64;
    let bound = |(domain, &served): (&DomainSpec, &u64)| match domain.max_epochs {
        Some(max_epochs) if domain.gives(served) < domain.cap * tokens => {
            Some((key(domain, "max_epochs"), max_epochs))
        }
        _ => (domain.cap < 1.0).then(|| (key(domain, "cap"), domain.cap)),
    };
    domains.iter().zip(served).filter_map(bound).collect()
}

/// Key of a domain's limit in a run file.
pub(crate) fn key(domain: &DomainSpec, limit: &str) -> String {
    format!("{}.{limit}", key_of("limits", &domain.name))
}

/// The mixture that a run starts with: the shares that its spec asks for, within the limits.
///
/// # Errors
/// When those are no shares.
pub fn first_mixture(spec: &RunSpec) -> Result<Ruled, NotAMixture> {
    let shares: Vec<f64> = spec.domains.iter().map(|domain| domain.prior).collect();
    rules::rule(&shares, Situation::at_the_start(spec, &vec![0; spec.domains.len()]))
}

/// Whether the limits hold a mixture for as many sequences a step from the next on: a smaller draw
/// always may be, a larger one must leave every limit kept to the end of the run.
pub(crate) fn check_batch(state: &RunState, sequences: u32) -> Result<(), String> {
    let short = |sequences: u32| {
        let tokens = state.tokens_left_at(sequences);
        let found = shortages(
            &state.spec.domains,
            &state.domain_tokens,
            tokens,
            whole_sequences(&state.spec),
        );
        found.into_iter().next()
    };
    let wanted = state.tokens_left_at(sequences);
    let is_less = wanted <= state.tokens_left(state.next_step, state.sequences);
    let Some(shortage) = short(sequences).filter(|_| !is_less) else { return Ok(()) };
    // The more is drawn, the less the limits hold it.
    let (mut most, mut too_many) = (0, sequences.min(SEQUENCES_PER_STEP_MAX));
    while too_many - most > 1 {
        let middle = most + (too_many - most) / 2;
        if short(middle).is_none() { most = middle } else { too_many = middle }
    }
    let (domains, served) = (&state.spec.domains, &state.domain_tokens);
    let why = match shortage {
        Shortage::Floor { domain, takes } => format!(
            "{} {} takes {takes:.0} of them, and {} {} leaves it {:.0}",
            key(&domains[domain], "floor"),
            domains[domain].floor,
            key(&domains[domain], "max_epochs"),
            number(domains[domain].max_epochs.unwrap_or_default()),
            domains[domain].gives(served[domain]),
        ),
        Shortage::Floors { sum } => format!("floors take {} times as many", number(sum)),
        Shortage::Whole { gives } => {
            let binding = binding(domains, served, wanted).into_iter();
            let binding: Vec<String> =
                binding.map(|(key, value)| format!("{key} {}", number(value))).collect();
            format!("the domains give {gives:.0} of them within {}", binding.join(", "))
        }
    };
    let remedy = match most {
        0 => "no batch is small enough".to_owned(),
        most => format!("at most {most} sequences last to the end"),
    };
    Err(format!(
        "a batch of {sequences} sequences draws {wanted} tokens in the steps that are left, and {why}: \
         {remedy}"
    ))
}

/// What must take the place of the mixture in force before the next step, where under it a domain
/// would be read more often than it may be. Where limits leave no mixture they give way, and that is
/// said once; until a person sets another mixture or batch.
pub(crate) fn held(state: &RunState) -> Option<MixtureLimited> {
    if state.limits_gave_way || !is_overdrawn(state) {
        return None;
    }
    let situation = Situation::of_next_step(state);
    let Ruled { mixture, rules } = rules::rule(&state.mixture.shares(), situation).ok()?;
    let moves = mixture.weights != state.mixture.weights;
    let step = state.next_step;
    (moves || rules::limits_give_way(&rules)).then_some(MixtureLimited { step, mixture, rules })
}

/// Whether a domain is due to pass its epochs by the end of the run, as after a larger batch was set.
fn is_overdrawn(state: &RunState) -> bool {
    let rest = state.tokens_left(state.next_step, state.sequences) as f64;
    let slack = whole_sequences(&state.spec);
    let domains = state.spec.domains.iter().zip(&state.domain_tokens).enumerate();
    let mut gives = domains.map(|(index, (domain, &served))| (index, domain.gives(served)));
    gives.any(|(index, gives)| gives + slack < state.mixture.share(index) * rest)
}
