//! A connection to the log's database: streams, their heads and their events. Writing goes through a
//! [`WriterLease`](crate::WriterLease); this side only reads, and makes streams.

use std::str::FromStr as _;
use std::time::{Duration, Instant};

use hm_domain::chain::Envelope;
use hm_domain::event::Recorded;
use hm_domain::id::{Digest, RunId};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions, PgRow};
use sqlx::{ConnectOptions as _, Connection as _, Row as _};
use tokio::time::timeout;

use crate::codec;
use crate::error::{Result, StoreError};
use crate::private_postgres::named_url::told;

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../../migrations");

/// How long a connection is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a first connection that is refused is tried for again.
const FIRST_PATIENCE: Duration = Duration::from_secs(2);

/// Events fetched at once when a whole stream is read.
pub(crate) const PAGE_EVENTS: u64 = 1024;

/// The database. Cloning shares its connections.
#[derive(Clone, Debug)]
pub struct Store {
    pub(crate) pool: PgPool,
    pub(crate) options: PgConnectOptions,
}

/// Where a stream stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Seq of the next event.
    pub next_seq: u64,
    /// Hash of the last event; [`Digest::ZERO`] before the first.
    pub chain: Digest,
    /// Epoch of the writer in office.
    pub writer_epoch: u64,
    /// Whether the stream takes no more events.
    pub sealed: bool,
    /// Host and process that took the stream last.
    pub holder: String,
}

/// An event as it lies in the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEvent {
    /// What the hash covers beside the payload.
    pub envelope: Envelope,
    /// Encoded event.
    pub payload: Vec<u8>,
    /// Hash of the event before.
    pub prev_hash: Digest,
    /// Hash of this one.
    pub hash: Digest,
}

/// What a walk along a chain found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainReport {
    /// Events whose link and hash hold.
    pub events: u64,
    /// Whether the stream takes no more events, by its head.
    pub sealed: bool,
    /// First place that does not, and why.
    pub broken: Option<(u64, String)>,
}

/// What a name or an id stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundRun {
    /// The run.
    pub run_id: RunId,
    /// What people call it.
    pub name: String,
    /// Runs that this name stands for, this one among them; 1 where it was found by its id.
    pub namesakes: u64,
}

impl std::fmt::Display for FoundRun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "run {} ({})", self.name, self.run_id)
    }
}

impl StoredEvent {
    /// Decodes the payload.
    pub fn decode(&self) -> Result<Recorded> {
        let envelope = &self.envelope;
        let event = codec::decode(envelope.kind, envelope.schema_version, &self.payload)?;
        if event.step() != envelope.step {
            let shown = |step: Option<u64>| step.map_or("none".to_owned(), |step| step.to_string());
            let (row, said) = (shown(envelope.step), shown(event.step()));
            let why = format!("the row is of step {row}, its event of {said}");
            return Err(StoreError::Corrupt(why));
        }
        Ok(Recorded {
            seq: envelope.seq,
            attempt: envelope.attempt,
            recorded_at: envelope.recorded_at,
            event,
        })
    }

    fn from_row(row: &PgRow) -> Result<StoredEvent> {
        let step: Option<i64> = row.try_get("step")?;
        Ok(StoredEvent {
            envelope: Envelope {
                run_id: RunId(row.try_get("run_id")?),
                seq: narrowed("seq", row.try_get::<i64, _>("seq")?)?,
                attempt: narrowed("attempt", row.try_get::<i64, _>("attempt")?)?,
                step: step.map(|step| narrowed("step", step)).transpose()?,
                kind: narrowed("kind", row.try_get::<i32, _>("kind")?)?,
                schema_version: narrowed(
                    "schema_version",
                    row.try_get::<i32, _>("schema_version")?,
                )?,
                recorded_at: row.try_get("recorded_at")?,
                writer_epoch: narrowed("writer_epoch", row.try_get::<i64, _>("writer_epoch")?)?,
            },
            payload: row.try_get("payload")?,
            prev_hash: digest(row, "prev_hash")?,
            hash: digest(row, "hash")?,
        })
    }
}

/// A number of a column, in the type that the hash covers it in: what does not fit is no event of ours.
fn narrowed<N, W>(column: &str, value: W) -> Result<N>
where
    N: TryFrom<W>,
    W: Copy + std::fmt::Display,
{
    N::try_from(value).map_err(|_| {
        StoreError::Corrupt(format!("column {column} holds {value}, which no event has"))
    })
}

