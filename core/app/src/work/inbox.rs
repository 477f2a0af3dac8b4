//! Wishes from outside, fetched by a thread of its own: the loop never polls SQL.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use hm_domain::command::Asked;
use hm_domain::id::RunId;
use hm_store::{Store, StoredCommand};

/// How often the inbox table is read.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// How long a run that begins waits for its first look into the inbox.
const FIRST_PATIENCE: Duration = Duration::from_secs(5);

/// What lies in the inbox. Everything is answered, so also what is no wish.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Wish {
    /// A command.
    Readable(Asked),
    /// A row that is none.
    Unreadable {
        /// Its number.
        number: u64,
        /// Who put it there.
        by: String,
        /// What it says.
        body: String,
        /// Seconds that it has lain there.
        waited_s: u64,
        /// Why that is no command.
        why: String,
    },
}

impl From<StoredCommand> for Wish {
    fn from(stored: StoredCommand) -> Wish {
        let StoredCommand { id: number, body, by, waited_s, .. } = stored;
        let text = body.to_string();
        match serde_json::from_value(body) {
            Ok(command) => Wish::Readable(Asked { number, by, command, waited_s }),
            Err(error) => {
                Wish::Unreadable { number, by, body: text, waited_s, why: error.to_string() }
            }
        }
    }
}

#[derive(Default)]
struct Shared {
    waiting: Mutex<VecDeque<Wish>>,
    arrived: Condvar,
    closed: AtomicBool,
    /// Whether the table has been read at all.
    was_read: AtomicBool,
}

/// The run loop's end of the inbox.
pub(crate) struct Inbox {
    shared: Arc<Shared>,
}

impl Inbox {
    /// Starts reading commands of `run` that are not answered yet.
    pub(crate) fn open(store: Store, run: RunId, runtime: &tokio::runtime::Handle) -> Inbox {
        let shared = Arc::new(Shared::default());
        let filler = Arc::clone(&shared);
        runtime.spawn(async move {
            // Commands issued together can become visible out of order: ids are remembered, not the highest.
            let mut taken = BTreeSet::new();
            while !filler.closed.load(Ordering::Relaxed) {
                match store.pending_commands(run, 0).await {
                    Ok(commands) => {
                        let new = commands.into_iter().filter(|stored| taken.insert(stored.id));
                        filler.waiting.lock().expect("no panic").extend(new.map(Wish::from));
                        filler.was_read.store(true, Ordering::Relaxed);
                        filler.arrived.notify_all();
                    }
                    Err(error) => tracing::debug!("inbox not readable now: {error}"),
                }
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        });
        Inbox { shared }
    }

    /// Waits until what lay there before this worker came has arrived: a run that has nothing left to train
    /// would end over it. Not for ever, where the table cannot be read.
    pub(crate) fn wait_for_first(&self) {
        let waiting = self.shared.waiting.lock().expect("no panic");
        let unread = |_: &mut VecDeque<Wish>| !self.shared.was_read.load(Ordering::Relaxed);
        let _ = self
            .shared
            .arrived
            .wait_timeout_while(waiting, FIRST_PATIENCE, unread)
            .expect("no panic");
    }

    /// All that has arrived, in order.
    pub(crate) fn drain(&self) -> Vec<Wish> {
        self.shared.waiting.lock().expect("no panic").drain(..).collect()
    }

    /// Waits a moment for something to arrive.
    pub(crate) fn wait(&self) {
        let waiting = self.shared.waiting.lock().expect("no panic");
        let _ = self
            .shared
            .arrived
            .wait_timeout_while(waiting, POLL_INTERVAL, |waiting| waiting.is_empty())
            .expect("no panic");
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Relaxed);
    }
}
