//! A connection to the log's database: streams, their heads and their events. Writing goes through a
//! [`WriterLease`](crate::WriterLease); this side only reads, and makes streams.

use hm_domain::chain::{Envelope, Walk};
use hm_domain::event::{Event, Recorded};
use hm_domain::id::{Digest, RunId};
use hm_domain::spec::RunSpec;
use sqlx::Row as _;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgRow};

use crate::codec;
use crate::error::{Result, StoreError};

/// Events fetched at once when a whole stream is read.
pub(crate) const PAGE_EVENTS: u64 = 1024;
/// Bytes of payloads fetched at once, but for one event that is longer: what plugins may write does not
/// say what a reader needs.
const PAGE_BYTES: i64 = 16 << 20;

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
                seq: number::<i64, _>(row, "seq")?,
                attempt: number::<i64, _>(row, "attempt")?,
                step: step.map(|step| fits(step, "step")).transpose()?,
                kind: number::<i32, _>(row, "kind")?,
                schema_version: number::<i32, _>(row, "schema_version")?,
                recorded_at: row.try_get("recorded_at")?,
                writer_epoch: number::<i64, _>(row, "writer_epoch")?,
            },
            payload: row.try_get("payload")?,
            prev_hash: digest(row, "prev_hash")?,
            hash: digest(row, "hash")?,
        })
    }
}

/// Reads a digest column.
pub(crate) fn digest(row: &PgRow, column: &str) -> Result<Digest> {
    let bytes: Vec<u8> = row.try_get(column)?;
    let bytes = bytes.try_into().map_err(|bytes: Vec<u8>| {
        StoreError::Corrupt(format!("column {column} has {} bytes, expected 32", bytes.len()))
    })?;
    Ok(Digest(bytes))
}

/// A column's number in the type that the log has for it: what does not fit was never appended.
fn number<C, T>(row: &PgRow, column: &str) -> Result<T>
where
    C: for<'r> sqlx::Decode<'r, sqlx::Postgres>
        + sqlx::Type<sqlx::Postgres>
        + Copy
        + std::fmt::Display,
    T: TryFrom<C>,
{
    fits(row.try_get::<C, _>(column)?, column)
}

fn fits<C: Copy + std::fmt::Display, T: TryFrom<C>>(found: C, column: &str) -> Result<T> {
    let unfit = || StoreError::Corrupt(format!("column {column} is {found}, which no event has"));
    T::try_from(found).map_err(|_| unfit())
}

/// Microseconds since the Unix epoch.
pub(crate) fn now_us() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_micros() as i64)
}

impl Store {
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