/// Reads a digest column.
pub(crate) fn digest(row: &PgRow, column: &str) -> Result<Digest> {
    let bytes: Vec<u8> = row.try_get(column)?;
    let bytes = bytes.try_into().map_err(|bytes: Vec<u8>| {
        StoreError::Corrupt(format!("column {column} has {} bytes, expected 32", bytes.len()))
    })?;
    Ok(Digest(bytes))
}

/// Microseconds since the Unix epoch.
pub(crate) fn now_us() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_micros() as i64)
}

impl Store {
    /// Connects to `url`, brings the tables up to date, and keeps at most `connections_max` open.
    ///
    /// The first connection is made by itself: where it is refused, the server says why, and a pool
    /// would say only that it has waited.
    pub async fn connect(url: &str, connections_max: u32) -> Result<Store> {
        let (options, mut first) = reach(url).await.map_err(|error| told(url, error))?;
        let migrated = MIGRATIONS.run(&mut first).await;
        migrated.map_err(|error| StoreError::Migration(error.to_string()))?;
        first.close().await?;
        Ok(Store::over(options, connections_max))
    }

    /// Connects to look and writes nothing: none where the tables are not those of this program.
    pub async fn connect_to_look(url: &str) -> Result<Option<Store>> {
        let (options, mut first) = reach(url).await.map_err(|error| told(url, error))?;
        let known: Option<String> =
            sqlx::query_scalar("select to_regclass('_sqlx_migrations')::text")
                .fetch_one(&mut first)
                .await?;
        let made: Vec<i64> = match known {
            None => Vec::new(),
            Some(_) => {
                let made = "select version from _sqlx_migrations where success order by version";
                sqlx::query_scalar(made).fetch_all(&mut first).await?
            }
        };
        first.close().await?;
        let ours: Vec<i64> = MIGRATIONS.iter().map(|migration| migration.version).collect();
        Ok((made == ours).then(|| Store::over(options, 1)))
    }

