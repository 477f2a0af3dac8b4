//! `hm db archive` and `hm db restore`: a run as a folder, and back.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use hm_domain::event::Event;
use hm_domain::id::{Digest, RunId};
use hm_domain::spec::RunSpec;
use hm_store::{
    ArchiveManifest, ArchiveReader, ArchiveWriter, FoundRun, Head as LogHead, Store, StoredEvent,
};

use crate::cli::ArchiveArgs;
use crate::prove::anchors::{Anchor, Head, SIGNED_HEAD};
use crate::prove::dsse::Envelope;
use crate::prove::held::Anchors;
use crate::prove::key::Key;
use crate::steer::audit::source::{Logged, Source};
use crate::weights::data_manifest;
use crate::workplace::Workplace;

/// The signed head in an archive.
pub(crate) const HEAD: &str = "head.json";

/// What the run is to be, for people.
const SPEC: &str = "spec.json";

/// What is known of its data, where that was on the machine that archived it.
const DATA_MANIFEST: &str = "data/manifest.json";

/// A log in an archive's folder.
pub(crate) struct Archived(ArchiveReader);

impl Archived {
    /// The archive at a path, if one is there.
    pub(crate) fn at(path: &Path) -> Result<Option<Archived>> {
        if !ArchiveReader::is_at(path) {
            return Ok(None);
        }
        Ok(Some(Archived(ArchiveReader::open(path)?)))
    }
}

impl Source for Archived {
    fn run(&self) -> RunId {
        self.0.manifest().run
    }

    fn head(&self) -> Result<LogHead> {
        Ok(self.0.head())
    }

    fn page(&self, from_seq: u64) -> Result<Vec<StoredEvent>> {
        Ok(self.0.page(from_seq)?)
    }

    fn plugin(&self, digest: Digest) -> Result<Option<Vec<u8>>> {
        Ok(self.0.plugin(digest)?)
    }

    fn state(&self, digest: Digest) -> Result<Option<Vec<u8>>> {
        Ok(self.0.state(digest)?)
    }
}

/// Archives a run, and takes it out of the database if that is wanted too.
pub(crate) fn archive(workplace: &Workplace, args: &ArchiveArgs) -> Result<u8> {
    let ArchiveArgs { run, output, drop } = args;
    let store = workplace.store()?;
    let found = workplace.find_run(&store, run)?;
    let folder = match output {
        Some(folder) => folder.to_owned(),
        None => default_folder(workplace, found.run_id)?,
    };
    let source = Logged::new(&store, workplace.runtime.handle(), found.run_id);
    Anchors::allow_signing(&workplace.data_dir, &source)?;
    // One that was made before serves as well, if it is of this very log.
    let manifest = match Archived::at(&folder)? {
        Some(Archived(reader)) if *drop => made_before(&reader, found.run_id, &folder)?,
        _ => write(workplace, &store, &found, &folder)?,
    };
    let shown = folder.display();
    println!("{found} lies in {shown}: {} events, Merkle root {}", manifest.events, manifest.root);
    if *drop {
        workplace.runtime.block_on(store.drop_run(found.run_id, &manifest))?;
        println!("it has left the database; bring it back with: hm db restore {shown}");
    }
    Ok(0)
}

/// What an archive that is there already says of itself, once all of it is read and is of this run: what is
/// dropped for it must be what was asked for.
fn made_before(reader: &ArchiveReader, run: RunId, folder: &Path) -> Result<ArchiveManifest> {
    let archived = reader.manifest();
    if archived.run != run {
        let (shown, other) = (folder.display(), archived.run);
        bail!("{shown} is the archive of run {other}, not of run {run}: name another folder");
    }
    reader.verify()?;
    Ok(archived.clone())
}

fn default_folder(workplace: &Workplace, run: RunId) -> Result<PathBuf> {
    let folder = workplace.data_dir.join("archives");
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    Ok(folder.join(run.to_string()))
}

fn write(
    workplace: &Workplace,
    store: &Store,
    found: &FoundRun,
    folder: &Path,
) -> Result<ArchiveManifest> {
    let run = found.run_id;
    let source = Logged::new(store, workplace.runtime.handle(), run);
    let spec = workplace.begun_with(store, run)?;
    // A run that goes on is archived as far as it is now.
    let head = source.head()?;
    let mut writer = ArchiveWriter::begin(folder, run)?;
    while writer.next_seq() < head.next_seq {
        let page = source.page(writer.next_seq())?;
        if page.is_empty() {
            let seq = writer.next_seq();
            return Err(anyhow!("run {run} is not archived: event {seq} is missing in its log"));
        }
        let left = (head.next_seq - writer.next_seq()) as usize;
        for stored in page.into_iter().take(left) {
            writer.push(stored)?;
        }
    }
    let mut plugins = Vec::new();
    for digest in writer.plugins() {
        let row = workplace.runtime.block_on(store.plugin(&digest.to_string()))?;
        let wasm = source.plugin(digest)?;
        let (row, wasm) = row.zip(wasm).with_context(|| {
            format!("run {run} is not archived: plugin {digest} is not in the database")
        })?;
        writer.plugin(digest, &wasm)?;
        plugins.push(row);
    }
    for digest in writer.states() {
        let state = source.state(digest)?.with_context(|| {
            format!("run {run} is not archived: plugin state {digest} is not in the database")
        })?;
        writer.state(digest, &state)?;
    }
    describe(workplace, &writer, &spec)?;
    let number = workplace.runtime.block_on(store.run_number(run))?;
    let manifest = writer.describe((spec.name, number), &head, plugins)?;
    let last = Head { seq: manifest.events - 1, hash: manifest.head };
    let anchor = Anchor { run, head: last, root: Some(manifest.root) };
    let signed = Envelope::sign(&Key::of(&workplace.data_dir)?, SIGNED_HEAD, &anchor)?;
    writer.add(Path::new(HEAD), &serde_json::to_vec(&signed)?)?;
    writer.finish()?;
    Ok(manifest)
}

/// Adds what people look for first.
fn describe(workplace: &Workplace, writer: &ArchiveWriter, spec: &RunSpec) -> Result<()> {
    writer.add(Path::new(SPEC), &serde_json::to_vec_pretty(spec)?)?;
    if let Some(manifest) = data_manifest(workplace, spec) {
        writer.add(Path::new(DATA_MANIFEST), &manifest)?;
    }
    Ok(())
}

/// Brings a run back from its archive.
pub(crate) fn restore(workplace: &Workplace, folder: &Path) -> Result<u8> {
    let shown = folder.display();
    let Archived(reader) = Archived::at(folder)?
        .ok_or_else(|| anyhow!("{shown} is no archive: it holds no archive.json"))?;
    let ArchiveManifest { run, name, events, .. } = reader.manifest();
    let (begun, run) = (begun_with(&reader)?, *run);
    if begun.name != *name {
        let log = begun.name;
        return Err(anyhow!("{shown}: archive.json calls the run {name}, its log {log}"));
    }
    let store = workplace.store()?;
    workplace.runtime.block_on(store.restore(&reader))?;
    println!("run {name} ({run}) is in the database again: {events} events");
    Ok(0)
}

fn begun_with(reader: &ArchiveReader) -> Result<RunSpec> {
    let first = reader.page(0)?.into_iter().next().context("an archive without an event")?;
    match first.decode()?.event {
        Event::RunStarted(started) => Ok(serde_json::from_str(&started.spec)?),
        _ => Err(anyhow!("the log in this archive does not begin with run-started")),
    }
}
