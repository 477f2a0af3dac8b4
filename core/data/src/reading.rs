//! The reading of one corpus file: documents go to whoever asked, what cannot be used is counted.

use std::cell::Cell;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::rc::Rc;

use serde::{Deserialize, Serialize};

use crate::error::{DataError, Result};

/// Bytes of the longest line, object or text file that is read: memory holds one document.
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
}

impl Document {
    /// Whether there is nothing to train on.
    pub(crate) fn is_blank(&self) -> bool {
        self.text.trim().is_empty()
    }
}

/// What reading one file came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadReport {
    /// The file.
    pub path: PathBuf,
    /// Documents with text.
    pub documents: u64,
    /// Documents without text: not used.
    #[serde(default)]
    pub blank: u64,
    /// Lines, objects or files that are not UTF-8, not JSON, damaged, or lack their text.
    pub bad: u64,
    /// The first of those, in a sentence.
    pub first_bad: Option<String>,
    /// Where and why reading ended before the file's end: what stands behind is lost.
    #[serde(default)]
    pub cut_short: Option<String>,
}

/// Takes a document and the bytes of the file read so far; says whether to go on.
pub(crate) type Take<'a> = &'a mut dyn FnMut(Document, u64) -> Result<ControlFlow<()>>;

/// One file being read.
pub(crate) struct Reading<'a> {
    pub(crate) report: ReadReport,
    pub(crate) on_bad: OnBadLine,
    pub(crate) position: Rc<Cell<u64>>,
    pub(crate) take: Take<'a>,
}

impl Reading<'_> {
    /// Hands on a document, or counts why there is none.
    pub(crate) fn offer(
        &mut self,
        document: std::result::Result<Document, String>,
    ) -> Result<ControlFlow<()>> {
        match document {
            Ok(document) => {
                let count = if document.is_blank() {
                    &mut self.report.blank
                } else {
                    &mut self.report.documents
                };
                *count += 1;
                (self.take)(document, self.position.get())
            }
            Err(reason) => self.bad(reason).map(|()| ControlFlow::Continue(())),
        }
    }

    /// Counts that the rest of the file cannot be read.
    pub(crate) fn cut(&mut self, reason: String) -> Result<()> {
        self.report.cut_short = Some(reason.clone());
        self.bad(reason)
    }

    fn bad(&mut self, reason: String) -> Result<()> {
        if self.on_bad == OnBadLine::Stop {
            return Err(DataError::Broken { path: self.report.path.clone(), reason });
        }
        self.report.bad += 1;
        self.report.first_bad.get_or_insert(reason);
        Ok(())
    }
}
