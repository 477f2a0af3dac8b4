//! Where an audit reads a log from: a database, or whatever else holds one whole.

use anyhow::{Context, Result, bail};
use hm_domain::id::{Digest, RunId};
use hm_store::{Head, Store, StoreError, StoredEvent, ViewsReport};

use crate::runtime::wait_for;

/// Events of a page at most.
const PAGE_EVENTS: u64 = 1024;

/// One run's log with the bytes that it names. Only read, and asked by one thread.
pub(crate) trait Source {
    /// The run.
    fn run(&self) -> RunId;

    /// Where the log stands now. That of a run that trains moves on.
    fn head(&self) -> Result<Head>;

    /// Events from `from_seq` on in their order, as many as memory is to hold at once; none where the
    /// log ends. Nothing of them is checked.
    fn page(&self, from_seq: u64) -> Result<Vec<StoredEvent>>;

    /// A plugin's bytes, if they are there. That they have this digest is checked by who asks.
    fn plugin(&self, digest: Digest) -> Result<Option<Vec<u8>>>;

    /// A kept state of a plugin, likewise.
    fn state(&self, digest: Digest) -> Result<Option<Vec<u8>>>;

    /// The tables that people read, held against the log.
    ///
    /// # Errors
    /// Where there are none.
    fn views(&self) -> Result<ViewsReport> {
        bail!(
            "level views looks at the tables of a database, and here is a log alone: leave it out"
        )
    }

    /// Whether the log of another run is at hand, such as that of a fork's parent. Where there is one run and
    /// no more, it is not.
    fn holds(&self, _run: RunId) -> Result<bool> {
        Ok(false)
    }

    /// An event of such a log.
    fn event_of(&self, _run: RunId, _seq: u64) -> Result<Option<StoredEvent>> {
        Ok(None)
    }
}

/// A run's log in the database.
pub(crate) struct Logged {
    store: Store,
    runtime: tokio::runtime::Handle,
    run: RunId,
}

impl Logged {
    /// Of this run. Must not be asked on a thread of `runtime`.
    pub(crate) fn new(store: &Store, runtime: &tokio::runtime::Handle, run: RunId) -> Logged {
        Logged { store: store.clone(), runtime: runtime.clone(), run }
    }
}

impl Source for Logged {
    fn run(&self) -> RunId {
        self.run
    }

    fn head(&self) -> Result<Head> {
        wait_for(&self.runtime, self.store.head(self.run)).context("the head cannot be read")
    }

    fn page(&self, from_seq: u64) -> Result<Vec<StoredEvent>> {
        let page = self.store.read_raw(self.run, from_seq, PAGE_EVENTS);
        wait_for(&self.runtime, page).context("the log cannot be read")
    }

    fn plugin(&self, digest: Digest) -> Result<Option<Vec<u8>>> {
        Ok(wait_for(&self.runtime, self.store.plugin_wasm(digest))?)
    }

    fn state(&self, digest: Digest) -> Result<Option<Vec<u8>>> {
        Ok(wait_for(&self.runtime, self.store.blob(digest))?)
    }

    fn views(&self) -> Result<ViewsReport> {
        Ok(wait_for(&self.runtime, self.store.check_views(self.run))?)
    }

    fn holds(&self, run: RunId) -> Result<bool> {
        match wait_for(&self.runtime, self.store.head(run)) {
            Ok(_) => Ok(true),
            Err(StoreError::NoRun(_)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn event_of(&self, run: RunId, seq: u64) -> Result<Option<StoredEvent>> {
        Ok(wait_for(&self.runtime, self.store.read_raw(run, seq, 1))?.pop())
    }
}
