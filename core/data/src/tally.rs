//! What was found of every domain, and what of it cannot be prepared.

use std::collections::{BTreeMap, BTreeSet};

use crate::bad_lines::{self, BadLines};
use crate::error::{DataError, Result};
use crate::hold_out::{HoldOut, Side, Sides};
use crate::inputs::Input;
use crate::layout::Naming;
use crate::minimum::{self, HeldOut};
use crate::reading::{Document, ReadReport};
use crate::source::{Format, SourceSpec, Split};
use crate::spec::PrepareSpec;

/// Most domains of a run: each has its place in every step of the log.
const DOMAINS_MAX: usize = 4096;
/// Lost domains that a warning names.
const DOMAINS_TOLD_MAX: usize = 6;
/// Files that a sentence names.
const FILES_TOLD_MAX: usize = 3;

/// Documents of a domain.
#[derive(Clone, Debug, Default)]
struct Count {
    train: u64,
    held_out: u64,
    dropped: u64,
    blank: u64,
    by_hash: HeldOut,
}

impl Count {
    /// Why nothing of a domain is left to train on, and what would do. `by_file` says whether files hold it
    /// out, `files` are all that do, `caught` says whether a path that is trained on finds those too, and
    /// `other` is a domain that is trained on.
    fn why_empty(&self, by_file: bool, files: &str, caught: bool, other: &str) -> String {
        let Count { held_out, dropped, blank, .. } = self;
        if *dropped > 0 {
            let remedy = if caught {
                format!(
                    "a path that is trained on finds those files too: keep them apart, as in a folder of their own, and give the source with `split: validation` the domain of the training text, as `domain: {other}`"
                )
            } else {
                "files that are trained on are copies of those: hold out other documents".to_owned()
            };
            return format!(
                "the text of {dropped} of its documents is held out by {files}, with `split: validation`; {remedy}"
            );
        }
        match (*held_out, by_file) {
            (0, _) => format!("{blank} without text, and no others"),
            (_, true) => format!(
                "all its {held_out} documents are held out by a source with `split: validation`: give that source the domain of the training text, as `domain: {other}`"
            ),
            (_, false) => format!(
                "all its {held_out} documents are held out by data.validation.fraction: give it more documents, put them into another domain with `domain`, or lower the fraction"
            ),
        }
    }
}

/// Documents by domain.
#[derive(Default)]
pub(crate) struct Tally {
    domains: BTreeMap<String, Count>,
    /// The first files that are read as plain text and look like JSON, and how many there are.
    json_as_text: (Vec<String>, usize),
}

impl Tally {
    /// One more document; its side, if it has text.
    ///
    /// # Errors
    /// When there are more domains than a run can steer.
    pub(crate) fn add(
        &mut self,
        input: &Input<'_>,
        document: &Document,
        sides: &mut Sides<'_>,
    ) -> Result<Side> {
        if self.domains.len() == DOMAINS_MAX && !self.domains.contains_key(&document.domain) {
            let (most, domain, path) = (DOMAINS_MAX, document.domain.clone(), input.path.clone());
            return Err(DataError::TooManyDomains { most, domain, path });
        }
        if input.source.format == Format::Text && is_like_json(&input.shown, &document.text) {
            let (files, count) = &mut self.json_as_text;
            *count += 1;
            if *count <= FILES_TOLD_MAX {
                files.push(input.shown.clone());
            }
        }
        let count = match self.domains.get_mut(&document.domain) {
            Some(count) => count,
            None => self.domains.entry(document.domain.clone()).or_default(),
        };
        if document.is_blank() {
            count.blank += 1;
            return Ok(Side::Dropped);
        }
        let (side, draw) = sides.side_and_draw(input.source.split, document);
        if let Some(draw) = draw {
            count.by_hash.add(draw, sides.hold_out);
        }
        *match side {
            Side::Train => &mut count.train,
            Side::HeldOut => &mut count.held_out,
            Side::Dropped => &mut count.dropped,
        } += 1;
        Ok(side)
    }

