//! Runs that come back from an archive, and runs that leave for one.

use hm_domain::id::RunId;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};

use super::{ArchiveManifest, ArchiveReader};
use crate::append::{self, Chained};
use crate::error::{Result, StoreError};
use crate::projection;
use crate::store::{Store, StoredEvent};

/// Events appended at once.
const BATCH_EVENTS: usize = 512;

/// Who has installed a plugin that came with a run.
const RESTORED: &str = "restored from an archive";

/// How long a lock is waited for: who waits for one keeps others waiting behind.
const LOCK_TIMEOUT: &str = "set lock_timeout = '5s'";

impl Store {
    /// What an archive says of a run beside its log: its place among the runs of this database.
    pub async fn run_number(&self, run_id: RunId) -> Result<u64> {
        let number: Option<i64> =
            sqlx::query_scalar("select number from run_head where run_id = $1")
                .bind(run_id.0)
                .fetch_optional(&self.pool)
                .await?;
        number.map(|number| number as u64).ok_or(StoreError::NoRun(run_id))
    }

    /// Brings a run back, all of it or nothing: its events as they were, appended as they were once,
    /// what people read made from them, and states that are not here. Plugins that are not here are
    /// installed first, which the system stream tells like any installing, and stay if the rest fails.
    pub async fn restore(&self, archive: &ArchiveReader) -> Result<()> {
        archive.verify()?;
        let ArchiveManifest { run, name, number, writer_epoch, events, .. } = archive.manifest();
        let run = *run;
        let mut connection = self.options.connect().await?;
        sweep(&mut connection).await?;
        let mut transaction = connection.begin().await?;
        let is_there: bool =
            sqlx::query_scalar("select exists (select from run_head where run_id = $1)")
                .bind(run.0)
                .fetch_one(&mut *transaction)
                .await?;
        if is_there {
            return Err(StoreError::AlreadyThere(run));
        }
        // By connections of its own, and while this one holds no lock yet.
        self.install_archived(archive).await?;
        sqlx::query("select start_run($1, $2)")
            .bind(run.0)
            .bind(name)
            .execute(&mut *transaction)
            .await?;
        number_again(&mut transaction, run, *number).await?;
        for digest in &archive.manifest().states {
            let state = archive.state(*digest)?.unwrap_or_default();
            append::put_blobs(&mut transaction, &[&state]).await?;
        }
        let mut next = 0;
        while next < *events {
            let page = archive.page(next)?;
            next += page.len() as u64;
            // One writer's events at a time: a batch is appended under its epoch.
            for part in page.chunk_by(|a, b| a.envelope.writer_epoch == b.envelope.writer_epoch) {
                take_epoch(&mut transaction, run, part[0].envelope.writer_epoch).await?;
                for batch in part.chunks(BATCH_EVENTS) {
                    append(&mut transaction, run, batch).await?;
                }
            }
        }
        take_epoch(&mut transaction, run, *writer_epoch).await?;
        transaction.commit().await?;
        connection.close().await?;
        Ok(())
    }

    async fn install_archived(&self, archive: &ArchiveReader) -> Result<()> {
        for plugin in &archive.manifest().plugins {
            let wasm = archive.plugin(plugin.digest)?.unwrap_or_default();
            self.install_plugin(plugin, &wasm, RESTORED).await?;
        }
        Ok(())
    }

