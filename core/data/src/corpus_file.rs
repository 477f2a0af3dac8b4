//! One corpus file as a stream of plain bytes, whatever it is packed in, that knows how far it is.
//!
//! A byte-order mark is no content and is left out; text of two bytes a character, and files that are not
//! read here, are refused by name.

use std::cell::Cell;
use std::fs::File;
use std::io::{BufReader, Cursor, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::error::{DataError, Result, at};
use crate::file_kind::{self, HEAD_BYTES, Packing};
use crate::gzip::Gzip;

/// What Windows tools write before UTF-8 text.
pub(crate) const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The widest window that zstd has (`--long=31`), as a power of two of bytes.
const ZSTD_WINDOW_LOG_MAX: u32 = 31;

/// Packed bytes by which it is judged how much a packed file holds.
const MEASURED_BYTES: u64 = 512 << 10;

/// An open corpus file.
pub(crate) struct CorpusFile {
    pub(crate) path: PathBuf,
    pub(crate) stream: BufReader<Box<dyn Read>>,
    counts: Rc<Counts>,
    packing: Packing,
}

/// What has gone through so far, in bytes.
#[derive(Default)]
struct Counts {
    /// As it lies on the disk.
    packed: Rc<Cell<u64>>,
    /// Unpacked.
    plain: Cell<u64>,
    /// Both when last all that had been fetched was unpacked.
    border: Cell<(u64, u64)>,
}

impl CorpusFile {
    /// Opens a plain, gzip or zstd file, whatever it is called.
    ///
    /// # Errors
    /// When it cannot be opened, or its first bytes are those of something that is not read here.
    pub(crate) fn open(path: &Path) -> Result<CorpusFile> {
        let counts = Rc::new(Counts::default());
        let file = File::open(path).map_err(at(path))?;
        let mut file = Packed { file, counts: Rc::clone(&counts) };
        let mut packed = Vec::new();
        (&mut file).take(HEAD_BYTES).read_to_end(&mut packed).map_err(at(path))?;
        let packing = file_kind::packing(path, &packed);
        let file = Cursor::new(packed).chain(file);
        let mut plain: Box<dyn Read> = match packing {
            Packing::Gzip => Box::new(Gzip::new(file)),
            Packing::Zstd => {
                let mut decoder = zstd::Decoder::new(file).map_err(at(path))?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(at(path))?;
                Box::new(decoder)
            }
            Packing::Plain => Box::new(file),
        };
        let mut head = Vec::new();
        // Damage is for whoever reads on to tell, with its place.
        let damage = (&mut plain).take(HEAD_BYTES).read_to_end(&mut head).err();
        if let Some(reason) = file_kind::unread(path, &head) {
            return Err(DataError::Broken { path: path.to_owned(), reason });
        }
        refuse_wide(path, &head)?;
        let head = head.strip_prefix(BYTE_ORDER_MARK).map(<[u8]>::to_vec).unwrap_or(head);
        let stream: Box<dyn Read> = match damage {
            Some(error) => Box::new(Cursor::new(head).chain(Damaged(Some(error)))),
            None => Box::new(Cursor::new(head).chain(plain)),
        };
        let stream: Box<dyn Read> = Box::new(Plain { stream, counts: Rc::clone(&counts) });
        let (path, stream) = (path.to_owned(), BufReader::new(stream));
        Ok(CorpusFile { path, stream, counts, packing })
    }

    /// Bytes read from the disk so far, packed as they are there.
    pub(crate) fn position(&self) -> Rc<Cell<u64>> {
        Rc::clone(&self.counts.packed)
    }

    /// How many times what has been taken so far is what the whole file holds. A packed file is unpacked
    /// further for this, to its end if that is near: what was fetched of it is no measure.
    ///
    /// # Errors
    /// When the file cannot be asked for its size. Damage that lies ahead is not looked for.
    pub(crate) fn times(&mut self) -> Result<f64> {
        let taken = self.counts.plain.get() - self.stream.buffer().len() as u64;
        let size = std::fs::metadata(&self.path).map_err(at(&self.path))?.len() as f64;
        let whole = match self.packing {
            Packing::Plain => size,
            Packing::Gzip | Packing::Zstd => {
                let (mut piece, mut ended) = (vec![0; 64 << 10], false);
                while !ended && self.counts.border.get().0 < MEASURED_BYTES {
                    // Where it is damaged, what is left cannot be told.
                    ended = self.stream.get_mut().read(&mut piece).unwrap_or_default() == 0;
                }
                match self.counts.border.get() {
                    (packed, plain) if !ended && packed > 0 && plain > 0 => {
                        plain as f64 * size / packed as f64
                    }
                    _ => self.counts.plain.get() as f64,
                }
            }
        };
        Ok((whole / taken.max(1) as f64).max(1.0))
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

/// The file as it lies on the disk.
struct Packed {
    file: File,
    counts: Rc<Counts>,
}

impl Read for Packed {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.counts.border.set((self.counts.packed.get(), self.counts.plain.get()));
        let read = self.file.read(buffer)?;
        self.counts.packed.set(self.counts.packed.get() + read as u64);
        Ok(read)
    }
}

/// What comes out of it.
struct Plain<R> {
    stream: R,
    counts: Rc<Counts>,
}

impl<R: Read> Read for Plain<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.stream.read(buffer)?;
        self.counts.plain.set(self.counts.plain.get() + read as u64);
        Ok(read)
    }
}
