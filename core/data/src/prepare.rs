//! Corpora to a prepared folder: a tokenizer, then shards by domain, then the manifest.
//!
//! Two streaming passes: one samples text for the tokenizer, one encodes. Memory is bounded by the
//! sample and one document, whatever the corpus holds.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hm_domain::id::Digest;
use serde::{Deserialize, Serialize};

use crate::error::{DataError, Result, at};
use crate::manifest::{DomainEntry, Manifest, SegmentEntry};
use crate::shard::ShardWriter;
use crate::source::{OnBadLine, ReadReport, SourceSpec, Split};
use crate::tokenizer::Tokenizer;

/// What to prepare: the `data` section of a run file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrepareSpec {
    /// Corpora.
    pub sources: Vec<SourceSpec>,
    /// Tokens of the vocabulary, special ones included.
    #[serde(default = "vocabulary")]
    pub vocabulary: usize,
    /// An existing `tokenizer.json` to use instead of training one.
    #[serde(default)]
    pub tokenizer: Option<PathBuf>,
    /// Text the tokenizer is trained on at most, in bytes.
    #[serde(default = "tokenizer_bytes_max")]
    pub tokenizer_bytes_max: u64,
    /// What to do with lines that cannot be used.
    #[serde(default)]
    pub on_bad_line: OnBadLine,
    /// How much of the training sources is held out, where no file is.
    #[serde(default)]
    pub validation: HoldOut,
}

fn vocabulary() -> usize {
    4096
}

fn tokenizer_bytes_max() -> u64 {
    8 << 20
}

/// Validation documents by hash of their normalised text: exact duplicates fall on one side.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HoldOut {
    /// Share of documents held out; 0 for none. Not used when a source is itself held out.
    pub fraction: f64,
    /// Fewest held-out documents of such a domain.
    pub minimum_documents: u64,
}

impl Default for HoldOut {
    fn default() -> Self {
        HoldOut { fraction: 0.0, minimum_documents: 1 }
    }
}

/// How far preparation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub phase: &'static str,
    /// Files done.
    pub files: usize,
    /// Files in all.
    pub files_total: usize,
    /// Documents of this phase so far.
    pub documents: u64,
}

impl PrepareSpec {
    /// Makes relative paths relative to `folder`, where the run file lies.
    pub fn resolve_paths(&mut self, folder: &Path) {
        for source in &mut self.sources {
            source.path = folder.join(&source.path).to_string_lossy().into_owned();
        }
        self.tokenizer = self.tokenizer.take().map(|path| folder.join(path));
    }

    fn files(&self) -> Result<Vec<(&SourceSpec, PathBuf)>> {
        let mut files = Vec::new();
        for source in &self.sources {
            files.extend(source.files()?.into_iter().map(|path| (source, path)));
        }
        Ok(files)
    }

    /// Digest of the spec and of every file's name, length and time of change.
    fn digest(&self, files: &[(&SourceSpec, PathBuf)]) -> Result<Digest> {
        let mut text = serde_json::to_string(self).expect("a spec is plain data");
        for (_, path) in files {
            let facts = std::fs::metadata(path).map_err(at(path))?;
            let changed = facts.modified().map_err(at(path))?;
            text += &format!("\n{} {} {changed:?}", path.display(), facts.len());
        }
        Ok(Digest::of(text.as_bytes()))
    }
}

/// Prepares `folder`. A folder that already holds the same, whole, is left as it is.
pub fn prepare(
    spec: &PrepareSpec,
    folder: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<Manifest> {
    let files = spec.files()?;
    let digest = spec.digest(&files)?;
    if let Ok(manifest) = Manifest::read(folder)
        && manifest.spec == digest
        && manifest.is_whole(folder)
    {
        return Ok(manifest);
    }
    std::fs::create_dir_all(folder).map_err(at(folder))?;
    let tokenizer = match &spec.tokenizer {
        Some(path) => Tokenizer::read(path)?.0,
        None => Tokenizer::train(&sample(spec, &files, progress)?, spec.vocabulary)?,
    };
    let json = tokenizer.to_json()?;
    let path = folder.join("tokenizer.json");
    std::fs::write(&path, &json).map_err(at(&path))?;
    let mut shards = Shards { folder, tokenizer: &tokenizer, spec, open: BTreeMap::new() };
    let reports = shards.fill(&files, progress)?;
    let manifest = Manifest {
        spec: digest,
        tokenizer: Digest::of(json.as_bytes()),
        vocabulary: tokenizer.vocabulary() as u32,
        domains: shards.finish()?,
        files: reports,
    };
    manifest.write(folder)?;
    Ok(manifest)
}

/// Text for the tokenizer: every file gives an equal part, from its start.
fn sample(
    spec: &PrepareSpec,
    files: &[(&SourceSpec, PathBuf)],
    progress: &mut dyn FnMut(Progress),
) -> Result<Vec<String>> {
    let training: Vec<_> =
        files.iter().filter(|(source, _)| source.split == Split::Train).collect();
    let share = spec.tokenizer_bytes_max / training.len().max(1) as u64;
    let mut texts = Vec::new();
    for (done, (source, path)) in training.iter().enumerate() {
        let mut taken = 0u64;
        source.read(path, spec.on_bad_line, &mut |document| {
            if taken < share {
                taken += document.text.len() as u64;
                texts.push(document.text);
            }
            Ok(())
        })?;
        let documents = texts.len() as u64;
        let (files, files_total) = (done + 1, training.len());
        progress(Progress { phase: "sampling for the tokenizer", files, files_total, documents });
    }
    Ok(texts)
}

struct OpenShard {
    writer: ShardWriter,
    stem: String,
    bytes: u64,
}

struct Shards<'a> {
    folder: &'a Path,
    tokenizer: &'a Tokenizer,
    spec: &'a PrepareSpec,
    open: BTreeMap<(String, bool), OpenShard>,
}

