//! What the values of a spec must be, each under its key in a run file. Pure: what the data or the
//! database decides is checked where they are known.

use serde::{Deserialize, Serialize};

use super::{CheckpointSpec, DomainSpec, OptimizerSpec, RulesSpec, TrainingSpec, ValidationSpec};
use crate::ramp::check_sequences;
use crate::settings::{Faults, key_of};

/// A step a millisecond for thirty years: more is a slip of the pen.
pub const STEPS_MAX: u64 = 1_000_000_000_000;

/// Gradients clipped to at most this have squares and sums of squares that fit f32.
pub const CLIP_NORM_MAX: f64 = 1e18;

impl TrainingSpec {
    /// Length and batches.
    pub fn check(&self, faults: &mut Faults) {
        let steps = self.steps;
        let must = format!("must be at least 1 and at most {STEPS_MAX}");
        faults.require((1..=STEPS_MAX).contains(&steps), "training.steps", steps, must);
        let full = self.sequences_per_step;
        match check_sequences(full) {
            Err(must) => faults.add("training.sequences_per_step", full, must),
            Ok(()) => {
                let micro = self.micro_batch_sequences;
                let must = format!(
                    "must be at least 1 and at most the {full} of training.sequences_per_step"
                );
                let holds = (1..=full).contains(&micro);
                faults.require(holds, "training.micro_batch_sequences", micro, must);
                if (1..=STEPS_MAX).contains(&steps) {
                    self.check_ramp(faults);
                }
            }
        }
        // Computed in f32: what overflows there is no weight of anything.
        let holds = self.z_loss >= 0.0 && (self.z_loss as f32).is_finite();
        let must = "must be a weight of at least 0, 0 for none";
        faults.require(holds, "training.z_loss", self.z_loss, must);
    }
}

impl OptimizerSpec {
    /// Constants with which every update of finite gradients is finite; `peak` is the highest
    /// learning rate, where it is a usable one. Moments and weights are f32, so bounds are f32's.
    pub fn check(&self, peak: Option<f64>, faults: &mut Faults) {
        for (key, beta) in [("optimizer.beta1", self.beta1), ("optimizer.beta2", self.beta2)] {
            let holds = beta >= 0.0 && (beta as f32) < 1.0;
            faults.require(holds, key, beta, "must be at least 0 and below 1 in single precision");
        }
        let epsilon = self.epsilon;
        let holds = epsilon.is_finite() && (epsilon as f32) > 0.0 && (epsilon as f32).is_finite();
        let must = "must be above 0 in single precision, such as 1e-8";
        faults.require(holds, "optimizer.epsilon", epsilon, must);
        self.check_decay(peak, faults);
        let most = self.learning_rate_max();
        // A rate beyond f32 is a fault of the schedule already.
        if let Some(peak) =
            peak.filter(|&peak| peak > most && most > 0.0 && (peak as f32).is_finite())
        {
            let must = format!("must be at most {most:.1e}, or updates leave single precision");
            faults.add("training.learning_rate", peak, must);
        }
        let clip = self.clip_norm;
        let must = format!(
            "must be above 0 and at most {CLIP_NORM_MAX:e}: a norm that no gradient reaches, such as 1e9, never clips"
        );
        faults.require(clip > 0.0 && clip <= CLIP_NORM_MAX, "optimizer.clip_norm", clip, must);
    }

    /// Largest learning rate under which a million updates in f32 stay in it: the first is divided by
    /// `1 - beta1`, and the decay is the rate times `weight_decay`. Below 0 where `beta1` is above 1.
    pub fn learning_rate_max(&self) -> f64 {
        let shrinks = (1.0 - self.beta1).min(1.0);
        f64::from(f32::MAX) * 1e-6 * shrinks.min(self.weight_decay.abs().recip())
    }

