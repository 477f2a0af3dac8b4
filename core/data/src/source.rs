//! Corpus files as streams of documents. Memory holds one document at a time.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{DataError, Result, at};

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
    /// WuDaoCorpora only: where the domain comes from.
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

/// What to do with a line that cannot be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnBadLine {
    /// Count it and go on.
    #[default]
    Skip,
    /// Stop.
    Stop,
}

/// One document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Its domain.
    pub domain: String,
    /// Its text.
    pub text: String,
}

/// What reading one file came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadReport {
    /// The file.
    pub path: PathBuf,
    /// Documents read.
    pub documents: u64,
    /// Lines or files that are not UTF-8, not JSON, or lack their text.
    pub bad: u64,
    /// The first of those, in a sentence.
    pub first_bad: Option<String>,
}

impl SourceSpec {
    /// The files it names, in order of name.
    pub fn files(&self) -> Result<Vec<PathBuf>> {
        if !self.path.contains(['*', '?', '[', '{']) {
            let path = PathBuf::from(&self.path);
            return if path.exists() {
                Ok(vec![path])
            } else {
                Err(DataError::NoFile(self.path.clone()))
            };
        }
        let matcher = globset::GlobBuilder::new(&self.path)
            .literal_separator(true)
            .build()
            .map_err(|error| DataError::Broken {
                path: self.path.clone().into(),
                reason: error.to_string(),
            })?
            .compile_matcher();
        let fixed: PathBuf = Path::new(&self.path)
            .components()
            .take_while(|part| !part.as_os_str().to_string_lossy().contains(['*', '?', '[', '{']))
            .collect();
        let mut files: Vec<PathBuf> = walkdir::WalkDir::new(&fixed)
            .into_iter()
            .filter_map(|entry| entry.ok())
            .filter(|entry| entry.file_type().is_file() && matcher.is_match(entry.path()))
            .map(|entry| entry.into_path())
            .collect();
        files.sort();
        if files.is_empty() { Err(DataError::NoFile(self.path.clone())) } else { Ok(files) }
    }

    /// Streams one file's documents into `take`.
    pub fn read(
        &self,
        path: &Path,
        on_bad: OnBadLine,
        take: &mut dyn FnMut(Document) -> Result<()>,
    ) -> Result<ReadReport> {
        let mut reading = Reading {
            report: ReadReport { path: path.to_owned(), ..ReadReport::default() },
            on_bad,
            take,
        };
        match self.format {
            Format::Jsonl | Format::Pile => self.read_lines(path, &mut reading)?,
            Format::Wudao => self.read_array(path, &mut reading)?,
            Format::Text => self.read_text(path, &mut reading)?,
        }
        Ok(reading.report)
    }

    fn read_lines(&self, path: &Path, reading: &mut Reading<'_>) -> Result<()> {
        let mut lines = BufReader::new(open(path)?);
        let mut line = Vec::new();
        let mut number = 0u64;
        loop {
            line.clear();
            number += 1;
            if lines.read_until(b'\n', &mut line).map_err(at(path))? == 0 {
                return Ok(());
            }
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let document = std::str::from_utf8(&line)
                .map_err(|error| format!("line {number} is not UTF-8: {error}"))
                .and_then(|text| {
                    serde_json::from_str::<Value>(text)
                        .map_err(|error| format!("line {number} is not JSON: {error}"))
                })
                .and_then(|value| {
                    self.of_line(path, value).map_err(|lack| format!("line {number} {lack}"))
                });
            reading.offer(document)?;
        }
    }

    fn of_line(&self, path: &Path, mut value: Value) -> std::result::Result<Document, String> {
        let domain = match (&self.domain, self.format) {
            (Some(domain), _) => domain.clone(),
            (None, Format::Pile) => {
                text_at(&mut value, "/meta/pile_set_name").ok_or("has no meta.pile_set_name")?
            }
            (None, _) => stem(path),
        };
        let text = text_at(&mut value, "/text").ok_or("has no text")?;
        Ok(Document { domain, text })
    }

