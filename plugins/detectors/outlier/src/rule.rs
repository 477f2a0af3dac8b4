//! Rolling mean and deviation of accepted steps, the current one excluded.

use serde::{Deserialize, Serialize};

/// Accepted steps remembered.
const WINDOW: usize = 128;
/// Accepted steps before anything is an outlier.
const ARMED_AFTER: usize = 64;

/// What of a step is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Measure {
    Loss,
    GradientNorm,
}

impl Measure {
    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Measure::Loss => "loss",
            Measure::GradientNorm => "gradient-norm",
        }
    }
}

/// Why a step is an outlier.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    /// What lies too high.
    pub what: Measure,
    /// What was measured.
    pub score: f64,
    /// The mean and so many deviations.
    pub threshold: f64,
}

/// What is kept between calls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    sigmas: f64,
    /// The last judgement, until `watch` has told it.
    pub last: Option<Judgement>,
    /// (loss, gradient norm) of accepted steps, oldest first.
    window: Vec<(f64, f64)>,
}

impl Memory {
    /// Empty.
    pub fn new(sigmas: f64) -> Memory {
        Memory { sigmas, last: None, window: Vec::new() }
    }

    /// Judges a step and, if it is none, remembers it.
    pub fn judge(&mut self, loss: f64, norm: f64) -> Option<Judgement> {
        let judgement = (self.window.len() >= ARMED_AFTER)
            .then(|| {
                self.above(Measure::Loss, loss, |pair| pair.0)
                    .or_else(|| self.above(Measure::GradientNorm, norm, |pair| pair.1))
            })
            .flatten();
        // Neither an outlier nor a NaN becomes part of what later steps are held against.
        if judgement.is_none() && loss.is_finite() && norm.is_finite() {
            if self.window.len() == WINDOW {
                self.window.remove(0);
            }
            self.window.push((loss, norm));
        }
        self.last = judgement.clone();
        judgement
    }

    fn above(
        &self,
        what: Measure,
        score: f64,
        of: impl Fn(&(f64, f64)) -> f64,
    ) -> Option<Judgement> {
        let count = self.window.len() as f64;
        let mean = self.window.iter().map(&of).sum::<f64>() / count;
        let square = self.window.iter().map(|pair| (of(pair) - mean) * (of(pair) - mean));
        let deviation = (square.sum::<f64>() / count).sqrt();
        let threshold = mean + self.sigmas * deviation;
        (score > threshold).then_some(Judgement { what, score, threshold })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Loss alternates 1.9, 2.1: mean 2, deviation 0.1 over any even window.
    fn armed() -> Memory {
        let mut memory = Memory::new(6.0);
        for step in 0..64 {
            let loss = if step % 2 == 0 { 1.9 } else { 2.1 };
            assert_eq!(memory.judge(loss, 1.0 + loss), None);
        }
        memory
    }

    #[test]
    fn six_deviations_are_the_border() {
        assert_eq!(armed().judge(2.599, 3.0), None);
        let judged = armed().judge(2.601, 3.0).unwrap();
        assert_eq!(judged.what, Measure::Loss);
        assert!((judged.threshold - 2.6).abs() < 1e-9);
        assert_eq!(armed().judge(2.0, 3.7).unwrap().what, Measure::GradientNorm);
    }

    #[test]
    fn nothing_is_an_outlier_before_it_is_armed_and_outliers_are_not_learned() {
        let mut memory = Memory::new(6.0);
        assert_eq!(memory.judge(1e9, 1.0), None);
        let mut memory = armed();
        let before = memory.window.clone();
        memory.judge(50.0, 3.0);
        assert_eq!(memory.window, before);
    }
}
