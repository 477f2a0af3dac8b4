//! What preparation would give, from some of the text: nothing is written, and no file is read to its end
//! unless it is short.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::Path;

use hm_domain::id::Digest;

use crate::error::{Result, at};
use crate::inputs::{Input, list};
use crate::known_digests::{KnownDigests, Stamp};
use crate::manifest::{DomainEntry, Manifest, SegmentEntry};
use crate::prepare::{Given, key};
use crate::prepared_folder::{found, place};
use crate::progress::{Meter, Watch};
use crate::source::Split;
use crate::spec::PrepareSpec;
use crate::tokenizer::Tokenizer;

/// Text that is looked at, in bytes, of all files together...
const LOOKED_AT_BYTES: usize = 4 << 20;
/// ...in at most so many of them, evenly chosen.
const FILES_MAX: usize = 256;

/// What preparation gives, or would give.
#[derive(Clone, Debug, PartialEq)]
pub struct Estimate {
    /// As a prepared folder would have it; where it is estimated, digests are zero.
    pub manifest: Manifest,
    /// Whether it is that of a folder that is there.
    pub is_prepared: bool,
}

/// Some of a domain's text, and how much the whole would be.
#[derive(Default)]
struct Seen {
    texts: Vec<String>,
    train: Amount,
    held_out: Amount,
}

#[derive(Clone, Copy, Default)]
struct Amount {
    bytes: f64,
    documents: f64,
}

/// Estimates what `prepare` would make of a spec. Where it has been prepared in `root` as it is, that is
/// told instead.
///
/// # Errors
/// When the spec cannot be used, or a file that is looked at cannot be read.
pub fn estimate(spec: &PrepareSpec, root: &Path, watch: Watch<'_>) -> Result<Estimate> {
    let mut meter = Meter::new(watch);
    let listing = list(spec)?;
    let given = Given::read(spec)?;
    if let Some(manifest) = prepared(spec, &listing.inputs, given.as_ref(), root)? {
        return Ok(Estimate { manifest, is_prepared: true });
    }
    let seen = look(spec, &listing.inputs, &mut meter)?;
    // One that is yet to be trained has no digest.
    let (tokenizer, digest) = match given {
        Some(given) => (given.tokenizer, Digest::of(&given.json)),
        None => {
            let texts: Vec<String> =
                seen.values().flat_map(|seen| seen.texts.iter().cloned()).collect();
            (Tokenizer::train(&texts, spec.vocabulary())?, Digest::ZERO)
        }
    };
    let domains = seen.into_iter().map(|(name, seen)| entry(name, &seen, &tokenizer));
    let manifest = Manifest {
        spec: Digest::ZERO,
        tokenizer: digest,
        vocabulary: tokenizer.vocabulary() as u32,
        end_of_document: tokenizer.end_of_document().0.to_owned(),
        domains: domains.collect::<Result<_>>()?,
        files: Vec::new(),
        warnings: listing.warnings,
    };
    Ok(Estimate { manifest, is_prepared: false })
}

/// What lies prepared for exactly this, as far as it is known without reading much.
fn prepared(
    spec: &PrepareSpec,
    inputs: &[Input<'_>],
    given: Option<&Given>,
    root: &Path,
) -> Result<Option<Manifest>> {
    // Never saved: nothing is written here.
    let mut known = KnownDigests::open(root);
    let (mut contents, mut unread) = (Vec::new(), 0);
    for input in inputs {
        let stamp = Stamp::of(&[&input.path])?;
        if known.known(&input.path, &stamp).is_none() {
            unread += std::fs::metadata(&input.path).map_err(at(&input.path))?.len();
        }
        if unread > LOOKED_AT_BYTES as u64 {
            return Ok(None);
        }
        contents.push(known.digest(&input.path, &mut |_| Ok(()))?);
    }
    let key = key(spec, inputs, &contents, given);
    found(&place(root, &key), &key)
}

/// Looks at the beginnings of files, and takes what it sees for the rest of each.
fn look(
    spec: &PrepareSpec,
    inputs: &[Input<'_>],
    meter: &mut Meter<'_>,
) -> Result<BTreeMap<String, Seen>> {
    let every = inputs.len().div_ceil(FILES_MAX).max(1);
    let chosen: Vec<&Input<'_>> = inputs.iter().step_by(every).collect();
    let count = chosen.len().max(1);
    let room = LOOKED_AT_BYTES / count;
    meter.begin("looking at some of the text", count, 0);
    let mut domains: BTreeMap<String, Seen> = BTreeMap::new();
    let mut named = BTreeSet::new();
    for input in chosen {
        let size = std::fs::metadata(&input.path).map_err(at(&input.path))?.len();
        let mut here: BTreeMap<String, (Vec<String>, Amount)> = BTreeMap::new();
        let (mut taken, mut position, mut all) = (0, 0, true);
        let names = (input.path.as_path(), input.shown.as_str());
        let stop = meter.stop();
        input.source.read(
            names,
            &input.naming,
            spec.on_bad_line,
            stop,
            &mut |document, bytes| {
                taken += document.text.len();
                position = bytes;
                if !document.is_blank() {
                    let (texts, amount) = here.entry(document.domain).or_default();
                    amount.bytes += document.text.len() as f64;
                    amount.documents += 1.0;
                    let mut text = document.text;
                    text.truncate(text.floor_char_boundary(room));
                    texts.push(text);
                }
                all = taken < room;
                Ok(if all { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
            },
        )?;
        let files = inputs.len() as f64 / count as f64;
        let whole = if all { 1.0 } else { size as f64 / position.max(1) as f64 };
        for (domain, (texts, amount)) in here {
            // Files of validation come first.
            let held_out = match input.source.split {
                Split::Validation => {
                    named.insert(domain.clone());
                    1.0
                }
                Split::Train if named.contains(&domain) => 0.0,
                Split::Train => spec.validation.fraction,
            };
            let seen = domains.entry(domain).or_default();
            seen.texts.extend(texts);
            for (side, share) in [(&mut seen.train, 1.0 - held_out), (&mut seen.held_out, held_out)]
            {
                side.bytes += amount.bytes * whole * files * share;
                side.documents += amount.documents * whole * files * share;
            }
        }
        meter.file(size);
    }
    Ok(domains)
}

fn entry(name: String, seen: &Seen, tokenizer: &Tokenizer) -> Result<DomainEntry> {
    let (mut bytes, mut tokens) = (0, 0);
    for text in &seen.texts {
        bytes += text.len();
        for piece in tokenizer.pieces(text) {
            tokens += tokenizer.encode_piece(piece)?.len();
        }
    }
    let tokens_per_byte = tokens as f64 / bytes.max(1) as f64;
    let segment = |amount: Amount| SegmentEntry {
        stem: String::new(),
        digest: Digest::ZERO,
        documents: amount.documents.round() as u64,
        // One end mark a document.
        tokens: (amount.bytes * tokens_per_byte + amount.documents).round() as u64,
        bytes: amount.bytes.round() as u64,
    };
    let validation = (seen.held_out.documents > 0.0).then(|| segment(seen.held_out));
    Ok(DomainEntry { name, segments: vec![segment(seen.train)], validation })
}
