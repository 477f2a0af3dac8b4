//! How runs are taken up again: from checkpoints that are damaged, half said or gone, and not at all.

use hm_domain::event::Event;

use crate::ends::PLAIN;
use crate::place::Place;
use crate::tampering::forge;

/// Flips bytes in the middle of a checkpoint's moments.
fn damage(folder: &std::path::Path) {
    let path = folder.join("moments.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 64].iter_mut().for_each(|byte| *byte ^= 0x55);
    std::fs::write(&path, bytes).unwrap();
}

#[test]
fn damaged_newest_checkpoint_is_passed_over_and_only_what_the_log_names_is_deleted() {
    let place = Place::with_run_file();
    let sets = [&PLAIN[..], &["checkpoint.every_steps=10"]].concat();
    let worker = place.train_in_background("run", &sets);
    place.wait_for_step("run", 25);
    assert_eq!(worker.interrupt(), Some(130));
    let saved = place.on_disk("run");
    let [older, newest] = &saved[..] else { panic!("two are kept: {saved:?}") };
    let folder = place.checkpoints("run");
    damage(&folder.join(newest));
    let step_of = |name: &str| name[6..16].parse::<u64>().unwrap();
    // Its text and its export come from the older one too, and say so.
    let passed_over = place.output(&["generate", "run", "--prompt", "the cat", "--tokens", "1"]);
    let said = String::from_utf8(passed_over.stderr).unwrap();
    assert!(passed_over.status.success(), "{said}");
    assert!(said.contains("is passed over") && said.contains("digest"), "{said}");
    assert!(said.contains(&format!("weights of step {}", step_of(older))), "{said}");
    let output = place.path("exported");
    let said = place.ok(&["export", "run", "--output", output.to_str().unwrap(), "--json"]);
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["step"], step_of(older));

    // What a person keeps there: a folder of notes, and one that looks like a checkpoint.
    std::fs::create_dir(folder.join("0-my-notes")).unwrap();
    std::fs::create_dir(folder.join("a000-s9999999999-best")).unwrap();

    let steps = place.steps("run");
    let mut worker = place.train_in_background("run", &sets);
    worker.says("is passed over");
    place.wait_for_step("run", steps + 40);
    assert_eq!(worker.interrupt(), Some(130));
    let resumed = place.resumed();
    assert_eq!(resumed.checkpoint_step, step_of(older));
    assert_eq!((resumed.agreed, resumed.step), (true, steps));
    assert_eq!(resumed.passed_over.len(), 1, "{resumed:?}");
    let passed_over = &resumed.passed_over[0];
    assert_eq!(passed_over.step, step_of(newest));
    assert!(passed_over.reason.contains("digest"), "{passed_over:?}");
    let left = place.on_disk("run");
    assert_eq!(left.len(), 4, "two checkpoints and what is not ours: {left:?}");
    assert!(left.contains(&"0-my-notes".to_owned()), "{left:?}");
    assert!(left.contains(&"a000-s9999999999-best".to_owned()), "{left:?}");

    // None is whole: the log is trained again from its beginning, and agrees.
    let steps = place.steps("run");
    left.iter().filter(|name| folder.join(name).join("state.json").exists()).for_each(|name| {
        damage(&folder.join(name));
    });
    let mut worker = place.train_in_background("run", &sets);
    worker.says("trained again from step 0");
    place.wait_for_step("run", steps + 1);
    assert_eq!(worker.interrupt(), Some(130));
    let resumed = place.resumed();
    assert_eq!((resumed.checkpoint, resumed.passed_over.len()), (None, 2));
    assert_eq!((resumed.agreed, resumed.caught_up_steps), (true, steps));
}

