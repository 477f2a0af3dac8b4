//! Anchors: where a run's log stood, signed and kept where the database's owner cannot reach. A chain that
//! was rewritten to fit is caught by these, and only by these.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result};
use hm_domain::id::{Digest, RunId};
use serde::{Deserialize, Serialize};

use crate::prove::attest::write_line;
use crate::prove::dsse::Envelope;
use crate::prove::key::Key;

/// What a signed head is, to those who read its envelope.
pub(crate) const SIGNED_HEAD: &str = "application/vnd.heurimentor.head+json";

/// The file in a checkpoint's folder.
const BESIDE_CHECKPOINT: &str = "anchor.json";

/// Where a log stands: the place of an event and its hash, which covers all before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    pub(crate) seq: u64,
    pub(crate) hash: Digest,
}

impl std::fmt::Display for Head {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.seq, self.hash)
    }
}

impl FromStr for Head {
    type Err = String;

    fn from_str(text: &str) -> Result<Head, String> {
        let parsed = text.split_once(':').and_then(|(seq, hash)| {
            Some(Head { seq: seq.parse().ok()?, hash: hash.parse().ok()? })
        });
        parsed.ok_or_else(|| {
            format!(
                "`{text}` is no head: it must be SEQ:HASH, as `hm train` and `hm audit` print it"
            )
        })
    }
}

/// A head that is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Anchor {
    pub(crate) run: RunId,
    #[serde(flatten)]
    pub(crate) head: Head,
    /// Root of the Merkle tree over all events up to it, where the tree was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) root: Option<Digest>,
}

/// The file of one run's anchors on this machine, and what signs them.
pub(crate) struct AnchorFile {
    path: PathBuf,
    key: Key,
}

impl AnchorFile {
    /// Where the anchors of a run lie in a data folder.
    pub(crate) fn path(data_dir: &Path, run: RunId) -> PathBuf {
        data_dir.join("anchors").join(format!("{run}.jsonl"))
    }

    /// Of a run that is about to be written; makes the folder, and the key where there is none.
    pub(crate) fn open(data_dir: &Path, run: RunId) -> Result<AnchorFile> {
        let key = Key::of(data_dir)?;
        let path = AnchorFile::path(data_dir, run);
        let folder = data_dir.join("anchors");
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        Ok(AnchorFile { path, key })
    }

    /// Signs a head and adds it as a line, on disk when this returns; and beside the checkpoint that it
    /// ends with, if there is one. What stands in the file already is never written again.
    pub(crate) fn add(&self, anchor: &Anchor, checkpoint: Option<&Path>) -> Result<()> {
        let envelope = Envelope::sign(&self.key, SIGNED_HEAD, anchor)?;
        let line = format!("{}\n", serde_json::to_string(&envelope)?);
        append(&self.path, &line).with_context(|| self.path.display().to_string())?;
        if let Some(folder) = checkpoint {
            write_line(&folder.join(BESIDE_CHECKPOINT), serde_json::to_vec(&envelope)?)?;
        }
        Ok(())
    }
}

/// Adds a line behind whatever is there; half a line that a crash left is ended first.
fn append(path: &Path, line: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
    let mut last = [b'\n'];
    if file.metadata()?.len() > 0 {
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
    }
    let line = if last == *b"\n" { line.to_owned() } else { format!("\n{line}") };
    file.write_all(line.as_bytes())?;
    file.sync_all()?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn anchor(seq: u64) -> Anchor {
        Anchor {
            run: RunId::SYSTEM,
            head: Head { seq, hash: Digest::of(&seq.to_le_bytes()) },
            root: None,
        }
    }

    #[test]
    fn head_reads_back_as_it_is_printed() {
        let head = anchor(7).head;
        assert_eq!(head.to_string().parse(), Ok(head));
        for bad in ["7", "7:", ":7", "7:abc", "-1:0"] {
            assert!(bad.parse::<Head>().unwrap_err().contains("SEQ:HASH"), "{bad}");
        }
    }

    #[test]
    fn lines_are_added_and_half_a_line_costs_no_whole_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = AnchorFile::open(folder.path(), RunId::SYSTEM).unwrap();
        file.add(&anchor(1), Some(folder.path())).unwrap();
        let path = AnchorFile::path(folder.path(), RunId::SYSTEM);
        let first = fs::read_to_string(&path).unwrap();
        assert_eq!(fs::read_to_string(folder.path().join(BESIDE_CHECKPOINT)).unwrap(), first);
        fs::write(&path, format!("{first}{{\"payl")).unwrap();
        file.add(&anchor(2), None).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with(&format!("{first}{{\"payl\n")), "{text}");
        let told = crate::prove::held::read(&path, RunId::SYSTEM, &[file.key.public()]).unwrap();
        let seqs: BTreeSet<u64> = told[0].heads.iter().map(|head| head.seq).collect();
        assert_eq!(seqs, BTreeSet::from([1, 2]));
    }
}
