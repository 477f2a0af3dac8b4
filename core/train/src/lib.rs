//! Trains Aquila2 decoders: forward, backward, `AdamW` and checkpoints. The only crate that knows burn.
//!
//! Knows nothing of files of text, of policies or of the log: a batch and knobs in, sums per domain out.

mod admission;
mod block;
mod checkpoint;
mod checkpoint_folder;
mod cpu;
mod device;
mod error;
mod gradients;
mod logits;
mod model;
mod ops;
mod parameters;
mod presets;
mod trainer;

pub use checkpoint::SavedCheckpoint;
pub use device::{DeviceChoice, Fingerprint, fingerprint};
pub use error::{Result, TrainError};
pub use presets::{PRESETS, padded_vocabulary, preset};
pub use trainer::Trainer;

#[cfg(test)]
mod checkpoint_tests;
#[cfg(test)]
mod family_test;
#[cfg(test)]
mod hashed;
#[cfg(test)]
mod pytorch_test;
#[cfg(test)]
mod tests;
