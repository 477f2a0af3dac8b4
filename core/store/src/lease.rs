//! The right to write one stream: a session advisory lock and the epoch taken together with it.
//!
//! The lock lives as long as the lease's own connection; the epoch outlives it and fences whoever
//! comes back late.

use std::time::{Duration, Instant};

use hm_domain::event::Event;
use hm_domain::id::{Digest, RunId};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Connection as _};

use crate::append::{self, Chained};
use crate::error::{Result, StoreError};
use crate::holder::Holder;
use crate::store::{Head, Store, head, now_us};
use crate::worker::{Worker, workers};

/// How long a run that begins waits for whoever has the table of all events to himself.
const START_PATIENCE: Duration = Duration::from_secs(30);

/// One writer of one stream. Dropping it closes its connection and so gives the stream back.
#[derive(Debug)]
pub struct WriterLease {
    run_id: RunId,
    epoch: u64,
    head: Head,
    /// When the newest event on record was recorded: none of this writer's says that it was earlier.
    last_at: i64,
    options: PgConnectOptions,
    connection: Option<PgConnection>,
    /// When this worker let itself be heard last.
    pub(crate) heard: Instant,
}

/// Whether a run may begin beside an unfinished one of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Namesakes {
    /// It may not.
    Refused,
    /// It was asked for in so many words.
    Allowed,
}

