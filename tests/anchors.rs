//! What is kept outside the database catches what nothing in it can: a chain made anew as a whole.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use serde_json::Value;

use crate::place::Place;
use crate::tampering::{forge, move_a_weight};

/// The anchor beside the newest checkpoint.
fn beside_checkpoint(place: &Place, run: &str) -> PathBuf {
    let folder = place.path(&format!("data/checkpoints/{run}"));
    let mut anchors: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path().join("anchor.json"))
        .collect();
    anchors.sort();
    assert!(anchors.iter().all(|anchor| anchor.is_file()), "{anchors:?}");
    anchors.pop().expect("a checkpoint")
}

#[test]
fn chain_made_anew_is_caught_by_each_anchor_and_by_nothing_else() {
    let place = Place::with_run_file();
    let mut args = place.train_args("run", &[]);
    args.push("--json".to_owned());
    let trained = place.ok(&args.iter().map(String::as_str).collect::<Vec<_>>());
    let trained: Value = serde_json::from_str(&trained).unwrap();
    let run = trained["run"].as_str().unwrap().to_owned();
    let hash = trained["head"]["hash"].as_str().unwrap();
    let head = format!("{}:{hash}", trained["head"]["seq"]);

    // Four checkpoints and the end.
    let kept = place.path(&format!("data/anchors/{run}.jsonl"));
    assert_eq!(std::fs::read_to_string(&kept).unwrap().lines().count(), 5);
    let key = place.path("data/signing-key");
    assert_eq!(std::fs::metadata(key).unwrap().permissions().mode() & 0o777, 0o600);
    let beside = beside_checkpoint(&place, &run);
    let public: Value = serde_json::from_str(&place.ok(&["key", "show", "--json"])).unwrap();
    let public = public["public_key"].as_str().unwrap();
    let chain = ["--level", "chain"];
    let beside_args = ["--anchors", beside.to_str().unwrap(), "--key", public];
    let everything = [&chain[..], &["--head", &head], &beside_args].concat();
    let report = place.audit("run", &everything, 0);
    assert_eq!(report["head"], trained["head"]);
    let held = report["anchors"].as_array().unwrap();
    assert_eq!(held.len(), 3, "{report}");
    assert!(held.iter().all(|one| one["heads"] == one["held"]), "{report}");
    assert!(place.ok(&["key", "verify", beside.to_str().unwrap()]).contains(&run));

    // Behind the earliest head, wherever that came to lie while steps went on, so that all others differ.
    let signed = place.ok(&["key", "verify", kept.to_str().unwrap()]);
    let earliest: Value = serde_json::from_str(signed.lines().nth(1).unwrap()).unwrap();
    let forged = forge(&place, earliest["seq"].as_u64().unwrap() + 1, move_a_weight);
    let away = place.path("away.jsonl");
    std::fs::copy(&kept, &away).unwrap();
    let caught = |more: &[&str]| {
        let report = place.audit("run", &[&chain, more].concat(), 1);
        assert_eq!(report["verdict"], "diverged");
        let first = &report["first"];
        assert_eq!((&first["plugin"], &first["what"]), (&"log".into(), &"anchor".into()));
        assert!(first["seq"].as_u64().unwrap() >= forged, "{first}");
        first.clone()
    };
    let first = caught(&[]);
    assert!(first["found"].as_str().unwrap().contains("changed after seq"), "{first}");
    place.forget_anchors();
    place.audit("run", &chain, 0);
    let text = place.ok(&["audit", "run", "--level", "chain"]);
    assert!(text.contains("held against no anchor"), "{text}");
    caught(&["--head", &head]);
    caught(&["--anchors", away.to_str().unwrap()]);
    caught(&beside_args);
    let text = place.refused(&["audit", "run", "--anchors", "nowhere.jsonl"], 2);
    assert!(text.contains("nowhere.jsonl"), "{text}");
}
