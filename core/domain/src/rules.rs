//! What the host makes of every mixture, whoever wants it, rules version 1, in this order: normalise,
//! rate limit (of a policy's alone), then floors, caps and epoch caps together. Floors and caps win over
//! the rate limit. When they are applied to a mixture that nobody has just asked for: `limits`.
//!
//! When limits leave no mixture they give way, epoch caps before caps: those are stretched by one factor
//! and no further than the caps, which stay while they sum to 1 and are scaled up to it otherwise. Floors
//! give way to the rest. Only + - * / on f64, so the result is the same on any machine.

use crate::limits::{self, Shortage};
use crate::mixture::{Mixture, NotAMixture, check_shares};
use crate::spec::RunSpec;
use crate::state::RunState;

/// The rules version that this file implements.
pub const RULES_VERSION: u32 = 1;

const RATE_LIMIT: &str = "rate-limit";
const FLOOR: &str = "floor";
const CAP: &str = "cap";
const EPOCH_CAP: &str = "epoch-cap";
const FLOOR_RELAXED: &str = "floor-relaxed";
const CAP_RELAXED: &str = "cap-relaxed";
const EPOCH_CAP_RELAXED: &str = "epoch-cap-relaxed";

/// What a rule of a log did, as a part of a sentence; a name that this program does not know stays.
pub fn in_words(rule: &str) -> &str {
    match rule {
        RATE_LIMIT => "rules.rate_limit keeps it near the mixture before",
        FLOOR => "a floor holds a share up",
        CAP => "a cap holds a share down",
        EPOCH_CAP => "max_epochs holds a share down",
        FLOOR_RELAXED => "a floor gives way, since its domain may not give so much any more",
        CAP_RELAXED => "caps give way, since they leave no room for a mixture",
        EPOCH_CAP_RELAXED => {
            "max_epochs gives way, since the domains may not give what is still to be drawn"
        }
        unknown => unknown,
    }
}

/// Whether limits of a run could not all be kept.
pub(crate) fn limits_give_way(rules: &[String]) -> bool {
    let relaxed = [FLOOR_RELAXED, CAP_RELAXED, EPOCH_CAP_RELAXED];
    rules.iter().any(|rule| relaxed.contains(&rule.as_str()))
}

/// A proposal after the rules.
#[derive(Clone, Debug, PartialEq)]
pub struct Ruled {
    /// What is applied.
    pub mixture: Mixture,
    /// Names of the rules that changed it, in order.
    pub rules: Vec<String>,
}

/// What the rules need to know beside the proposal.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// The run.
    pub spec: &'a RunSpec,
    /// The newest decided mixture; none where this is the first.
    pub previous: Option<&'a Mixture>,
    /// Target tokens drawn so far, per domain.
    pub domain_tokens: &'a [u64],
    /// Target tokens still to be trained on.
    pub tokens_left: u64,
    /// Whether the rate limit applies: not to what an operator sets by hand.
    pub rate_limited: bool,
}

impl<'a> Situation<'a> {
    /// That of a run's first mixture; `none` are the tokens drawn of each domain.
    pub fn at_the_start(spec: &'a RunSpec, none: &'a [u64]) -> Situation<'a> {
        let tokens_left = spec.tokens_of(spec.training.sequences_of_run());
        Situation { spec, previous: None, domain_tokens: none, tokens_left, rate_limited: false }
    }

    /// That of a mixture for the next step which no policy has asked for: the rate limit is not for it.
    pub fn of_next_step(state: &'a RunState) -> Situation<'a> {
        Situation {
            spec: &state.spec,
            previous: Some(state.newest_mixture()),
            domain_tokens: &state.domain_tokens,
            tokens_left: state.tokens_left(state.next_step, state.sequences),
            rate_limited: false,
        }
    }
}

/// Applies the rules to `shares` and numbers the result after the previous mixture.
pub fn rule(shares: &[f64], situation: Situation<'_>) -> Result<Ruled, NotAMixture> {
    let count = situation.spec.domains.len();
    check_shares(shares, count)?;
    let sum: f64 = shares.iter().sum();
    let mut shares: Vec<f64> = shares.iter().map(|share| share / sum).collect();
    let mut rules = Vec::new();
    if situation.rate_limited
        && let Some(previous) = situation.previous
        && let Some(limit) = situation.spec.rules.rate_limit
        && limit_rate(&mut shares, &previous.shares(), limit)
    {
        rules.push(RATE_LIMIT.to_owned());
    }
    let bounds = Bounds::of(situation, &mut rules);
    bounds.clamp(&mut shares, &mut rules);
    let version = situation.previous.map_or(0, |previous| previous.version + 1);
    Ok(Ruled { mixture: Mixture::from_shares(version, &shares)?, rules })
}

/// Moves `shares` back towards `previous` until their L1 distance is at most `limit`.
fn limit_rate(shares: &mut [f64], previous: &[f64], limit: f64) -> bool {
    let distance: f64 = shares.iter().zip(previous).map(|(a, b)| (a - b).abs()).sum();
    if distance <= limit {
        return false;
    }
    for (share, &before) in shares.iter_mut().zip(previous) {
        *share = before + (*share - before) * limit / distance;
    }
    true
}

/// Tokens by which a domain may be off what its share is due: only whole sequences are drawn, so each is
/// off by at most as many of them as there are domains, before and after a mixture is set.
pub(crate) fn whole_sequences(spec: &RunSpec) -> f64 {
    2.0 * spec.domains.len() as f64 * f64::from(spec.model.sequence_length)
}

struct Bounds {
    floors: Vec<f64>,
    caps: Vec<f64>,
    epoch_capped: Vec<bool>,
}

