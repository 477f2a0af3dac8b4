//! Weights from and to Hugging Face folders: `config.json`, sharded safetensors, a tokenizer's files.
//!
//! Everything streams, so memory does not grow with the model. What a folder asks for beyond an Aquila2
//! decoder is refused by name; what is written is there whole or not at all.

mod config;
mod element;
mod export;
mod import;
mod shards;
mod source;
mod tokenizer_files;

pub use element::ElementType;
pub(crate) use element::f32_of;
pub use export::{ExportChoice, Exported, export};
pub use import::import;
pub use source::ExportSource;
pub use tokenizer_files::TokenizerFiles;

#[cfg(test)]
mod config_tests;
#[cfg(test)]
mod import_tests;
#[cfg(test)]
mod tests;

const CONFIG_FILE: &str = "config.json";
const INDEX_FILE: &str = "model.safetensors.index.json";
const MODEL_FILE: &str = "model.safetensors";
const TOKENIZER_FILE: &str = "tokenizer.json";
