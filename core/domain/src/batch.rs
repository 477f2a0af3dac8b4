//! What a step is trained on, and where in the corpus it came from.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::id::{Digest, DomainId};

/// Where a domain's stream stands: everything before it has been served.
///
/// A domain's stream in an epoch is its segments in order, each in its own permutation of
/// documents, read one after another (design section 7.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// Full passes over the domain so far.
    pub epoch: u32,
    /// Position in the domain's ordered list of segments.
    pub segment: u32,
    /// Position in the segment's permutation of documents.
    pub rank: u64,
    /// Tokens of that document already served.
    pub token_offset: u64,
}

/// What one step took from one domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainDraw {
    /// Sequences drawn.
    pub sequences: u32,
    /// Where the stream stood before.
    pub from: Cursor,
    /// Where it stands after.
    pub to: Cursor,
    /// Carried error after the draw, in 2^-32 sequences.
    pub carry: i64,
}

/// One sequence, of one domain only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequence {
    /// Its domain.
    pub domain: DomainId,
    /// `sequence_length + 1` token ids: inputs are all but the last, targets all but the first.
    pub tokens: Vec<u32>,
}

/// The sequences of one step in training order, and how they were drawn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Sequences, ordered by domain, then by stream position.
    pub sequences: Vec<Sequence>,
    /// One per domain of the run. Empty for a validation batch, which moves no cursor.
    pub draws: Vec<DomainDraw>,
}

impl Batch {
    /// SHA-256 over each sequence's domain id, length and token ids, as little-endian `u32`s.
    pub fn digest(&self) -> Digest {
        let mut hash = Sha256::new();
        for sequence in &self.sequences {
            hash.update(sequence.domain.0.to_le_bytes());
            hash.update((sequence.tokens.len() as u32).to_le_bytes());
            for token in &sequence.tokens {
                hash.update(token.to_le_bytes());
            }
        }
        Digest(hash.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_sees_domain_and_order() {
        let sequence =
            |domain, tokens: &[u32]| Sequence { domain: DomainId(domain), tokens: tokens.to_vec() };
        let digest = |sequences| Batch { sequences, draws: vec![] }.digest();
        let base = digest(vec![sequence(0, &[1, 2]), sequence(0, &[3, 4])]);
        assert_ne!(base, digest(vec![sequence(1, &[1, 2]), sequence(0, &[3, 4])]));
        assert_ne!(base, digest(vec![sequence(0, &[3, 4]), sequence(0, &[1, 2])]));
        assert_ne!(base, digest(vec![sequence(0, &[1, 2, 3]), sequence(0, &[4])]));
    }
}
