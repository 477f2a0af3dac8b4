//! What a prepared folder is made from: settings, and every file by content. The folder is named by the
//! digest of this, and a run whose data has become another is told by it what is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use hm_domain::id::Digest;
use serde::{Deserialize, Serialize};

use crate::error::{Result, at};
use crate::inputs::{Input, list};
use crate::known_digests::{KnownDigests, Stamp};
use crate::layout::Naming;
use crate::prepare::Given;
use crate::progress::{Meter, Watch};
use crate::spec::PrepareSpec;

/// Changes when the same files and settings give other shards.
const VERSION: &str = "heurimentor.prepare.v5";
/// Files that a sentence names.
const FILES_TOLD_MAX: usize = 3;
/// Settings under which the same data may come out all the same.
const HARMLESS: [&str; 2] = ["data.tokenizer_bytes_max", "data.on_bad_line"];
const VOCABULARY: &str = "data.vocabulary";

/// What data is prepared from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// Settings by the keys that they are typed under.
    pub settings: BTreeMap<String, String>,
    /// In the order in which they are read.
    pub files: Vec<FileOrigin>,
}

/// A corpus file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileOrigin {
    /// What reports call it.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// Of its content; none where that was not read.
    pub digest: Option<Digest>,
    /// Where its domain comes from, its format, its text's field and its side, as JSON.
    pub manner: String,
}

