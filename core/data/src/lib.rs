//! Corpus files in, token shards and domain-pure batches out. Knows nothing of training.

mod error;
mod manifest;
mod permutation;
mod prepare;
mod sampler;
mod shard;
mod source;
mod tokenizer;

pub use error::{DataError, Result};
pub use manifest::{DomainEntry, Manifest, SegmentEntry};
pub use permutation::Permutation;
pub use prepare::{HoldOut, PrepareSpec, Progress, prepare};
pub use sampler::Sampler;
pub use shard::{Shard, ShardWriter, digest};
pub use source::{Document, DomainFrom, Format, OnBadLine, ReadReport, SourceSpec, Split};
pub use tokenizer::{END_OF_DOCUMENT, END_OF_TEXT, Tokenizer};
