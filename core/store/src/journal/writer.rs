//! The journal's background half: takes batches from the queue to the database, and through a lost
//! connection, a restarted server or a full disk, for as long as its patience lasts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::kept::Kept;
use super::queue::{Due, Shared, piece};
use super::{JournalLimits, Notice};
use crate::append::Chained;
use crate::error::{Result, StoreError};
use crate::lease::WriterLease;
use crate::private_postgres::revival;
use crate::store::Head;

/// First pause between two attempts; it doubles.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// Longest pause between two attempts.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// How soon the end of patience is noticed.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// How long a server may take to hear that it is left.
const RELEASE_PATIENCE: Duration = Duration::from_secs(5);

/// Writes until the journal is closed or its patience is over.
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) lease: WriterLease,
    pub(super) limits: JournalLimits,
    pub(super) hurried: Arc<AtomicBool>,
    pub(super) notice: Notice,
    pub(super) kept: Kept,
}

/// How long one batch is tried for.
struct Patience {
    since: Instant,
    limits: JournalLimits,
    hurried: Arc<AtomicBool>,
}

impl Patience {
    /// In milliseconds. Whoever is asked to end does not wait as long.
    fn whole_ms(&self) -> u64 {
        let JournalLimits { patience_ms, hurried_patience_ms, .. } = self.limits;
        match self.hurried.load(Ordering::Relaxed) {
            true => patience_ms.min(hurried_patience_ms),
            false => patience_ms,
        }
    }

    fn is_over(&self) -> bool {
        self.since.elapsed() >= Duration::from_millis(self.whole_ms())
    }

    /// Whether an attempt ended so because it was given less than its time.
    fn cuts_short(&self, error: &StoreError) -> bool {
        let attempt_ms = self.limits.attempt_ms;
        matches!(error, StoreError::Silent(seconds) if self.is_over() && seconds * 1000 < attempt_ms)
    }

    /// Sleeps, but not beyond the end of patience.
    async fn sleep(&self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until && !self.is_over() {
            tokio::time::sleep(LOOK_INTERVAL.min(until - Instant::now())).await;
        }
    }

    /// What the database answers, if it does within one attempt.
    async fn answer<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let begun = Instant::now();
        tokio::select! {
            answer = work => answer,
            () = self.sleep(Duration::from_millis(self.limits.attempt_ms)) => {
                Err(StoreError::Silent(begun.elapsed().as_secs()))
            }
        }
    }
}

/// A batch that did not go through at the first attempt.
struct Trouble {
    pause: Duration,
    /// What the newest attempt said.
    last: String,
}

/// Tells the run that the writer has ended, even where it panicked: nobody waits for it in vain.
struct End(Arc<Shared>);

impl Drop for End {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.end(Some("its writer panicked".to_owned()));
        }
    }
}

impl Writer {
    pub(super) async fn run(mut self) {
        let end = End(self.shared.clone());
        let failure = self.write_all().await.err().map(|error| error.to_string());
        match timeout(RELEASE_PATIENCE, self.lease.release()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "the writer's connection did not close well"),
            Err(_) => tracing::debug!("the writer's connection is left to the server"),
        }
        end.0.end(failure);
    }

    async fn write_all(&mut self) -> Result<()> {
        let group = Duration::from_millis(self.limits.group_ms);
        let heartbeat = Duration::from_millis(self.limits.heartbeat_ms);
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
                // A transaction of nothing: a lost connection is found, and the run's lock taken again.
                Due::Idle if timeout(heartbeat, self.shared.called()).await.is_err() => {
                    self.write(&[]).await?;
                }
                Due::Idle => {}
            }
        }
    }

    /// Brings one batch to the disk, however often it takes.
    async fn write(&mut self, batch: &[Arc<Chained>]) -> Result<()> {
        let (limits, hurried) = (self.limits, self.hurried.clone());
        let patience = Patience { since: Instant::now(), limits, hurried };
        let mut trouble: Option<Trouble> = None;
        let mut missing = batch.to_vec();
        loop {
            let last = match self.append(&patience, &mut missing).await {
                Ok(()) => break,
                Err(error) if error.may_pass() => error.to_string(),
                Err(error) => return Err(error),
            };
            if trouble.is_none() {
                let seconds = patience.whole_ms().div_ceil(1000);
                (self.notice)(&format!(
                    "the log cannot be written ({last}): trying again for {seconds} s{}",
                    revival()
                ));
            }
            let trouble = trouble.get_or_insert(Trouble { pause: PAUSE_MIN, last: String::new() });
            trouble.last = last;
            let head = self.reconnect(&patience, trouble).await?;
            // The last commit may or may not have happened, and another server may lack earlier ones: the
            // head's chain says which.
            let lost;
            (missing, lost) = self.kept.missing(&head, batch)?;
            if lost > 0 {
                (self.notice)(&format!(
                    "the database has lost {lost} events that it had acknowledged: they are written again"
                ));
            }
        }
        if trouble.is_some() {
            let seconds = patience.since.elapsed().as_secs_f64();
            (self.notice)(&format!("the log is written again, after {seconds:.1} s"));
        }
        self.kept.extend(self.shared.acknowledge(self.lease.head().next_seq));
        Ok(())
    }

    /// Writes what is missing, a transaction's worth at a time; at least one transaction, of nothing if
    /// need be.
    async fn append(&mut self, patience: &Patience, missing: &mut Vec<Arc<Chained>>) -> Result<()> {
        loop {
            let events: Vec<&Chained> = missing.iter().map(|chained| &**chained).collect();
            let count = piece(&events);
            patience.answer(self.lease.append_chained(&events[..count])).await?;
            missing.drain(..count);
            if missing.is_empty() {
                return Ok(());
            }
        }
    }

    /// A new connection, with the stream's lock and the epoch unchanged. The pause comes before it, longer
    /// each time: a connection that is there is used at once.
    async fn reconnect(&mut self, patience: &Patience, trouble: &mut Trouble) -> Result<Head> {
        while !patience.is_over() {
            patience.sleep(trouble.pause).await;
            trouble.pause = (trouble.pause * 2).min(PAUSE_MAX);
            match patience.answer(self.lease.reconnect()).await {
                Ok(head) => return Ok(head),
                Err(error) if error.may_pass() || matches!(error, StoreError::Held { .. }) => {
                    tracing::debug!(%error, "the log cannot be reached yet");
                    // What ended with patience itself says less than what was refused before.
                    if !patience.cuts_short(&error) {
                        trouble.last = error.to_string();
                    }
                }
                Err(error) => return Err(error),
            }
        }
        let events = self.shared.lock().lag().events;
        Err(StoreError::Unreachable {
            patience_s: patience.whole_ms().div_ceil(1000),
            last: trouble.last.clone(),
            events,
            from_seq: self.lease.head().next_seq,
        })
    }
}
