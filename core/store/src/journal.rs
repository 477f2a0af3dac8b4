//! The run loop's pen: chains events at once, writes them behind by a bounded amount, and waits where
//! something must be on disk first. It decides nothing and never drops or reorders.
//!
//! Blocking, for a thread that is not the async runtime's own.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use hm_domain::event::{Event, Recorded};
use hm_domain::id::{Digest, RunId};
use tokio::sync::Notify;

use crate::error::{Result, StoreError};
use crate::lease::{Chained, WriterLease};
use crate::store::{Head, Store, now_us};

/// Events of one transaction at most.
const BATCH_EVENTS_MAX: usize = 256;
/// Longest pause between two attempts to connect again.
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// How far the log may be behind the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalLimits {
    /// Events not yet on disk.
    pub lag_events_max: usize,
    /// Age in milliseconds of the oldest of them.
    pub lag_ms_max: u64,
}

impl Default for JournalLimits {
    fn default() -> Self {
        JournalLimits { lag_events_max: 4096, lag_ms_max: 1000 }
    }
}

type Notice = Arc<dyn Fn(&str) + Send + Sync>;

struct Pending {
    chained: Chained,
    blobs: Vec<Vec<u8>>,
    since: Instant,
}

#[derive(Default)]
struct Queue {
    pending: VecDeque<Pending>,
    /// Seq of the first event that is not on disk.
    durable_seq: u64,
    closing: bool,
    ended: bool,
    failure: Option<String>,
}

struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
    wake: Notify,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // A poisoned queue is still a queue: its owner panicked outside of any change to it.
        self.queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

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
    /// or the connection is lost and found.
    pub fn open(
        _store: Store,
        lease: WriterLease,
        handle: tokio::runtime::Handle,
        limits: JournalLimits,
        notice: impl Fn(&str) + Send + Sync + 'static,
    ) -> Journal {
        let (next_seq, chain) = (lease.head().next_seq, lease.head().chain);
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue { durable_seq: next_seq, ..Queue::default() }),
            changed: Condvar::new(),
            wake: Notify::new(),
        });
        let (writer, notice): (_, Notice) = ((lease.run_id(), lease.epoch()), Arc::new(notice));
        let task = Writer { shared: shared.clone(), lease, notice: notice.clone() };
        handle.spawn(task.run());
        Journal { shared, writer, next_seq, chain, last_at: 0, limits, notice }
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

    /// Waits until everything is on disk.
    pub fn flush(&mut self) -> Result<()> {
        let target = self.next_seq;
        self.wait(|queue| queue.durable_seq >= target && queue.pending.is_empty())
    }

    /// Flushes, ends the background writer and gives the stream back.
    pub fn close(mut self) -> Result<()> {
        let flushed = self.flush();
        self.shared.lock().closing = true;
        self.shared.wake.notify_one();
        let mut queue = self.shared.lock();
        while !queue.ended {
            queue =
                self.shared.changed.wait(queue).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        drop(queue);
        flushed
    }

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
        let (mut recorded, mut blobs) = (Vec::with_capacity(events.len()), Some(blobs));
        let mut queue = self.shared.lock();
        if let Some(failure) = &queue.failure {
            return Err(StoreError::JournalStopped(failure.clone()));
        }
        for event in events {
            // Times never run backwards within a stream, whatever the clock does.
            self.last_at = self.last_at.max(now_us());
            let place = (self.next_seq, attempt, self.last_at);
            let chained = Chained::new(self.writer, place, event, self.chain);
            recorded.push(chained.recorded.clone());
            (self.chain, self.next_seq) = (chained.stored.hash, self.next_seq + 1);
            let blobs = blobs.take().unwrap_or_default();
            queue.pending.push_back(Pending { chained, blobs, since: Instant::now() });
        }
        drop(queue);
        self.shared.wake.notify_one();
        Ok(recorded)
    }

    fn keep_within_lag(&mut self) -> Result<()> {
        let JournalLimits { lag_events_max, lag_ms_max } = self.limits;
        let within = move |queue: &Queue| {
            let oldest =
                queue.pending.front().map_or(Duration::ZERO, |first| first.since.elapsed());
            queue.pending.len() <= lag_events_max && oldest <= Duration::from_millis(lag_ms_max)
        };
        let queue = self.shared.lock();
        if queue.failure.is_none() && !within(&queue) {
            let behind = queue.pending.len();
            drop(queue);
            (self.notice)(&format!("the log is {behind} events behind: the run waits for it"));
        } else {
            drop(queue);
        }
        self.wait(within)
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
            queue =
                self.shared.changed.wait(queue).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        // The writer ends by itself after what is queued; whoever needs to know calls `close`.
        self.shared.lock().closing = true;
        self.shared.wake.notify_one();
    }
}

