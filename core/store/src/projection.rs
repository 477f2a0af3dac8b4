//! Tables that people read in `psql`, written in the append transaction and recreated from the log.
//! Derived from events alone: no clock, no other table's history.

use hm_domain::event::{BindingChange, Effect, Event, Receipt, Recorded, RunStarted, StepRecorded};
use hm_domain::id::RunId;
use hm_domain::plugin::{Finding, Output};
use hm_domain::spec::RunSpec;
use hm_domain::step::LossSums;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;
use sqlx::types::Json;

use crate::error::{Result, StoreError};
use crate::store::{PAGE_EVENTS, Store};

/// Every projected table, children first. `run` itself comes last.
const TABLES: [&str; 8] = [
    "step_rollup",
    "step_metric",
    "decision",
    "finding",
    "checkpoint",
    "binding",
    "validation",
    "run",
];

impl Store {
    /// Recreates a run's projections from its log, in one transaction; gives the events folded.
    pub async fn rebuild(&self, run_id: RunId) -> Result<u64> {
        let mut connection = self.pool.acquire().await?;
        let mut transaction = connection.begin().await?;
        // The head's lock keeps the writer out until the last row stands.
        sqlx::query("select 1 from run_head where run_id = $1 for update")
            .bind(run_id.0)
            .fetch_optional(&mut *transaction)
            .await?
            .ok_or(StoreError::NoRun(run_id))?;
        for table in TABLES {
            let text = format!("delete from {table} where run_id = $1");
            sqlx::query(sqlx::AssertSqlSafe(text))
                .bind(run_id.0)
                .execute(&mut *transaction)
                .await?;
        }
        let mut events = 0;
        loop {
            let page = self.read(run_id, events, PAGE_EVENTS).await?;
            if page.is_empty() {
                break;
            }
            events += page.len() as u64;
            project(&mut transaction, run_id, &page.iter().collect::<Vec<_>>()).await?;
        }
        transaction.commit().await?;
        Ok(events)
    }
}

/// Writes what `events` show.
pub(crate) async fn project(
    c: &mut PgConnection,
    run_id: RunId,
    events: &[&Recorded],
) -> Result<()> {
    if run_id == RunId::SYSTEM {
        return Ok(());
    }
    for recorded in events {
        let row = Row { run_id, recorded };
        match &recorded.event {
            Event::RunStarted(event) => row.run_started(c, event).await?,
            Event::StepRecorded(event) => row.step(c, event).await?,
            _ => row.other(c).await?,
        }
        sqlx::query("update run set last_at = $2, attempt = $3 where run_id = $1")
            .bind(run_id.0)
            .bind(recorded.recorded_at)
            .bind(i64::from(recorded.attempt))
            .execute(&mut *c)
            .await?;
    }
    Ok(())
}

/// One event and the keys of the rows it makes.
struct Row<'a> {
    run_id: RunId,
    recorded: &'a Recorded,
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

fn loss_sums(losses: &[LossSums]) -> Vec<f64> {
    losses.iter().map(|loss| loss.loss_sum).collect()
}

fn loss_tokens(losses: &[LossSums]) -> Vec<i64> {
    losses.iter().map(|loss| loss.tokens as i64).collect()
}

/// One row of `decision`.
struct Decision<'a> {
    place: (i64, i64),
    step: u64,
    binding: Option<u32>,
    kind: &'static str,
    mixture: Option<(&'a hm_domain::mixture::Mixture, u64)>,
    weights: Option<&'a [f64]>,
    rules: &'a [String],
    reason: &'a str,
    by: Option<&'a str>,
}

