//! Checkpoints: safetensors by path and a `state.json`, whole or not at all.
//!
//! The digest covers canonical content only: for each parameter in path order its path, shape, values
//! and both moments as little-endian f32, then the state's JSON. Not names, times or folders.
//!
//! Both ways go tensor by tensor, hashed on the way, so that no second copy of a model is in memory. What
//! is saved while training goes on is a [`TrainerCopy`].

use std::path::Path;

use burn::tensor::{Tensor, TensorData};
use hm_domain::checkpoint::{CheckpointState, folder_name, folder_stem};
use hm_domain::id::Digest;
use hm_domain::spec::ModelSpec;

use crate::checkpoint_folder::{
    self, MODEL_FILE, MOMENTS, MOMENTS_FILE, PartFolder, STATE_FILE, TensorFiles,
};
use crate::content_digest::{CHECKPOINT, ContentDigest};
use crate::error::{Result, TrainError, at};
use crate::parameters::{self, Parameter, Parameters, rows_and_columns};
use crate::tensor_file::{LITTLE_ENDIAN_NUMBERS, TensorFile, TensorWriter, little_endian};
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

impl Trainer {
    /// Saves a checkpoint under `parent`, which is made if it is not there.
    ///
    /// On any error every checkpoint that was whole is whole still. One of the same content that is
    /// there already is kept if it is whole, and replaced if it is damaged.
    ///
    /// # Errors
    /// [`TrainError::WeightsNotFinite`] where a weight or a moment is NaN or infinite: no run could go
    /// on from there. Others where the disk or the device fails.
    pub fn save(&self, parent: &Path, state: &CheckpointState) -> Result<SavedCheckpoint> {
        save(&self.model, parent, state, |out| self.write(out))
    }

    /// The digest that a checkpoint with this state would have now. Nothing is written.
    ///
    /// # Errors
    /// As [`Trainer::save`], of weights and devices.
    pub fn content_digest(&self, state: &CheckpointState) -> Result<Digest> {
        let mut writing = Writing { files: None, digest: ContentDigest::new(CHECKPOINT) };
        self.write(&mut writing)?;
        Ok(writing.ended_with(state).1)
    }

    fn write(&self, out: &mut Writing) -> Result<()> {
        self.team.filled().on_first(|replica| {
            let ops = &replica.decoder.ops;
            let numbers = |tensor: &Tensor<2>, out: &mut dyn FnMut(&[f32]) -> Result<()>| {
                ops.numbers(tensor, out).map_err(|error| self.failed(&error))?
            };
            let mut parameters = replica.parameters().iter();
            parameters.try_for_each(|(path, parameter)| out.parameter(path, parameter, &numbers))
        })
    }

    /// Loads a checkpoint whose digest is on record. On any error nothing of the trainer has changed.
    pub fn load(&mut self, folder: &Path, expected: Digest) -> Result<CheckpointState> {
        let mut parameters = Parameters::new();
        let (state_json, found) = self.team.on_first(|replica| {
            read(&self.model, folder, &mut |path, shape, parts| {
                let size = rows_and_columns(&shape);
                let tensor =
                    |part| Tensor::from_data(TensorData::new(part, size), replica.device());
                let [value, first_moment, second_moment] = parts.map(tensor);
                parameters.insert(path, Parameter { shape, value, first_moment, second_moment });
            })
        })?;
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
        self.team.take(parameters);
        self.updates = state.updates;
        Ok(state)
    }

    /// Whether a folder holds the checkpoint of this digest, whole.
    pub fn verify(&self, folder: &Path, expected: Digest) -> Result<()> {
        verify_checkpoint(&self.model, folder, expected)
    }
}

/// A checkpoint on its way into its digest and, where there are any, its files.
pub(crate) struct Writing {
    files: Option<TensorFiles>,
    digest: ContentDigest,
}

/// Hands a tensor's numbers on.
type Numbers<'a> = &'a dyn Fn(&Tensor<2>, &mut dyn FnMut(&[f32]) -> Result<()>) -> Result<()>;

impl Writing {
    /// Writes and hashes the next parameter in order of path.
    pub(crate) fn parameter(
        &mut self,
        path: &str,
        parameter: &Parameter,
        numbers: Numbers<'_>,
    ) -> Result<()> {
        let Writing { files, digest } = self;
        let (model, mut moments) = match files {
            Some(TensorFiles { model, moments }) => (Some(model), Some(moments)),
            None => (None, None),
        };
        digest.parameter(path, &parameter.shape);
        let [first, second] = MOMENTS.map(|ending| format!("{path}{ending}"));
        let mut write = |name: &str, tensor: &Tensor<2>, mut file: Option<&mut TensorWriter>| {
            numbers(tensor, &mut |numbers| write_finite(name, numbers, file.as_deref_mut(), digest))
        };
        write(path, &parameter.value, model)?;
        write(&first, &parameter.first_moment, moments.as_deref_mut())?;
        write(&second, &parameter.second_moment, moments)
    }

