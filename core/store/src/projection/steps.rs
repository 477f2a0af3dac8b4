//! `step_metric`: one row per step, with arrays over the run's domains.

use hm_domain::event::Recorded;
use hm_domain::id::RunId;
use sqlx::postgres::PgConnection;

use super::lists::Lists;
use super::{name, steps_of};
use crate::error::{Result, StoreError};

const INSERT: &str = "insert into step_metric (run_id, attempt, step, seq, recorded_at, tokens, \
    learning_rate, loss, gradient_norm, effective_clip, verdict, step_us, mixture_version, \
    sequences, loss_sums, loss_tokens) \
    select $1, u.attempt, u.step, u.seq, u.recorded_at, u.tokens, u.learning_rate, u.loss, \
    u.gradient_norm, u.effective_clip, u.verdict, u.step_us, u.mixture_version, \
    ($2::bigint[])[u.start:u.stop], ($3::float8[])[u.start:u.stop], ($4::bigint[])[u.start:u.stop] \
    from unnest($5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[], $10::float8[], \
    $11::float8[], $12::float8[], $13::float8[], $14::text[], $15::bigint[], $16::bigint[], \
    $17::integer[], $18::integer[]) as u(attempt, step, seq, recorded_at, tokens, learning_rate, loss, \
    gradient_norm, effective_clip, verdict, step_us, mixture_version, start, stop)";

/// Writes a row for every step among `events`.
pub(super) async fn insert(
    c: &mut PgConnection,
    run_id: RunId,
    events: &[&Recorded],
) -> Result<()> {
    let steps = steps_of(events);
    if steps.clone().next().is_none() {
        return Ok(());
    }
    // The three lists of a step are of one length, so one pair of positions serves them all.
    let mut sequences = Lists::new();
    let (mut loss_sums, mut loss_tokens) = (Vec::new(), Vec::new());
    for (_, event) in steps.clone() {
        let losses = &event.pre_step.losses;
        if losses.len() != event.draws.len() {
            return Err(StoreError::BadBatch(format!(
                "step {} has draws of {} domains and losses of {}",
                event.step,
                event.draws.len(),
                losses.len()
            )));
        }
        sequences.push(event.draws.iter().map(|draw| i64::from(draw.sequences)));
        loss_sums.extend(losses.iter().map(|loss| loss.loss_sum));
        loss_tokens.extend(losses.iter().map(|loss| loss.tokens as i64));
    }
    sqlx::query(INSERT)
        .bind(run_id.0)
        .bind(sequences.values)
        .bind(loss_sums)
        .bind(loss_tokens)
        .bind(steps.clone().map(|(r, _)| i64::from(r.attempt)).collect::<Vec<_>>())
        .bind(steps.clone().map(|(_, e)| e.step as i64).collect::<Vec<_>>())
        .bind(steps.clone().map(|(r, _)| r.seq as i64).collect::<Vec<_>>())
        .bind(steps.clone().map(|(r, _)| r.recorded_at).collect::<Vec<_>>())
        .bind(steps.clone().map(|(_, e)| e.tokens as i64).collect::<Vec<_>>())
        .bind(steps.clone().map(|(_, e)| e.learning_rate).collect::<Vec<_>>())
        .bind(steps.clone().map(|(_, e)| e.pre_step.loss).collect::<Vec<_>>())
        .bind(steps.clone().map(|(_, e)| e.pre_step.gradient_norm).collect::<Vec<_>>())
        .bind(steps.clone().map(|(_, e)| e.effective_clip).collect::<Vec<_>>())
        .bind(steps.clone().map(|(_, e)| name(&e.verdict)).collect::<Vec<_>>())
        .bind(steps.clone().map(|(_, e)| e.step_us as i64).collect::<Vec<_>>())
        .bind(steps.map(|(_, e)| e.mixture_version as i64).collect::<Vec<_>>())
        .bind(sequences.starts)
        .bind(sequences.stops)
        .execute(c)
        .await?;
    Ok(())
}
