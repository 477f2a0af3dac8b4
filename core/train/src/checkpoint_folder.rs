//! A checkpoint's folder on disk. It has its name only when it is whole: everything is written and
//! synced under a name that ends in `.part`, and what a crash leaves there goes at the next save.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, TensorView};

use crate::error::{Result, TrainError, at};

pub(crate) const MODEL_FILE: &str = "model.safetensors";
pub(crate) const MOMENTS_FILE: &str = "moments.safetensors";
pub(crate) const STATE_FILE: &str = "state.json";

/// Ends the names of folders that do not count.
const PART: &str = ".part";

/// One parameter's bytes: value, first and second moment.
pub(crate) struct Bytes {
    pub(crate) shape: Vec<usize>,
    pub(crate) parts: [Vec<u8>; 3],
}

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

/// Writes the folder `whole`, whole or not at all. A folder that has the name already is moved aside
/// first and deleted last. Returns the bytes on disk.
pub(crate) fn write(whole: &Path, contents: &[(String, Bytes)], state_json: &[u8]) -> Result<u64> {
    if whole.exists() && !whole.is_dir() {
        let reason = "is in the way of a checkpoint folder: move it away".to_owned();
        return Err(TrainError::Broken { path: whole.to_owned(), reason });
    }
    let part = with_ending(whole, PART);
    let written = fill(&part, contents, state_json).and_then(|()| install(&part, whole));
    if let Err(error) = written {
        // Half a folder that no event names; if it cannot go now, the next save says so.
        let _ = std::fs::remove_dir_all(&part);
        return Err(error);
    }
    bytes_on_disk(whole)
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

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Gives `part` the name `whole`.
fn install(part: &Path, whole: &Path) -> Result<()> {
    let aside = with_ending(whole, &format!(".replaced{PART}"));
    let replaces = whole.exists();
    if replaces {
        std::fs::rename(whole, &aside).map_err(at(whole))?;
    }
    if let Err(error) = std::fs::rename(part, whole) {
        if replaces {
            std::fs::rename(&aside, whole).map_err(at(&aside))?;
        }
        return Err(at(whole)(error));
    }
    if let Some(parent) = whole.parent() {
        sync(parent)?;
    }
    if replaces { std::fs::remove_dir_all(&aside).map_err(at(&aside)) } else { Ok(()) }
}

fn sync(path: &Path) -> Result<()> {
    File::open(path).and_then(|file| file.sync_all()).map_err(at(path))
}

fn fill(part: &Path, contents: &[(String, Bytes)], state_json: &[u8]) -> Result<()> {
    std::fs::create_dir(part).map_err(at(part))?;
    let model = contents.iter().map(|(path, bytes)| (path.clone(), &bytes.shape, &bytes.parts[0]));
    write_tensors(&part.join(MODEL_FILE), model.collect())?;
    let moments = contents.iter().flat_map(|(path, bytes)| {
        [(".m", 1), (".v", 2)]
            .map(|(ending, index)| (format!("{path}{ending}"), &bytes.shape, &bytes.parts[index]))
    });
    write_tensors(&part.join(MOMENTS_FILE), moments.collect())?;
    let path = part.join(STATE_FILE);
    std::fs::write(&path, state_json).map_err(at(&path))?;
    for name in [MODEL_FILE, MOMENTS_FILE, STATE_FILE] {
        sync(&part.join(name))?;
    }
    sync(part)
}

fn write_tensors(path: &Path, tensors: Vec<(String, &Vec<usize>, &Vec<u8>)>) -> Result<()> {
    let views: Vec<(String, TensorView<'_>)> = tensors
        .into_iter()
        .map(|(name, shape, bytes)| {
            let view = TensorView::new(Dtype::F32, shape.clone(), bytes);
            (name, view.expect("bytes and shape come from one tensor"))
        })
        .collect();
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize_to_file(views, Some(metadata), path).map_err(|error| {
        TrainError::Broken { path: path.to_owned(), reason: format!("cannot be written: {error}") }
    })
}
