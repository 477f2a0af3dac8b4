//! Which token comes next: the likeliest, or one drawn from a distribution that is sharpened and cut.

use crate::split_mix::SplitMix64;

/// How to choose.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice {
    /// Logits are divided by it; 0 always takes the likeliest token.
    pub temperature: f64,
    /// Only so many of the likeliest tokens are drawn from; 0 for all.
    pub top_k: usize,
    /// Only the fewest likeliest tokens whose shares reach this sum (Holtzman and others, arXiv
    /// 1904.09751); 1 for all.
    pub top_p: f64,
    /// Of the draws: equal seeds give equal text.
    pub seed: u64,
}

/// A choice that cannot be made.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{name} is {value}: {must}")]
pub struct BadChoice {
    name: &'static str,
    value: f64,
    must: &'static str,
}

/// Chooses token after token.
#[derive(Clone, Debug)]
pub struct Chooser {
    choice: Choice,
    bits: SplitMix64,
}

impl Chooser {
    /// Refuses what means nothing.
    ///
    /// # Errors
    /// A negative temperature, or shares outside of 0 to 1.
    pub fn new(choice: Choice) -> Result<Chooser, BadChoice> {
        let Choice { temperature, top_p, seed, .. } = choice;
        if !temperature.is_finite() || temperature < 0.0 {
            let must = "it must be 0, for the likeliest token, or above";
            return Err(BadChoice { name: "temperature", value: temperature, must });
        }
        if !(top_p > 0.0 && top_p <= 1.0) {
            let must = "it must be above 0 and at most 1";
            return Err(BadChoice { name: "top-p", value: top_p, must });
        }
        Ok(Chooser { choice, bits: SplitMix64(seed) })
    }

    /// The next token after these logits. Of equal logits the lower id is the likelier one.
    ///
    /// # Panics
    /// When there are no logits.
    pub fn next(&mut self, logits: &[f32]) -> u32 {
        let mut order: Vec<u32> = (0..logits.len() as u32).collect();
        let falling =
            |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
        if self.choice.temperature == 0.0 {
            return order.into_iter().min_by(falling).expect("there are logits");
        }
        let kept = match self.choice.top_k {
            0 => order.len(),
            count => count.min(order.len()),
        };
        if kept < order.len() {
            order.select_nth_unstable_by(kept - 1, falling);
            order.truncate(kept);
        }
        order.sort_unstable_by(falling);
        let shares = self.shares(&order, logits);
        let mut drawn = self.uniform() * shares.iter().sum::<f64>();
        for (id, share) in order.iter().zip(&shares) {
            drawn -= share;
            if drawn < 0.0 {
                return *id;
            }
        }
        order[shares.len() - 1]
    }

    /// Shares of the likeliest tokens, cut where they reach `top_p` together.
    fn shares(&self, order: &[u32], logits: &[f32]) -> Vec<f64> {
        let highest = f64::from(logits[order[0] as usize]);
        let power = |id: &u32| {
            ((f64::from(logits[*id as usize]) - highest) / self.choice.temperature).exp()
        };
        let mut shares: Vec<f64> = order.iter().map(power).collect();
        let enough = self.choice.top_p * shares.iter().sum::<f64>();
        let mut sum = 0.0;
        let reached = shares.iter().position(|share| {
            sum += share;
            sum >= enough
        });
        shares.truncate(reached.map_or(shares.len(), |at| at + 1));
        shares
    }

    /// From 0 to below 1.
    fn uniform(&mut self) -> f64 {
        self.bits.next_53_bits() as f64 / (1u64 << 53) as f64
    }
}
