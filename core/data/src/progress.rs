//! How far preparation is, told often enough for a progress bar and rarely enough to cost nothing; and
//! whether it should go on.

use crate::error::{DataError, Result};

/// How far preparation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub phase: &'static str,
    /// Files done.
    pub files: usize,
    /// Files of this phase.
    pub files_total: usize,
    /// Documents of this phase so far.
    pub documents: u64,
    /// Bytes done, of the files on disk. At the end of a phase equal to `bytes_total`.
    pub bytes: u64,
    /// Bytes of this phase; 0 where that is not known.
    pub bytes_total: u64,
}

/// Tells at most once in so many bytes...
const TELL_BYTES: u64 = 256 << 10;
/// ...or documents, whichever comes first.
const TELL_DOCUMENTS: u64 = 256;

/// Who watches a preparation.
pub struct Watch<'a> {
    /// Hears how far it is.
    pub tell: &'a mut dyn FnMut(Progress),
    /// Says whether it should end: asked many times a second, also while nothing is told.
    pub stop: &'a dyn Fn() -> bool,
}

/// Counts one phase after the other and tells the caller.
pub(crate) struct Meter<'a> {
    tell: &'a mut dyn FnMut(Progress),
    stop: &'a dyn Fn() -> bool,
    now: Progress,
    told: Progress,
    /// Bytes of files that are done.
    bytes_before: u64,
}

impl<'a> Meter<'a> {
    pub(crate) fn new(watch: Watch<'a>) -> Meter<'a> {
        let Watch { tell, stop } = watch;
        let now = Progress {
            phase: "",
            files: 0,
            files_total: 0,
            documents: 0,
            bytes: 0,
            bytes_total: 0,
        };
        Meter { tell, stop, now, told: now, bytes_before: 0 }
    }

    /// Whether to go on is for this to say.
    pub(crate) fn stop(&self) -> &'a dyn Fn() -> bool {
        self.stop
    }

    /// # Errors
    /// When the work should end.
    pub(crate) fn go_on(&self) -> Result<()> {
        if (self.stop)() { Err(DataError::Stopped) } else { Ok(()) }
    }

    /// Begins a phase.
    pub(crate) fn begin(&mut self, phase: &'static str, files_total: usize, bytes_total: u64) {
        self.now = Progress { phase, files: 0, files_total, documents: 0, bytes: 0, bytes_total };
        self.bytes_before = 0;
        self.say();
    }

    /// One more document, after which `bytes` of the current file are done.
    pub(crate) fn document(&mut self, bytes: u64) {
        self.now.documents += 1;
        self.bytes(bytes);
    }

    /// `bytes` of the current file are done.
    pub(crate) fn bytes(&mut self, bytes: u64) {
        self.now.bytes = (self.bytes_before + bytes).min(self.now.bytes_total);
        if self.now.bytes - self.told.bytes >= TELL_BYTES
            || self.now.documents - self.told.documents >= TELL_DOCUMENTS
        {
            self.say();
        }
    }

    /// The current file is done; it counts as `bytes`.
    pub(crate) fn file(&mut self, bytes: u64) {
        self.now.files += 1;
        self.bytes_before += bytes;
        let done = self.now.files == self.now.files_total;
        self.now.bytes =
            if done { self.now.bytes_total } else { self.bytes_before.min(self.now.bytes_total) };
        self.say();
    }

    fn say(&mut self) {
        self.told = self.now;
        (self.tell)(self.now);
    }
}
