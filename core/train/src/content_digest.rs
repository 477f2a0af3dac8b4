//! The digest of weights by content: parameters in order of path, each with its path, its shape and its
//! bytes as little-endian f32. Fed piece by piece, so nothing need be in memory at once.

use hm_domain::id::Digest;
use sha2::{Digest as _, Sha256};

/// Of a checkpoint: values and both moments of each parameter, then the state's JSON.
pub(crate) const CHECKPOINT: &[u8] = b"heurimentor.checkpoint.v1\0";
/// Of weights that runs start from: values alone.
pub(crate) const INITIAL_WEIGHTS: &[u8] = b"heurimentor.weights.v1\0";

/// A digest being built.
pub(crate) struct ContentDigest(Sha256);

impl ContentDigest {
    /// Of one kind of content.
    pub(crate) fn new(kind: &[u8]) -> ContentDigest {
        ContentDigest(Sha256::new_with_prefix(kind))
    }

    /// Begins a parameter; its bytes follow.
    pub(crate) fn parameter(&mut self, path: &str, shape: &[usize]) {
        self.0.update((path.len() as u64).to_le_bytes());
        self.0.update(path);
        self.0.update((shape.len() as u64).to_le_bytes());
        shape.iter().for_each(|&size| self.0.update((size as u64).to_le_bytes()));
    }

    /// The next bytes.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Of all that was fed.
    pub(crate) fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}
