//! From a folder to the files that one written-out pattern names, part by part.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use walkdir::{DirEntry, WalkDir};

use super::Found;
use super::missing::{Lack, Missing};
use super::name::NamePattern;
use crate::error::{DataError, Result, at};

/// What stands between two `/`.
#[derive(Debug)]
pub(super) struct Part {
    /// As a person typed it, with braces.
    typed: String,
    /// With braces written out.
    written: String,
    meaning: Meaning,
}

#[derive(Debug)]
enum Meaning {
    /// The place itself: `.`, or nothing, as behind a last `/`.
    Here,
    /// One name, or `..`.
    Name(String),
    /// Any name that matches.
    Like(NamePattern),
    /// Any number of folders: `**`.
    Deep,
}

impl Part {
    /// # Errors
    /// When it cannot be read as a pattern.
    pub(super) fn of(typed: &str, written: &str) -> std::result::Result<Part, String> {
        let meaning = match written {
            "" | "." => Meaning::Here,
            "**" => Meaning::Deep,
            _ => {
                let pattern = NamePattern::of(written)?;
                pattern.only_name().map_or(Meaning::Like(pattern), Meaning::Name)
            }
        };
        Ok(Part { typed: typed.to_owned(), written: written.to_owned(), meaning })
    }

    pub(super) fn has_wild_card(&self) -> bool {
        matches!(self.meaning, Meaning::Like(_) | Meaning::Deep)
    }

    pub(super) fn is_deep(&self) -> bool {
        matches!(self.meaning, Meaning::Deep)
    }
}

