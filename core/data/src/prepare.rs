//! Corpora to a prepared folder: a tokenizer, then shards by domain, then the manifest.
//!
//! Two streaming passes: one samples text for the tokenizer, one encodes. Memory is bounded by the
//! sample and one document, whatever the corpus holds. A folder counts as prepared by its manifest
//! alone, which is removed first and written last.

use std::collections::BTreeSet;
use std::fs::File;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use hm_domain::id::Digest;
use serde::{Deserialize, Serialize};

use crate::error::{DataError, Result, at};
use crate::hold_out::HoldOut;
use crate::manifest::Manifest;
use crate::progress::{Meter, Progress};
use crate::reading::{OnBadLine, ReadReport};
use crate::sample::sample;
use crate::shard_set::{ShardSet, stem_of};
use crate::source::{SourceSpec, Split};
use crate::tokenizer::Tokenizer;
use crate::whole_file;

/// Tokens of a vocabulary that is trained here, unless said otherwise.
const VOCABULARY: usize = 4096;

/// What to prepare: the `data` section of a run file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrepareSpec {
    /// Corpora.
    pub sources: Vec<SourceSpec>,
    /// Tokens of the vocabulary, special ones included: by default 4096, or what `tokenizer` has.
    #[serde(default)]
    pub vocabulary: Option<usize>,
    /// An existing `tokenizer.json` to use instead of training one.
    #[serde(default)]
    pub tokenizer: Option<PathBuf>,
    /// Text the tokenizer is trained on at most, in bytes.
    #[serde(default = "tokenizer_bytes_max")]
    pub tokenizer_bytes_max: u64,
    /// What to do with lines that cannot be used.
    #[serde(default)]
    pub on_bad_line: OnBadLine,
    /// How much of the training sources is held out, for domains of which no file is.
    #[serde(default)]
    pub validation: HoldOut,
}

fn tokenizer_bytes_max() -> u64 {
    8 << 20
}

type Files<'a> = Vec<(&'a SourceSpec, PathBuf)>;

impl PrepareSpec {
    /// Makes relative paths relative to `folder`, where the run file lies.
    pub fn resolve_paths(&mut self, folder: &Path) {
        for source in &mut self.sources {
            source.path = folder.join(&source.path).to_string_lossy().into_owned();
        }
        self.tokenizer = self.tokenizer.take().map(|path| folder.join(path));
    }

    fn check(&self) -> Result<()> {
        if self.sources.is_empty() {
            let (value, must) = ("empty".to_owned(), "must name at least one source");
            return Err(DataError::Setting { name: "data.sources", value, must });
        }
        if self.tokenizer.is_none() && self.tokenizer_bytes_max == 0 {
            let (value, must) = ("0".to_owned(), "must be at least 1");
            return Err(DataError::Setting { name: "data.tokenizer_bytes_max", value, must });
        }
        self.validation.check()
    }

    fn files(&self) -> Result<Files<'_>> {
        let mut files = Vec::new();
        for source in &self.sources {
            files.extend(source.files()?.into_iter().map(|path| (source, path)));
        }
        Ok(files)
    }

    /// Digest of the spec, of the tokenizer it names, and of every file's name, length and time of
    /// change.
    fn digest(&self, files: &Files<'_>) -> Result<Digest> {
        let mut text = serde_json::to_string(self).expect("a spec is plain data");
        if let Some(path) = &self.tokenizer {
            let bytes = std::fs::read(path).map_err(at(path))?;
            text += &format!("\n{}", Digest::of(&bytes));
        }
        for (_, path) in files {
            let facts = std::fs::metadata(path).map_err(at(path))?;
            let changed = facts.modified().map_err(at(path))?;
            text += &format!("\n{} {} {changed:?}", path.display(), facts.len());
        }
        Ok(Digest::of(text.as_bytes()))
    }

    /// The tokenizer and its `tokenizer.json`: the named one, or one trained on a sample.
    fn tokenizer(&self, files: &Files<'_>, meter: &mut Meter<'_>) -> Result<(Tokenizer, Vec<u8>)> {
        let Some(path) = &self.tokenizer else {
            let texts = sample(files, self.tokenizer_bytes_max, self.on_bad_line, meter)?;
            meter.begin("training the tokenizer", files.len(), 0);
            let tokenizer = Tokenizer::train(&texts, self.vocabulary.unwrap_or(VOCABULARY))?;
            let json = tokenizer.to_json()?.into_bytes();
            return Ok((tokenizer, json));
        };
        let json = std::fs::read(path).map_err(at(path))?;
        let tokenizer = Tokenizer::of_json(path, &json)?;
        let found = tokenizer.vocabulary();
        if let Some(wanted) = self.vocabulary.filter(|&wanted| wanted != found) {
            let reason = format!(
                "has a vocabulary of {found}, but data.vocabulary is {wanted}: leave that out or make it {found}"
            );
            return Err(DataError::Broken { path: path.clone(), reason });
        }
        Ok((tokenizer, json))
    }
}

