//! The reading of one corpus file: documents go to whoever asked, what cannot be used is counted.

use std::cell::Cell;
use std::fmt::Arguments;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde::{Deserialize, Serialize};

use crate::bad_lines::{self, BadLines, kind_of};
use crate::error::{DataError, Result};

/// Bytes of the longest line or object that is read, and of the longest part of a text (256 MiB): memory
/// holds one document.
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

/// What reading one file came to. Its lines (but for empty ones), objects or texts are its documents, its
/// blank and its bad ones.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
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
    /// Why, by kind.
    pub reasons: Vec<BadLines>,
    /// Where and why reading ended before the file's end: what stands behind is lost.
    pub cut_short: Option<String>,
    /// Documents that a text file longer than memory should hold was divided into.
    pub divided: u64,
    /// Characters that no text can hold (halves of surrogate pairs) and that became U+FFFD.
    pub replaced: u64,
    /// Where reading ended before the file did, because no more was wanted: how many times what was read is
    /// in the file.
    #[serde(skip)]
    pub in_part: Option<f64>,
}

impl ReadReport {
    /// The commonest reason for bad lines.
    pub fn commonest(&self) -> Option<&BadLines> {
        bad_lines::commonest(&self.reasons)
    }

    fn count_bad(&mut self, kind: String, first: String) {
        self.bad += 1;
        bad_lines::count(&mut self.reasons, BadLines { kind, count: 1, first });
    }

    /// Counts documents as bad after all, or stops.
    pub(crate) fn set_aside(
        &mut self,
        path: &Path,
        on_bad: OnBadLine,
        reasons: Vec<(u64, String)>,
    ) -> Result<()> {
        for (number, reason) in reasons {
            let kind = kind_of(&reason);
            let reason = format!("document {number} {reason}");
            if on_bad == OnBadLine::Stop {
                return Err(DataError::Broken { path: path.to_owned(), reason });
            }
            self.documents -= 1;
            self.count_bad(kind, reason);
        }
        Ok(())
    }
}

/// Takes a document and the bytes of the file read so far; says whether to go on.
pub(crate) type Take<'a> = &'a mut dyn FnMut(Document, u64) -> Result<ControlFlow<()>>;

/// How a file is read.
#[derive(Clone, Copy)]
pub(crate) struct Manner<'a> {
    /// What to do with a line that cannot be used.
    pub(crate) on_bad: OnBadLine,
    /// Asked at every line whether to end the work.
    pub(crate) stop: &'a dyn Fn() -> bool,
    /// Bytes of the file, as it lies on the disk, after which no more is wanted.
    pub(crate) bytes_max: u64,
}

/// One file being read.
pub(crate) struct Reading<'a> {
    pub(crate) path: &'a Path,
    pub(crate) report: ReadReport,
    pub(crate) manner: Manner<'a>,
    pub(crate) position: Rc<Cell<u64>>,
    pub(crate) take: Take<'a>,
    /// Whether no more was wanted.
    pub(crate) ended_early: bool,
}

impl Reading<'_> {
    /// Hands on a document, or counts why there is none at this place.
    pub(crate) fn offer(
        &mut self,
        place: Arguments<'_>,
        document: std::result::Result<Document, Unusable>,
    ) -> Result<ControlFlow<()>> {
        if (self.manner.stop)() {
            return Err(DataError::Stopped);
        }
        let mut go_on = ControlFlow::Continue(());
        match document {
            Ok(document) => {
                let count = if document.is_blank() {
                    &mut self.report.blank
                } else {
                    &mut self.report.documents
                };
                *count += 1;
                self.report.replaced += document.replaced;
                go_on = (self.take)(document, self.position.get())?;
            }
            Err(Unusable::Bad(reason)) => {
                self.bad(kind_of(&reason), format!("{place}{reason}"))?;
            }
            Err(Unusable::Name(reason)) => return Err(self.broken(format!("{place}{reason}"))),
        }
        if self.position.get() > self.manner.bytes_max {
            go_on = ControlFlow::Break(());
        }
        self.ended_early = go_on.is_break();
        Ok(go_on)
    }

    /// Counts that the rest of the file cannot be read.
    pub(crate) fn cut(&mut self, reason: String) -> Result<()> {
        self.report.cut_short = Some(reason.clone());
        self.bad("the file is cut short".to_owned(), reason)
    }

    fn bad(&mut self, kind: String, reason: String) -> Result<()> {
        if self.manner.on_bad == OnBadLine::Stop {
            return Err(self.broken(reason));
        }
        self.report.count_bad(kind, reason);
        Ok(())
    }

    fn broken(&self, reason: String) -> DataError {
        DataError::Broken { path: self.path.to_owned(), reason }
    }
}
