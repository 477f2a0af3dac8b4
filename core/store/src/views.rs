//! What a page reads: projections as rows ready for JSON. Reads only.

use std::ops::Range;

use hm_domain::attempt::way;
use hm_domain::id::RunId;
use hm_domain::spec::RunSpec;
use sqlx::Row as _;

use crate::error::{Result, StoreError};
use crate::store::Store;

/// One run, as people see it in a list.
#[derive(Clone, Debug, PartialEq, serde::Serialize, sqlx::FromRow)]
pub struct RunRow {
    /// Its id.
    pub run_id: uuid::Uuid,
    /// What people call it.
    pub name: String,
    /// Names of its domains, in the order of every array.
    pub domains: Vec<String>,
    /// Steps of the whole run.
    pub steps: i64,
    /// The next step to train.
    pub next_step: i64,
    /// Target tokens trained on.
    pub tokens: i64,
    /// Attempt of the newest event.
    pub attempt: i64,
    /// running, paused, interrupted or ended.
    pub state: String,
    /// completed, stopped, halted or failed.
    pub ending: Option<String>,
    /// Why, in a sentence.
    pub reason: Option<String>,
    /// Microseconds since the Unix epoch.
    pub started_at: i64,
    /// Of the newest event, in microseconds since the Unix epoch.
    pub last_at: i64,
}

/// One point of a chart: a step, or the sum of 2^level of them.
#[derive(Clone, Debug, PartialEq, serde::Serialize, sqlx::FromRow)]
pub struct MetricPoint {
    /// First step of the point.
    pub step: i64,
    /// Mean of the steps' finite losses, in nats per token.
    pub loss: Option<f64>,
    /// Smallest of them.
    pub loss_min: Option<f64>,
    /// Largest of them.
    pub loss_max: Option<f64>,
    /// Largest gradient norm; none if it is not finite.
    pub gradient_norm_max: Option<f64>,
    /// Of the last step.
    pub learning_rate: f64,
    /// Wall-clock microseconds of all steps.
    pub step_us: i64,
    /// Sequences per domain.
    pub sequences: Vec<i64>,
    /// Sums of cross-entropies per domain, in nats.
    pub loss_sums: Vec<f64>,
    /// Target tokens per domain.
    pub loss_tokens: Vec<i64>,
}

/// A chart's points at one level.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Metrics {
    /// The attempt that was named, else the newest.
    pub attempt: u32,
    /// Each point covers 2^level steps: 0, or at least 3.
    pub level: u32,
    /// In step order.
    pub points: Vec<MetricPoint>,
}

const RUN: &str = "select run_id, run.name, domains, steps, next_step, tokens, attempt, state, ending, reason, \
                   started_at, last_at from run";

// NaN sorts above every number in Postgres, so `between` leaves it out with the infinities.
const STEPS: &str = "select step, case when loss between '-1.7e308' and '1.7e308' then loss end as loss, \
    case when loss between '-1.7e308' and '1.7e308' then loss end as loss_min, case when loss between '-1.7e308' and '1.7e308' then loss end as loss_max, \
    case when gradient_norm between '-1.7e308' and '1.7e308' then gradient_norm end as gradient_norm_max, learning_rate, step_us, \
    sequences, loss_sums, loss_tokens from step_metric \
    where run_id = $1 and attempt = $2 and step >= $3 and step < $4 order by step";

const ROLLUPS: &str = "select bucket << level as step, loss_sum / nullif(loss_count, 0) as loss, loss_min, \
    loss_max, case when gradient_norm_max between '-1.7e308' and '1.7e308' then gradient_norm_max end as gradient_norm_max, \
    learning_rate, step_us, sequences, loss_sums, loss_tokens from step_rollup \
    where run_id = $1 and attempt = $2 and level = $5 and bucket >= $3 >> $5 and bucket < ($4 + (1 << $5) - 1) >> $5 \
    order by bucket";

/// Which steps of which attempt led to where a run is, after these rollbacks: oldest first, without gaps.
fn lived(turns: &[(i64, i64)]) -> Vec<(i64, Range<u64>)> {
    let mut pieces: Vec<(i64, Range<u64>)> = vec![(0, 0..u64::MAX)];
    for &(attempt, to_step) in turns {
        let to_step = to_step.max(0) as u64;
        pieces.iter_mut().for_each(|(_, steps)| steps.end = steps.end.min(to_step));
        pieces.retain(|(_, steps)| !steps.is_empty());
        pieces.push((attempt, to_step..u64::MAX));
    }
    pieces
}

