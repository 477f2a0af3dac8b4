//! How a learning rate falls from its peak to its minimum.
//!
//! From + - * / and square roots alone, which IEEE 754 rounds in one way only: a run's knobs do not
//! depend on a C library.

use serde::{Deserialize, Serialize};

/// A way from the peak to the minimum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Curve {
    /// Half a cosine (Loshchilov and Hutter, 1608.03983, equation 5, without restarts), as in Aquila2's
    /// scripts.
    Cosine,
    /// A straight line.
    Linear,
    /// The same factor at every step, as `MiniCPM` decays (2404.06395, section 4); its half-life is
    /// such that the minimum is reached at the end. The minimum is above 0.
    Exponential,
    /// One less the square root of the way, which falls fast at first (Hägele and others, 2405.18392).
    SquareRoot,
}

impl Curve {
    /// As a run file names it.
    pub fn name(self) -> &'static str {
        match self {
            Curve::Cosine => "cosine",
            Curve::Linear => "linear",
            Curve::Exponential => "exponential",
            Curve::SquareRoot => "square-root",
        }
    }

    /// The rate when `done` of the way is behind, from 0 (the peak) to 1 (the minimum).
    pub fn rate(self, peak: f64, minimum: f64, done: f64) -> f64 {
        let left = match self {
            Curve::Cosine => 0.5 * (1.0 + cos_of_half_turns(done)),
            Curve::Linear => 1.0 - done,
            Curve::SquareRoot => 1.0 - done.sqrt(),
            Curve::Exponential => return peak * power(minimum / peak, done),
        };
        minimum + (peak - minimum) * left
    }
}

/// cos(pi * x) for x in 0..=1, to a few units in the last place, by its Taylor series on 0..=1/2.
fn cos_of_half_turns(x: f64) -> f64 {
    if x > 0.5 {
        return -cos_of_half_turns(1.0 - x);
    }
    let square = (std::f64::consts::PI * x) * (std::f64::consts::PI * x);
    // Terms fall below 1e-18 at the 12th for angles up to pi/2.
    let mut sum = 0.0;
    for k in (1..=12u32).rev() {
        let denominator = f64::from((2 * k - 1) * (2 * k));
        sum = -square / denominator * (1.0 + sum);
    }
    1.0 + sum
}

/// base^x for a base of at least 0 and x in 0..=1: each binary digit of x takes one root of the base.
fn power(base: f64, x: f64) -> f64 {
    if x >= 1.0 {
        return base;
    }
    let (mut root, mut digits, mut product) = (base, x, 1.0);
    // More binary digits than a number below 1 and above 2^-11 has: what is left changes nothing.
    for _ in 0..64 {
        root = root.sqrt();
        digits *= 2.0;
        if digits >= 1.0 {
            product *= root;
            digits -= 1.0;
        }
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Curve; 4] = [Curve::Cosine, Curve::Linear, Curve::Exponential, Curve::SquareRoot];

    #[test]
    fn cosine_agrees_with_the_c_library() {
        for step in 0..=1000 {
            let x = f64::from(step) / 1000.0;
            assert!((cos_of_half_turns(x) - (std::f64::consts::PI * x).cos()).abs() < 4e-16, "{x}");
        }
    }

    #[test]
    fn power_agrees_with_the_c_library() {
        for step in 0..=1000 {
            let x = f64::from(step) / 1000.0;
            for base in [1e-3, 0.1, 0.5, 0.9, 1.0] {
                let (found, due) = (power(base, x), base.powf(x));
                assert!((found / due - 1.0).abs() < 2e-14, "{base}^{x}: {found}, {due}");
            }
        }
    }

    #[test]
    fn names_are_those_of_json() {
        for curve in ALL {
            assert_eq!(serde_json::to_value(curve).unwrap(), curve.name());
        }
    }

    #[test]
    fn quarter_of_the_way_is_as_worked_by_hand() {
        // From 1 to 1/16. Cosine: (1 + cos 45°) / 2 = 0.853553 is left of 15/16. Linear: 3/4.
        // Exponential: a factor of (1/16)^(1/4) = 1/2. Square root: 1 - 1/2.
        let due = [0.0625 + 0.9375 * 0.8535533905932737, 0.765625, 0.5, 0.53125];
        for (curve, due) in ALL.into_iter().zip(due) {
            let found = curve.rate(1.0, 0.0625, 0.25);
            assert!((found - due).abs() < 1e-15, "{curve:?}: {found}, {due}");
        }
    }

    #[test]
    fn every_curve_falls_from_the_peak_to_the_minimum() {
        for curve in ALL {
            assert_eq!(curve.rate(3e-4, 3e-5, 0.0), 3e-4, "{curve:?}");
            assert!((curve.rate(3e-4, 3e-5, 1.0) - 3e-5).abs() < 1e-19, "{curve:?}");
            let rates = (0..=500).map(|step| curve.rate(3e-4, 3e-5, f64::from(step) / 500.0));
            let rates: Vec<f64> = rates.collect();
            assert!(rates.is_sorted_by(|earlier, later| earlier > later), "{curve:?}");
        }
    }
}
