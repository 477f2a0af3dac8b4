//! Reads an archive, a row group at a time.

use std::fs::{self, File};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use hm_domain::chain::Walk;
use hm_domain::id::Digest;
use hm_domain::merkle;
use parquet::file::reader::{FileReader as _, SerializedFileReader};

use super::{ArchiveManifest, EVENTS, FORMAT, MANIFEST, PLUGINS, STATES, at, broken, columns};
use crate::error::Result;
use crate::store::{Head, StoredEvent};

/// Most bytes of a row group that is read: no archive of ours has one that comes near.
const GROUP_BYTES_MAX: i64 = 256 << 20;

/// An archive that is open.
pub struct ArchiveReader {
    folder: PathBuf,
    manifest: ArchiveManifest,
    events: SerializedFileReader<File>,
}

/// Reads Parquet that may be anything: of bytes that its writers would not write, the library's word is a
/// panic now and then.
fn guarded<T>(path: &Path, read: impl FnOnce() -> parquet::errors::Result<T>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(Ok(read)) => Ok(read),
        Ok(Err(error)) => Err(broken(path, error)),
        Err(_) => Err(broken(path, "it is damaged: its bytes are not Parquet as it is written")),
    }
}

impl ArchiveReader {
    /// Opens a folder. What its events and files hold is checked by those who read them, or by
    /// [`ArchiveReader::verify`].
    pub fn open(folder: &Path) -> Result<ArchiveReader> {
        let path = folder.join(MANIFEST);
        let json = fs::read(&path).map_err(at(&path))?;
        let manifest: ArchiveManifest = serde_json::from_slice(&json)
            .map_err(|error| broken(&path, format!("it says nothing of an archive: {error}")))?;
        let ArchiveManifest { format, segment_events, .. } = manifest;
        if (format, segment_events) != (FORMAT, merkle::SEGMENT_EVENTS) {
            let why = format!(
                "it is of format {format} with segments of {segment_events} events, this program reads {FORMAT} \
                 with {}: use a newer one",
                merkle::SEGMENT_EVENTS
            );
            return Err(broken(&path, why));
        }
        let path = folder.join(EVENTS);
        let file = File::open(&path).map_err(at(&path))?;
        let events = guarded(&path, || SerializedFileReader::new(file))?;
        Ok(ArchiveReader { folder: folder.to_owned(), manifest, events })
    }

    /// Whether a folder looks like an archive.
    pub fn is_at(folder: &Path) -> bool {
        folder.join(MANIFEST).is_file()
    }

    /// What it says of itself.
    pub fn manifest(&self) -> &ArchiveManifest {
        &self.manifest
    }

    /// Where its log stands.
    pub fn head(&self) -> Head {
        let ArchiveManifest { events, head, writer_epoch, ended, .. } = self.manifest;
        let holder = String::new();
        Head { next_seq: events, chain: head, writer_epoch, sealed: ended, holder }
    }

    /// Events from `from_seq` to the end of their row group; none behind the last.
    ///
    /// # Errors
    /// Also where one is of another run than the archive. Nothing else of them is checked.
    pub fn page(&self, from_seq: u64) -> Result<Vec<StoredEvent>> {
        let path = self.folder.join(EVENTS);
        let mut first = 0;
        for (index, group) in self.events.metadata().row_groups().iter().enumerate() {
            let rows = u64::try_from(group.num_rows()).unwrap_or(0);
            if from_seq < first + rows {
                let bytes = group.total_byte_size();
                if bytes > GROUP_BYTES_MAX || rows > merkle::SEGMENT_EVENTS {
                    let why = format!(
                        "row group {index} has {rows} events and {bytes} bytes, at most {} and {GROUP_BYTES_MAX} \
                         are read",
                        merkle::SEGMENT_EVENTS
                    );
                    return Err(broken(&path, why));
                }
                let mut events = guarded(&path, || {
                    self.events.get_row_group(index).and_then(|group| columns::read(&*group))
                })?;
                self.check_run(&path, &events)?;
                events.drain(..(from_seq - first) as usize);
                return Ok(events);
            }
            first += rows;
        }
        Ok(Vec::new())
    }

    /// An archive is told apart by what its manifest says, and only events are covered by hashes: what it
    /// says of the run counts where they all say the same.
    fn check_run(&self, path: &Path, events: &[StoredEvent]) -> Result<()> {
        let run = self.manifest.run;
        match events.iter().map(|event| &event.envelope).find(|it| it.run_id != run) {
            None => Ok(()),
            Some(envelope) => Err(broken(
                path,
                format!(
                    "seq {} is of run {}, and {MANIFEST} says run {run}: take both from one archive",
                    envelope.seq, envelope.run_id
                ),
            )),
        }
    }

    /// Bytes of a plugin, if they are there. That they have this digest is checked by who asks.
    pub fn plugin(&self, digest: Digest) -> Result<Option<Vec<u8>>> {
        self.kept(PLUGINS, digest)
    }

    /// A kept state, likewise.
    pub fn state(&self, digest: Digest) -> Result<Option<Vec<u8>>> {
        self.kept(STATES, digest)
    }

    /// Another file of it, if it is there.
    pub fn file(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let path = self.folder.join(name);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(at(&path)(error)),
        }
    }

    fn kept(&self, folder: &str, digest: Digest) -> Result<Option<Vec<u8>>> {
        self.file(&format!("{folder}/{digest}"))
    }

    /// Reads all of it: the chain from first to last, the root of every segment, and every file that the
    /// manifest names.
    pub fn verify(&self) -> Result<()> {
        let path = self.folder.join(EVENTS);
        let manifest = &self.manifest;
        let (mut walk, mut leaves, mut segments) = (Walk::default(), Vec::new(), Vec::new());
        loop {
            let page = self.page(walk.next_seq)?;
            if page.is_empty() {
                break;
            }
            for stored in &page {
                let seq = walk.next_seq;
                let hashes = (&stored.prev_hash, &stored.hash);
                walk.past(&stored.envelope, &stored.payload, hashes)
                    .map_err(|why| broken(&path, format!("seq {seq}: {why}")))?;
                leaves.push(merkle::leaf(&stored.hash));
                if leaves.len() as u64 == merkle::SEGMENT_EVENTS {
                    segments.push(merkle::root(&std::mem::take(&mut leaves)));
                }
            }
        }
        if !leaves.is_empty() {
            segments.push(merkle::root(&leaves));
        }
        let found = (walk.next_seq, walk.chain, walk.ended, merkle::root(&segments));
        let due = (manifest.events, manifest.head, manifest.ended, manifest.root);
        if found != due || segments != manifest.segments {
            return Err(broken(&path, "its events are not those that archive.json speaks of"));
        }
        let plugins = manifest.plugins.iter().map(|plugin| (PLUGINS, plugin.digest));
        let states = manifest.states.iter().map(|digest| (STATES, *digest));
        for (folder, digest) in plugins.chain(states) {
            let path = self.folder.join(folder).join(digest.to_string());
            let bytes = self.kept(folder, digest)?.ok_or_else(|| broken(&path, "it is missing"))?;
            if Digest::of(&bytes) != digest {
                return Err(broken(&path, "its content does not have the digest that is its name"));
            }
        }
        Ok(())
    }
}
