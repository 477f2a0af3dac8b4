//! What the run loop hands to the background writer, and what it is told back.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::append::Chained;

/// Events of one transaction at most.
const BATCH_EVENTS_MAX: usize = 256;
/// Bytes of one transaction at most, but for events that are longer together and recorded together.
const BATCH_BYTES_MAX: usize = 4 << 20;

/// An event that is not known to be on disk.
struct Pending {
    chained: Arc<Chained>,
    since: Instant,
}

/// How far the log is behind.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lag {
    pub(super) events: usize,
    pub(super) bytes: usize,
    /// Age of the oldest event.
    pub(super) oldest: Duration,
}

/// Everything both sides look at, under one lock.
pub(super) struct Queue {
    pending: VecDeque<Pending>,
    /// Of all that is pending.
    bytes: usize,
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
    /// How many events wait, of what size, and how old the oldest is.
    pub(super) fn lag(&self) -> Lag {
        let oldest = self.pending.front().map_or(Duration::ZERO, |first| first.since.elapsed());
        Lag { events: self.pending.len(), bytes: self.bytes, oldest }
    }

    /// Whether there is enough for a transaction.
    fn is_full(&self) -> bool {
        self.pending.len() >= BATCH_EVENTS_MAX || self.bytes >= BATCH_BYTES_MAX
    }

    /// Whether everything before `seq` is on disk.
    pub(super) fn is_durable(&self, seq: u64) -> bool {
        self.durable_seq >= seq
    }

    /// When the next batch is due, if events wait at most `group` for company.
    pub(super) fn due(&self, group: Duration) -> Due {
        let Lag { events, oldest, .. } = self.lag();
        let waited_for = self.wanted_seq > self.durable_seq || self.closing;
        match events {
            0 if self.closing => Due::Now,
            0 => Due::Idle,
            _ if waited_for || self.is_full() || oldest >= group => Due::Now,
            _ => Due::In(group - oldest),
        }
    }

    /// The events of the next transaction.
    pub(super) fn batch(&self) -> Vec<Arc<Chained>> {
        let pending: Vec<&Chained> = self.pending.iter().map(|pending| &*pending.chained).collect();
        let batch = self.pending.iter().take(piece(&pending));
        batch.map(|pending| pending.chained.clone()).collect()
    }
}

/// How many of these make one transaction: as many as fit, but what was recorded together stays together.
pub(super) fn piece(events: &[&Chained]) -> usize {
    let (mut bytes, mut whole) = (0, 0);
    for (index, chained) in events.iter().enumerate() {
        bytes += chained.bytes();
        let is_over = index >= BATCH_EVENTS_MAX || bytes > BATCH_BYTES_MAX;
        if is_over && whole > 0 {
            break;
        }
        if chained.ends {
            whole = index + 1;
        }
    }
    whole
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
            bytes: 0,
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
        let (was_empty, was_full) = (queue.pending.is_empty(), queue.is_full());
        queue.bytes += chained.iter().map(Chained::bytes).sum::<usize>();
        let pending = chained.into_iter().map(Arc::new).map(|chained| Pending { chained, since });
        queue.pending.extend(pending);
        let begins = was_empty && !queue.pending.is_empty();
        let fills = !was_full && queue.is_full();
        drop(queue);
        if begins || fills {
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

    /// Everything before `next_seq` is on disk: gives what was not so far.
    pub(super) fn acknowledge(&self, next_seq: u64) -> Vec<Arc<Chained>> {
        let mut queue = self.lock();
        let durable = |pending: &Pending| pending.chained.stored.envelope.seq < next_seq;
        let count = queue.pending.iter().take_while(|pending| durable(pending)).count();
        let written: Vec<Arc<Chained>> =
            queue.pending.drain(..count).map(|pending| pending.chained).collect();
        queue.bytes -= written.iter().map(|chained| chained.bytes()).sum::<usize>();
        queue.durable_seq = next_seq;
        drop(queue);
        self.changed.notify_all();
        written
    }

    /// The writer has ended.
    pub(super) fn end(&self, failure: Option<String>) {
        let mut queue = self.lock();
        (queue.failure, queue.ended) = (failure, true);
        drop(queue);
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use hm_domain::event::{Event, RunContinued};
    use hm_domain::id::{Digest, RunId};

    use super::*;

    fn recorded_together(count: usize) -> Vec<Chained> {
        let event = || Event::RunContinued(RunContinued { step: 0 });
        let chained = |_| Chained::new((RunId::SYSTEM, 1), (0, 0, 0), event(), Digest::ZERO);
        let mut chained: Vec<Chained> = (0..count).map(chained).collect();
        chained[..count - 1].iter_mut().for_each(|chained| chained.ends = false);
        chained
    }

    #[test]
    fn what_is_recorded_together_is_written_together() {
        let piece_of = |counts: &[usize]| {
            let all: Vec<Chained> =
                counts.iter().flat_map(|count| recorded_together(*count)).collect();
            piece(&all.iter().collect::<Vec<_>>())
        };
        assert_eq!(piece_of(&[1, 2, 3]), 6);
        assert_eq!(piece_of(&[BATCH_EVENTS_MAX - 1, 2, 1]), BATCH_EVENTS_MAX - 1);
        assert_eq!(piece_of(&[BATCH_EVENTS_MAX, 2]), BATCH_EVENTS_MAX);
        assert_eq!(piece_of(&[2 * BATCH_EVENTS_MAX, 2]), 2 * BATCH_EVENTS_MAX);
    }
}
