//! A log with one thing changed and everything else made to fit: what an audit says of it. Every field of
//! every event of a log in which everything happens, and events removed, doubled, swapped and moved.

use std::collections::BTreeSet;

use serde_json::Value;

use super::*;
use crate::facts::{COME_AND_GO, FACTS, Field, Standing, standing};
use crate::spec::{SegmentSpec, ValidationSpec};

/// A run in which everything happens that may: wishes of all kinds, obeyed and refused, a policy that
/// fails until it is quarantined, a detector that sees the weights, limits that set in, checkpoints, and
/// a worker that comes for another.
fn eventful() -> Run {
    let mut spec = spec(2);
    spec.training.steps = 24;
    spec.validation = ValidationSpec { every_steps: 5, sequences_per_domain: 3 };
    let held_out = SegmentSpec { tokens: 9, ..spec.domains[0].segments[0].clone() };
    spec.domains[0].validation = Some(held_out);
    spec.domains[0].max_epochs = Some(3.0);
    let mut run = Run::of(spec);
    let said = || "because".to_owned();
    run.bind();
    run.bind_detector(&["weight_std.q_proj", "loss_sum"], (Role::Shadow, true));
    run.steps_and_validations(4);
    run.command(Command::SetLearningRate { peak: 5e-4, reason: said() });
    run.command(Command::SetLearningRate { peak: 5.0, reason: said() });
    run.command(Command::SetBatchSize { sequences: 12, reason: said() });
    run.steps_and_validations(3);
    run.command(Command::SetMixture { shares: vec![1.0, 3.0], reason: said() });
    run.command(Command::Pause { reason: said() });
    run.command(Command::Pause { reason: said() });
    run.command(Command::Resume { reason: said() });
    let point = run.save();
    run.steps_and_validations(2);
    run.step_with_loss(f64::NAN);
    run.come_back(0.0);
    run.steps_and_validations(2);
    assert_eq!(run.go_back(&point, false), None);
    run.come_back(0.5);
    run.steps_and_validations(2);
    run.bind_called("failing");
    run.steps_and_validations(11);
    run.command(Command::Release { binding: BindingId(1), reason: said() });
    run.command(Command::Release { binding: BindingId(7), reason: said() });
    while run.mentor.state().ending_due().is_none() {
        run.steps_and_validations(1);
    }
    let due = run.mentor.state().ending_due().unwrap();
    run.finish(due.ending, &due.reason);
    run
}

impl Run {
    fn steps_and_validations(&mut self, count: u32) {
        for _ in 0..count {
            self.validate_if_due();
            self.step();
        }
    }

    /// A worker ends, and another takes the run up from the newest checkpoint, which it says to have been
    /// passed over once where it comes to other losses.
    fn come_back(&mut self, difference_max: f64) {
        let state = self.mentor.state();
        let (step, saved) = (state.next_step, state.checkpoint.clone().unwrap());
        let Event::RunStarted(started) = &self.log[0].event else { panic!("no start") };
        let (reason, checkpoint) = ("it was damaged".to_owned(), saved.digest);
        let passed_over = PassedOver { step: saved.step, checkpoint, reason };
        let resumed = RunResumed {
            step,
            checkpoint: Some(saved.digest),
            checkpoint_step: saved.step,
            folded_from: 0,
            caught_up_steps: step - saved.step,
            agreed: difference_max == 0.0,
            difference_max,
            passed_over: if difference_max == 0.0 { Vec::new() } else { vec![passed_over] },
            environment: started.environment.clone(),
        };
        let reason = "interrupted".to_owned();
        let interrupted = Event::RunInterrupted(RunInterrupted { step, reason });
        self.event(interrupted);
        self.event(Event::RunResumed(resumed));
    }
}

/// The envelopes of a log: another writer from every resumption on, and a clock that goes.
fn envelopes(log: &[Recorded]) -> Vec<Envelope> {
    let mut writer_epoch = 1;
    let of = |recorded: &Recorded| {
        writer_epoch += u64::from(matches!(recorded.event, Event::RunResumed(_)));
        Envelope { writer_epoch, ..envelope(recorded) }
    };
    log.iter().map(of).collect()
}

