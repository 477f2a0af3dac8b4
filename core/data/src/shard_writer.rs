//! Writes one shard. Its files are open only while something is written to them: hundreds of domains are
//! filled at once, and a process may have some thousand files open.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use hm_domain::id::Digest;

use crate::error::{DataError, Result, at};
use crate::shard::{CODE_I32, CODE_U16, MAGIC, digest, with_ending};

/// Bytes that wait for one writing.
const WAITING_BYTES: usize = 16 << 10;

/// Writes one shard; it appears under its name only when whole.
pub struct ShardWriter {
    stem: PathBuf,
    waiting: Vec<u8>,
    narrow: bool,
    lengths: Vec<i32>,
    /// Tokens of the document that has begun.
    begun: usize,
}

impl ShardWriter {
    /// Begins `<stem>.bin.part`. Ids of a vocabulary up to 65,536 take two bytes.
    pub fn create(stem: &Path, vocabulary: usize) -> Result<ShardWriter> {
        let path = with_ending(stem, ".bin.part");
        File::create(&path).map_err(at(path))?;
        Ok(ShardWriter {
            stem: stem.to_owned(),
            waiting: Vec::new(),
            narrow: vocabulary <= 1 << 16,
            lengths: Vec::new(),
            begun: 0,
        })
    }

    /// Adds one document.
    pub fn add(&mut self, ids: &[u32]) -> Result<()> {
        self.push(ids)?;
        self.end_document()
    }

    /// Adds tokens to the document that has begun.
    pub(crate) fn push(&mut self, ids: &[u32]) -> Result<()> {
        for &id in ids {
            if self.narrow {
                self.waiting.extend((id as u16).to_le_bytes());
            } else {
                self.waiting.extend(id.to_le_bytes());
            }
        }
        self.begun += ids.len();
        if self.waiting.len() >= WAITING_BYTES { self.write_waiting() } else { Ok(()) }
    }

    pub(crate) fn end_document(&mut self) -> Result<()> {
        let length = std::mem::take(&mut self.begun);
        self.lengths.push(i32::try_from(length).map_err(|_| DataError::Broken {
            path: with_ending(&self.stem, ".bin.part"),
            reason: format!("a document of {length} tokens is too long for a shard"),
        })?);
        Ok(())
    }

    fn write_waiting(&mut self) -> Result<()> {
        let path = with_ending(&self.stem, ".bin.part");
        let mut file = OpenOptions::new().append(true).open(&path).map_err(at(&path))?;
        file.write_all(&self.waiting).map_err(at(&path))?;
        self.waiting.clear();
        Ok(())
    }

    /// Documents so far.
    pub fn documents(&self) -> u64 {
        self.lengths.len() as u64
    }

    /// Writes the index, syncs both files and gives them their names. Returns digest and tokens.
    pub fn finish(mut self) -> Result<(Digest, u64)> {
        self.write_waiting()?;
        let (bin_part, idx_part) =
            (with_ending(&self.stem, ".bin.part"), with_ending(&self.stem, ".idx.part"));
        File::open(&bin_part).and_then(|file| file.sync_all()).map_err(at(&bin_part))?;
        self.write_index(&idx_part).map_err(at(&idx_part))?;
        for (part, ending) in [(&bin_part, ".bin"), (&idx_part, ".idx")] {
            std::fs::rename(part, with_ending(&self.stem, ending)).map_err(at(part))?;
        }
        let tokens = self.lengths.iter().map(|&length| length as u64).sum();
        Ok((digest(&self.stem)?, tokens))
    }

    fn write_index(&self, path: &Path) -> std::io::Result<()> {
        let mut index = BufWriter::new(File::create(path)?);
        let width = if self.narrow { 2i64 } else { 4 };
        let count = self.lengths.len() as u64;
        index.write_all(MAGIC)?;
        index.write_all(&1u64.to_le_bytes())?;
        index.write_all(&[if self.narrow { CODE_U16 } else { CODE_I32 }])?;
        index.write_all(&count.to_le_bytes())?;
        index.write_all(&(count + 1).to_le_bytes())?;
        for length in &self.lengths {
            index.write_all(&length.to_le_bytes())?;
        }
        let mut offset = 0i64;
        for &length in &self.lengths {
            index.write_all(&offset.to_le_bytes())?;
            offset += i64::from(length) * width;
        }
        for document in 0..=count as i64 {
            index.write_all(&document.to_le_bytes())?;
        }
        index.into_inner().map_err(|error| error.into_error())?.sync_all()
    }
}
