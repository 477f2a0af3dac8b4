//! What the host makes of every mixture, whoever wants it, rules version 1, in this order: normalise,
//! rate limit (of a policy's alone), then floors, caps and epoch caps together. Floors and caps win over
//! the rate limit. When they are applied to a mixture that nobody has just asked for: `limits`.
//!
//! When they conflict: floors that sum above 1 are scaled down to sum to 1; caps that sum below 1 are
//! scaled up to sum to 1. Only + - * / on f64, so the result is the same on any machine.

use crate::mixture::{Mixture, NotAMixture, check_shares};
use crate::spec::{DomainSpec, RunSpec};
use crate::state::RunState;

/// The rules version that this file implements.
pub const RULES_VERSION: u32 = 1;

/// Name of the rule that gives way where caps leave no room for a mixture.
pub(crate) const CAPS_RELAXED: &str = "caps-relaxed";

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
    /// That of a mixture for the next step which no policy has asked for: the rate limit is not for it.
    pub(crate) fn of_next_step(state: &'a RunState) -> Situation<'a> {
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
        rules.push("rate-limit".to_owned());
    }
    let mut bounds = Bounds::of(situation);
    bounds.relax(&mut rules);
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

/// Tokens that a domain may still give before it has been read `max_epochs` times.
pub(crate) fn tokens_left_of(domain: &DomainSpec, max_epochs: f64, served: u64) -> f64 {
    (domain.tokens() as f64 * max_epochs - served as f64).max(0.0)
}

struct Bounds {
    floors: Vec<f64>,
    caps: Vec<f64>,
    epoch_capped: Vec<bool>,
}

impl Bounds {
    fn of(situation: Situation<'_>) -> Bounds {
        let domains = &situation.spec.domains;
        let mut caps: Vec<f64> = domains.iter().map(|domain| domain.cap).collect();
        let mut epoch_capped = vec![false; domains.len()];
        for (index, domain) in domains.iter().enumerate() {
            let Some(max_epochs) = domain.max_epochs else { continue };
            let left = tokens_left_of(domain, max_epochs, situation.domain_tokens[index]);
            let cap = left / situation.tokens_left.max(1) as f64;
            if cap < caps[index] {
                caps[index] = cap;
                epoch_capped[index] = true;
            }
        }
        let floors =
            domains.iter().zip(&caps).map(|(domain, &cap)| domain.floor.min(cap)).collect();
        Bounds { floors, caps, epoch_capped }
    }

    fn relax(&mut self, rules: &mut Vec<String>) {
        let floor_sum: f64 = self.floors.iter().sum();
        if floor_sum > 1.0 {
            self.floors.iter_mut().for_each(|floor| *floor /= floor_sum);
            rules.push("floors-relaxed".to_owned());
        }
        let cap_sum: f64 = self.caps.iter().sum();
        if cap_sum < 1.0 {
            let count = self.caps.len() as f64;
            for cap in &mut self.caps {
                *cap = if cap_sum > 0.0 { *cap / cap_sum } else { 1.0 / count };
            }
            rules.push(CAPS_RELAXED.to_owned());
        }
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
        for (happened, name) in [(floored, "floor"), (capped, "cap"), (epoch_capped, "epoch-cap")] {
            if happened {
                rules.push(name.to_owned());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::spec;

    fn rule_with(spec: &RunSpec, shares: &[f64], served: &[u64]) -> Ruled {
        let previous = Mixture::from_shares(4, &vec![1.0; spec.domains.len()]).unwrap();
        let situation = Situation {
            spec,
            previous: Some(&previous),
            domain_tokens: served,
            tokens_left: 1000,
            rate_limited: true,
        };
        rule(shares, situation).unwrap()
    }

    #[test]
    fn harmless_proposal_is_applied_as_it_is() {
        let ruled = rule_with(&spec(4), &[0.3, 0.2, 0.25, 0.25], &[0; 4]);
        assert_eq!(ruled.mixture, Mixture::from_shares(5, &[0.3, 0.2, 0.25, 0.25]).unwrap());
        assert!(ruled.rules.is_empty());
    }

    #[test]
    fn rate_limit_keeps_the_direction() {
        let mut spec = spec(2);
        spec.rules.rate_limit = Some(0.2);
        // From (1/2, 1/2) towards (1, 0): a distance of 1 becomes 0.2.
        let ruled = rule_with(&spec, &[1.0, 0.0], &[0; 2]);
        assert_eq!(ruled.rules, ["rate-limit"]);
        assert!((ruled.mixture.share(0) - 0.6).abs() < 1e-9);
    }

    #[test]
    fn floor_and_epoch_cap_are_named() {
        let mut spec = spec(3);
        spec.domains[0].floor = 0.1;
        spec.domains[1].max_epochs = Some(2.0);
        // Domain 1 has 100 tokens, 2 epochs, 50 served: 150 left of the 1000 to come.
        let ruled = rule_with(&spec, &[0.0, 0.8, 0.2], &[0, 50, 0]);
        assert_eq!(ruled.rules, ["floor", "epoch-cap"]);
        for (index, share) in [0.1, 0.15, 0.75].into_iter().enumerate() {
            assert!((ruled.mixture.share(index) - share).abs() < 1e-9, "{:?}", ruled.mixture);
        }
    }

    #[test]
    fn caps_that_leave_no_room_are_relaxed() {
        let mut spec = spec(2);
        spec.domains[0].cap = 0.2;
        spec.domains[1].cap = 0.3;
        let ruled = rule_with(&spec, &[0.5, 0.5], &[0; 2]);
        assert_eq!(ruled.rules[0], "caps-relaxed");
        assert!((ruled.mixture.share(0) - 0.4).abs() < 1e-9);
    }

    proptest! {
        #[test]
        fn result_is_a_mixture_within_bounds(
            raw in prop::collection::vec(0.0f64..1.0, 6),
            floors in prop::collection::vec(0.0f64..0.15, 6),
            caps in prop::collection::vec(0.2f64..1.0, 6),
        ) {
            prop_assume!(raw.iter().sum::<f64>() > 0.0);
            let mut spec = spec(6);
            for (domain, (&floor, &cap)) in spec.domains.iter_mut().zip(floors.iter().zip(&caps)) {
                (domain.floor, domain.cap) = (floor, cap);
            }
            let ruled = rule_with(&spec, &raw, &[0; 6]);
            prop_assert_eq!(ruled.mixture.weights.iter().sum::<u64>(), crate::mixture::WEIGHT_TOTAL);
            for index in 0..6 {
                let share = ruled.mixture.share(index);
                prop_assert!(share >= floors[index] - 1e-6 && share <= caps[index] + 1e-6);
            }
        }
    }
}
