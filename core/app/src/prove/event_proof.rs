//! `hm db prove`: one event with the path that shows it among all of its run, under a signed root; and the
//! check of it, which needs neither the log nor a database.

use std::path::Path as FilePath;

use anyhow::{Context, Result, anyhow, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hm_domain::chain::{Envelope as EventEnvelope, Walk};
use hm_domain::event::Recorded;
use hm_domain::id::{Digest, RunId};
use hm_domain::merkle::{self, Path};
use hm_store::StoredEvent;
use serde::{Deserialize, Serialize};

use crate::prove::anchors::{Anchor, Head, SIGNED_HEAD};
use crate::prove::dsse::Envelope;
use crate::prove::key::{Key, PublicKey};
use crate::steer::audit::source::Source;

/// What others need to check one event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct EventProof {
    run: RunId,
    seq: u64,
    attempt: u32,
    step: Option<u64>,
    kind: u16,
    schema_version: u16,
    recorded_at: i64,
    writer_epoch: u64,
    /// Base64.
    payload: String,
    prev_hash: Digest,
    path: Path,
    head: Envelope,
}

impl EventProof {
    /// Walks a whole log, which must be unbroken, and signs its root.
    pub(crate) fn of(source: &dyn Source, seq: u64, key: &Key) -> Result<EventProof> {
        let (run, end) = (source.run(), source.head()?.next_seq);
        if seq >= end {
            bail!("run {run} has no event {seq}: its last is {}", end.saturating_sub(1));
        }
        let (mut walk, mut wanted) = (Walk::default(), None);
        let (mut leaves, mut segments, mut segment) = (Vec::new(), Vec::new(), Vec::new());
        let in_segment = seq / merkle::SEGMENT_EVENTS;
        while walk.next_seq < end {
            let page = source.page(walk.next_seq)?;
            if page.is_empty() {
                bail!("the log of run {run} is broken: event {} is missing", walk.next_seq);
            }
            for stored in page.into_iter().take((end - walk.next_seq) as usize) {
                let (at, hashes) = (walk.next_seq, (&stored.prev_hash, &stored.hash));
                walk.past(&stored.envelope, &stored.payload, hashes)
                    .map_err(|why| anyhow!("the log of run {run} is broken at seq {at}: {why}"))?;
                leaves.push(merkle::leaf(&stored.hash));
                if walk.next_seq.is_multiple_of(merkle::SEGMENT_EVENTS) || walk.next_seq == end {
                    segments.push(merkle::root(&leaves));
                    let ended = std::mem::take(&mut leaves);
                    if at / merkle::SEGMENT_EVENTS == in_segment {
                        segment = ended;
                    }
                }
                if at == seq {
                    wanted = Some(stored);
                }
            }
        }
        let StoredEvent { envelope, payload, prev_hash, .. } =
            wanted.with_context(|| format!("event {seq} of run {run} is missing"))?;
        let mut siblings = merkle::siblings(&segment, (seq % merkle::SEGMENT_EVENTS) as usize);
        siblings.extend(merkle::siblings(&segments, in_segment as usize));
        let head = Head { seq: end - 1, hash: walk.chain };
        let anchor = Anchor { run, head, root: Some(merkle::root(&segments)) };
        Ok(EventProof {
            run,
            seq,
            attempt: envelope.attempt,
            step: envelope.step,
            kind: envelope.kind,
            schema_version: envelope.schema_version,
            recorded_at: envelope.recorded_at,
            writer_epoch: envelope.writer_epoch,
            payload: STANDARD.encode(payload),
            prev_hash,
            path: Path { leaf: seq, leaves: end, siblings },
            head: Envelope::sign(key, SIGNED_HEAD, &anchor)?,
        })
    }

    /// Reads one, if the file holds one.
    pub(crate) fn read(file: &FilePath) -> Result<EventProof> {
        let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
        serde_json::from_str(&text)
            .with_context(|| format!("{} is no proof of an event", file.display()))
    }

    /// Who says to have signed the root.
    pub(crate) fn key_id(&self) -> Option<Digest> {
        self.head.key_id()
    }

