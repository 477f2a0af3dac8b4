//! A run outside the database: audited there, dropped, brought back, and one event of it shown alone.

use std::path::Path;

use serde_json::Value;

use crate::place::Place;

/// Every row of a run in every table that holds any, but for those that say who holds it.
fn rows(place: &Place, run: &str) -> String {
    let tables = [
        "event",
        "run",
        "step_metric",
        "step_rollup",
        "decision",
        "finding",
        "checkpoint",
        "rollback",
        "binding",
        "validation",
        "weight_state",
    ];
    let one = |table: &&str| {
        // What a transaction leaves in a row is not the row's content.
        let row = "md5(string_agg((to_jsonb(t) - 'xid')::text, E'\\n' order by (to_jsonb(t) - 'xid')::text))";
        format!("select '{table}', count(*), {row} from {table} t where run_id = '{run}'")
    };
    let all: Vec<String> = tables.iter().map(one).collect();
    let head = format!(
        "select 'head', next_seq, encode(chain, 'hex') || sealed || number || writer_epoch || name \
         from run_head where run_id = '{run}'"
    );
    place.sql(&format!("{} union all {head} order by 1", all.join(" union all ")))
}

/// A report without what tells where it was made.
fn findings(mut report: Value) -> Value {
    report["anchors"].take();
    report
}

fn audit_at(place: &Place, folder: &Path, more: &[&str], code: i32) -> Value {
    place.audit(folder.to_str().unwrap(), more, code)
}

#[test]
fn archived_run_is_audited_without_a_database_dropped_and_brought_back_as_it_was() {
    let place = Place::with_run_file();
    place.train("other", &["plugins=[]", "training.steps=20"]);
    place.train("run", &[]);
    let id = place.sql("select run_id from run where name = 'run'");
    let other = place.sql("select run_id from run where name = 'other'");
    let (before, others) = (rows(&place, &id), rows(&place, &other));
    let from_database = place.audit("run", &[], 0);
    let folder = place.path("archive");
    let text = place.ok(&["db", "archive", "run", "--output", folder.to_str().unwrap()]);
    assert!(text.contains("Merkle root"), "{text}");
    for name in ["events.parquet", "archive.json", "head.json", "spec.json", "data/manifest.json"] {
        assert!(folder.join(name).is_file(), "{name}");
    }
    let again = place.refused(&["db", "archive", "run", "-o", folder.to_str().unwrap()], 2);
    assert!(again.contains("it is there already"), "{again}");

    // On a machine that has nothing but the folder and the public key.
    let elsewhere = Place::new();
    let public: Value = serde_json::from_str(&place.ok(&["key", "show", "--json"])).unwrap();
    let public = public["public_key"].as_str().unwrap();
    let offline = audit_at(&elsewhere, &folder, &["--key", public], 0);
    assert_eq!(offline["anchors"][0]["held"], 1);
    assert_eq!(findings(offline), findings(from_database));
    assert!(!elsewhere.path("data").exists(), "nothing was started or written");
    let unsigned = audit_at(&elsewhere, &folder, &["--level", "chain"], 0);
    let remark = unsigned["anchors"][0]["remark"].as_str().unwrap();
    assert!(remark.contains("claims to be signed by"), "{remark}");

    // One decision without the rest, and a statement of the whole.
    let proof = place.path("decision.proof");
    place.ok(&["db", "prove", "run", "60", "--output", proof.to_str().unwrap()]);
    let of_folder = place.path("of-folder.proof");
    place.ok(&["db", "prove", folder.to_str().unwrap(), "60", "-o", of_folder.to_str().unwrap()]);
    assert_eq!(std::fs::read(&proof).unwrap(), std::fs::read(&of_folder).unwrap());
    let shown = audit_at(&elsewhere, &proof, &["--key", public], 0);
    assert_eq!((&shown["seq"], &shown["run"]), (&60.into(), &id.clone().into()));
    let changed =
        std::fs::read_to_string(&proof).unwrap().replace("\"attempt\":0", "\"attempt\":1");
    std::fs::write(&proof, changed).unwrap();
    let args = ["audit", proof.to_str().unwrap(), "--key", public];
    let text = elsewhere.refused(&args, 1);
    assert!(text.contains("does not lead to the root"), "{text}");
    let statement = place.path("statement.json");
    let attest = ["--attest", statement.to_str().unwrap()];
    let report = audit_at(&place, &folder, &attest, 0);
    let text = elsewhere.ok(&["key", "verify", statement.to_str().unwrap(), "--key", public]);
    let signed: Value = serde_json::from_str(text.lines().nth(1).unwrap()).unwrap();
    assert_eq!(signed["subject"][0]["digest"]["sha256"], report["head"]["hash"]);
    assert_eq!(signed["predicate"]["plugins"].as_array().unwrap().len(), 2);
    assert_eq!(signed["predicate"]["report"], report);
    elsewhere.ok(&["key", "show"]);
    let text = elsewhere.refused(&["key", "verify", statement.to_str().unwrap()], 1);
    assert!(text.contains("is not signed by key"), "{text}");

    // Where its plugins never were, it brings them, and the system stream says so.
    elsewhere.ok(&["db", "restore", folder.to_str().unwrap()]);
    let system = elsewhere.ok(&["audit", "system"]);
    assert!(system.contains("unbroken") && system.contains("2 plugins installed"), "{system}");

    // Gone, and the other untouched; back, and the same to the last row.
    place.ok(&["db", "archive", "run", "--output", folder.to_str().unwrap(), "--drop"]);
    assert!(place.refused(&["audit", "run"], 2).contains("no run `run`"));
    let left = format!("select to_regclass('event_{}'), count(*) from event", id.replace('-', ""));
    let of_other = place.sql(&format!("select count(*) from event where run_id = '{other}'"));
    let system = place.sql("select next_seq from run_head where name = 'system'");
    let all = of_other.parse::<u64>().unwrap() + system.parse::<u64>().unwrap();
    assert_eq!(place.sql(&left), format!("|{all}"));
    assert_eq!(rows(&place, &other), others);
    place.ok(&["db", "restore", folder.to_str().unwrap()]);
    assert_eq!(rows(&place, &id), before);
    assert_eq!(findings(place.audit("run", &[], 0)), findings(report));
    let text = place.refused(&["db", "restore", folder.to_str().unwrap()], 2);
    assert!(text.contains("is in this database already"), "{text}");
    place.ok(&["db", "rebuild", "run"]);
    assert_eq!(rows(&place, &id), before);
}