    /// Events from `from_seq` on, at most `limit` and [`PAGE_BYTES`] of payloads, as stored, and at least
    /// one where there is one. A tail is this, called again until nothing comes.
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
        let mut walk = Walk { next_seq: seq, chain: before, ended: false };
        let report = |events, broken: Option<&str>| ChainReport {
            events,
            sealed: head.sealed,
            broken: broken.map(|why| (events, why.to_owned())),
        };
        loop {
            let left = head.next_seq.saturating_sub(walk.next_seq);
            let page = self.read_raw(run_id, walk.next_seq, PAGE_EVENTS.min(left)).await?;
            for stored in &page {
                let hashes = (&stored.prev_hash, &stored.hash);
                if let Err(why) = walk.past(&stored.envelope, &stored.payload, hashes) {
                    return Ok(report(walk.next_seq, Some(why)));
                }
            }
            if walk.next_seq == head.next_seq {
                break;
            }
            if page.is_empty() {
                return Ok(report(walk.next_seq, Some("the event is missing")));
            }
        }
        let events = walk.next_seq;
        if let Err(why) = walk.at_head(&head.chain, head.sealed) {
            return Ok(report(events, Some(why)));
        }
        // A run that goes on may have grown, and its head with it.
        let has_more = !self.read_raw(run_id, events, 1).await?.is_empty();
        let is_beyond = has_more && self.head(run_id).await?.next_seq == events;
        Ok(report(events, is_beyond.then_some("there are events after the head")))
    }

    /// The run of this id, or the one of this name that began last. It is called what its log says, and
    /// needs no projection.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] where a name leads to a run whose log says another.
    pub async fn find_run(&self, name_or_id: &str) -> Result<Option<FoundRun>> {
        let id = uuid::Uuid::parse_str(name_or_id).ok();
        let found: Option<(uuid::Uuid, String, i64)> = sqlx::query_as(
            "select run_id, name, count(*) over () from run_head where run_id <> $3 \
             and (run_id = $2 or ($2 is null and name = $1)) order by number desc limit 1",
        )
        .bind(name_or_id)
        .bind(id)
        .bind(RunId::SYSTEM.0)
        .fetch_optional(&self.pool)
        .await?;
        let Some((run_id, listed, namesakes)) = found else { return Ok(None) };
        let run_id = RunId(run_id);
        // A first event that says nothing is for an audit to tell.
        let name = self.name_in_log(run_id).await?.unwrap_or_else(|| listed.clone());
        if id.is_none() && name != listed {
            return Err(StoreError::Corrupt(format!(
                "run {run_id} is listed as {listed}, and its log says {name}: run_head was changed; name \
                 the run by its id"
            )));
        }
        Ok(Some(FoundRun { run_id, name, namesakes: namesakes as u64 }))
    }

    /// What the run's first event calls it; none where that cannot be read.
    async fn name_in_log(&self, run_id: RunId) -> Result<Option<String>> {
        let first = self.read_raw(run_id, 0, 1).await?;
        let Some(Ok(first)) = first.first().map(StoredEvent::decode) else { return Ok(None) };
        let Event::RunStarted(started) = first.event else { return Ok(None) };
        let spec: Option<RunSpec> = serde_json::from_str(&started.spec).ok();
        Ok(spec.map(|spec| spec.name))
    }

    /// Keeps a plugin's state under its digest. Keeping it twice is no error.
    pub async fn put_blob(&self, bytes: &[u8]) -> Result<Digest> {
        crate::append::put_blobs(&mut *self.pool.acquire().await?, &[bytes]).await?;
        Ok(Digest::of(bytes))
    }

    /// A kept state, which is what its digest says.
    pub async fn blob(&self, digest: Digest) -> Result<Option<Vec<u8>>> {
        let found: Option<Vec<u8>> =
            sqlx::query_scalar("select state from plugin_state where digest = $1")
                .bind(&digest.0[..])
                .fetch_optional(&self.pool)
                .await?;
        match found {
            Some(state) if Digest::of(&state) != digest => Err(StoreError::Corrupt(format!(
                "plugin state {digest} is not there: the database has {} other bytes under its digest",
                state.len()
            ))),
            found => Ok(found),
        }
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
         from event where run_id = $1 and seq >= $2 and seq <= ( \
             select max(seq) from ( \
                 select seq, sum(octet_length(payload)) over (order by seq) - octet_length(payload) as before \
                 from event where run_id = $1 and seq >= $2 order by seq limit $3) page \
             where before < $4) \
         order by seq",
    )
    .bind(run_id.0)
    .bind(from_seq)
    .bind(limit.min(i64::MAX as u64) as i64)
    .bind(PAGE_BYTES)
    .fetch_all(connection)
    .await?;
    rows.iter().map(StoredEvent::from_row).collect()
}

pub(crate) fn head(row: &PgRow) -> Result<Head> {
    Ok(Head {
        next_seq: number::<i64, _>(row, "next_seq")?,
        chain: digest(row, "chain")?,
        writer_epoch: number::<i64, _>(row, "writer_epoch")?,
        sealed: row.try_get("sealed")?,
        holder: row.try_get("holder")?,
    })
}