/// What an audit makes of a log from `index` on, `audit` being folded up to there.
fn judged(run: &Run, mut audit: DecisionAudit, log: &[Recorded], index: usize) -> Proofs {
    let (mut proofs, mut segments) = (Proofs::default(), Vec::new());
    for (recorded, envelope) in log.iter().zip(envelopes(log)).skip(index) {
        let (divergences, complete) = audit.fold(&envelope, &recorded.event);
        segments.extend(complete);
        divergences.into_iter().for_each(|divergence| proofs.note(divergence));
        if proofs.first.is_some() {
            return proofs;
        }
    }
    let (open, unfiled) = audit.finish();
    proofs.add(unfiled);
    for segment in segments.into_iter().chain(open) {
        match segment.start {
            crate::audit::Start::Kept(digest) if !run.states.contains_key(&digest) => {
                proofs.note(missing_state());
            }
            crate::audit::Start::Kept(digest) => {
                let kept = run.states.get(&digest).cloned();
                proofs.add(segment.execute(&*run.plugins, kept, Digest::ZERO));
            }
            _ => proofs.add(segment.execute(&*run.plugins, None, Digest::ZERO)),
        }
    }
    proofs
}

/// Paths of the leaves of a value, lists by their places.
pub(super) fn leaves(path: &str, value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(key, value)| leaves(&format!("{path}/{key}"), value, found));
        }
        Value::Array(values) => {
            found.push(path.to_owned());
            // Of a long list, such as the bytes of a state, the first are like all others.
            let each = values.iter().enumerate().take(16);
            each.for_each(|(index, value)| leaves(&format!("{path}/{index}"), value, found));
        }
        _ => found.push(path.to_owned()),
    }
}

/// `/pre_step/losses/1/loss_sum` as the table of facts has it.
fn in_words(path: &str) -> String {
    let part = |part: &str| match part.parse::<usize>() {
        Ok(_) => "[]".to_owned(),
        Err(_) => format!(".{part}"),
    };
    path.split('/').skip(1).map(part).collect::<String>().trim_start_matches('.').to_owned()
}

/// Other values that may stand in a leaf's place.
pub(super) fn others(value: &Value, words: &BTreeSet<String>) -> Vec<Value> {
    match value {
        Value::Bool(is) => vec![Value::Bool(!is)],
        Value::Null => vec!["no".into(), 7.into(), serde_json::to_value(Digest::ZERO).unwrap()],
        Value::Array(values) => {
            let mut shorter = values.clone();
            let last = shorter.pop();
            let longer = last.clone().map(|last| [values.clone(), vec![last]].concat());
            let turned = values.iter().rev().cloned().collect();
            [longer, last.map(|_| shorter), Some(turned)]
                .into_iter()
                .flatten()
                .map(Value::Array)
                .collect()
        }
        Value::Number(number) => match (number.as_u64(), number.as_f64()) {
            (Some(whole), _) if number.is_u64() => {
                let near = [whole.checked_add(1), whole.checked_sub(1), Some(0), Some(u64::MAX)];
                near.into_iter().flatten().map(Value::from).collect()
            }
            (_, Some(value)) => {
                let near = [f64::from_bits(value.to_bits() ^ 1), -value, value * 1.5, 0.0, 1e300];
                near.into_iter().map(Value::from).collect()
            }
            _ => vec![0.into()],
        },
        Value::String(text) => {
            let mut flipped = text.clone().into_bytes();
            if let Some(last) = flipped.last_mut() {
                *last ^= 1;
            }
            let mut all = vec![format!("{text}x"), String::from_utf8(flipped).unwrap_or_default()];
            if words.contains(text) {
                all.extend(words.iter().cloned());
            }
            all.into_iter().map(Value::String).collect()
        }
        Value::Object(_) => Vec::new(),
    }
}

/// The short words of a log: names of kinds and of endings among them.
fn words(log: &[Recorded]) -> BTreeSet<String> {
    let more = ["halt", "skip", "clip-to", "ok", "deadline", "out-of-fuel", "active", "shadow"];
    let mut found: BTreeSet<String> = more.map(str::to_owned).into();
    for recorded in log {
        let value = serde_json::to_value(&recorded.event).unwrap();
        let mut paths = Vec::new();
        leaves("", &value, &mut paths);
        let texts = paths.iter().filter_map(|path| value.pointer(path)?.as_str());
        found.extend(texts.filter(|text| text.len() < 14).map(str::to_owned));
    }
    found
}

