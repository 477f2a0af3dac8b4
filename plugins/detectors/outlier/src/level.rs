//! What the domains of a step cost lately, and how far a step lies above that.
//!
//! A step is held against its own domains in the amounts it drew, never against the mean loss of other
//! steps: a new mixture moves the latter and not the former. So does the importance-reweighted loss, which
//! is this with the shares in place of the amounts; DoReMi (2305.10429) measures its domains one by one as
//! well. Losses are those before any loss weight.

use serde::{Deserialize, Serialize};

/// Draws behind a domain's running mean: a plain mean of the first ones, then each new one counts one part
/// in so many.
const WINDOW: u32 = 128;
/// Draws of a domain before a step is held against it.
const KNOWN_AFTER: u32 = 32;
/// Nats per token beyond which a loss says nothing more: a uniform guess among a million tokens costs 14.
const LOSS_MAX: f64 = 20.0;

/// One domain's part of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drawn {
    /// Cross-entropies in nats, before loss weights.
    pub loss_sum: f64,
    pub tokens: u64,
}

impl Drawn {
    /// Nats per token, if there is such a number.
    fn mean(&self) -> Option<f64> {
        let mean = self.loss_sum / self.tokens as f64;
        (self.tokens > 0 && mean.is_finite()).then(|| mean.clamp(0.0, LOSS_MAX))
    }
}

/// One domain's running mean, and the variance that one token more or less would have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Level {
    draws: u32,
    mean: f64,
    token_variance: f64,
    /// Step at which it was drawn last, counted from the first that was learned.
    last: u64,
    /// Draws in a row that lay in skipped steps.
    skipped: u32,
}

/// How far a step lies above what was due.
#[derive(Clone, Debug, PartialEq)]
pub struct Excess {
    /// Mean loss of the domains that are known, in nats per token.
    pub loss: f64,
    /// What they cost lately, in the same amounts.
    pub due: f64,
    /// One standard error of the difference.
    pub error: f64,
    /// The domain that makes most of it, where one makes more than [`TOP_SHARE`].
    pub top: Option<usize>,
}

/// The part of an excess that makes one domain its cause.
const TOP_SHARE: f64 = 0.6;

/// The running means of all domains.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Levels {
    domains: Vec<Level>,
    learned: u64,
}

impl Levels {
    /// Nothing known.
    pub fn new(domains: usize) -> Levels {
        Levels { domains: vec![Level::default(); domains], learned: 0 }
    }

    /// How far a step lies above what its domains cost lately. Domains that are not known have no part,
    /// nor has one that was not drawn for so long that the model may have forgotten it. None where
    /// nothing is known.
    pub fn excess(&self, drawn: &[Drawn]) -> Option<Excess> {
        let (mut tokens, mut loss, mut due, mut variance) = (0.0, 0.0, 0.0, 0.0);
        let mut top = (0, 0.0);
        for (index, (level, part)) in self.domains.iter().zip(drawn).enumerate() {
            let known = level.draws >= KNOWN_AFTER && self.learned - level.last < u64::from(WINDOW);
            let Some(mean) = part.mean().filter(|_| known) else { continue };
            let count = part.tokens as f64;
            tokens += count;
            loss += count * mean;
            due += count * level.mean;
            variance += count * level.token_variance;
            if count * (mean - level.mean) > top.1 {
                top = (index, count * (mean - level.mean));
            }
        }
        let top = (top.1 > TOP_SHARE * (loss - due)).then_some(top.0);
        let error = variance.sqrt() / tokens;
        let excess = Excess { loss: loss / tokens, due: due / tokens, error, top };
        (error.is_finite() && error > 0.0).then_some(excess)
    }

    /// Learns an accepted step.
    pub fn learn(&mut self, drawn: &[Drawn]) {
        self.learned += 1;
        for (level, part) in self.domains.iter_mut().zip(drawn) {
            let Some(mean) = part.mean() else { continue };
            if self.learned - level.last > u64::from(WINDOW) {
                *level = Level::default();
            }
            let known = level.draws > 0;
            level.draws = (level.draws + 1).min(WINDOW);
            let part_of_new = 1.0 / f64::from(level.draws);
            let off = if known { mean - level.mean } else { 0.0 };
            let variance = part.tokens as f64 * off * off;
            level.mean = if known { level.mean + off * part_of_new } else { mean };
            level.token_variance += (variance - level.token_variance) * part_of_new;
            (level.last, level.skipped) = (self.learned, 0);
        }
    }

    /// Notes that a step was skipped. The domains of which so many draws in a row were skipped are
    /// forgotten, to be learned anew, and given.
    pub fn skip(&mut self, drawn: &[Drawn], skips_max: u32) -> Vec<usize> {
        let mut forgotten = Vec::new();
        for (index, (level, part)) in self.domains.iter_mut().zip(drawn).enumerate() {
            if part.tokens == 0 {
                continue;
            }
            level.skipped += 1;
            if level.skipped >= skips_max {
                *level = Level::default();
                forgotten.push(index);
            }
        }
        forgotten
    }
}
