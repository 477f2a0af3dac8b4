//! Writes an archive, event by event, in memory for a row group and a segment's hashes.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use hm_domain::chain::Walk;
use hm_domain::event::Event;
use hm_domain::id::{Digest, RunId};
use hm_domain::merkle;
use hm_domain::state::RunState;
use parquet::file::writer::SerializedFileWriter;

use super::{
    ArchiveManifest, ArchiveReader, EVENTS, FORMAT, MANIFEST, PLUGINS, STATES, at, broken, columns,
};
use crate::codec;
use crate::error::{Result, StoreError};
use crate::plugins::PluginRow;
use crate::store::{Head, StoredEvent};

/// Bytes of payloads that make a row group: what is held in memory, beside one event.
const GROUP_BYTES: usize = 16 << 20;

/// Kind of the event that a run begins with.
const RUN_STARTED: u16 = 1;

/// An archive that does not count yet: dropped before it has its name, it leaves nothing.
pub struct ArchiveWriter {
    part: PathBuf,
    whole: PathBuf,
    run: RunId,
    file: Option<SerializedFileWriter<File>>,
    group: Vec<StoredEvent>,
    group_bytes: usize,
    walk: Walk,
    leaves: Vec<Digest>,
    segments: Vec<Digest>,
    plugins: BTreeSet<Digest>,
    states: BTreeSet<Digest>,
}

impl ArchiveWriter {
    /// Begins the folder `whole`, which must not be there.
    pub fn begin(whole: &Path, run: RunId) -> Result<ArchiveWriter> {
        if whole.exists() {
            return Err(broken(whole, "it is there already: name another folder"));
        }
        let mut part = whole.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        fs::create_dir(&part).map_err(|source| match source.kind() {
            std::io::ErrorKind::AlreadyExists => {
                broken(&part, "another archiving writes it, or died as it did: delete it then")
            }
            _ => StoreError::File { path: part.clone(), source },
        })?;
        let mut writer = ArchiveWriter {
            part,
            whole: whole.to_owned(),
            run,
            file: None,
            group: Vec::new(),
            group_bytes: 0,
            walk: Walk::default(),
            leaves: Vec::new(),
            segments: Vec::new(),
            plugins: BTreeSet::new(),
            states: BTreeSet::new(),
        };
        for folder in [PLUGINS, STATES] {
            let path = writer.part.join(folder);
            fs::create_dir(&path).map_err(at(&path))?;
        }
        let path = writer.part.join(EVENTS);
        let file = File::create(&path).map_err(at(&path))?;
        writer.file = Some(columns::begin(file).map_err(|error| broken(&path, error))?);
        Ok(writer)
    }

    /// Seq of the event that comes next.
    pub fn next_seq(&self) -> u64 {
        self.walk.next_seq
    }

    /// Adds the next event. A log that is broken is not archived.
    pub fn push(&mut self, stored: StoredEvent) -> Result<()> {
        let seq = stored.envelope.seq;
        let hashes = (&stored.prev_hash, &stored.hash);
        let walked = self.walk.past(&stored.envelope, &stored.payload, hashes);
        let other = (stored.envelope.run_id != self.run).then_some("it is of another run");
        if let Some(why) = walked.err().or(other) {
            let why =
                format!("run {} is not archived: its log is broken at seq {seq}: {why}", self.run);
            return Err(StoreError::Corrupt(why));
        }
        self.note(&stored)?;
        self.leaves.push(merkle::leaf(&stored.hash));
        self.group_bytes += stored.payload.len();
        self.group.push(stored);
        let segment_ends = self.leaves.len() as u64 == merkle::SEGMENT_EVENTS;
        if segment_ends {
            self.segments.push(merkle::root(&std::mem::take(&mut self.leaves)));
        }
        if segment_ends || self.group_bytes >= GROUP_BYTES { self.end_group() } else { Ok(()) }
    }

    /// Notes what an event names that must be kept with it.
    fn note(&mut self, stored: &StoredEvent) -> Result<()> {
        let kind = stored.envelope.kind;
        if kind != RUN_STARTED && !codec::names_bytes(kind) {
            return Ok(());
        }
        match stored.decode()?.event {
            Event::BindingChanged(changed) => {
                self.plugins.insert(changed.plugin);
            }
            Event::PluginStateSaved(saved) => {
                self.states.insert(saved.state);
            }
            started => self.note_inherited(&started),
        }
        Ok(())
    }

