//! Token shards in Megatron's `.bin`/`.idx` format: one file pair is one segment of one domain.
//!
//! Index: magic `MMIDIDX\0\0`, version 1 (u64), element code (8 = u16, 4 = i32), sequence count (u64),
//! document count (u64), lengths (i32 each), byte offsets (i64 each), document starts (i64 each).

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use hm_domain::id::Digest;
use sha2::{Digest as _, Sha256};

use crate::error::{DataError, Result, at};
use crate::shard_file::ShardFile;

pub(crate) const MAGIC: &[u8; 9] = b"MMIDIDX\0\0";
pub(crate) const CODE_I32: u8 = 4;
pub(crate) const CODE_U16: u8 = 8;
const HEADER_BYTES: usize = 9 + 8 + 1 + 8 + 8;

/// `stem` with an ending.
pub(crate) fn with_ending(stem: &Path, ending: &str) -> PathBuf {
    let mut name = stem.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// SHA-256 over the index's bytes, then the tokens' bytes.
pub fn digest(stem: &Path) -> Result<Digest> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    for ending in [".idx", ".bin"] {
        let path = with_ending(stem, ending);
        let mut file = File::open(&path).map_err(at(&path))?;
        loop {
            let read = file.read(&mut buffer).map_err(at(&path))?;
            if read == 0 {
                break;
            }
            hash.update(&buffer[..read]);
        }
    }
    Ok(Digest(hash.finalize().into()))
}

/// Documents whose places are checked at once when a shard is opened.
const CHECKED_AT_ONCE: usize = 1 << 16;

/// A shard to read from.
pub struct Shard {
    index: ShardFile,
    tokens: ShardFile,
    narrow: bool,
    documents: u64,
}

impl Shard {
    /// Opens `<stem>.idx` and `<stem>.bin` and checks that they belong together.
    pub fn open(stem: &Path) -> Result<Shard> {
        let index = ShardFile::open(with_ending(stem, ".idx"))?;
        let tokens = ShardFile::open(with_ending(stem, ".bin"))?;
        let path = index.path().to_owned();
        let broken =
            |reason: &str| DataError::Broken { path: path.clone(), reason: reason.to_owned() };
        let mut header = [0; HEADER_BYTES];
        if index.bytes() >= HEADER_BYTES as u64 {
            index.read(0, &mut header)?;
        }
        if &header[..9] != MAGIC {
            return Err(broken("not a token index: its first bytes are not MMIDIDX"));
        }
        let narrow = match header[17] {
            CODE_U16 => true,
            CODE_I32 => false,
            _ => return Err(broken("its elements are neither u16 nor i32")),
        };
        let documents = u64_of(&header[18..26]);
        let length =
            documents.checked_mul(20).and_then(|bytes| bytes.checked_add(HEADER_BYTES as u64 + 8));
        if length != Some(index.bytes()) {
            return Err(broken("truncated: its length does not fit its document count"));
        }
        let shard = Shard { index, tokens, narrow, documents };
        shard.check(&broken)?;
        Ok(shard)
    }

    /// Holds the documents' places against their lengths and the tokens' file.
    fn check(&self, broken: &dyn Fn(&str) -> DataError) -> Result<()> {
        let mut end = 0u64;
        let (mut lengths, mut starts) = (Vec::new(), Vec::new());
        for first in (0..self.documents).step_by(CHECKED_AT_ONCE) {
            let count = (self.documents - first).min(CHECKED_AT_ONCE as u64) as usize;
            lengths.resize(count * 4, 0);
            starts.resize(count * 8, 0);
            self.index.read(self.place_of_length(first), &mut lengths)?;
            self.index.read(self.place_of_start(first), &mut starts)?;
            for (length, start) in lengths.chunks_exact(4).zip(starts.chunks_exact(8)) {
                if u64_of(start) != end {
                    return Err(broken("its documents do not lie one behind the other"));
                }
                let length = u64::try_from(i32::from_le_bytes(four(length)))
                    .map_err(|_| broken("a document has a length below 0"))?;
                end += length * self.width();
            }
        }
        if end != self.tokens.bytes() {
            return Err(broken("the token file beside it has another length"));
        }
        Ok(())
    }

    /// Opens its files for each reading from now on: slower, but a process may have some thousand open.
    pub fn close(&mut self) {
        self.index.close();
        self.tokens.close();
    }

    /// Bytes of a token.
    fn width(&self) -> u64 {
        if self.narrow { 2 } else { 4 }
    }

    fn place_of_length(&self, document: u64) -> u64 {
        HEADER_BYTES as u64 + document * 4
    }

    fn place_of_start(&self, document: u64) -> u64 {
        HEADER_BYTES as u64 + self.documents * 4 + document * 8
    }

    /// Tokens in it.
    pub fn tokens(&self) -> u64 {
        self.tokens.bytes() / self.width()
    }

    /// Documents in it.
    pub fn documents(&self) -> u64 {
        self.documents
    }