    /// A step multiplies weights by one less decay times learning rate, which must not turn them over.
    fn check_decay(&self, peak: Option<f64>, faults: &mut Faults) {
        let decay = self.weight_decay;
        if !(decay >= 0.0 && decay.is_finite()) {
            faults.add("optimizer.weight_decay", decay, "must be a number of at least 0");
        } else if let Some(peak) = peak.filter(|peak| decay * peak >= 1.0 && *peak < 1.0) {
            let must = format!(
                "must be below {}: times training.learning_rate {peak} it is the share of its weight \
                 that every step takes away",
                1.0 / peak
            );
            faults.add("optimizer.weight_decay", decay, must);
        }
    }
}

impl RulesSpec {
    /// What bounds a policy.
    pub fn check(&self, faults: &mut Faults) {
        let Some(limit) = self.rate_limit else { return };
        let must = "must be above 0 and at most 2, the distance of two mixtures that share nothing; \
                    null for no limit";
        faults.require(limit > 0.0 && limit <= 2.0, "rules.rate_limit", limit, must);
    }
}

impl ValidationSpec {
    /// How often, and on how much.
    pub fn check(&self, faults: &mut Faults) {
        let must = "must be at least 1; validation.every_steps 0 validates at the first and the last \
                    step only";
        let sequences = self.sequences_per_domain;
        faults.require(sequences > 0, "validation.sequences_per_domain", sequences, must);
    }
}

impl CheckpointSpec {
    /// How many stay.
    pub fn check(&self, faults: &mut Faults) {
        let must = "must be at least 1: a run goes on from the newest checkpoint";
        faults.require(self.keep > 0, "checkpoint.keep", self.keep, must);
    }
}

/// A decision has `steps` steps to come into force, or it never does.
pub fn check_decision_lag(decision_lag: u64, steps: u64, faults: &mut Faults) {
    let must = format!("must be below the {steps} of training.steps, or no decision takes effect");
    faults.require(decision_lag < steps.max(1), "decision_lag", decision_lag, must);
}

/// Bounds of one domain's share, as a run file has them under the domain's name.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Smallest share.
    pub floor: f64,
    /// Largest share.
    pub cap: f64,
    /// Most passes over the domain in the whole run, if limited.
    pub max_epochs: Option<f64>,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { floor: 0.0, cap: 1.0, max_epochs: None }
    }
}

impl Limits {
    /// Bounds that leave a share between them, under the name of their domain.
    pub fn check(&self, domain: &str, faults: &mut Faults) {
        let Limits { floor, cap, max_epochs } = *self;
        let key = |which: &str| format!("{}.{which}", key_of("limits", domain));
        let share = |value: f64| (0.0..=1.0).contains(&value);
        for (which, value) in [("floor", floor), ("cap", cap)] {
            faults.require(share(value), key(which), value, "must be a share from 0 to 1");
        }
        if share(floor) && share(cap) && floor > cap {
            faults.add(key("floor"), floor, format!("must be at most its cap {cap}"));
        }
        let Some(epochs) = max_epochs else { return };
        if !(epochs >= 0.0 && epochs.is_finite()) {
            let must = "must be a number of passes of at least 0; leave it out for no limit";
            faults.add(key("max_epochs"), epochs, must);
        } else if epochs == 0.0 && floor > 0.0 {
            let must = format!("must be above 0 where the floor is {floor}");
            faults.add(key("max_epochs"), epochs, must);
        }
    }
}

