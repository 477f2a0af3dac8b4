//! What a prepared folder holds: one `manifest.json`, written last.

use std::path::Path;

use hm_domain::id::Digest;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::error::{DataError, Result, at};
use crate::known_digests::{KnownDigests, Stamp};
use crate::origin::Origin;
use crate::reading::ReadReport;
use crate::shard::{digest, with_ending};
use crate::whole_file;

/// A prepared folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Digest of what it was prepared from.
    pub spec: Digest,
    /// Settings and files by their content.
    pub origin: Origin,
    /// Digest of `tokenizer.json`.
    pub tokenizer: Digest,
    /// Tokens of the vocabulary.
    pub vocabulary: u32,
    /// The token that ends every document.
    pub end_of_document: String,
    /// In order of name.
    pub domains: Vec<DomainEntry>,
    /// One per corpus file, as read.
    pub files: Vec<ReadReport>,
    /// What a person should know of them, in sentences.
    pub warnings: Vec<String>,
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
    /// Whether what is held out was chosen by hash, not named by files.
    pub held_out_by_hash: bool,
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
    fn entries(&self) -> impl Iterator<Item = &SegmentEntry> {
        self.domains.iter().flat_map(|domain| domain.segments.iter().chain(&domain.validation))
    }

    /// Reads every shard and the tokenizer, and compares their digests with the recorded ones.
    ///
    /// # Errors
    /// Names the first that cannot be read or differs, with both digests.
    pub fn verify_digests(&self, folder: &Path) -> Result<()> {
        self.verify(folder, &mut KnownDigests::open(Path::new("")))
    }

    /// The same, but what is known to be unchanged since it was read is not read again.
    pub(crate) fn verify(&self, folder: &Path, known: &mut KnownDigests) -> Result<()> {
        let changed = |path: &Path, found: String, expected: Digest| {
            let (path, folder) = (path.to_owned(), folder.to_owned());
            DataError::Changed { path, found, expected, folder }
        };
        let tokenizer = folder.join("tokenizer.json");
        let expected = self.tokenizer;
        match std::fs::read(&tokenizer).map(|bytes| Digest::of(&bytes)) {
            Ok(found) if found == expected => {}
            Ok(found) => return Err(changed(&tokenizer, found.to_string(), expected)),
            Err(error) => return Err(changed(&tokenizer, format!("none ({error})"), expected)),
        }
        let seen = &*known;
        let read = |entry: &SegmentEntry| {
            let stem = folder.join(&entry.stem);
            let found = stamp_of_shard(&stem).and_then(|stamp| {
                let found = seen.known(&stem, &stamp).map_or_else(|| digest(&stem), Ok)?;
                Ok((stamp, found))
            });
            match found {
                Ok((stamp, found)) if found == entry.digest => Ok((stem, stamp, found)),
                Ok((_, found)) => Err(changed(&stem, found.to_string(), entry.digest)),
                Err(error) => Err(changed(&stem, format!("none ({error})"), entry.digest)),
            }
        };
        let entries: Vec<&SegmentEntry> = self.entries().collect();
        let read: Result<Vec<_>> = entries.into_par_iter().map(read).collect();
        for (stem, stamp, found) in read? {
            known.learn(&stem, &stamp, found);
        }
        Ok(())
    }

    /// Writes it, whole or not at all.
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        let text = serde_json::to_vec_pretty(self).expect("a manifest is plain data");
        whole_file::write(folder, Self::FILE, &text)
    }
}

fn stamp_of_shard(stem: &Path) -> Result<Stamp> {
    Stamp::of(&[".idx", ".bin"].map(|ending| with_ending(stem, ending)).each_ref().map(|p| &**p))
}