    /// Takes a run out of the database that has ended and lies whole in an archive: its events, what was
    /// made from them, its wishes. Plugins and states stay, which other runs may share.
    ///
    /// # Errors
    /// [`StoreError::NotDropped`] where the run has not ended, is not what was archived, or another began
    /// from it.
    pub async fn drop_run(&self, run: RunId, archived: &ArchiveManifest) -> Result<()> {
        let mut connection = self.options.connect().await?;
        let mut transaction = connection.begin().await?;
        let head = sqlx::query(
            "select next_seq, chain, writer_epoch, sealed, holder from run_head where run_id = $1 for update",
        )
        .bind(run.0)
        .fetch_optional(&mut *transaction)
        .await?
        .ok_or(StoreError::NoRun(run))?;
        let head = crate::store::head(&head)?;
        let refuse = |why: String| Err(StoreError::NotDropped { run_id: run, why });
        if !head.sealed {
            return refuse("it has not ended: end it first with `hm runs stop`".to_owned());
        }
        let due = (archived.run, archived.events, archived.head);
        if (run, head.next_seq, head.chain) != due {
            return refuse("its log is not the one in the archive: archive it anew".to_owned());
        }
        let forks: Vec<String> =
            sqlx::query_scalar("select name from run where parent ->> 'run' = $1 order by name")
                .bind(run.to_string())
                .fetch_all(&mut *transaction)
                .await?;
        if !forks.is_empty() {
            return refuse(format!("{} began from it: drop those first", forks.join(", ")));
        }
        for table in projection::tables().chain(["command", "run_head"]) {
            sqlx::query(AssertSqlSafe(format!("delete from {table} where run_id = $1")))
                .bind(run.0)
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await?;
        sweep(&mut connection).await?;
        connection.close().await?;
        Ok(())
    }
}

/// Detaches and drops the events of runs that are there no more. Nobody that reads or writes other runs
/// waits for this; what a crash leaves of it goes the next time.
async fn sweep(connection: &mut PgConnection) -> Result<()> {
    let left: Vec<(String, Option<bool>)> = sqlx::query_as(
        "select c.relname::text, i.inhdetachpending from pg_class c left join pg_inherits i on i.inhrelid = c.oid \
         where c.relkind = 'r' and c.relnamespace = (select relnamespace from pg_class where oid = 'event'::regclass) \
         and c.relname ~ '^event_[0-9a-f]{32}$' \
         and not exists (select from run_head h where event_partition(h.run_id) = c.relname)",
    )
    .fetch_all(&mut *connection)
    .await?;
    if left.is_empty() {
        return Ok(());
    }
    sqlx::query(LOCK_TIMEOUT).execute(&mut *connection).await?;
    for (table, pending) in left {
        let detach = match pending {
            None => None,
            Some(false) => Some(format!("alter table event detach partition {table} concurrently")),
            Some(true) => Some(format!("alter table event detach partition {table} finalize")),
        };
        for statement in detach.into_iter().chain([format!("drop table {table}")]) {
            sqlx::query(AssertSqlSafe(statement)).execute(&mut *connection).await?;
        }
    }
    Ok(())
}

/// Gives a run its place in the order of runs again, unless another has it by now.
async fn number_again(connection: &mut PgConnection, run: RunId, number: u64) -> Result<()> {
    sqlx::query(
        "update run_head set number = $2 where run_id = $1 \
         and not exists (select from run_head where number = $2)",
    )
    .bind(run.0)
    .bind(number as i64)
    .execute(&mut *connection)
    .await?;
    // Of runs to come none gets it.
    sqlx::query(
        "select setval(s, greatest(pg_sequence_last_value(s::regclass), $1)) \
         from (select pg_get_serial_sequence('run_head', 'number') as s) as sequence",
    )
    .bind(number as i64)
    .execute(connection)
    .await?;
    Ok(())
}

async fn take_epoch(connection: &mut PgConnection, run: RunId, epoch: u64) -> Result<()> {
    sqlx::query("update run_head set writer_epoch = $2 where run_id = $1")
        .bind(run.0)
        .bind(epoch as i64)
        .execute(connection)
        .await?;
    Ok(())
}

async fn append(connection: &mut PgConnection, run: RunId, batch: &[StoredEvent]) -> Result<()> {
    let chained = |stored: &StoredEvent| -> Result<Chained> {
        Ok(Chained {
            stored: stored.clone(),
            recorded: stored.decode()?,
            blobs: Vec::new(),
            ends: true,
        })
    };
    let batch: Vec<Chained> = batch.iter().map(chained).collect::<Result<_>>()?;
    let refs: Vec<&Chained> = batch.iter().collect();
    append::write(connection, run, &refs).await
}
