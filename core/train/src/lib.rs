//! Trains Aquila2 decoders: forward, backward, `AdamW` and checkpoints. The only crate that knows burn.
//!
//! Knows nothing of files of text, of policies or of the log: a batch and knobs in, sums per domain out.

mod admission;
mod allocator;
mod block;
mod checkpoint;
mod checkpoint_folder;
mod collective;
mod content_digest;
mod cpu;
mod device;
mod device_thread;
mod error;
mod generate;
mod gradients;
mod hugging_face;
mod initial_weights;
mod logits;
mod micro_batches;
mod model;
mod ops;
mod parameters;
mod plan;
mod presets;
pub mod profile;
mod replica;
mod split_mix;
mod team;
mod tensor_file;
mod trainer;
mod trainer_copy;
mod utilization;
mod weight_state;
mod whole_folder;

pub use allocator::keep_freed_memory;
pub use checkpoint::{SavedCheckpoint, verify_checkpoint};
pub use checkpoint_folder::checkpoints_in;
pub use device::{DeviceChoice, Devices, Fingerprint, fingerprint};
pub use error::{Result, TrainError};
pub use generate::{BadChoice, Choice, Chooser, Generator};
pub use hugging_face::{
    ElementType, ExportChoice, ExportSource, Exported, TokenizerFiles, export, import,
};
pub use initial_weights::InitialWeights;
pub use plan::{MemoryPlan, flops_per_token, largest_micro_batch};
pub use presets::{PRESETS, padded_vocabulary, plain, preset};
pub use trainer::Trainer;
pub use trainer_copy::TrainerCopy;
pub use utilization::{Peak, model_flops_utilization};

#[cfg(test)]
mod checkpoint_tests;
#[cfg(test)]
mod family_test;
#[cfg(test)]
mod hashed;
#[cfg(test)]
mod pytorch_test;
#[cfg(test)]
mod replica_tests;
#[cfg(test)]
mod tests;
