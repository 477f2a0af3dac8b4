//! What preparation would give, from some of the text: nothing is written, and no file is read to its end
//! unless it is short. What preparation would refuse is refused here, as far as it can be seen.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::Path;

use hm_domain::id::Digest;

use crate::error::{DataError, Result, at};
use crate::hold_out::{Side, Sides};
use crate::inputs::{Input, list};
use crate::known_digests::KnownDigests;
use crate::layout::Naming;
use crate::manifest::{DomainEntry, Manifest, SegmentEntry};
use crate::minimum::{self, HeldOut, refuse_prepared};
use crate::origin::{Origin, contents};
use crate::prepare::{Given, refuse_unreached, refuses};
use crate::prepared_folder::{found, place};
use crate::progress::{Meter, Watch};
use crate::reading::{Manner, ReadReport};
use crate::repeats::Copies;
use crate::sample::Sample;
use crate::source::Split;
use crate::spec::PrepareSpec;
use crate::survey::Refuses;
use crate::tally::{Tally, refuse_empty_sources};
use crate::tokenizer::{Tokenizer, refuse_losses};

/// Text that is looked at, in bytes, of all files together...
const LOOKED_AT_BYTES: usize = 4 << 20;
/// ...in about so many of them, evenly chosen, one of every domain at least.
const FILES_MAX: usize = 256;
/// Bytes of a file within which something must be usable to be seen.
const UNUSABLE_BYTES_MAX: u64 = 4 << 20;