impl Bounds {
    /// Bounds that hold a mixture, and names of the rules that give way for that.
    fn of(situation: Situation<'_>, rules: &mut Vec<String>) -> Bounds {
        let Situation { spec, domain_tokens, tokens_left, .. } = situation;
        let domains = &spec.domains;
        // As many roundings as there are domains.
        let is_short =
            |bounds: &[f64]| bounds.iter().sum::<f64>() < 1.0 - bounds.len() as f64 * f64::EPSILON;
        let mut hard: Vec<f64> = domains.iter().map(|domain| domain.cap).collect();
        let caps_give_way = is_short(&hard);
        if caps_give_way {
            scale_to_one(&mut hard);
        }
        let tokens = tokens_left.max(1) as f64;
        let given = domains.iter().zip(domain_tokens).map(|(domain, &served)| domain.gives(served));
        let mut epochs: Vec<f64> = given.map(|tokens_given| tokens_given / tokens).collect();
        if is_short(&lower(&hard, &epochs)) {
            stretch(&mut epochs, &hard);
        }
        let caps = lower(&hard, &epochs);
        let mut floors: Vec<f64> = domains.iter().map(|domain| domain.floor).collect();
        floors = lower(&floors, &caps);
        if floors.iter().sum::<f64>() > 1.0 {
            scale_to_one(&mut floors);
        }
        // What whole sequences explain is settled without a word.
        for shortage in
            limits::shortages(domains, domain_tokens, tokens_left, whole_sequences(spec))
        {
            let rule = match shortage {
                Shortage::Whole { .. } if caps_give_way => CAP_RELAXED,
                Shortage::Whole { .. } => EPOCH_CAP_RELAXED,
                Shortage::Floor { .. } | Shortage::Floors { .. } => FLOOR_RELAXED,
            };
            if !rules.iter().any(|named| named == rule) {
                rules.push(rule.to_owned());
            }
        }
        let epoch_capped = caps.iter().zip(&hard).map(|(cap, hard)| cap < hard).collect();
        Bounds { floors, caps, epoch_capped }
    }

    /// Fixes violators at their bound and scales the rest, worse side first, until none is left.
    fn clamp(&self, shares: &mut [f64], rules: &mut Vec<String>) {
        let count = shares.len();
        let mut fixed: Vec<Option<f64>> = vec![None; count];
        let (mut floored, mut capped, mut epoch_capped) = (false, false, false);
        for _ in 0..=count {
            let mass = 1.0 - fixed.iter().flatten().sum::<f64>();
            let free: Vec<usize> = (0..count).filter(|&index| fixed[index].is_none()).collect();
            let sum: f64 = free.iter().map(|&index| shares[index]).sum();
            for &index in &free {
                shares[index] =
                    if sum > 0.0 { shares[index] * mass / sum } else { mass / free.len() as f64 };
            }
            let below = |index: usize| (self.floors[index] - shares[index]).max(0.0);
            let above = |index: usize| (shares[index] - self.caps[index]).max(0.0);
            let (under, over): (f64, f64) =
                (free.iter().map(|&i| below(i)).sum(), free.iter().map(|&i| above(i)).sum());
            if under == 0.0 && over == 0.0 {
                break;
            }
            for &index in &free {
                if under >= over && below(index) > 0.0 {
                    fixed[index] = Some(self.floors[index]);
                    floored = true;
                } else if over > under && above(index) > 0.0 {
                    fixed[index] = Some(self.caps[index]);
                    if self.epoch_capped[index] { epoch_capped = true } else { capped = true }
                }
            }
        }
        for (share, bound) in shares.iter_mut().zip(fixed) {
            *share = bound.unwrap_or(*share);
        }
        for (happened, name) in [(floored, FLOOR), (capped, CAP), (epoch_capped, EPOCH_CAP)] {
            if happened {
                rules.push(name.to_owned());
            }
        }
    }
}

/// The lower bound of each two.
fn lower(some: &[f64], others: &[f64]) -> Vec<f64> {
    some.iter().zip(others).map(|(a, b)| a.min(*b)).collect()
}

/// Scales to a sum of 1, all equal where there is nothing to scale.
fn scale_to_one(bounds: &mut [f64]) {
    let (sum, count) = (bounds.iter().sum::<f64>(), bounds.len() as f64);
    for bound in bounds {
        *bound = if sum > 0.0 { *bound / sum } else { 1.0 / count };
    }
}

/// Stretches `epochs` by one factor until, none counted above its `hard` cap, they sum to 1. Hard caps
/// sum to 1 at least. Where no domain with room may give any more, they share by their hard caps.
fn stretch(epochs: &mut [f64], hard: &[f64]) {
    let mut full: Vec<bool> =
        epochs.iter().zip(hard).map(|(epochs, hard)| epochs >= hard).collect();
    // Every round fills a domain or is the last.
    for _ in 0..=hard.len() {
        let sum = |values: &[f64], of: bool| -> f64 {
            let chosen = values.iter().zip(&full).filter(|(_, full)| **full == of);
            chosen.map(|(value, _)| value).sum()
        };
        let (room, rest) = (1.0 - sum(hard, true), sum(epochs, false));
        let exhausted = rest == 0.0;
        let factor = if exhausted { room / sum(hard, false) } else { room / rest };
        let base = if exhausted { hard } else { &*epochs };
        let wanted: Vec<f64> = base.iter().map(|bound| bound * factor).collect();
        let over = |index: usize| !full[index] && wanted[index] >= hard[index];
        let newly_full: Vec<usize> = (0..hard.len()).filter(|&index| over(index)).collect();
        if newly_full.is_empty() || exhausted {
            for index in 0..hard.len() {
                epochs[index] = if full[index] { hard[index] } else { wanted[index] };
            }
            return;
        }
        newly_full.into_iter().for_each(|index| full[index] = true);
    }
}

#[cfg(test)]
mod tests;
