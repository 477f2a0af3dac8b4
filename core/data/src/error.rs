//! What can go wrong with corpora and shards, by what the caller can do.

use std::path::PathBuf;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is there, but it is not what it should be.
    #[error("{path}: {reason}")]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A source matches no file.
    #[error("source {0} matches no file")]
    NoFile(String),
    /// A domain has nothing to train on.
    #[error("domain `{0}` has no training documents")]
    EmptyDomain(String),
    /// Too few documents to hold any out.
    #[error(
        "domain `{domain}` holds out {found} documents, fewer than the minimum of {minimum}: lower data.validation.minimum_documents or raise data.validation.fraction"
    )]
    TooFewHeldOut {
        /// The domain.
        domain: String,
        /// Documents held out.
        found: u64,
        /// Documents asked for.
        minimum: u64,
    },
    /// A mixture or checkpoint that belongs to other data.
    #[error(
        "{what} for {got} domains, but the prepared folder has {expected}: prepare the data they belong to"
    )]
    OtherData {
        /// What does not fit.
        what: &'static str,
        /// Its domains.
        got: usize,
        /// The folder's domains.
        expected: usize,
    },
    /// The tokenizer library refuses.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, DataError>;

/// Names the file in an IO error.
pub(crate) fn at(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> DataError {
    let path = path.into();
    move |source| DataError::File { path, source }
}
