//! The `data` section of a run file.

use std::path::{Path, PathBuf};

use hm_domain::settings::{Faults, shown};
use serde::{Deserialize, Serialize};

use crate::hold_out::HoldOut;
use crate::reading::OnBadLine;
use crate::source::{SourceSpec, Split};
use crate::tokenizer::{VOCABULARY_MAX, VOCABULARY_MIN, is_own_mark, own_marks};

/// Tokens of a vocabulary that is trained here, unless said otherwise.
const VOCABULARY: usize = 4096;

/// Most text that a tokenizer is trained on: its counts stay in memory.
const TOKENIZER_BYTES_MAX: u64 = 16 << 30;

/// What to prepare: the `data` section of a run file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrepareSpec {
    /// Corpora.
    pub sources: Vec<SourceSpec>,
    /// Tokens of the vocabulary, special ones included: exactly so many where it is said; by default what
    /// `tokenizer` has, or as many as the text gives up to 4096.
    #[serde(default)]
    pub vocabulary: Option<usize>,
    /// An existing `tokenizer.json` to use instead of training one.
    #[serde(default)]
    pub tokenizer: Option<PathBuf>,
    /// The token that ends every document; by default the first of the usual ones that the tokenizer has.
    #[serde(default)]
    pub end_of_document: Option<String>,
    /// Text the tokenizer is trained on at most, in bytes.
    #[serde(default = "tokenizer_bytes_max")]
    pub tokenizer_bytes_max: u64,
    /// What to do with lines that cannot be used.
    #[serde(default)]
    pub on_bad_line: OnBadLine,
    /// How much of the training sources is held out, for domains of which no file is.
    #[serde(default)]
    pub validation: HoldOut,
    /// Where the run file lies: what paths are relative to. Never written in it.
    #[serde(skip)]
    pub folder: PathBuf,
}

fn tokenizer_bytes_max() -> u64 {
    8 << 20
}

impl PrepareSpec {
    /// Takes paths as relative to `folder`, where the run file lies. An empty one is the working folder.
    pub fn resolve_paths(&mut self, folder: &Path) {
        let typed = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        self.folder = std::path::absolute(typed).unwrap_or_else(|_| typed.to_owned());
        self.tokenizer = self.tokenizer.take().map(|path| folder.join(path));
    }

    /// Notes all that is wrong with the section, under keys as typed. Reads no file.
    pub fn check(&self, faults: &mut Faults) {
        let trained = self.sources.iter().any(|source| source.split == Split::Train);
        if self.sources.is_empty() {
            faults.add("data.sources", "empty", "must name at least one source");
        } else if !trained {
            faults.add("data.sources", "validation only", "must hold one that is trained on");
        }
        for (number, source) in self.sources.iter().enumerate() {
            source.check(&format!("data.sources.{number}"), faults);
        }
        if let (Some(vocabulary), None) = (self.vocabulary, &self.tokenizer) {
            let fits = (VOCABULARY_MIN..=VOCABULARY_MAX).contains(&vocabulary);
            let must = format!(
                "must be at least {VOCABULARY_MIN} (256 bytes and 9 marks) and at most {VOCABULARY_MAX}"
            );
            faults.require(fits, "data.vocabulary", vocabulary, must);
        }
        if let Some(path) = self.tokenizer.as_ref().filter(|path| path.as_os_str().is_empty()) {
            faults.add("data.tokenizer", path.display(), "must name a tokenizer.json");
        }
        if let Some(mark) = self.end_of_document.as_ref().filter(|mark| mark.is_empty()) {
            let must = "must be a token, such as <|endoftext|>";
            faults.add("data.end_of_document", shown(mark), must);
        } else if let (Some(mark), None) = (&self.end_of_document, &self.tokenizer) {
            let must = format!(
                "must be one of the marks of a tokenizer that is trained here ({}), or of another that data.tokenizer names",
                own_marks()
            );
            faults.require(is_own_mark(mark), "data.end_of_document", shown(mark), must);
        }
        let bytes = self.tokenizer_bytes_max;
        let must = format!("must be at least 1 and at most {TOKENIZER_BYTES_MAX}");
        let fits = (1..=TOKENIZER_BYTES_MAX).contains(&bytes);
        faults.require(fits, "data.tokenizer_bytes_max", bytes, must);
        self.validation.check(faults);
    }

