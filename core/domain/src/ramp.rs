//! How many sequences a step draws: the full batch, or a ramp up to it. A pure function of the sequences
//! drawn so far, in exact integers.

use serde::{Deserialize, Serialize};

use crate::settings::Faults;
use crate::spec::TrainingSpec;

/// Most sequences that a step may draw: eight times what a run of frontier size uses, and still a batch
/// that fits in memory as token ids.
pub const SEQUENCES_PER_STEP_MAX: u32 = 1 << 16;

/// Most increments of a ramp: thirty times the report's, and few enough to be counted at every step.
const INCREMENTS_MAX: u32 = 1024;

/// From a small batch to the full one, by equal increments over equal stretches of sequences.
///
/// Megatron-LM's `--rampup-batch-size START INCREMENT SAMPLES` as Aquila2's scripts use it (arXiv
/// 2408.07410, table 13), with its stretches kept in integers: with n increments to the full batch, the
/// k-th of them has happened once k * `over_sequences` / n sequences are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchRamp {
    /// Sequences of the first step.
    pub from: u32,
    /// Sequences that every increment adds.
    pub by: u32,
    /// Sequences drawn by when the batch is full.
    pub over_sequences: u64,
}

/// A batch size and how long it lasts.
struct Stage {
    sequences: u32,
    /// Sequences drawn at which the next one begins; none for the full batch.
    until: Option<u64>,
}

impl BatchRamp {
    fn stage(&self, full: u32, drawn: u64) -> Stage {
        let increments = u128::from(full.saturating_sub(self.from) / self.by.max(1));
        let over = u128::from(self.over_sequences);
        if drawn >= self.over_sequences || increments == 0 {
            return Stage { sequences: full, until: None };
        }
        let done = u128::from(drawn) * increments / over;
        // Fewer than all increments are done, so both fit.
        let sequences = self.from.saturating_add(done as u32 * self.by);
        let until = ((done + 1) * over).div_ceil(increments) as u64;
        Stage { sequences, until: Some(until) }
    }
}

impl TrainingSpec {
    fn stage(&self, drawn: u64) -> Stage {
        let full = self.sequences_per_step;
        match &self.batch_ramp {
            Some(ramp) => ramp.stage(full, drawn),
            None => Stage { sequences: full, until: None },
        }
    }

    /// Sequences of the step that follows after `drawn` sequences.
    pub fn sequences_at(&self, drawn: u64) -> u32 {
        self.stage(drawn).sequences
    }

    /// Sequences that are drawn after `steps` more steps, `drawn` being drawn before them.
    pub fn sequences_after(&self, drawn: u64, steps: u64) -> u64 {
        let (mut at, mut left) = (drawn, steps);
        while left > 0 {
            let Stage { sequences, until } = self.stage(at);
            let sequences = u64::from(sequences.max(1));
            let steps = until.map_or(left, |until| (until - at).div_ceil(sequences).min(left));
            at = at.saturating_add(steps.saturating_mul(sequences));
            left -= steps;
        }
        at
    }

    /// Steps from the beginning until at least `wanted` sequences are drawn.
    pub fn steps_until(&self, wanted: u64) -> u64 {
        let (mut at, mut steps) = (0u64, 0u64);
        while at < wanted {
            let Stage { sequences, until } = self.stage(at);
            let sequences = u64::from(sequences.max(1));
            let more = (until.map_or(wanted, |until| until.min(wanted)) - at).div_ceil(sequences);
            at = at.saturating_add(more.saturating_mul(sequences));
            steps = steps.saturating_add(more);
        }
        steps
    }

    /// Sequences of the whole run, as the spec plans it.
    pub fn sequences_of_run(&self) -> u64 {
        self.sequences_after(0, self.steps)
    }

    /// Refuses a ramp that cannot be climbed. Length and full batch are usable.
    pub(crate) fn check_ramp(&self, faults: &mut Faults) {
        let full = self.sequences_per_step;
        let Some(BatchRamp { from, by, over_sequences }) = self.batch_ramp else { return };
        if from == 0 || from >= full {
            let must = format!("must be at least 1 and below training.sequences_per_step {full}");
            return faults.add("training.batch_ramp.from", from, must);
        }
        let rise = full - from;
        if by == 0 || !rise.is_multiple_of(by) || rise / by > INCREMENTS_MAX {
            let must = format!(
                "must divide the {rise} sequences from {from} to {full} into at most \
                 {INCREMENTS_MAX} increments"
            );
            return faults.add("training.batch_ramp.by", by, must);
        }
        let drawn = self.sequences_of_run();
        let steps = self.steps;
        let must = format!("must be at least 1 and at most the {drawn} that {steps} steps draw");
        let key = "training.batch_ramp.over_sequences";
        faults.require((1..=drawn).contains(&over_sequences), key, over_sequences, must);
    }
}