    /// Tokens of one document.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn length(&self, document: u64) -> Result<usize> {
        let mut length = [0; 4];
        self.index.read(self.place_of_length(document), &mut length)?;
        Ok(i32::from_le_bytes(length) as usize)
    }

    /// Appends tokens `from..to` of one document to `out`.
    ///
    /// # Errors
    /// When the files cannot be read, or have become shorter.
    pub fn copy(&self, document: u64, from: usize, to: usize, out: &mut Vec<u32>) -> Result<()> {
        let mut start = [0; 8];
        self.index.read(self.place_of_start(document), &mut start)?;
        let width = self.width();
        let mut bytes = vec![0; (to - from) * width as usize];
        self.tokens.read(u64_of(&start) + from as u64 * width, &mut bytes)?;
        if self.narrow {
            out.extend(
                bytes.chunks_exact(2).map(|pair| u32::from(u16::from_le_bytes([pair[0], pair[1]]))),
            );
        } else {
            out.extend(bytes.chunks_exact(4).map(|token| u32::from_le_bytes(four(token))));
        }
        Ok(())
    }
}

fn four(bytes: &[u8]) -> [u8; 4] {
    bytes[..4].try_into().expect("four bytes")
}

fn u64_of(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard_writer::ShardWriter;

    fn shard(vocabulary: usize, documents: &[Vec<u32>]) -> (tempfile::TempDir, PathBuf, Digest) {
        let folder = tempfile::tempdir().unwrap();
        let stem = folder.path().join("books-0");
        let mut writer = ShardWriter::create(&stem, vocabulary).unwrap();
        documents.iter().for_each(|document| writer.add(document).unwrap());
        let (digest, tokens) = writer.finish().unwrap();
        assert_eq!(tokens as usize, documents.iter().map(Vec::len).sum::<usize>());
        (folder, stem, digest)
    }

    #[test]
    fn documents_round_trip_in_both_widths() {
        let documents = vec![vec![1, 2, 3], vec![60_000], vec![5, 6]];
        for vocabulary in [65_536, 100_008] {
            let (_folder, stem, written) = shard(vocabulary, &documents);
            let opened = Shard::open(&stem).unwrap();
            assert_eq!(opened.documents(), 3);
            for (index, document) in documents.iter().enumerate() {
                let mut out = Vec::new();
                let length = opened.length(index as u64).unwrap();
                opened.copy(index as u64, 0, length, &mut out).unwrap();
                assert_eq!(&out, document);
            }
            assert_eq!(digest(&stem).unwrap(), written);
        }
    }

    #[test]
    fn index_begins_as_megatron_writes_it() {
        let (_folder, stem, _) = shard(100, &[vec![7, 8], vec![9]]);
        let bytes = std::fs::read(with_ending(&stem, ".idx")).unwrap();
        let expected: Vec<u8> = [
            &b"MMIDIDX\0\0"[..],
            &[1, 0, 0, 0, 0, 0, 0, 0, 8, 2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0],
            &[2, 0, 0, 0, 1, 0, 0, 0],
            &[0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0],
        ]
        .concat();
        assert_eq!(&bytes[..expected.len()], expected);
    }

    #[test]
    fn truncated_files_are_refused() {
        let (_folder, stem, _) = shard(100, &[vec![7, 8], vec![9]]);
        for ending in [".idx", ".bin"] {
            let path = with_ending(&stem, ending);
            let whole = std::fs::read(&path).unwrap();
            std::fs::write(&path, &whole[..whole.len() - 2]).unwrap();
            assert!(Shard::open(&stem).is_err(), "{ending}");
            std::fs::write(&path, whole).unwrap();
        }
        assert!(Shard::open(&stem).is_ok());
    }

    #[test]
    fn any_damaged_index_is_an_error_or_harmless_but_never_a_panic() {
        let (_folder, stem, _) = shard(100, &[vec![7, 8], vec![9], vec![]]);
        let path = with_ending(&stem, ".idx");
        let whole = std::fs::read(&path).unwrap();
        for place in 0..whole.len() {
            for bits in [0x01, 0x80, 0xff] {
                let mut damaged = whole.clone();
                damaged[place] ^= bits;
                std::fs::write(&path, &damaged).unwrap();
                let Ok(opened) = Shard::open(&stem) else { continue };
                for document in 0..opened.documents() {
                    let length = opened.length(document).unwrap();
                    opened.copy(document, 0, length, &mut Vec::new()).unwrap();
                }
            }
        }
    }

    #[test]
    fn a_file_that_is_truncated_while_it_is_read_is_an_error_that_names_it() {
        let documents = vec![vec![7; 5000], vec![9; 5000]];
        for (ending, closed) in [(".idx", false), (".bin", false), (".idx", true), (".bin", true)] {
            let (_folder, stem, _) = shard(100, &documents);
            let mut opened = Shard::open(&stem).unwrap();
            if closed {
                opened.close();
            }
            let path = with_ending(&stem, ending);
            File::options().write(true).open(&path).unwrap().set_len(40).unwrap();
            let error = opened.copy(1, 0, 5000, &mut Vec::new()).unwrap_err().to_string();
            let start = format!("{}: had ", path.display());
            assert!(error.starts_with(&start) && error.contains("it was truncated"), "{error}");
        }
    }
}
