//! Checkpoints: safetensors by path and a `state.json`, whole or not at all.
//!
//! The digest covers canonical content only: for each parameter in path order its path, shape, values
//! and both moments as little-endian f32, then the state's JSON. Not names, times or folders.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use burn::tensor::{Tensor, TensorData};
use hm_domain::checkpoint::CheckpointState;
use hm_domain::id::Digest;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use sha2::{Digest as _, Sha256};

use crate::error::{Result, TrainError, at};
use crate::head::values;
use crate::parameters::{self, Parameter, Parameters, rows_and_columns};
use crate::trainer::Trainer;

const MODEL_FILE: &str = "model.safetensors";
const MOMENTS_FILE: &str = "moments.safetensors";
const STATE_FILE: &str = "state.json";

/// A checkpoint on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedCheckpoint {
    /// Folder under the run's checkpoint folder.
    pub folder: String,
    /// Over canonical content.
    pub digest: Digest,
    /// Bytes on disk.
    pub bytes: u64,
}

/// One parameter's bytes: value, first and second moment.
struct Bytes {
    shape: Vec<usize>,
    parts: [Vec<u8>; 3],
}

fn little_endian(tensor: &Tensor<2>) -> Vec<u8> {
    values(tensor.clone()).into_iter().flat_map(f32::to_le_bytes).collect()
}

fn digest(contents: &[(String, Bytes)], state_json: &[u8]) -> Digest {
    let mut hash = Sha256::new();
    hash.update(b"heurimentor.checkpoint.v1\0");
    for (path, bytes) in contents {
        hash.update((path.len() as u64).to_le_bytes());
        hash.update(path);
        hash.update((bytes.shape.len() as u64).to_le_bytes());
        bytes.shape.iter().for_each(|&size| hash.update((size as u64).to_le_bytes()));
        bytes.parts.iter().for_each(|part| hash.update(part));
    }
    hash.update(state_json);
    Digest(hash.finalize().into())
}

impl Trainer {
    /// Saves a checkpoint under `parent`, which is made if it is not there.
    pub fn save(&self, parent: &Path, state: &CheckpointState) -> Result<SavedCheckpoint> {
        let contents: Vec<(String, Bytes)> = self
            .parameters
            .iter()
            .map(|(path, p)| {
                let parts = [&p.value, &p.first_moment, &p.second_moment].map(little_endian);
                (path.clone(), Bytes { shape: p.shape.clone(), parts })
            })
            .collect();
        let state_json = serde_json::to_vec(state).expect("a state is plain data");
        let digest = digest(&contents, &state_json);
        let folder = format!("a{:03}-s{:010}-{}", state.attempt, state.next_step, digest.short());
        let (part, whole) = (parent.join(format!("{folder}.part")), parent.join(&folder));
        let written = write_folder(&part, &contents, &state_json).and_then(|bytes| {
            if whole.exists() {
                // Of the same content, since the digest is in its name; maybe damaged since.
                std::fs::remove_dir_all(&whole).map_err(at(&whole))?;
            }
            std::fs::rename(&part, &whole).map_err(at(&whole))?;
            File::open(parent).and_then(|folder| folder.sync_all()).map_err(at(parent))?;
            Ok(bytes)
        });
        match written {
            Ok(bytes) => Ok(SavedCheckpoint { folder, digest, bytes }),
            Err(error) => {
                // What is left is half a folder that no event names; a failure to remove it adds nothing.
                let _ = std::fs::remove_dir_all(&part);
                Err(error)
            }
        }
    }

    /// Loads a checkpoint whose digest is on record. On any error nothing of the trainer has changed.
    pub fn load(&mut self, folder: &Path, expected: Digest) -> Result<CheckpointState> {
        let read = |name: &str| {
            let path = folder.join(name);
            std::fs::read(&path).map_err(at(path))
        };
        let (model, moments, state_json) =
            (read(MODEL_FILE)?, read(MOMENTS_FILE)?, read(STATE_FILE)?);
        let broken =
            |name: &str, reason: String| TrainError::Broken { path: folder.join(name), reason };
        let model = SafeTensors::deserialize(&model)
            .map_err(|error| broken(MODEL_FILE, error.to_string()))?;
        let moments = SafeTensors::deserialize(&moments)
            .map_err(|error| broken(MOMENTS_FILE, error.to_string()))?;
        let mut contents = Vec::new();
        for (path, shape) in parameters::shapes(&self.model) {
            let tensor = |file: &SafeTensors<'_>, name: &str, key: String| -> Result<Vec<u8>> {
                let view =
                    file.tensor(&key).map_err(|error| broken(name, format!("{key}: {error}")))?;
                if view.dtype() != Dtype::F32 || view.shape() != shape {
                    let (dtype, found) = (view.dtype(), view.shape());
                    let reason =
                        format!("{key} is {dtype:?} {found:?}, the model has F32 {shape:?}");
                    return Err(broken(name, reason));
                }
                Ok(view.data().to_vec())
            };
            let parts = [
                tensor(&model, MODEL_FILE, path.clone())?,
                tensor(&moments, MOMENTS_FILE, format!("{path}.m"))?,
                tensor(&moments, MOMENTS_FILE, format!("{path}.v"))?,
            ];
            contents.push((path, Bytes { shape, parts }));
        }
        let found = digest(&contents, &state_json);
        if found != expected {
            return Err(TrainError::Digest { found, expected });
        }
        let state: CheckpointState = serde_json::from_slice(&state_json)
            .map_err(|error| broken(STATE_FILE, error.to_string()))?;
        self.parameters = self.of_bytes(contents);
        self.updates = state.updates;
        Ok(state)
    }

    fn of_bytes(&self, contents: Vec<(String, Bytes)>) -> Parameters {
        contents
            .into_iter()
            .map(|(path, Bytes { shape, parts })| {
                let size = rows_and_columns(&shape);
                let [value, first_moment, second_moment] = parts.map(|bytes| {
                    let four =
                        |four: &[u8]| f32::from_le_bytes(four.try_into().expect("four bytes"));
                    let values: Vec<f32> = bytes.chunks_exact(4).map(four).collect();
                    Tensor::<2>::from_data(TensorData::new(values, size), &self.device)
                });
                (path, Parameter { shape, value, first_moment, second_moment })
            })
            .collect()
    }
}

fn write_folder(part: &Path, contents: &[(String, Bytes)], state_json: &[u8]) -> Result<u64> {
    if part.exists() {
        std::fs::remove_dir_all(part).map_err(at(part))?;
    }
    std::fs::create_dir_all(part).map_err(at(part))?;
    let model = contents.iter().map(|(path, bytes)| (path.clone(), &bytes.shape, &bytes.parts[0]));
    write_tensors(&part.join(MODEL_FILE), model.collect())?;
    let moments = contents.iter().flat_map(|(path, bytes)| {
        [(".m", 1), (".v", 2)]
            .map(|(ending, index)| (format!("{path}{ending}"), &bytes.shape, &bytes.parts[index]))
    });
    write_tensors(&part.join(MOMENTS_FILE), moments.collect())?;
    let path = part.join(STATE_FILE);
    std::fs::write(&path, state_json).map_err(at(&path))?;
    let mut bytes = 0;
    for name in [MODEL_FILE, MOMENTS_FILE, STATE_FILE] {
        let path: PathBuf = part.join(name);
        let file = File::open(&path).map_err(at(&path))?;
        file.sync_all().map_err(at(&path))?;
        bytes += file.metadata().map_err(at(&path))?.len();
    }
    File::open(part).and_then(|folder| folder.sync_all()).map_err(at(part))?;
    Ok(bytes)
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
