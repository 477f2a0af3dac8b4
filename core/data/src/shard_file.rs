//! One file of a shard, read where something is wanted of it.
//!
//! It is not mapped into memory: a page that a file has lost meanwhile would end the process by a signal,
//! while a read that fails is an error that names the file. The system keeps what is read often in memory
//! all the same.

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::error::{DataError, Result, at};

/// An open file, or one that is opened for each reading.
pub(crate) struct ShardFile {
    path: PathBuf,
    kept: Option<File>,
    bytes: u64,
}

impl ShardFile {
    pub(crate) fn open(path: PathBuf) -> Result<ShardFile> {
        let file = File::open(&path).map_err(at(&path))?;
        let bytes = file.metadata().map_err(at(&path))?.len();
        Ok(ShardFile { path, kept: Some(file), bytes })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Its length when it was opened.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Opens it for each reading from now on.
    pub(crate) fn close(&mut self) {
        self.kept = None;
    }

    /// Fills `out` with what stands at byte `place`.
    ///
    /// # Errors
    /// When the file cannot be read, or has become too short for it.
    pub(crate) fn read(&self, place: u64, out: &mut [u8]) -> Result<()> {
        let read = match &self.kept {
            Some(file) => read_exact_at(file, out, place),
            None => File::open(&self.path).and_then(|file| read_exact_at(&file, out, place)),
        };
        read.map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => {
                let (bytes, folder) = (self.bytes, self.path.parent().unwrap_or(Path::new(".")));
                let reason = format!(
                    "had {bytes} bytes when it was opened and ends before byte {} now: it was truncated; remove {} to prepare it again",
                    place + out.len() as u64,
                    folder.display()
                );
                DataError::Broken { path: self.path.clone(), reason }
            }
            _ => at(&self.path)(error),
        })
    }
}

#[cfg(unix)]
fn read_exact_at(file: &File, out: &mut [u8], place: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, out, place)
}

#[cfg(not(unix))]
fn read_exact_at(mut file: &File, out: &mut [u8], place: u64) -> std::io::Result<()> {
    use std::io::{Read, Seek, SeekFrom};
    file.seek(SeekFrom::Start(place))?;
    file.read_exact(out)
}
