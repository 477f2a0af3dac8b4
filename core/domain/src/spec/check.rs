//! What the values of a spec must be, each under its key in a run file. Pure: what the data or the
//! database decides is checked where they are known.

use super::{CheckpointSpec, OptimizerSpec, RulesSpec, TrainingSpec, ValidationSpec};
use crate::ramp::{SEQUENCES_PER_STEP_MAX, check_sequences};
use crate::settings::{Faults, number};

/// A step a millisecond for thirty years: more is a slip of the pen.
pub const STEPS_MAX: u64 = 1_000_000_000_000;

/// Gradients clipped to at most this have squares and sums of squares that fit f32.
pub const CLIP_NORM_MAX: f64 = 1e18;

/// A thousandth of what models are trained with. Over a few million parameters it leaves each of them a
/// gradient that the usual epsilon still lets through; far below nothing is learned.
const CLIP_NORM_MIN: f64 = 1e-3;

/// Most of epsilon for a clip norm of 1, in proportion below: a clipped gradient has about a thousandth
/// of its norm in each of a million parameters, and an epsilon above that is all that the update sees.
const EPSILON_PER_CLIP_MAX: f64 = 1e-3;

/// The first moment of more steps than this would outlast a warm-up by far.
const BETA1_MAX: f64 = 0.9999;

/// Closer to 1 single precision no longer tells the distance to a percent.
const BETA2_MAX: f64 = 0.999_999;

/// A hundred times what models are trained with. Above that weights are held so near 0 that they hold
/// nothing.
const WEIGHT_DECAY_MAX: f64 = 10.0;

/// Most of its weight that a step may take away: with more, ten steps later nothing is left of it.
const DECAY_PER_STEP_MAX: f64 = 0.1;

/// Ten thousand times what it is used with (arXiv 2204.02311, section 5): above that the objective is
/// no longer the loss.
const Z_LOSS_MAX: f64 = 1.0;

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
        let holds = (0.0..=Z_LOSS_MAX).contains(&self.z_loss);
        let must = format!("must be from 0, for none, to {Z_LOSS_MAX}; 1e-4 is usual");
        faults.require(holds, "training.z_loss", self.z_loss, must);
    }
}

impl OptimizerSpec {
    /// Constants with which an update of finite gradients is finite and moves the weights; `peak` is the
    /// highest learning rate, where it is a usable one. Moments and weights are f32.
    pub fn check(&self, peak: Option<f64>, faults: &mut Faults) {
        for (key, beta, most) in
            [("optimizer.beta1", self.beta1, BETA1_MAX), ("optimizer.beta2", self.beta2, BETA2_MAX)]
        {
            let must = format!("must be from 0 to {most}");
            faults.require((0.0..=most).contains(&beta), key, beta, must);
        }
        let clip = self.clip_norm;
        let clips = (CLIP_NORM_MIN..=CLIP_NORM_MAX).contains(&clip);
        let must = format!(
            "must be from {CLIP_NORM_MIN} to {CLIP_NORM_MAX:e}: a norm that no gradient reaches, such as \
             1e9, never clips"
        );
        faults.require(clips, "optimizer.clip_norm", clip, must);
        self.check_epsilon(if clips { clip.min(1.0) } else { 1.0 }, faults);
        self.check_decay(peak, faults);
        let most = self.learning_rate_max();
        // A rate beyond f32 is a fault of the schedule already.
        if let Some(peak) =
            peak.filter(|&peak| peak > most && most > 0.0 && (peak as f32).is_finite())
        {
            let must = format!("must be at most {most:.1e}, or updates leave single precision");
            faults.add("training.learning_rate", peak, must);
        }
    }

    /// It keeps an update finite, and leaves it to the gradient. `clip` is the norm that gradients have
    /// at most.
    fn check_epsilon(&self, clip: f64, faults: &mut Faults) {
        let epsilon = self.epsilon;
        let most = number(EPSILON_PER_CLIP_MAX * clip);
        let holds = (epsilon as f32) > 0.0 && epsilon <= EPSILON_PER_CLIP_MAX * clip;
        let must = format!(
            "must be above 0 in single precision and at most {most}, or updates no longer follow \
             gradients that are clipped to {clip}; 1e-8 is usual"
        );
        faults.require(holds, "optimizer.epsilon", epsilon, must);
    }