/// The smallest level with at most `points_max` points over `steps`: 0, or 3 and above.
fn level(steps: u64, points_max: u32) -> u32 {
    let points_max = u64::from(points_max.max(1));
    if steps <= points_max {
        return 0;
    }
    (3..40).find(|level| steps >> level <= points_max).unwrap_or(40)
}

impl Store {
    /// All runs, those that began last first.
    pub async fn runs(&self) -> Result<Vec<RunRow>> {
        let text = format!("{RUN} join run_head h using (run_id) order by h.number desc");
        Ok(sqlx::query_as(sqlx::AssertSqlSafe(text)).fetch_all(&self.pool).await?)
    }

    /// The runs of a name, those that began last first.
    pub async fn runs_named(&self, name: &str) -> Result<Vec<RunRow>> {
        let text = format!(
            "{RUN} join run_head h using (run_id) where run.name = $1 order by h.number desc"
        );
        let query = sqlx::query_as(sqlx::AssertSqlSafe(text)).bind(name);
        Ok(query.fetch_all(&self.pool).await?)
    }

    /// One run.
    pub async fn run(&self, run_id: RunId) -> Result<Option<RunRow>> {
        let text = format!("{RUN} where run_id = $1");
        let query = sqlx::query_as(sqlx::AssertSqlSafe(text)).bind(run_id.0);
        Ok(query.fetch_optional(&self.pool).await?)
    }

    /// What a run was asked to be.
    pub async fn spec(&self, run_id: RunId) -> Result<RunSpec> {
        let spec: Option<sqlx::types::Json<RunSpec>> =
            sqlx::query_scalar("select spec from run where run_id = $1")
                .bind(run_id.0)
                .fetch_optional(&self.pool)
                .await?;
        Ok(spec.ok_or(StoreError::NoRun(run_id))?.0)
    }

    /// At most about `points_max` points of steps `from_step..to_step`: of the attempt that is named, else of
    /// all that led to where the run is, without what rollbacks have left behind. A tail that does not fill its
    /// bucket yet is left out above level 0, and so is what is left of a bucket that a rollback has cut.
    pub async fn metrics(
        &self,
        run_id: RunId,
        attempt: Option<u32>,
        from_step: u64,
        to_step: u64,
        points_max: u32,
    ) -> Result<Metrics> {
        let run = self.run(run_id).await?.ok_or(StoreError::NoRun(run_id))?;
        let to_step = to_step.min(run.next_step.max(0) as u64);
        let wanted = from_step.min(to_step)..to_step;
        let level = level(wanted.end - wanted.start, points_max);
        let pieces = match attempt {
            Some(attempt) => vec![(i64::from(attempt), 0..u64::MAX)],
            None => lived(&self.turns(run_id).await?),
        };
        let mut points = Vec::new();
        for (attempt, steps) in pieces {
            let (from, mut to) = (steps.start.max(wanted.start), steps.end.min(wanted.end));
            if to < wanted.end {
                to = to >> level << level;
            }
            if from >= to {
                continue;
            }
            let mut query = sqlx::query_as(if level == 0 { STEPS } else { ROLLUPS })
                .bind(run_id.0)
                .bind(attempt)
                .bind(from as i64)
                .bind(to as i64);
            if level > 0 {
                query = query.bind(level as i32);
            }
            points.extend(query.fetch_all(&self.pool).await?);
        }
        Ok(Metrics { attempt: attempt.unwrap_or(run.attempt as u32), level, points })
    }

    /// The rollbacks of a run in order: the attempt that each began, and the step that it began at.
    async fn turns(&self, run_id: RunId) -> Result<Vec<(i64, i64)>> {
        let turns = "select attempt, to_step from rollback where run_id = $1 order by seq";
        Ok(sqlx::query_as(turns).bind(run_id.0).fetch_all(&self.pool).await?)
    }

    /// Newest decisions, as JSON objects with the columns of `decision`.
    pub async fn decisions(&self, run_id: RunId, limit: u32) -> Result<Vec<serde_json::Value>> {
        self.objects("select to_jsonb(t) - 'run_id' from decision t where run_id = $1 order by seq desc, receipt, effect limit $2", run_id, limit).await
    }

    /// Shares and version of the newest mixture that was decided; none while the prior stands.
    pub async fn newest_mixture(&self, run_id: RunId) -> Result<Option<(Vec<f64>, u64)>> {
        let row: Option<(Vec<f64>, i64)> = sqlx::query_as(
            "select shares, version from decision where run_id = $1 and kind = 'mixture' \
             order by seq desc, receipt desc, effect desc limit 1",
        )
        .bind(run_id.0)
        .fetch_optional(&self.pool)
        .await?;
        Ok(row.map(|(shares, version)| (shares, version as u64)))
    }

