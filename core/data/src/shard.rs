//! Token shards in Megatron's `.bin`/`.idx` format: one file pair is one segment of one domain.
//!
//! Index: magic `MMIDIDX\0\0`, version 1 (u64), element code (8 = u16, 4 = i32), sequence count (u64),
//! document count (u64), lengths (i32 each), byte offsets (i64 each), document starts (i64 each).

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use hm_domain::id::Digest;
use memmap2::Mmap;
use sha2::{Digest as _, Sha256};

use crate::error::{DataError, Result, at};

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

/// A shard, memory-mapped.
pub struct Shard {
    index: Mmap,
    tokens: Mmap,
    narrow: bool,
    documents: usize,
}

fn map(path: &Path) -> Result<Mmap> {
    let file = File::open(path).map_err(at(path))?;
    #[expect(
        unsafe_code,
        reason = "a shard is immutable once it has its name; its digest is on record"
    )]
    unsafe { Mmap::map(&file) }.map_err(at(path))
}

impl Shard {
    /// Maps `<stem>.idx` and `<stem>.bin` and checks that they belong together.
    pub fn open(stem: &Path) -> Result<Shard> {
        let path = with_ending(stem, ".idx");
        let broken =
            |reason: &str| DataError::Broken { path: path.clone(), reason: reason.to_owned() };
        let (index, tokens) = (map(&path)?, map(&with_ending(stem, ".bin"))?);
        if index.len() < HEADER_BYTES || &index[..9] != MAGIC {
            return Err(broken("not a token index: its first bytes are not MMIDIDX"));
        }
        let narrow = match index[17] {
            CODE_U16 => true,
            CODE_I32 => false,
            _ => return Err(broken("its elements are neither u16 nor i32")),
        };
        let documents = u64_at(&index, 18) as usize;
        let length =
            documents.checked_mul(20).and_then(|bytes| bytes.checked_add(HEADER_BYTES + 8));
        if length != Some(index.len()) {
            return Err(broken("truncated: its length does not fit its document count"));
        }
        let shard = Shard { index, tokens, narrow, documents };
        let mut end = 0u64;
        for document in 0..documents {
            if shard.start(document) != end {
                return Err(broken("its documents do not lie one behind the other"));
            }
            let at = HEADER_BYTES + document * 4;
            let length = i32::from_le_bytes(four(&shard.index[at..]));
            let length =
                u64::try_from(length).map_err(|_| broken("a document has a length below 0"))?;
            end += length * shard.width() as u64;
        }
        if end != shard.tokens.len() as u64 {
            return Err(broken("the token file beside it has another length"));
        }
        Ok(shard)
    }

    /// Bytes of a token.
    fn width(&self) -> usize {
        if self.narrow { 2 } else { 4 }
    }

    /// Where a document's tokens begin, in bytes.
    fn start(&self, document: usize) -> u64 {
        u64_at(&self.index, HEADER_BYTES + self.documents * 4 + document * 8)
    }

    /// Tokens in it.
    pub fn tokens(&self) -> u64 {
        (self.tokens.len() / self.width()) as u64
    }

    /// Documents in it.
    pub fn documents(&self) -> u64 {
        self.documents as u64
    }

    /// Tokens of one document.
    pub fn length(&self, document: u64) -> usize {
        let at = HEADER_BYTES + document as usize * 4;
        i32::from_le_bytes(four(&self.index[at..])) as usize
    }

    /// Appends tokens `from..to` of one document to `out`.
    pub fn copy(&self, document: u64, from: usize, to: usize, out: &mut Vec<u32>) {
        let (start, width) = (self.start(document as usize) as usize, self.width());
        let bytes = &self.tokens[start + from * width..start + to * width];
        if self.narrow {
            out.extend(
                bytes.chunks_exact(2).map(|pair| u32::from(u16::from_le_bytes([pair[0], pair[1]]))),
            );
        } else {
            out.extend(bytes.chunks_exact(4).map(|token| u32::from_le_bytes(four(token))));
        }
    }
}

fn four(bytes: &[u8]) -> [u8; 4] {
    bytes[..4].try_into().expect("four bytes")
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
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
                opened.copy(index as u64, 0, opened.length(index as u64), &mut out);
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
                    opened.copy(document, 0, opened.length(document), &mut Vec::new());
                }
            }
        }
    }
}
