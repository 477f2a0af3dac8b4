//! A run outside the database: a folder that holds its log whole, with the plugins and states that the log
//! names, so that it can be read, audited and restored without anything else.
//!
//! `events.parquet` has every column of every event, `plugins/` and `states/` what their names are digests
//! of, `data/` what is known of the data, and `archive.json` says what there must be. A folder has its name
//! only when all of it was read back and found right.

mod columns;
mod reader;
mod restore;
mod writer;

use std::path::Path;

use hm_domain::id::{Digest, RunId};
use serde::{Deserialize, Serialize};

use crate::error::StoreError;
use crate::plugins::PluginRow;

pub use self::reader::ArchiveReader;
pub use self::writer::ArchiveWriter;

/// What this program writes and reads.
const FORMAT: u32 = 1;

const MANIFEST: &str = "archive.json";
const EVENTS: &str = "events.parquet";
const PLUGINS: &str = "plugins";
const STATES: &str = "states";

/// What an archive must hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArchiveManifest {
    /// Version of the layout.
    pub format: u32,
    /// The run.
    pub run: RunId,
    /// What people call it.
    pub name: String,
    /// Place in the order in which the runs of its database began.
    pub number: u64,
    /// Events in it; the next would have this seq.
    pub events: u64,
    /// Hash of the last.
    pub head: Digest,
    /// Epoch of the last writer.
    pub writer_epoch: u64,
    /// Whether the run has ended.
    pub ended: bool,
    /// Events of a segment; the last may be shorter.
    pub segment_events: u64,
    /// Merkle root of each segment.
    pub segments: Vec<Digest>,
    /// Merkle root of all events, which follows from theirs.
    pub root: Digest,
    /// Plugins whose calls are in the log, by the digests of their files.
    pub plugins: Vec<PluginRow>,
    /// Kept states that the log names, likewise.
    pub states: Vec<Digest>,
}

/// An error that names a file of an archive.
fn broken(path: &Path, reason: impl std::fmt::Display) -> StoreError {
    StoreError::Archive { path: path.to_owned(), reason: reason.to_string() }
}

/// An error of the system at a path.
fn at(path: &Path) -> impl FnOnce(std::io::Error) -> StoreError + '_ {
    |source| StoreError::File { path: path.to_owned(), source }
}