#[test]
fn worker_that_is_killed_as_it_catches_up_has_not_done_so_in_vain() {
    let place = Place::with_run_file();
    let sets = [&PLAIN[..], &["checkpoint.every_steps=10"]].concat();
    let worker = place.train_in_background("run", &sets);
    place.wait_for_step("run", 200);
    assert_eq!(worker.interrupt(), Some(130));
    let folder = place.checkpoints("run");
    let before = place.on_disk("run");
    before.iter().for_each(|name| damage(&folder.join(name)));
    let mut worker = place.train_in_background("run", &sets);
    worker.says("trained again from step 0");
    let begun = std::time::Instant::now();
    let is_new = |name: &String| !before.contains(name) && !name.ends_with(".part");
    while !place.on_disk("run").iter().any(is_new) {
        assert!(begun.elapsed().as_secs() < 300, "nothing is saved on the way");
    }
    drop(worker);
    let steps = place.steps("run");
    let worker = place.train_in_background("run", &sets);
    place.wait_for_step("run", steps + 1);
    assert_eq!(worker.interrupt(), Some(130));
    let resumed = place.resumed();
    assert!(resumed.agreed && resumed.checkpoint_step > 0, "{resumed:?}");
    assert_eq!(place.on_disk("run").len(), 2);
    assert_eq!(place.audit("run", &["--strict"], 0)["verdict"], "host part follows");
}

#[test]
fn checkpoint_whose_worker_died_before_it_could_say_so_counts_or_goes() {
    let place = Place::with_run_file();
    let sets = [&PLAIN[..], &["checkpoint.every_steps=10"]].concat();
    let hold = place.hold_at_checkpoint(20);
    let worker = place.train_in_background("run", &sets);
    hold.reached();
    // Its folder is there, its event is not.
    drop(worker);
    hold.release();
    let folder = place.checkpoints("run");
    let unnamed = place.on_disk("run").pop().unwrap();
    assert_eq!(place.sql("select string_agg(step::text, ' ') from checkpoint"), "10");
    assert!(unnamed.starts_with("a000-s0000000020-"), "{unnamed}");
    // As a GPU leaves one: of the same step, and never to be made again.
    let stray = "a000-s0000000020-0123456789ab";
    // A person's copy, and one of a step that this log has not come to: that of a restored database.
    let (copied, later) = (format!("{unnamed}-mine"), "a000-s0000009999-0123456789ab");
    let state = std::fs::read_to_string(folder.join(&unnamed).join("state.json")).unwrap();
    for (name, step) in [(stray, "20"), (&copied, "20"), (later, "9999")] {
        std::fs::create_dir(folder.join(name)).unwrap();
        let state = state.replace("\"next_step\":20,", &format!("\"next_step\":{step},"));
        std::fs::write(folder.join(name).join("state.json"), state).unwrap();
    }
    let mut worker = place.train_in_background("run", &sets);
    worker.says(&format!("which no event names: {stray}"));
    assert_eq!(worker.interrupt(), Some(130));
    let named = place.sql("select folder from checkpoint where step = 20");
    assert_eq!(named, unnamed, "it is what came out again");
    let left = place.on_disk("run");
    assert!(!left.contains(&stray.to_owned()), "{left:?}");
    assert!(left.contains(&copied) && left.contains(&later.to_owned()), "{left:?}");
}

#[test]
fn run_that_cannot_be_taken_up_says_why_in_its_log() {
    let place = Place::with_run_file();
    let sets = [&PLAIN[..], &["checkpoint.every_steps=10000000"]].concat();
    let worker = place.train_in_background("run", &sets);
    place.wait_for_step("run", 5);
    drop(worker);
    // Another loss than the one that was seen: what is trained again cannot agree with it.
    forge(&place, 3, |event| match event {
        Event::StepRecorded(step) => {
            step.pre_step.loss += 1.0;
            true
        }
        _ => false,
    });
    let text = place.refused_training("run", &sets, 2);
    assert!(text.contains("catch-up disagrees with the log: step "), "{text}");
    let state = place.state("run");
    let due = "interrupted||the run could not be taken up: on a CPU this must not be";
    assert!(state.starts_with(due), "{state}");
}
