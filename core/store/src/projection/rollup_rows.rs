//! Rows of `step_rollup`: what an earlier batch left incomplete is read back, what is complete is
//! written with one statement.

use hm_domain::id::RunId;
use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use super::lists::Lists;
use super::rollups::{LEVEL_MIN, Rollup, Tower};
use crate::error::Result;

const STEPS: &str = "select step, 3::smallint as level, step >> 3 as bucket, \
    case when finite then loss else 0 end as loss_sum, finite::integer::bigint as loss_count, \
    case when finite then loss end as loss_min, case when finite then loss end as loss_max, \
    gradient_norm as gradient_norm_max, learning_rate, step_us, sequences, loss_sums, loss_tokens \
    from (select *, loss <> 'NaN' and abs(loss) <> 'Infinity' as finite from step_metric \
    where run_id = $1 and attempt = $2 and step >= $3 and step < $4) m order by step";

const HALVES: &str = "select r.* from unnest($3::smallint[], $4::bigint[]) as u(level, bucket) \
    join step_rollup r on r.run_id = $1 and r.attempt = $2 and r.level = u.level and r.bucket = u.bucket";

const INSERT: &str = "insert into step_rollup (run_id, attempt, level, bucket, loss_sum, loss_count, \
    loss_min, loss_max, gradient_norm_max, learning_rate, step_us, sequences, loss_sums, loss_tokens) \
    select $1, $2, u.level, u.bucket, u.loss_sum, u.loss_count, u.loss_min, u.loss_max, \
    u.gradient_norm_max, u.learning_rate, u.step_us, ($3::bigint[])[u.start:u.stop], \
    ($4::float8[])[u.start:u.stop], ($5::bigint[])[u.start:u.stop] \
    from unnest($6::smallint[], $7::bigint[], $8::float8[], $9::bigint[], $10::float8[], $11::float8[], \
    $12::float8[], $13::float8[], $14::bigint[], $15::integer[], $16::integer[]) \
    as u(level, bucket, loss_sum, loss_count, loss_min, loss_max, gradient_norm_max, learning_rate, \
    step_us, start, stop)";

/// What the rows leave incomplete before step `first` and a batch up to `last` can complete.
pub(super) async fn tower_before(
    c: &mut PgConnection,
    run_id: RunId,
    attempt: i64,
    first: u64,
    last: u64,
) -> Result<Tower> {
    let mut tower = Tower::default();
    let bucket_start = first >> LEVEL_MIN << LEVEL_MIN;
    if bucket_start < first {
        let rows = sqlx::query(STEPS)
            .bind(run_id.0)
            .bind(attempt)
            .bind(bucket_start as i64)
            .bind(first as i64)
            .fetch_all(&mut *c)
            .await?;
        for row in &rows {
            let part: Rollup = sqlx::FromRow::from_row(row)?;
            tower.push(row.try_get::<i64, _>("step")? as u64, &part);
        }
    }
    let halves = halves_before(first, last);
    if !halves.is_empty() {
        let rows: Vec<Rollup> = sqlx::query_as(HALVES)
            .bind(run_id.0)
            .bind(attempt)
            .bind(halves.iter().map(|half| half.0 as i16).collect::<Vec<_>>())
            .bind(halves.iter().map(|half| half.1 as i64).collect::<Vec<_>>())
            .fetch_all(c)
            .await?;
        rows.into_iter().for_each(|half| tower.restore(half));
    }
    Ok(tower)
}

/// Level and bucket of every left half that lies before `first` and whose right half is complete once
/// `last` is there.
fn halves_before(first: u64, last: u64) -> Vec<(u32, u64)> {
    let complete = |level: &u32| (last + 1) >> level > first >> level;
    (LEVEL_MIN..63)
        .take_while(complete)
        .filter(|level| (first >> level) % 2 == 1)
        .map(|level| (level, (first >> level) - 1))
        .collect()
}

/// Writes complete buckets.
pub(super) async fn insert(
    c: &mut PgConnection,
    run_id: RunId,
    attempt: i64,
    rollups: &[Rollup],
) -> Result<()> {
    if rollups.is_empty() {
        return Ok(());
    }
    // The three lists of a bucket are of one length, so one pair of positions serves them all.
    let mut sequences = Lists::new();
    let (mut loss_sums, mut loss_tokens) = (Vec::new(), Vec::new());
    for rollup in rollups {
        sequences.push(rollup.sequences.iter().copied());
        loss_sums.extend_from_slice(&rollup.loss_sums);
        loss_tokens.extend_from_slice(&rollup.loss_tokens);
    }
    let rows = || rollups.iter();
    sqlx::query(INSERT)
        .bind(run_id.0)
        .bind(attempt)
        .bind(sequences.values)
        .bind(loss_sums)
        .bind(loss_tokens)
        .bind(rows().map(|row| row.level).collect::<Vec<_>>())
        .bind(rows().map(|row| row.bucket).collect::<Vec<_>>())
        .bind(rows().map(|row| row.loss_sum).collect::<Vec<_>>())
        .bind(rows().map(|row| row.loss_count).collect::<Vec<_>>())
        .bind(rows().map(|row| row.loss_min).collect::<Vec<_>>())
        .bind(rows().map(|row| row.loss_max).collect::<Vec<_>>())
        .bind(rows().map(|row| row.gradient_norm_max).collect::<Vec<_>>())
        .bind(rows().map(|row| row.learning_rate).collect::<Vec<_>>())
        .bind(rows().map(|row| row.step_us).collect::<Vec<_>>())
        .bind(sequences.starts)
        .bind(sequences.stops)
        .execute(c)
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_halves_that_can_be_completed_are_read() {
        assert_eq!(halves_before(8, 14), []);
        assert_eq!(halves_before(8, 15), [(3, 0)]);
        assert_eq!(halves_before(24, 31), [(3, 2), (4, 0)]);
        assert_eq!(halves_before(0, 1_000), []);
        assert_eq!(halves_before(13, 63), [(3, 0)]);
    }
}