/// The background half.
struct Writer {
    shared: Arc<Shared>,
    lease: WriterLease,
    notice: Notice,
}

impl Writer {
    async fn run(mut self) {
        let failure = self.write_all().await.err().map(|error| error.to_string());
        let Writer { shared, lease, .. } = self;
        if let Err(error) = lease.release().await {
            tracing::debug!(%error, "the writer's connection did not close in good order");
        }
        let mut queue = shared.lock();
        (queue.failure, queue.ended) = (failure, true);
        drop(queue);
        shared.changed.notify_all();
    }

    async fn write_all(&mut self) -> Result<()> {
        loop {
            let (batch, blobs, closing) = self.next_batch();
            if !batch.is_empty() {
                self.write(&batch, &blobs).await?;
            } else if closing {
                return Ok(());
            } else {
                self.shared.wake.notified().await;
            }
        }
    }

    fn next_batch(&self) -> (Vec<Chained>, Vec<Vec<u8>>, bool) {
        let queue = self.shared.lock();
        let taken = || queue.pending.iter().take(BATCH_EVENTS_MAX);
        let batch = taken().map(|pending| pending.chained.clone()).collect();
        (batch, taken().flat_map(|pending| pending.blobs.clone()).collect(), queue.closing)
    }

    async fn write(&mut self, batch: &[Chained], blobs: &[Vec<u8>]) -> Result<()> {
        match self.lease.append_chained(batch, blobs).await {
            Ok(()) => self.acknowledge(self.lease.head().next_seq),
            Err(error) if error.is_lost_connection() => {
                (self.notice)(&format!(
                    "the connection to the log was lost ({error}): trying again"
                ));
                let head = self.reconnect().await?;
                // The last commit may or may not have happened: the head's chain says which.
                self.check_head(&head)?;
                self.acknowledge(head.next_seq);
                (self.notice)("the connection to the log is back");
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Everything before `next_seq` is on disk.
    fn acknowledge(&self, next_seq: u64) {
        let mut queue = self.shared.lock();
        let on_disk = |pending: &Pending| pending.chained.stored.envelope.seq < next_seq;
        while queue.pending.front().is_some_and(on_disk) {
            queue.pending.pop_front();
        }
        queue.durable_seq = next_seq;
        drop(queue);
        self.shared.changed.notify_all();
    }

    async fn reconnect(&mut self) -> Result<Head> {
        let mut backoff = Duration::from_millis(50);
        loop {
            match self.lease.reconnect().await {
                Ok(head) => return Ok(head),
                Err(error)
                    if error.is_lost_connection() || matches!(error, StoreError::Held { .. }) =>
                {
                    tracing::warn!(%error, "the log cannot be reached yet");
                    tokio::time::sleep(backoff).await;
                    backoff = (backoff * 2).min(BACKOFF_MAX);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The head must be a place that this journal knows: before its first pending event, or after one.
    fn check_head(&self, head: &Head) -> Result<()> {
        let queue = self.shared.lock();
        let known = queue.pending.iter().any(|pending| {
            let stored = &pending.chained.stored;
            (stored.envelope.seq == head.next_seq && stored.prev_hash == head.chain)
                || (stored.envelope.seq + 1 == head.next_seq && stored.hash == head.chain)
        });
        if known {
            return Ok(());
        }
        Err(StoreError::Conflict(format!("its head is at seq {} with another hash", head.next_seq)))
    }
}
