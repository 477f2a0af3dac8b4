//! The part of a run file that says how long a run is, what its steps draw, and how fast it learns.

use hm_domain::curve::Curve;
use hm_domain::precision::Precision;
use hm_domain::ramp::BatchRamp;
use hm_domain::schedule::{Schedule, Shape, Warmup};
use hm_domain::settings::Faults;
use hm_domain::spec::{STEPS_MAX, TrainingSpec};
use serde::{Deserialize, Serialize};

/// Length, batches and learning rate as typed.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TrainingChoice {
    pub(crate) steps: u64,
    pub(crate) sequences_per_step: u32,
    #[serde(default)]
    pub(crate) batch_ramp: Option<BatchRamp>,
    #[serde(default)]
    pub(crate) micro_batch_sequences: Option<u32>,
    #[serde(default)]
    pub(crate) recompute_blocks: bool,
    #[serde(default)]
    pub(crate) precision: Precision,
    #[serde(default)]
    pub(crate) z_loss: f64,
    #[serde(default = "learning_rate")]
    pub(crate) learning_rate: f64,
    #[serde(default)]
    pub(crate) learning_rate_minimum: Option<f64>,
    /// One of three; its unit is what the schedule counts by.
    #[serde(default)]
    pub(crate) warmup_steps: Option<u64>,
    #[serde(default)]
    pub(crate) warmup_sequences: Option<u64>,
    #[serde(default)]
    pub(crate) warmup_tokens: Option<u64>,
    #[serde(default)]
    pub(crate) schedule: ScheduleChoice,
}

fn learning_rate() -> f64 {
    1e-3
}

/// What follows the warm-up.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ScheduleChoice {
    pub(crate) kind: ScheduleKind,
    /// Of warmup-stable-decay only: the decay's share of the run.
    #[serde(default)]
    pub(crate) decay_share: Option<f64>,
    /// Of warmup-stable-decay only: its way down.
    #[serde(default)]
    pub(crate) decay: Option<Curve>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ScheduleKind {
    #[default]
    Cosine,
    Linear,
    Constant,
    WarmupStableDecay,
}

/// `MiniCPM` finds a tenth of the run enough, and a fortieth too little (arXiv 2404.06395, section 4).
const DECAY_SHARE: f64 = 0.1;

impl TrainingChoice {
    /// Notes what is wrong with it whatever the data and the model are.
    pub(crate) fn check(&self, faults: &mut Faults) {
        let training = self.training_spec();
        training.check(faults);
        self.check_contradictions(faults);
        let schedule = self.schedule();
        let usable = (1..=STEPS_MAX).contains(&training.steps);
        let end = match schedule.warmup {
            Warmup::Steps(_) => Some(training.steps),
            Warmup::Sequences(_) => Some(training.sequences_of_run()),
            // Known with the model's sequence length.
            Warmup::Tokens(_) => None,
        };
        schedule.check(end.filter(|_| usable), faults);
    }

    /// Keys that speak against each other.
    fn check_contradictions(&self, faults: &mut Faults) {
        if let (ScheduleKind::Constant, Some(minimum)) =
            (self.schedule.kind, self.learning_rate_minimum)
        {
            let peak = self.learning_rate;
            let must = format!("must be left out: a constant schedule stays at {peak}");
            faults.add("training.learning_rate_minimum", minimum, must);
        }
        if let [first, second, ..] = self.warmups()[..] {
            let must = format!(
                "must be left out, or {} {}: a schedule counts by one of them",
                second.key(),
                second.length()
            );
            faults.add(first.key(), first.length(), must);
        }
        if self.schedule.kind != ScheduleKind::WarmupStableDecay {
            let must = "must be left out: only a schedule of kind warmup-stable-decay has a decay \
                        of its own";
            if let Some(share) = self.schedule.decay_share {
                faults.add("training.schedule.decay_share", share, must);
            }
            if let Some(decay) = self.schedule.decay {
                faults.add("training.schedule.decay", decay.name(), must);
            }
        }
    }

    /// Without a choice the whole step is in memory at once.
    pub(crate) fn training_spec(&self) -> TrainingSpec {
        TrainingSpec {
            steps: self.steps,
            sequences_per_step: self.sequences_per_step,
            micro_batch_sequences: self.micro_batch_sequences.unwrap_or(self.sequences_per_step),
            recompute_blocks: self.recompute_blocks,
            precision: self.precision,
            z_loss: self.z_loss,
            batch_ramp: self.batch_ramp,
        }
    }

