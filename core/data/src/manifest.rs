//! What a prepared folder holds: one `manifest.json`, written last.

use std::path::Path;

use hm_domain::id::Digest;
use serde::{Deserialize, Serialize};

use crate::error::{DataError, Result, at};
use crate::reading::ReadReport;
use crate::shard::{Shard, digest};
use crate::whole_file;

/// A prepared folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Digest of the spec it was prepared from.
    pub spec: Digest,
    /// Digest of `tokenizer.json`.
    pub tokenizer: Digest,
    /// Tokens of the vocabulary.
    pub vocabulary: u32,
    /// In order of name.
    pub domains: Vec<DomainEntry>,
    /// One per corpus file, as read.
    pub files: Vec<ReadReport>,
}

/// One domain's shards.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DomainEntry {
    /// What people call it.
    pub name: String,
    /// Trained on, in order.
    pub segments: Vec<SegmentEntry>,
    /// Held out.
    pub validation: Option<SegmentEntry>,
}

/// One shard.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SegmentEntry {
    /// Its files' name, less `.bin` and `.idx`.
    pub stem: String,
    /// SHA-256 over index and tokens.
    pub digest: Digest,
    /// Documents.
    pub documents: u64,
    /// Tokens, end marks included.
    pub tokens: u64,
    /// Bytes of text.
    pub bytes: u64,
}

impl Manifest {
    /// The file's name in a prepared folder.
    pub(crate) const FILE: &str = "manifest.json";

    /// Reads `manifest.json` of a prepared folder.
    pub fn read(folder: &Path) -> Result<Manifest> {
        let path = folder.join(Self::FILE);
        let bytes = std::fs::read(&path).map_err(at(&path))?;
        serde_json::from_slice(&bytes)
            .map_err(|error| DataError::Broken { path, reason: error.to_string() })
    }

    /// All shards.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &SegmentEntry> {
        self.domains.iter().flat_map(|domain| domain.segments.iter().chain(&domain.validation))
    }

    /// Whether the tokenizer is the recorded one and every shard is there with its lengths.
    /// Token bytes are not read: see [`Manifest::verify_digests`].
    pub fn is_whole(&self, folder: &Path) -> bool {
        let tokenizer = std::fs::read(folder.join("tokenizer.json"));
        tokenizer.is_ok_and(|bytes| Digest::of(&bytes) == self.tokenizer)
            && self.entries().all(|entry| {
                Shard::open(&folder.join(&entry.stem)).is_ok_and(|shard| {
                    (shard.documents(), shard.tokens()) == (entry.documents, entry.tokens)
                })
            })
    }

    /// Reads every shard and compares its digest with the recorded one.
    ///
    /// # Errors
    /// Names the first shard that cannot be read or differs.
    pub fn verify_digests(&self, folder: &Path) -> Result<()> {
        for entry in self.entries() {
            let path = folder.join(&entry.stem);
            if digest(&path)? != entry.digest {
                let reason = "differs from the digest in manifest.json: prepare again".to_owned();
                return Err(DataError::Broken { path, reason });
            }
        }
        Ok(())
    }

    /// Writes it, whole or not at all.
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        let text = serde_json::to_vec_pretty(self).expect("a manifest is plain data");
        whole_file::write(folder, Self::FILE, &text)
    }
}
