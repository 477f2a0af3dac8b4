//! Online Data Mixing in its perplexity form (2312.02406; the update that the authors' training loop
//! runs): R_i is a moving average of exp(mean loss), p_i = (1 - K eps) R_i / sum R + eps, with
//! eps_t = min(1 / K, sqrt(ln K / (K t))).
//!
//! Ours, since the paper has nothing to say of a run that goes wrong: a loss that is no number is left out,
//! and one above [`LOSS_MAX`] counts as that. Without it one NaN would make every later share NaN, and one
//! step at 100 nats would rule the mixture for a hundred steps.

use serde::{Deserialize, Serialize};

/// Nats per token beyond which a loss says nothing more about its domain: a uniform guess among a million
/// tokens costs 14.
pub const LOSS_MAX: f64 = 20.0;

/// What is kept between calls: a reward per domain, once it has been seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rewards(pub Vec<Option<f64>>);

impl Rewards {
    /// Folds one domain's mean loss of a step. The first one is taken as it is.
    pub fn observe(&mut self, domain: usize, loss: f64, smoothing: f64) {
        if !loss.is_finite() {
            return;
        }
        let reward = loss.min(LOSS_MAX).exp();
        let kept = &mut self.0[domain];
        *kept = Some(kept.map_or(reward, |old| smoothing * old + (1.0 - smoothing) * reward));
    }

    /// Shares after step `t` (from 1).
    pub fn shares(&self, t: u64) -> Vec<f64> {
        let count = self.0.len() as f64;
        let epsilon = exploration(count, t);
        let sum: f64 = self.0.iter().flatten().sum();
        self.0
            .iter()
            .map(|reward| {
                let part = if sum > 0.0 { reward.unwrap_or(0.0) / sum } else { 1.0 / count };
                (1.0 - count * epsilon) * part + epsilon
            })
            .collect()
    }

    /// The domains of the lowest and the highest reward, once any has one.
    pub fn extremes(&self) -> Option<[(usize, f64); 2]> {
        let seen =
            || self.0.iter().enumerate().filter_map(|(domain, kept)| Some((domain, (*kept)?)));
        let by_reward = |a: &(usize, f64), b: &(usize, f64)| a.1.total_cmp(&b.1);
        Some([seen().min_by(by_reward)?, seen().max_by(by_reward)?])
    }
}

/// The floor of every share.
pub fn exploration(count: f64, t: u64) -> f64 {
    (1.0 / count).min((count.ln() / (count * t.max(1) as f64)).sqrt())
}

/// Steps in which the prior stays: 2 % of the run, at least 20, at most 2000.
pub fn warm_up(steps: u64) -> u64 {
    (steps / 50).clamp(20, 2000)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn shares_agree_with_the_formula_worked_by_hand() {
        let mut rewards = Rewards(vec![None, None]);
        rewards.observe(0, 2.0, 0.5);
        rewards.observe(1, 1.0, 0.5);
        rewards.observe(0, 1.0, 0.5);
        // R = ((e^2 + e) / 2, e) = (5.05366896, 2.71828183); at t = 50: eps = sqrt(ln 2 / 100) = 0.08325546.
        let shares = rewards.shares(50);
        assert!((shares[0] - 0.625_227_2).abs() < 1e-6, "{shares:?}");
        assert!((shares[0] + shares[1] - 1.0).abs() < 1e-12);
    }

    #[test]
    fn early_steps_explore_evenly_and_unseen_domains_keep_the_floor() {
        assert_eq!(exploration(4.0, 1), 0.25);
        let mut rewards = Rewards(vec![None, None, None, None]);
        rewards.observe(2, 3.0, 0.5);
        let shares = rewards.shares(100);
        assert_eq!(shares[0], exploration(4.0, 100));
    }

    #[test]
    fn warm_up_scales_with_the_run() {
        assert_eq!([300, 5000, 1_000_000].map(warm_up), [20, 100, 2000]);
    }

    #[test]
    fn what_is_no_number_is_left_out_and_a_leap_is_soon_forgotten() {
        let mut rewards = Rewards(vec![None, None]);
        rewards.observe(0, 2.0, 0.5);
        rewards.observe(1, 2.0, 0.5);
        let before = rewards.clone();
        for odd in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            rewards.observe(1, odd, 0.5);
        }
        assert_eq!(rewards, before);
        rewards.observe(1, 1e300, 0.5);
        assert_eq!(rewards.extremes().unwrap()[1], (1, (20f64.exp() + 2f64.exp()) / 2.0));
        // 18 nats above the others are 26 halvings.
        (0..32).for_each(|_| rewards.observe(1, 2.0, 0.5));
        assert!((rewards.0[1].unwrap() / 2f64.exp() - 1.0).abs() < 0.02, "{rewards:?}");
    }

    #[test]
    fn one_domain_has_everything_whatever_it_showed() {
        let mut rewards = Rewards(vec![None]);
        assert_eq!(rewards.shares(1), [1.0]);
        rewards.observe(0, f64::NAN, 0.5);
        assert_eq!((rewards.shares(7), rewards.extremes()), (vec![1.0], None));
    }

    proptest! {
        #[test]
        fn shares_are_a_mixture_above_the_floor_whatever_was_seen(
            seen in prop::collection::vec((0usize..4, any::<f64>()), 0..200),
            smoothing in 0.0..1.0f64,
            t in 1u64..1_000_000,
        ) {
            let mut rewards = Rewards(vec![None; 4]);
            seen.iter().for_each(|&(domain, loss)| rewards.observe(domain, loss, smoothing));
            prop_assert!(rewards.0.iter().flatten().all(|reward| reward.is_finite()));
            let shares = rewards.shares(t);
            prop_assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9);
            let floor = exploration(4.0, t) - 1e-12;
            prop_assert!(shares.iter().all(|share| *share >= floor), "{shares:?}");
        }
    }
}
