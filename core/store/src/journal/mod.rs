//! The run loop's pen: chains events at once, writes them behind by a bounded amount, and waits where
//! something must be on disk first. It decides nothing and never drops or reorders.
//!
//! Blocking, for a thread that is not the async runtime's own. That thread only encodes, chains and
//! hands over; a background task groups events into transactions and writes them.

mod kept;
mod queue;
mod writer;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use hm_domain::event::{Event, Recorded};
use hm_domain::id::{Digest, RunId};

use crate::append::Chained;
use crate::error::{Result, StoreError};
use crate::lease::WriterLease;
use crate::store::now_us;
use kept::Kept;
use queue::{Lag, Queue, Shared};
use writer::Writer;

/// How far the log may be behind the run, and how long the run waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalLimits {
    /// Events not yet on disk.
    pub lag_events_max: usize,
    /// Bytes of them and of the states they name.
    pub lag_bytes_max: usize,
    /// Age in milliseconds of the oldest of them.
    pub lag_ms_max: u64,
    /// Milliseconds that an event waits for others to share a transaction with, unless somebody waits
    /// for it: one disk sync for many short steps.
    pub group_ms: u64,
    /// Milliseconds that the database is waited for before the connection is given up for another.
    pub attempt_ms: u64,
    /// Milliseconds that a batch is tried for before the journal gives up and the run ends.
    pub patience_ms: u64,
    /// The same once the run is asked to end.
    pub hurried_patience_ms: u64,
    /// Milliseconds of idleness after which the connection is tried: with it the run's lock would be gone.
    pub heartbeat_ms: u64,
}

impl Default for JournalLimits {
    fn default() -> Self {
        JournalLimits {
            lag_events_max: 4096,
            lag_bytes_max: 64 << 20,
            lag_ms_max: 5000,
            group_ms: 1000,
            attempt_ms: 10_000,
            patience_ms: 300_000,
            hurried_patience_ms: 10_000,
            heartbeat_ms: 5000,
        }
    }
}

type Notice = Arc<dyn Fn(&str) + Send + Sync>;

/// Writes one run's events.
pub struct Journal {
    shared: Arc<Shared>,
    writer: (RunId, u64),
    next_seq: u64,
    chain: Digest,
    last_at: i64,
    limits: JournalLimits,
    notice: Notice,
}

impl Journal {
    /// Starts the background writer on `handle`. `notice` gets a sentence whenever the run has to wait
    /// or the log cannot be written, and when that is over. `hurried` is set from outside when the run is
    /// asked to end.
    pub fn open(
        lease: WriterLease,
        handle: tokio::runtime::Handle,
        limits: JournalLimits,
        hurried: Arc<AtomicBool>,
        notice: impl Fn(&str) + Send + Sync + 'static,
    ) -> Journal {
        let (next_seq, chain) = (lease.head().next_seq, lease.head().chain);
        let last_at = lease.last_at();
        let shared = Arc::new(Shared::new(next_seq));
        let (writer, notice): (_, Notice) = ((lease.run_id(), lease.epoch()), Arc::new(notice));
        let task = Writer {
            shared: shared.clone(),
            lease,
            limits,
            hurried,
            notice: notice.clone(),
            kept: Kept::default(),
        };
        handle.spawn(task.run());
        Journal { shared, writer, next_seq, chain, last_at, limits, notice }
    }

    /// Seq that the next event will have.
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Hash of the newest event, on disk or not.
    pub fn chain(&self) -> Digest {
        self.chain
    }

    /// Chains `events` and queues them with the blobs they name. Waits for the disk when the lag bound
    /// is reached or when one of them must be durable before it takes effect.
    pub fn record(
        &mut self,
        attempt: u32,
        events: Vec<Event>,
        blobs: Vec<Vec<u8>>,
    ) -> Result<Vec<Recorded>> {
        let durable_first = events.iter().any(Event::durable_first);
        let recorded = self.queue(attempt, events, blobs)?;
        if durable_first {
            self.flush()?
        } else {
            self.keep_within_lag()?
        }
        Ok(recorded)
    }

