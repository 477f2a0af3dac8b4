//! Logs forged whole: events changed, planted, cut and moved by somebody who owns the database, the chain
//! made anew each time. One run for all of them.

use hm_domain::batch::Cursor;
use hm_domain::chain::Envelope;
use hm_domain::event::*;
use hm_domain::id::{BindingId, Digest, RunId};
use hm_domain::plugin::{Outcome, Output};
use hm_domain::spec::RunSpec;
use hm_store::codec;
use serde_json::Value;

use crate::place::Place;
use crate::tampering::{from_hex, to_hex};

const RUN: &str = "run_id = (select run_id from run where name = 'run')";

type Log = Vec<(Envelope, Event)>;

impl Place {
    /// The run's log as it is stored.
    fn log(&self) -> Log {
        let rows = self.sql(&format!(
            "select run_id, seq, attempt, step, kind, schema_version, recorded_at, writer_epoch, \
             encode(payload, 'hex') from event where {RUN} order by seq"
        ));
        let number = |field: &str| field.parse::<u64>().unwrap();
        let of = |row: &str| {
            let fields: Vec<&str> = row.split('|').collect();
            let envelope = Envelope {
                run_id: RunId(fields[0].parse().unwrap()),
                seq: number(fields[1]),
                attempt: number(fields[2]) as u32,
                step: fields[3].parse().ok(),
                kind: number(fields[4]) as u16,
                schema_version: number(fields[5]) as u16,
                recorded_at: fields[6].parse().unwrap(),
                writer_epoch: number(fields[7]),
            };
            let payload = from_hex(fields[8]);
            (envelope, codec::decode(envelope.kind, envelope.schema_version, &payload).unwrap())
        };
        rows.lines().map(of).collect()
    }

    /// Puts a log in the place of the run's own, with seqs, rows and chain that fit it.
    fn forge_log(&self, log: &Log) {
        let mut statements = format!("delete from event where {RUN};\n");
        let (mut chain, mut ended) = (Digest::ZERO, false);
        for (seq, (envelope, event)) in log.iter().enumerate() {
            let (kind, schema_version, payload) = codec::encode(event);
            let (seq, step) = (seq as u64, event.step());
            let envelope = Envelope { seq, kind, schema_version, step, ..*envelope };
            let hash = envelope.hash(&payload, &chain);
            let Envelope { run_id, attempt, recorded_at, writer_epoch, .. } = envelope;
            let step = step.map_or("null".to_owned(), |step| step.to_string());
            statements += &format!(
                "insert into event (run_id, seq, attempt, step, kind, schema_version, recorded_at, \
                 writer_epoch, payload, prev_hash, hash) values ('{run_id}', {seq}, {attempt}, {step}, \
                 {kind}, {schema_version}, {recorded_at}, {writer_epoch}, '\\x{}', '\\x{chain}', \
                 '\\x{hash}');\n",
                to_hex(&payload)
            );
            (chain, ended) = (hash, matches!(event, Event::RunFinished(_)));
        }
        let length = log.len();
        statements += &format!(
            "update run_head set next_seq = {length}, chain = '\\x{chain}', sealed = {ended} where {RUN};"
        );
        let file = self.path("forge.sql");
        let forced =
            format!("set session_replication_role = replica;\nbegin;\n{statements}commit;");
        std::fs::write(&file, forced).unwrap();
        let file = file.to_str().unwrap();
        self.ok(&["db", "psql", "--", "-q", "-v", "ON_ERROR_STOP=1", "-f", file]);
    }

    /// What the audit finds first in a forged log: seq and field.
    fn first_found(&self, log: &Log) -> (u64, String) {
        self.forge_log(log);
        let first = &self.audit("run", &["--strict"], 1)["first"];
        (first["seq"].as_u64().unwrap(), first["what"].as_str().unwrap().to_owned())
    }
}

fn position(log: &Log, from: usize, is_it: impl Fn(&Event) -> bool) -> usize {
    from + log[from..].iter().position(|(_, event)| is_it(event)).expect("such an event")
}