#[test]
fn run_that_may_go_on_or_is_not_what_was_archived_is_not_dropped() {
    let place = Place::with_run_file();
    let sets = ["plugins=[]", "checkpoint.every_steps=1000000", "training.steps=1000000"];
    let worker = place.train_in_background("run", &sets);
    place.wait_for_step("run", 30);
    assert_eq!(worker.interrupt(), Some(130));
    let folder = place.path("archive");
    let args = ["db", "archive", "run", "--output", folder.to_str().unwrap()];
    let text = place.refused(&[&args[..], &["--drop"]].concat(), 2);
    assert!(text.contains("it has not ended"), "{text}");
    // It was archived all the same, as far as it is.
    assert_eq!(audit_at(&place, &folder, &[], 0)["ended"], false);
    place.ok(&["runs", "end", "run", "--reason", "it is over"]);
    let text = place.refused(&[&args[..], &["--drop"]].concat(), 2);
    assert!(text.contains("is not the one in the archive"), "{text}");
    assert_eq!(place.sql("select count(*) from run"), "1");
}

/// Writes something else into an archive's own word of itself.
fn rename_run(folder: &Path, from: &str, to: &str) {
    let manifest = folder.join("archive.json");
    let text = std::fs::read_to_string(&manifest).unwrap();
    assert!(text.contains(from), "{text}");
    std::fs::write(&manifest, text.replace(from, to)).unwrap();
}

#[test]
fn archive_of_a_fork_has_what_it_inherited_and_no_archive_serves_for_another_run() {
    let place = Place::with_run_file();
    place.train("parent", &["training.steps=60"]);
    let file = place.path("run.yaml");
    let fork = ["runs", "fork", "parent", "--at", "30", "-c", file.to_str().unwrap()];
    place.ok(&[&fork[..], &["--set", "name=child", "--set", "training.steps=60"]].concat());
    place.train("child", &["training.steps=60"]);
    let (of_child, of_parent) = (place.path("child"), place.path("parent"));
    for (run, folder) in [("child", &of_child), ("parent", &of_parent)] {
        place.ok(&["db", "archive", run, "-o", folder.to_str().unwrap()]);
    }
    // What a fork's plugins were and where they stood, only its parent's log names as events.
    let elsewhere = Place::new();
    let report = audit_at(&elsewhere, &of_child, &[], 0);
    let here = place.audit("child", &[], 0);
    assert_eq!(report["verdict"], "proved");
    assert!(report["claimed"].as_u64().unwrap() > 30, "{report}");
    assert_eq!(report["claimed"], here["claimed"]);

    let child = here["run"].as_str().unwrap();
    let parent = place.sql("select run_id from run where name = 'parent'");
    let drop = ["db", "archive", "child", "-o", of_parent.to_str().unwrap(), "--drop"];
    let text = place.refused(&drop, 2);
    assert!(text.contains(&format!("archive of run {parent}, not of run {child}")), "{text}");
    assert_eq!(place.sql("select count(*) from run"), "2");

    rename_run(&of_child, child, &parent);
    let text = place.refused(&["audit", of_child.to_str().unwrap()], 2);
    assert!(text.contains("its signed head must be of the run"), "{text}");
    let text = elsewhere.refused(&["audit", of_child.to_str().unwrap()], 2);
    assert!(
        text.contains(&format!("is of run {child}, and archive.json says run {parent}")),
        "{text}"
    );
}
