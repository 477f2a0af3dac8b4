//! Whether somebody trains a run: by the lock of its stream, by when its worker was last heard of, and on the
//! worker's own host by its process. Never by silence in the log: a step may take an hour.

use std::collections::BTreeMap;
use std::time::Duration;

use hm_domain::id::RunId;
use serde::Serialize;
use sqlx::Row as _;
use sqlx::postgres::{PgConnection, PgRow};

use crate::error::Result;
use crate::holder::Holder;
use crate::lease::lock_key;
use crate::store::Store;

/// How often a worker that appends lets itself be heard; one that waits does at every heartbeat of its journal.
pub(crate) const BEAT: Duration = Duration::from_secs(3);
/// How long one of another host may not be heard, its lock lost with its connection, before it counts as dead.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(15);

/// The worker of a run that is not over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "standing", rename_all = "kebab-case")]
pub enum Worker {
    /// Nobody has taken the run, or whoever did has given it back.
    None,
    /// It holds the run.
    Working {
        /// Host and process.
        holder: String,
        /// Microseconds since the Unix epoch.
        heard_at: i64,
    },
    /// It has lost its connection, and will come back or may.
    Waiting {
        /// Host and process.
        holder: String,
        /// Microseconds since the Unix epoch.
        heard_at: i64,
        /// When it counts as dead unless it is heard of; none where its process is known to live.
        dead_in_s: Option<u64>,
    },
    /// It ended without a word, or its host did.
    Dead {
        /// Host and process.
        holder: String,
        /// When it was last heard of, in microseconds since the Unix epoch.
        heard_at: i64,
    },
}

impl Worker {
    /// Host and process of one that is alive.
    pub fn living(&self) -> Option<&str> {
        match self {
            Worker::Working { holder, .. } | Worker::Waiting { holder, .. } => Some(holder),
            Worker::None | Worker::Dead { .. } => None,
        }
    }
}

impl Store {
    /// Workers of these runs, in their order; none of a run that has ended.
    pub async fn workers(&self, run_ids: &[RunId]) -> Result<Vec<Worker>> {
        let mut found = workers(&mut *self.pool.acquire().await?, run_ids).await?;
        let taken = run_ids.iter().map(|id| found.remove(&id.0).unwrap_or(Worker::None));
        Ok(taken.collect())
    }

    /// The worker of this run.
    pub async fn worker(&self, run_id: RunId) -> Result<Worker> {
        Ok(self.workers(&[run_id]).await?.remove(0))
    }
}

/// Workers that have taken runs and not given them back.
pub(crate) async fn workers(
    connection: &mut PgConnection,
    run_ids: &[RunId],
) -> Result<BTreeMap<uuid::Uuid, Worker>> {
    let keys: Vec<i64> = run_ids.iter().map(|run_id| lock_key(*run_id)).collect();
    let rows = sqlx::query(
        "with held as ( \
             select distinct (classid::bigint << 32) | objid::bigint as key from pg_locks \
             where locktype = 'advisory' and objsubid = 1 and granted \
             and database = (select oid from pg_database where datname = current_database())) \
         select h.run_id, h.holder, h.holder_began, held.key is not null as is_held, \
                (extract(epoch from heard_at) * 1e6)::bigint as heard_at, \
                (extract(epoch from clock_timestamp() - heard_at) * 1e6)::bigint as silent_for \
         from unnest($1::uuid[], $2::bigint[]) as asked (run_id, key) \
         join run_head h using (run_id) join worker using (run_id) left join held using (key) \
         where not h.sealed",
    )
    .bind(run_ids.iter().map(|run_id| run_id.0).collect::<Vec<_>>())
    .bind(keys)
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| Ok((row.try_get("run_id")?, worker(row)?))).collect()
}

fn worker(row: &PgRow) -> Result<Worker> {
    let holder = Holder { name: row.try_get("holder")?, began: row.try_get("holder_began")? };
    let (heard_at, silent_for) = (row.try_get("heard_at")?, row.try_get("silent_for")?);
    let is_held = row.try_get("is_held")?;
    Ok(judge(holder, is_held, heard_at, silent_for))
}

fn judge(holder: Holder, is_held: bool, heard_at: i64, silent_for_us: i64) -> Worker {
    let (lives, holder) = (holder.lives(), holder.name);
    let left = SILENCE_MAX.saturating_sub(Duration::from_micros(silent_for_us.max(0) as u64));
    match lives {
        _ if is_held => Worker::Working { holder, heard_at },
        Some(true) => Worker::Waiting { holder, heard_at, dead_in_s: None },
        None if !left.is_zero() => {
            Worker::Waiting { holder, heard_at, dead_in_s: Some(left.as_secs() + 1) }
        }
        Some(false) | None => Worker::Dead { holder, heard_at },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worker_of_another_host_is_dead_once_it_has_been_silent_for_long() {
        let elsewhere = || Holder { name: "process 7 on elsewhere".to_owned(), began: Some(1) };
        let most = SILENCE_MAX.as_micros() as i64;
        let standing = |is_held, silent_for| judge(elsewhere(), is_held, 0, silent_for);
        assert!(matches!(standing(true, 100 * most), Worker::Working { .. }), "its lock decides");
        let waits = |it| matches!(it, Worker::Waiting { dead_in_s: Some(1), .. });
        assert!(waits(standing(false, most - 1)));
        assert!(matches!(standing(false, most), Worker::Dead { .. }));
    }

    #[test]
    fn worker_of_this_host_is_alive_as_long_as_its_process() {
        let here = Holder::here();
        assert!(matches!(
            judge(here.clone(), false, 0, i64::MAX),
            Worker::Waiting { dead_in_s: None, .. }
        ));
        let gone = Holder { began: here.began.map(|ticks| ticks - 1), ..here };
        assert!(matches!(judge(gone, false, 0, 0), Worker::Dead { .. }), "at once");
    }
}
