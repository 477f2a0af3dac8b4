//! The hash chain: which bytes an event's hash covers. Written down once; ARCHITECTURE.md repeats it.

use sha2::{Digest as _, Sha256};

use crate::id::{Digest, RunId};

/// Opens every hash, so that no other use of SHA-256 can collide with it.
pub const DOMAIN_TAG: &[u8] = b"heurimentor.event.v1\0";

/// Kind of the event that ends a run.
pub const RUN_FINISHED: u16 = 15;

/// Everything of a stored event that its hash covers, beside the payload and the previous hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Stream.
    pub run_id: RunId,
    /// Position in it, from 0, without gaps.
    pub seq: u64,
    /// Attempt the event belongs to.
    pub attempt: u32,
    /// Step it belongs to, if any.
    pub step: Option<u64>,
    /// Number of the event's kind.
    pub kind: u16,
    /// Version of the payload's type.
    pub schema_version: u16,
    /// Microseconds since the Unix epoch.
    pub recorded_at: i64,
    /// Epoch of the writer that appended it.
    pub writer_epoch: u64,
}

impl Envelope {
    /// SHA-256 over the tag, every field at fixed width (little-endian; an absent step is a zero byte
    /// and eight zero bytes, a present one a one byte and its value), the payload's length and bytes,
    /// and the previous event's hash.
    pub fn hash(&self, payload: &[u8], previous: &Digest) -> Digest {
        let mut hash = Sha256::new();
        hash.update(DOMAIN_TAG);
        hash.update(self.run_id.0.as_bytes());
        hash.update(self.seq.to_le_bytes());
        hash.update(self.attempt.to_le_bytes());
        hash.update([u8::from(self.step.is_some())]);
        hash.update(self.step.unwrap_or(0).to_le_bytes());
        hash.update(self.kind.to_le_bytes());
        hash.update(self.schema_version.to_le_bytes());
        hash.update(self.recorded_at.to_le_bytes());
        hash.update(self.writer_epoch.to_le_bytes());
        hash.update((payload.len() as u64).to_le_bytes());
        hash.update(payload);
        hash.update(previous.0);
        Digest(hash.finalize().into())
    }
}

/// A walk along a stream from its first event: each in its place, linked to the one before, with the
/// hash that its bytes have, and none after the end of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walk {
    /// Events walked past: seq of the next.
    pub next_seq: u64,
    /// Hash of the last of them; zeros before the first.
    pub chain: Digest,
    /// Whether that ends the run.
    pub ended: bool,
}

impl Default for Walk {
    fn default() -> Self {
        Walk { next_seq: 0, chain: Digest::ZERO, ended: false }
    }
}

impl Walk {
    /// Walks past the next event, which says that it comes after `previous` and has `hash`.
    ///
    /// # Errors
    /// What is wrong with it, in a sentence; the walk is over then.
    pub fn past(
        &mut self,
        envelope: &Envelope,
        payload: &[u8],
        (previous, hash): (&Digest, &Digest),
    ) -> Result<(), &'static str> {
        if envelope.seq != self.next_seq {
            return Err("the event is missing");
        }
        if *previous != self.chain {
            return Err("it does not name its predecessor's hash");
        }
        if envelope.hash(payload, &self.chain) != *hash {
            return Err("its content does not have the hash it carries");
        }
        if self.ended {
            return Err("it comes after the end of the run");
        }
        self.ended = envelope.kind == RUN_FINISHED;
        (self.chain, self.next_seq) = (*hash, self.next_seq + 1);
        Ok(())
    }

    /// What is wrong with a head that names the event walked past last, in a sentence.
    pub fn at_head(&self, chain: &Digest, sealed: bool) -> Result<(), &'static str> {
        if self.chain != *chain {
            return Err("the head names another last hash");
        }
        match (sealed, self.ended) {
            (true, false) => Err("the head says that the run has ended, and the log does not"),
            (false, true) => Err("the log says that the run has ended, and the head does not"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENVELOPE: Envelope = Envelope {
        run_id: RunId::SYSTEM,
        seq: 1,
        attempt: 2,
        step: Some(3),
        kind: 4,
        schema_version: 5,
        recorded_at: 6,
        writer_epoch: 7,
    };

    #[test]
    fn hash_covers_the_written_layout() {
        // The same bytes put together by hand.
        let mut bytes = b"heurimentor.event.v1\0".to_vec();
        bytes.extend([0; 16]);
        bytes.extend([1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 1, 3, 0, 0, 0, 0, 0, 0, 0, 4, 0, 5, 0]);
        bytes.extend([6, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend(b"ab");
        bytes.extend([0; 32]);
        assert_eq!(ENVELOPE.hash(b"ab", &Digest::ZERO), Digest::of(&bytes));
    }

    #[test]
    fn every_field_moves_the_hash() {
        let base = ENVELOPE.hash(b"ab", &Digest::ZERO);
        let others = [
            Envelope { run_id: RunId(uuid::Uuid::from_u128(1)), ..ENVELOPE },
            Envelope { seq: 9, ..ENVELOPE },
            Envelope { attempt: 9, ..ENVELOPE },
            Envelope { step: None, ..ENVELOPE },
            Envelope { step: Some(9), ..ENVELOPE },
            Envelope { kind: 9, ..ENVELOPE },
            Envelope { schema_version: 9, ..ENVELOPE },
            Envelope { recorded_at: 9, ..ENVELOPE },
            Envelope { writer_epoch: 9, ..ENVELOPE },
        ];
        for other in others {
            assert_ne!(other.hash(b"ab", &Digest::ZERO), base, "{other:?}");
        }
        assert_ne!(ENVELOPE.hash(b"ac", &Digest::ZERO), base);
        assert_ne!(ENVELOPE.hash(b"ab", &Digest::of(b"")), base);
    }
}
