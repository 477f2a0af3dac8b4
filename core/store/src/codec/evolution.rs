//! The way from one version of a payload to the next, walked for real: two payloads as they might have been
//! before version 1, whose upcasts, bytes and logs go through everything that today's do.

use std::sync::Arc;

use hm_domain::audit::DecisionAudit;
use hm_domain::batch::{Batch, Cursor, DomainDraw};
use hm_domain::chain::{Envelope, Walk};
use hm_domain::event::{self, Event, Recorded, RunStarted, ValidationRecorded};
use hm_domain::id::{Digest, RunId};
use hm_domain::mentor::{Decided, Mentor};
use hm_domain::mixture::quotas;
use hm_domain::plugin::{Description, Outcome, Plugins, Reply, Request, World};
use hm_domain::spec::RunSpec;
use hm_domain::state::RunState;
use hm_domain::step::{LossSums, PreStep, TrainReport, Verdict};

use super::frozen::Frozen;
use super::{Upcast, bytes, decode, encode, v1};
use crate::store::StoredEvent;

#[path = "../../tests/samples/mod.rs"]
mod samples;

/// Steps were not timed.
#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub(super) struct StepRecorded {
    step: u64,
    tokens: u64,
    learning_rate: f64,
    mixture_version: u64,
    draws: Vec<v1::DomainDraw>,
    batch: [u8; 32],
    pre_step: v1::PreStep,
    verdict: v1::Verdict,
    effective_clip: f64,
    receipts: Vec<v1::Receipt>,
}

impl Upcast<v1::StepRecorded> for StepRecorded {
    fn upcast(self) -> v1::StepRecorded {
        v1::StepRecorded {
            step: self.step,
            tokens: self.tokens,
            learning_rate: self.learning_rate,
            mixture_version: self.mixture_version,
            draws: self.draws,
            batch: self.batch,
            pre_step: self.pre_step,
            verdict: self.verdict,
            effective_clip: self.effective_clip,
            step_us: 0,
            receipts: self.receipts,
        }
    }
}

/// A worker did not have to say why.
#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub(super) struct RunInterrupted {
    step: u64,
    reason: Option<String>,
}

impl Upcast<v1::RunInterrupted> for RunInterrupted {
    fn upcast(self) -> v1::RunInterrupted {
        let reason = self.reason.unwrap_or_else(|| "not said".to_owned());
        v1::RunInterrupted { step: self.step, reason }
    }
}

/// Version and payload as an older program wrote them, where it wrote them otherwise.
fn encode_older(event: &Event) -> (u16, u16, Vec<u8>) {
    match event {
        Event::StepRecorded(step) => {
            let v1::StepRecorded {
                step,
                tokens,
                learning_rate,
                mixture_version,
                draws,
                batch,
                pre_step,
                verdict,
                effective_clip,
                step_us: _,
                receipts,
            } = step.freeze();
            let older = StepRecorded {
                step,
                tokens,
                learning_rate,
                mixture_version,
                draws,
                batch,
                pre_step,
                verdict,
                effective_clip,
                receipts,
            };
            (event.kind(), 0, bytes(&older))
        }
        Event::RunInterrupted(event::RunInterrupted { step, .. }) => {
            (event.kind(), 0, bytes(&RunInterrupted { step: *step, reason: None }))
        }
        other => encode(other),
    }
}

/// Nobody is called in a run without plugins.
struct Nobody;

impl Plugins for Nobody {
    fn describe(&self, _: &Digest) -> Option<(World, String, Description)> {
        None
    }

    fn call(&self, _: &Digest, _: &Request) -> Reply {
        Reply { outcome: Outcome::NotCalled("nobody".to_owned()), fuel: 0, value: None }
    }
}

/// A run of some steps that is interrupted, as a mentor logs it.
struct Run {
    mentor: Mentor,
    log: Vec<Recorded>,
}

impl Run {
    fn of_steps(steps: u64) -> Run {
        let Event::RunStarted(started) = samples::started(2) else { unreachable!() };
        let spec: RunSpec = serde_json::from_str(&started.spec).unwrap();
        let prior = hm_domain::limits::first_mixture(&spec).unwrap().mixture;
        let spec = serde_json::to_string(&spec).unwrap();
        let event = Event::RunStarted(RunStarted { spec, prior, ..started });
        let mentor = Mentor::new(RunState::start(&event).unwrap(), Arc::new(Nobody));
        let log = vec![Recorded { seq: 0, attempt: 0, recorded_at: 0, event }];
        let mut run = Run { mentor, log };
        if run.mentor.state().validation_is_due() {
            let ValidationRecorded { losses, .. } = samples::validation(0, 2);
            let validation = hm_domain::made::validation(run.mentor.state(), &losses);
            run.take(vec![Event::ValidationRecorded(validation)]);
        }
        (0..steps).for_each(|_| run.step());
        let reason = "the plug was pulled".to_owned();
        run.take(vec![Event::RunInterrupted(event::RunInterrupted { step: steps, reason })]);
        run
    }

    fn take(&mut self, events: Vec<Event>) {
        for event in events {
            self.mentor.apply(&event);
            let seq = self.log.len() as u64;
            self.log.push(Recorded { seq, attempt: 0, recorded_at: seq as i64, event });
        }
    }

