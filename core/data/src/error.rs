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
    /// A source whose files hold no document with text.
    #[error(
        "source {source_path} gave no document with text: read {files} files, {blank} documents without text, {bad} bad lines or objects{first_bad}"
    )]
    EmptySource {
        /// Path or glob of the source.
        source_path: String,
        /// Files read.
        files: u64,
        /// Documents without text.
        blank: u64,
        /// Lines, objects or files that could not be used.
        bad: u64,
        /// The first of those, as the end of a sentence; empty where there is none.
        first_bad: String,
    },
    /// A domain has nothing to train on.
    #[error(
        "domain `{domain}` has no training documents: {held_out} held out, {blank} without text"
    )]
    EmptyDomain {
        /// The domain.
        domain: String,
        /// Its documents that are held out.
        held_out: u64,
        /// Its documents without text.
        blank: u64,
    },
    /// A setting of the run file that cannot be.
    #[error("{name} is {value}: {must}")]
    Setting {
        /// Which.
        name: &'static str,
        /// Its value.
        value: String,
        /// What it must be.
        must: &'static str,
    },
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
    /// A cursor that points outside the prepared folder's shards.
    #[error(
        "the cursor of domain {domain} stands at {what} {found}, but the prepared folder has {has} there: prepare the data it belongs to"
    )]
    Cursor {
        /// The domain's number.
        domain: usize,
        /// Which part of the cursor.
        what: &'static str,
        /// Its value.
        found: u64,
        /// What the folder has.
        has: u64,
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
