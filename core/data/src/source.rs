//! Where documents come from: files by name or glob, their layout, their side of the split.

use std::path::Path;

use hm_domain::settings::{Faults, bad_name, shown};
use serde::{Deserialize, Serialize};

use crate::corpus_file::CorpusFile;
use crate::error::Result;
use crate::layout::{Layout, Naming};
use crate::reading::{Manner, ReadReport, Reading, Take};
use crate::{json_array, json_lines, plain_text};

/// Where documents come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceSpec {
    /// File, or a pattern as bash has it, such as `books/**/*.txt`, from the run file's folder. A part that
    /// is there as typed is taken as it stands, and `**` goes through no link to a folder.
    pub path: String,
    /// How the files are laid out.
    pub format: Format,
    /// Field that holds the text, as in `content` or `meta.body`; by default the format's own.
    #[serde(default)]
    pub text_field: Option<String>,
    /// Domain of every document. Without it `domain_from` says where that comes from.
    #[serde(default)]
    pub domain: Option<String>,
    /// Where the domain comes from; by default as is usual with the format.
    #[serde(default)]
    pub domain_from: Option<DomainFrom>,
    /// Field that holds the domain, where it comes from one; by default the format's own.
    #[serde(default)]
    pub domain_field: Option<String>,
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
    /// `WuDaoCorpora`: one JSON array of objects with `title` and `content`, domain from `dataType`.
    Wudao,
    /// Plain text files, one document each. Domain: the folder's name.
    Text,
}

/// Where a document's domain comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DomainFrom {
    /// A field of the object.
    Field,
    /// The file's name up to its first dot, less `_val`.
    FileName,
    /// The name of the folder that the file lies in.
    Folder,
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

/// What a shell or a browser would have made a path of.
fn not_a_path(path: &str) -> Option<&'static str> {
    if path.contains("://") {
        return Some("must be a path on this machine: nothing is fetched, download it first");
    }
    if path.starts_with("~/") || path.starts_with("$HOME") || path.starts_with("${") {
        return Some("must be a path as it is: variables and ~ are read by a shell, not here");
    }
    None
}

impl SourceSpec {
    /// Notes what is wrong, under keys that begin with `at`. Reads no file.
    pub(crate) fn check(&self, at: &str, faults: &mut Faults) {
        let key = |name: &str| format!("{at}.{name}");
        let path_is_text = !self.path.trim().is_empty() && !self.path.contains('\0');
        let must = "must name a file, or files by a pattern such as `corpus/*.jsonl`";
        faults.require(path_is_text, key("path"), shown(&self.path), must);
        if let Some(must) = not_a_path(&self.path) {
            faults.add(key("path"), shown(&self.path), must);
        }
        for (name, value) in
            [("text_field", &self.text_field), ("domain_field", &self.domain_field)]
        {
            let Some(value) = value else { continue };
            let must = "must be the name of a field";
            faults.require(!value.trim().is_empty(), key(name), shown(value), must);
            let must = "must be left out: plain text has no fields";
            faults.require(self.format != Format::Text, key(name), shown(value), must);
        }
        if let Some(domain) = &self.domain {
            if let Some(must) = bad_name(domain) {
                faults.add(key("domain"), shown(domain), must);
            }
            let one = self.domain_from.is_none() && self.domain_field.is_none();
            let must = "must be left out, or else domain_from and domain_field: it names the domain of every document";
            faults.require(one, key("domain"), shown(domain), must);
            return;
        }
        match (self.domain_from(), &self.domain_field) {
            (DomainFrom::Field, None) if self.own_domain_field().is_none() => {
                let must = match self.format {
                    Format::Text => "must be file-name or folder: plain text has no fields",
                    _ => "wants domain_field, the name of the field",
                };
                faults.add(key("domain_from"), "field", must);
            }
            (DomainFrom::FileName | DomainFrom::Folder, Some(field)) => {
                let must = "must be left out: domain_from says that the domain comes from the file";
                faults.add(key("domain_field"), shown(field), must);
            }
            _ => {}
        }
    }

    pub(crate) fn domain_from(&self) -> DomainFrom {
        self.domain_from.unwrap_or(match (self.format, &self.domain_field) {
            (_, Some(_)) | (Format::Pile | Format::Wudao, None) => DomainFrom::Field,
            (Format::Jsonl, None) => DomainFrom::FileName,
            (Format::Text, None) => DomainFrom::Folder,
        })
    }

    /// The field that holds the text, where there are fields.
    pub(crate) fn text_from(&self) -> Option<&str> {
        match (self.format, &self.text_field) {
            (Format::Text, _) => None,
            (_, Some(field)) => Some(field),
            (Format::Wudao, None) => Some("content"),
            (Format::Jsonl | Format::Pile, None) => Some("text"),
        }
    }

    fn own_domain_field(&self) -> Option<&'static str> {
        match self.format {
            Format::Pile => Some("meta.pile_set_name"),
            Format::Wudao => Some("dataType"),
            Format::Jsonl | Format::Text => None,
        }
    }

    /// Where the domain of a file's documents comes from.
    pub(crate) fn naming(&self, path: &Path) -> Naming {
        let named = |name: String| Naming::Named(name);
        match (&self.domain, self.domain_from()) {
            (Some(domain), _) => named(domain.clone()),
            (None, DomainFrom::FileName) => named(stem(path)),
            (None, DomainFrom::Folder) => named(folder_name(path)),
            (None, DomainFrom::Field) => {
                let own = self.own_domain_field().unwrap_or_default().to_owned();
                Naming::Field(self.domain_field.clone().unwrap_or(own))
            }
        }
    }

    /// Streams one file's documents into `take`, with the bytes of the file read so far, until it
    /// breaks, the file ends, or `manner` says so. The report calls the file `shown`.
    pub(crate) fn read(
        &self,
        (path, shown): (&Path, &str),
        naming: &Naming,
        manner: Manner<'_>,
        take: Take<'_>,
    ) -> Result<ReadReport> {
        let mut file = CorpusFile::open(path)?;
        let report = ReadReport { path: shown.into(), ..ReadReport::default() };
        let position = file.position();
        let mut reading = Reading { path, report, manner, position, take, ended_early: false };
        let wudao = self.format == Format::Wudao;
        let text = self.text_from().unwrap_or_default().to_owned();
        let layout = Layout { text, title: wudao.then_some("title"), naming: naming.clone() };
        match (self.format, naming) {
            (Format::Text, Naming::Named(domain)) => {
                plain_text::read(domain, &mut file, &mut reading)?;
            }
            (Format::Wudao, _) => json_array::read(&layout, &mut file, &mut reading)?,
            (Format::Jsonl | Format::Pile | Format::Text, _) => {
                json_lines::read(&layout, &mut file, &mut reading)?;
            }
        }
        if reading.ended_early {
            reading.report.in_part = Some(file.times()?).filter(|times| *times > 1.0);
        }
        Ok(reading.report)
    }
}

/// The file's name up to its first dot, less a closing `_val`.
fn stem(path: &Path) -> String {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let stem = name.split('.').next().unwrap_or_default();
    stem.strip_suffix("_val").unwrap_or(stem).to_owned()
}

fn folder_name(path: &Path) -> String {
    let name = |folder: &Path| Some(folder.file_name()?.to_string_lossy().into_owned());
    let folder = path.parent().unwrap_or(path);
    // A folder that is called `..` or `.` here has a name all the same.
    name(folder).or_else(|| name(&folder.canonicalize().ok()?)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