/// Floors that leave room for each other, and caps that hold a whole mixture. `domains` are all of
/// them, those without limits too.
pub fn check_domains(domains: &[DomainSpec], tokens_of_run: u64, faults: &mut Faults) {
    let sum = |of: fn(&DomainSpec) -> f64| -> f64 { domains.iter().map(of).sum() };
    // As many roundings as there are domains.
    let slack = domains.len() as f64 * f64::EPSILON;
    let floors = sum(|domain| domain.floor);
    let must = "must be at most 1, all floors together: lower some";
    faults.require(floors <= 1.0 + slack, "limits.*.floor", floors, must);
    let caps = sum(|domain| domain.cap);
    let must = "must be at least 1, the caps of all domains together: raise some";
    faults.require(caps >= 1.0 - slack, "limits.*.cap", caps, must);
    let readable = domains
        .iter()
        .try_fold(0.0, |sum, domain| Some(sum + domain.max_epochs? * domain.tokens() as f64));
    if let Some(readable) = readable.filter(|readable| *readable < tokens_of_run as f64) {
        let must = format!(
            "must be at least the {tokens_of_run} tokens that the run draws, over all domains: \
             lower training.steps, raise some max_epochs, or leave a domain without"
        );
        faults.add("limits.*.max_epochs", format!("{readable:.0} tokens"), must);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn largest_learning_rate_follows_what_an_update_multiplies_it_with() {
        let most = |beta1, weight_decay| {
            OptimizerSpec { beta1, weight_decay, ..OptimizerSpec::default() }.learning_rate_max()
        };
        let close = |found: f64, due: f64| assert!((found / due - 1.0).abs() < 1e-6, "{found}");
        close(most(0.9, 0.1), 3.4028235e31);
        close(most(0.0, 0.0), 3.4028235e32);
        close(most(0.0, 1000.0), 3.4028235e29);
        let mut faults = Faults::default();
        OptimizerSpec::default().check(Some(1e30), &mut faults);
        assert!(faults.is_empty());
        OptimizerSpec::default().check(Some(1e38), &mut faults);
        let due = "must be at most 3.4e31, or updates leave single precision";
        assert!(faults.to_string().ends_with(due), "{faults}");
    }
    use crate::testing::spec;

    /// Keys of what is wrong.
    fn keys(check: impl FnOnce(&mut Faults)) -> Vec<String> {
        let mut faults = Faults::default();
        check(&mut faults);
        faults.all().iter().map(|fault| fault.key.clone()).collect()
    }

    #[test]
    fn what_a_run_file_leaves_out_is_fine() {
        let spec = spec(3);
        let none: [&str; 0] = [];
        let found = keys(|faults| {
            spec.training.check(faults);
            OptimizerSpec::default().check(Some(1e-3), faults);
            ValidationSpec::default().check(faults);
            CheckpointSpec::default().check(faults);
            RulesSpec { version: 1, rate_limit: Some(0.2), freeze_steps: 0 }.check(faults);
            check_domains(&spec.domains, u64::MAX, faults);
            check_decision_lag(0, 1, faults);
        });
        assert_eq!(found, none);
    }

    #[test]
    fn constants_with_which_adamw_cannot_update_are_refused() {
        let good = OptimizerSpec::default();
        for (bad, key) in [
            (OptimizerSpec { beta1: 1.0, ..good.clone() }, "optimizer.beta1"),
            (OptimizerSpec { beta1: -3.0, ..good.clone() }, "optimizer.beta1"),
            (OptimizerSpec { beta2: 1.5, ..good.clone() }, "optimizer.beta2"),
            // One in single precision.
            (OptimizerSpec { beta2: 1.0 - 1e-12, ..good.clone() }, "optimizer.beta2"),
            (OptimizerSpec { beta2: f64::NAN, ..good.clone() }, "optimizer.beta2"),
            (OptimizerSpec { epsilon: 0.0, ..good.clone() }, "optimizer.epsilon"),
            // Nothing in single precision.
            (OptimizerSpec { epsilon: 1e-60, ..good.clone() }, "optimizer.epsilon"),
            (OptimizerSpec { epsilon: -1.0, ..good.clone() }, "optimizer.epsilon"),
            (OptimizerSpec { weight_decay: -1.0, ..good.clone() }, "optimizer.weight_decay"),
            (OptimizerSpec { weight_decay: 1e6, ..good.clone() }, "optimizer.weight_decay"),
            (OptimizerSpec { clip_norm: 0.0, ..good.clone() }, "optimizer.clip_norm"),
            (OptimizerSpec { clip_norm: 1e30, ..good.clone() }, "optimizer.clip_norm"),
            (OptimizerSpec { clip_norm: f64::INFINITY, ..good.clone() }, "optimizer.clip_norm"),
        ] {
            assert_eq!(keys(|faults| bad.check(Some(1e-3), faults)), [key], "{bad:?}");
        }
    }

    #[test]
    fn zero_means_never_or_is_refused() {
        let training = TrainingSpec {
            steps: 0,
            sequences_per_step: 0,
            micro_batch_sequences: 0,
            ..spec(1).training
        };
        let found = keys(|faults| training.check(faults));
        assert_eq!(found, ["training.steps", "training.sequences_per_step"]);
        let micro = TrainingSpec { micro_batch_sequences: 0, ..spec(1).training };
        assert_eq!(keys(|faults| micro.check(faults)), ["training.micro_batch_sequences"]);
        let micro = TrainingSpec { micro_batch_sequences: 9, ..spec(1).training };
        assert_eq!(keys(|faults| micro.check(faults)), ["training.micro_batch_sequences"]);
        let checkpoint = CheckpointSpec { every_steps: 0, keep: 0 };
        assert_eq!(keys(|faults| checkpoint.check(faults)), ["checkpoint.keep"]);
        let validation = ValidationSpec { every_steps: 0, sequences_per_domain: 0 };
        let due = ["validation.sequences_per_domain"];
        assert_eq!(keys(|faults| validation.check(faults)), due);
        for limit in [0.0, -1.0, 2.1, f64::NAN] {
            let rules = RulesSpec { version: 1, rate_limit: Some(limit), freeze_steps: 0 };
            assert_eq!(keys(|faults| rules.check(faults)), ["rules.rate_limit"], "{limit}");
        }
        for (lag, steps) in [(1, 1), (u64::MAX, 100), (100, 100)] {
            let found = keys(|faults| check_decision_lag(lag, steps, faults));
            assert_eq!(found, ["decision_lag"]);
        }
    }

    #[test]
    fn limits_that_leave_no_share_are_refused_under_the_name_of_their_domain() {
        let free = Limits::default();
        for (bad, domain, due) in [
            (Limits { floor: -0.1, ..free }, "web", "limits.web.floor"),
            (Limits { floor: 5.0, ..free }, "web", "limits.web.floor"),
            (Limits { floor: f64::NAN, ..free }, "web", "limits.web.floor"),
            (Limits { cap: 1.5, ..free }, "a b", "limits.\"a b\".cap"),
            (Limits { cap: -1.0, ..free }, "web", "limits.web.cap"),
            (Limits { floor: 0.9, cap: 0.1, ..free }, "web", "limits.web.floor"),
            (Limits { max_epochs: Some(-3.0), ..free }, "web", "limits.web.max_epochs"),
            (Limits { floor: 0.1, max_epochs: Some(0.0), ..free }, "web", "limits.web.max_epochs"),
        ] {
            assert_eq!(keys(|faults| bad.check(domain, faults)), [due], "{bad:?}");
        }
    }

    #[test]
    fn limits_of_all_domains_together_must_hold_a_whole_mixture() {
        let mut spec = spec(2);
        let found = |spec: &crate::spec::RunSpec, tokens| {
            keys(|faults| check_domains(&spec.domains, tokens, faults))
        };
        for domain in &mut spec.domains {
            domain.floor = 0.7;
        }
        assert_eq!(found(&spec, 0), ["limits.*.floor"]);
        for domain in &mut spec.domains {
            (domain.floor, domain.cap) = (0.0, 0.3);
        }
        assert_eq!(found(&spec, 0), ["limits.*.cap"]);
        // Two domains of 100 tokens, three and four times: 700 tokens and no more.
        for (domain, epochs) in spec.domains.iter_mut().zip([3.0, 4.0]) {
            (domain.cap, domain.max_epochs) = (1.0, Some(epochs));
        }
        assert!(found(&spec, 700).is_empty());
        assert_eq!(found(&spec, 701), ["limits.*.max_epochs"]);
        spec.domains[1].max_epochs = None;
        assert!(found(&spec, 701).is_empty());
    }
}
