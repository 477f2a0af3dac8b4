//! Events that the database has acknowledged, for a while: one that took over from another may lack the
//! last of them, and gets them again.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::append::Chained;
use crate::error::{Result, StoreError};
use crate::store::Head;

/// How many are kept: a few seconds of the fastest run. In memory each is some times its bytes.
const EVENTS_MAX: usize = 1024;
/// How many bytes of them.
const BYTES_MAX: usize = 4 << 20;

/// The newest acknowledged events.
#[derive(Default)]
pub(super) struct Kept {
    events: VecDeque<Arc<Chained>>,
    bytes: usize,
}

impl Kept {
    /// Takes what was acknowledged, and lets go of what is too old.
    pub(super) fn extend(&mut self, acknowledged: Vec<Arc<Chained>>) {
        self.bytes += acknowledged.iter().map(|chained| chained.bytes()).sum::<usize>();
        self.events.extend(acknowledged);
        while self.events.len() > EVENTS_MAX || self.bytes > BYTES_MAX {
            let Some(oldest) = self.events.pop_front() else { break };
            self.bytes -= oldest.bytes();
        }
    }

    /// What the database lacks at this head, and how many of that it had acknowledged. `batch` is what
    /// was to be written: it is there as a whole, in part, or not at all.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] where the head stands nowhere among what is held here.
    pub(super) fn missing(
        &self,
        head: &Head,
        batch: &[Arc<Chained>],
    ) -> Result<(Vec<Arc<Chained>>, usize)> {
        let held: Vec<&Arc<Chained>> = self.events.iter().chain(batch).collect();
        let Some(last) = held.last() else { return Ok((Vec::new(), 0)) };
        if (head.next_seq, head.chain) == (last.stored.envelope.seq + 1, last.stored.hash) {
            return Ok((Vec::new(), 0));
        }
        let follows = |chained: &&Arc<Chained>| {
            (head.next_seq, head.chain) == (chained.stored.envelope.seq, chained.stored.prev_hash)
        };
        let Some(at) = held.iter().position(follows) else {
            let (first, next) = (held[0].stored.envelope.seq, last.stored.envelope.seq + 1);
            return Err(StoreError::Conflict(match head.next_seq < first {
                true => format!(
                    "the database has lost events that it had acknowledged, from seq {} on, and those before \
                     seq {first} are not held here any more: bring back the server that has them",
                    head.next_seq
                ),
                false => format!(
                    "its head is at seq {} with another hash than any event from seq {first} to {next} has",
                    head.next_seq
                ),
            }));
        };
        let lost = self.events.len().saturating_sub(at);
        Ok((held[at..].iter().map(|chained| Arc::clone(chained)).collect(), lost))
    }
}
