//! Where prepared data lies: a folder by the digest of what it was made from, made under another name and
//! renamed when it is whole. So a finished folder is never written to again, and data that differs never
//! meets.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hm_domain::id::Digest;

use crate::error::{DataError, Result, at};
use crate::manifest::Manifest;
use crate::whole_file::{self, PART};

/// Whoever makes a folder holds this file in it.
const LOCK: &str = "prepare.lock";
/// Held while folders that nobody finishes are looked for, in the folder of prepared folders.
const SWEEP_LOCK: &str = ".sweep.lock";
/// Between looks at whether another process has finished the same.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The folder in `root` for what has this digest.
pub(crate) fn place(root: &Path, spec: &Digest) -> PathBuf {
    root.join(spec.short())
}

/// What is prepared in `folder`, if anything is.
///
/// # Errors
/// When something else is there.
pub(crate) fn found(folder: &Path, spec: &Digest) -> Result<Option<Manifest>> {
    if !folder.exists() {
        return Ok(None);
    }
    let other = |reason: String| {
        let reason = format!("{reason}; remove it to prepare it again");
        DataError::Broken { path: folder.to_owned(), reason }
    };
    let manifest = Manifest::read(folder)
        .map_err(|error| other(format!("holds no prepared data that can be read ({error})")))?;
    if manifest.spec != *spec {
        return Err(other(format!("holds what was prepared from {}, not {spec}", manifest.spec)));
    }
    Ok(Some(manifest))
}

/// A folder that is being made. Dropped unfinished, it is removed.
pub(crate) struct Unfinished {
    /// Where its files are written.
    pub(crate) folder: PathBuf,
    _lock: File,
    finished: bool,
}

impl Unfinished {
    /// Begins `folder` in `root`; waits while another process makes the same, and gives `None` when that
    /// has finished it.
    ///
    /// # Errors
    /// When `go_on` says so, or nothing can be written.
    pub(crate) fn begin(
        root: &Path,
        folder: &Path,
        go_on: &dyn Fn() -> Result<()>,
    ) -> Result<Option<Unfinished>> {
        std::fs::create_dir_all(root).map_err(at(root))?;
        loop {
            // Held for a moment: nobody sweeps a folder that another has made and not locked yet.
            let sweeping = locked(root, SWEEP_LOCK, go_on)?;
            sweep(root)?;
            if folder.exists() {
                return Ok(None);
            }
            let name = folder.file_name().unwrap_or_default().to_string_lossy();
            let part = root.join(format!(".{name}{PART}"));
            std::fs::create_dir_all(&part).map_err(at(&part))?;
            if let Some(lock) = try_lock(&part, LOCK)? {
                return Ok(Some(Unfinished { folder: part, _lock: lock, finished: false }));
            }
            drop(sweeping);
            go_on()?;
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Gives it its name.
    pub(crate) fn finish(mut self, folder: &Path) -> Result<()> {
        whole_file::sync_folder(&self.folder)?;
        std::fs::rename(&self.folder, folder).map_err(at(folder))?;
        self.finished = true;
        let lock = folder.join(LOCK);
        std::fs::remove_file(&lock).map_err(at(&lock))?;
        folder.parent().map_or(Ok(()), whole_file::sync_folder)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.finished {
            // What cannot be removed now does not count, and is swept before the next preparation.
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

/// The file `name` in `folder`, locked; `None` while another process has it.
fn try_lock(folder: &Path, name: &str) -> Result<Option<File>> {
    let path = folder.join(name);
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(at(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(at(path)(error)),
    }
}

/// The same, waited for as long as `go_on` lets it.
fn locked(folder: &Path, name: &str, go_on: &dyn Fn() -> Result<()>) -> Result<File> {
    loop {
        go_on()?;
        match try_lock(folder, name)? {
            Some(file) => return Ok(file),
            None => std::thread::sleep(LOOK_EVERY),
        }
    }
}

/// Removes what was begun by processes that are no more.
fn sweep(root: &Path) -> Result<()> {
    for entry in std::fs::read_dir(root).map_err(at(root))? {
        let path = entry.map_err(at(root))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !(name.starts_with('.') && name.ends_with(PART) && path.is_dir()) {
            continue;
        }
        if try_lock(&path, LOCK)?.is_some() {
            std::fs::remove_dir_all(&path).map_err(at(&path))?;
        }
    }
    Ok(())
}
