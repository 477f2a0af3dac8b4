//! Why a pattern names no file, in a sentence.

use std::path::PathBuf;

use super::walk::{and_more, is_hidden, names};

/// Names that are told where nothing matches.
const NEAR_MAX: usize = 3;

/// The deepest place that a pattern came to, and what was missing there.
#[derive(Debug)]
pub(super) struct Missing {
    /// Parts of the pattern that lead to the place.
    pub(super) depth: usize,
    pub(super) place: PathBuf,
    pub(super) lack: Lack,
}

/// What was missing in a place.
#[derive(Debug)]
pub(super) enum Lack {
    /// A name that this part matches.
    Name { part: String, below: bool },
    /// The place is not a folder, but parts follow.
    Folder,
    /// The place is not a file, but no part follows.
    File,
}

impl Missing {
    /// The first of the deepest.
    pub(super) fn deepest(all: impl IntoIterator<Item = Missing>) -> Option<Missing> {
        all.into_iter()
            .reduce(|deepest, next| if next.depth > deepest.depth { next } else { deepest })
    }

    pub(super) fn sentence(&self) -> String {
        let place = self.place.display();
        match &self.lack {
            Lack::Name { part, below } => {
                let below = if *below { " or below" } else { "" };
                format!("no `{part}` in {place}{below}, {}", self.near(part))
            }
            Lack::Folder => format!("{place} is no folder"),
            Lack::File if self.place.is_dir() => {
                let name = self.place.file_name().unwrap_or_default().display();
                format!("{place} is a folder: name its files, as in `{name}/**/*.jsonl`")
            }
            Lack::File => format!("{place} is no file"),
        }
    }

    /// The names in the place that are nearest to what was looked for.
    fn near(&self, part: &str) -> String {
        let likeness = |name: &String| strsim::jaro_winkler(name, part);
        // What cannot be read is told elsewhere.
        let mut near: Vec<String> = names(&self.place)
            .filter_map(std::result::Result::ok)
            .filter(|name| !is_hidden(name))
            .map(|name| name.display().to_string())
            .collect();
        near.sort();
        near.sort_by(|a, b| likeness(b).total_cmp(&likeness(a)));
        let told: Vec<String> =
            near.iter().take(NEAR_MAX).map(|name| format!("`{name}`")).collect();
        if told.is_empty() {
            return "nothing is there".to_owned();
        }
        format!("there is {}{}", told.join(", "), and_more(near.len() - told.len()))
    }
}
