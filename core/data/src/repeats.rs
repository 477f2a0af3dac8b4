//! Text that is named twice: one file by two names, or a file and its copy. Trained on twice in one domain
//! it would weigh double, and nobody would see why.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::Hasher;
use std::path::Path;

use crate::error::{DataError, Result, at};
use crate::inputs::Input;
use crate::layout::Naming;
use crate::reading::ReadReport;
use crate::source::Split;

/// Pairs of files that a warning names.
const PAIRS_TOLD_MAX: usize = 3;
/// Fewer documents that are alike are no copied file, and neither is less text: short ones repeat in any
/// corpus.
const COPY_DOCUMENTS_MIN: u64 = 16;
const COPY_BYTES_MIN: u64 = 16 << 10;

/// What tells one file from another, whatever it is called.
#[cfg(unix)]
fn identity(path: &Path) -> Result<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let facts = std::fs::metadata(path).map_err(at(path))?;
    Ok((facts.dev(), facts.ino()))
}

#[cfg(not(unix))]
fn identity(path: &Path) -> Result<std::path::PathBuf> {
    path.canonicalize().map_err(at(path))
}

/// Leaves out what one source's pattern finds again through a link, and tells it.
///
/// # Errors
/// When two sources give one file to one domain.
pub(crate) fn refuse_files(inputs: &mut Vec<Input<'_>>) -> Result<Vec<String>> {
    let mut seen: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    let (mut again, mut across, mut left_out) = (Vec::new(), Vec::new(), Vec::new());
    let mut refused = Vec::new();
    for (place, input) in inputs.iter().enumerate() {
        let text = (identity(&input.path)?, input.source.text_from(), is_held_out(input));
        let same = seen.entry(text).or_default();
        let twice = same.iter().map(|other| &inputs[*other]).find(|other| meet(other, input));
        match (twice, same.first()) {
            (Some(first), _) if std::ptr::eq(first.source, input.source) => {
                again.push((first.shown.as_str(), input.shown.as_str()));
                left_out.push(place);
                continue;
            }
            (Some(first), _) => refused.push((first, input)),
            (None, Some(first)) => across.push((&inputs[*first], input)),
            (None, None) => {}
        }
        same.push(place);
    }
    if let Some(what) = told(&refused, |pair| in_one_domain(*pair, "is the same file as")) {
        return Err(DataError::Twice { what });
    }
    let mut warnings = Vec::new();
    if let Some(pairs) = told(&again, |(first, second)| format!("{second} is {first}")) {
        warnings.push(format!("links to files that are named already are read once: {pairs}"));
    }
    warnings.extend(told(&across, |pair| in_two_domains(*pair, "is the same file as")));
    let mut place = 0..;
    inputs.retain(|_| left_out.binary_search(&place.next().expect("as many as inputs")).is_err());
    Ok(warnings)
}

fn is_held_out(input: &Input<'_>) -> bool {
    input.source.split == Split::Validation
}

/// Whether all documents of both, if they are the same, come to the same domains.
fn meet(one: &Input<'_>, other: &Input<'_>) -> bool {
    one.naming == other.naming
}

fn domain(input: &Input<'_>) -> String {
    match &input.naming {
        Naming::Named(name) => format!("domain `{name}`"),
        Naming::Field(field) => format!("the domains in {field}"),
    }
}

fn in_one_domain((first, second): (&Input<'_>, &Input<'_>), how: &str) -> String {
    let (domain, first, second) = (domain(second), &first.shown, &second.shown);
    if first == second {
        format!("{second} is named by two sources, for {domain}")
    } else {
        format!("{second} {how} {first}, for {domain}")
    }
}

fn in_two_domains((first, second): (&Input<'_>, &Input<'_>), how: &str) -> String {
    format!(
        "{} {how} {}: {} and {} hold the same text",
        second.shown,
        first.shown,
        domain(first),
        domain(second)
    )
}

/// The first few of them in one line.
fn told<T>(pairs: &[T], one: impl Fn(&T) -> String) -> Option<String> {
    let mut lines: Vec<String> = pairs.iter().take(PAIRS_TOLD_MAX).map(one).collect();
    match pairs.len() - lines.len() {
        0 if lines.is_empty() => return None,
        0 => {}
        more => lines.push(format!("and {more} more")),
    }
    Some(lines.join("; "))
}

/// What the documents of every file come to, while they go by: packed or not, copies are alike.
pub(crate) struct Copies<'a> {
    inputs: &'a [Input<'a>],
    hashes: Vec<DefaultHasher>,
    bytes: Vec<u64>,
}