    /// The minimum defaults to a tenth of the peak. Of keys that speak against each other the first
    /// counts, since [`TrainingChoice::check`] refuses them.
    pub(crate) fn schedule(&self) -> Schedule {
        let peak = self.learning_rate;
        let minimum = match self.schedule.kind {
            ScheduleKind::Constant => peak,
            _ => self.learning_rate_minimum.unwrap_or(peak / 10.0),
        };
        // 2 % of the steps, at least 10 where there are so many.
        let by_default = Warmup::Steps((self.steps / 50).max(10).min(self.steps));
        let warmup = self.warmups().first().copied().unwrap_or(by_default);
        Schedule { peak, minimum, warmup, shape: self.shape() }
    }

    /// Warm-ups that are named.
    fn warmups(&self) -> Vec<Warmup> {
        let given = [
            self.warmup_steps.map(Warmup::Steps),
            self.warmup_sequences.map(Warmup::Sequences),
            self.warmup_tokens.map(Warmup::Tokens),
        ];
        given.into_iter().flatten().collect()
    }

    fn shape(&self) -> Shape {
        let ScheduleChoice { kind, decay_share, decay } = self.schedule;
        match kind {
            ScheduleKind::Cosine => Shape::Cosine,
            ScheduleKind::Linear => Shape::Linear,
            ScheduleKind::Constant => Shape::Constant,
            ScheduleKind::WarmupStableDecay => Shape::WarmupStableDecay {
                decay_share: decay_share.unwrap_or(DECAY_SHARE),
                decay: decay.unwrap_or(Curve::Exponential),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(more: &str) -> TrainingChoice {
        let text = format!(r#"{{"steps": 1000, "sequences_per_step": 8{more}}}"#);
        serde_json::from_str(&text).unwrap()
    }

    fn refusal(more: &str) -> String {
        let mut faults = Faults::default();
        choice(more).check(&mut faults);
        faults.to_string()
    }

    #[test]
    fn file_that_says_nothing_means_what_it_always_meant() {
        let schedule = choice("").schedule();
        let due = r#"{"peak":0.001,"minimum":0.0001,"warmup_steps":20}"#;
        assert_eq!(serde_json::to_string(&schedule).unwrap(), due);
        let training = serde_json::to_string(&choice("").training_spec()).unwrap();
        let due = r#"{"steps":1000,"sequences_per_step":8,"micro_batch_sequences":8}"#;
        assert_eq!(training, due);
    }

    #[test]
    fn every_key_comes_to_what_it_names() {
        let shape =
            |schedule: &str| choice(&format!(r#", "schedule": {schedule}"#)).schedule().shape;
        assert_eq!(shape(r#"{"kind": "linear"}"#), Shape::Linear);
        let (decay_share, decay) = (0.1, Curve::Exponential);
        let due = Shape::WarmupStableDecay { decay_share, decay };
        assert_eq!(shape(r#"{"kind": "warmup-stable-decay"}"#), due);
        let (decay_share, decay) = (0.25, Curve::SquareRoot);
        let due = Shape::WarmupStableDecay { decay_share, decay };
        let text =
            r#"{"kind": "warmup-stable-decay", "decay_share": 0.25, "decay": "square-root"}"#;
        assert_eq!(shape(text), due);
        let constant = choice(r#", "schedule": {"kind": "constant"}"#).schedule();
        assert_eq!((constant.shape, constant.minimum), (Shape::Constant, 1e-3));
        let warmup = |more: &str| choice(more).schedule().warmup;
        assert_eq!(warmup(r#", "warmup_tokens": 5"#), Warmup::Tokens(5));
        assert_eq!(warmup(r#", "warmup_sequences": 5"#), Warmup::Sequences(5));
        let ramped = choice(r#", "batch_ramp": {"from": 2, "by": 2, "over_sequences": 30}"#);
        let due = BatchRamp { from: 2, by: 2, over_sequences: 30 };
        assert_eq!(ramped.training_spec().batch_ramp, Some(due));
    }

    #[test]
    fn keys_that_speak_against_each_other_are_refused_with_both_values() {
        assert_eq!(
            refusal(r#", "warmup_steps": 10, "warmup_tokens": 500"#),
            "training.warmup_steps is 10: must be left out, or training.warmup_tokens 500: a schedule \
             counts by one of them"
        );
        let text = refusal(r#", "learning_rate_minimum": 1e-5, "schedule": {"kind": "constant"}"#);
        assert!(text.starts_with("training.learning_rate_minimum is 0.00001"), "{text}");
        let text = refusal(r#", "schedule": {"kind": "linear", "decay_share": 0.2}"#);
        assert!(
            text.starts_with("training.schedule.decay_share is 0.2: must be left out"),
            "{text}"
        );
        let text = refusal(r#", "schedule": {"kind": "cosine", "decay": "square-root"}"#);
        assert!(text.starts_with("training.schedule.decay is square-root: must be left"), "{text}");
    }
}
