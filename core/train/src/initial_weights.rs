//! Weights that runs start from: a folder with `model.safetensors` (f32, our paths), `weights.json` and,
//! where there was one, `tokenizer.json`. Made by an import, read by a run.
//!
//! Their digest is part of a run's spec, so that a run cannot go on from other weights.

use std::path::{Path, PathBuf};

use hm_domain::id::Digest;
use hm_domain::spec::ModelSpec;
use serde::{Deserialize, Serialize};

use crate::checkpoint_folder::MODEL_FILE;
use crate::content_digest::{ContentDigest, INITIAL_WEIGHTS};
use crate::error::{Result, TrainError, at};
use crate::parameters::{self, Parameters};
use crate::tensor_file::TensorFile;
use crate::trainer::Trainer;

pub(crate) const WEIGHTS_FILE: &str = "weights.json";
pub(crate) const TOKENIZER_FILE: &str = "tokenizer.json";

/// What `weights.json` says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Card {
    /// Shape of the model.
    pub(crate) model: ModelSpec,
    /// Of the weights.
    pub(crate) digest: Digest,
}

/// Weights that runs can start from.
#[derive(Clone, Debug, PartialEq)]
pub struct InitialWeights {
    /// Where they are.
    pub folder: PathBuf,
    /// Shape of the model. Norms' first values are not known, and stand as 1.
    pub model: ModelSpec,
    /// Of the weights, as recorded: checked when they are loaded.
    pub digest: Digest,
}

impl InitialWeights {
    /// Whether `folder` looks like one.
    pub fn are_in(folder: &Path) -> bool {
        folder.join(WEIGHTS_FILE).is_file()
    }

    /// Reads what the folder says of itself; no weights.
    pub fn read(folder: &Path) -> Result<InitialWeights> {
        let path = folder.join(WEIGHTS_FILE);
        let bytes = std::fs::read(&path).map_err(at(&path))?;
        let broken = |reason: String| TrainError::Broken { path: path.clone(), reason };
        let Card { model, digest } =
            serde_json::from_slice(&bytes).map_err(|error| broken(error.to_string()))?;
        model.checked()?;
        Ok(InitialWeights { folder: folder.to_owned(), model, digest })
    }

    /// The tokenizer they came with, if any.
    pub fn tokenizer(&self) -> Option<PathBuf> {
        Some(self.folder.join(TOKENIZER_FILE)).filter(|path| path.is_file())
    }
}

impl Trainer {
    /// Takes these weights in place of the first values; moments are zero, no update has been made.
    ///
    /// # Errors
    /// When they are damaged or do not fit the model. Nothing of the trainer has changed then.
    pub fn start_from(&mut self, weights: &InitialWeights) -> Result<()> {
        let path = weights.folder.join(MODEL_FILE);
        let file = TensorFile::open(&path)?;
        let shapes = parameters::shapes(&self.model);
        file.expect_count(shapes.len())?;
        let mut digest = ContentDigest::new(INITIAL_WEIGHTS);
        for (name, shape) in &shapes {
            digest.parameter(name, shape);
            file.pieces(file.place_of_f32(name, shape)?, &mut |piece| {
                digest.bytes(piece);
                Ok(())
            })?;
        }
        let (found, recorded) = (digest.finish(), weights.digest);
        if found != recorded {
            let reason = format!(
                "the weights have digest {found}, {WEIGHTS_FILE} says {recorded}: import them again"
            );
            return Err(TrainError::Broken { path, reason });
        }
        let mut parameters = Parameters::new();
        self.team.on_first(|replica| -> Result<()> {
            for (name, shape) in shapes {
                let values = file.numbers(&name, &shape, &mut |_| ())?;
                parameters.insert(name, parameters::of_values(shape, values, replica.device()));
            }
            Ok(())
        })?;
        self.team.take(parameters);
        self.updates = 0;
        Ok(())
    }
}
