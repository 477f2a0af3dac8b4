//! A checkpoint's folder on disk. It has its name only when it is whole: everything is written and
//! synced under a name that ends in `.part`, and what a crash leaves there goes at the next save.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use safetensors::tensor::Dtype;

use crate::error::{Result, TrainError, at};
use crate::tensor_file::{Planned, TensorWriter};

pub(crate) const MODEL_FILE: &str = "model.safetensors";
pub(crate) const MOMENTS_FILE: &str = "moments.safetensors";
pub(crate) const STATE_FILE: &str = "state.json";

/// What the names of a parameter's first and second moment end with.
pub(crate) const MOMENTS: [&str; 2] = [".m", ".v"];

/// Ends the names of folders that do not count.
const PART: &str = ".part";

/// Deletes what an earlier crash left half written under `parent`.
pub(crate) fn remove_leftovers(parent: &Path) -> Result<()> {
    for entry in std::fs::read_dir(parent).map_err(at(parent))? {
        let path = entry.map_err(at(parent))?.path();
        if path.to_string_lossy().ends_with(PART) {
            let removed = if path.is_dir() {
                std::fs::remove_dir_all(&path)
            } else {
                std::fs::remove_file(&path)
            };
            removed.map_err(at(&path))?;
        }
    }
    Ok(())
}

/// Bytes of a checkpoint's files.
pub(crate) fn bytes_on_disk(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for name in [MODEL_FILE, MOMENTS_FILE, STATE_FILE] {
        let path = folder.join(name);
        bytes += std::fs::metadata(&path).map_err(at(&path))?.len();
    }
    Ok(bytes)
}

/// A folder that does not count yet. Dropped before it has its name, it leaves nothing.
pub(crate) struct PartFolder {
    path: PathBuf,
    installed: bool,
}

/// Files of a checkpoint open for writing: parameters follow in order of path, in both alike.
pub(crate) struct TensorFiles {
    pub(crate) model: TensorWriter,
    pub(crate) moments: TensorWriter,
}

impl PartFolder {
    /// Makes the folder `name` under `parent`.
    pub(crate) fn begin(parent: &Path, name: &str) -> Result<PartFolder> {
        let path = parent.join(format!("{name}{PART}"));
        std::fs::create_dir(&path).map_err(at(&path))?;
        Ok(PartFolder { path, installed: false })
    }

    /// Opens its files for parameters of these shapes.
    pub(crate) fn tensor_files(
        &self,
        shapes: &BTreeMap<String, Vec<usize>>,
    ) -> Result<TensorFiles> {
        let planned = |endings: &[&str]| -> Vec<Planned> {
            let of_one = |(path, shape): (&String, &Vec<usize>)| -> Vec<Planned> {
                let one = |ending: &&str| Planned {
                    name: format!("{path}{ending}"),
                    shape: shape.clone(),
                };
                endings.iter().map(one).collect()
            };
            shapes.iter().flat_map(of_one).collect()
        };
        let begin = |name: &str, endings: &[&str]| {
            TensorWriter::begin(&self.path.join(name), Dtype::F32, &planned(endings))
        };
        Ok(TensorFiles {
            model: begin(MODEL_FILE, &[""])?,
            moments: begin(MOMENTS_FILE, &MOMENTS)?,
        })
    }

    /// Ends its files, adds the state, and gives it the name `whole`, all on disk. A folder that has
    /// the name already is moved aside first and deleted last. Returns the bytes on disk.
    pub(crate) fn install(
        mut self,
        files: TensorFiles,
        state_json: &[u8],
        whole: &Path,
    ) -> Result<u64> {
        if whole.exists() && !whole.is_dir() {
            let reason = "is in the way of a checkpoint folder: move it away".to_owned();
            return Err(TrainError::Broken { path: whole.to_owned(), reason });
        }
        files.model.finish()?;
        files.moments.finish()?;
        let path = self.path.join(STATE_FILE);
        std::fs::write(&path, state_json).map_err(at(&path))?;
        sync(&path)?;
        sync(&self.path)?;
        self.rename(whole)?;
        bytes_on_disk(whole)
    }

    fn rename(&mut self, whole: &Path) -> Result<()> {
        let mut aside = whole.as_os_str().to_owned();
        aside.push(format!(".replaced{PART}"));
        let aside = PathBuf::from(aside);
        let replaces = whole.exists();
        if replaces {
            std::fs::rename(whole, &aside).map_err(at(whole))?;
        }
        if let Err(error) = std::fs::rename(&self.path, whole) {
            if replaces {
                std::fs::rename(&aside, whole).map_err(at(&aside))?;
            }
            return Err(at(whole)(error));
        }
        self.installed = true;
        if let Some(parent) = whole.parent() {
            sync(parent)?;
        }
        if replaces { std::fs::remove_dir_all(&aside).map_err(at(&aside)) } else { Ok(()) }
    }
}

impl Drop for PartFolder {
    fn drop(&mut self) {
        if !self.installed {
            // Half a folder that no event names; if it cannot go now, the next save says so.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

fn sync(path: &Path) -> Result<()> {
    File::open(path).and_then(|file| file.sync_all()).map_err(at(path))
}
