//! Corpus files in, token shards and domain-pure batches out. Knows nothing of training.

mod glob;
mod inputs;
mod repeats;
mod source;
mod spec;

mod bad_lines;
mod corpus_file;
mod file_kind;
mod gzip;
mod json_array;
mod json_lines;
mod json_object;
mod layout;
mod plain_text;
mod reading;

mod estimate;
mod origin;
mod prepare;
mod prepared_folder;
mod survey;
mod tally;

mod hold_out;
mod known_digests;
mod minimum;
mod progress;
mod sample;
mod shard_set;
mod tokenizer;
mod tokenizer_file;
mod vocabulary_files;
mod whole_file;

mod manifest;
mod permutation;
mod sampler;
mod shard;
mod shard_file;
mod shard_writer;

mod machine_text;

mod error;

pub use bad_lines::BadLines;
pub use error::{DataError, Result};
pub use estimate::{Estimate, estimate};
pub use hold_out::HoldOut;
pub use machine_text::{FoundText, gather_machine_text, machine_text_places};
pub use manifest::{DomainEntry, Manifest, SegmentEntry};
pub use origin::{FileOrigin, Origin, origin};
pub use permutation::Permutation;
pub use prepare::{Prepared, prepare};
pub use progress::{Progress, Watch};
pub use reading::{Document, OnBadLine, ReadReport};
pub use sampler::{Piece, Sampler};
pub use shard::{Shard, digest};
pub use shard_writer::ShardWriter;
pub use source::{DomainFrom, Format, SourceSpec, Split};
pub use spec::PrepareSpec;
pub use tokenizer::{BEGIN_OF_TEXT, Difference, END_OF_DOCUMENT, END_OF_TEXT, Tokenizer};
pub use vocabulary_files::tokenizer_of_vocabulary_files;
