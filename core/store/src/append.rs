//! Appending: events are encoded and chained, and written in one transaction with the states that they
//! name and all that people read.

use std::time::Instant;

use hm_domain::chain::Envelope;
use hm_domain::event::{Event, Recorded};
use hm_domain::id::{Digest, RunId};
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use crate::codec;
use crate::error::{Result, StoreError};
use crate::lease::WriterLease;
use crate::plugins::{self, PluginRow};
use crate::projection;
use crate::store::{StoredEvent, now_us};
use crate::worker::BEAT;

/// An event that is chained but perhaps not yet on disk.
#[derive(Clone, Debug)]
pub(crate) struct Chained {
    pub(crate) stored: StoredEvent,
    pub(crate) recorded: Recorded,
    /// Plugin states that it names.
    pub(crate) blobs: Vec<Vec<u8>>,
    /// Whether it is the last of those that are recorded together, which no transaction parts: an answer
    /// without what it does would be waited for by whoever folds the log.
    pub(crate) ends: bool,
}

impl Chained {
    /// Encodes `event` and links it to `chain`.
    pub(crate) fn new(
        (run_id, writer_epoch): (RunId, u64),
        (seq, attempt, recorded_at): (u64, u32, i64),
        event: Event,
        chain: Digest,
    ) -> Chained {
        let (kind, schema_version, payload) = codec::encode(&event);
        let envelope = Envelope {
            run_id,
            seq,
            attempt,
            step: event.step(),
            kind,
            schema_version,
            recorded_at,
            writer_epoch,
        };
        let hash = envelope.hash(&payload, &chain);
        let stored = StoredEvent { envelope, payload, prev_hash: chain, hash };
        let recorded = Recorded { seq, attempt, recorded_at, event };
        Chained { stored, recorded, blobs: Vec::new(), ends: true }
    }

    /// Bytes that it brings to the database.
    pub(crate) fn bytes(&self) -> usize {
        self.stored.payload.len() + self.blobs.iter().map(Vec::len).sum::<usize>()
    }
}

impl WriterLease {
    /// Chains and appends `events` in one transaction with the projections; on disk when it returns.
    pub async fn append(&mut self, attempt: u32, events: Vec<Event>) -> Result<Vec<Recorded>> {
        let batch = self.chained(attempt, events);
        self.append_chained(&batch.iter().collect::<Vec<_>>()).await?;
        Ok(batch.into_iter().map(|chained| chained.recorded).collect())
    }

    /// Appends events that are chained already, with the blobs they name. Lets itself be heard from time to
    /// time, also where there are none.
    pub(crate) async fn append_chained(&mut self, batch: &[&Chained]) -> Result<()> {
        let run_id = self.run_id();
        let is_to_be_heard = self.heard.elapsed() >= BEAT;
        let mut transaction = self.connection()?.begin().await?;
        if !batch.is_empty() {
            write(&mut transaction, run_id, batch).await?;
        }
        if is_to_be_heard {
            let beat = "update worker set heard_at = clock_timestamp() where run_id = $1";
            sqlx::query(beat).bind(run_id.0).execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        if is_to_be_heard {
            self.heard = Instant::now();
        }
        self.advance(batch);
        Ok(())
    }

    /// Keeps a plugin and says so on this stream, both or neither. False when it was there already.
    pub(crate) async fn install(
        &mut self,
        plugin: &PluginRow,
        wasm: &[u8],
        event: Event,
    ) -> Result<bool> {
        let (run_id, batch) = (self.run_id(), self.chained(0, vec![event]));
        let batch: Vec<&Chained> = batch.iter().collect();
        let mut transaction = self.connection()?.begin().await?;
        write(&mut transaction, run_id, &batch).await?;
        if !plugins::insert(&mut transaction, plugin, wasm).await? {
            transaction.rollback().await?;
            return Ok(false);
        }
        transaction.commit().await?;
        self.advance(&batch);
        Ok(true)
    }

    fn chained(&self, attempt: u32, events: Vec<Event>) -> Vec<Chained> {
        let head = self.head();
        let (mut batch, mut chain) = (Vec::with_capacity(events.len()), head.chain);
        let mut last_at = self.last_at();
        for (seq, event) in (head.next_seq..).zip(events) {
            last_at = last_at.max(now_us());
            let place = (seq, attempt, last_at);
            let chained = Chained::new((self.run_id(), self.epoch()), place, event, chain);
            chain = chained.stored.hash;
            batch.push(chained);
        }
        batch
    }
}

/// Writes a batch: its events first, which takes the head's lock before any other, so that no two writers
/// wait for each other.
pub(crate) async fn write(
    connection: &mut PgConnection,
    run_id: RunId,
    batch: &[&Chained],
) -> Result<()> {
    insert(connection, run_id, batch).await?;
    let blobs: Vec<&[u8]> =
        batch.iter().flat_map(|chained| &chained.blobs).map(Vec::as_slice).collect();
    put_blobs(connection, &blobs).await?;
    let events: Vec<&Recorded> = batch.iter().map(|chained| &chained.recorded).collect();
    projection::project(connection, run_id, &events).await?;
    crate::commands::answer(connection, run_id, &events).await
}

async fn insert(connection: &mut PgConnection, run_id: RunId, batch: &[&Chained]) -> Result<()> {
    let Some(first) = batch.first().map(|chained| &chained.stored) else { return Ok(()) };
    let envelopes = || batch.iter().map(|chained| &chained.stored.envelope);
    sqlx::query("select append($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)")
        .bind(run_id.0)
        .bind(first.envelope.writer_epoch as i64)
        .bind(first.envelope.seq as i64)
        .bind(&first.prev_hash.0[..])
        .bind(envelopes().map(|envelope| i64::from(envelope.attempt)).collect::<Vec<_>>())
        .bind(envelopes().map(|envelope| envelope.step.map(|step| step as i64)).collect::<Vec<_>>())
        .bind(envelopes().map(|envelope| i32::from(envelope.kind)).collect::<Vec<_>>())
        .bind(envelopes().map(|envelope| i32::from(envelope.schema_version)).collect::<Vec<_>>())
        .bind(envelopes().map(|envelope| envelope.recorded_at).collect::<Vec<_>>())
        .bind(batch.iter().map(|chained| &chained.stored.payload[..]).collect::<Vec<_>>())
        .bind(batch.iter().map(|chained| &chained.stored.hash.0[..]).collect::<Vec<_>>())
        .execute(connection)
        .await
        .map_err(|error| StoreError::of_append(run_id, error))?;
    Ok(())
}

/// Keeps plugin states under their digests, in the order of these: two workers that keep the same ones
/// never wait for each other.
pub(crate) async fn put_blobs(connection: &mut PgConnection, blobs: &[&[u8]]) -> Result<()> {
    let too_large = |blob: &&&[u8]| blob.len() > hm_domain::plugin::STATE_BYTES_MAX;
    if let Some(blob) = blobs.iter().find(too_large) {
        return Err(StoreError::StateTooLarge(blob.len()));
    }
    let mut kept: Vec<(Digest, &[u8])> =
        blobs.iter().map(|blob| (Digest::of(blob), *blob)).collect();
    kept.sort_unstable();
    kept.dedup();
    if kept.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "insert into plugin_state (digest, state) select * from unnest($1::bytea[], $2::bytea[]) \
         on conflict do nothing",
    )
    .bind(kept.iter().map(|(digest, _)| &digest.0[..]).collect::<Vec<_>>())
    .bind(kept.iter().map(|(_, blob)| *blob).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}