    /// Notes what a fork goes on with from its parent, whose log may be anywhere. Of a start that cannot be
    /// folded no audit asks for more.
    fn note_inherited(&mut self, started: &Event) {
        let Ok(state) = RunState::start(started) else { return };
        for binding in state.bindings.into_values().filter(|binding| binding.live) {
            self.plugins.insert(binding.facts.plugin);
            self.states.insert(binding.state);
        }
    }

    fn end_group(&mut self) -> Result<()> {
        let path = self.part.join(EVENTS);
        if let Some(file) = self.file.as_mut().filter(|_| !self.group.is_empty()) {
            columns::write(file, &self.group).map_err(|error| broken(&path, error))?;
        }
        self.group.clear();
        self.group_bytes = 0;
        Ok(())
    }

    /// Plugins that the events so far name.
    pub fn plugins(&self) -> Vec<Digest> {
        self.plugins.iter().copied().collect()
    }

    /// Kept states that the events so far name.
    pub fn states(&self) -> Vec<Digest> {
        self.states.iter().copied().collect()
    }

    /// Adds bytes of a plugin.
    pub fn plugin(&self, digest: Digest, wasm: &[u8]) -> Result<()> {
        self.keep(PLUGINS, digest, wasm)
    }

    /// Adds a kept state.
    pub fn state(&self, digest: Digest, bytes: &[u8]) -> Result<()> {
        self.keep(STATES, digest, bytes)
    }

    fn keep(&self, folder: &str, digest: Digest, bytes: &[u8]) -> Result<()> {
        let found = Digest::of(bytes);
        if found != digest {
            let why = format!(
                "{} bytes of {folder} have digest {found}, the log names {digest}",
                bytes.len()
            );
            return Err(StoreError::Corrupt(why));
        }
        self.add(Path::new(folder).join(digest.to_string()).as_path(), bytes)
    }

    /// Adds a file for people or machines that this crate knows nothing of.
    pub fn add(&self, name: &Path, bytes: &[u8]) -> Result<()> {
        let path = self.part.join(name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(at(folder))?;
        }
        fs::write(&path, bytes).map_err(at(&path))?;
        sync(&path)
    }

    /// Ends its events with the manifest, once `head` is reached.
    pub fn describe(
        &mut self,
        (name, number): (String, u64),
        head: &Head,
        plugins: Vec<PluginRow>,
    ) -> Result<ArchiveManifest> {
        if let Err(why) = self.walk.at_head(&head.chain, head.sealed) {
            let why = format!("run {} is not archived: {why}", self.run);
            return Err(StoreError::Corrupt(why));
        }
        self.end_group()?;
        let path = self.part.join(EVENTS);
        if let Some(file) = self.file.take() {
            file.close().map_err(|error| broken(&path, error))?;
        }
        sync(&path)?;
        if !self.leaves.is_empty() {
            self.segments.push(merkle::root(&self.leaves));
        }
        let manifest = ArchiveManifest {
            format: FORMAT,
            run: self.run,
            name,
            number,
            events: self.walk.next_seq,
            head: self.walk.chain,
            writer_epoch: head.writer_epoch,
            ended: self.walk.ended,
            segment_events: merkle::SEGMENT_EVENTS,
            root: merkle::root(&self.segments),
            segments: std::mem::take(&mut self.segments),
            plugins,
            states: self.states(),
        };
        let json =
            serde_json::to_vec_pretty(&manifest).map_err(|error| broken(&self.part, error))?;
        self.add(Path::new(MANIFEST), &json)?;
        Ok(manifest)
    }

    /// Reads all of it back, and gives it its name if it is right.
    pub fn finish(mut self) -> Result<()> {
        ArchiveReader::open(&self.part)?.verify()?;
        for folder in [PLUGINS, STATES, ""] {
            sync(&self.part.join(folder))?;
        }
        fs::rename(&self.part, &self.whole).map_err(at(&self.whole))?;
        // It has its name now, and nothing is left to be removed.
        self.part = PathBuf::new();
        match self.whole.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => sync(parent)?,
            _ => sync(Path::new("."))?,
        }
        Ok(())
    }
}

impl Drop for ArchiveWriter {
    fn drop(&mut self) {
        if !self.part.as_os_str().is_empty()
            && let Err(error) = fs::remove_dir_all(&self.part)
        {
            tracing::warn!("{} stays, half an archive: {error}", self.part.display());
        }
    }
}

fn sync(path: &Path) -> Result<()> {
    File::open(path).and_then(|file| file.sync_all()).map_err(at(path))
}
