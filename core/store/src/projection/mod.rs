//! Tables that people read in `psql`, written in the append transaction and recreated from the log.
//! Derived from events alone: no clock, no other table's history.
//!
//! Each table picks its rows from a batch of events and writes them with one statement. How the log
//! was cut into batches leaves no trace in any row.

mod bindings;
mod checkpoints;
mod decisions;
mod findings;
mod lists;
mod rebuild;
mod rollbacks;
mod rollup_rows;
mod rollups;
mod run_row;
mod shadow;
mod steps;
mod validations;
mod weights;

use hm_domain::event::{Event, Recorded, StepRecorded};
use hm_domain::id::RunId;
use sqlx::postgres::PgConnection;

use crate::error::Result;
pub use rebuild::{Rebuilt, ViewDifference, ViewsReport};

/// Every projected table; none refers to one before it.
pub(crate) fn tables() -> impl Iterator<Item = &'static str> {
    shadow::TABLES.iter().rev().map(|table| table.name)
}

/// Writes what `events` show. The system stream has no projections.
pub(crate) async fn project(
    c: &mut PgConnection,
    run_id: RunId,
    events: &[&Recorded],
) -> Result<()> {
    if run_id == RunId::SYSTEM || events.is_empty() {
        return Ok(());
    }
    // The run's own row first: every other row refers to it.
    run_row::insert(c, run_id, events).await?;
    steps::insert(c, run_id, events).await?;
    rollups::insert(c, run_id, events).await?;
    decisions::insert(c, run_id, events).await?;
    findings::insert(c, run_id, events).await?;
    bindings::apply(c, run_id, events).await?;
    checkpoints::insert(c, run_id, events).await?;
    rollbacks::insert(c, run_id, events).await?;
    validations::insert(c, run_id, events).await?;
    weights::insert(c, run_id, events).await?;
    run_row::update(c, run_id, events).await
}

/// The steps among `events`.
fn steps_of<'a>(
    events: &'a [&Recorded],
) -> impl Iterator<Item = (&'a Recorded, &'a StepRecorded)> + Clone {
    events.iter().filter_map(|recorded| match &recorded.event {
        Event::StepRecorded(step) => Some((*recorded, &**step)),
        _ => None,
    })
}

/// A unit enum's name, as in JSON.
fn name(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        Ok(serde_json::Value::Object(object)) => {
            object.get("kind").and_then(|kind| kind.as_str()).unwrap_or_default().to_owned()
        }
        _ => String::new(),
    }
}

/// Postgres keeps no zero byte in text, and a plugin's words must not stop a run.
fn clean(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}
