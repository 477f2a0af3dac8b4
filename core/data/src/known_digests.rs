//! Digests of files that were read before and have not changed since, so that nothing is read twice to be
//! known.
//!
//! A file is the same if its device, inode, length, and times of change are; the time that the system
//! notes at every change of a file, its ctime, cannot be set by hand. A file that changed just now may
//! change again within one tick of the clock, so it is not taken down yet.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use hm_domain::id::Digest;
use sha2::{Digest as _, Sha256};

use crate::error::{DataError, Result, at};
use crate::whole_file;

/// The file's name, in the folder of prepared folders.
const FILE: &str = ".digests.json";
/// So long must a file have been left alone: longer than any tick of a file system's clock.
const SETTLED: Duration = Duration::from_secs(3);
/// Files that are taken down at most; beyond that what was known is forgotten.
const KNOWN_MAX: usize = 500_000;
/// Bytes that are read at once.
const PIECE_BYTES: usize = 1 << 20;

/// What tells that files have not changed.
#[derive(Clone, Debug)]
pub(crate) struct Stamp {
    text: String,
    /// Whether they had been left alone for long enough.
    settled: bool,
}

impl Stamp {
    /// Of the files at `paths`, links followed.
    pub(crate) fn of(paths: &[&Path]) -> Result<Stamp> {
        let (mut text, mut settled) = (String::new(), true);
        for path in paths {
            let facts = std::fs::metadata(path).map_err(at(path))?;
            text += &stamp(&facts);
            let age = SystemTime::now().duration_since(changed(&facts)).unwrap_or_default();
            settled &= age > SETTLED;
        }
        Ok(Stamp { text, settled })
    }
}

#[cfg(unix)]
fn stamp(facts: &std::fs::Metadata) -> String {
    use std::os::unix::fs::MetadataExt;
    let (device, inode, length) = (facts.dev(), facts.ino(), facts.size());
    let times = (facts.mtime(), facts.mtime_nsec(), facts.ctime(), facts.ctime_nsec());
    format!("{device} {inode} {length} {times:?};")
}

#[cfg(not(unix))]
fn stamp(facts: &std::fs::Metadata) -> String {
    format!("{} {:?};", facts.len(), facts.modified().ok())
}

/// When the file was last changed, as the system saw it.
#[cfg(unix)]
fn changed(facts: &std::fs::Metadata) -> SystemTime {
    use std::os::unix::fs::MetadataExt;
    SystemTime::UNIX_EPOCH + Duration::from_secs(facts.ctime().max(0).unsigned_abs())
}

#[cfg(not(unix))]
fn changed(facts: &std::fs::Metadata) -> SystemTime {
    facts.modified().unwrap_or(SystemTime::now())
}

/// Digests by path.
pub(crate) struct KnownDigests {
    folder: PathBuf,
    known: BTreeMap<String, (String, Digest)>,
    is_new: bool,
}

impl KnownDigests {
    /// What is known in `folder`. A file that cannot be read says nothing: everything is read anew then.
    pub(crate) fn open(folder: &Path) -> KnownDigests {
        let known = std::fs::read(folder.join(FILE)).ok();
        let known = known.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        KnownDigests { folder: folder.to_owned(), known, is_new: false }
    }

    /// The digest that `path` had when it was as `stamp` says, if that is known.
    pub(crate) fn known(&self, path: &Path, stamp: &Stamp) -> Option<Digest> {
        let (then, digest) = self.known.get(&key(path))?;
        (*then == stamp.text).then_some(*digest)
    }

    /// Takes down the digest of `path` when it was as `stamp` says.
    pub(crate) fn learn(&mut self, path: &Path, stamp: &Stamp, digest: Digest) {
        if stamp.settled {
            if self.known.len() >= KNOWN_MAX {
                self.known.clear();
            }
            self.known.insert(key(path), (stamp.text.clone(), digest));
            self.is_new = true;
        }
    }