    /// Reads a JSON array element by element.
    fn read_array(&self, path: &Path, reading: &mut Reading<'_>) -> Result<()> {
        let broken = |reason: String| DataError::Broken { path: path.to_owned(), reason };
        let mut stream = BufReader::new(open(path)?);
        let expect = |stream: &mut BufReader<Box<dyn Read>>| -> Result<Option<u8>> {
            loop {
                let buffer = stream.fill_buf().map_err(at(path))?;
                let Some(&byte) = buffer.first() else { return Ok(None) };
                if !byte.is_ascii_whitespace() {
                    return Ok(Some(byte));
                }
                stream.consume(1);
            }
        };
        if expect(&mut stream)? != Some(b'[') {
            return Err(broken("does not begin with `[`: not a JSON array".to_owned()));
        }
        stream.consume(1);
        for number in 1u64.. {
            match expect(&mut stream)? {
                Some(b']') => return Ok(()),
                Some(b',') if number > 1 => stream.consume(1),
                Some(_) if number == 1 => {}
                Some(other) => {
                    let other = char::from(other);
                    return Err(broken(format!("`{other}` before object {number}, not a comma")));
                }
                None => return Err(broken(format!("ends before object {number}: truncated"))),
            }
            let value = serde_json::Deserializer::from_reader(&mut stream)
                .into_iter::<Value>()
                .next()
                .ok_or_else(|| broken(format!("ends before object {number}: truncated")))?
                .map_err(|error| broken(format!("object {number}: {error}")))?;
            reading.offer(
                self.of_object(path, value).map_err(|lack| format!("object {number} {lack}")),
            )?;
        }
        Ok(())
    }

    fn of_object(&self, path: &Path, mut value: Value) -> std::result::Result<Document, String> {
        let domain = match (&self.domain, self.domain_from) {
            (Some(domain), _) => domain.clone(),
            (None, DomainFrom::Field) => {
                text_at(&mut value, "/dataType").ok_or("has no dataType")?
            }
            (None, DomainFrom::FileName) => stem(path),
        };
        let content = text_at(&mut value, "/content").ok_or("has no content")?;
        let text = match text_at(&mut value, "/title") {
            Some(title) if !title.is_empty() => format!("{title}\n{content}"),
            _ => content,
        };
        Ok(Document { domain, text })
    }

    fn read_text(&self, path: &Path, reading: &mut Reading<'_>) -> Result<()> {
        let mut bytes = Vec::new();
        open(path)?.read_to_end(&mut bytes).map_err(at(path))?;
        let folder = || {
            let name = path.parent().and_then(Path::file_name);
            name.map_or_else(|| "text".to_owned(), |name| name.to_string_lossy().into_owned())
        };
        let domain = self.domain.clone().unwrap_or_else(folder);
        let document = String::from_utf8(bytes)
            .map(|text| Document { domain, text })
            .map_err(|error| format!("is not UTF-8: {error}"));
        reading.offer(document)
    }
}

struct Reading<'a> {
    report: ReadReport,
    on_bad: OnBadLine,
    take: &'a mut dyn FnMut(Document) -> Result<()>,
}

impl Reading<'_> {
    fn offer(&mut self, document: std::result::Result<Document, String>) -> Result<()> {
        match document {
            Ok(document) => {
                self.report.documents += 1;
                (self.take)(document)
            }
            Err(reason) if self.on_bad == OnBadLine::Stop => {
                Err(DataError::Broken { path: self.report.path.clone(), reason })
            }
            Err(reason) => {
                self.report.bad += 1;
                self.report.first_bad.get_or_insert(reason);
                Ok(())
            }
        }
    }
}

fn text_at(value: &mut Value, pointer: &str) -> Option<String> {
    match value.pointer_mut(pointer)?.take() {
        Value::String(text) => Some(text),
        _ => None,
    }
}

/// The file's name up to its first dot, less a closing `_val`.
fn stem(path: &Path) -> String {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let stem = name.split('.').next().unwrap_or_default();
    stem.strip_suffix("_val").unwrap_or(stem).to_owned()
}