impl Store {
    /// Begins a run: its stream, this writer's hold on it and its first event come to be together or
    /// not at all, so that nobody meets a run that has no beginning.
    ///
    /// # Errors
    /// [`StoreError::NameTaken`] where an unfinished run has the name and `namesakes` are refused: of two
    /// workers that begin one name in the same moment, one comes first.
    pub async fn start_run(
        &self,
        run_id: RunId,
        name: &str,
        namesakes: Namesakes,
        started: Event,
    ) -> Result<WriterLease> {
        let mut connection = self.options.connect().await?;
        if !try_lock(&mut connection, run_id).await? {
            return Err(StoreError::Held { run_id, holder: "another process".to_owned() });
        }
        let begun = Instant::now();
        loop {
            let name = (name, namesakes);
            match begin(&mut connection, run_id, name, started.clone()).await {
                Ok(begun) => return Ok(self.lease(run_id, begun, connection)),
                // Somebody has the table of all events to himself: let others pass before the next try.
                Err(error) if error.is_locked_out() && begun.elapsed() < START_PATIENCE => {
                    tracing::warn!(%error, "the run cannot begin yet");
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes the stream: lock, then epoch. Refuses with [`StoreError::Held`] while another has it or is
    /// known to come back for it, and with [`StoreError::Sealed`] when the run has finished.
    pub async fn acquire_writer(&self, run_id: RunId) -> Result<WriterLease> {
        let before = self.head(run_id).await?;
        if before.sealed {
            return Err(StoreError::Sealed(run_id));
        }
        let mut connection = self.options.connect().await?;
        // Looked at before the lock is tried: one that comes back for it must not find it taken.
        let worker = workers(&mut connection, &[run_id]).await?.remove(&run_id.0);
        match worker {
            // One of this process that was let go is known here to be over.
            Some(Worker::Waiting { holder, .. }) if holder == Holder::here().name => {}
            Some(Worker::Waiting { holder, dead_in_s: Some(seconds), .. }) => {
                return Err(StoreError::MayComeBack { run_id, holder, seconds });
            }
            Some(Worker::Waiting { holder, .. }) => {
                return Err(StoreError::Held { run_id, holder });
            }
            Some(Worker::Working { .. } | Worker::Dead { .. } | Worker::None) | None => {}
        }
        if !try_lock(&mut connection, run_id).await? {
            let holder = self.head(run_id).await?.holder;
            return Err(StoreError::Held { run_id, holder });
        }
        let head = take(&mut connection, run_id).await?;
        debug_assert!(head.writer_epoch > before.writer_epoch);
        let last_at = last_at(&mut connection, run_id).await?;
        Ok(self.lease(run_id, (head, last_at), connection))
    }

    fn lease(
        &self,
        run_id: RunId,
        (head, last_at): (Head, i64),
        connection: PgConnection,
    ) -> WriterLease {
        // A writer's statements name no table of many parts: their plans can be kept.
        let options = self.options.clone().options([("plan_cache_mode", "auto")]);
        let (epoch, connection) = (head.writer_epoch, Some(connection));
        WriterLease { run_id, epoch, head, last_at, options, connection, heard: Instant::now() }
    }
}

impl WriterLease {
    /// The stream.
    pub fn run_id(&self) -> RunId {
        self.run_id
    }

    /// The epoch that every event of this writer carries.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Where the stream stands, as this writer left it.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// When the newest event was recorded that this writer found or made.
    pub(crate) fn last_at(&self) -> i64 {
        self.last_at
    }

    /// Where the stream stands once `batch` is on disk.
    pub(crate) fn advance(&mut self, batch: &[&Chained]) {
        if let Some(last) = batch.last() {
            self.head.next_seq = last.stored.envelope.seq + 1;
            self.head.chain = last.stored.hash;
            self.last_at = last.stored.envelope.recorded_at;
        }
    }

    /// After a lost connection: a new one, the lock again, and the head as the database has it.
    /// The epoch stays; if it moved meanwhile, another worker came and this one is over.
    pub(crate) async fn reconnect(&mut self) -> Result<Head> {
        self.connection = None;
        let mut connection = self.options.connect().await?;
        let locked = try_lock(&mut connection, self.run_id).await?;
        let row = sqlx::query(
            "select next_seq, chain, writer_epoch, sealed, holder from run_head where run_id = $1",
        )
        .bind(self.run_id.0)
        .fetch_one(&mut connection)
        .await?;
        let found = head(&row)?;
        if found.writer_epoch != self.epoch {
            let run = self.run_id;
            let (holder, epoch) = (&found.holder, found.writer_epoch);
            return Err(match epoch > self.epoch {
                true => StoreError::Fenced(format!("{holder} holds run {run} with epoch {epoch}")),
                false => StoreError::Conflict(format!(
                    "the database has gone back behind the beginning of this worker, whose epoch is {}: \
                     its run is at epoch {epoch}",
                    self.epoch
                )),
            });
        }
        if !locked {
            // Our own dead session may hold it until the server notices: the caller tries again.
            return Err(StoreError::Held { run_id: self.run_id, holder: found.holder });
        }
        (self.connection, self.head) = (Some(connection), found.clone());
        Ok(found)
    }

    /// Gives the stream back and waits until the server knows.
    pub async fn release(mut self) -> Result<()> {
        if let Some(mut connection) = self.connection.take() {
            sqlx::query(
                "delete from worker using run_head h \
                 where worker.run_id = $1 and h.run_id = $1 and h.writer_epoch = $2",
            )
            .bind(self.run_id.0)
            .bind(self.epoch as i64)
            .execute(&mut connection)
            .await?;
            connection.close().await?;
        }
        Ok(())
    }

    /// The connection, unless it is lost.
    pub(crate) fn connection(&mut self) -> Result<&mut PgConnection> {
        let lost = || sqlx::Error::Io(std::io::ErrorKind::NotConnected.into());
        self.connection.as_mut().ok_or_else(|| lost().into())
    }
}

/// Makes a stream, takes it, and writes its first event.
async fn begin(
    connection: &mut PgConnection,
    run_id: RunId,
    (name, namesakes): (&str, Namesakes),
    started: Event,
) -> Result<(Head, i64)> {
    let mut transaction = connection.begin().await?;
    if namesakes == Namesakes::Refused {
        refuse_namesake(&mut transaction, name).await?;
    }
    sqlx::query("select start_run($1, $2)")
        .bind(run_id.0)
        .bind(name)
        .execute(&mut *transaction)
        .await?;
    let mut head = take(&mut transaction, run_id).await?;
    let begun_at = now_us();
    let place = (head.next_seq, 0, begun_at);
    let first = Chained::new((run_id, head.writer_epoch), place, started, head.chain);
    append::write(&mut transaction, run_id, &[&first]).await?;
    transaction.commit().await?;
    (head.next_seq, head.chain) = (head.next_seq + 1, first.stored.hash);
    Ok((head, begun_at))
}

/// When the stream's newest event was recorded. A clock that is set back moves no time of the log back.
async fn last_at(connection: &mut PgConnection, run_id: RunId) -> Result<i64> {
    let newest = "select recorded_at from event where run_id = $1 order by seq desc limit 1";
    let found = sqlx::query_scalar(newest).bind(run_id.0).fetch_optional(connection).await?;
    Ok(found.unwrap_or(0))
}

/// Counts the epoch up and names this process, which holds the lock.
async fn take(connection: &mut PgConnection, run_id: RunId) -> Result<Head> {
    let Holder { name, began } = Holder::here();
    let row = sqlx::query(
        "with heard as (insert into worker (run_id) values ($1) \
             on conflict (run_id) do update set heard_at = clock_timestamp()) \
         update run_head set writer_epoch = writer_epoch + 1, holder = $2, holder_began = $3 \
         where run_id = $1 returning next_seq, chain, writer_epoch, sealed, holder",
    )
    .bind(run_id.0)
    .bind(name)
    .bind(began)
    .fetch_one(connection)
    .await?;
    head(&row)
}

/// Refuses a name that an unfinished run has. Until the transaction ends nobody else begins one.
async fn refuse_namesake(connection: &mut PgConnection, name: &str) -> Result<()> {
    sqlx::query("select pg_advisory_xact_lock($1)")
        .bind(key(&format!("heurimentor.name {name}")))
        .execute(&mut *connection)
        .await?;
    let found: Option<(uuid::Uuid, String)> = sqlx::query_as(
        "select run_id, holder from run_head where name = $1 and not sealed order by number desc limit 1",
    )
    .bind(name)
    .fetch_optional(connection)
    .await?;
    match found {
        None => Ok(()),
        Some((id, holder)) => {
            Err(StoreError::NameTaken { name: name.to_owned(), run_id: RunId(id), holder })
        }
    }
}

/// Waits a moment: a session that has just ended may still be holding the lock.
async fn try_lock(connection: &mut PgConnection, run_id: RunId) -> Result<bool> {
    for _ in 0..5 {
        let locked: bool = sqlx::query_scalar("select pg_try_advisory_lock($1)")
            .bind(lock_key(run_id))
            .fetch_one(&mut *connection)
            .await?;
        if locked {
            return Ok(true);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(false)
}

/// The advisory lock's number: from a hash, so that it is unlike other programs' small numbers.
pub(crate) fn lock_key(run_id: RunId) -> i64 {
    key(&format!("heurimentor.writer {run_id}"))
}

fn key(text: &str) -> i64 {
    let digest = Digest::of(text.as_bytes());
    i64::from_le_bytes(digest.0[..8].try_into().expect("8 bytes"))
}