impl<'a> Copies<'a> {
    pub(crate) fn new(inputs: &'a [Input<'a>]) -> Copies<'a> {
        let files = inputs.len();
        Copies { inputs, hashes: vec![DefaultHasher::new(); files], bytes: vec![0; files] }
    }

    /// One more document of the input at `place`.
    pub(crate) fn document(&mut self, place: usize, text: &str) {
        self.bytes[place] += text.len() as u64;
        self.hashes[place].write_usize(text.len());
        self.hashes[place].write(text.as_bytes());
    }

    /// Tells which files hold the same documents in the same order; `reports` are those of the inputs. What
    /// one pattern finds may well be alike, and is only told.
    ///
    /// # Errors
    /// When two such files of two sources go to one domain.
    pub(crate) fn refuse(self, reports: &[ReadReport]) -> Result<Vec<String>> {
        let mut seen: BTreeMap<(u64, u64, bool), Vec<&Input<'_>>> = BTreeMap::new();
        let (mut refused, mut within, mut across) = (Vec::new(), Vec::new(), Vec::new());
        for (place, (input, report)) in self.inputs.iter().zip(reports).enumerate() {
            if !is_substantial(report.documents, self.bytes[place]) || report.in_part.is_some() {
                continue;
            }
            let content = (self.hashes[place].finish(), report.documents, is_held_out(input));
            let same = seen.entry(content).or_default();
            let twice = same.iter().copied().find(|other| meet(other, input));
            match (twice, same.first().copied()) {
                (Some(first), _) if std::ptr::eq(first.source, input.source) => {
                    within.push((first, input));
                }
                (Some(first), _) => refused.push((first, input)),
                (None, Some(first)) => {
                    // One file under two names has been told before.
                    if identity(&first.path)? != identity(&input.path)? {
                        across.push((first, input));
                    }
                    same.push(input);
                }
                (None, None) => same.push(input),
            }
        }
        let how = "has the documents of";
        if let Some(what) = told(&refused, |pair| in_one_domain(*pair, how)) {
            return Err(DataError::Twice { what });
        }
        let within = told(&within, |pair| in_one_domain(*pair, how))
            .map(|pairs| format!("TWICE: {pairs}: the text counts twice; remove one of the two"));
        let across = told(&across, |pair| in_two_domains(*pair, how));
        Ok(within.into_iter().chain(across).collect())
    }
}

/// Whether so much that is alike is a copied file.
fn is_substantial(documents: u64, bytes: u64) -> bool {
    documents >= COPY_DOCUMENTS_MIN && bytes >= COPY_BYTES_MIN
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inputs::list;
    use crate::source::SourceSpec;
    use crate::spec::tests::{source, spec_of};

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("sub")).unwrap();
        std::fs::write(folder.path().join("plain.jsonl"), "x").unwrap();
        std::os::unix::fs::symlink("../plain.jsonl", folder.path().join("sub/link.jsonl")).unwrap();
        folder
    }

    fn listed(
        folder: &Path,
        sources: Vec<SourceSpec>,
    ) -> std::result::Result<(usize, Vec<String>), String> {
        let spec = spec_of(folder, sources);
        let listing = list(&spec).map_err(|error| error.to_string())?;
        Ok((listing.inputs.len(), listing.warnings))
    }

    #[cfg(unix)]
    #[test]
    fn one_file_for_one_domain_of_two_sources_is_refused_by_both_names() {
        let folder = folder();
        let refused = |paths: [&str; 2]| {
            let sources = paths.map(|path| SourceSpec { domain: Some("x".into()), ..source(path) });
            listed(folder.path(), sources.into()).unwrap_err()
        };
        let said = refused(["plain.jsonl", "*.jsonl"]);
        assert!(said.starts_with("plain.jsonl is named by two sources, for domain `x`"), "{said}");
        let said = refused(["plain.jsonl", "sub/*"]);
        assert!(
            said.starts_with("sub/link.jsonl is the same file as plain.jsonl, for domain `x`"),
            "{said}"
        );
    }

    #[cfg(unix)]
    #[test]
    fn a_link_that_a_pattern_meets_is_read_once_and_across_domains_told() {
        let folder = folder();
        let whole = SourceSpec { domain: Some("x".into()), ..source("**/*.jsonl") };
        let (files, told) = listed(folder.path(), vec![whole]).unwrap();
        assert_eq!(files, 1);
        assert!(told[0].ends_with("read once: sub/link.jsonl is plain.jsonl"), "{told:?}");
        let (files, told) = listed(folder.path(), vec![source("**/*.jsonl")]).unwrap();
        assert_eq!(files, 2);
        let sentence = "sub/link.jsonl is the same file as plain.jsonl: domain `plain` and domain `link` hold the same text";
        assert_eq!(told, [sentence]);
    }

    #[cfg(unix)]
    #[test]
    fn two_fields_of_one_file_and_its_other_side_are_no_repetition() {
        let folder = folder();
        let x = SourceSpec { domain: Some("x".into()), ..source("plain.jsonl") };
        let answers = SourceSpec { text_field: Some("answer".into()), ..x.clone() };
        let held_out = SourceSpec { split: Split::Validation, ..x.clone() };
        assert_eq!(listed(folder.path(), vec![x, answers, held_out]), Ok((3, Vec::new())));
    }

    #[test]
    fn a_few_short_documents_that_are_alike_are_no_copy() {
        assert!(!is_substantial(2, 1 << 20));
        assert!(!is_substantial(1000, 16_000));
        assert!(is_substantial(16, 16 << 10));
    }
}
