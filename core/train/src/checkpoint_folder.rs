//! A checkpoint's folder on disk. It has its name only when it is whole: everything is written and
//! synced under a name that ends in `.part`, and what a crash leaves there goes at the next save.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use hm_domain::checkpoint::{CheckpointState, folder_stem};
use hm_domain::id::Digest;
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
/// Before that, what is moved aside for a whole one.
const REPLACED: &str = ".replaced";

/// Attempt and step of a stem, if it is one to the letter.
fn of_stem(text: &str) -> Option<(u32, u64)> {
    let (attempt, step) = text.strip_prefix('a')?.split_once("-s")?;
    let (attempt, step) = (attempt.parse().ok()?, step.parse().ok()?);
    (folder_stem(attempt, step) == text).then_some((attempt, step))
}

/// Attempt and step of a checkpoint's name, if it is one to the letter.
fn of_name(text: &str) -> Option<(u32, u64)> {
    let (stem, short) = text.rsplit_once('-')?;
    let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let is_short = short.len() == Digest::ZERO.short().len() && short.bytes().all(is_hex);
    of_stem(stem).filter(|_| is_short)
}

/// Whether a folder of this name was left by a save that came to no end.
fn is_leftover(name: &str) -> bool {
    name.strip_suffix(PART).is_some_and(|rest| {
        of_stem(rest).is_some() || rest.strip_suffix(REPLACED).and_then(of_name).is_some()
    })
}

/// Names of the folders in `parent`. A link is none.
fn folders_in(parent: &Path) -> Result<Vec<String>> {
    let mut folders = Vec::new();
    for entry in std::fs::read_dir(parent).map_err(at(parent))? {
        let entry = entry.map_err(at(parent))?;
        if entry.file_type().map_err(at(parent))?.is_dir()
            && let Ok(name) = entry.file_name().into_string()
        {
            folders.push(name);
        }
    }
    folders.sort();
    Ok(folders)
}

/// Deletes what an earlier crash left half written under `parent`. Whatever else ends in `.part` is a
/// person's.
pub(crate) fn remove_leftovers(parent: &Path) -> Result<()> {
    for name in folders_in(parent)?.iter().filter(|name| is_leftover(name)) {
        let path = parent.join(name);
        std::fs::remove_dir_all(&path).map_err(at(&path))?;
    }
    Ok(())
}

/// Folders in `parent` that have a checkpoint's name to the letter and hold the state that it tells of.
/// Whether the rest is whole is not looked at.
pub fn checkpoints_in(parent: &Path) -> Result<Vec<(String, CheckpointState)>> {
    let held = |folder: &String| -> Option<CheckpointState> {
        let told = of_name(folder)?;
        let json = std::fs::read(parent.join(folder).join(STATE_FILE)).ok()?;
        let state: CheckpointState = serde_json::from_slice(&json).ok()?;
        (told == (state.attempt, state.next_step)).then_some(state)
    };
    let folders = folders_in(parent)?.into_iter();
    Ok(folders.filter_map(|folder| held(&folder).map(|state| (folder, state))).collect())
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
        aside.push(format!("{REPLACED}{PART}"));
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

#[cfg(test)]
mod tests {
    use hm_domain::checkpoint::folder_name;

    use super::*;

    #[test]
    fn only_names_of_our_own_making_are_leftovers() {
        let name = folder_name(7, 12_345, &Digest::of(b"content"));
        assert_eq!(of_name(&name), Some((7, 12_345)));
        for ours in [format!("{}.part", folder_stem(0, 3)), format!("{name}.replaced.part")] {
            assert!(is_leftover(&ours), "{ours}");
        }
        assert_eq!(of_stem(&folder_stem(1000, 99_999_999_999)), Some((1000, 99_999_999_999)));
        let theirs = [
            "notes.part",
            "backup-of-mine.part",
            ".part",
            "a0-s3.part",
            "a000-s0000000003",
            "a+00-s0000000003.part",
            "a000-s0000000003-mine.part",
            "a000-s0000000003-mine.replaced.part",
            "a000-s0000000003.part.part",
            "my-a000-s0000000003.part",
        ];
        for theirs in theirs.iter().map(ToString::to_string).chain([format!("{name}.part")]) {
            assert!(!is_leftover(&theirs), "{theirs}");
            assert_eq!(of_name(&theirs), None, "{theirs}");
        }
    }
}
