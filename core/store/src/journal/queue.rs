//! What the run loop hands to the background writer, and what it is told back.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::lease::Chained;

/// Events of one transaction at most.
pub(super) const BATCH_EVENTS_MAX: usize = 256;

/// An event that is not known to be on disk.
struct Pending {
    chained: Arc<Chained>,
    since: Instant,
}

/// Everything both sides look at, under one lock.
pub(super) struct Queue {
    pending: VecDeque<Pending>,
    /// Everything before this seq is on disk.
    durable_seq: u64,
    /// Everything before this seq is waited for.
    wanted_seq: u64,
    /// The journal takes no more events.
    pub(super) closing: bool,
    /// The writer has ended.
    pub(super) ended: bool,
    /// Why it ended, if not in good order.
    pub(super) failure: Option<String>,
}

/// When the writer should act.
pub(super) enum Due {
    /// Now: a batch is full, old enough or waited for.
    Now,
    /// After this time, unless somebody calls before.
    In(Duration),
    /// When somebody calls.
    Idle,
}

impl Queue {
    /// How many events, and how old the oldest is.
    pub(super) fn lag(&self) -> (usize, Duration) {
        let oldest = self.pending.front().map_or(Duration::ZERO, |first| first.since.elapsed());
        (self.pending.len(), oldest)
    }

    /// Whether everything before `seq` is on disk.
    pub(super) fn is_durable(&self, seq: u64) -> bool {
        self.durable_seq >= seq
    }

    /// When the next batch is due, if events wait at most `group` for company.
    pub(super) fn due(&self, group: Duration) -> Due {
        let (count, oldest) = self.lag();
        let waited_for = self.wanted_seq > self.durable_seq || self.closing;
        match count {
            0 if self.closing => Due::Now,
            0 => Due::Idle,
            _ if waited_for || count >= BATCH_EVENTS_MAX || oldest >= group => Due::Now,
            _ => Due::In(group - oldest),
        }
    }

    /// The events of the next transaction.
    pub(super) fn batch(&self) -> Vec<Arc<Chained>> {
        let batch = self.pending.iter().take(BATCH_EVENTS_MAX);
        batch.map(|pending| pending.chained.clone()).collect()
    }
}

/// The queue and the two ways to call the other side.
pub(super) struct Shared {
    queue: Mutex<Queue>,
    /// To the run loop: something became durable, or the writer ended.
    changed: Condvar,
    /// To the writer: look again.
    wake: Notify,
}

impl Shared {
    pub(super) fn new(next_seq: u64) -> Shared {
        let queue = Queue {
            pending: VecDeque::new(),
            durable_seq: next_seq,
            wanted_seq: next_seq,
            closing: false,
            ended: false,
            failure: None,
        };
        Shared { queue: Mutex::new(queue), changed: Condvar::new(), wake: Notify::new() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Queue> {
        // A poisoned queue is still a queue: its owner panicked outside of any change to it.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands events over. Calls the writer only where it has something new to do: for the first of a
    /// batch, which starts the clock, and for the last.
    pub(super) fn push(&self, chained: Vec<Chained>) {
        let since = Instant::now();
        let mut queue = self.lock();
        let before = queue.pending.len();
        let pending = chained.into_iter().map(Arc::new).map(|chained| Pending { chained, since });
        queue.pending.extend(pending);
        let after = queue.pending.len();
        drop(queue);
        if (before == 0 && after > 0) || (before < BATCH_EVENTS_MAX && after >= BATCH_EVENTS_MAX) {
            self.wake.notify_one();
        }
    }

    /// Asks for everything before `seq` at once.
    pub(super) fn want(&self, seq: u64) {
        let mut queue = self.lock();
        queue.wanted_seq = queue.wanted_seq.max(seq);
        drop(queue);
        self.wake.notify_one();
    }

    /// Tells the writer that nothing more will come.
    pub(super) fn close(&self) {
        self.lock().closing = true;
        self.wake.notify_one();
    }

    /// For the run loop: sleeps until the writer reports something.
    pub(super) fn wait<'a>(&self, queue: MutexGuard<'a, Queue>) -> MutexGuard<'a, Queue> {
        self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner)
    }

    /// For the writer: sleeps until the run loop calls.
    pub(super) async fn called(&self) {
        self.wake.notified().await;
    }

    /// Everything before `next_seq` is on disk.
    pub(super) fn acknowledge(&self, next_seq: u64) {
        let mut queue = self.lock();
        let durable = |pending: &Pending| pending.chained.stored.envelope.seq < next_seq;
        let count = queue.pending.iter().take_while(|pending| durable(pending)).count();
        let written: Vec<Pending> = queue.pending.drain(..count).collect();
        queue.durable_seq = next_seq;
        drop(queue);
        self.changed.notify_all();
        // Freed here, not while the run loop waits for the lock.
        drop(written);
    }

    /// The writer has ended.
    pub(super) fn end(&self, failure: Option<String>) {
        let mut queue = self.lock();
        (queue.failure, queue.ended) = (failure, true);
        drop(queue);
        self.changed.notify_all();
    }
}
