//! `step_rollup`: sums over powers of two of steps, so that a chart of a million steps reads a thousand
//! rows. Pure: steps go in one by one, complete buckets come out.
//!
//! Level L at bucket b sums steps [b * 2^L, (b + 1) * 2^L). A bucket is written once, when it is
//! complete: level 3 from its eight steps in order, every higher one from its two halves. Always in
//! the same order, so the same log gives the same bits, however it was cut into batches.

use std::collections::BTreeMap;

use hm_domain::event::{Recorded, StepRecorded};
use hm_domain::id::RunId;
use sqlx::postgres::PgConnection;

use super::{rollup_rows, steps_of};
use crate::error::Result;

/// The lowest level: below it a chart reads the steps themselves.
pub(super) const LEVEL_MIN: u32 = 3;

/// One row of `step_rollup`.
#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
pub(super) struct Rollup {
    pub(super) level: i16,
    pub(super) bucket: i64,
    /// Over finite losses only; the others show by their absence from the count.
    pub(super) loss_sum: f64,
    pub(super) loss_count: i64,
    pub(super) loss_min: Option<f64>,
    pub(super) loss_max: Option<f64>,
    pub(super) gradient_norm_max: f64,
    pub(super) learning_rate: f64,
    pub(super) step_us: i64,
    pub(super) sequences: Vec<i64>,
    pub(super) loss_sums: Vec<f64>,
    pub(super) loss_tokens: Vec<i64>,
}

impl Rollup {
    /// A sum of nothing, of the bucket of level 3 that holds `step`.
    fn empty(step: u64) -> Rollup {
        Rollup {
            level: LEVEL_MIN as i16,
            bucket: (step >> LEVEL_MIN) as i64,
            loss_sum: 0.0,
            loss_count: 0,
            loss_min: None,
            loss_max: None,
            gradient_norm_max: 0.0,
            learning_rate: 0.0,
            step_us: 0,
            sequences: Vec::new(),
            loss_sums: Vec::new(),
            loss_tokens: Vec::new(),
        }
    }

    /// Adds the part that follows in time.
    fn add(&mut self, later: &Rollup) {
        self.loss_sum += later.loss_sum;
        self.loss_count += later.loss_count;
        self.loss_min = either(self.loss_min, later.loss_min, f64::min);
        self.loss_max = either(self.loss_max, later.loss_max, f64::max);
        // As Postgres orders them: NaN is above every number, and one NaN marks the bucket.
        if later.gradient_norm_max.is_nan() || later.gradient_norm_max > self.gradient_norm_max {
            self.gradient_norm_max = later.gradient_norm_max;
        }
        self.learning_rate = later.learning_rate;
        self.step_us += later.step_us;
        add_lists(&mut self.sequences, &later.sequences);
        add_lists(&mut self.loss_sums, &later.loss_sums);
        add_lists(&mut self.loss_tokens, &later.loss_tokens);
    }
}

fn either(a: Option<f64>, b: Option<f64>, choose: fn(f64, f64) -> f64) -> Option<f64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(choose(a, b)),
        (a, b) => a.or(b),
    }
}

/// The first list is taken as it is: 0 + -0 would lose a sign.
fn add_lists<T: Copy + std::ops::AddAssign>(sums: &mut Vec<T>, list: &[T]) {
    if sums.is_empty() {
        sums.extend_from_slice(list);
    } else {
        sums.iter_mut().zip(list).for_each(|(sum, value)| *sum += *value);
    }
}

/// One step, as a part of its bucket.
pub(super) fn of_step(event: &StepRecorded) -> Rollup {
    let (losses, loss) = (&event.pre_step.losses, event.pre_step.loss);
    let finite = loss.is_finite().then_some(loss);
    Rollup {
        loss_sum: finite.unwrap_or(0.0),
        loss_count: i64::from(finite.is_some()),
        loss_min: finite,
        loss_max: finite,
        gradient_norm_max: event.pre_step.gradient_norm,
        learning_rate: event.learning_rate,
        step_us: event.step_us as i64,
        sequences: event.draws.iter().map(|draw| i64::from(draw.sequences)).collect(),
        loss_sums: losses.iter().map(|loss| loss.loss_sum).collect(),
        loss_tokens: losses.iter().map(|loss| loss.tokens as i64).collect(),
        ..Rollup::empty(event.step)
    }
}

