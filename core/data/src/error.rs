//! What can go wrong with corpora and shards, by what the caller can do.

use std::io::ErrorKind;
use std::path::PathBuf;

use hm_domain::id::Digest;
use hm_domain::settings::Faults;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A file cannot be read or written.
    #[error("{path}: {source}{}", remedy(source))]
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
    /// A source's pattern that cannot be used, or matches no file.
    #[error("source \"{pattern}\" {reason}")]
    Pattern {
        /// The pattern as typed.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The work was asked to end.
    #[error("preparation was interrupted; nothing of it is kept")]
    Stopped,
    /// A shard or tokenizer of a prepared folder that is not what was prepared.
    #[error(
        "{path} has digest {found}, but {expected} was prepared: it was changed or damaged; remove {folder} to prepare it again"
    )]
    Changed {
        /// The shard's stem, or the tokenizer.
        path: PathBuf,
        /// Its digest, or why it has none.
        found: String,
        /// The digest in the manifest.
        expected: Digest,
        /// The prepared folder.
        folder: PathBuf,
    },
    /// More domains than a run can steer.
    #[error(
        "the data has more than {most} domains, the newest `{domain}` in {path}: name fewer, with `domain` or another domain_field"
    )]
    TooManyDomains {
        /// As many may be.
        most: usize,
        /// The first beyond that.
        domain: String,
        /// The file that has it.
        path: PathBuf,
    },
    /// A source whose files hold no document with text.
    #[error(
        "source {source_path} gave no document with text: read {files} files, {blank} documents without text, {bad} bad lines or objects{commonest}"
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
        /// What ails most of those, as the end of a sentence; empty where there are none.
        commonest: String,
    },
    /// A domain has nothing to train on.
    #[error("domain `{domain}` has no training documents: {why}")]
    EmptyDomain {
        /// The domain.
        domain: String,
        /// Where its documents went, and what would do.
        why: String,
    },
    /// Settings of the run file that cannot be.
    #[error(transparent)]
    Settings(#[from] Faults),
    /// Domains of which too few documents are held out.
    #[error(
        "data.validation.fraction {fraction} holds out too few documents: {found}; asked for are {minimum} (data.validation.minimum_documents): {remedies}"
    )]
    TooFewHeldOut {
        /// The domains, with documents held out of how many.
        found: String,
        /// Share asked for.
        fraction: f64,
        /// Documents asked for.
        minimum: u64,
        /// What would do, in sentences.
        remedies: String,
    },
    /// A text that would count twice in a domain.
    #[error("{what}: the text would count twice; name it once")]
    Twice {
        /// The files and where they meet, in a sentence.
        what: String,
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

/// What a person can do, where the system's own words do not say it.
fn remedy(error: &std::io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::PermissionDenied => {
            ": give the user who runs this the right to it, or name other files"
        }
        ErrorKind::StorageFull => ": make room there, or name another place with --data-dir",
        _ => "",
    }
}

/// Names the file in an IO error.
pub(crate) fn at(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> DataError {
    let path = path.into();
    move |source| DataError::File { path, source }
}