impl Shards<'_> {
    fn fill(
        &mut self,
        files: &[(&SourceSpec, PathBuf)],
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Vec<ReadReport>> {
        let has_files = files.iter().any(|(source, _)| source.split == Split::Validation);
        let (mut reports, mut documents) = (Vec::new(), 0u64);
        for (done, (source, path)) in files.iter().enumerate() {
            let report = source.read(path, self.spec.on_bad_line, &mut |document| {
                let held_out = source.split == Split::Validation
                    || (!has_files && held_out(&document.text, self.spec.validation.fraction));
                documents += 1;
                if documents.is_multiple_of(1000) {
                    let (files, files_total) = (done, files.len());
                    progress(Progress { phase: "encoding", files, files_total, documents });
                }
                self.add(document.domain, &document.text, held_out)
            })?;
            reports.push(report);
        }
        Ok(reports)
    }

    fn add(&mut self, domain: String, text: &str, held_out: bool) -> Result<()> {
        let ids = self.tokenizer.encode(text)?;
        let vocabulary = self.tokenizer.vocabulary();
        let place = self.open.len();
        let key = (domain, held_out);
        if !self.open.contains_key(&key) {
            // Domain names may hold anything; files are numbered.
            let side = if held_out { "validation" } else { "train" };
            let stem = format!("{side}-{place:03}");
            let writer = ShardWriter::create(&self.folder.join(&stem), vocabulary)?;
            self.open.insert(key.clone(), OpenShard { writer, stem, bytes: 0 });
        }
        let shard = self.open.get_mut(&key).expect("opened above");
        shard.bytes += text.len() as u64;
        shard.writer.add(&ids)
    }

    fn finish(self) -> Result<Vec<DomainEntry>> {
        let mut domains: BTreeMap<String, DomainEntry> = BTreeMap::new();
        for ((name, held_out), shard) in self.open {
            let documents = shard.writer.documents();
            let (digest, tokens) = shard.writer.finish()?;
            let (stem, bytes) = (shard.stem, shard.bytes);
            let entry = SegmentEntry { stem, digest, documents, tokens, bytes };
            let domain = domains.entry(name.clone()).or_insert_with(|| DomainEntry {
                name,
                segments: Vec::new(),
                validation: None,
            });
            if held_out {
                domain.validation = Some(entry);
            } else {
                domain.segments.push(entry);
            }
        }
        for domain in domains.values() {
            check(domain, &self.spec.validation)?;
        }
        Ok(domains.into_values().collect())
    }
}

fn check(domain: &DomainEntry, hold_out: &HoldOut) -> Result<()> {
    if domain.segments.iter().all(|segment| segment.documents == 0) {
        return Err(DataError::EmptyDomain(domain.name.clone()));
    }
    let found = domain.validation.as_ref().map_or(0, |segment| segment.documents);
    if hold_out.fraction > 0.0 && found < hold_out.minimum_documents {
        let (domain, minimum) = (domain.name.clone(), hold_out.minimum_documents);
        return Err(DataError::TooFewHeldOut { domain, found, minimum });
    }
    Ok(())
}

/// Decided by the text alone, runs of white space folded.
fn held_out(text: &str, fraction: f64) -> bool {
    if fraction <= 0.0 {
        return false;
    }
    let normalised = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let digest = Digest::of(normalised.as_bytes());
    let value = u64::from_le_bytes(digest.0[..8].try_into().expect("eight bytes"));
    (value as f64) < fraction * u64::MAX as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicates_fall_on_one_side_and_the_fraction_is_kept() {
        let texts: Vec<String> = (0..2000).map(|number| format!("document {number}")).collect();
        let count = texts.iter().filter(|text| held_out(text, 0.1)).count();
        assert!((140..260).contains(&count), "{count}");
        for text in &texts {
            let spaced = format!("  {}\n", text.replace(' ', "\t "));
            assert_eq!(held_out(text, 0.1), held_out(&spaced, 0.1));
        }
    }
}