    /// Like [`Journal::record`], and on disk when it returns.
    pub fn commit(
        &mut self,
        attempt: u32,
        events: Vec<Event>,
        blobs: Vec<Vec<u8>>,
    ) -> Result<Vec<Recorded>> {
        let recorded = self.queue(attempt, events, blobs)?;
        self.flush()?;
        Ok(recorded)
    }

    /// Whether the log can still be written, for those who write nothing now.
    pub fn check(&self) -> Result<()> {
        self.wait(|_| true)
    }

    /// Waits until everything is on disk.
    pub fn flush(&mut self) -> Result<()> {
        let target = self.next_seq;
        self.shared.want(target);
        self.wait(|queue| queue.is_durable(target))
    }

    /// Flushes, ends the background writer and gives the stream back.
    pub fn close(mut self) -> Result<()> {
        let flushed = self.flush();
        self.shared.close();
        let mut queue = self.shared.lock();
        while !queue.ended {
            queue = self.shared.wait(queue);
        }
        drop(queue);
        flushed
    }

    /// Chains and hands over. The lock is taken for the handing over alone.
    fn queue(
        &mut self,
        attempt: u32,
        events: Vec<Event>,
        blobs: Vec<Vec<u8>>,
    ) -> Result<Vec<Recorded>> {
        if events.is_empty() && !blobs.is_empty() {
            return Err(StoreError::BadBatch("blobs without an event that names them".to_owned()));
        }
        if let Some(blob) =
            blobs.iter().find(|blob| blob.len() > hm_domain::plugin::STATE_BYTES_MAX)
        {
            return Err(StoreError::StateTooLarge(blob.len()));
        }
        if let Some(failure) = &self.shared.lock().failure {
            return Err(StoreError::JournalStopped(failure.clone()));
        }
        let mut batch = Vec::with_capacity(events.len());
        for event in events {
            // Times never run backwards within a stream, whatever the clock does.
            self.last_at = self.last_at.max(now_us());
            let place = (self.next_seq, attempt, self.last_at);
            let chained = Chained::new(self.writer, place, event, self.chain);
            (self.chain, self.next_seq) = (chained.stored.hash, self.next_seq + 1);
            batch.push(chained);
        }
        if let Some((_, others)) = batch.split_last_mut() {
            others.iter_mut().for_each(|chained| chained.ends = false);
        }
        if let Some(first) = batch.first_mut() {
            first.blobs = blobs;
        }
        let recorded = batch.iter().map(|chained| chained.recorded.clone()).collect();
        self.shared.push(batch);
        Ok(recorded)
    }

    fn keep_within_lag(&mut self) -> Result<()> {
        let JournalLimits { lag_events_max, lag_bytes_max, lag_ms_max, .. } = self.limits;
        let within = move |queue: &Queue| {
            let Lag { events, bytes, oldest } = queue.lag();
            events <= lag_events_max
                && bytes <= lag_bytes_max
                && oldest <= Duration::from_millis(lag_ms_max)
        };
        let queue = self.shared.lock();
        if queue.failure.is_some() || within(&queue) {
            drop(queue);
            return self.wait(within);
        }
        let Lag { events, bytes, oldest } = queue.lag();
        drop(queue);
        let (mib, mib_max) = (bytes >> 20, lag_bytes_max >> 20);
        (self.notice)(&format!(
            "the log is {events} events, {mib} MiB and {} ms behind, at most {lag_events_max}, {mib_max} MiB \
             and {lag_ms_max} ms are allowed: the run waits for it",
            oldest.as_millis()
        ));
        let start = Instant::now();
        self.shared.want(self.next_seq);
        self.wait(within)?;
        let seconds = start.elapsed().as_secs_f64();
        (self.notice)(&format!("the log has caught up: the run goes on after {seconds:.1} s"));
        Ok(())
    }

    fn wait(&self, enough: impl Fn(&Queue) -> bool) -> Result<()> {
        let mut queue = self.shared.lock();
        loop {
            if let Some(failure) = &queue.failure {
                return Err(StoreError::JournalStopped(failure.clone()));
            }
            if enough(&queue) {
                return Ok(());
            }
            queue = self.shared.wait(queue);
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        // The writer ends by itself after what is queued; whoever needs to know calls `close`.
        self.shared.close();
    }
}