    /// The digest of the file at `path`, read if need be; `read` hears how many bytes of it are done.
    ///
    /// # Errors
    /// When it cannot be read, changes meanwhile, or `read` says so.
    pub(crate) fn digest(
        &mut self,
        path: &Path,
        read: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<(Stamp, Digest)> {
        let stamp = Stamp::of(&[path])?;
        if let Some(digest) = self.known(path, &stamp) {
            return Ok((stamp, digest));
        }
        let digest = digest_of_file(path, read)?;
        refuse_changed(path, &stamp)?;
        self.learn(path, &stamp, digest);
        Ok((stamp, digest))
    }

    /// Writes down what is new.
    pub(crate) fn save(&mut self) -> Result<()> {
        if std::mem::take(&mut self.is_new) {
            let bytes = serde_json::to_vec(&self.known).expect("digests are plain data");
            whole_file::write(&self.folder, FILE, &bytes)?;
        }
        Ok(())
    }
}

fn key(path: &Path) -> String {
    path.canonicalize().as_deref().unwrap_or(path).to_string_lossy().into_owned()
}

/// # Errors
/// When the file is no longer as it was.
pub(crate) fn refuse_changed(path: &Path, then: &Stamp) -> Result<()> {
    if Stamp::of(&[path])?.text == then.text {
        return Ok(());
    }
    let reason = "changed while it was read: run it again when nothing writes to it".to_owned();
    Err(DataError::Broken { path: path.to_owned(), reason })
}

fn digest_of_file(path: &Path, read: &mut dyn FnMut(u64) -> Result<()>) -> Result<Digest> {
    let mut file = File::open(path).map_err(at(path))?;
    let (mut hash, mut done, mut piece) = (Sha256::new(), 0, vec![0; PIECE_BYTES]);
    loop {
        let count = file.read(&mut piece).map_err(at(path))?;
        if count == 0 {
            return Ok(Digest(hash.finalize().into()));
        }
        hash.update(&piece[..count]);
        done += count as u64;
        read(done)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The digest of `path`, and whether it was read for it.
    fn digest(known: &mut KnownDigests, path: &Path) -> (Digest, bool) {
        let mut was_read = false;
        let (_, digest) = known
            .digest(path, &mut |_| {
                was_read = true;
                Ok(())
            })
            .unwrap();
        (digest, was_read)
    }

    #[cfg(unix)]
    #[test]
    fn what_is_known_is_not_read_again_and_what_changed_is() {
        let folder = tempfile::tempdir().unwrap();
        let mut known = KnownDigests::open(folder.path());
        let old = folder.path().join("old");
        std::fs::write(&old, "left alone").unwrap();
        assert!(digest(&mut known, &old).1);
        assert!(digest(&mut known, &old).1, "what was written just now is not taken down");
        let settled = Stamp { settled: true, ..Stamp::of(&[&old]).unwrap() };
        let was = Digest::of(b"left alone");
        known.learn(&old, &settled, was);
        known.save().unwrap();
        assert_eq!(digest(&mut KnownDigests::open(folder.path()), &old), (was, false));
        let new = folder.path().join("new");
        for text in ["one", "two"] {
            std::fs::write(&new, text).unwrap();
            // Same length, and the same time by hand.
            File::open(&new).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
            assert_eq!(digest(&mut known, &new).0, Digest::of(text.as_bytes()));
        }
        std::fs::write(folder.path().join(FILE), "{").unwrap();
        assert!(digest(&mut KnownDigests::open(folder.path()), &new).1, "damage costs a reading");
    }

    #[test]
    fn a_file_that_changes_while_it_is_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("growing");
        std::fs::write(&path, "one").unwrap();
        let mut known = KnownDigests::open(folder.path());
        let error = known
            .digest(&path, &mut |_| std::fs::write(&path, "one and more").map_err(at(&path)))
            .unwrap_err();
        assert!(error.to_string().contains("growing: changed while it was read"), "{error}");
    }
}