/// What preparation gives, or would give.
#[derive(Clone, Debug, PartialEq)]
pub struct Estimate {
    /// As a prepared folder would have it; where it is estimated, digests are zero.
    pub manifest: Manifest,
    /// Whether it is that of a folder that is there.
    pub is_prepared: bool,
    /// Whether it has every domain: a field may name others in what was not looked at.
    pub all_domains_known: bool,
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

/// What was looked at.
struct Looked {
    domains: BTreeMap<String, Seen>,
    named: BTreeSet<String>,
    sample: Vec<(String, String)>,
    sample_is_all: bool,
    files: Vec<ReadReport>,
    warnings: Vec<String>,
    /// Whether that was all there is,
    is_all: bool,
    /// or at least a part of every domain.
    all_domains_known: bool,
}

/// Estimates what `prepare` would make of a spec. Where it has been prepared in `root` as it is, that is
/// told instead.
///
/// # Errors
/// When the spec cannot be used, a file that is looked at cannot be read, or preparation would surely be
/// refused.
pub fn estimate(spec: &PrepareSpec, root: &Path, watch: Watch<'_>) -> Result<Estimate> {
    let mut meter = Meter::new(watch);
    let listing = list(spec)?;
    let given = Given::read(spec)?;
    if let Some(manifest) = prepared(spec, &listing.inputs, given.as_ref(), root, &mut meter)? {
        refuse_prepared(&spec.validation, &manifest)?;
        return Ok(Estimate { manifest, is_prepared: true, all_domains_known: true });
    }
    let refuses = |text: &str| refuses(given.as_ref(), text);
    let looked = look(spec, &listing.inputs, &refuses, &mut meter)?;
    let mut warnings = listing.warnings;
    warnings.extend(looked.warnings);
    let sample = looked.sample;
    // One that is yet to be trained has no digest.
    let (tokenizer, digest, vocabulary) = match given {
        Some(given) => {
            refuse_losses(&given.tokenizer, &sample, &|| meter.go_on())?;
            let vocabulary = given.tokenizer.vocabulary();
            (given.tokenizer, Digest::of(&given.json), vocabulary)
        }
        None => {
            let texts: Vec<String> = sample.into_iter().map(|(_, text)| text).collect();
            let trained = Tokenizer::train(&texts, spec.vocabulary())?;
            let found = trained.vocabulary();
            let vocabulary = if looked.is_all {
                warnings.extend(refuse_unreached(spec, &trained, looked.sample_is_all)?);
                found
            } else {
                warnings.extend(unreached_in_part(spec.vocabulary(), found));
                spec.vocabulary()
            };
            (trained, Digest::ZERO, vocabulary)
        }
    };
    let domains = looked
        .domains
        .into_iter()
        .map(|(name, seen)| entry(!looked.named.contains(&name), name, &seen, &tokenizer));
    let manifest = Manifest {
        spec: Digest::ZERO,
        origin: Origin::default(),
        tokenizer: digest,
        vocabulary: vocabulary as u32,
        end_of_document: tokenizer.end_of_document().0.to_owned(),
        domains: domains.collect::<Result<_>>()?,
        files: looked.files,
        warnings,
    };
    Ok(Estimate { manifest, is_prepared: false, all_domains_known: looked.all_domains_known })
}

/// What to say where a part of the text gives a smaller vocabulary than is wanted of all of it.
fn unreached_in_part(wanted: usize, found: usize) -> Option<String> {
    (found < wanted).then(|| {
        format!(
            "a part of the text gives a vocabulary of {found} tokens; whether all of it gives {wanted}, with which the model is reckoned here, is known after `hm prepare`"
        )
    })
}

/// What lies prepared for exactly this, as far as it is known without reading much.
fn prepared(
    spec: &PrepareSpec,
    inputs: &[Input<'_>],
    given: Option<&Given>,
    root: &Path,
    meter: &mut Meter<'_>,
) -> Result<Option<Manifest>> {
    // Never saved: nothing is written here.
    let mut known = KnownDigests::open(root);
    let contents = contents(inputs, &mut known, LOOKED_AT_BYTES as u64, meter)?;
    if contents.iter().any(|content| content.digest.is_none()) {
        return Ok(None);
    }
    let key = Origin::of(spec, inputs, &contents, given).digest();
    found(&place(root, &key), &key)
}

/// Places of the inputs that are looked at, with how many each stands for: of every source and domain some.
fn chosen(inputs: &[Input<'_>]) -> Vec<(usize, f64)> {
    let mut groups: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    for (place, input) in inputs.iter().enumerate() {
        let naming = match &input.naming {
            Naming::Named(name) => (true, name),
            Naming::Field(field) => (false, field),
        };
        groups.entry((std::ptr::from_ref(input.source), naming)).or_default().push(place);
    }
    let mut chosen = Vec::new();
    for places in groups.into_values() {
        let most = (FILES_MAX * places.len() / inputs.len()).max(1);
        let some: Vec<usize> =
            places.iter().copied().step_by(places.len().div_ceil(most)).collect();
        let stands_for = places.len() as f64 / some.len() as f64;
        chosen.extend(some.into_iter().map(|place| (place, stands_for)));
    }
    // Files of validation come first, as they do among the inputs.
    chosen.sort_by_key(|(place, _)| *place);
    chosen
}

/// Looks at the beginnings of files, and takes what it sees for the rest of each.
fn look(
    spec: &PrepareSpec,
    inputs: &[Input<'_>],
    refuses: Refuses<'_>,
    meter: &mut Meter<'_>,
) -> Result<Looked> {
    let chosen = chosen(inputs);
    let room = LOOKED_AT_BYTES / chosen.len().max(1);
    meter.begin("looking at some of the text", chosen.len(), 0);
    let (mut sides, mut tally) = (Sides::new(&spec.validation), Tally::default());
    let (mut sample, mut sample_bytes) = (Sample::new(spec.tokenizer_bytes_max), 0);
    let mut copies = Copies::new(inputs);
    let mut domains: BTreeMap<String, Seen> = BTreeMap::new();
    // What nobody has looked at counts as read in part.
    let unseen = |input: &Input<'_>| ReadReport {
        path: input.shown.clone().into(),
        in_part: Some(f64::INFINITY),
        ..ReadReport::default()
    };
    let mut reports: Vec<ReadReport> = inputs.iter().map(unseen).collect();
    for &(place, stands_for) in &chosen {
        let input = &inputs[place];
        let size = std::fs::metadata(&input.path).map_err(at(&input.path))?.len();
        let mut here: BTreeMap<String, (Seen, Amount)> = BTreeMap::new();
        let (mut taken, mut number, mut unusable) = (0, 0, Vec::new());
        let names = (input.path.as_path(), input.shown.as_str());
        let bytes_max = UNUSABLE_BYTES_MAX;
        let manner = Manner { on_bad: spec.on_bad_line, stop: meter.stop(), bytes_max };
        let mut report = input.source.read(names, &input.naming, manner, &mut |document, _| {
            number += 1;
            if let Some(reason) = refuses(&document.text) {
                unusable.push((number, reason));
                return Ok(ControlFlow::Break(()));
            }
            taken += document.text.len();
            let side = tally.add(input, &document, &mut sides)?;
            copies.document(place, &document.text);
            if side == Side::Train {
                sample_bytes += document.text.len();
                sample.offer(&document.domain, &document.text);
            }
            if !document.is_blank() {
                let (seen, all) = here.entry(document.domain).or_default();
                let one = Amount { bytes: document.text.len() as f64, documents: 1.0 };
                all.add(one, 1.0);
                match side {
                    Side::Train => seen.train.add(one, 1.0),
                    Side::HeldOut => seen.held_out.add(one, 1.0),
                    Side::Dropped => {}
                }
                let mut text = document.text;
                text.truncate(text.floor_char_boundary(room));
                seen.texts.push(text);
            }
            let enough = taken >= room;
            Ok(if enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        report.set_aside(&input.path, spec.on_bad_line, unusable)?;
        for (domain, (here, all)) in here {
            let seen = domains.entry(domain.clone()).or_default();
            seen.texts.extend(here.texts);
            if let Some(times) = report.in_part {
                let held_out = match input.source.split {
                    Split::Validation => 1.0,
                    Split::Train if sides.named_domains().contains(&domain) => 0.0,
                    Split::Train => spec.validation.fraction,
                };
                seen.train.add(all, times * stands_for * (1.0 - held_out));
                seen.held_out.add(all, times * stands_for * held_out);
            } else {
                seen.train.add(here.train, stands_for);
                seen.held_out.add(here.held_out, stands_for);
            }
        }
        reports[place] = report;
        meter.file(size);
    }
    refuse_empty_sources(spec, inputs, &reports)?;
    let mut warnings = copies.refuse(&reports)?;
    let unknown = Unknown::of(inputs, &reports);
    let known = |domain: &str| unknown.knows(domain);
    let named = sides.named_domains().clone();
    tally.refuse_untrainable(&spec.validation, inputs, &named, &known)?;
    warnings.extend(tally.lost(inputs, &known));
    warnings.extend(tally.json_as_text());
    warnings.extend(few_held_out(spec, &domains, &named, &known)?);
    let files = chosen.iter().map(|(place, _)| reports[*place].clone()).collect();
    let sample = sample.finish();
    let sample_is_all = sample.iter().map(|(_, text)| text.len()).sum::<usize>() == sample_bytes;
    let (is_all, all_domains_known) = (!unknown.in_part, !unknown.fields);
    Ok(Looked { domains, named, sample, sample_is_all, files, warnings, is_all, all_domains_known })
}

impl Amount {
    fn add(&mut self, more: Amount, times: f64) {
        self.bytes += more.bytes * times;
        self.documents += more.documents * times;
    }
}

/// What was not looked at.
#[derive(Default)]
struct Unknown {
    /// Whether there is any such file;
    in_part: bool,
    /// one whose fields name the domains;
    fields: bool,
    /// one of validation, whose texts nobody trains on.
    held_out: bool,
    /// Domains that such files are named after.
    domains: BTreeSet<String>,
}

impl Unknown {
    fn of(inputs: &[Input<'_>], reports: &[ReadReport]) -> Unknown {
        let mut unknown = Unknown::default();
        for (input, _) in inputs.iter().zip(reports).filter(|(_, read)| read.in_part.is_some()) {
            unknown.in_part = true;
            unknown.held_out |= input.source.split == Split::Validation;
            match &input.naming {
                Naming::Field(_) => unknown.fields = true,
                Naming::Named(name) => _ = unknown.domains.insert(name.clone()),
            }
        }
        unknown
    }

    /// Whether all of a domain was looked at.
    fn knows(&self, domain: &str) -> bool {
        !self.fields && !self.held_out && !self.domains.contains(domain)
    }
}

/// Refuses domains of which too few documents will be held out, whatever is drawn; tells those that may be.
fn few_held_out(
    spec: &PrepareSpec,
    domains: &BTreeMap<String, Seen>,
    named: &BTreeSet<String>,
    known: &dyn Fn(&str) -> bool,
) -> Result<Option<String>> {
    let estimated = domains.iter().filter(|(name, _)| !known(name) && !named.contains(*name));
    let counts: Vec<(&str, HeldOut)> = estimated
        .map(|(name, seen)| {
            let of = seen.train.documents + seen.held_out.documents;
            (name.as_str(), HeldOut::about(seen.held_out.documents as u64, of as u64))
        })
        .collect();
    let minimum = spec.validation.minimum_documents;
    let few = counts.iter().filter(|(_, held_out)| held_out.at_most() < minimum);
    minimum::refuse(&spec.validation, few.map(|(name, held_out)| (*name, held_out)))?;
    let all = counts.iter().map(|(name, held_out)| (*name, held_out));
    match minimum::refuse(&spec.validation, all) {
        Err(refused @ DataError::TooFewHeldOut { .. }) => {
            Ok(Some(format!("it is not sure that enough is held out: by estimate {refused}")))
        }
        other => other.map(|()| None),
    }
}

fn entry(
    held_out_by_hash: bool,
    name: String,
    seen: &Seen,
    tokenizer: &Tokenizer,
) -> Result<DomainEntry> {
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
    let segments = vec![segment(seen.train)];
    Ok(DomainEntry { name, segments, validation, held_out_by_hash })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vocabulary_that_a_part_of_the_text_does_not_reach_is_told_and_no_order_given() {
        assert_eq!(unreached_in_part(4000, 4000), None);
        let told = unreached_in_part(4000, 2893).unwrap();
        assert!(told.starts_with("a part of the text gives a vocabulary of 2893 tokens"), "{told}");
        assert!(told.contains("4000") && told.contains("hm prepare"), "{told}");
        assert!(!told.contains("must"), "{told}");
    }
}
