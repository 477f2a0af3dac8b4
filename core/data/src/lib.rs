//! Corpus files in, token shards and domain-pure batches out. Knows nothing of training.

mod source;

mod corpus_file;
mod json_array;
mod json_lines;
mod plain_text;
mod reading;

mod prepare;

mod hold_out;
mod progress;
mod sample;
mod shard_set;
mod tokenizer;
mod vocabulary_files;
mod whole_file;

mod manifest;
mod permutation;
mod sampler;
mod shard;

mod machine_text;

mod error;

pub use error::{DataError, Result};
pub use hold_out::HoldOut;
pub use machine_text::{FoundText, gather_machine_text, machine_text_places};
pub use manifest::{DomainEntry, Manifest, SegmentEntry};
pub use permutation::Permutation;
pub use prepare::{PrepareSpec, prepare};
pub use progress::Progress;
pub use reading::{Document, OnBadLine, ReadReport};
pub use sampler::Sampler;
pub use shard::{Shard, ShardWriter, digest};
pub use source::{DomainFrom, Format, SourceSpec, Split};
pub use tokenizer::{BEGIN_OF_TEXT, END_OF_DOCUMENT, END_OF_TEXT, Tokenizer};
pub use vocabulary_files::tokenizer_of_vocabulary_files;
