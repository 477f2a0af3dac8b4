//! The files that a spec names, with the domain that each gives its documents.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use hm_domain::settings::{Faults, bad_name, shown};

use crate::error::{DataError, Result};
use crate::glob;
use crate::layout::Naming;
use crate::repeats::refuse_files;
use crate::source::{DomainFrom, SourceSpec, Split};
use crate::spec::PrepareSpec;

/// More domains than this by files' names, and somebody may have forgotten `domain`.
const DOMAINS_BY_NAME_FEW: usize = 50;
/// What files of held-out text are usually called.
const HELD_OUT_NAMES: [&str; 6] = ["val", "valid", "validation", "dev", "test", "eval"];
/// Files that a warning names.
const FILES_TOLD_MAX: usize = 3;

/// A file to be read.
#[derive(Debug)]
pub(crate) struct Input<'a> {
    /// The source that named it.
    pub(crate) source: &'a SourceSpec,
    /// Where it lies.
    pub(crate) path: PathBuf,
    /// What it is called: relative to the run file's folder if it lies inside that.
    pub(crate) shown: String,
    /// Where its domain comes from.
    pub(crate) naming: Naming,
}

/// What a spec names.
#[derive(Debug)]
pub(crate) struct Listing<'a> {
    /// Each file once for a domain. Those of validation first; then source by source, each in order of name.
    pub(crate) inputs: Vec<Input<'a>>,
    /// What a person should know of them.
    pub(crate) warnings: Vec<String>,
}

/// Finds every file of a spec that can be used, before any is read.
///
/// # Errors
/// When the spec cannot be used, or a source names none, or one whose name cannot be written down or gives no domain.
pub(crate) fn list(spec: &PrepareSpec) -> Result<Listing<'_>> {
    let mut faults = Faults::default();
    spec.check(&mut faults);
    faults.into_result()?;
    let folder = spec.folder.canonicalize().unwrap_or_else(|_| spec.folder.clone());
    let (mut inputs, mut warnings) = (Vec::new(), Vec::new());
    for source in &spec.sources {
        let found = glob::find(&spec.folder, &source.path)?;
        warnings.extend(found.warnings);
        for path in found.files {
            let shown = shown_path(&folder, &path)?;
            let naming = source.naming(&path);
            refuse_bad_name(source, &naming, &path)?;
            inputs.push(Input { source, path, shown, naming });
        }
    }
    inputs.sort_by_key(|input| input.source.split == Split::Train);
    warnings.extend(refuse_files(&mut inputs)?);
    warnings.extend(meetings(&inputs));
    warnings.extend(many_domains(&inputs));
    warnings.extend(held_out_by_name(&inputs));
    Ok(Listing { inputs, warnings })
}

/// What a report calls a file: the same however the run file was named.
fn shown_path(folder: &Path, path: &Path) -> Result<String> {
    let parent = path.parent().and_then(|parent| parent.canonicalize().ok());
    let whole = match (parent, path.file_name()) {
        (Some(parent), Some(name)) => parent.join(name),
        _ => path.to_owned(),
    };
    let short = whole.strip_prefix(folder).unwrap_or(&whole);
    short.to_str().map(str::to_owned).ok_or_else(|| {
        let reason = "has a name that is not UTF-8: rename it".to_owned();
        DataError::Broken { path: path.to_owned(), reason }
    })
}

fn refuse_bad_name(source: &SourceSpec, naming: &Naming, path: &Path) -> Result<()> {
    let Naming::Named(name) = naming else { return Ok(()) };
    let Some(must) = bad_name(name) else { return Ok(()) };
    let from = match source.domain_from() {
        DomainFrom::Folder => "folder's name",
        _ => "name",
    };
    let name = shown(name);
    let reason = format!(
        "its {from} gives the domain {name}, which {must}: name the domain with `domain`, or rename it"
    );
    Err(DataError::Broken { path: path.to_owned(), reason })
}

/// Whether the file's own name, not a person, says the domain.
fn by_name<'a>(input: &'a Input<'_>) -> Option<&'a str> {
    match &input.naming {
        Naming::Named(name) if input.source.domain.is_none() => Some(name),
        _ => None,
    }
}