    fn over(options: PgConnectOptions, connections_max: u32) -> Store {
        let pool = PgPoolOptions::new()
            .max_connections(connections_max)
            .acquire_timeout(PATIENCE)
            .connect_lazy_with(options.clone());
        Store { pool, options }
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<()> {
        sqlx::query("select 1").execute(&self.pool).await?;
        Ok(())
    }

    /// Where the stream stands.
    pub async fn head(&self, run_id: RunId) -> Result<Head> {
        let row = sqlx::query(
            "select next_seq, chain, writer_epoch, sealed, holder from run_head where run_id = $1",
        )
        .bind(run_id.0)
        .fetch_optional(&self.pool)
        .await?
        .ok_or(StoreError::NoRun(run_id))?;
        head(&row)
    }

    /// Events from `from_seq` on, at most `limit`, as stored. A tail is this, called again.
    pub async fn read_raw(
        &self,
        run_id: RunId,
        from_seq: u64,
        limit: u64,
    ) -> Result<Vec<StoredEvent>> {
        read_raw(&mut *self.pool.acquire().await?, run_id, from_seq, limit).await
    }

    /// The same, decoded. Does not check the chain: [`Store::verify_chain`] does.
    pub async fn read(&self, run_id: RunId, from_seq: u64, limit: u64) -> Result<Vec<Recorded>> {
        let stored = self.read_raw(run_id, from_seq, limit).await?;
        stored.iter().map(StoredEvent::decode).collect()
    }

    /// Walks the whole stream: every seq in place, every link, every hash, and the head, which is sealed
    /// by the event that ends a run and by no other.
    pub async fn verify_chain(&self, run_id: RunId) -> Result<ChainReport> {
        self.verify_chain_from(run_id, (0, Digest::ZERO)).await
    }

    /// The same from the event at a seq on, by the hash of the one before it, which is believed. The
    /// report counts events from the first on.
    pub async fn verify_chain_from(
        &self,
        run_id: RunId,
        (seq, before): (u64, Digest),
    ) -> Result<ChainReport> {
        let head = self.head(run_id).await?;
        let sealed = head.sealed;
        let (mut events, mut chain, mut ended) = (seq, before, false);
        let broken = |events, why: &str| {
            Ok(ChainReport { events, sealed, broken: Some((events, why.to_owned())) })
        };
        loop {
            let page = self
                .read_raw(run_id, events, PAGE_EVENTS.min(head.next_seq.saturating_sub(events)))
                .await?;
            for stored in &page {
                if stored.envelope.seq != events {
                    return broken(events, "the event is missing");
                }
                if stored.prev_hash != chain {
                    return broken(events, "it does not name its predecessor's hash");
                }
                if stored.envelope.hash(&stored.payload, &chain) != stored.hash {
                    return broken(events, "its content does not have the hash it carries");
                }
                if ended {
                    return broken(events, "it comes after the end of the run");
                }
                ended = stored.envelope.kind == codec::RUN_FINISHED;
                (chain, events) = (stored.hash, events + 1);
            }
            if events == head.next_seq {
                break;
            }
            if page.is_empty() {
                return broken(events, "the event is missing");
            }
        }
        if chain != head.chain {
            return broken(events, "the head names another last hash");
        }
        if sealed && !ended {
            return broken(events, "the head says that the run has ended, and the log does not");
        }
        if ended && !sealed {
            return broken(events, "the log says that the run has ended, and the head does not");
        }
        // A run that goes on may have grown, and its head with it.
        if !self.read_raw(run_id, events, 1).await?.is_empty()
            && self.head(run_id).await?.next_seq == events
        {
            return broken(events, "there are events after the head");
        }
        Ok(ChainReport { events, sealed, broken: None })
    }

    /// The run of this id, or the one of this name that began last.
    pub async fn find_run(&self, name_or_id: &str) -> Result<Option<FoundRun>> {
        let found: Option<(uuid::Uuid, String, i64)> = sqlx::query_as(
            "select run_id, run.name, count(*) over () from run join run_head h using (run_id) \
             where run_id = $2 or ($2 is null and run.name = $1) order by h.number desc limit 1",
        )
        .bind(name_or_id)
        .bind(uuid::Uuid::parse_str(name_or_id).ok())
        .fetch_optional(&self.pool)
        .await?;
        Ok(found.map(|(id, name, namesakes)| FoundRun {
            run_id: RunId(id),
            name,
            namesakes: namesakes as u64,
        }))
    }

    /// Keeps a plugin's state under its digest. Keeping it twice is no error.
    pub async fn put_blob(&self, bytes: &[u8]) -> Result<Digest> {
        let mut connection = self.pool.acquire().await?;
        crate::lease::put_blob(&mut connection, bytes).await
    }

    /// A kept state.
    pub async fn blob(&self, digest: Digest) -> Result<Option<Vec<u8>>> {
        let found = sqlx::query_scalar("select state from plugin_state where digest = $1")
            .bind(&digest.0[..])
            .fetch_optional(&self.pool)
            .await?;
        Ok(found)
    }
}

/// How to connect, and a first connection.
async fn reach(url: &str) -> Result<(PgConnectOptions, PgConnection)> {
    let options = PgConnectOptions::from_str(url)?
        .application_name("heurimentor")
        // A server may be set to lazy commits for other users; the log never is.
        .options([("synchronous_commit", "on")]);
    let first = first_connection(&options).await?;
    Ok((options, first))
}

/// A first connection. A server that is starting, or that has not yet noticed the end of an earlier
/// session of ours, is given a moment.
async fn first_connection(options: &PgConnectOptions) -> Result<PgConnection> {
    let begun = Instant::now();
    loop {
        let error = match timeout(PATIENCE, options.connect()).await {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(error)) => StoreError::from(error),
            Err(_) => {
                return Err(StoreError::Silent(PATIENCE.as_secs()));
            }
        };
        if !error.may_pass() || begun.elapsed() > FIRST_PATIENCE {
            return Err(error);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// See [`Store::read_raw`]: on a connection that somebody holds.
pub(crate) async fn read_raw(
    connection: &mut PgConnection,
    run_id: RunId,
    from_seq: u64,
    limit: u64,
) -> Result<Vec<StoredEvent>> {
    // Nothing lies beyond what a column can count.
    let Ok(from_seq) = i64::try_from(from_seq) else { return Ok(Vec::new()) };
    let rows = sqlx::query(
        "select run_id, seq, attempt, step, kind, schema_version, recorded_at, writer_epoch, \
                payload, prev_hash, hash \
         from event where run_id = $1 and seq >= $2 order by seq limit $3",
    )
    .bind(run_id.0)
    .bind(from_seq)
    .bind(limit.min(i64::MAX as u64) as i64)
    .fetch_all(connection)
    .await?;
    rows.iter().map(StoredEvent::from_row).collect()
}

pub(crate) fn head(row: &PgRow) -> Result<Head> {
    Ok(Head {
        next_seq: row.try_get::<i64, _>("next_seq")? as u64,
        chain: digest(row, "chain")?,
        writer_epoch: row.try_get::<i64, _>("writer_epoch")? as u64,
        sealed: row.try_get("sealed")?,
        holder: row.try_get("holder")?,
    })
}
