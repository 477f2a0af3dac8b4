//! Online Data Mixing in its perplexity form (2312.02406; the update that the authors' training loop
//! runs): R_i is a moving average of exp(mean loss), p_i = (1 - K eps) R_i / sum R + eps, with
//! eps_t = min(1 / K, sqrt(ln K / (K t))).

use serde::{Deserialize, Serialize};

/// What is kept between calls: a reward per domain, once it has been seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rewards(pub Vec<Option<f64>>);

impl Rewards {
    /// Folds one domain's mean loss of a step. The first one is taken as it is.
    pub fn observe(&mut self, domain: usize, loss: f64, smoothing: f64) {
        let reward = loss.exp();
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
}
