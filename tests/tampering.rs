//! What the audit finds when somebody with the database in their hands changes the log.

use std::process::Stdio;

use hm_domain::chain::Envelope;
use hm_domain::event::{Effect, Event};
use hm_domain::id::{Digest, RunId};
use hm_store::codec;

use crate::place::{Background, Place};

/// A trained run to change; each test has its own.
fn trained() -> Place {
    let place = Place::with_run_file();
    place.train("run", &[]);
    assert_eq!(place.audit("run", &[], 0)["verdict"], "proved");
    place
}

impl Place {
    /// Deletes what this machine kept of where its logs stood, as whoever has it in their hands can.
    pub(crate) fn forget_anchors(&self) {
        std::fs::remove_dir_all(self.path("data/anchors")).unwrap();
    }

    /// As the database's owner can, with triggers off.
    pub(crate) fn tamper(&self, statements: &str) {
        self.sql(&format!("set session_replication_role = replica; {statements}"));
    }
}

const RUN: &str = "run_id = (select run_id from run where name = 'run')";

#[test]
fn flipped_bit_is_named() {
    let place = trained();
    place.tamper(&format!(
        "update event set payload = set_byte(payload, 20, get_byte(payload, 20) # 1) where seq = 50 and {RUN}"
    ));
    let report = place.audit("run", &["--level", "chain"], 1);
    assert_eq!(report["verdict"], "diverged");
    assert_eq!(report["first"]["seq"], 50);
    let text = String::from_utf8(place.output(&["audit", "run"]).stdout).unwrap();
    assert!(text.contains("first divergence at seq 50"), "{text}");
}

#[test]
fn removed_event_is_named() {
    let place = trained();
    place.tamper(&format!("delete from event where seq = 70 and {RUN}"));
    let report = place.audit("run", &[], 1);
    assert_eq!(report["first"]["seq"], 70);
    assert_eq!(report["first"]["logged"], "the event is missing");
}

#[test]
fn table_refuses_to_be_changed_without_such_force() {
    let place = trained();
    for statement in ["update event set step = 1", "delete from event", "truncate event"] {
        let output = place.output(&["db", "psql", "--", "-v", "ON_ERROR_STOP=1", "-c", statement]);
        assert!(!output.status.success(), "{statement}");
    }
}

/// The hardest case: one weight changed, and every hash after it computed anew.
#[test]
fn changed_weight_is_named_although_the_chain_is_forged() {
    let place = trained();
    let forged = forge(&place, 60, move_a_weight);
    place.forget_anchors();
    let report = place.audit("run", &["--level", "chain"], 0);
    assert_eq!(report["verdict"], "unbroken", "the forged chain holds: only re-execution can tell");
    let report = place.audit("run", &[], 1);
    assert_eq!(report["first"]["seq"], forged);
    let first = &report["first"];
    assert!(first["plugin"].as_str().unwrap().contains("odm"), "{first}");
    assert_ne!(first["logged"], first["found"]);
}

/// The hash covers what the row says of the step beside what the event says of it.
#[test]
fn row_of_another_step_than_its_event_is_named() {
    let place = trained();
    place.tamper(&format!("update event set step = 7 where seq = 60 and {RUN}"));
    let report = place.audit("run", &[], 1);
    assert_eq!(report["first"]["seq"], 60);
    forge(&place, 60, |_| true);
    place.forget_anchors();
    let report = place.audit("run", &["--level", "chain"], 0);
    assert_eq!(report["verdict"], "unbroken", "the chain is made anew over the row's step");
    let report = place.audit("run", &[], 1);
    assert_eq!(report["first"]["seq"], 60);
    assert!(report["first"].to_string().contains("the row is of step 7"), "{report}");
}

/// A rate that neither the spec nor a command gives, in a chain that holds.
#[test]
fn changed_learning_rate_is_named_although_the_chain_is_forged() {
    let place = trained();
    let forged = forge(&place, 60, |event| match event {
        Event::StepRecorded(step) => {
            step.learning_rate *= 1.5;
            true
        }
        _ => false,
    });
    place.forget_anchors();
    assert_eq!(place.audit("run", &["--level", "chain"], 0)["verdict"], "unbroken");
    let first = &place.audit("run", &[], 1)["first"];
    assert_eq!((&first["seq"], &first["what"]), (&forged.into(), &"learning_rate".into()));
}

/// Bytes that are no event, in a chain that holds: a divergence like any other.
#[test]
fn event_whose_bytes_say_nothing_is_named_although_the_chain_is_forged() {
    let place = trained();
    let forged = forge_bytes(&place, 60, |payload| {
        payload.pop();
    });
    let first = &place.audit("run", &[], 1)["first"];
    assert_eq!((&first["seq"], &first["plugin"]), (&forged.into(), &"log".into()));
    let said = first["found"].as_str().unwrap();
    assert!(said.ends_with("these bytes are no whole event of that kind"), "{first}");
}

/// A log that is cut before its end holds in itself; its head still says that it was longer.
#[test]
fn log_that_is_cut_before_the_end_of_its_run_is_named() {
    let place = trained();
    let last = place.sql(&format!("select max(seq) from event where {RUN}"));
    place.tamper(&format!(
        "update run_head set next_seq = {last}, chain = (select hash from event where seq = {last} - 1 and {RUN}) \
         where {RUN}; delete from event where seq = {last} and {RUN}"
    ));
    for level in ["chain", "decisions"] {
        let report = place.audit("run", &["--level", level], 1);
        let logged = report["first"]["logged"].as_str().unwrap();
        assert_eq!(logged, "the head says that the run has ended, and the log does not");
    }
    // Opened again, it is a run that has not ended, and the audit says so. Only an anchor knows better.
    place.forget_anchors();
    place.tamper(&format!("update run_head set sealed = false where {RUN}"));
    assert_eq!(place.audit("run", &[], 0)["ended"], false);
    let text = String::from_utf8(place.output(&["audit", "run"]).stdout).unwrap();
    assert!(text.contains("unfinished: 120 of 120 steps"), "{text}");
}