    /// Refuses domains that nothing could be trained on, or too little is held out of; only those that
    /// `known` knows everything of.
    pub(crate) fn refuse_untrainable(
        &self,
        hold_out: &HoldOut,
        inputs: &[Input<'_>],
        named: &BTreeSet<String>,
        known: &dyn Fn(&str) -> bool,
    ) -> Result<()> {
        let all = || self.domains.iter().filter(|(domain, _)| known(domain));
        if let Some((domain, count)) = all().find(|(_, count)| count.train == 0) {
            let (held_out, trained): (Vec<&Input<'_>>, Vec<&Input<'_>>) =
                inputs.iter().partition(|input| input.source.split == Split::Validation);
            let held_out: Vec<&str> = held_out.iter().map(|input| input.shown.as_str()).collect();
            let caught = trained.iter().any(|input| held_out.contains(&input.shown.as_str()));
            let by_file = named.contains(domain);
            let trained = self.domains.iter().filter(|(_, count)| count.train > 0);
            let most = trained.max_by_key(|(_, count)| count.train).map(|(name, _)| name.as_str());
            let other = most.unwrap_or("train");
            let why = count.why_empty(by_file, &names(&held_out), caught, other);
            return Err(DataError::EmptyDomain { domain: domain.clone(), why });
        }
        let by_hash = all().filter(|(domain, _)| !named.contains(*domain));
        minimum::refuse(hold_out, by_hash.map(|(domain, count)| (domain.as_str(), &count.by_hash)))
    }

    /// Files that are read as plain text, braces and all, although they look like JSON.
    pub(crate) fn json_as_text(&self) -> Option<String> {
        let (files, count) = &self.json_as_text;
        let more = match count - files.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        (*count > 0).then(|| {
            format!(
                "read as plain text, each file one document, and looking like JSON: {}{more}; if it is an object a line, give the source `format: jsonl`",
                files.join(", ")
            )
        })
    }

    /// Domains that files name and no document came to: they are missing from the mixture.
    pub(crate) fn lost(
        &self,
        inputs: &[Input<'_>],
        known: &dyn Fn(&str) -> bool,
    ) -> Option<String> {
        let named = inputs.iter().filter_map(|input| match &input.naming {
            Naming::Named(name) => Some(name.as_str()),
            Naming::Field(_) => None,
        });
        let has_text =
            |name: &str| self.domains.get(name).is_some_and(|c| c.train + c.held_out > 0);
        let lost: BTreeSet<&str> = named.filter(|name| known(name) && !has_text(name)).collect();
        let names: Vec<String> =
            lost.iter().take(DOMAINS_TOLD_MAX).map(|name| format!("`{name}`")).collect();
        let more = match lost.len() - names.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let domains = if lost.len() == 1 { "domain" } else { "domains" };
        (!lost.is_empty()).then(|| {
            format!(
                "LOST: {domains} {}{more}: no line of its files could be used, and nothing of it is trained on",
                names.join(", ")
            )
        })
    }
}

/// The first few files by name.
fn names(files: &[&str]) -> String {
    let first = files[..files.len().min(FILES_TOLD_MAX)].join(", ");
    match files.len().saturating_sub(FILES_TOLD_MAX) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

/// What to do with a source of lines that holds no JSON at all.
const NO_JSON: &str = "none of it is JSON: plain text is read with `format: text`, a file a document, and CSV is not read";

/// Whether all that ails lines is that they are no JSON.
fn is_no_json(reasons: &[BadLines]) -> bool {
    let is_none = |kind: &str| kind.starts_with("is not JSON") || kind.starts_with("is no JSON");
    !reasons.is_empty() && reasons.iter().all(|reason| is_none(&reason.kind))
}

/// Whether a file that is read as plain text is JSON by its name or its first line.
fn is_like_json(name: &str, text: &str) -> bool {
    let name = name.to_lowercase();
    let name = name.strip_suffix(".gz").or(name.strip_suffix(".zst")).unwrap_or(&name);
    let first = text.trim_start();
    let is_object = |rest: &str| rest.trim_start().starts_with('"');
    let begins = first.strip_prefix('{').is_some_and(is_object);
    begins || [".jsonl", ".ndjson", ".json"].iter().any(|ending| name.ends_with(ending))
}

/// Refuses sources that gave nothing to train on or to hold out: they say what was read.
pub(crate) fn refuse_empty_sources(
    spec: &PrepareSpec,
    inputs: &[Input<'_>],
    reports: &[ReadReport],
) -> Result<()> {
    spec.sources.iter().try_for_each(|source| {
        let own = inputs.iter().zip(reports).filter(|(of, _)| std::ptr::eq(of.source, source));
        refuse_empty(source, own.map(|(_, report)| report))
    })
}

fn refuse_empty<'a>(
    source: &SourceSpec,
    reports: impl Iterator<Item = &'a ReadReport>,
) -> Result<()> {
    let (mut files, mut blank, mut bad, mut reasons) = (0, 0, 0, Vec::new());
    for report in reports {
        if report.documents > 0 || report.in_part.is_some() {
            return Ok(());
        }
        files += 1;
        blank += report.blank;
        bad += report.bad;
        for reason in &report.reasons {
            let first = format!("in {}: {}", report.path.display(), reason.first);
            bad_lines::count(&mut reasons, BadLines { first, ..reason.clone() });
        }
    }
    let commonest = match bad_lines::commonest(&reasons) {
        Some(BadLines { count, first, .. }) if *count < bad => {
            format!("; {count} of them as {first}")
        }
        Some(BadLines { first, .. }) => format!("; the first {first}"),
        None => String::new(),
    };
    let is_lines = matches!(source.format, Format::Jsonl | Format::Pile);
    let commonest = if is_lines && blank == 0 && is_no_json(&reasons) {
        format!("{commonest}; {NO_JSON}")
    } else {
        commonest
    };
    let source_path = source.path.clone();
    Err(DataError::EmptySource { source_path, files, blank, bad, commonest })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(held_out: u64, dropped: u64, blank: u64) -> Count {
        Count { held_out, dropped, blank, ..Count::default() }
    }

    #[test]
    fn an_empty_domain_is_refused_with_what_made_it_so_and_what_would_do() {
        let said = count(50, 0, 0).why_empty(true, "val.jsonl", false, "train");
        assert!(said.starts_with("all its 50 documents are held out by a source with"), "{said}");
        assert!(said.ends_with("as `domain: train`"), "{said}");
        let said = count(40, 40, 0).why_empty(true, "val.jsonl", true, "train");
        let due = "the text of 40 of its documents is held out by val.jsonl, with";
        assert!(said.starts_with(due), "{said}");
        assert!(said.ends_with("as `domain: train`"), "{said}");
        let said = count(0, 40, 0).why_empty(false, "val.jsonl", false, "train");
        assert!(said.ends_with("are copies of those: hold out other documents"), "{said}");
        let said = count(1, 0, 0).why_empty(false, "", false, "train");
        assert!(said.contains("by data.validation.fraction"), "{said}");
        let said = count(0, 0, 2).why_empty(false, "", false, "train");
        assert_eq!(said, "2 without text, and no others");
    }

    #[test]
    fn json_that_is_read_as_text_is_known_by_its_name_or_its_first_line() {
        for (name, text) in [("a.jsonl", "x"), ("a.JSONL.gz", "x"), ("a.txt", " { \"text\":1}")] {
            assert!(is_like_json(name, text), "{name}");
        }
        for (name, text) in [("a.txt", "a {\"text\":1}"), ("json.md", "{{ template }}"), ("a", "")]
        {
            assert!(!is_like_json(name, text), "{name}");
        }
    }

    #[test]
    fn lines_are_no_json_only_where_nothing_else_ails_them() {
        let bad = |kind: &str| BadLines { kind: kind.to_owned(), count: 1, first: String::new() };
        assert!(is_no_json(&[bad("is not JSON"), bad("is no JSON object")]));
        assert!(!is_no_json(&[bad("is not JSON"), bad("has no text")]));
        assert!(!is_no_json(&[]));
    }
}