/// What is not complete yet, of one attempt.
#[derive(Debug, Default)]
pub(super) struct Tower {
    /// The newest bucket of level 3 and the step it wants next.
    eight: Option<(u64, Rollup)>,
    /// Per level, the newest complete bucket that still wants its right half.
    halves: BTreeMap<i16, Rollup>,
}

impl Tower {
    /// Puts a complete left half back.
    pub(super) fn restore(&mut self, half: Rollup) {
        self.halves.insert(half.level, half);
    }

    /// Adds a step; gives the buckets that it completes, lowest level first.
    pub(super) fn push(&mut self, step: u64, part: &Rollup) -> Vec<Rollup> {
        // A bucket whose first steps belong to another attempt stays incomplete.
        let mut bucket = match self.eight.take() {
            _ if step.is_multiple_of(8) => Rollup::empty(step),
            Some((wanted, bucket)) if wanted == step => bucket,
            _ => return Vec::new(),
        };
        bucket.add(part);
        if step % 8 < 7 {
            self.eight = Some((step + 1, bucket));
            return Vec::new();
        }
        let mut complete = Vec::new();
        while bucket.bucket % 2 == 1 {
            let half = self.halves.remove(&bucket.level);
            complete.push(bucket.clone());
            let Some(mut whole) = half.filter(|half| half.bucket == bucket.bucket - 1) else {
                return complete;
            };
            whole.add(&bucket);
            (whole.level, whole.bucket) = (whole.level + 1, whole.bucket / 2);
            bucket = whole;
        }
        complete.push(bucket.clone());
        self.halves.insert(bucket.level, bucket);
        complete
    }
}

/// Writes every bucket that the steps among `events` complete.
pub(super) async fn insert(
    c: &mut PgConnection,
    run_id: RunId,
    events: &[&Recorded],
) -> Result<()> {
    let steps: Vec<_> = steps_of(events).collect();
    for steps in steps.chunk_by(|(a, _), (b, _)| a.attempt == b.attempt) {
        let (first, last) = (steps[0].1.step, steps[steps.len() - 1].1.step);
        if (last + 1) >> LEVEL_MIN == first >> LEVEL_MIN {
            continue; // Completes nothing.
        }
        let attempt = i64::from(steps[0].0.attempt);
        let mut tower = rollup_rows::tower_before(c, run_id, attempt, first, last).await?;
        let complete: Vec<Rollup> =
            steps.iter().flat_map(|(_, event)| tower.push(event.step, &of_step(event))).collect();
        rollup_rows::insert(c, run_id, attempt, &complete).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(step: u64) -> Rollup {
        Rollup {
            loss_sum: 0.1 * step as f64,
            loss_count: 1,
            sequences: vec![1, step as i64],
            ..Rollup::empty(step)
        }
    }

    fn keys(rollups: &[Rollup]) -> Vec<(i16, i64)> {
        rollups.iter().map(|rollup| (rollup.level, rollup.bucket)).collect()
    }

    #[test]
    fn thirty_two_steps_make_four_two_and_one_bucket() {
        let mut tower = Tower::default();
        let complete: Vec<Rollup> = (0..32).flat_map(|s| tower.push(s, &part(s))).collect();
        assert_eq!(keys(&complete), [(3, 0), (3, 1), (4, 0), (3, 2), (3, 3), (4, 1), (5, 0)]);
        assert_eq!(complete[6].sequences, [32, 496]);
        assert_eq!(complete[6].loss_count, 32);
    }

    #[test]
    fn an_attempt_that_starts_inside_a_bucket_leaves_it_and_its_parents_out() {
        let mut tower = Tower::default();
        let complete: Vec<Rollup> = (3..32).flat_map(|s| tower.push(s, &part(s))).collect();
        assert_eq!(keys(&complete), [(3, 1), (3, 2), (3, 3), (4, 1)]);
    }

    #[test]
    fn one_gradient_that_is_no_number_marks_every_bucket_above() {
        let mut tower = Tower::default();
        let complete = (0..16).flat_map(|step| {
            let norm = if step == 2 { f64::NAN } else { 1.0 };
            tower.push(step, &Rollup { gradient_norm_max: norm, ..part(step) })
        });
        let marked: Vec<bool> = complete.map(|rollup| rollup.gradient_norm_max.is_nan()).collect();
        assert_eq!(marked, [true, false, true]);
    }
}
