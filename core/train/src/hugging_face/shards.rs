//! The tensors of a Hugging Face folder, in one safetensors file or in shards with an index.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use hm_domain::spec::ModelSpec;
use serde::Deserialize;

use super::element::ElementType;
use super::{INDEX_FILE, MODEL_FILE};
use crate::error::{Result, TrainError, at};
use crate::parameters;
use crate::tensor_file::{Place, TensorFile};

/// The index, as far as it matters.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// All shards of a folder, open.
pub(super) struct Shards {
    files: Vec<TensorFile>,
}

/// Where one parameter is.
pub(super) struct Found<'a> {
    pub(super) file: &'a TensorFile,
    pub(super) place: &'a Place,
    pub(super) element: ElementType,
}

impl Shards {
    /// Opens every file; with an index, files and index must say the same.
    pub(super) fn open(folder: &Path) -> Result<Shards> {
        let (whole, index) = (folder.join(MODEL_FILE), folder.join(INDEX_FILE));
        if whole.exists() && !index.exists() {
            return Ok(Shards { files: vec![TensorFile::open(&whole)?] });
        }
        if !index.exists() {
            let reason = format!(
                "holds neither {MODEL_FILE} nor {INDEX_FILE}; pickled weights (.bin) are not read: save them as safetensors"
            );
            return Err(TrainError::Broken { path: folder.to_owned(), reason });
        }
        let files = indexed(folder, &index)?;
        // transformers would take it and say nothing: a file left of an older save is then the model.
        if whole.exists() && !files.iter().any(|file| file.path() == whole) {
            let reason = format!(
                "lies beside shards that {INDEX_FILE} names: two sets of weights, of which one is \
                 meant; remove this file, or the index with its shards"
            );
            return Err(TrainError::Broken { path: whole, reason });
        }
        Ok(Shards { files })
    }

    /// Every parameter of `model` in order of path, its shape and type as they must be.
    ///
    /// # Errors
    /// Names the first tensor that is missing, not used, of another shape or of a type not read here.
    pub(super) fn parameters(&self, model: &ModelSpec) -> Result<BTreeMap<String, Found<'_>>> {
        let mut found = BTreeMap::new();
        for file in &self.files {
            for (name, place) in file.places().iter().filter(|(name, _)| !is_a_table(name)) {
                found.insert(name.as_str(), (file, place));
            }
        }
        // Nine a block, embedding, last norm and head: no list is made for a number of blocks that
        // no file has.
        let expected = 9 * u64::from(model.layers) + 3;
        let sentence = format!(
            "num_hidden_layers {} and the rest of {} want {expected} tensors, the files hold {}",
            model.layers,
            super::CONFIG_FILE,
            found.len()
        );
        if expected > 2 * (found.len() as u64) + 64 {
            return Err(self.broken(sentence));
        }
        let mut parameters = BTreeMap::new();
        for (name, shape) in parameters::shapes(model) {
            let Some((file, place)) = found.remove(name.as_str()) else {
                return Err(self.broken(format!("no tensor {name}: {sentence}")));
            };
            let element = checked(&name, file, place, &shape)?;
            parameters.insert(name, Found { file, place, element });
        }
        if let Some((name, (file, place))) = found.pop_first() {
            let shape = &place.shape;
            let reason = format!("{name} {shape:?} is no tensor of this model: {sentence}");
            return Err(TrainError::Broken { path: file.path().to_owned(), reason });
        }
        Ok(parameters)
    }

    fn broken(&self, reason: String) -> TrainError {
        let path = self.files.first().map(|file| file.path().to_owned()).unwrap_or_default();
        TrainError::Broken { path, reason }
    }
}

/// The files that an index names, which hold the tensors it says and no others.
fn indexed(folder: &Path, index: &Path) -> Result<Vec<TensorFile>> {
    let broken = |reason: String| TrainError::Broken { path: index.to_owned(), reason };
    let bytes = std::fs::read(index).map_err(at(index))?;
    let Index { weight_map } =
        serde_json::from_slice(&bytes).map_err(|error| broken(format!("is no index: {error}")))?;
    let mut files = BTreeMap::new();
    for name in weight_map.values().collect::<BTreeSet<_>>() {
        if name.contains(['/', '\\']) {
            return Err(broken(format!("names the file `{name}`, which is not in this folder")));
        }
        files.insert(name.as_str(), TensorFile::open(&folder.join(name))?);
    }
    for (tensor, name) in &weight_map {
        if !files[name.as_str()].places().contains_key(tensor) {
            let reason = format!("says that {tensor} is in {name}, which does not hold it");
            return Err(broken(reason));
        }
    }
    for (name, file) in &files {
        let elsewhere = |tensor: &&String| weight_map.get(*tensor).is_none_or(|said| said != name);
        if let Some(tensor) = file.places().keys().find(elsewhere) {
            let reason = format!("does not say that {tensor} is in {name}, but it is");
            return Err(broken(reason));
        }
    }
    Ok(files.into_values().collect())
}

/// Older folders hold the table of rotary frequencies, which `rope_theta` says already.
fn is_a_table(name: &str) -> bool {
    name.ends_with("rotary_emb.inv_freq")
}

fn checked(name: &str, file: &TensorFile, place: &Place, shape: &[usize]) -> Result<ElementType> {
    let broken = |reason: String| TrainError::Broken { path: file.path().to_owned(), reason };
    if place.shape != shape {
        let found = &place.shape;
        let reason = format!("{name} has shape {found:?}, {} wants {shape:?}", super::CONFIG_FILE);
        return Err(broken(reason));
    }
    ElementType::of(place.dtype).ok_or_else(|| {
        broken(format!("{name} is {}, only F32, BF16 and F16 are read", place.dtype))
    })
}
