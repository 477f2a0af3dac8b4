//! `rollback`: one row per return to a checkpoint. Seldom, so one by one.

use hm_domain::event::{Event, Recorded};
use hm_domain::id::RunId;
use sqlx::postgres::PgConnection;

use super::clean;
use crate::error::Result;

/// Writes a row for every rollback among `events`.
pub(super) async fn insert(
    c: &mut PgConnection,
    run_id: RunId,
    events: &[&Recorded],
) -> Result<()> {
    for recorded in events {
        let Event::RolledBack(event) = &recorded.event else { continue };
        sqlx::query(
            "insert into rollback (run_id, seq, attempt, step, to_step, checkpoint_seq, begun_seq, \
             folder, skipped_data, reason, issued_by) \
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        )
        .bind(run_id.0)
        .bind(recorded.seq as i64)
        .bind(i64::from(event.attempt))
        .bind(event.step as i64)
        .bind(event.to_step as i64)
        .bind(event.seq as i64)
        .bind(event.checkpoint.begun as i64)
        .bind(&event.checkpoint.folder)
        .bind(event.skipped_data)
        .bind(clean(&event.reason))
        .bind(clean(&event.by))
        .execute(&mut *c)
        .await?;
    }
    Ok(())
}