    /// Newest findings, as JSON objects with the columns of `finding`.
    pub async fn findings(&self, run_id: RunId, limit: u32) -> Result<Vec<serde_json::Value>> {
        self.objects("select to_jsonb(t) - 'run_id' from finding t where run_id = $1 order by seq desc, receipt, position limit $2", run_id, limit).await
    }

    /// Checkpoints, newest first, with digests in hexadecimal. `doubtful` are those from whose weights the
    /// next step, or that none has followed and before which the last one, gave no finite numbers; `abandoned` are
    /// those that a rollback has left behind.
    pub async fn checkpoints(&self, run_id: RunId) -> Result<Vec<serde_json::Value>> {
        let mut rows = self.objects("select to_jsonb(t) - 'run_id' || jsonb_build_object('digest', encode(digest, 'hex'), 'doubtful', \
             coalesce((select m.loss in ('NaN', 'Infinity', '-Infinity') or m.gradient_norm in ('NaN', 'Infinity') \
             from step_metric m where m.run_id = t.run_id and m.attempt = t.attempt and m.step in (t.step, t.step - 1) \
             order by m.step desc limit 1), false)) \
             from checkpoint t where run_id = $1 order by seq desc limit $2", run_id, u32::MAX).await?;
        let way = self.way(run_id).await?;
        for row in &mut rows {
            row["abandoned"] = (!is_on(&way, &row["begun_seq"])).into();
        }
        Ok(rows)
    }

    /// Which seqs of a run's log led to where it is.
    async fn way(&self, run_id: RunId) -> Result<Vec<Range<u64>>> {
        let turns = self.rollbacks(run_id).await?;
        let turns: Vec<(u64, u64)> = turns.iter().map(|(seq, begun, _)| (*seq, *begun)).collect();
        Ok(way(&turns, u64::MAX))
    }

    /// Rollbacks in order, each as its seq, the begin of the checkpoint that it went back to, and that
    /// checkpoint's folder.
    pub async fn rollbacks(&self, run_id: RunId) -> Result<Vec<(u64, u64, String)>> {
        let rows: Vec<(i64, i64, String)> = sqlx::query_as(
            "select seq, begun_seq, folder from rollback where run_id = $1 order by seq",
        )
        .bind(run_id.0)
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.into_iter().map(|(seq, begun, it)| (seq as u64, begun as u64, it)).collect())
    }

    /// Bindings by number, with digests in hexadecimal.
    pub async fn bindings(&self, run_id: RunId) -> Result<Vec<serde_json::Value>> {
        self.objects("select to_jsonb(t) - 'run_id' || jsonb_build_object('plugin', encode(plugin, 'hex')) from binding t where run_id = $1 order by binding limit $2", run_id, u32::MAX).await
    }

    /// Validations in order, without those that a rollback has left behind.
    pub async fn validations(&self, run_id: RunId) -> Result<Vec<serde_json::Value>> {
        let mut rows = self.objects("select to_jsonb(t) - 'run_id' from validation t where run_id = $1 order by seq limit $2", run_id, u32::MAX).await?;
        let way = self.way(run_id).await?;
        rows.retain(|row| is_on(&way, &row["seq"]));
        Ok(rows)
    }

    async fn objects(
        &self,
        text: &'static str,
        run_id: RunId,
        limit: u32,
    ) -> Result<Vec<serde_json::Value>> {
        let query = sqlx::query(text).bind(run_id.0).bind(i64::from(limit));
        let rows = query.fetch_all(&self.pool).await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }
}

/// Whether a row's seq is on the way.
fn is_on(way: &[Range<u64>], seq: &serde_json::Value) -> bool {
    let seq = seq.as_u64().unwrap_or_default();
    way.iter().any(|part| part.contains(&seq))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn level_keeps_the_points_few() {
        assert_eq!(level(100, 1000), 0);
        assert_eq!(level(1001, 1000), 3);
        assert_eq!(level(1_000_000, 1000), 10);
    }

    #[test]
    fn what_rollbacks_left_behind_is_not_shown_and_what_led_to_them_is() {
        assert_eq!(lived(&[]), [(0, 0..u64::MAX)]);
        assert_eq!(lived(&[(1, 80)]), [(0, 0..80), (1, 80..u64::MAX)]);
        // Back behind the first turn, which is left behind with all that came of it.
        assert_eq!(lived(&[(1, 80), (2, 40)]), [(0, 0..40), (2, 40..u64::MAX)]);
        assert_eq!(lived(&[(1, 80), (2, 90)]), [(0, 0..80), (1, 80..90), (2, 90..u64::MAX)]);
        assert_eq!(lived(&[(1, 0)]), [(1, 0..u64::MAX)]);
    }
}