/// Files that fall into one domain although their names or folders tell them apart. Numbered parts of one
/// thing do not.
fn meetings(inputs: &[Input<'_>]) -> Vec<String> {
    let mut groups: BTreeMap<(&str, bool), BTreeMap<String, &str>> = BTreeMap::new();
    for input in inputs {
        let Some(domain) = by_name(input) else { continue };
        let (parent, name) = input.shown.rsplit_once('/').unwrap_or(("", &input.shown));
        let kind = match input.source.domain_from() {
            DomainFrom::Folder => parent.to_owned(),
            _ => format!("{parent}/{}", without_numbers(name)),
        };
        let group = groups.entry((domain, input.source.split == Split::Train)).or_default();
        group.entry(kind).or_insert(&input.shown);
    }
    let several = groups.into_iter().filter(|(_, kinds)| kinds.len() > 1);
    several
        .map(|((domain, _), kinds)| {
            let files: Vec<&str> = kinds.values().take(FILES_TOLD_MAX).copied().collect();
            let more = match kinds.len() - files.len() {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            format!(
                "different files meet in domain `{domain}`: {}{more}; if they should not, give each a source of its own with `domain`, or set domain_from",
                files.join(", ")
            )
        })
        .collect()
}

/// A name without what numbers its parts, as in `train-00001-of-00099.jsonl`.
fn without_numbers(name: &str) -> String {
    name.replace("-of-", "").chars().filter(|character| !character.is_ascii_digit()).collect()
}

/// Domains that are trained on and have the names of held-out text.
fn held_out_by_name(inputs: &[Input<'_>]) -> Vec<String> {
    let trained = inputs.iter().filter(|input| input.source.split == Split::Train);
    let named: BTreeSet<&str> = trained.filter_map(by_name).collect();
    let is_usual = |name: &&&str| HELD_OUT_NAMES.contains(&name.to_lowercase().as_str());
    let told = |name: &&str| {
        format!(
            "domain `{name}` is trained on: if it is held-out text, give its files a source of their own with \
             `split: validation`, and `domain`, the one that they are held out of"
        )
    };
    named.iter().filter(is_usual).map(told).collect()
}

fn many_domains(inputs: &[Input<'_>]) -> Option<String> {
    let named: Vec<&str> = inputs.iter().filter_map(by_name).collect();
    let domains = named.iter().collect::<BTreeSet<_>>().len();
    (domains > DOMAINS_BY_NAME_FEW).then(|| {
        format!(
            "{} files give {domains} domains, by their names: if they are parts of one, name it with `domain`",
            named.len()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::tests::{source, spec_of};

    /// Warnings for files of these names, under these patterns.
    fn warnings(patterns: &[&str], names: &[&str]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "x").unwrap();
        }
        let sources = patterns.iter().map(|pattern| source(pattern)).collect();
        let spec = spec_of(folder.path(), sources);
        list(&spec).unwrap().warnings
    }

    #[test]
    fn files_that_meet_in_a_domain_untold_are_told() {
        let met = warnings(&["*.jsonl"], &["wiki.en.jsonl", "wiki.zh.jsonl", "code.jsonl"]);
        assert_eq!(met.len(), 1, "{met:?}");
        assert!(met[0].contains("domain `wiki`: wiki.en.jsonl, wiki.zh.jsonl;"), "{met:?}");
        let met = warnings(&["*/train.jsonl"], &["en/train.jsonl", "zh/train.jsonl"]);
        assert!(met[0].contains("domain `train`: en/train.jsonl, zh/train.jsonl;"), "{met:?}");
        let met = warnings(&["a/x.jsonl", "b/x.jsonl"], &["a/x.jsonl", "b/x.jsonl"]);
        assert_eq!(met.len(), 1, "two sources meet as well: {met:?}");
    }

    #[test]
    fn numbered_parts_of_one_thing_and_a_held_out_file_meet_in_silence() {
        let names = ["c4.00001-of-00002.json.gz", "c4.00002-of-00002.json.gz", "books.jsonl"];
        assert_eq!(warnings(&["*.json*"], &names), Vec::<String>::new());
    }

    #[test]
    fn a_file_with_the_name_of_held_out_text_is_told_where_it_is_trained_on() {
        let told = warnings(&["{train,val}.jsonl"], &["train.jsonl", "val.jsonl"]);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with("domain `val` is trained on: if it is held-out"), "{told:?}");
        assert_eq!(warnings(&["*.jsonl"], &["valley.jsonl"]), Vec::<String>::new());
    }

    #[test]
    fn a_domain_for_every_part_is_told() {
        let names: Vec<String> = (0..60).map(|number| format!("part-{number:05}.jsonl")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let told = warnings(&["*.jsonl"], &names);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with("60 files give 60 domains") && told[0].contains("`domain`"));
    }

    #[test]
    fn a_file_is_called_the_same_however_its_pattern_is_spelled() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("sub")).unwrap();
        std::fs::write(folder.path().join("a.jsonl"), "x").unwrap();
        for pattern in ["a.jsonl", "*.jsonl", "./*.jsonl", "sub/../*.jsonl"] {
            let spec = spec_of(folder.path(), vec![source(pattern)]);
            assert_eq!(list(&spec).unwrap().inputs[0].shown, "a.jsonl", "{pattern}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn names_that_are_not_utf8_or_give_no_domain_are_refused_by_name() {
        use std::os::unix::ffi::OsStrExt;
        let folder = tempfile::tempdir().unwrap();
        let refused = |name: &[u8], pattern: &str| {
            let path = folder.path().join(std::ffi::OsStr::from_bytes(name));
            std::fs::write(&path, "x").unwrap();
            let spec = spec_of(folder.path(), vec![source(pattern)]);
            let refused = list(&spec).unwrap_err().to_string();
            std::fs::remove_file(path).unwrap();
            refused
        };
        let said = refused(b"na\xefve.jsonl", "*.jsonl");
        assert!(said.contains("ve.jsonl: has a name that is not UTF-8: rename it"), "{said}");
        let said = refused(b".hidden.jsonl", ".*.jsonl");
        assert!(said.contains("its name gives the domain \"\", which must have"), "{said}");
    }
}