/// Every field of every event of the log, each to some other values.
#[test]
fn field_that_is_changed_is_named_unless_it_is_somebodys_word() {
    let run = eventful();
    let words = words(&run.log);
    let mut audit = DecisionAudit::default();
    let honest = judged(&run, DecisionAudit::default(), &run.log, 0);
    assert_eq!((honest.first, honest.diverged, honest.not_provable), (None, 0, 0));
    let (mut count, mut caught_facts, mut missed) = (0, BTreeSet::new(), Vec::new());
    for (index, envelope) in envelopes(&run.log).iter().enumerate() {
        let value = serde_json::to_value(&run.log[index].event).unwrap();
        let kind = value["event"].as_str().unwrap().to_owned();
        let mut paths = Vec::new();
        leaves("", &value, &mut paths);
        for path in paths.iter().filter(|path| *path != "/event") {
            let (field, old) = (in_words(path), value.pointer(path).unwrap());
            for other in others(old, &words) {
                let mut changed = value.clone();
                *changed.pointer_mut(path).unwrap() = other.clone();
                let Ok(event) = serde_json::from_value::<Event>(changed) else { continue };
                if difference::first(&event, &run.log[index].event).is_none() {
                    continue;
                }
                let mut log = run.log.clone();
                log[index].event = event;
                count += 1;
                let proofs = judged(&run, audit.clone(), &log, index);
                let seq = proofs.first.as_ref().map(|first| first.seq);
                let named = seq.is_some() || proofs.not_provable > 0;
                let what = || format!("event {index} {kind} {field}: {old} to {other}: {proofs:?}");
                match standing(&kind, &field) {
                    Standing::Derived if seq != Some(index as u64) => missed.push(what()),
                    Standing::Executed if !named => missed.push(what()),
                    Standing::Derived | Standing::Executed => {}
                    Standing::Tied(_) | Standing::Fact(_) if named => {
                        caught_facts.insert((kind.clone(), field.clone()));
                    }
                    Standing::Tied(_) | Standing::Fact(_) => {}
                }
            }
        }
        audit.fold(envelope, &run.log[index].event);
    }
    assert!(missed.is_empty(), "{} missed: {:#?}", missed.len(), &missed[..missed.len().min(40)]);
    assert!(count > 5000, "{count}");
    let is_tied = |field: &&Field| matches!(field.standing, Standing::Tied(_));
    let is_of = |field: &Field, (kind, path): &(String, String)| {
        kind == field.event && path.starts_with(field.path)
    };
    let tied = FACTS.iter().filter(is_tied);
    let loose = tied.filter(|field| !caught_facts.iter().any(|caught| is_of(field, caught)));
    assert_eq!(loose.collect::<Vec<_>>(), Vec::<&Field>::new(), "they are tied to nothing");
}

/// The log with its events in other places, each receipt moved along with what it saw.
fn moved(log: &[Recorded], order: &[usize]) -> Vec<Recorded> {
    let place =
        |seq: u64| order.iter().position(|&at| at as u64 == seq).map_or(seq, |at| at as u64);
    let mut moved = Vec::new();
    for (seq, &at) in order.iter().enumerate() {
        let mut recorded = Recorded { seq: seq as u64, recorded_at: seq as i64, ..log[at].clone() };
        if let Event::StepRecorded(step) = &mut recorded.event {
            for receipt in &mut step.receipts {
                (receipt.from_seq, receipt.to_seq) =
                    (place(receipt.from_seq), place(receipt.to_seq));
            }
        }
        moved.push(recorded);
    }
    moved
}

