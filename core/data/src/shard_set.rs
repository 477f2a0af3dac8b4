//! The shards of all domains while they are filled.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::error::Result;
use crate::manifest::{DomainEntry, SegmentEntry};
use crate::reading::Document;
use crate::shard_writer::ShardWriter;
use crate::tokenizer::{Losses, Tokenizer};

struct OpenShard {
    writer: ShardWriter,
    stem: String,
    bytes: u64,
}

/// One shard per domain and side of the split.
pub(crate) struct ShardSet<'a> {
    folder: &'a Path,
    tokenizer: &'a Tokenizer,
    /// What is lost of the text.
    pub(crate) losses: Losses<'a>,
    /// By domain and whether it is held out.
    open: BTreeMap<(String, bool), OpenShard>,
}

impl<'a> ShardSet<'a> {
    pub(crate) fn new(folder: &'a Path, tokenizer: &'a Tokenizer) -> ShardSet<'a> {
        ShardSet { folder, tokenizer, losses: Losses::new(tokenizer), open: BTreeMap::new() }
    }

    /// Adds a document to its domain's shard; `go_on` is asked between its pieces.
    pub(crate) fn add(
        &mut self,
        document: Document,
        held_out: bool,
        go_on: &dyn Fn() -> Result<()>,
    ) -> Result<()> {
        let place = self.open.len();
        let key = (document.domain, held_out);
        if !self.open.contains_key(&key) {
            // Domain names may hold anything; files are numbered.
            let stem = format!("{}-{place:03}", if held_out { "validation" } else { "train" });
            let vocabulary = self.tokenizer.vocabulary();
            let writer = ShardWriter::create(&self.folder.join(&stem), vocabulary)?;
            self.open.insert(key.clone(), OpenShard { writer, stem, bytes: 0 });
        }
        let shard = self.open.get_mut(&key).expect("opened above");
        shard.bytes += document.text.len() as u64;
        for piece in self.tokenizer.pieces(&document.text) {
            let ids = self.tokenizer.encode_piece(piece)?;
            self.losses.count(&key.0, piece, &ids)?;
            shard.writer.push(&ids)?;
            go_on()?;
        }
        shard.writer.push(&[self.tokenizer.end_of_document().1])?;
        shard.writer.end_document()
    }

    /// Closes all shards; domains in order of name. Files name what `named` domains hold out.
    pub(crate) fn finish(self, named: &BTreeSet<String>) -> Result<Vec<DomainEntry>> {
        let mut domains: BTreeMap<String, DomainEntry> = BTreeMap::new();
        for ((name, held_out), shard) in self.open {
            let documents = shard.writer.documents();
            let (digest, tokens) = shard.writer.finish()?;
            let (stem, bytes) = (shard.stem, shard.bytes);
            let entry = SegmentEntry { stem, digest, documents, tokens, bytes };
            let domain = domains.entry(name.clone()).or_insert_with(|| DomainEntry {
                held_out_by_hash: !named.contains(&name),
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
