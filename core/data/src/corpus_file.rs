//! One corpus file as a stream of plain bytes, whatever it is packed in, that knows how far it is.
//!
//! A byte-order mark is no content and is left out; text of two bytes a character is refused by name.

use std::cell::Cell;
use std::fs::File;
use std::io::{BufReader, Cursor, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::error::{DataError, Result, at};

/// What Windows tools write before UTF-8 text.
pub(crate) const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The widest window that zstd has (`--long=31`), as a power of two of bytes.
const ZSTD_WINDOW_LOG_MAX: u32 = 31;

/// An open corpus file.
pub(crate) struct CorpusFile {
    pub(crate) path: PathBuf,
    pub(crate) stream: BufReader<Box<dyn Read>>,
    position: Rc<Cell<u64>>,
}

impl CorpusFile {
    /// Opens a plain, gzip or zstd file by its ending.
    ///
    /// # Errors
    /// When it cannot be opened, or its first bytes are those of UTF-16 or UTF-32.
    pub(crate) fn open(path: &Path) -> Result<CorpusFile> {
        let position = Rc::new(Cell::new(0));
        let file = File::open(path).map_err(at(path))?;
        let file = Counted { file, position: Rc::clone(&position) };
        let mut plain: Box<dyn Read> = match path.extension().and_then(|ending| ending.to_str()) {
            Some("gz") => Box::new(flate2::read::MultiGzDecoder::new(file)),
            Some("zst") => {
                let mut decoder = zstd::Decoder::new(file).map_err(at(path))?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(at(path))?;
                Box::new(decoder)
            }
            _ => Box::new(file),
        };
        let mut head = Vec::new();
        // Damage is for whoever reads on to tell, with its place.
        let damage = (&mut plain).take(4).read_to_end(&mut head).err();
        refuse_wide(path, &head)?;
        let head = head.strip_prefix(BYTE_ORDER_MARK).map(<[u8]>::to_vec).unwrap_or(head);
        let stream: Box<dyn Read> = match damage {
            Some(error) => Box::new(Cursor::new(head).chain(Damaged(Some(error)))),
            None => Box::new(Cursor::new(head).chain(plain)),
        };
        Ok(CorpusFile { path: path.to_owned(), stream: BufReader::new(stream), position })
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
        let words = error.to_string();
        if error.kind() == std::io::ErrorKind::OutOfMemory || words.contains("memory") {
            let reason = format!(
                "it takes more memory to unpack than there is ({words}): pack it again with a smaller window, as `zstd --long=27` does"
            );
            return Err(DataError::Broken { path: self.path.clone(), reason });
        }
        Ok(format!("the file is truncated or damaged here ({words})"))
    }
}

/// No layout that is read here begins with a zero byte, or has one behind its first character.
fn refuse_wide(path: &Path, head: &[u8]) -> Result<()> {
    let wide = match head {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => true,
        [first, second, ..] => *first == 0 || *second == 0,
        _ => false,
    };
    if !wide {
        return Ok(());
    }
    let reason =
        "is UTF-16 or UTF-32, or no text at all: make it UTF-8, as with `iconv -f UTF-16 -t UTF-8`";
    Err(DataError::Broken { path: path.to_owned(), reason: reason.to_owned() })
}

/// Gives the error that ended reading, once.
struct Damaged(Option<std::io::Error>);

impl Read for Damaged {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        self.0.take().map_or(Ok(0), Err)
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
