//! Where documents come from: files by name or glob, their layout, their side of the split.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::corpus_file::CorpusFile;
use crate::error::{DataError, Result};
use crate::reading::{OnBadLine, ReadReport, Reading, Take};
use crate::{json_array, json_lines, plain_text};

/// Where documents come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceSpec {
    /// File, or a glob such as `books/**/*.txt`.
    pub path: String,
    /// How the files are laid out.
    pub format: Format,
    /// Domain of every document; by default the format's own.
    #[serde(default)]
    pub domain: Option<String>,
    /// `WuDaoCorpora` only: where the domain comes from.
    #[serde(default)]
    pub domain_from: DomainFrom,
    /// Whether these documents are trained on or held out.
    #[serde(default)]
    pub split: Split,
}

/// Layout of a corpus file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// One JSON object a line with `text`; plain, .gz or .zst. Domain: the file's name.
    Jsonl,
    /// The Pile: as `jsonl`, domain from `meta.pile_set_name`.
    Pile,
    /// `WuDaoCorpora`: one JSON array of objects with `title` and `content`.
    Wudao,
    /// Plain text files, one document each. Domain: the folder's name.
    Text,
}

/// Where a `WuDaoCorpora` document's domain comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DomainFrom {
    /// The field `dataType`.
    #[default]
    Field,
    /// The file's name, less `_val` and its ending.
    FileName,
}

/// Which side of the split a source is on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Split {
    /// Trained on; some held out by hash if the run file says so.
    #[default]
    Train,
    /// All held out.
    Validation,
}

impl SourceSpec {
    /// The files it names, in order of name.
    ///
    /// # Errors
    /// When there is none, or when a folder on the way cannot be read.
    pub fn files(&self) -> Result<Vec<PathBuf>> {
        let literal = PathBuf::from(&self.path);
        if literal.is_file() {
            return Ok(vec![literal]);
        }
        if literal.is_dir() {
            let reason = "is a folder: name its files, as in `folder/**/*.jsonl`".to_owned();
            return Err(DataError::Broken { path: literal, reason });
        }
        let (matcher, folder) = self.glob()?;
        let mut files = Vec::new();
        if folder.exists() {
            for entry in walkdir::WalkDir::new(&folder) {
                let entry = entry.map_err(|error| DataError::Broken {
                    path: self.path.clone().into(),
                    reason: format!("cannot be searched: {error}"),
                })?;
                if matcher.is_match(entry.path()) && entry.path().is_file() {
                    files.push(entry.into_path());
                }
            }
        }
        files.sort();
        if files.is_empty() { Err(DataError::NoFile(self.path.clone())) } else { Ok(files) }
    }

    /// The path as a glob, and the folder above its first wild card.
    fn glob(&self) -> Result<(globset::GlobMatcher, PathBuf)> {
        let glob = globset::GlobBuilder::new(&self.path).literal_separator(true).build();
        let matcher = glob.map_err(|error| DataError::Broken {
            path: self.path.clone().into(),
            reason: error.to_string(),
        })?;
        let fixed: PathBuf = Path::new(&self.path)
            .components()
            .take_while(|part| !part.as_os_str().to_string_lossy().contains(['*', '?', '[', '{']))
            .collect();
        let folder = if fixed.as_os_str().is_empty() { PathBuf::from(".") } else { fixed };
        Ok((matcher.compile_matcher(), folder))
    }

    /// Streams one file's documents into `take`, with the bytes of the file read so far, until it
    /// breaks or the file ends.
    pub fn read(&self, path: &Path, on_bad: OnBadLine, take: Take<'_>) -> Result<ReadReport> {
        let file = CorpusFile::open(path)?;
        let report = ReadReport { path: path.to_owned(), ..ReadReport::default() };
        let mut reading = Reading { report, on_bad, position: file.position(), take };
        match self.format {
            Format::Jsonl | Format::Pile => json_lines::read(self, file, &mut reading)?,
            Format::Wudao => json_array::read(self, file, &mut reading)?,
            Format::Text => plain_text::read(self, file, &mut reading)?,
        }
        Ok(reading.report)
    }
}

/// Takes the text at a JSON pointer out of `value`.
pub(crate) fn text_at(value: &mut Value, pointer: &str) -> Option<String> {
    match value.pointer_mut(pointer)?.take() {
        Value::String(text) => Some(text),
        _ => None,
    }
}

/// The file's name up to its first dot, less a closing `_val`.
pub(crate) fn stem(path: &Path) -> String {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let stem = name.split('.').next().unwrap_or_default();
    stem.strip_suffix("_val").unwrap_or(stem).to_owned()
}

#[cfg(test)]
mod tests;
