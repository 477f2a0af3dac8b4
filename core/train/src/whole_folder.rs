//! A folder that is there whole or not at all: filled under the name of a hidden sibling, then renamed.

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::error::{Result, TrainError, at};

/// A folder being filled; dropped before [`WholeFolder::finish`], it leaves nothing.
pub(crate) struct WholeFolder {
    part: PathBuf,
    target: PathBuf,
    finished: bool,
}

impl WholeFolder {
    /// Makes the sibling in which `target` is filled.
    ///
    /// # Errors
    /// When `target` is there already and is not an empty folder.
    pub(crate) fn begin(target: &Path) -> Result<WholeFolder> {
        refuse_occupied(target)?;
        // The absolute path has a parent and a name also where `.` or `a/..` was typed.
        let target = std::path::absolute(target).map_err(at(target))?;
        let (Some(parent), Some(name)) = (target.parent(), target.file_name()) else {
            let reason = "cannot be written as a folder: name one below it".to_owned();
            return Err(TrainError::Broken { path: target, reason });
        };
        std::fs::create_dir_all(parent).map_err(at(parent))?;
        let part = parent.join(format!(".{}.hm-part", name.to_string_lossy()));
        // What an earlier crash left.
        if part.exists() {
            std::fs::remove_dir_all(&part).map_err(at(&part))?;
        }
        std::fs::create_dir(&part).map_err(at(&part))?;
        Ok(WholeFolder { part, target, finished: false })
    }

    /// Where the file `name` is written for now.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.part.join(name)
    }

    /// Writes a small file.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<u64> {
        let path = self.path(name);
        std::fs::write(&path, bytes).map_err(at(&path))?;
        sync(&path)?;
        Ok(bytes.len() as u64)
    }

    /// Gives the folder its name.
    pub(crate) fn finish(mut self) -> Result<()> {
        sync(&self.part)?;
        refuse_occupied(&self.target)?;
        std::fs::rename(&self.part, &self.target).map_err(at(&self.target))?;
        self.finished = true;
        self.target.parent().map_or(Ok(()), sync)
    }
}

impl Drop for WholeFolder {
    fn drop(&mut self) {
        if !self.finished {
            // Half a folder with a hidden name; if it cannot go now, the next attempt removes it.
            let _ = std::fs::remove_dir_all(&self.part);
        }
    }
}

fn refuse_occupied(target: &Path) -> Result<()> {
    let occupied = match std::fs::read_dir(target) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => true,
        Err(error) => return Err(at(target)(error)),
    };
    if occupied {
        let reason = "is there already and not empty: name another folder, or remove it".to_owned();
        return Err(TrainError::Broken { path: target.to_owned(), reason });
    }
    Ok(())
}

fn sync(path: &Path) -> Result<()> {
    File::open(path).and_then(|file| file.sync_all()).map_err(at(path))
}