/// Opens a plain, gzip or zstd file by its ending.
fn open(path: &Path) -> Result<Box<dyn Read>> {
    let file = File::open(path).map_err(at(path))?;
    Ok(match path.extension().and_then(|ending| ending.to_str()) {
        Some("gz") => Box::new(flate2::read::MultiGzDecoder::new(file)),
        Some("zst") => Box::new(zstd::Decoder::new(file).map_err(at(path))?),
        _ => Box::new(file),
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn spec(format: Format) -> SourceSpec {
        let (domain_from, split) = (DomainFrom::default(), Split::default());
        SourceSpec { path: String::new(), format, domain: None, domain_from, split }
    }

    fn read(
        spec: &SourceSpec,
        path: &Path,
        on_bad: OnBadLine,
    ) -> (Vec<Document>, Result<ReadReport>) {
        let mut documents = Vec::new();
        let report = spec.read(path, on_bad, &mut |document| {
            documents.push(document);
            Ok(())
        });
        (documents, report)
    }

    fn write(name: &str, bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        (folder, path)
    }

    #[test]
    fn bad_lines_are_counted_and_the_first_is_named() {
        let (_folder, path) = write(
            "books.jsonl",
            b"{\"text\":\"one\"}\nnot json\n\n[\"text\"]\n{\"text\":\"\xff\"}\n{\"text\":\"two\"}\n",
        );
        let (documents, report) = read(&spec(Format::Jsonl), &path, OnBadLine::Skip);
        let report = report.unwrap();
        assert_eq!((report.documents, report.bad), (2, 3));
        assert!(report.first_bad.unwrap().starts_with("line 2 is not JSON"));
        assert_eq!(documents[1], Document { domain: "books".into(), text: "two".into() });
        let stopped = read(&spec(Format::Jsonl), &path, OnBadLine::Stop).1.unwrap_err();
        assert!(stopped.to_string().contains("line 2 is not JSON"), "{stopped}");
    }

    #[test]
    fn pile_domain_comes_from_its_meta_field() {
        let line = br#"{"text":"x","meta":{"pile_set_name":"Wiki (en)"}}"#;
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(line).unwrap();
        let (_folder, path) = write("pile.jsonl.gz", &packed.finish().unwrap());
        let (documents, _) = read(&spec(Format::Pile), &path, OnBadLine::Stop);
        assert_eq!(documents, [Document { domain: "Wiki (en)".into(), text: "x".into() }]);
    }

    #[test]
    fn truncated_zstd_is_an_error_that_names_the_file() {
        let whole = zstd::encode_all(&b"{\"text\":\"one\"}\n".repeat(5000)[..], 3).unwrap();
        let (_folder, path) = write("cut.jsonl.zst", &whole[..whole.len() - 5]);
        let error = read(&spec(Format::Jsonl), &path, OnBadLine::Skip).1.unwrap_err();
        assert!(error.to_string().contains("cut.jsonl.zst"), "{error}");
    }

    #[test]
    fn wudao_array_is_streamed_and_truncation_is_an_error() {
        let array = br#"[ {"title":"t","content":"c","dataType":"d"},
            {"title":"","content":"e","dataType":"d"} ]"#;
        let (_folder, path) = write("part_val.json", array);
        let (documents, report) = read(&spec(Format::Wudao), &path, OnBadLine::Stop);
        assert_eq!(report.unwrap().documents, 2);
        assert_eq!(documents[0], Document { domain: "d".into(), text: "t\nc".into() });
        assert_eq!(documents[1].text, "e");
        let by_name = SourceSpec { domain_from: DomainFrom::FileName, ..spec(Format::Wudao) };
        assert_eq!(read(&by_name, &path, OnBadLine::Stop).0[0].domain, "part");
        let (_folder, path) = write("cut.json", &array[..array.len() - 2]);
        let error = read(&spec(Format::Wudao), &path, OnBadLine::Skip).1.unwrap_err();
        assert!(error.to_string().contains("truncated"), "{error}");
    }

    #[test]
    fn missing_source_is_named() {
        let missing = SourceSpec { path: "/nowhere/*.txt".into(), ..spec(Format::Text) };
        assert!(
            matches!(missing.files(), Err(DataError::NoFile(path)) if path == "/nowhere/*.txt")
        );
    }
}