/// Changes the first event at or after `seq` that `change` takes, and hashes all that follows anew, so
/// that the chain holds; gives the event's place.
pub(crate) fn forge(place: &Place, seq: u64, change: fn(&mut Event) -> bool) -> u64 {
    let in_bytes = |envelope: &Envelope, payload: &mut Vec<u8>| {
        let (kind, version) = (envelope.kind, envelope.schema_version);
        let mut event = codec::decode(kind, version, payload).unwrap();
        let changed = change(&mut event);
        *payload = codec::encode(&event).2;
        changed
    };
    forge_stored(place, seq, in_bytes)
}

/// The same with the bytes of the event at `seq`.
fn forge_bytes(place: &Place, seq: u64, change: fn(&mut Vec<u8>)) -> u64 {
    forge_stored(place, seq, |_, payload| {
        change(payload);
        true
    })
}

fn forge_stored(place: &Place, seq: u64, change: impl Fn(&Envelope, &mut Vec<u8>) -> bool) -> u64 {
    let rows = place.sql(&format!(
        "select run_id, seq, attempt, step, kind, schema_version, recorded_at, writer_epoch, \
         encode(payload, 'hex'), encode(prev_hash, 'hex') from event where seq >= {seq} and {RUN} order by seq"
    ));
    let (mut forged, mut chain, mut statements) = (None, Digest::ZERO, String::new());
    for row in rows.lines() {
        let fields: Vec<&str> = row.split('|').collect();
        let envelope = Envelope {
            run_id: RunId(fields[0].parse().unwrap()),
            seq: fields[1].parse().unwrap(),
            attempt: fields[2].parse().unwrap(),
            step: fields[3].parse().ok(),
            kind: fields[4].parse().unwrap(),
            schema_version: fields[5].parse().unwrap(),
            recorded_at: fields[6].parse().unwrap(),
            writer_epoch: fields[7].parse().unwrap(),
        };
        let mut payload = from_hex(fields[8]);
        if forged.is_none() && change(&envelope, &mut payload) {
            forged = Some(envelope.seq);
        }
        if forged.is_none() {
            continue;
        }
        let prev = if chain == Digest::ZERO {
            Digest(from_hex(fields[9]).try_into().unwrap())
        } else {
            chain
        };
        chain = envelope.hash(&payload, &prev);
        statements += &format!(
            "update event set payload = '\\x{}', prev_hash = '\\x{prev}', hash = '\\x{chain}' where seq = {} and {RUN}; ",
            to_hex(&payload),
            envelope.seq
        );
    }
    statements += &format!("update run_head set chain = '\\x{chain}' where {RUN};");
    std::fs::write(
        place.path("forge.sql"),
        format!("set session_replication_role = replica; {statements}"),
    )
    .unwrap();
    let file = place.path("forge.sql");
    place.ok(&["db", "psql", "--", "-q", "-v", "ON_ERROR_STOP=1", "-f", file.to_str().unwrap()]);
    forged.expect("an event to change after that place")
}

/// A log that says something else than the trainer: the steps after a checkpoint do not come out as it
/// says, which on a CPU nobody may pass by.
#[test]
fn resume_that_disagrees_with_the_log_stops_unless_it_is_accepted_and_logged() {
    let place = Place::with_run_file();
    let sets = ["plugins=[]", "checkpoint.every_steps=1000000", "training.steps=1000000"];
    let worker = place.train_in_background("run", &sets);
    place.wait_for_step("run", 30);
    drop(worker);
    forge(&place, 10, |event| match event {
        Event::StepRecorded(step) => {
            step.pre_step.loss += 0.25;
            true
        }
        _ => false,
    });
    let args = place.train_args("run", &sets);
    let mut args: Vec<&str> = args.iter().map(String::as_str).collect();
    let text = place.refused(&args, 2);
    assert!(text.contains("disagrees with the log: step"), "{text}");
    assert!(text.contains("--accept-divergence"), "{text}");
    args.push("--accept-divergence");
    let worker = Background(place.hm(&args).stderr(Stdio::piped()).spawn().unwrap());
    place.wait_for("select count(*) from event where kind = 13", "1");
    place.wait_for_step("run", place.steps("run") + 1);
    assert_eq!(worker.interrupt(), Some(130));
    let resumed =
        place.sql("select encode(payload, 'hex') from event where kind = 13 order by seq");
    let Ok(Event::RunResumed(resumed)) = codec::decode(13, 1, &from_hex(resumed.trim())) else {
        panic!("the resumption is on record")
    };
    assert!(!resumed.agreed && resumed.difference_max > 0.01, "{resumed:?}");
}

pub(crate) fn move_a_weight(event: &mut Event) -> bool {
    let Event::StepRecorded(step) = event else { return false };
    for effect in step.receipts.iter_mut().flat_map(|receipt| &mut receipt.effects) {
        if let Effect::Mixture { mixture, .. } = effect {
            mixture.weights[0] += 1;
            mixture.weights[1] -= 1;
            return true;
        }
    }
    false
}

pub(crate) fn from_hex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

pub(crate) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
