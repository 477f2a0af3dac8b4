//! Wishes from outside, fetched by a thread of its own: the loop never polls SQL.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use hm_domain::command::Asked;
use hm_domain::id::RunId;
use hm_store::Store;

/// How often the inbox table is read.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

#[derive(Default)]
struct Shared {
    waiting: Mutex<VecDeque<Asked>>,
    arrived: Condvar,
    closed: AtomicBool,
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
                        for stored in commands {
                            if !taken.insert(stored.id) {
                                continue;
                            }
                            match serde_json::from_value(stored.body) {
                                Ok(command) => {
                                    let asked = Asked { number: stored.id, by: stored.by, command };
                                    filler.waiting.lock().expect("no panic").push_back(asked);
                                }
                                Err(error) => {
                                    tracing::warn!(
                                        command = stored.id,
                                        "unreadable command: {error}"
                                    );
                                }
                            }
                        }
                        filler.arrived.notify_all();
                    }
                    Err(error) => tracing::debug!("inbox not readable now: {error}"),
                }
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        });
        Inbox { shared }
    }

    /// All that has arrived, in order.
    pub(crate) fn drain(&self) -> Vec<Asked> {
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
