//! Which mixture is wanted, and when to ask for it again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Shares are held as parts of 2^32 by the host: what is closer than this is equal.
const TOLERANCE: f64 = 1e-6;
/// Steps before asking again for what the host's rules did not grant, while nothing moves.
const ASK_AGAIN_STEPS: u64 = 32;

/// The wanted shares, in the order of `domains` (name, prior share), summing to 1.
///
/// # Errors
/// When a name is no domain's, or the shares are no mixture.
pub fn target(
    domains: &[(&str, f64)],
    shares: Option<&BTreeMap<String, f64>>,
) -> Result<Vec<f64>, String> {
    let wanted: Vec<f64> = match shares {
        None => domains.iter().map(|&(_, prior)| prior).collect(),
        Some(shares) => {
            let named = |name: &String| domains.iter().any(|(domain, _)| domain == name);
            let unknown: Vec<_> = shares.keys().filter(|name| !named(name)).cloned().collect();
            if !unknown.is_empty() {
                let all: Vec<_> = domains.iter().map(|(name, _)| *name).collect();
                let (unknown, all) = (unknown.join("`, `"), all.join(", "));
                return Err(format!("shares: `{unknown}`: no such domain among {all}"));
            }
            domains.iter().map(|(name, _)| shares.get(*name).copied().unwrap_or(0.0)).collect()
        }
    };
    for ((name, _), share) in domains.iter().zip(&wanted) {
        if !share.is_finite() || *share < 0.0 {
            return Err(format!("shares: `{name}` has {share}: it must be 0 or a positive number"));
        }
    }
    if wanted.iter().all(|share| *share == 0.0) {
        let names: Vec<_> = domains.iter().map(|(name, _)| *name).collect();
        let names = names.join(", ");
        return Err(format!("shares of {names} sum to 0: give at least one a positive share"));
    }
    // Numbers so large that their sum is none are added up on a smaller scale.
    let sum: f64 = wanted.iter().sum();
    let scale = if sum.is_finite() { 1.0 } else { wanted.len() as f64 };
    let sum: f64 = wanted.iter().map(|share| share / scale).sum();
    Ok(wanted.iter().map(|share| share / scale / sum).collect())
}

/// Whether two mixtures are not the same; what is not a number is like nothing.
pub fn differ(left: &[f64], right: &[f64]) -> bool {
    let alike = |(left, right): (&f64, &f64)| (left - right).abs() <= TOLERANCE;
    left.len() != right.len() || !left.iter().zip(right).all(alike)
}

/// What is kept between calls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    target: Vec<f64>,
    /// Step and shown shares at the last time of asking.
    asked: Option<(u64, Vec<f64>)>,
}

impl Memory {
    /// Not asked yet.
    pub fn new(target: Vec<f64>) -> Memory {
        Memory { target, asked: None }
    }

    /// The target, if it is to be asked for: at first, and as long as something else is in force.
    /// What the host's rules hold back for good is asked for only now and then.
    pub fn ask(&mut self, step: u64, shown: &[f64]) -> Option<Vec<f64>> {
        let due = match &self.asked {
            None => true,
            Some((asked, before)) => {
                differ(shown, &self.target)
                    && (differ(shown, before) || step >= asked + ASK_AGAIN_STEPS)
            }
        };
        due.then(|| {
            self.asked = Some((step, shown.to_vec()));
            self.target.clone()
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DOMAINS: [(&str, f64); 2] = [("web", 0.75), ("code", 0.25)];

    fn shares(pairs: &[(&str, f64)]) -> Result<Vec<f64>, String> {
        let shares = pairs.iter().map(|&(name, share)| (name.to_owned(), share)).collect();
        target(&DOMAINS, Some(&shares))
    }

    #[test]
    fn shares_become_a_mixture_and_none_is_the_prior() {
        assert_eq!(target(&DOMAINS, None), Ok(vec![0.75, 0.25]));
        assert_eq!(shares(&[("code", 3.0), ("web", 1.0)]), Ok(vec![0.25, 0.75]));
        assert_eq!(shares(&[("code", 3.0)]), Ok(vec![0.0, 1.0]));
    }

    #[test]
    fn what_is_no_mixture_is_refused_by_name() {
        let refused = shares(&[("wbe", 1.0), ("code", 1.0)]).unwrap_err();
        assert!(refused.contains("`wbe`") && refused.contains("web, code"), "{refused}");
        let refused = shares(&[("web", -1.0), ("code", 2.0)]).unwrap_err();
        assert!(refused.contains("`web` has -1"), "{refused}");
        for zero in [shares(&[("web", 0.0), ("code", 0.0)]), shares(&[])] {
            assert!(zero.unwrap_err().contains("web, code sum to 0"));
        }
    }

    #[test]
    fn it_asks_once_and_then_only_while_something_else_is_in_force() {
        let mut memory = Memory::new(vec![0.5, 0.5]);
        assert_eq!(memory.ask(0, &[0.5, 0.5]), Some(vec![0.5, 0.5]));
        assert_eq!(memory.ask(1, &[0.5, 0.5]), None);
        // Somebody else moved it; a cap holds it at 0.6.
        assert!(memory.ask(2, &[0.9, 0.1]).is_some());
        assert!(memory.ask(3, &[0.6, 0.4]).is_some());
        assert_eq!(memory.ask(4, &[0.6, 0.4]), None);
        assert!(memory.ask(3 + ASK_AGAIN_STEPS, &[0.6, 0.4]).is_some());
        assert_eq!(memory.ask(3 + ASK_AGAIN_STEPS, &[0.5, 0.5]), None);
    }

    #[test]
    fn shown_shares_that_are_no_numbers_are_another_mixture() {
        let mut memory = Memory::new(vec![0.5, 0.5]);
        memory.ask(0, &[0.5, 0.5]);
        assert!(memory.ask(1, &[f64::NAN, 0.5]).is_some());
    }

    proptest! {
        #[test]
        fn shares_of_any_size_become_a_mixture(
            web in prop_oneof![Just(0.0), Just(f64::MAX), 0.0..f64::MAX, 0.0..1e-300],
            code in prop_oneof![Just(f64::MAX), Just(f64::MIN_POSITIVE), 1e-300..f64::MAX],
        ) {
            let target = shares(&[("web", web), ("code", code)]).unwrap();
            prop_assert!((target.iter().sum::<f64>() - 1.0).abs() < 1e-12);
            prop_assert!(target.iter().all(|share| (0.0..=1.0).contains(share)), "{target:?}");
        }
    }
}
