//! One corpus file as a stream of plain bytes, whatever it is packed in, that knows how far it is.

use std::cell::Cell;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::error::{DataError, Result, at};

/// An open corpus file.
pub(crate) struct CorpusFile {
    pub(crate) path: PathBuf,
    pub(crate) stream: BufReader<Box<dyn Read>>,
    position: Rc<Cell<u64>>,
}

impl CorpusFile {
    /// Opens a plain, gzip or zstd file by its ending.
    pub(crate) fn open(path: &Path) -> Result<CorpusFile> {
        let position = Rc::new(Cell::new(0));
        let file = File::open(path).map_err(at(path))?;
        let file = Counted { file, position: Rc::clone(&position) };
        let plain: Box<dyn Read> = match path.extension().and_then(|ending| ending.to_str()) {
            Some("gz") => Box::new(flate2::read::MultiGzDecoder::new(file)),
            Some("zst") => Box::new(zstd::Decoder::new(file).map_err(at(path))?),
            _ => Box::new(file),
        };
        Ok(CorpusFile { path: path.to_owned(), stream: BufReader::new(plain), position })
    }

    /// Bytes read from the disk so far, packed as they are there.
    pub(crate) fn position(&self) -> Rc<Cell<u64>> {
        Rc::clone(&self.position)
    }

    /// What an error of reading says of the file's content, in words.
    ///
    /// # Errors
    /// The error itself where it is the disk's or the system's: that says nothing of the content.
    pub(crate) fn damage(&self, error: std::io::Error) -> Result<String> {
        if error.raw_os_error().is_some() {
            return Err(DataError::File { path: self.path.clone(), source: error });
        }
        Ok(format!("the file is truncated or damaged here ({error})"))
    }
}

struct Counted {
    file: File,
    position: Rc<Cell<u64>>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.position.set(self.position.get() + read as u64);
        Ok(read)
    }
}
