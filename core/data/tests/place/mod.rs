//! A folder of small corpora that are made in it, and what is prepared of them.

use std::path::PathBuf;

use hm_data::*;

pub(crate) struct Place {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) spec: PrepareSpec,
}

pub(crate) fn never() -> bool {
    false
}

impl Place {
    pub(crate) fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        let spec = PrepareSpec {
            sources: Vec::new(),
            vocabulary: None,
            tokenizer: None,
            end_of_document: None,
            tokenizer_bytes_max: 1 << 16,
            on_bad_line: OnBadLine::Skip,
            validation: HoldOut::default(),
            folder: folder.path().to_owned(),
        };
        Place { folder, spec }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.path("prepared")
    }

    /// A source over the glob or file `name`, after writing `bytes` to `file`.
    pub(crate) fn source(mut self, name: &str, file: &str, bytes: &[u8], split: Split) -> Place {
        std::fs::write(self.path(file), bytes).unwrap();
        let format = if file.ends_with(".json") { Format::Wudao } else { Format::Jsonl };
        let (text_field, domain, domain_field) = (None, None, None);
        let (path, domain_from) = (name.to_owned(), Some(DomainFrom::FileName));
        self.spec.sources.push(SourceSpec {
            path,
            format,
            text_field,
            domain,
            domain_from,
            domain_field,
            split,
        });
        self
    }

    pub(crate) fn train(self, file: &str, lines: &str) -> Place {
        self.source(file, file, lines.as_bytes(), Split::Train)
    }

    pub(crate) fn held_out(self, file: &str, lines: &str) -> Place {
        self.source(file, file, lines.as_bytes(), Split::Validation)
    }

    pub(crate) fn try_prepare(&self) -> Result<Prepared> {
        prepare(&self.spec, &self.root(), Watch { tell: &mut |_| {}, stop: &never })
    }

    pub(crate) fn prepare(&self) -> Prepared {
        self.try_prepare().unwrap()
    }

    pub(crate) fn refusal(&self) -> String {
        let before = self.folders();
        let error = self.try_prepare().unwrap_err().to_string();
        assert_eq!(self.folders(), before, "nothing more counts as prepared, or is left behind");
        error
    }

    /// What lies in the root but for small files of its own.
    pub(crate) fn folders(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.root()).into_iter().flatten();
        let folders = entries.map(|entry| entry.unwrap()).filter(|entry| entry.path().is_dir());
        let mut names: Vec<String> =
            folders.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

/// JSONL of `count` different documents.
pub(crate) fn lines(word: &str, count: usize) -> String {
    (0..count).map(|number| format!("{{\"text\":\"{word} number {number}\"}}\n")).collect()
}
