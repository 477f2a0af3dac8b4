//! The run's state beside a checkpoint: what a worker that takes the run up, goes back or forks begins
//! with. It is worth what the digest in the log says of it.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use hm_domain::id::Digest;
use hm_domain::snapshot::SNAPSHOT_BYTES_MAX;
use hm_train::TrainError;

use crate::whole_file;

const FILE: &str = "run-state.bin";

/// Keeps a state in a checkpoint's folder, whole or not at all, and on disk.
pub(crate) fn keep(folder: &Path, state: &[u8]) -> Result<(), TrainError> {
    let path = folder.join(FILE);
    whole_file::write(&path, state).map_err(|reason| TrainError::File { path, reason })
}

/// The state kept in a checkpoint's folder, if it is the one that the log names.
///
/// # Errors
/// Why there is none, in a sentence.
pub(crate) fn kept(folder: &Path, digest: Digest) -> Result<Vec<u8>, String> {
    let path = folder.join(FILE);
    let mut bytes = Vec::new();
    let read = File::open(&path)
        .and_then(|file| file.take(SNAPSHOT_BYTES_MAX as u64 + 1).read_to_end(&mut bytes));
    if let Err(error) = read {
        return Err(format!("{}: {error}", path.display()));
    }
    let found = Digest::of(&bytes);
    if found != digest {
        return Err(format!(
            "{} has digest {}, the log names {}",
            path.display(),
            found.short(),
            digest.short()
        ));
    }
    Ok(bytes)
}