fn step(log: &mut Log, number: u64) -> (u64, &mut StepRecorded) {
    let is_it = |event: &Event| matches!(event, Event::StepRecorded(step) if step.step == number);
    let at = position(log, 0, is_it);
    let Event::StepRecorded(step) = &mut log[at].1 else { unreachable!() };
    (at as u64, step)
}

fn change_spec(log: &mut Log, change: impl Fn(&mut RunSpec)) {
    let Event::RunStarted(started) = &mut log[0].1 else { panic!("no start") };
    let mut spec: RunSpec = serde_json::from_str(&started.spec).unwrap();
    change(&mut spec);
    started.spec = serde_json::to_string(&spec).unwrap();
}

#[test]
fn every_known_forgery_is_named_with_its_place() {
    let place = Place::with_run_file();
    let sets = ["training.steps=24", "checkpoint.every_steps=8", "validation.every_steps=8"];
    place.train("run", &sets);
    place.forget_anchors();
    let honest = place.log();
    place.forge_log(&honest);
    let report = place.audit("run", &["--strict"], 0);
    assert_eq!((&report["verdict"], &report["claimed"]), (&"proved".into(), &report["proved"]));
    let last = honest.len() as u64 - 1;

    // A second binding of an id, in the place of its last kept state: its open calls would go unexecuted.
    let mut log = honest.clone();
    let bound = position(&log, 0, |event| matches!(event, Event::BindingChanged(_)));
    let kept =
        log.iter().rposition(|(_, event)| matches!(event, Event::PluginStateSaved(_))).unwrap() - 1;
    log[kept].1 = log[bound].1.clone();
    assert_eq!(place.first_found(&log).0, kept as u64);

    // The loss that people see.
    let mut log = honest.clone();
    let (seq, forged) = step(&mut log, 20);
    forged.pre_step.loss = 0.5;
    assert_eq!(place.first_found(&log), (seq, "pre_step.loss".to_owned()));
    let mut log = honest.clone();
    let (seq, forged) = step(&mut log, 20);
    forged.pre_step.losses[0].tokens += 1;
    assert_eq!(place.first_found(&log), (seq, "pre_step.losses[0].tokens".to_owned()));

    // Ended early, paused by nobody, started twice, quarantined in health, a validation gone.
    let end = honest[last as usize].clone();
    let (early, _) = step(&mut honest.clone(), 10);
    let early = early as usize;
    let mut log = honest[..early].to_vec();
    let mut completed = end.clone();
    if let Event::RunFinished(finished) = &mut completed.1 {
        finished.step = 10;
    }
    log.push(completed.clone());
    assert_eq!(place.first_found(&log), (early as u64, "what may come here".to_owned()));
    for planted in [
        completed.1,
        Event::RunPaused(RunPaused { step: 10 }),
        honest[0].1.clone(),
        Event::BindingQuarantined(BindingQuarantined {
            binding: BindingId(0),
            step: 10,
            faults: 5,
        }),
        Event::MixtureLimited(MixtureLimited {
            step: 10,
            mixture: mixture(&honest),
            rules: vec![],
        }),
    ] {
        let mut log = honest.clone();
        log.insert(early, (honest[early].0, planted));
        assert_eq!(place.first_found(&log).0, early as u64);
    }
    let mut log = honest.clone();
    log.retain(|(_, event)| !matches!(event, Event::ValidationRecorded(_)));
    assert_eq!(place.first_found(&log).1, "what may come here");

    // Checkpoints of no step, and a run that is completed without its last weights.
    let mut log = honest.clone();
    let saved = position(&log, early, |event| matches!(event, Event::CheckpointSaved(_)));
    if let Event::CheckpointSaved(checkpoint) = &mut log[saved].1 {
        checkpoint.step = 999_999;
    }
    assert_eq!(place.first_found(&log).0, saved as u64);
    let mut log = honest.clone();
    let saved = |(_, event): &(Envelope, Event)| matches!(event, Event::CheckpointSaved(_));
    log.remove(log.iter().rposition(saved).unwrap());
    assert_eq!(place.first_found(&log).0, last - 1);

    // What the run is said to be, where something follows from it.
    let mut log = honest.clone();
    change_spec(&mut log, |spec| spec.domains[0].prior = 0.9);
    assert_eq!(place.first_found(&log).0, 0);
    let mut log = honest.clone();
    change_spec(&mut log, |spec| spec.rules.version = 7);
    assert_eq!(place.first_found(&log).0, 0);

    // A call that nobody can repeat, with a state of the forger's own.
    let mut log = honest.clone();
    let (seq, forged) = step(&mut log, 23);
    let receipt = forged.receipts.last_mut().unwrap();
    receipt.outcome = Outcome::Deadline;
    assert_eq!(place.first_found(&log).0, seq);
    let (_, forged) = step(&mut log, 23);
    let receipt = forged.receipts.last_mut().unwrap();
    (receipt.output, receipt.state_after) = (Output::Nothing, Digest::of(b"planted"));
    assert_eq!(place.first_found(&log).0, seq);

    // What the log says of a plugin and its call.
    for (what, change) in [
        ("config_digest", (|bound| bound.config_digest = Digest::ZERO) as fn(&mut BindingChanged)),
        ("by", |bound| bound.by = "the boss".to_owned()),
        ("step", |bound| bound.step = 1000),
        ("description", |bound| bound.description.documentation += "!"),
        ("initial_fuel", |bound| bound.initial_fuel += 1),
        ("quarantine_after", |bound| bound.quarantine_after = 4000),
    ] {
        let mut log = honest.clone();
        let Event::BindingChanged(changed) = &mut log[bound].1 else { unreachable!() };
        change(changed);
        assert_eq!(place.first_found(&log), (bound as u64, what.to_owned()));
    }

    // Cursors, times, attempts and writers that cannot be.
    let mut log = honest.clone();
    let (seq, forged) = step(&mut log, 23);
    forged.draws[0].to = Cursor { epoch: 99, ..forged.draws[0].to };
    assert_eq!(place.first_found(&log), (seq, "draws[0].to".to_owned()));
    for (what, change) in [
        ("recorded_at", (|envelope| envelope.recorded_at = 1) as fn(&mut Envelope)),
        ("attempt", |envelope| envelope.attempt = 3),
        ("writer_epoch", |envelope| envelope.writer_epoch += 1),
    ] {
        let mut log = honest.clone();
        change(&mut log[early].0);
        assert_eq!(place.first_found(&log), (early as u64, what.to_owned()));
    }

    // A log cut short is no forgery that it could show by itself: it is said to be unfinished.
    place.forge_log(&honest[..early].to_vec());
    let text = place.ok(&["audit", "run"]);
    assert!(text.contains("unfinished: 10 of 24 steps"), "{text}");

    // Other bytes in the plugin's place are no proof of anything.
    place.forge_log(&honest);
    place.tamper(
        "alter table plugin drop constraint plugin_is_its_digest; update plugin set wasm = (select wasm \
         from plugin where name = 'outlier') where name = 'odm'",
    );
    let said = place.refused(&["audit", "run"], 2);
    assert!(said.contains("the database has other bytes under its digest"), "{said}");
}

fn mixture(log: &Log) -> hm_domain::mixture::Mixture {
    let Event::RunStarted(started) = &log[0].1 else { panic!("no start") };
    started.prior.clone()
}

/// What no plugin decided is not called proved.
#[test]
fn run_without_a_plugin_call_is_not_called_proved() {
    let place = Place::with_run_file();
    place.train("run", &["training.steps=4", "plugins=[]"]);
    let report: Value = place.audit("run", &["--strict"], 0);
    assert_eq!((&report["verdict"], &report["claimed"]), (&"host part follows".into(), &0.into()));
    let text = place.ok(&["audit", "run"]);
    assert!(text.contains("no plugin call to prove"), "{text}");
    assert!(text.contains("nothing that was looked at can show"), "{text}");
}
