//! `weight_state`: one row per kind of parameter and layer of every measurement.

use hm_domain::event::{Event, Recorded};
use hm_domain::id::RunId;
use sqlx::postgres::PgConnection;

use crate::error::Result;

/// Writes the rows of every measurement among `events`. Seldom, so one measurement at a time.
pub(super) async fn insert(
    c: &mut PgConnection,
    run_id: RunId,
    events: &[&Recorded],
) -> Result<()> {
    for recorded in events {
        let Event::WeightsMeasured(event) = &recorded.event else { continue };
        let (mut kinds, mut layers) = (Vec::new(), Vec::new());
        let (mut stds, mut norms) = (Vec::new(), Vec::new());
        for kind in &event.kinds {
            for (layer, (std, norm)) in (0i64..).zip(kind.std.iter().zip(&kind.norm)) {
                kinds.push(kind.kind.as_str());
                layers.push(layer);
                stds.push(*std);
                norms.push(*norm);
            }
        }
        sqlx::query(
            "insert into weight_state (run_id, seq, attempt, step, kind, layer, std, norm) \
             select $1, $2, $3, $4, * from unnest($5::text[], $6::bigint[], $7::float8[], $8::float8[]) \
             on conflict (run_id, attempt, step, kind, layer) \
             do update set seq = excluded.seq, std = excluded.std, norm = excluded.norm",
        )
        .bind(run_id.0)
        .bind(recorded.seq as i64)
        .bind(i64::from(recorded.attempt))
        .bind(event.step as i64)
        .bind(kinds)
        .bind(layers)
        .bind(stds)
        .bind(norms)
        .execute(&mut *c)
        .await?;
    }
    Ok(())
}
