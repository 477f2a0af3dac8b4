//! Files by a pattern as a shell has it: `*`, `?`, `[ab]`, `**` and `{a,b}`, relative to a folder that is
//! itself never part of the pattern.
//!
//! The pattern is walked part by part, so no folder is opened that it does not reach, and a name without
//! wild cards is looked up, not searched. Links are followed. Crates at hand match whole paths: they walk
//! deeper than the pattern, or skip names that are not UTF-8 without a word.

mod braces;

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};
use walkdir::{DirEntry, WalkDir};

use crate::error::{DataError, Result};

/// Names that are told where nothing matches.
const NEAR_MAX: usize = 3;

/// What a pattern found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// In order of name.
    pub(crate) files: BTreeSet<PathBuf>,
    /// Folders that could not be searched, in sentences.
    pub(crate) unsearched: Vec<String>,
    /// The deepest place that the pattern came to, and the part that nothing there matched.
    missed: Option<(usize, PathBuf, String)>,
}

enum Part {
    /// A name, or `..`.
    Name(PathBuf),
    /// Any name that matches; hidden ones only if the pattern says the dot.
    Like { matcher: GlobMatcher, hidden: bool, typed: String },
    /// Any number of folders: `**`.
    Deep,
}

/// Files that `pattern` names, looked for from `folder`.
///
/// # Errors
/// When the pattern cannot be read, nothing matches, or a match is a link to nothing.
pub(crate) fn find(folder: &Path, pattern: &str) -> Result<Found> {
    let mut found = Found::default();
    let typed = folder.join(from_home(pattern));
    if typed.is_file() {
        found.files.insert(typed);
        return Ok(found);
    }
    let broken = |reason: String| DataError::Pattern { pattern: pattern.to_owned(), reason };
    if typed.is_dir() {
        return Err(broken("is a folder: name its files, as in `folder/**/*.jsonl`".to_owned()));
    }
    for pattern in braces::expand(&from_home(pattern)).map_err(broken)? {
        let parts = parts(&pattern).map_err(broken)?;
        let start = if Path::new(&pattern).is_absolute() { Path::new("/") } else { folder };
        found.walk(start, &parts, 0)?;
    }
    if found.files.is_empty() { Err(broken(found.nothing(folder))) } else { Ok(found) }
}

/// `~/` is the user's home, as in a shell.
fn from_home(pattern: &str) -> String {
    match (pattern.strip_prefix("~/"), std::env::var("HOME")) {
        (Some(rest), Ok(home)) => format!("{home}/{rest}"),
        _ => pattern.to_owned(),
    }
}

