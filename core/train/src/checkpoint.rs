//! Checkpoints: safetensors by path and a `state.json`, whole or not at all.
//!
//! The digest covers canonical content only: for each parameter in path order its path, shape, values
//! and both moments as little-endian f32, then the state's JSON. Not names, times or folders.

use std::path::Path;

use burn::tensor::{Tensor, TensorData};
use hm_domain::checkpoint::CheckpointState;
use hm_domain::id::Digest;

use crate::checkpoint_folder::{self, Content, MODEL_FILE, MOMENTS, MOMENTS_FILE, STATE_FILE};
use crate::content_digest::{CHECKPOINT, ContentDigest};
use crate::error::{Result, TrainError, at};
use crate::ops::{DeviceFailed, read};
use crate::parameters::{self, Parameter, rows_and_columns};
use crate::tensor_file::TensorFile;
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

fn digest(contents: &[Content], state_json: &[u8]) -> Digest {
    let mut digest = ContentDigest::new(CHECKPOINT);
    for Content { path, shape, parts } in contents {
        digest.parameter(path, shape);
        parts.iter().for_each(|part| digest.numbers(part));
    }
    digest.bytes(state_json);
    digest.finish()
}

/// A checkpoint as it was read: its shapes are the model's, its digest is that of its content.
struct Read {
    contents: Vec<Content>,
    state_json: Vec<u8>,
    digest: Digest,
}

impl Trainer {
    /// Saves a checkpoint under `parent`, which is made if it is not there.
    ///
    /// On any error every checkpoint that was whole is whole still. One of the same content that is
    /// there already is kept if it is whole, and replaced if it is damaged.
    pub fn save(&self, parent: &Path, state: &CheckpointState) -> Result<SavedCheckpoint> {
        let numbers = |tensor: &Tensor<2>| read(tensor.clone());
        let contents: Vec<Content> = self
            .parameters()
            .iter()
            .map(|(path, p)| {
                let [value, first, second] =
                    [&p.value, &p.first_moment, &p.second_moment].map(numbers);
                let parts = [value?, first?, second?];
                Ok(Content { path: path.clone(), shape: p.shape.clone(), parts })
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
        for Content { path, shape, parts } in contents {
            let (size, device) = (rows_and_columns(&shape), self.first().device());
            let [value, first_moment, second_moment] =
                parts.map(|part| Tensor::from_data(TensorData::new(part, size), device));
            self.set_parameter(path, Parameter { shape, value, first_moment, second_moment });
        }
        self.updates = state.updates;
        Ok(state)
    }

    /// Whether a folder holds the checkpoint of this digest, whole.
    pub fn verify(&self, folder: &Path, expected: Digest) -> Result<()> {
        match self.read(folder)?.digest {
            found if found == expected => Ok(()),
            found => Err(TrainError::Digest { folder: folder.to_owned(), found, expected }),
        }
    }

    /// Reads a folder that must hold this model's tensors and no others, each byte once.
    fn read(&self, folder: &Path) -> Result<Read> {
        let path = folder.join(STATE_FILE);
        let state_json = std::fs::read(&path).map_err(at(&path))?;
        let shapes = parameters::shapes(&self.model);
        let model = TensorFile::open(&folder.join(MODEL_FILE))?;
        model.expect_count(shapes.len())?;
        let moments = TensorFile::open(&folder.join(MOMENTS_FILE))?;
        moments.expect_count(2 * shapes.len())?;
        let (mut digest, mut contents) = (ContentDigest::new(CHECKPOINT), Vec::new());
        for (path, shape) in shapes {
            digest.parameter(&path, &shape);
            let [first, second] = MOMENTS.map(|(ending, _)| format!("{path}{ending}"));
            let parts = [
                model.numbers(&path, &shape, &mut |bytes| digest.bytes(bytes))?,
                moments.numbers(&first, &shape, &mut |bytes| digest.bytes(bytes))?,
                moments.numbers(&second, &shape, &mut |bytes| digest.bytes(bytes))?,
            ];
            contents.push(Content { path, shape, parts });
        }
        digest.bytes(&state_json);
        Ok(Read { contents, state_json, digest: digest.finish() })
    }
}