/// Prepares `folder`. A folder that already holds the same, whole, is left as it is.
pub fn prepare(
    spec: &PrepareSpec,
    folder: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<Manifest> {
    spec.check()?;
    let files = spec.files()?;
    let digest = spec.digest(&files)?;
    let whole = || {
        let manifest = Manifest::read(folder).ok()?;
        (manifest.spec == digest && manifest.is_whole(folder)).then_some(manifest)
    };
    if let Some(manifest) = whole() {
        return Ok(manifest);
    }
    std::fs::create_dir_all(folder).map_err(at(folder))?;
    // Another process may be at the same: whoever comes second finds its work done.
    let path = folder.join("prepare.lock");
    let lock = File::create(&path).map_err(at(&path))?;
    lock.lock().map_err(at(&path))?;
    if let Some(manifest) = whole() {
        return Ok(manifest);
    }
    whole_file::remove(folder, &|name| name == Manifest::FILE || name.ends_with(whole_file::PART))?;
    let mut meter = Meter::new(progress);
    let (tokenizer, json) = spec.tokenizer(&files, &mut meter)?;
    whole_file::write(folder, "tokenizer.json", &json)?;
    let mut shards = ShardSet::new(folder, &tokenizer);
    let reports = fill(spec, files, &mut shards, &mut meter)?;
    let manifest = Manifest {
        spec: digest,
        tokenizer: Digest::of(&json),
        vocabulary: tokenizer.vocabulary() as u32,
        domains: shards.finish()?,
        files: reports,
    };
    manifest.write(folder)?;
    // Shards of what was prepared here before.
    let stems: BTreeSet<&str> = manifest.entries().map(|entry| entry.stem.as_str()).collect();
    whole_file::remove(folder, &|name| stem_of(name).is_some_and(|stem| !stems.contains(stem)))?;
    Ok(manifest)
}

/// Encodes every document into its shard: validation files first, since only a domain that has none
/// of those is held out by hash.
fn fill(
    spec: &PrepareSpec,
    mut files: Files<'_>,
    shards: &mut ShardSet<'_>,
    meter: &mut Meter<'_>,
) -> Result<Vec<ReadReport>> {
    files.sort_by_key(|(source, _)| source.split == Split::Train);
    let mut sizes = Vec::new();
    for (_, path) in &files {
        sizes.push(std::fs::metadata(path).map_err(at(path))?.len());
    }
    meter.begin("encoding", files.len(), sizes.iter().sum());
    let mut named: Option<BTreeSet<String>> = None;
    let mut reports: Vec<ReadReport> = Vec::new();
    for ((source, path), size) in files.iter().zip(sizes) {
        let validation = source.split == Split::Validation;
        if !validation && named.is_none() {
            named = Some(shards.held_out_domains());
        }
        reports.push(source.read(path, spec.on_bad_line, &mut |document, bytes| {
            let by_file = named.as_ref().is_some_and(|named| named.contains(&document.domain));
            let held_out = validation || (!by_file && spec.validation.holds_out(&document.text));
            shards.add(document, held_out)?;
            meter.document(bytes);
            Ok(ControlFlow::Continue(()))
        })?);
        meter.file(size);
    }
    for source in &spec.sources {
        let of_source = files.iter().zip(&reports).filter(|((of, _), _)| std::ptr::eq(*of, source));
        refuse_empty(source, of_source.map(|(_, report)| report))?;
    }
    shards.check(&spec.validation, &named.unwrap_or_default())?;
    Ok(reports)
}

/// A source that gave nothing to train on or to hold out is a mistake: it says what was read.
fn refuse_empty<'a>(
    source: &SourceSpec,
    reports: impl Iterator<Item = &'a ReadReport>,
) -> Result<()> {
    let (mut files, mut blank, mut bad, mut first_bad) = (0, 0, 0, None);
    for report in reports {
        if report.documents > 0 {
            return Ok(());
        }
        files += 1;
        blank += report.blank;
        bad += report.bad;
        if let (None, Some(reason)) = (&first_bad, &report.first_bad) {
            first_bad = Some(format!("; the first in {}: {reason}", report.path.display()));
        }
    }
    let first_bad = first_bad.unwrap_or_default();
    let source_path = source.path.clone();
    Err(DataError::EmptySource { source_path, files, blank, bad, first_bad })
}
