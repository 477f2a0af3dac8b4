//! The reading of one corpus file: documents go to whoever asked, what cannot be used is counted.

use std::cell::Cell;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde::{Deserialize, Serialize};

use crate::error::{DataError, Result};

/// Bytes of the longest line, object or text file that is read (256 MiB): memory holds one document.
pub(crate) const DOCUMENT_BYTES_MAX: usize = 256 << 20;

/// What to do with a line, object or file that cannot be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnBadLine {
    /// Count it and go on: after a bad line with the next line, after a file that is truncated or
    /// damaged with the next file.
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
    /// Halves of surrogate pairs that became U+FFFD in its text.
    pub replaced: u64,
}

impl Document {
    /// Whether there is nothing to train on.
    pub(crate) fn is_blank(&self) -> bool {
        self.text.trim().is_empty()
    }
}

/// Why there is no document, as the end of a sentence that begins with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unusable {
    /// It is counted, or stops the preparation, as the run file says.
    Bad(String),
    /// Its domain's name is none: that is no matter of one line, and nothing is prepared.
    Name(String),
}

impl From<String> for Unusable {
    fn from(reason: String) -> Unusable {
        Unusable::Bad(reason)
    }
}

impl Unusable {
    /// The same, with its place before it.
    pub(crate) fn at(self, place: impl std::fmt::Display) -> Unusable {
        match self {
            Unusable::Bad(reason) => Unusable::Bad(format!("{place} {reason}")),
            Unusable::Name(reason) => Unusable::Name(format!("{place} {reason}")),
        }
    }
}

/// What reading one file came to. Its lines (but for empty ones), objects or texts are its documents, its
/// blank and its bad ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadReport {
    /// The file, relative to the run file's folder where it lies inside that.
    pub path: PathBuf,
    /// Documents with text.
    pub documents: u64,
    /// Of those, not trained on: their text is among the validation documents that files name.
    pub in_validation: u64,
    /// Documents without text: not used.
    pub blank: u64,
    /// Lines, objects or files that are not UTF-8, not JSON, damaged, or lack their text.
    pub bad: u64,
    /// The first of those, in a sentence.
    pub first_bad: Option<String>,
    /// Where and why reading ended before the file's end: what stands behind is lost.
    pub cut_short: Option<String>,
    /// Characters that no text can hold (halves of surrogate pairs) and that became U+FFFD.
    pub replaced: u64,
}

impl ReadReport {
    /// Counts documents as bad after all, or stops.
    pub(crate) fn set_aside(
        &mut self,
        path: &Path,
        on_bad: OnBadLine,
        reasons: Vec<String>,
    ) -> Result<()> {
        for reason in reasons {
            if on_bad == OnBadLine::Stop {
                return Err(DataError::Broken { path: path.to_owned(), reason });
            }
            self.documents -= 1;
            self.bad += 1;
            self.first_bad.get_or_insert(reason);
        }
        Ok(())
    }
}

/// Takes a document and the bytes of the file read so far; says whether to go on.
pub(crate) type Take<'a> = &'a mut dyn FnMut(Document, u64) -> Result<ControlFlow<()>>;

/// One file being read.
pub(crate) struct Reading<'a> {
    pub(crate) path: &'a Path,
    pub(crate) report: ReadReport,
    pub(crate) on_bad: OnBadLine,
    pub(crate) position: Rc<Cell<u64>>,
    pub(crate) stop: &'a dyn Fn() -> bool,
    pub(crate) take: Take<'a>,
}

impl Reading<'_> {
    /// Hands on a document, or counts why there is none.
    pub(crate) fn offer(
        &mut self,
        document: std::result::Result<Document, Unusable>,
    ) -> Result<ControlFlow<()>> {
        if (self.stop)() {
            return Err(DataError::Stopped);
        }
        match document {
            Ok(document) => {
                let count = if document.is_blank() {
                    &mut self.report.blank
                } else {
                    &mut self.report.documents
                };
                *count += 1;
                self.report.replaced += document.replaced;
                (self.take)(document, self.position.get())
            }
            Err(Unusable::Bad(reason)) => self.bad(reason).map(|()| ControlFlow::Continue(())),
            Err(Unusable::Name(reason)) => Err(self.broken(reason)),
        }
    }

    /// Counts that the rest of the file cannot be read.
    pub(crate) fn cut(&mut self, reason: String) -> Result<()> {
        self.report.cut_short = Some(reason.clone());
        self.bad(reason)
    }

    fn bad(&mut self, reason: String) -> Result<()> {
        if self.on_bad == OnBadLine::Stop {
            return Err(self.broken(reason));
        }
        self.report.bad += 1;
        self.report.first_bad.get_or_insert(reason);
        Ok(())
    }

    fn broken(&self, reason: String) -> DataError {
        DataError::Broken { path: self.path.to_owned(), reason }
    }
}
