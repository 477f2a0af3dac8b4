//! `binding`: the plugins of a run as they stand now. A handful per run, so one by one.

use hm_domain::event::{BindingChange, BindingChanged, Event, Recorded, RolledBack};
use hm_domain::id::RunId;
use hm_domain::state::RunState;
use sqlx::postgres::PgConnection;

use super::{clean, name};
use crate::error::Result;

/// Brings the rows up to date, in the order of `events`.
pub(super) async fn apply(c: &mut PgConnection, run_id: RunId, events: &[&Recorded]) -> Result<()> {
    for recorded in events {
        match &recorded.event {
            Event::BindingChanged(event) => change(c, run_id, recorded.seq, event).await?,
            Event::BindingQuarantined(event) => {
                sqlx::query(
                    "update binding set state = 'quarantined', seq = $3 where run_id = $1 and binding = $2",
                )
                .bind(run_id.0)
                .bind(i64::from(event.binding.0))
                .bind(recorded.seq as i64)
                .execute(&mut *c)
                .await?;
            }
            Event::RunStarted(_) => {
                // What a fork goes on with is bound by its first event.
                let started = RunState::start(&recorded.event);
                for binding in started.iter().flat_map(|state| state.bindings.values()) {
                    change(c, run_id, recorded.seq, &binding.facts).await?;
                }
            }
            Event::RolledBack(event) => roll_back(c, run_id, recorded.seq, event).await?,
            _ => {}
        }
    }
    Ok(())
}

/// What was bound at the checkpoint is bound again as it was there; what was bound since is over.
async fn roll_back(
    c: &mut PgConnection,
    run_id: RunId,
    seq: u64,
    rolled: &RolledBack,
) -> Result<()> {
    // As in the fold: what cannot be read changes nothing, and an audit names it.
    let Ok(then) = RunState::from_snapshot(&rolled.state) else { return Ok(()) };
    sqlx::query(
        "update binding set state = 'released', seq = $2 where run_id = $1 and state = 'bound'",
    )
    .bind(run_id.0)
    .bind(seq as i64)
    .execute(&mut *c)
    .await?;
    for binding in then.bindings.values().filter(|binding| binding.live) {
        change(c, run_id, seq, &binding.facts).await?;
    }
    Ok(())
}

async fn change(
    c: &mut PgConnection,
    run_id: RunId,
    seq: u64,
    event: &BindingChanged,
) -> Result<()> {
    let state = if event.change == BindingChange::Released { "released" } else { "bound" };
    let config: serde_json::Value = serde_json::from_str(&event.config)
        .unwrap_or_else(|_| serde_json::Value::String(event.config.clone()));
    sqlx::query(
        "insert into binding (run_id, binding, seq, plugin, name, version, world, role, config, since_step, state) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) \
         on conflict (run_id, binding) do update set seq = excluded.seq, role = excluded.role, \
         config = excluded.config, since_step = excluded.since_step, state = excluded.state",
    )
    .bind(run_id.0)
    .bind(i64::from(event.binding.0))
    .bind(seq as i64)
    .bind(&event.plugin.0[..])
    .bind(clean(&event.description.name))
    .bind(clean(&event.description.version))
    .bind(name(&event.world))
    .bind(name(&event.role))
    .bind(config)
    .bind(event.step as i64)
    .bind(state)
    .execute(c)
    .await?;
    Ok(())
}
