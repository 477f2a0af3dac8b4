//! The row of `run`: made by the first event, brought up to date once per batch.

use hm_domain::event::{Event, Parent, Recorded, RunStarted};
use hm_domain::id::RunId;
use hm_domain::spec::RunSpec;
use hm_domain::state::RunState;
use sqlx::postgres::PgConnection;
use sqlx::types::Json;

use super::name;
use crate::error::{Result, StoreError};

/// Makes the row, if the run starts among `events`.
pub(super) async fn insert(
    c: &mut PgConnection,
    run_id: RunId,
    events: &[&Recorded],
) -> Result<()> {
    for recorded in events {
        let Event::RunStarted(event) = &recorded.event else { continue };
        let corrupt = |error| StoreError::Corrupt(format!("spec of run {run_id}: {error}"));
        let spec: RunSpec = serde_json::from_str(&event.spec).map_err(corrupt)?;
        let domains: Vec<String> = spec.domains.iter().map(|domain| domain.name.clone()).collect();
        sqlx::query(
            "insert into run (run_id, name, spec, domains, steps, environment, parent, started_at, last_at, attempt, state) \
             values ($1, $2, $3, $4, $5, $6, $7, $8, $8, $9, 'running')",
        )
        .bind(run_id.0)
        .bind(&spec.name)
        .bind(Json(&spec))
        .bind(domains)
        .bind(spec.training.steps as i64)
        .bind(Json(&event.environment))
        .bind(event.parent.as_ref().map(parent))
        .bind(recorded.recorded_at)
        .bind(i64::from(recorded.attempt))
        .execute(&mut *c)
        .await?;
    }
    Ok(())
}

/// A parent without the bytes of its state.
fn parent(parent: &Parent) -> serde_json::Value {
    let Parent { run, seq, hash, checkpoint, .. } = parent;
    serde_json::json!({ "run": run, "seq": seq, "hash": hash, "checkpoint": checkpoint })
}

/// What a batch of events leaves of the row; `None` where it says nothing.
#[derive(Debug, Default, PartialEq)]
struct Change<'a> {
    next_step: Option<i64>,
    tokens: Option<i64>,
    /// The attempt that the last of them begins.
    attempt: Option<i64>,
    state: Option<&'static str>,
    /// Ending and reason, which change together.
    outcome: Option<(Option<String>, Option<&'a str>)>,
}

impl<'a> Change<'a> {
    fn of(events: &[&'a Recorded]) -> Change<'a> {
        let mut change = Change::default();
        for recorded in events {
            change.attempt = None;
            match &recorded.event {
                Event::StepRecorded(event) => {
                    change.next_step = Some(event.step as i64 + 1);
                    change.tokens = Some(event.tokens as i64);
                    change.state = Some("running");
                }
                Event::RunStarted(RunStarted { parent: Some(Parent { state, .. }), .. }) => {
                    change.stand_at(state, None);
                }
                Event::RolledBack(event) => change.stand_at(&event.state, Some(event.attempt)),
                Event::RunPaused(_) => change.enter("paused", None, None),
                Event::RunContinued(_) | Event::RunResumed(_) => {
                    change.enter("running", None, None)
                }
                Event::RunInterrupted(event) => {
                    change.enter("interrupted", None, Some(&event.reason));
                }
                Event::RunFinished(event) => {
                    change.enter("ended", Some(name(&event.ending)), Some(&event.reason));
                }
                _ => {}
            }
        }
        change
    }

    /// The run stands where a checkpoint's state is. What cannot be read is for an audit to name.
    fn stand_at(&mut self, state: &[u8], attempt: Option<u32>) {
        if let Ok(state) = RunState::from_snapshot(state) {
            self.next_step = Some(state.next_step as i64);
            self.tokens = Some(state.tokens as i64);
            self.attempt = attempt.map(i64::from);
        }
    }

    fn enter(&mut self, state: &'static str, ending: Option<String>, reason: Option<&'a str>) {
        (self.state, self.outcome) = (Some(state), Some((ending, reason)));
    }
}

/// Brings the row up to the last of `events`.
pub(super) async fn update(
    c: &mut PgConnection,
    run_id: RunId,
    events: &[&Recorded],
) -> Result<()> {
    let Some(last) = events.last() else { return Ok(()) };
    let change = Change::of(events);
    let has_outcome = change.outcome.is_some();
    let (ending, reason) = change.outcome.unwrap_or_default();
    sqlx::query(
        "update run set last_at = $2, attempt = $3, next_step = coalesce($4, next_step), \
         tokens = coalesce($5, tokens), state = coalesce($6, state), \
         ending = case when $7 then $8 else ending end, \
         reason = case when $7 then $9 else reason end where run_id = $1",
    )
    .bind(run_id.0)
    .bind(last.recorded_at)
    .bind(change.attempt.unwrap_or(i64::from(last.attempt)))
    .bind(change.next_step)
    .bind(change.tokens)
    .bind(change.state)
    .bind(has_outcome)
    .bind(ending)
    .bind(reason.map(super::clean))
    .execute(c)
    .await?;
    Ok(())
}