/// The search for the files of one pattern.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    found: &'a mut Found,
    has_found: bool,
    missing: Option<Missing>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(found: &'a mut Found) -> Walk<'a> {
        Walk { found, has_found: false, missing: None }
    }

    /// Why there was no file. `None` if there was one, or nothing could be searched.
    pub(super) fn missing(self) -> Option<Missing> {
        self.missing.filter(|_| !self.has_found)
    }

    /// Takes the files that `parts` name from `place` on, itself `depth` parts deep.
    ///
    /// # Errors
    /// When one is a link to nothing.
    pub(super) fn go(&mut self, place: &Path, parts: &[Part], depth: usize) -> Result<()> {
        let Some((part, rest)) = parts.split_first() else { return self.take(place, depth) };
        if !self.is_folder(place, depth) {
            return Ok(());
        }
        match &part.meaning {
            Meaning::Here => self.go(place, rest, depth + 1)?,
            Meaning::Deep => {
                for folder in self.folders(place) {
                    self.go(&folder, rest, depth + 1)?;
                }
                self.missed_below(place, depth + 1);
            }
            Meaning::Name(_) | Meaning::Like(_) => {
                let names = self.named(place, part);
                if names.is_empty() {
                    let lack = Lack::Name { part: part.written.clone(), below: false };
                    self.miss(depth, place, lack);
                }
                for name in names {
                    self.go(&place.join(name), rest, depth + 1)?;
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, place: &Path, depth: usize) -> Result<()> {
        match place.metadata() {
            Ok(data) if data.is_file() => {
                self.has_found = true;
                self.found.files.insert(place.to_owned());
                Ok(())
            }
            Ok(_) => {
                self.miss(depth, place, Lack::File);
                Ok(())
            }
            Err(error) if is_absent(&error) => {
                let reason = "is a link to nothing: remove it or mend it".to_owned();
                Err(DataError::Broken { path: place.to_owned(), reason })
            }
            Err(error) => Err(at(place)(error)),
        }
    }

    fn is_folder(&mut self, place: &Path, depth: usize) -> bool {
        match place.metadata() {
            Ok(data) if data.is_dir() => return true,
            Err(error) if !is_absent(&error) => self.leave_out(place, &error),
            // Less deep than what is missing in a folder beside it, which says more.
            _ => self.miss(depth.saturating_sub(1), place, Lack::Folder),
        }
        false
    }

    /// The names in `place` that a part stands for: the one that was typed, if that is there, and else
    /// what it means. A part without brackets, braces and escapes means itself too.
    fn named(&mut self, place: &Path, part: &Part) -> BTreeSet<OsString> {
        let meant = match &part.meaning {
            Meaning::Name(name) if self.holds(place, name) => BTreeSet::from([name.into()]),
            Meaning::Like(pattern) => self.matches(place, pattern),
            _ => BTreeSet::new(),
        };
        let typed = OsStr::new(&part.typed);
        if meant.contains(typed) || !self.holds(place, &part.typed) {
            return meant;
        }
        if let Some(first) = meant.first() {
            let more = and_more(meant.len() - 1);
            self.tell(format!(
                "{} is there under that name and taken as it stands: `{}`{more}, which it also means, is left out; if that is wanted, name it in a source of its own",
                place.join(typed).display(),
                first.display(),
            ));
        }
        BTreeSet::from([typed.to_owned()])
    }

    /// Whether there is something of this name.
    fn holds(&mut self, place: &Path, name: &str) -> bool {
        match place.join(name).symlink_metadata() {
            Ok(_) => true,
            Err(error) if is_absent(&error) => false,
            Err(error) => {
                self.leave_out(place, &error);
                false
            }
        }
    }

    fn matches(&mut self, place: &Path, pattern: &NamePattern) -> BTreeSet<OsString> {
        let mut matches = BTreeSet::new();
        for name in names(place) {
            match name {
                Ok(name) if pattern.is_match(&name) => _ = matches.insert(name),
                Ok(_) => {}
                Err(error) => self.leave_out(place, &error),
            }
        }
        matches
    }

    /// `place` and the folders below it; hidden ones and links are left out. What a link leads to would
    /// often be read twice, and links between folders have more ways through them than end.
    fn folders(&mut self, place: &Path) -> Vec<PathBuf> {
        let wanted = |entry: &DirEntry| {
            let may_be_folder = entry.file_type().is_dir() || entry.path_is_symlink();
            entry.depth() == 0 || (may_be_folder && !is_hidden(entry.file_name()))
        };
        let (mut folders, mut links) = (Vec::new(), Vec::new());
        for entry in WalkDir::new(place).into_iter().filter_entry(wanted) {
            match entry {
                Ok(entry) if entry.depth() > 0 && entry.path_is_symlink() => {
                    links.extend(Some(entry.into_path()).filter(|link| leads_away(link, place)));
                }
                Ok(entry) => folders.push(entry.into_path()),
                Err(error) => {
                    let path = error.path().unwrap_or(place).to_owned();
                    // A folder that is gone by now holds no file.
                    if let Some(error) = error.io_error().filter(|error| !is_absent(error)) {
                        self.leave_out(&path, error);
                    }
                }
            }
        }
        if let Some(first) = links.iter().min() {
            let more = and_more(links.len() - 1);
            self.tell(format!(
                "`**` goes through no link to a folder and leaves out {}{more}: if it should be read, name it in a source of its own",
                first.display()
            ));
        }
        folders
    }

    fn leave_out(&mut self, place: &Path, error: &std::io::Error) {
        self.tell(format!("{} cannot be searched and is left out: {error}", place.display()));
    }

    fn tell(&mut self, sentence: String) {
        if !self.found.warnings.contains(&sentence) {
            self.found.warnings.push(sentence);
        }
    }

    fn miss(&mut self, depth: usize, place: &Path, lack: Lack) {
        let next = Missing { depth, place: place.to_owned(), lack };
        self.missing = Missing::deepest(self.missing.take().into_iter().chain([next]));
    }

    /// What is missing in `place`, and in none of the folders below anything deeper, is missing there too.
    fn missed_below(&mut self, place: &Path, depth: usize) {
        if let Some(Missing { depth: deepest, place: first, lack: Lack::Name { below, .. } }) =
            &mut self.missing
        {
            *below |= *deepest == depth && first == place;
        }
    }
}

/// Names in a folder, in no order. What is no folder has none.
pub(super) fn names(place: &Path) -> impl Iterator<Item = std::io::Result<OsString>> {
    let (entries, error) = match std::fs::read_dir(place) {
        Ok(entries) => (Some(entries), None),
        Err(error) => (None, Some(error).filter(|error| !is_absent(error)).map(Err)),
    };
    let names = entries.into_iter().flatten().map(|entry| Ok(entry?.file_name()));
    names.chain(error)
}

/// Whether a link leads to a folder that is neither below `place` nor above it: there and back again, most
/// links are no more than that.
fn leads_away(link: &Path, place: &Path) -> bool {
    let (Ok(target), Ok(place)) = (link.canonicalize(), place.canonicalize()) else { return false };
    target.is_dir() && !target.starts_with(&place) && !place.starts_with(&target)
}

pub(super) fn and_more(count: usize) -> String {
    if count == 0 { String::new() } else { format!(" and {count} more") }
}

pub(super) fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

/// Nothing has that name or could have, or it stands below something that has no names.
fn is_absent(error: &std::io::Error) -> bool {
    [ErrorKind::NotFound, ErrorKind::NotADirectory, ErrorKind::InvalidFilename]
        .contains(&error.kind())
}