    /// Largest learning rate under which a million updates in f32 stay in it: the first is divided by
    /// `1 - beta1`, and the decay is the rate times `weight_decay`. Below 0 where `beta1` is above 1.
    pub fn learning_rate_max(&self) -> f64 {
        let shrinks = (1.0 - self.beta1).min(1.0);
        f64::from(f32::MAX) * 1e-6 * shrinks.min(self.weight_decay.abs().recip())
    }

    /// Whether a step at this rate takes away so much of the weights that they keep nothing.
    pub(crate) fn decays_all(&self, rate: f64) -> bool {
        self.weight_decay * rate > DECAY_PER_STEP_MAX
    }

    /// A step multiplies weights by one less decay times learning rate.
    fn check_decay(&self, peak: Option<f64>, faults: &mut Faults) {
        let decay = self.weight_decay;
        if !(0.0..=WEIGHT_DECAY_MAX).contains(&decay) {
            let must = format!("must be from 0 to {WEIGHT_DECAY_MAX}; 0.1 is usual");
            faults.add("optimizer.weight_decay", decay, must);
        } else if let Some(peak) = peak.filter(|&peak| self.decays_all(peak) && peak < 1.0) {
            let must = format!(
                "must be at most {}: times training.learning_rate {peak} it is the share of its weight \
                 that every step takes away",
                number(DECAY_PER_STEP_MAX / peak)
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
        let must = format!(
            "must be at least 1 and, since all of a domain's are held at once like a step's, at most \
             {SEQUENCES_PER_STEP_MAX}; validation.every_steps 0 validates at the first and the last step \
             only"
        );
        let sequences = self.sequences_per_domain;
        let holds = (1..=SEQUENCES_PER_STEP_MAX).contains(&sequences);
        faults.require(holds, "validation.sequences_per_domain", sequences, must);
    }
}

impl CheckpointSpec {
    /// How many stay.
    pub fn check(&self, faults: &mut Faults) {
        let must = "must be at least 1: a run goes on from the newest checkpoint";
        faults.require(self.keep > 0, "checkpoint.keep", self.keep, must);
        let CheckpointSpec { every_steps, keep_every, .. } = *self;
        let is_met = keep_every == 0
            || keep_every.checked_rem(every_steps).is_some_and(|beyond| beyond == 0);
        let must = format!(
            "must be a multiple of checkpoint.every_steps, which is {every_steps}, or 0 for no milestones"
        );
        faults.require(is_met, "checkpoint.keep_every", keep_every, must);
    }
}

/// A decision has `steps` steps to come into force, or it never does.
pub fn check_decision_lag(decision_lag: u64, steps: u64, faults: &mut Faults) {
    let must = format!("must be below the {steps} of training.steps, or no decision takes effect");
    faults.require(decision_lag < steps.max(1), "decision_lag", decision_lag, must);
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
            crate::spec::check_domains(&spec.domains, u64::MAX, faults);
            check_decision_lag(0, 1, faults);
        });
        assert_eq!(found, none);
    }

    #[test]
    fn constants_with_which_adamw_cannot_update_are_refused() {
        let good = OptimizerSpec::default();
        for (bad, key) in [
            (OptimizerSpec { beta1: 1.0, ..good.clone() }, "optimizer.beta1"),
            (OptimizerSpec { beta1: 0.999_999_9, ..good.clone() }, "optimizer.beta1"),
            (OptimizerSpec { beta1: -3.0, ..good.clone() }, "optimizer.beta1"),
            (OptimizerSpec { beta2: 1.5, ..good.clone() }, "optimizer.beta2"),
            // One in single precision.
            (OptimizerSpec { beta2: 1.0 - 1e-12, ..good.clone() }, "optimizer.beta2"),
            (OptimizerSpec { beta2: f64::NAN, ..good.clone() }, "optimizer.beta2"),
            (OptimizerSpec { epsilon: 0.0, ..good.clone() }, "optimizer.epsilon"),
            // Nothing in single precision.
            (OptimizerSpec { epsilon: 1e-60, ..good.clone() }, "optimizer.epsilon"),
            (OptimizerSpec { epsilon: -1.0, ..good.clone() }, "optimizer.epsilon"),
            (OptimizerSpec { epsilon: 1e30, ..good.clone() }, "optimizer.epsilon"),
            (OptimizerSpec { epsilon: 0.01, ..good.clone() }, "optimizer.epsilon"),
            // More than gradients that are clipped to so little leave.
            (OptimizerSpec { epsilon: 1e-5, clip_norm: 1e-3, ..good.clone() }, "optimizer.epsilon"),
            (OptimizerSpec { weight_decay: -1.0, ..good.clone() }, "optimizer.weight_decay"),
            (OptimizerSpec { weight_decay: 1e6, ..good.clone() }, "optimizer.weight_decay"),
            (OptimizerSpec { weight_decay: 500.0, ..good.clone() }, "optimizer.weight_decay"),
            (OptimizerSpec { clip_norm: 0.0, ..good.clone() }, "optimizer.clip_norm"),
            (OptimizerSpec { clip_norm: 1e-12, ..good.clone() }, "optimizer.clip_norm"),
            (OptimizerSpec { clip_norm: 1e-300, ..good.clone() }, "optimizer.clip_norm"),
            (OptimizerSpec { clip_norm: 1e30, ..good.clone() }, "optimizer.clip_norm"),
            (OptimizerSpec { clip_norm: f64::INFINITY, ..good.clone() }, "optimizer.clip_norm"),
        ] {
            assert_eq!(keys(|faults| bad.check(Some(1e-3), faults)), [key], "{bad:?}");
        }
        let eager = OptimizerSpec { weight_decay: 10.0, ..good.clone() };
        assert_eq!(keys(|faults| eager.check(Some(0.02), faults)), ["optimizer.weight_decay"]);
        assert!(keys(|faults| eager.check(Some(0.01), faults)).is_empty());
        let wide = OptimizerSpec { epsilon: 1e-3, clip_norm: 1e9, ..good };
        assert!(keys(|faults| wide.check(Some(1e-3), faults)).is_empty());
    }

    #[test]
    fn weight_of_the_z_loss_beyond_which_the_loss_no_longer_counts_is_refused() {
        for (z_loss, faulty) in
            [(0.0, false), (1e-4, false), (1.5, true), (1e30, true), (-1.0, true)]
        {
            let training = TrainingSpec { z_loss, ..spec(1).training };
            assert_eq!(!keys(|faults| training.check(faults)).is_empty(), faulty, "{z_loss}");
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
        let checkpoint = CheckpointSpec { every_steps: 0, keep: 0, keep_every: 0 };
        assert_eq!(keys(|faults| checkpoint.check(faults)), ["checkpoint.keep"]);
        for (every_steps, keep_every, is_met) in
            [(100, 300, true), (100, 100, true), (100, 0, true), (100, 250, false), (0, 100, false)]
        {
            let checkpoint = CheckpointSpec { every_steps, keep: 1, keep_every };
            assert_eq!(keys(|faults| checkpoint.check(faults)).is_empty(), is_met, "{keep_every}");
        }
        for sequences_per_domain in [0, SEQUENCES_PER_STEP_MAX + 1, u32::MAX] {
            let validation = ValidationSpec { every_steps: 0, sequences_per_domain };
            let due = ["validation.sequences_per_domain"];
            assert_eq!(keys(|faults| validation.check(faults)), due);
        }
        for limit in [0.0, -1.0, 2.1, f64::NAN] {
            let rules = RulesSpec { version: 1, rate_limit: Some(limit), freeze_steps: 0 };
            assert_eq!(keys(|faults| rules.check(faults)), ["rules.rate_limit"], "{limit}");
        }
        for (lag, steps) in [(1, 1), (u64::MAX, 100), (100, 100)] {
            let found = keys(|faults| check_decision_lag(lag, steps, faults));
            assert_eq!(found, ["decision_lag"]);
        }
    }
}