    fn step(&mut self) {
        let state = self.mentor.state();
        let mut carries = state.carries.clone();
        let counts = quotas(&state.mixture, state.next_sequences(), &mut carries);
        let length = u64::from(state.spec.model.sequence_length);
        let draws = (0..counts.len()).map(|index| {
            let (from, tokens) = (state.cursors[index], state.spec.domains[index].tokens());
            let drawn = state.domain_tokens[index] + u64::from(counts[index]) * length;
            let (epoch, token_offset) = ((drawn / tokens) as u32, drawn % tokens);
            let moved = Cursor { epoch, segment: 0, rank: 0, token_offset };
            let to = if counts[index] > 0 { moved } else { from };
            DomainDraw { sequences: counts[index], from, to, carry: carries[index] }
        });
        let batch = Batch { sequences: Vec::new(), draws: draws.collect() };
        let sums = |sequences: &u32| {
            let tokens = u64::from(*sequences) * length;
            let loss_sum = tokens as f64 * 2.0;
            LossSums { loss_sum, loss_square_sum: loss_sum * 2.0, tokens }
        };
        let losses = counts.iter().map(sums).collect();
        let pre_step = PreStep { loss: 2.0, gradient_norm: 1.0, nonfinite_count: 0, losses };
        assert_eq!(self.mentor.gate(&pre_step), Verdict::Proceed);
        let (verdict, effective_clip) = (Verdict::Proceed, 1.0);
        let report = TrainReport { pre_step, verdict, effective_clip, step_us: 5 };
        let Decided { events, .. } = self.mentor.decide(&batch, &report).unwrap();
        self.take(events);
    }

    /// The log as it lies in a table.
    fn stored(&self, encode: fn(&Event) -> (u16, u16, Vec<u8>)) -> Vec<StoredEvent> {
        let (mut stored, mut chain) = (Vec::new(), Digest::ZERO);
        for Recorded { seq, attempt, recorded_at, event } in &self.log {
            let (kind, schema_version, payload) = encode(event);
            let envelope = Envelope {
                run_id: RunId::SYSTEM,
                seq: *seq,
                attempt: *attempt,
                step: event.step(),
                kind,
                schema_version,
                recorded_at: *recorded_at,
                writer_epoch: 1,
            };
            let hash = envelope.hash(&payload, &chain);
            stored.push(StoredEvent { envelope, payload, prev_hash: chain, hash });
            chain = hash;
        }
        stored
    }
}

/// Walks, decodes, folds and audits a log.
fn replayed(log: &[StoredEvent]) -> RunState {
    let (mut walk, mut audit) = (Walk::default(), DecisionAudit::default());
    let mut folded: Option<RunState> = None;
    for stored in log {
        let hashes = (&stored.prev_hash, &stored.hash);
        walk.past(&stored.envelope, &stored.payload, hashes).unwrap();
        let recorded = stored.decode().unwrap();
        match &mut folded {
            None => folded = Some(RunState::start(&recorded.event).unwrap()),
            Some(state) => state.apply(&recorded.event),
        }
        let (divergences, _) = audit.fold(&stored.envelope, &recorded.event);
        assert!(divergences.is_empty(), "{recorded:?}: {divergences:?}");
    }
    folded.unwrap()
}

#[test]
fn log_of_an_older_version_replays_and_audits_as_todays_does() {
    let run = Run::of_steps(12);
    let (older, newest) = (run.stored(encode_older), run.stored(encode));
    let versions = |log: &[StoredEvent]| -> Vec<u16> {
        log.iter().map(|stored| stored.envelope.schema_version).collect()
    };
    assert_eq!(versions(&older).iter().filter(|version| **version == 0).count(), 13);
    assert!(versions(&newest).iter().all(|version| *version == 1));
    assert_ne!(older.last().unwrap().hash, newest.last().unwrap().hash, "other bytes");
    let (from_older, from_newest) = (replayed(&older), replayed(&newest));
    assert_eq!(from_older.next_step, 12);
    assert_eq!(format!("{from_older:?}"), format!("{:?}", run.mentor.state()));
    assert_eq!(format!("{from_older:?}"), format!("{from_newest:?}"));
}

/// Bytes of both versions, as they lie in logs for ever.
#[test]
fn older_bytes_do_not_change_and_give_todays_event() {
    let mut step = samples::step(3, 1);
    step.receipts.clear();
    let interrupted = event::RunInterrupted { step: 7, reason: "not said".to_owned() };
    let golden: Vec<&str> = include_str!("evolution.txt").lines().collect();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let mut lines = Vec::new();
    for event in [Event::StepRecorded(Box::new(step)), Event::RunInterrupted(interrupted)] {
        for (kind, version, payload) in [encode_older(&event), encode(&event)] {
            lines.push(format!("{kind} {version} {}", hex(&payload)));
            let due = match (&event, version) {
                (Event::StepRecorded(step), 0) => {
                    Event::StepRecorded(Box::new(event::StepRecorded {
                        step_us: 0,
                        ..(**step).clone()
                    }))
                }
                (event, _) => event.clone(),
            };
            assert_eq!(decode(kind, version, &payload).unwrap(), due);
            // Of a text that comes first, a part is another event: only the chain tells.
            let cuts = if event.kind() == 2 { payload.len() } else { 0 };
            for cut in (0..cuts).map(|length| &payload[..length]) {
                let refusal = decode(kind, version, cut).unwrap_err().to_string();
                assert!(refusal.contains("these bytes"), "{refusal}");
            }
        }
    }
    assert_eq!(lines, golden, "evolution.txt must hold:\n{}", lines.join("\n"));
}

#[test]
fn version_that_never_was_is_refused_with_a_remedy() {
    let (kind, _, payload) = encode(&samples::started(1));
    let refusal = decode(kind, 0, &payload).unwrap_err().to_string();
    assert!(refusal.contains("use a newer one"), "{refusal}");
}
