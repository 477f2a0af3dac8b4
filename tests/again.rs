//! What an audit finds that draws the data and trains again.

use hm_domain::event::Event;

use crate::place::Place;
use crate::tampering::forge;

/// A run of 24 steps, whose newest two checkpoints of three are kept.
fn trained(more: &[&str]) -> Place {
    let place = Place::with_run_file();
    let sets = ["training.steps=24", "checkpoint.every_steps=8", "validation.every_steps=8"];
    place.train("run", &[&sets[..], more].concat());
    place
}

/// Without a plugin that would be shown other numbers.
const PLAIN: [&str; 1] = ["plugins=[]"];

#[test]
fn whole_run_is_drawn_and_trained_again_to_the_bit() {
    let place = trained(&[]);
    let report = place.audit("run", &["--level", "training", "--strict"], 0);
    assert_eq!((&report["verdict"], &report["level"]), (&"proved".into(), &"training".into()));
    let (data, training) = (&report["data"], &report["training"]);
    assert_eq!((&data["batches"], &data["sequences"]), (&24.into(), &192.into()));
    assert_eq!((&training["steps"], &training["exact"]), (&24.into(), &true.into()));
    assert_eq!((&training["checkpoints"], &training["validations"]), (&3.into(), &4.into()));
    let trusted = |report: &serde_json::Value| report["word_of"]["trainer"].to_string();
    assert!(!trusted(&report).contains("step-recorded"), "all was seen again: {report}");

    // The first checkpoint is gone: what begins with it is not covered, and that is said.
    let some = ["--level", "training", "--segments", "9..20"];
    let report = place.audit("run", &some, 0);
    let training = &report["training"];
    assert_eq!(
        (&training["steps"], &report["verdict"]),
        (&8.into(), &"not provable in part".into())
    );
    assert_eq!(training["not_covered"][0]["why"], "the checkpoint of step 8 is gone");
    place.audit("run", &[&some[..], &["--strict"]].concat(), 1);
    let chance = ["--level", "training", "--segments", "random:9:1"];
    assert_eq!(place.audit("run", &chance, 0)["training"]["not_covered"], serde_json::json!([]));

    let drew = place.audit("run", &["--level", "data", "--step", "7"], 0);
    assert_eq!(drew["verdict"], "not provable in part");
    assert_eq!(
        (&drew["data"]["batches"], &drew["data"]["batches_logged"]),
        (&1.into(), &24.into())
    );
    assert!(trusted(&drew).contains("step-recorded batch"), "{drew}");
    place.audit("run", &["--level", "data", "--step", "7", "--strict"], 1);
    let in_vain = place.refused(&["audit", "run", "--level", "data", "--segments", "all"], 2);
    assert!(in_vain.contains("are of the training: add --level training"), "{in_vain}");
    let pieces = drew["data"]["drew"].as_array().unwrap();
    let sequences: std::collections::BTreeSet<u64> =
        pieces.iter().map(|piece| piece["sequence"].as_u64().unwrap()).collect();
    assert_eq!(sequences, (0..8).collect(), "every sequence has its documents");
    let text = place.ok(&["audit", "run", "--level", "data", "--step", "7"]);
    assert!(text.contains("step 7 sequence 0: numbers, document"), "{text}");
    let none = place.refused(&["audit", "run", "--level", "data", "--step", "24"], 2);
    assert!(none.contains("the log has no step 24"), "{none}");
}

#[test]
fn loss_that_was_not_so_is_named_by_training_alone() {
    let place = trained(&PLAIN);
    // Sums and mean moved together, as arithmetic has them.
    let forged = forge(&place, 15, |event| match event {
        Event::ValidationRecorded(validation) => {
            validation.losses[0].loss_sum *= 0.9;
            true
        }
        _ => false,
    });
    place.forget_anchors();
    assert_eq!(place.audit("run", &["--level", "data"], 0)["data"]["diverged"], 0);
    let report = place.audit("run", &["--level", "training"], 1);
    assert_eq!(report["verdict"], "diverged");
    assert_eq!(report["training"]["first"]["seq"], forged, "{report}");
    let found = report["training"]["first"]["found"].as_str().unwrap();
    assert!(found.contains("validation at step"), "{found}");
}

#[test]
fn batch_and_shard_that_are_others_are_named() {
    let place = trained(&PLAIN);
    let forged = forge(&place, 15, |event| match event {
        Event::StepRecorded(step) => {
            step.batch.0[0] ^= 1;
            true
        }
        _ => false,
    });
    place.forget_anchors();
    let report = place.audit("run", &["--level", "data"], 1);
    let first = &report["data"]["first"];
    assert_eq!((&first["seq"], &first["what"]), (&forged.into(), &"digest of the batch".into()));

    // The same length, other tokens.
    let prepared = std::fs::read_dir(place.path("data/prepared")).unwrap();
    let mut folders = prepared.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    let folder = folders.next().unwrap();
    let shard = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let shard = shard.into_iter().find(|path| path.extension().is_some_and(|it| it == "bin"));
    let shard = shard.unwrap();
    let mut bytes = std::fs::read(&shard).unwrap();
    bytes[10] ^= 1;
    std::fs::write(&shard, bytes).unwrap();
    let report = place.audit("run", &["--level", "training"], 1);
    let what = report["data"]["first"]["what"].as_str().unwrap();
    assert!(what.contains("digest of") && report["training"].is_null(), "{report}");
}