impl Origin {
    pub(crate) fn of(
        spec: &PrepareSpec,
        inputs: &[Input<'_>],
        contents: &[Content],
        given: Option<&Given>,
    ) -> Origin {
        let mut settings = BTreeMap::new();
        let mut set = |key: &str, value: String| settings.insert(key.to_owned(), value);
        match given {
            Some(given) => {
                set("data.tokenizer", Digest::of(&given.json).to_string());
                set("data.end_of_document", given.tokenizer.end_of_document().0.to_owned());
            }
            None => {
                set(VOCABULARY, spec.vocabulary().to_string());
                set("data.tokenizer_bytes_max", spec.tokenizer_bytes_max.to_string());
                if let Some(mark) = &spec.end_of_document {
                    set("data.end_of_document", mark.clone());
                }
            }
        }
        set("data.on_bad_line", word(&spec.on_bad_line));
        // How many documents must be held out at least is no content: it is asked of what is there.
        set("data.validation.fraction", spec.validation.fraction.to_string());
        let files = inputs.iter().zip(contents).map(|(input, content)| FileOrigin {
            path: input.shown.clone(),
            bytes: content.bytes,
            digest: content.digest,
            manner: manner(input),
        });
        Origin { settings, files: files.collect() }
    }

    /// What a folder is named by.
    pub(crate) fn digest(&self) -> Digest {
        let text = serde_json::to_vec(&(VERSION, self)).expect("an origin is plain data");
        Digest::of(&text)
    }

    /// What is another than in `then`, in sentences, as far as other data must come of it. `vocabulary` is
    /// what then came out: whoever types that in place of a larger bound has changed nothing.
    pub fn changes_since(&self, then: &Origin, vocabulary: u32) -> Vec<String> {
        let keys: BTreeSet<&String> = then.settings.keys().chain(self.settings.keys()).collect();
        let is_reached = |key: &str| {
            key == VOCABULARY && self.settings.get(key) == Some(&vocabulary.to_string())
        };
        let value = |of: &Origin, key: &String| {
            of.settings.get(key).cloned().unwrap_or_else(|| "not set".to_owned())
        };
        let settings = keys
            .into_iter()
            .filter(|key| !HARMLESS.contains(&key.as_str()) && !is_reached(key))
            .filter(|key| then.settings.get(*key) != self.settings.get(*key))
            .map(|key| format!("{key} was {}, is {}", value(then, key), value(self, key)));
        settings.chain(self.other_files(then)).collect()
    }

    fn other_files(&self, then: &Origin) -> Vec<String> {
        let stays = |file: &FileOrigin, among: &Origin| {
            among.files.iter().any(|other| other.path == file.path && other.is_as(file))
        };
        let moved = |file: &FileOrigin, among: &Origin| {
            file.digest.is_some() && among.files.iter().any(|other| other.digest == file.digest)
        };
        let at = |path: &str, among: &Origin| among.files.iter().any(|file| file.path == path);
        let (mut changed, mut gone, mut new) = (Vec::new(), Vec::new(), Vec::new());
        let mut read_otherwise = Vec::new();
        for file in self.files.iter().filter(|file| !stays(file, then)) {
            match (at(&file.path, then), moved(file, then)) {
                (true, true) => read_otherwise.push(&*file.path),
                (true, false) => changed.push(&*file.path),
                (false, true) => {}
                (false, false) => new.push(&*file.path),
            }
        }
        for file in then.files.iter().filter(|file| !at(&file.path, self) && !moved(file, self)) {
            gone.push(&*file.path);
        }
        let told = |files: &[&str], one: &str, several: &str| {
            let words = if files.len() == 1 { one } else { several };
            let named = files.iter().take(FILES_TOLD_MAX).copied().collect::<Vec<_>>().join(", ");
            let more = match files.len().saturating_sub(FILES_TOLD_MAX) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            (!files.is_empty()).then(|| format!("{named}{more} {words}"))
        };
        let sentences = [
            told(&changed, "has changed", "have changed"),
            told(&gone, "is no longer there", "are no longer there"),
            told(&new, "is new", "are new"),
            told(&read_otherwise, "is read in another way", "are read in another way"),
        ];
        sentences.into_iter().flatten().collect()
    }
}

impl FileOrigin {
    /// Whether it is read as `other` is and holds the same, as far as is known.
    fn is_as(&self, other: &FileOrigin) -> bool {
        let is_known = self.digest.is_some() && other.digest.is_some();
        self.manner == other.manner
            && self.bytes == other.bytes
            && (!is_known || self.digest == other.digest)
    }
}

fn manner(input: &Input<'_>) -> String {
    let naming = match &input.naming {
        Naming::Named(name) => ["named", name],
        Naming::Field(field) => ["field", field],
    };
    let source = input.source;
    serde_json::json!([naming, source.format, source.text_field, source.split]).to_string()
}

fn word(value: &impl Serialize) -> String {
    let value = serde_json::to_value(value).expect("a setting is plain data");
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A file's content, as far as it is known.
pub(crate) struct Content {
    pub(crate) stamp: Stamp,
    pub(crate) bytes: u64,
    pub(crate) digest: Option<Digest>,
}

/// What `spec` would be prepared from now. At most so many bytes of files are read that are not known from
/// before; nothing is written.
///
/// # Errors
/// When the spec cannot be used, or a file cannot be read.
pub fn origin(
    spec: &PrepareSpec,
    root: &Path,
    read_bytes_max: u64,
    watch: Watch<'_>,
) -> Result<Origin> {
    let listing = list(spec)?;
    let given = Given::read(spec)?;
    let mut known = KnownDigests::open(root);
    let mut meter = Meter::new(watch);
    let contents = contents(&listing.inputs, &mut known, read_bytes_max, &mut meter)?;
    Ok(Origin::of(spec, &listing.inputs, &contents, given.as_ref()))
}

/// What is in every input. Of those that are not known from before at most so many bytes are read.
pub(crate) fn contents(
    inputs: &[Input<'_>],
    known: &mut KnownDigests,
    read_bytes_max: u64,
    meter: &mut Meter<'_>,
) -> Result<Vec<Content>> {
    let (mut contents, mut left) = (Vec::new(), read_bytes_max);
    for input in inputs {
        let stamp = Stamp::of(&[&input.path])?;
        let bytes = std::fs::metadata(&input.path).map_err(at(&input.path))?.len();
        let digest = known.known(&input.path, &stamp);
        contents.push(Content { stamp, bytes, digest });
    }
    // Those that fit; the others are known by their length alone.
    let mut unread = Vec::new();
    for (place, content) in contents.iter().enumerate().filter(|(_, it)| it.digest.is_none()) {
        if content.bytes <= left {
            left -= content.bytes;
            unread.push(place);
        }
    }
    if !unread.is_empty() {
        let bytes = unread.iter().map(|place| contents[*place].bytes).sum();
        meter.begin("looking for changed files", unread.len(), bytes);
    }
    for place in unread {
        let content = &mut contents[place];
        let (stamp, digest) = known.digest(&inputs[place].path, &mut |read| {
            meter.bytes(read);
            meter.go_on()
        })?;
        (content.stamp, content.digest) = (stamp, Some(digest));
        meter.file(content.bytes);
    }
    Ok(contents)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(vocabulary: &str, files: &[(&str, &str)]) -> Origin {
        let file = |(path, text): &(&str, &str)| FileOrigin {
            path: (*path).to_owned(),
            bytes: text.len() as u64,
            digest: Some(Digest::of(text.as_bytes())),
            manner: "[]".to_owned(),
        };
        let settings = BTreeMap::from([
            (VOCABULARY.to_owned(), vocabulary.to_owned()),
            ("data.on_bad_line".to_owned(), vocabulary.to_owned()),
        ]);
        Origin { settings, files: files.iter().map(file).collect() }
    }

    #[test]
    fn setting_and_files_that_changed_are_told_by_name() {
        let then = origin("512", &[("a.jsonl", "a"), ("b.jsonl", "b"), ("c.jsonl", "c")]);
        assert!(then.changes_since(&then, 300).is_empty());
        let now = origin("1024", &[("a.jsonl", "a and more"), ("b.jsonl", "b"), ("d.jsonl", "d")]);
        let due = [
            "data.vocabulary was 512, is 1024",
            "a.jsonl has changed",
            "c.jsonl is no longer there",
            "d.jsonl is new",
        ];
        assert_eq!(now.changes_since(&then, 300), due);
    }

    #[test]
    fn what_gives_the_same_data_is_no_change() {
        let then = origin("4096", &[("a.jsonl", "a"), ("b.jsonl", "b")]);
        // The vocabulary that came out, and a file by another name.
        let now = origin("300", &[("a.jsonl", "a"), ("moved/b.jsonl", "b")]);
        assert!(now.changes_since(&then, 300).is_empty());
        let mut unread = origin("4096", &[("a.jsonl", "a"), ("b.jsonl", "c")]);
        unread.files[1].digest = None;
        assert!(unread.changes_since(&then, 300).is_empty(), "its length is all that is known");
        unread.files[1].bytes = 7;
        assert_eq!(unread.changes_since(&then, 300), ["b.jsonl has changed"]);
    }

    #[test]
    fn file_of_which_another_part_is_read_is_told() {
        let then = origin("512", &[("a.jsonl", "a")]);
        let mut now = then.clone();
        now.files[0].manner = "[1]".to_owned();
        assert_eq!(now.changes_since(&then, 300), ["a.jsonl is read in another way"]);
    }
}