    /// The event and the log that it is in, if that is so; else why it is not shown.
    pub(crate) fn check(&self, key: &PublicKey) -> Result<(Recorded, Anchor)> {
        let anchor: Anchor = self.head.read(key, SIGNED_HEAD)?;
        let payload = STANDARD.decode(&self.payload).context("its payload is not base64")?;
        let envelope = EventEnvelope {
            run_id: self.run,
            seq: self.seq,
            attempt: self.attempt,
            step: self.step,
            kind: self.kind,
            schema_version: self.schema_version,
            recorded_at: self.recorded_at,
            writer_epoch: self.writer_epoch,
        };
        let hash = envelope.hash(&payload, &self.prev_hash);
        let signed = (anchor.run, anchor.head.seq.checked_add(1), anchor.root);
        let shown = self.path.root(&hash).filter(|_| self.path.leaf == self.seq);
        if shown.is_none() || signed != (self.run, Some(self.path.leaves), shown) {
            bail!("the event does not lead to the root that key {} has signed", key.id().short());
        }
        let stored = StoredEvent { envelope, payload, prev_hash: self.prev_hash, hash };
        Ok((stored.decode()?, anchor))
    }
}

#[cfg(test)]
mod tests {
    use hm_store::Head as LogHead;

    use super::*;

    /// A log of events that say nothing.
    struct Toy(Vec<StoredEvent>);

    impl Toy {
        fn of(events: u64) -> Toy {
            let (mut chain, mut log) = (Digest::ZERO, Vec::new());
            for seq in 0..events {
                let envelope = EventEnvelope {
                    run_id: RunId::SYSTEM,
                    seq,
                    attempt: 0,
                    step: None,
                    kind: 9,
                    schema_version: 1,
                    recorded_at: seq as i64,
                    writer_epoch: 1,
                };
                let payload = seq.to_le_bytes().to_vec();
                let hash = envelope.hash(&payload, &chain);
                log.push(StoredEvent { envelope, payload, prev_hash: chain, hash });
                chain = hash;
            }
            Toy(log)
        }
    }

    impl Source for Toy {
        fn run(&self) -> RunId {
            RunId::SYSTEM
        }
        fn head(&self) -> Result<LogHead> {
            let chain = self.0.last().map_or(Digest::ZERO, |last| last.hash);
            let next_seq = self.0.len() as u64;
            Ok(LogHead { next_seq, chain, writer_epoch: 1, sealed: false, holder: String::new() })
        }
        fn page(&self, from_seq: u64) -> Result<Vec<StoredEvent>> {
            Ok(self.0.iter().skip(from_seq as usize).take(1000).cloned().collect())
        }
        fn plugin(&self, _: Digest) -> Result<Option<Vec<u8>>> {
            Ok(None)
        }
        fn state(&self, _: Digest) -> Result<Option<Vec<u8>>> {
            Ok(None)
        }
    }

    fn refused(proof: &EventProof, key: &PublicKey) -> bool {
        let text = proof.check(key).unwrap_err().to_string();
        text.contains("does not lead to the root")
    }

    /// The path's part of the check; these bytes decode to nothing.
    #[test]
    fn event_leads_to_the_signed_root_from_any_segment_and_no_other_does() {
        let (key, toy) = (Key::from_seed([5; 32]), Toy::of(2 * merkle::SEGMENT_EVENTS + 77));
        let public = key.public();
        for seq in [0, 4095, 4096, 8191, 8192, 8268] {
            let proof = EventProof::of(&toy, seq, &key).unwrap();
            let said = proof.check(&public).unwrap_err().to_string();
            assert!(said.contains("does not decode"), "{seq}: {said}");
            let payload = STANDARD.encode([0; 8].map(|byte: u8| byte + 200));
            assert!(refused(&EventProof { payload, ..proof.clone() }, &public));
            assert!(refused(&EventProof { seq: seq ^ 1, ..proof.clone() }, &public));
            let mut moved = proof.clone();
            moved.path.siblings.swap(0, 1);
            assert!(refused(&moved, &public), "{seq}");
            let other = Key::from_seed([6; 32]).public();
            assert!(proof.check(&other).unwrap_err().to_string().contains("not signed by"));
        }
        let beyond = EventProof::of(&toy, 8269, &key).unwrap_err().to_string();
        assert!(beyond.contains("its last is 8268"), "{beyond}");
    }
}
