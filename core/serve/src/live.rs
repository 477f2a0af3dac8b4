//! A run as it happens, over server-sent events. Each connection starts with `run`, then sends what
//! is there and goes on with what is new, so a reader that folds the stream from its first event
//! holds the same state whenever it connected. Polls the log's head; nothing is pushed to it.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::sse::{Event, Sse};
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::{self, Sender};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;

use crate::api::{ENTRIES_MAX, Shared, no_run};
use crate::backend::BackendError;
use crate::error::Failure;
use crate::query::{NoQuery, Run};
use crate::views::{RunDetail, TimelineEntry};

/// Readers at once. Each asks the database four times a second.
pub(crate) const FOLLOWERS_MAX: usize = 200;
const POLL_MS: u64 = 250;
const HEARTBEAT_MS: u64 = 10_000;
const POINTS_MAX: u32 = 2_000;

/// Starts to follow a run, or answers 404.
pub(crate) async fn events(
    State(shared): State<Shared>,
    Run(run): Run,
    _: NoQuery,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Failure> {
    let detail = shared.backend.run(&run).await?.ok_or_else(|| no_run(&run))?;
    let place = shared.places.clone().try_acquire_owned().map_err(|_| {
        let sentence = format!("{FOLLOWERS_MAX} readers follow runs already: close some");
        Failure::new(StatusCode::SERVICE_UNAVAILABLE, sentence)
    })?;
    let (sender, receiver) = mpsc::channel(8);
    let follower = Follower { shared, run, sender, seen: Seen::default(), _place: place };
    tokio::spawn(follower.follow(detail));
    Ok(Sse::new(ReceiverStream::new(receiver)))
}

/// What this connection was told already.
#[derive(Default)]
struct Seen {
    head: Option<u64>,
    attempt: Option<u32>,
    step: Option<u64>,
    entry: Option<u64>,
    validations: usize,
}

struct Follower {
    shared: Shared,
    run: String,
    sender: Sender<Result<Event, Infallible>>,
    seen: Seen,
    _place: OwnedSemaphorePermit,
}

/// Why following ends early.
enum End {
    Gone,
    Failed(BackendError),
}

impl From<BackendError> for End {
    fn from(error: BackendError) -> Self {
        Self::Failed(error)
    }
}

impl Follower {
    async fn follow(mut self, detail: RunDetail) {
        let mut closing = self.shared.closing.clone();
        let gone = self.sender.clone();
        tokio::select! {
            _ = closing.wait_for(|closing| *closing) => {}
            () = gone.closed() => {}
            end = self.tell_on(detail) => if let End::Failed(error) = end {
                // The reader connects again by itself and may find the backend well.
                tracing::warn!(%error, "following a run failed");
            }
        }
    }

    async fn tell_on(&mut self, detail: RunDetail) -> End {
        let told = self.send("run", &detail).await;
        if let Err(end) = told {
            return end;
        }
        self.seen.attempt = Some(detail.attempt);
        let mut heard_at = Instant::now();
        loop {
            match self.tell_new().await {
                Ok(true) => heard_at = Instant::now(),
                Ok(false) if heard_at.elapsed() >= Duration::from_millis(HEARTBEAT_MS) => {
                    heard_at = Instant::now();
                    // The log does not say when a worker dies: it falls silent.
                    if let Err(end) = self.tell_run().await {
                        return end;
                    }
                }
                Ok(false) => {}
                Err(end) => return end,
            }
            tokio::time::sleep(Duration::from_millis(POLL_MS)).await;
        }
    }

    /// Sends the run as it is now, which also keeps the connection alive.
    async fn tell_run(&mut self) -> Result<(), End> {
        let found = self.shared.backend.run(&self.run).await?;
        let Some(detail) = found else { return Err(End::Gone) };
        self.send("run", &detail).await
    }

    /// Sends what the log gained; whether it gained anything.
    async fn tell_new(&mut self) -> Result<bool, End> {
        let backend = self.shared.backend.clone();
        let head = backend.head(&self.run).await?;
        if self.seen.head == Some(head) {
            return Ok(false);
        }
        let first = self.seen.head.replace(head).is_none();
        if !first {
            let Some(detail) = backend.run(&self.run).await? else { return Err(End::Gone) };
            if self.seen.attempt.replace(detail.attempt) != Some(detail.attempt) {
                // A rollback: steps are lived again, so the reader gets the new attempt whole.
                self.seen.step = None;
            }
            self.send("run", &detail).await?;
        }
        let entries = backend.timeline(&self.run, self.seen.entry, ENTRIES_MAX).await?;
        if let Some(TimelineEntry { seq, .. }) = entries.last() {
            self.seen.entry = Some(*seq);
            self.send("timeline", &entries).await?;
        }
        let validations = backend.validations(&self.run).await?;
        if validations.len() != self.seen.validations {
            self.seen.validations = validations.len();
            self.send("validations", &validations).await?;
        }
        self.tell_steps().await?;
        Ok(true)
    }

    /// Sends steps until there are no more: a long history comes thinned, its tail in full.
    async fn tell_steps(&mut self) -> Result<(), End> {
        let backend = self.shared.backend.clone();
        loop {
            let metrics = backend.metrics(&self.run, self.seen.step, POINTS_MAX).await?;
            let last = metrics.last_step();
            if last.is_none() || last <= self.seen.step {
                return Ok(());
            }
            self.seen.step = last;
            self.send("metrics", &metrics).await?;
        }
    }

    async fn send(&self, name: &str, data: &impl Serialize) -> Result<(), End> {
        let event = Event::default().event(name).json_data(data);
        self.post(event.map_err(|error| BackendError::Internal(error.into()))?).await
    }

    async fn post(&self, event: Event) -> Result<(), End> {
        self.sender.send(Ok(event)).await.map_err(|_| End::Gone)
    }
}
