//! `checkpoint`: one row per folder that an event names. Seldom, so one by one.

use hm_domain::event::{Event, Recorded};
use hm_domain::id::RunId;
use sqlx::postgres::PgConnection;

use crate::error::Result;

/// Writes a row for every checkpoint saved among `events`.
pub(super) async fn insert(
    c: &mut PgConnection,
    run_id: RunId,
    events: &[&Recorded],
) -> Result<()> {
    for recorded in events {
        let Event::CheckpointSaved(event) = &recorded.event else { continue };
        sqlx::query(
            "insert into checkpoint (run_id, seq, attempt, step, digest, folder, bytes, begun_seq) \
             values ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(run_id.0)
        .bind(recorded.seq as i64)
        .bind(i64::from(recorded.attempt))
        .bind(event.step as i64)
        .bind(&event.digest.0[..])
        .bind(&event.folder)
        .bind(event.bytes as i64)
        .bind(event.begun as i64)
        .execute(&mut *c)
        .await?;
    }
    Ok(())
}