    /// Tokens that are asked of a vocabulary trained here.
    pub(crate) fn vocabulary(&self) -> usize {
        self.vocabulary.unwrap_or(VOCABULARY)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::source::{DomainFrom, Format};

    pub(crate) fn source(path: &str) -> SourceSpec {
        let (text_field, domain, domain_from, domain_field) = (None, None, None, None);
        let (path, format, split) = (path.to_owned(), Format::Jsonl, Split::Train);
        SourceSpec { path, format, text_field, domain, domain_from, domain_field, split }
    }

    pub(crate) fn spec_of(folder: &Path, sources: Vec<SourceSpec>) -> PrepareSpec {
        PrepareSpec {
            sources,
            vocabulary: Some(300),
            tokenizer: None,
            end_of_document: None,
            tokenizer_bytes_max: 1 << 16,
            on_bad_line: OnBadLine::Skip,
            validation: HoldOut::default(),
            folder: folder.to_owned(),
        }
    }

    fn faults(spec: &PrepareSpec) -> Vec<String> {
        let mut faults = Faults::default();
        spec.check(&mut faults);
        faults.all().iter().map(|fault| format!("{} is {}", fault.key, fault.value)).collect()
    }

    #[test]
    fn every_fault_is_told_at_once_under_its_key() {
        let good = spec_of(Path::new("."), vec![source("a.jsonl")]);
        assert_eq!(faults(&good), Vec::<String>::new());
        let text = SourceSpec { format: Format::Text, ..source("a.txt") };
        let field = Some("lang".to_owned());
        let mut bad = spec_of(
            Path::new("."),
            vec![
                source("  "),
                SourceSpec { domain: Some("a\0b".into()), ..source("b.jsonl") },
                SourceSpec { domain_from: Some(DomainFrom::Field), ..source("c.jsonl") },
                SourceSpec { text_field: field.clone(), ..text.clone() },
                SourceSpec { domain_from: Some(DomainFrom::Field), ..text },
                SourceSpec { domain: Some("x".into()), domain_field: field.clone(), ..source("d") },
                SourceSpec {
                    domain_from: Some(DomainFrom::Folder),
                    domain_field: field,
                    ..source("e")
                },
                SourceSpec { text_field: Some(String::new()), ..source("f") },
            ],
        );
        bad.vocabulary = Some(10);
        bad.tokenizer_bytes_max = 0;
        bad.end_of_document = Some(String::new());
        bad.validation.fraction = f64::NAN;
        let expected = [
            r#"data.sources.0.path is "  ""#,
            r#"data.sources.1.domain is "a\0b""#,
            "data.sources.2.domain_from is field",
            r#"data.sources.3.text_field is "lang""#,
            "data.sources.4.domain_from is field",
            r#"data.sources.5.domain is "x""#,
            r#"data.sources.6.domain_field is "lang""#,
            r#"data.sources.7.text_field is """#,
            "data.vocabulary is 10",
            r#"data.end_of_document is """#,
            "data.tokenizer_bytes_max is 0",
            "data.validation.fraction is NaN",
        ];
        assert_eq!(faults(&bad), expected);
    }

    #[test]
    fn an_end_mark_that_a_tokenizer_trained_here_will_not_have_is_a_fault_of_settings() {
        let mut spec = spec_of(Path::new("."), vec![source("a.jsonl")]);
        spec.end_of_document = Some("<|foo|>".to_owned());
        assert_eq!(faults(&spec), [r#"data.end_of_document is "<|foo|>""#]);
        spec.tokenizer = Some("theirs.json".into());
        spec.vocabulary = None;
        assert_eq!(faults(&spec), Vec::<String>::new(), "theirs is asked when it is read");
        (spec.tokenizer, spec.end_of_document) = (None, Some("[MASK]".to_owned()));
        assert_eq!(faults(&spec), Vec::<String>::new());
    }

    #[test]
    fn a_field_for_the_domain_needs_no_second_key() {
        let by_field = SourceSpec { domain_field: Some("lang".into()), ..source("a.jsonl") };
        assert_eq!(by_field.domain_from(), DomainFrom::Field);
        assert_eq!(faults(&spec_of(Path::new("."), vec![by_field])), Vec::<String>::new());
    }

    #[test]
    fn vocabularies_too_small_for_bytes_and_nothing_to_train_on_are_refused() {
        let mut spec = spec_of(Path::new("."), vec![source("a.jsonl")]);
        for vocabulary in [0, 1, 10, 264, usize::MAX] {
            spec.vocabulary = Some(vocabulary);
            assert_eq!(faults(&spec), [format!("data.vocabulary is {vocabulary}")]);
        }
        spec.vocabulary = Some(265);
        assert_eq!(faults(&spec), Vec::<String>::new());
        spec.sources[0].split = Split::Validation;
        assert_eq!(faults(&spec), ["data.sources is validation only"]);
        spec.sources.clear();
        assert_eq!(faults(&spec), ["data.sources is empty"]);
    }
}