/// Whether a step can draw so many; what must be otherwise.
pub(crate) fn check_sequences(sequences: u32) -> Result<(), String> {
    if sequences == 0 || sequences > SEQUENCES_PER_STEP_MAX {
        return Err(format!("must be at least 1 and at most {SEQUENCES_PER_STEP_MAX}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::precision::Precision;

    fn training(steps: u64, full: u32, ramp: (u32, u32, u64)) -> TrainingSpec {
        let (from, by, over_sequences) = ramp;
        TrainingSpec {
            steps,
            sequences_per_step: full,
            micro_batch_sequences: 1,
            recompute_blocks: false,
            precision: Precision::F32,
            z_loss: 0.0,
            batch_ramp: Some(BatchRamp { from, by, over_sequences }),
        }
    }

    /// What is wrong with it; nothing where it is usable.
    fn refusal(training: TrainingSpec) -> String {
        let mut faults = Faults::default();
        training.check(&mut faults);
        faults.into_result().err().map_or_else(String::new, |faults| faults.to_string())
    }

    /// Aquila2-34B: 32 to 1024 by 32 over 2,000,000 samples, so 31 increments of 64,516.13 samples.
    #[test]
    fn ramp_of_the_report_is_as_worked_by_hand() {
        let training = training(500_000, 1024, (32, 32, 2_000_000));
        let sizes = [0, 64_516, 64_517, 129_032, 129_033, 1_935_483, 1_935_484, 2_000_000];
        assert_eq!(
            sizes.map(|drawn| training.sequences_at(drawn)),
            [32, 32, 64, 64, 96, 960, 992, 1024]
        );
        // 64,516.13 samples in steps of 32: 2017 of them, which draw 64,544.
        assert_eq!(training.sequences_after(0, 2017), 64_544);
        assert_eq!(training.sequences_at(64_544), 64);
        // 64,516.13 / 32 * (1 + 1/2 + ... + 1/31) is 8119 and a bit; whole steps overshoot a little.
        let steps = training.steps_until(2_000_000);
        assert!((8105..8135).contains(&steps), "{steps}");
        // The report's 1874 B tokens of 4096 a sequence take about 453k steps with the ramp.
        let steps = training.steps_until(1_874_000_000_000 / 4096);
        assert!((452_000..454_000).contains(&steps), "{steps}");
    }

    #[test]
    fn small_ramp_is_as_worked_by_hand() {
        // 2 to 8 by 2 over 30: 3 increments, at 10, 20 and 30 sequences drawn.
        let training = training(20, 8, (2, 2, 30));
        let mut drawn = 0;
        let sizes: Vec<u32> = (0..11)
            .map(|_| {
                let sequences = training.sequences_at(drawn);
                drawn += u64::from(sequences);
                sequences
            })
            .collect();
        // Drawn before each: 0 2 4 6 8, 10 14 18, 22 28, 34.
        assert_eq!(sizes, [2, 2, 2, 2, 2, 4, 4, 4, 6, 6, 8]);
        assert_eq!(training.sequences_after(0, 10), 34);
        assert_eq!(training.steps_until(10), 5);
        assert_eq!(training.steps_until(35), 11);
    }

    #[test]
    fn batch_without_a_ramp_is_the_full_one() {
        let training = TrainingSpec { batch_ramp: None, ..training(100, 8, (1, 1, 1)) };
        assert_eq!((training.sequences_at(0), training.sequences_at(u64::MAX)), (8, 8));
        assert_eq!((training.sequences_of_run(), training.steps_until(9)), (800, 2));
        assert_eq!(refusal(training), "");
    }

    #[test]
    fn contradictions_are_refused_by_key_and_value() {
        let text = refusal(training(100, 8, (8, 2, 30)));
        assert!(text.starts_with("training.batch_ramp.from is 8: must be at least 1"), "{text}");
        assert!(refusal(training(100, 8, (0, 2, 30))).starts_with("training.batch_ramp.from is 0"));
        let text = refusal(training(100, 8, (2, 4, 30)));
        assert_eq!(
            text,
            "training.batch_ramp.by is 4: must divide the 6 sequences from 2 to 8 into at most 1024 \
             increments"
        );
        assert!(refusal(training(100, 8, (2, 0, 30))).starts_with("training.batch_ramp.by is 0"));
        let text = refusal(training(10, 8, (2, 2, 35)));
        let key = "training.batch_ramp.over_sequences";
        assert_eq!(
            text,
            // Increments at 11.67 and 23.33: six steps of 2, three of 4, one of 6.
            format!("{key} is 35: must be at least 1 and at most the 30 that 10 steps draw")
        );
        assert!(refusal(training(10, 8, (2, 2, 0))).starts_with(key));
        let text = refusal(training(10, 70_000, (2, 2, 30)));
        assert!(text.starts_with("training.sequences_per_step is 70000"), "{text}");
        assert_eq!(refusal(training(10, 8, (2, 2, 30))), "");
    }

    proptest! {
        /// Whole stretches at once come to what single steps do, and the batch only grows.
        #[test]
        fn counting_by_stages_agrees_with_counting_by_steps(
            from in 1u32..20, by in 1u32..9, increments in 1u32..12, over in 1u64..2000,
            steps in 0u64..300,
        ) {
            let training = training(steps, from + by * increments, (from, by, over));
            let (mut drawn, mut last) = (0u64, 0);
            for step in 0..steps {
                prop_assert_eq!(training.sequences_after(0, step), drawn);
                let sequences = training.sequences_at(drawn);
                prop_assert!(sequences >= last && (sequences - from).is_multiple_of(by));
                prop_assert!(drawn < over || sequences == training.sequences_per_step);
                drawn += u64::from(sequences);
                last = sequences;
                prop_assert_eq!(training.steps_until(drawn), step + 1);
            }
            prop_assert_eq!(training.sequences_of_run(), drawn);
        }

        #[test]
        fn no_numbers_make_it_panic_or_stand_still(
            from: u32, by: u32, over: u64, full: u32, drawn: u64, steps in 0u64..1000,
        ) {
            let training = training(steps, full, (from, by, over));
            training.sequences_at(drawn);
            prop_assert!(training.sequences_after(drawn, steps) >= drawn);
            refusal(training);
        }
    }
}
