//! A checkpoint's folder on disk. It has its name only when it is whole: everything is written and
//! synced under a name that ends in `.part`, and what a crash leaves there goes at the next save.

use std::fs::File;
use std::path::{Path, PathBuf};

use safetensors::tensor::Dtype;

use crate::error::{Result, TrainError, at};
use crate::tensor_file::{Planned, TensorWriter};

pub(crate) const MODEL_FILE: &str = "model.safetensors";
pub(crate) const MOMENTS_FILE: &str = "moments.safetensors";
pub(crate) const STATE_FILE: &str = "state.json";

/// What the moments' names end with, and which part of a parameter each is.
pub(crate) const MOMENTS: [(&str, usize); 2] = [(".m", 1), (".v", 2)];

/// Ends the names of folders that do not count.
const PART: &str = ".part";

/// One parameter's numbers: value, first and second moment.
pub(crate) struct Content {
    pub(crate) path: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) parts: [Vec<f32>; 3],
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
pub(crate) fn write(whole: &Path, contents: &[Content], state_json: &[u8]) -> Result<u64> {
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

fn fill(part: &Path, contents: &[Content], state_json: &[u8]) -> Result<()> {
    std::fs::create_dir(part).map_err(at(part))?;
    write_tensors(&part.join(MODEL_FILE), contents, &[("", 0)])?;
    write_tensors(&part.join(MOMENTS_FILE), contents, &MOMENTS)?;
    let path = part.join(STATE_FILE);
    std::fs::write(&path, state_json).map_err(at(&path))?;
    sync(&path)?;
    sync(part)
}

/// Writes one part of every parameter, or two, each under the parameter's path and an ending.
fn write_tensors(path: &Path, contents: &[Content], parts: &[(&str, usize)]) -> Result<()> {
    let all = || contents.iter().flat_map(|content| parts.iter().map(move |part| (content, part)));
    let planned: Vec<Planned> = all()
        .map(|(content, (ending, _))| Planned {
            name: format!("{}{ending}", content.path),
            shape: content.shape.clone(),
        })
        .collect();
    let mut writer = TensorWriter::begin(path, Dtype::F32, &planned)?;
    for (content, (_, part)) in all() {
        writer.write_numbers(&content.parts[*part])?;
    }
    writer.finish().map(drop)
}