impl Row<'_> {
    fn seq(&self) -> i64 {
        self.recorded.seq as i64
    }

    fn attempt(&self) -> i64 {
        i64::from(self.recorded.attempt)
    }

    async fn run_started(&self, c: &mut PgConnection, event: &RunStarted) -> Result<()> {
        let corrupt = |error| StoreError::Corrupt(format!("spec of run {}: {error}", self.run_id));
        let spec: RunSpec = serde_json::from_str(&event.spec).map_err(corrupt)?;
        let domains: Vec<String> = spec.domains.iter().map(|domain| domain.name.clone()).collect();
        sqlx::query(
            "insert into run (run_id, name, spec, domains, steps, environment, parent, started_at, last_at, attempt, state) \
             values ($1, $2, $3, $4, $5, $6, $7, $8, $8, $9, 'running')",
        )
        .bind(self.run_id.0)
        .bind(&spec.name)
        .bind(Json(&spec))
        .bind(domains)
        .bind(spec.training.steps as i64)
        .bind(Json(&event.environment))
        .bind(event.parent.as_ref().map(Json))
        .bind(self.recorded.recorded_at)
        .bind(self.attempt())
        .execute(c)
        .await?;
        Ok(())
    }

    async fn step(&self, c: &mut PgConnection, event: &StepRecorded) -> Result<()> {
        let losses = &event.pre_step.losses;
        // A step's losses may lack domains that drew nothing; the arrays stay of one length.
        let sequences: Vec<i64> =
            event.draws.iter().map(|draw| i64::from(draw.sequences)).collect();
        sqlx::query("insert into step_metric values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)")
            .bind(self.run_id.0)
            .bind(self.attempt())
            .bind(event.step as i64)
            .bind(self.seq())
            .bind(self.recorded.recorded_at)
            .bind(event.tokens as i64)
            .bind(event.learning_rate)
            .bind(event.pre_step.loss)
            .bind(event.pre_step.gradient_norm)
            .bind(event.effective_clip)
            .bind(name(&event.verdict))
            .bind(event.step_us as i64)
            .bind(event.mixture_version as i64)
            .bind(sequences)
            .bind(loss_sums(losses))
            .bind(loss_tokens(losses))
            .execute(&mut *c)
            .await?;
        sqlx::query("select roll_up($1, $2, $3)")
            .bind(self.run_id.0)
            .bind(self.attempt())
            .bind(event.step as i64)
            .execute(&mut *c)
            .await?;
        sqlx::query(
            "update run set next_step = $2, tokens = $3, state = 'running' where run_id = $1",
        )
        .bind(self.run_id.0)
        .bind(event.step as i64 + 1)
        .bind(event.tokens as i64)
        .execute(&mut *c)
        .await?;
        for (index, receipt) in event.receipts.iter().enumerate() {
            self.receipt(c, event.step, index as i64, receipt).await?;
        }
        Ok(())
    }

    async fn receipt(
        &self,
        c: &mut PgConnection,
        step: u64,
        index: i64,
        receipt: &Receipt,
    ) -> Result<()> {
        let reasons: Vec<&str> = match &receipt.output {
            Output::Actions(actions) => {
                actions.iter().map(|action| action.reason.as_str()).collect()
            }
            _ => Vec::new(),
        };
        for (position, effect) in receipt.effects.iter().enumerate() {
            let reason = reasons.get(position).copied().unwrap_or_default();
            let mut row = Decision {
                place: (index, position as i64),
                step,
                binding: Some(receipt.binding.0),
                kind: "noted",
                mixture: None,
                weights: None,
                rules: &[],
                reason,
                by: None,
            };
            match effect {
                Effect::Mixture { mixture, effective_step, rules } => {
                    (row.kind, row.rules) = ("mixture", rules);
                    row.mixture = Some((mixture, *effective_step));
                }
                Effect::LossWeights { weights } => {
                    row.kind = "loss-weights";
                    row.weights = Some(weights);
                }
                Effect::Validate => row.kind = "validate",
                Effect::Noted => {}
                Effect::Refused { reason } => (row.kind, row.reason) = ("refused", reason),
            }
            self.decision(c, row).await?;
        }
        if let Output::Findings(findings) = &receipt.output {
            for (position, finding) in findings.iter().enumerate() {
                self.finding(c, (step, index, position as i64), receipt, finding).await?;
            }
        }
        Ok(())
    }

    async fn decision(&self, c: &mut PgConnection, row: Decision<'_>) -> Result<()> {
        let shares = row.mixture.map(|(mixture, _)| mixture.shares());
        sqlx::query("insert into decision values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)")
            .bind(self.run_id.0)
            .bind(self.seq())
            .bind(row.place.0)
            .bind(row.place.1)
            .bind(self.attempt())
            .bind(row.step as i64)
            .bind(row.binding.map(i64::from))
            .bind(row.kind)
            .bind(row.mixture.map(|(mixture, _)| mixture.version as i64))
            .bind(row.mixture.map(|(_, step)| step as i64))
            .bind(shares.or_else(|| row.weights.map(<[f64]>::to_vec)))
            .bind(row.rules)
            .bind(clean(row.reason))
            .bind(row.by)
            .execute(c)
            .await?;
        Ok(())
    }

    async fn finding(
        &self,
        c: &mut PgConnection,
        (step, index, position): (u64, i64, i64),
        receipt: &Receipt,
        finding: &Finding,
    ) -> Result<()> {
        sqlx::query("insert into finding values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)")
            .bind(self.run_id.0)
            .bind(self.seq())
            .bind(index)
            .bind(position)
            .bind(self.attempt())
            .bind(step as i64)
            .bind(i64::from(receipt.binding.0))
            .bind(clean(&finding.kind))
            .bind(name(&finding.severity))
            .bind(finding.score)
            .bind(finding.threshold)
            .bind(finding.domains.iter().map(|&domain| i64::from(domain)).collect::<Vec<_>>())
            .bind(clean(&finding.evidence))
            .bind(name(&finding.recommendation))
            .execute(c)
            .await?;
        Ok(())
    }

    async fn state(
        &self,
        c: &mut PgConnection,
        state: &str,
        ending: Option<String>,
        reason: Option<&str>,
    ) -> Result<()> {
        sqlx::query("update run set state = $2, ending = $3, reason = $4 where run_id = $1")
            .bind(self.run_id.0)
            .bind(state)
            .bind(ending)
            .bind(reason)
            .execute(c)
            .await?;
        Ok(())
    }

    async fn other(&self, c: &mut PgConnection) -> Result<()> {
        match &self.recorded.event {
            Event::ValidationRecorded(event) => {
                sqlx::query("insert into validation values ($1, $2, $3, $4, $5, $6)")
                    .bind(self.run_id.0)
                    .bind(self.seq())
                    .bind(self.attempt())
                    .bind(event.step as i64)
                    .bind(loss_sums(&event.losses))
                    .bind(loss_tokens(&event.losses))
                    .execute(c)
                    .await?;
            }
            Event::MixtureSet(event) => {
                let row = Decision {
                    place: (0, 0),
                    step: event.step,
                    binding: None,
                    kind: "mixture",
                    mixture: Some((&event.mixture, event.step)),
                    weights: None,
                    rules: &event.rules,
                    reason: "set by hand",
                    by: Some(&event.by),
                };
                self.decision(c, row).await?;
            }
            Event::BindingChanged(event) => {
                let state =
                    if event.change == BindingChange::Released { "released" } else { "bound" };
                let config: serde_json::Value = serde_json::from_str(&event.config)
                    .unwrap_or_else(|_| serde_json::Value::String(event.config.clone()));
                sqlx::query(
                    "insert into binding values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) \
                     on conflict (run_id, binding) do update set seq = excluded.seq, role = excluded.role, \
                     config = excluded.config, since_step = excluded.since_step, state = excluded.state",
                )
                .bind(self.run_id.0)
                .bind(i64::from(event.binding.0))
                .bind(self.seq())
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
            }
            Event::BindingQuarantined(event) => {
                sqlx::query("update binding set state = 'quarantined', seq = $3 where run_id = $1 and binding = $2")
                    .bind(self.run_id.0)
                    .bind(i64::from(event.binding.0))
                    .bind(self.seq())
                    .execute(c)
                    .await?;
            }
            Event::CheckpointSaved(event) => {
                sqlx::query("insert into checkpoint values ($1, $2, $3, $4, $5, $6, $7)")
                    .bind(self.run_id.0)
                    .bind(self.seq())
                    .bind(self.attempt())
                    .bind(event.step as i64)
                    .bind(&event.digest.0[..])
                    .bind(&event.folder)
                    .bind(event.bytes as i64)
                    .execute(c)
                    .await?;
            }
            Event::CommandAnswered(event) => {
                sqlx::query("update command set answered_seq = $3 where run_id = $1 and id = $2")
                    .bind(self.run_id.0)
                    .bind(event.command as i64)
                    .bind(self.seq())
                    .execute(c)
                    .await?;
            }
            Event::RunPaused(_) => self.state(c, "paused", None, None).await?,
            Event::RunContinued(_) | Event::RunResumed(_) => {
                self.state(c, "running", None, None).await?
            }
            Event::RunInterrupted(event) => {
                self.state(c, "interrupted", None, Some(&event.reason)).await?;
            }
            Event::RunFinished(event) => {
                self.state(c, "ended", Some(name(&event.ending)), Some(&event.reason)).await?;
            }
            Event::RunStarted(_) | Event::StepRecorded(_) => {}
            Event::PluginStateSaved(_) | Event::CheckpointFailed(_) | Event::PluginInstalled(_) => {
            }
        }
        Ok(())
    }
}
