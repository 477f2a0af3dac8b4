//! What can go wrong with training, by what the caller can do.

use std::path::PathBuf;

use hm_domain::id::Digest;
use hm_domain::precision::Precision;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The model's shape cannot be built.
    #[error(transparent)]
    Shape(#[from] hm_domain::settings::Faults),
    /// The device asked for is not there.
    #[error("{0}")]
    Device(String),
    /// The device's memory is full. What was being computed is lost; checkpoints are not.
    #[error(
        "{device} has no memory left: start another run with a smaller \
         training.micro_batch_sequences (now {micro_batch_sequences}), with \
         training.recompute_blocks, or in training.precision bf16"
    )]
    OutOfMemory {
        /// The device.
        device: String,
        /// Sequences in memory at once.
        micro_batch_sequences: usize,
    },
    /// Fewer sequences in a step than devices that share it: some would have nothing to do.
    #[error(
        "{devices} devices share each step, and the smallest step draws {sequences}: name at most \
         {sequences} devices with --device, or raise {key} to at least {devices}"
    )]
    IdleDevices {
        /// Devices that share a step.
        devices: usize,
        /// Sequences of the smallest step.
        sequences: u32,
        /// The run file's key of that number.
        key: &'static str,
    },
    /// A precision that the device has not.
    #[error("training.precision is {}: the {device} computes in f32 alone; set f32, or train on a GPU with --device cuda", precision.name())]
    Precision {
        /// What was asked for.
        precision: Precision,
        /// The device.
        device: String,
    },
    /// A batch that does not fit the model.
    #[error("sequence {index} has {found} tokens, the model wants {expected}")]
    Sequence {
        /// Position in the batch.
        index: usize,
        /// Tokens found.
        found: usize,
        /// Tokens wanted: the sequence length and one.
        expected: usize,
    },
    /// A sequence to continue that is longer than the model's, or empty.
    #[error("{found} tokens: the model's sequence holds 1 to {expected}")]
    NoRoom {
        /// Tokens there would be.
        found: usize,
        /// Tokens a sequence holds.
        expected: usize,
    },
    /// A token id that the embedding has no row for.
    #[error("token id {id} is not below the vocabulary of {vocabulary}")]
    Token {
        /// The id.
        id: u32,
        /// Rows of the embedding.
        vocabulary: u32,
    },
    /// A sequence of a domain that the run has not.
    #[error("sequence {index} is of domain {domain}, the run has {domain_count}, numbered from 0")]
    Domain {
        /// Position in the batch.
        index: usize,
        /// Its domain.
        domain: u32,
        /// Domains of the run.
        domain_count: usize,
    },
    /// A step without a sequence.
    #[error("the batch has 0 sequences, a step needs at least 1")]
    EmptyBatch,
    /// A knob that no step can be trained under. Nothing was changed.
    #[error("{knob} is {value}: {must}")]
    Knob {
        /// Which.
        knob: String,
        /// Its value.
        value: String,
        /// What it must be.
        must: String,
    },
    /// Weights or moments from which no run could go on. Nothing was saved.
    #[error("{path} holds a number that is not finite: such weights are not saved")]
    WeightsNotFinite {
        /// Path of the parameter; a moment's ends with `.m` or `.v`.
        path: String,
    },
    /// A file cannot be read or written.
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why. No source of this error, whose sentence says it already.
        reason: std::io::Error,
    },
    /// A checkpoint that is not what it should be. Nothing was changed.
    #[error("{path}: {reason}")]
    Broken {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A `config.json` that asks for what is not done here. Nothing was changed.
    #[error("{path}: {key} is {value}: {must}")]
    Config {
        /// The file.
        path: PathBuf,
        /// Its key.
        key: String,
        /// The key's value, as JSON.
        value: String,
        /// What it must be, or what to do.
        must: String,
    },
    /// A type of weights that is not written.
    #[error("weights cannot be exported as `{0}`: name f32, bf16 or f16")]
    Element(String),
    /// A checkpoint with other content than its event names. Nothing was changed.
    #[error("{folder}: the checkpoint has digest {found}, its event names {expected}")]
    Digest {
        /// The checkpoint's folder.
        folder: PathBuf,
        /// Digest of what is on disk.
        found: Digest,
        /// Digest on record.
        expected: Digest,
    },
}

impl TrainError {
    /// Whether it says that what lies in `folder` is damaged or cannot be read.
    pub fn is_of(&self, folder: &std::path::Path) -> bool {
        match self {
            TrainError::File { path, .. } | TrainError::Broken { path, .. } => {
                path.starts_with(folder)
            }
            TrainError::Digest { folder: found, .. } => found == folder,
            _ => false,
        }
    }
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, TrainError>;

/// Names the file in an IO error.
pub(crate) fn at(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> TrainError {
    let path = path.into();
    move |reason| TrainError::File { path, reason }
}