    /// Ends with what a checkpoint holds beside the tensors: its files, the digest of all, and that as JSON.
    fn ended_with(mut self, state: &CheckpointState) -> (Option<TensorFiles>, Digest, Vec<u8>) {
        let state_json = serde_json::to_vec(state).expect("a state is plain data");
        self.digest.bytes(&state_json);
        (self.files, self.digest.finish(), state_json)
    }
}

/// Saves under `parent` the state and the parameters that `write` hands over: see [`Trainer::save`].
pub(crate) fn save(
    model: &ModelSpec,
    parent: &Path,
    state: &CheckpointState,
    write: impl FnOnce(&mut Writing) -> Result<()> + Send,
) -> Result<SavedCheckpoint> {
    std::fs::create_dir_all(parent).map_err(at(parent))?;
    checkpoint_folder::remove_leftovers(parent)?;
    let stem = folder_stem(state.attempt, state.next_step);
    let part = PartFolder::begin(parent, &stem)?;
    let files = part.tensor_files(&parameters::shapes(model))?;
    let mut writing = Writing { files: Some(files), digest: ContentDigest::new(CHECKPOINT) };
    write(&mut writing)?;
    let (files, digest, state_json) = writing.ended_with(state);
    let files = files.expect("they were opened");
    let folder = folder_name(state.attempt, state.next_step, &digest);
    let whole = parent.join(&folder);
    let same = |found: (Vec<u8>, Digest)| found.1 == digest;
    let bytes = if whole.is_dir() && read(model, &whole, &mut |_, _, _| ()).is_ok_and(same) {
        checkpoint_folder::bytes_on_disk(&whole)?
    } else {
        part.install(files, &state_json, &whole)?
    };
    Ok(SavedCheckpoint { folder, digest, bytes })
}

/// Whether a folder holds the checkpoint of this digest of such a model, whole.
///
/// # Errors
/// When it does not, or cannot be read.
pub fn verify_checkpoint(model: &ModelSpec, folder: &Path, expected: Digest) -> Result<()> {
    let (_, found) = read(model, folder, &mut |_, _, _| {})?;
    if found == expected {
        return Ok(());
    }
    Err(TrainError::Digest { folder: folder.to_owned(), found, expected })
}

/// Reads a folder that must hold this model's tensors and no others, each byte once. `each` is
/// given every parameter's path, shape, values and moments; what comes back is the state's JSON and
/// the digest of all that was read.
fn read(
    model: &ModelSpec,
    folder: &Path,
    each: &mut dyn FnMut(String, Vec<usize>, [Vec<f32>; 3]),
) -> Result<(Vec<u8>, Digest)> {
    let path = folder.join(STATE_FILE);
    let state_json = std::fs::read(&path).map_err(at(&path))?;
    let shapes = parameters::shapes(model);
    let weights = TensorFile::open(&folder.join(MODEL_FILE))?;
    weights.expect_count(shapes.len())?;
    let moments = TensorFile::open(&folder.join(MOMENTS_FILE))?;
    moments.expect_count(2 * shapes.len())?;
    let mut digest = ContentDigest::new(CHECKPOINT);
    for (path, shape) in shapes {
        digest.parameter(&path, &shape);
        let [first, second] = MOMENTS.map(|ending| format!("{path}{ending}"));
        let parts = [
            weights.numbers(&path, &shape, &mut |bytes| digest.bytes(bytes))?,
            moments.numbers(&first, &shape, &mut |bytes| digest.bytes(bytes))?,
            moments.numbers(&second, &shape, &mut |bytes| digest.bytes(bytes))?,
        ];
        each(path, shape, parts);
    }
    digest.bytes(&state_json);
    Ok((state_json, digest.finish()))
}

/// Writes and hashes numbers, while they are in the processor's cache, that are all finite.
fn write_finite(
    name: &str,
    numbers: &[f32],
    mut file: Option<&mut TensorWriter>,
    digest: &mut ContentDigest,
) -> Result<()> {
    for piece in numbers.chunks(LITTLE_ENDIAN_NUMBERS) {
        // All of them, without a way out: several at once.
        if !piece.iter().fold(true, |finite, number| finite & number.is_finite()) {
            return Err(TrainError::WeightsNotFinite { path: name.to_owned() });
        }
        little_endian(piece, &mut |bytes| {
            digest.bytes(bytes);
            file.as_mut().map_or(Ok(()), |file| file.write(bytes))
        })?;
    }
    Ok(())
}
