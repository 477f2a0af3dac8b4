//! The journal's background half: takes batches from the queue to the database, and through a lost
//! connection, a restarted server or a full disk, for as long as its patience lasts.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};

use super::queue::{Due, Shared};
use super::{JournalLimits, Notice};
use crate::error::{Result, StoreError};
use crate::lease::{Chained, WriterLease};
use crate::store::Head;

/// First pause between two attempts; it doubles.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// Longest pause between two attempts.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Writes until the journal is closed or its patience is over.
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) lease: WriterLease,
    pub(super) limits: JournalLimits,
    pub(super) notice: Notice,
}

/// A batch that did not go through at the first attempt.
struct Trouble {
    since: Instant,
    deadline: Instant,
    pause: Duration,
    /// What the newest attempt said.
    last: String,
}

impl Trouble {
    /// Waits before the next attempt, longer each time.
    async fn pause(&mut self) {
        tokio::time::sleep_until(self.deadline.min(Instant::now() + self.pause)).await;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
    }

    fn is_over(&self) -> bool {
        Instant::now() >= self.deadline
    }
}

impl Writer {
    pub(super) async fn run(mut self) {
        let failure = self.write_all().await.err().map(|error| error.to_string());
        let Writer { shared, lease, .. } = self;
        if let Err(error) = lease.release().await {
            tracing::debug!(%error, "the writer's connection did not close in good order");
        }
        shared.end(failure);
    }

    async fn write_all(&mut self) -> Result<()> {
        let group = Duration::from_millis(self.limits.group_ms);
        loop {
            let (due, batch, closing) = {
                let queue = self.shared.lock();
                let due = queue.due(group);
                let batch = if matches!(due, Due::Now) { queue.batch() } else { Vec::new() };
                (due, batch, queue.closing)
            };
            match due {
                Due::Now if batch.is_empty() && closing => return Ok(()),
                Due::Now => self.write(&batch).await?,
                // Either way it looks again.
                Due::In(time) => _ = timeout(time, self.shared.called()).await,
                Due::Idle => self.shared.called().await,
            }
        }
    }

    /// Brings one batch to the disk, however often it takes.
    async fn write(&mut self, batch: &[Arc<Chained>]) -> Result<()> {
        let events: Vec<&Chained> = batch.iter().map(|chained| &**chained).collect();
        let mut trouble: Option<Trouble> = None;
        let start = Instant::now();
        let deadline = start + Duration::from_millis(self.limits.patience_ms);
        loop {
            let last = match timeout_at(deadline, self.lease.append_chained(&events)).await {
                Ok(Ok(())) => break,
                Ok(Err(error)) if error.may_pass() => error.to_string(),
                Ok(Err(error)) => return Err(error),
                Err(_) => "the database does not answer".to_owned(),
            };
            if trouble.is_none() {
                (self.notice)(&format!(
                    "the log cannot be written ({last}): trying again for {} s",
                    self.limits.patience_ms.div_ceil(1000)
                ));
            }
            let trouble = trouble.get_or_insert(Trouble {
                since: start,
                deadline,
                pause: PAUSE_MIN,
                last: String::new(),
            });
            trouble.last = last;
            let head = self.reconnect(trouble).await?;
            // The last commit may or may not have happened: the head's chain says which.
            if is_written(&head, &events)? {
                break;
            }
        }
        if let Some(trouble) = trouble {
            let seconds = trouble.since.elapsed().as_secs_f64();
            (self.notice)(&format!("the log is written again, after {seconds:.1} s"));
        }
        self.shared.acknowledge(self.lease.head().next_seq);
        Ok(())
    }

    /// A new connection, with the stream's lock and the epoch unchanged. The pause comes before it: a
    /// connection that is there is used at once.
    async fn reconnect(&mut self, trouble: &mut Trouble) -> Result<Head> {
        while !trouble.is_over() {
            trouble.pause().await;
            match timeout_at(trouble.deadline, self.lease.reconnect()).await {
                Ok(Ok(head)) => return Ok(head),
                Ok(Err(error)) if error.may_pass() || matches!(error, StoreError::Held { .. }) => {
                    tracing::warn!(%error, "the log cannot be reached yet");
                    trouble.last = error.to_string();
                }
                Ok(Err(error)) => return Err(error),
                Err(_) => break,
            }
        }
        let (events, _) = self.shared.lock().lag();
        Err(StoreError::Unreachable {
            patience_s: self.limits.patience_ms.div_ceil(1000),
            last: trouble.last.clone(),
            events,
            from_seq: self.lease.head().next_seq,
        })
    }
}

/// Whether the head stands behind `batch`. It was appended as a whole or not at all; anywhere else,
/// somebody else has written.
fn is_written(head: &Head, batch: &[&Chained]) -> Result<bool> {
    let (Some(first), Some(last)) = (batch.first(), batch.last()) else { return Ok(true) };
    let (first, last) = (&first.stored, &last.stored);
    if (head.next_seq, head.chain) == (last.envelope.seq + 1, last.hash) {
        return Ok(true);
    }
    if (head.next_seq, head.chain) == (first.envelope.seq, first.prev_hash) {
        return Ok(false);
    }
    Err(StoreError::Conflict(format!("its head is at seq {} with another hash", head.next_seq)))
}
