//! Files by a pattern as bash has it: `*`, `?`, `[ab]`, `**` and `{a,b}`, relative to a folder that is
//! itself never part of the pattern.
//!
//! The pattern is walked part by part, so no folder is opened that it does not reach, and a name without
//! wild cards is looked up, not searched. A link is followed where a part names it, but `**` goes through
//! none. Three things are kinder than in a shell: a part that is there as typed, brackets and braces
//! included, is taken as that; what has no wild card must be there; and what finds nothing is told.

mod braces;
mod missing;
mod name;
mod walk;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use braces::{Stretch, choices};
use missing::Missing;
use walk::{Part, Walk};

use crate::error::{DataError, Result};

/// What a pattern found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// In order of name.
    pub(crate) files: BTreeSet<PathBuf>,
    /// What a person should know, in sentences: folders that could not be searched, choices without a file.
    pub(crate) warnings: Vec<String>,
}

/// Files that `pattern` names, looked for from `folder`.
///
/// # Errors
/// When the pattern cannot be read, nothing matches it or a choice of its braces that has no wild card, or
/// a match is a link to nothing.
pub(crate) fn find(folder: &Path, pattern: &str) -> Result<Found> {
    let refused = |reason| DataError::Pattern { pattern: pattern.to_owned(), reason };
    let choices = choices(pattern).map_err(refused)?;
    let (mut found, mut missing) = (Found::default(), Vec::new());
    for choice in &choices {
        let (start, parts) = parts(folder, choice).map_err(refused)?;
        let mut walk = Walk::new(&mut found);
        walk.go(&start, &parts, 0)?;
        if let Some(why) = walk.missing() {
            let must_be_there = !parts.iter().any(Part::has_wild_card);
            missing.push((must_be_there, as_text(choice), why));
        }
    }
    if found.files.is_empty() {
        let deepest = Missing::deepest(missing.into_iter().map(|(.., why)| why));
        let why = deepest.into_iter().map(|why| why.sentence()).chain(found.warnings);
        let why: Vec<String> = why.collect();
        return Err(refused(format!("matches no file: {}", why.join("; "))));
    }
    let (required, other): (Vec<_>, Vec<_>) = missing.into_iter().partition(|(must, ..)| *must);
    if let Some(reason) = choices_without_file(&required) {
        return Err(refused(format!("{reason}; take out of its braces what is not there")));
    }
    if let Some(reason) = choices_without_file(&other) {
        found.warnings.push(refused(reason).to_string());
    }
    Ok(found)
}

fn choices_without_file(missing: &[(bool, String, Missing)]) -> Option<String> {
    let ((_, choice, why), more) = missing.split_first()?;
    let more = match more.len() {
        0 => String::new(),
        more => format!(" and {more} more of its choices"),
    };
    Some(format!("matches no file as `{choice}`{more}: {}", why.sentence()))
}

fn as_text(choice: &[Stretch]) -> String {
    choice.iter().map(|stretch| stretch.written.as_str()).collect::<Vec<_>>().join("/")
}

/// Where a pattern begins, and its parts from there.
fn parts(folder: &Path, choice: &[Stretch]) -> std::result::Result<(PathBuf, Vec<Part>), String> {
    let mut texts: Vec<(&str, &str)> = Vec::new();
    for Stretch { typed, written } in choice {
        if written.contains('/') {
            texts.extend(written.split('/').map(|text| (text, text)));
        } else {
            texts.push((typed, written));
        }
    }
    let home = std::env::var_os("HOME");
    let (start, texts) = match (&texts[..], home) {
        ([(_, ""), below @ ..], _) if !below.is_empty() => (PathBuf::from("/"), below),
        ([(_, "~"), below @ ..], Some(home)) if !below.is_empty() => (PathBuf::from(home), below),
        (all, _) => (folder.to_owned(), all),
    };
    let mut parts: Vec<Part> = Vec::new();
    for (typed, written) in texts {
        let part = Part::of(typed, written)?;
        if !(part.is_deep() && parts.last().is_some_and(Part::is_deep)) {
            parts.push(part);
        }
    }
    if parts.last().is_some_and(Part::is_deep) {
        parts.push(Part::of("*", "*")?);
    }
    Ok((start, parts))
}

#[cfg(test)]
mod bash;
#[cfg(test)]
mod tests;
