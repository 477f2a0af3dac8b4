//! `validation`: held-out losses per domain. Seldom, so one by one.

use hm_domain::event::{Event, Recorded};
use hm_domain::id::RunId;
use sqlx::postgres::PgConnection;

use crate::error::Result;

/// Writes a row for every validation among `events`.
pub(super) async fn insert(
    c: &mut PgConnection,
    run_id: RunId,
    events: &[&Recorded],
) -> Result<()> {
    for recorded in events {
        let Event::ValidationRecorded(event) = &recorded.event else { continue };
        let losses = || event.losses.iter();
        sqlx::query(
            "insert into validation (run_id, seq, attempt, step, loss_sums, loss_tokens) \
             values ($1, $2, $3, $4, $5, $6)",
        )
        .bind(run_id.0)
        .bind(recorded.seq as i64)
        .bind(i64::from(recorded.attempt))
        .bind(event.step as i64)
        .bind(losses().map(|loss| loss.loss_sum).collect::<Vec<_>>())
        .bind(losses().map(|loss| loss.tokens as i64).collect::<Vec<_>>())
        .execute(&mut *c)
        .await?;
    }
    Ok(())
}
