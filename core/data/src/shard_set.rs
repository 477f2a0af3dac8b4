//! The shards of all domains while they are filled, and the check that every domain can be trained on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::error::{DataError, Result};
use crate::hold_out::HoldOut;
use crate::manifest::{DomainEntry, SegmentEntry};
use crate::reading::Document;
use crate::shard::ShardWriter;
use crate::tokenizer::Tokenizer;

struct OpenShard {
    writer: ShardWriter,
    stem: String,
    bytes: u64,
}

/// One shard per domain and side of the split.
pub(crate) struct ShardSet<'a> {
    folder: &'a Path,
    tokenizer: &'a Tokenizer,
    /// By domain and whether it is held out.
    open: BTreeMap<(String, bool), OpenShard>,
    /// Documents without text, by domain.
    blank: BTreeMap<String, u64>,
}

impl<'a> ShardSet<'a> {
    pub(crate) fn new(folder: &'a Path, tokenizer: &'a Tokenizer) -> ShardSet<'a> {
        ShardSet { folder, tokenizer, open: BTreeMap::new(), blank: BTreeMap::new() }
    }

    /// Adds a document to its domain's shard. One without text is only counted.
    pub(crate) fn add(&mut self, document: Document, held_out: bool) -> Result<()> {
        if document.is_blank() {
            *self.blank.entry(document.domain).or_default() += 1;
            return Ok(());
        }
        let ids = self.tokenizer.encode(&document.text)?;
        let place = self.open.len();
        let key = (document.domain, held_out);
        if !self.open.contains_key(&key) {
            // Domain names may hold anything; files are numbered.
            let stem = format!("{}-{place:03}", if held_out { VALIDATION } else { TRAIN });
            let vocabulary = self.tokenizer.vocabulary();
            let writer = ShardWriter::create(&self.folder.join(&stem), vocabulary)?;
            self.open.insert(key.clone(), OpenShard { writer, stem, bytes: 0 });
        }
        let shard = self.open.get_mut(&key).expect("opened above");
        shard.bytes += document.text.len() as u64;
        shard.writer.add(&ids)
    }

    /// Domains with held-out documents so far.
    pub(crate) fn held_out_domains(&self) -> BTreeSet<String> {
        self.open.keys().filter(|(_, held_out)| *held_out).map(|(name, _)| name.clone()).collect()
    }

    /// Refuses domains that cannot be trained on. `named` are those whose held-out documents come
    /// from files; the minimum of `hold_out` is for all others.
    pub(crate) fn check(&self, hold_out: &HoldOut, named: &BTreeSet<String>) -> Result<()> {
        let documents = |domain: &str, held_out: bool| {
            let shard = self.open.get(&(domain.to_owned(), held_out));
            shard.map_or(0, |shard| shard.writer.documents())
        };
        let domains: BTreeSet<&String> =
            self.open.keys().map(|(name, _)| name).chain(self.blank.keys()).collect();
        for domain in domains {
            let held_out = documents(domain, true);
            if documents(domain, false) == 0 {
                let blank = self.blank.get(domain).copied().unwrap_or_default();
                return Err(DataError::EmptyDomain { domain: domain.clone(), held_out, blank });
            }
            let minimum = hold_out.minimum_documents;
            if hold_out.fraction > 0.0 && !named.contains(domain) && held_out < minimum {
                let (domain, found) = (domain.clone(), held_out);
                return Err(DataError::TooFewHeldOut { domain, found, minimum });
            }
        }
        Ok(())
    }

    /// Closes all shards; domains in order of name.
    pub(crate) fn finish(self) -> Result<Vec<DomainEntry>> {
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
        Ok(domains.into_values().collect())
    }
}

const TRAIN: &str = "train";
const VALIDATION: &str = "validation";

/// The stem of a shard's file, if `name` is one.
pub(crate) fn stem_of(name: &str) -> Option<&str> {
    let stem = name.strip_suffix(".bin").or_else(|| name.strip_suffix(".idx"))?;
    let (side, number) = stem.split_once('-')?;
    let numbered = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    ([TRAIN, VALIDATION].contains(&side) && numbered).then_some(stem)
}