#[test]
fn event_that_is_removed_doubled_or_moved_is_named_unless_it_comes_and_goes() {
    let run = eventful();
    let all: Vec<usize> = (0..run.log.len()).collect();
    let comes_and_goes = |at: usize| {
        let value = serde_json::to_value(&run.log[at].event).unwrap();
        COME_AND_GO.contains(&value["event"].as_str().unwrap())
    };
    let hold = |order: Vec<usize>, touched: &[usize], what: &str| {
        let log = moved(&run.log, &order);
        let proofs = judged(&run, DecisionAudit::default(), &log, 0);
        if proofs.first.is_none() && order != all {
            // Of two that change places it is enough that one came when it was said to.
            let are_free = match what {
                "swapped" => touched.iter().any(|&at| comes_and_goes(at)),
                _ => touched.iter().all(|&at| comes_and_goes(at)),
            };
            let events: Vec<&Event> = touched.iter().map(|&at| &run.log[at].event).collect();
            assert!(are_free, "{what} {touched:?}: {events:?}");
        }
    };
    for at in 0..run.log.len() {
        let without = all.iter().copied().filter(|&other| other != at).collect();
        if at + 1 < run.log.len() {
            hold(without, &[at], "removed");
            let mut swapped = all.clone();
            swapped.swap(at, at + 1);
            hold(swapped, &[at, at + 1], "swapped");
        }
        let mut doubled = all.clone();
        doubled.insert(at, at);
        hold(doubled, &[at], "doubled");
        let planted = (at * 7919 + 13) % run.log.len();
        let mut copied = all.clone();
        copied[at] = planted;
        if run.log[at].event != run.log[planted].event {
            hold(copied, &[at, planted], "put in the place of");
        }
    }
}

#[test]
fn log_that_is_cut_is_as_good_as_it_is_long_and_has_not_ended() {
    let run = eventful();
    for length in 1..run.log.len() {
        let log = &run.log[..length];
        let mut audit = DecisionAudit::default();
        for (recorded, envelope) in log.iter().zip(envelopes(log)) {
            assert_eq!(audit.fold(&envelope, &recorded.event).0, []);
        }
        assert!(!audit.has_ended());
        assert!(audit.state().is_some_and(|state| state.next_step <= 24));
    }
}

#[test]
fn place_attempt_time_and_writer_are_held() {
    let run = eventful();
    let change = |at: usize, change: fn(&mut Envelope)| {
        let mut audit = DecisionAudit::default();
        let mut found = Vec::new();
        for (index, (recorded, mut envelope)) in run.log.iter().zip(envelopes(&run.log)).enumerate()
        {
            envelope.recorded_at = 100 + index as i64;
            if index == at {
                change(&mut envelope);
            }
            found.extend(audit.fold(&envelope, &recorded.event).0);
        }
        found.first().map(|first| (first.seq, first.what.clone()))
    };
    assert_eq!(change(9, |_| {}), None);
    let at = |what: &str| Some((9, what.to_owned()));
    assert_eq!(change(9, |envelope| envelope.attempt = 1), at("attempt"));
    assert_eq!(change(9, |envelope| envelope.step = Some(99)), at("step"));
    assert_eq!(change(9, |envelope| envelope.recorded_at = 1), at("recorded_at"));
    assert_eq!(change(9, |envelope| envelope.writer_epoch = 7), at("writer_epoch"));
}

/// A number that is drawn anew from the one before (Knuth's linear congruence).
fn draw(seed: &mut u64, below: usize) -> usize {
    *seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
    (*seed >> 33) as usize % below.max(1)
}

#[test]
fn log_of_nonsense_is_folded_to_its_end_without_a_panic() {
    let run = eventful();
    let words = words(&run.log);
    let mut seed = 7;
    for _ in 0..2000 {
        let mut log = run.log.clone();
        for _ in 0..4 {
            let index = draw(&mut seed, log.len());
            let value = serde_json::to_value(&log[index].event).unwrap();
            let mut paths = Vec::new();
            leaves("", &value, &mut paths);
            let path = &paths[draw(&mut seed, paths.len())];
            let others = others(value.pointer(path).unwrap(), &words);
            let mut changed = value.clone();
            if let Some(other) = others.get(draw(&mut seed, others.len())) {
                *changed.pointer_mut(path).unwrap() = other.clone();
            }
            if let Ok(event) = serde_json::from_value(changed) {
                log[index].event = event;
            }
            let (one, other) = (draw(&mut seed, log.len()), draw(&mut seed, log.len()));
            log.swap(one, other);
        }
        let mut audit = DecisionAudit::default();
        for (recorded, envelope) in log.iter().zip(envelopes(&log)) {
            audit.fold(&envelope, &recorded.event);
        }
        audit.finish();
    }
}
