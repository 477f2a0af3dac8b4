//! A source that notes hashes as an audit reads past them.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use hm_domain::id::{Digest, RunId};
use hm_store::{Head as LogHead, StoredEvent};

use super::source::Source;
use crate::prove::anchors::Head;

/// Another source, and the hashes at some places of it.
pub(super) struct Noted<'a> {
    source: &'a dyn Source,
    wanted: BTreeSet<u64>,
    found: RefCell<BTreeMap<u64, Digest>>,
    last: RefCell<Option<Head>>,
    plugins: RefCell<BTreeSet<Digest>>,
}

/// What was noted.
pub(super) struct Found {
    /// Hashes at the wanted places, as far as the log was read. Those of one that is unbroken are what its
    /// events have.
    pub(super) hashes: BTreeMap<u64, Digest>,
    /// The last event, as the log stood at first.
    pub(super) last: Option<Head>,
    /// Plugins that were asked for.
    pub(super) plugins: BTreeSet<Digest>,
}

impl Noted<'_> {
    pub(super) fn new(source: &dyn Source, wanted: BTreeSet<u64>) -> Noted<'_> {
        Noted {
            source,
            wanted,
            found: RefCell::default(),
            last: RefCell::default(),
            plugins: RefCell::default(),
        }
    }

    pub(super) fn found(self) -> Found {
        Found {
            hashes: self.found.into_inner(),
            last: self.last.into_inner(),
            plugins: self.plugins.into_inner(),
        }
    }
}

impl Source for Noted<'_> {
    fn run(&self) -> RunId {
        self.source.run()
    }

    fn head(&self) -> Result<LogHead> {
        let head = self.source.head()?;
        let mut last = self.last.borrow_mut();
        if last.is_none() && head.next_seq > 0 {
            // As it stands at first, which is as far as it is read.
            *last = Some(Head { seq: head.next_seq - 1, hash: head.chain });
        }
        drop(last);
        Ok(head)
    }

    fn page(&self, from_seq: u64) -> Result<Vec<StoredEvent>> {
        let page = self.source.page(from_seq)?;
        let mut found = self.found.borrow_mut();
        for stored in &page {
            if self.wanted.contains(&stored.envelope.seq) {
                found.insert(stored.envelope.seq, stored.hash);
            }
        }
        drop(found);
        Ok(page)
    }

    fn plugin(&self, digest: Digest) -> Result<Option<Vec<u8>>> {
        self.plugins.borrow_mut().insert(digest);
        self.source.plugin(digest)
    }

    fn state(&self, digest: Digest) -> Result<Option<Vec<u8>>> {
        self.source.state(digest)
    }

    fn holds(&self, run: RunId) -> Result<bool> {
        self.source.holds(run)
    }

    fn event_of(&self, run: RunId, seq: u64) -> Result<Option<StoredEvent>> {
        self.source.event_of(run, seq)
    }
}