fn parts(pattern: &str) -> std::result::Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    for component in Path::new(pattern).components() {
        match component {
            Component::Normal(typed) => {
                let typed = typed.to_str().expect("a pattern is Unicode text");
                parts.push(part(typed)?);
            }
            Component::ParentDir => parts.push(Part::Name("..".into())),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    if let Some(Part::Deep) = parts.last() {
        parts.push(part("*")?);
    }
    Ok(parts)
}

fn part(typed: &str) -> std::result::Result<Part, String> {
    if typed == "**" {
        return Ok(Part::Deep);
    }
    if !has_wild_card(typed) {
        return Ok(Part::Name(braces::without_escapes(typed).into()));
    }
    let glob = GlobBuilder::new(typed).literal_separator(true).backslash_escape(true).build();
    let matcher = glob.map_err(|error| format!("cannot be read as a pattern: {error}"))?;
    let matcher = matcher.compile_matcher();
    let hidden = braces::without_escapes(typed).starts_with('.');
    Ok(Part::Like { matcher, hidden, typed: typed.to_owned() })
}

fn has_wild_card(typed: &str) -> bool {
    let mut escaped = false;
    typed.chars().any(|character| {
        let wild = !escaped && ['*', '?', '['].contains(&character);
        escaped = !escaped && character == '\\';
        wild
    })
}

fn is_hidden(name: &std::ffi::OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

impl Found {
    fn walk(&mut self, place: &Path, parts: &[Part], depth: usize) -> Result<()> {
        let Some((part, rest)) = parts.split_first() else { return self.take(place) };
        match part {
            Part::Name(name) => {
                let next = place.join(name);
                match next.symlink_metadata() {
                    Ok(_) => return self.walk(&next, rest, depth + 1),
                    Err(error) if is_absent(&error) => self.miss(depth, place, name),
                    Err(error) => self.leave_out(place, &error),
                }
            }
            Part::Like { matcher, hidden, typed } => {
                let mut matched = false;
                for name in self.names(place) {
                    if matcher.is_match(&name) && (*hidden || !is_hidden(name.as_os_str())) {
                        matched = true;
                        self.walk(&place.join(&name), rest, depth + 1)?;
                    }
                }
                if !matched {
                    self.miss(depth, place, Path::new(typed));
                }
            }
            Part::Deep => {
                for folder in self.folders(place) {
                    self.walk(&folder, rest, depth + 1)?;
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, place: &Path) -> Result<()> {
        if place.is_file() {
            self.files.insert(place.to_owned());
        } else if place.metadata().is_err() {
            let reason = "is a link to nothing: remove it or mend it".to_owned();
            return Err(DataError::Broken { path: place.to_owned(), reason });
        }
        Ok(())
    }

    /// Names in a folder, in order. What is no folder has none.
    fn names(&mut self, place: &Path) -> BTreeSet<PathBuf> {
        let mut names = BTreeSet::new();
        match std::fs::read_dir(place) {
            Ok(entries) => {
                for entry in entries {
                    match entry {
                        Ok(entry) => _ = names.insert(entry.file_name().into()),
                        Err(error) => self.leave_out(place, &error),
                    }
                }
            }
            Err(error) if is_absent(&error) => {}
            Err(error) => self.leave_out(place, &error),
        }
        names
    }

    /// `place` and the folders below it, hidden ones left out. A link back up is not followed.
    fn folders(&mut self, place: &Path) -> Vec<PathBuf> {
        let wanted = |entry: &DirEntry| {
            entry.depth() == 0 || (entry.file_type().is_dir() && !is_hidden(entry.file_name()))
        };
        let mut folders = Vec::new();
        for entry in WalkDir::new(place).follow_links(true).into_iter().filter_entry(wanted) {
            match entry {
                Ok(entry) => folders.push(entry.into_path()),
                Err(error) if error.loop_ancestor().is_some() => {}
                Err(error) => {
                    let path = error.path().unwrap_or(place).to_owned();
                    // A link to nothing is no folder; whether its name is wanted is seen later.
                    if let Some(error) = error.io_error().filter(|error| !is_absent(error)) {
                        self.leave_out(&path, error);
                    }
                }
            }
        }
        folders
    }

    fn leave_out(&mut self, place: &Path, error: &std::io::Error) {
        let sentence = format!("{} cannot be searched and is left out: {error}", place.display());
        if !self.unsearched.contains(&sentence) {
            self.unsearched.push(sentence);
        }
    }

    fn miss(&mut self, depth: usize, place: &Path, part: &Path) {
        if self.missed.as_ref().is_none_or(|(deepest, ..)| depth > *deepest) {
            self.missed = Some((depth, place.to_owned(), part.display().to_string()));
        }
    }

    /// Why there is no file, with the names nearest to what was looked for.
    fn nothing(&mut self, folder: &Path) -> String {
        let (_, place, part) = self.missed.take().unwrap_or((0, folder.to_owned(), String::new()));
        let likeness = |name: &String| strsim::jaro_winkler(name, &part);
        let mut names: Vec<String> = self
            .names(&place)
            .into_iter()
            .filter(|name| !is_hidden(name.as_os_str()))
            .map(|name| name.display().to_string())
            .collect();
        names.sort_by(|a, b| likeness(b).total_cmp(&likeness(a)));
        let more = names.len().saturating_sub(NEAR_MAX);
        names.truncate(NEAR_MAX);
        let there = match (names.is_empty(), more) {
            (true, _) => "nothing is there".to_owned(),
            (false, 0) => format!("there is {}", names.join(", ")),
            (false, more) => format!("there is {} and {more} more", names.join(", ")),
        };
        let unsearched: String =
            self.unsearched.iter().map(|sentence| format!("; {sentence}")).collect();
        format!("matches no file: no {part} in {}, {there}{unsearched}", place.display())
    }
}

/// Nothing of that name, or something that has no names below it.
fn is_absent(error: &std::io::Error) -> bool {
    [ErrorKind::NotFound, ErrorKind::NotADirectory].contains(&error.kind())
}

#[cfg(test)]
mod tests;
