//! Checkpoints: safetensors by path and a `state.json`, whole or not at all.
//!
//! The digest covers canonical content only: for each parameter in path order its path, shape, values
//! and both moments as little-endian f32, then the state's JSON. Not names, times or folders.

use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use hm_domain::checkpoint::CheckpointState;
use hm_domain::id::Digest;
use safetensors::SafeTensors;
use safetensors::tensor::Dtype;

use crate::checkpoint_folder::{self, Bytes, MODEL_FILE, MOMENTS_FILE, STATE_FILE};
use crate::content_digest::{CHECKPOINT, ContentDigest};
use crate::error::{Result, TrainError, at};
use crate::ops::{DeviceFailed, read};
use crate::parameters::{self, Parameter, rows_and_columns};
use crate::trainer::Trainer;

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

fn little_endian(tensor: &Tensor<2>) -> std::result::Result<Vec<u8>, DeviceFailed> {
    Ok(read(tensor.clone())?.into_iter().flat_map(f32::to_le_bytes).collect())
}

fn digest(contents: &[(String, Bytes)], state_json: &[u8]) -> Digest {
    let mut digest = ContentDigest::new(CHECKPOINT);
    for (path, bytes) in contents {
        digest.parameter(path, &bytes.shape);
        bytes.parts.iter().for_each(|part| digest.bytes(part));
    }
    digest.bytes(state_json);
    digest.finish()
}

/// A checkpoint as it was read: its shapes are the model's, its digest is that of its content.
struct Read {
    contents: Vec<(String, Bytes)>,
    state_json: Vec<u8>,
    digest: Digest,
}

impl Trainer {
    /// Saves a checkpoint under `parent`, which is made if it is not there.
    ///
    /// On any error every checkpoint that was whole is whole still. One of the same content that is
    /// there already is kept if it is whole, and replaced if it is damaged.
    pub fn save(&self, parent: &Path, state: &CheckpointState) -> Result<SavedCheckpoint> {
        let contents: Vec<(String, Bytes)> = self
            .parameters()
            .iter()
            .map(|(path, p)| {
                let [value, first, second] =
                    [&p.value, &p.first_moment, &p.second_moment].map(little_endian);
                let parts = [value?, first?, second?];
                Ok((path.clone(), Bytes { shape: p.shape.clone(), parts }))
            })
            .collect::<std::result::Result<_, DeviceFailed>>()
            .map_err(|error| self.failed(&error))?;
        let state_json = serde_json::to_vec(state).expect("a state is plain data");
        let digest = digest(&contents, &state_json);
        let folder = format!("a{:03}-s{:010}-{}", state.attempt, state.next_step, digest.short());
        let whole = parent.join(&folder);
        std::fs::create_dir_all(parent).map_err(at(parent))?;
        checkpoint_folder::remove_leftovers(parent)?;
        let bytes = if whole.is_dir() && self.read(&whole).is_ok_and(|read| read.digest == digest) {
            checkpoint_folder::bytes_on_disk(&whole)?
        } else {
            checkpoint_folder::write(&whole, &contents, &state_json)?
        };
        Ok(SavedCheckpoint { folder, digest, bytes })
    }

    /// Loads a checkpoint whose digest is on record. On any error nothing of the trainer has changed.
    pub fn load(&mut self, folder: &Path, expected: Digest) -> Result<CheckpointState> {
        let Read { contents, state_json, digest: found } = self.read(folder)?;
        if found != expected {
            return Err(TrainError::Digest { folder: folder.to_owned(), found, expected });
        }
        let broken = |reason: String| TrainError::Broken { path: folder.join(STATE_FILE), reason };
        let state: CheckpointState =
            serde_json::from_slice(&state_json).map_err(|error| broken(error.to_string()))?;
        if state.loss_weights.len() != self.domain_count {
            let (held, run) = (state.loss_weights.len(), self.domain_count);
            return Err(broken(format!("is of a run with {held} domains, this run has {run}")));
        }
        for (path, bytes) in contents {
            let parameter = of_bytes(bytes, self.first().device());
            self.set_parameter(path, parameter);
        }
        self.updates = state.updates;
        Ok(state)
    }

    /// Reads a folder that must hold this model's tensors and no others.
    fn read(&self, folder: &Path) -> Result<Read> {
        let read = |name: &str| {
            let path = folder.join(name);
            std::fs::read(&path).map_err(at(path))
        };
        let (model, moments, state_json) =
            (read(MODEL_FILE)?, read(MOMENTS_FILE)?, read(STATE_FILE)?);
        let shapes = parameters::shapes(&self.model);
        let model = TensorFile::open(folder, MODEL_FILE, &model, shapes.len())?;
        let moments = TensorFile::open(folder, MOMENTS_FILE, &moments, 2 * shapes.len())?;
        let mut contents = Vec::new();
        for (path, shape) in shapes {
            let parts = [
                model.tensor(&path, &shape)?,
                moments.tensor(&format!("{path}.m"), &shape)?,
                moments.tensor(&format!("{path}.v"), &shape)?,
            ];
            contents.push((path, Bytes { shape, parts }));
        }
        let digest = digest(&contents, &state_json);
        Ok(Read { contents, state_json, digest })
    }
}

/// A parameter of little-endian f32.
fn of_bytes(Bytes { shape, parts }: Bytes, device: &Device) -> Parameter {
    let size = rows_and_columns(&shape);
    let [value, first_moment, second_moment] = parts.map(|bytes| {
        let four = |four: &[u8]| f32::from_le_bytes(four.try_into().expect("four bytes"));
        let values: Vec<f32> = bytes.chunks_exact(4).map(four).collect();
        Tensor::<2>::from_data(TensorData::new(values, size), device)
    });
    Parameter { shape, value, first_moment, second_moment }
}

/// One safetensors file of a checkpoint.
struct TensorFile<'a> {
    folder: &'a Path,
    name: &'static str,
    tensors: SafeTensors<'a>,
}

impl<'a> TensorFile<'a> {
    fn open(
        folder: &'a Path,
        name: &'static str,
        bytes: &'a [u8],
        expected: usize,
    ) -> Result<TensorFile<'a>> {
        let broken = |reason: String| TrainError::Broken { path: folder.join(name), reason };
        let tensors = SafeTensors::deserialize(bytes).map_err(|error| broken(error.to_string()))?;
        let found = tensors.len();
        if found != expected {
            let reason = format!("holds {found} tensors, the model wants {expected}");
            return Err(broken(reason));
        }
        Ok(TensorFile { folder, name, tensors })
    }

    /// Bytes of the tensor `key`, which must have this shape.
    fn tensor(&self, key: &str, shape: &[usize]) -> Result<Vec<u8>> {
        let broken =
            |reason: String| TrainError::Broken { path: self.folder.join(self.name), reason };
        let view = self.tensors.tensor(key).map_err(|error| broken(format!("{key}: {error}")))?;
        if view.dtype() != Dtype::F32 || view.shape() != shape {
            let (dtype, found) = (view.dtype(), view.shape());
            let reason = format!("{key} is {dtype:?} {found:?}, the model wants F32 {shape:?}");
            return Err(broken(reason));
        }
        Ok(view.data().to_vec())
    }
}
