//! How runs end, and how they do not: nothing trained is lost, and nothing is said that is not so.

use std::path::PathBuf;
use std::process::Command;

use hm_domain::event::{Event, RunResumed};
use hm_store::codec;

use crate::place::Place;
use crate::tampering::{forge, from_hex};

/// More steps than any machine trains while a test looks on.
const ENDLESS: &str = "training.steps=10000000";
const PLAIN: [&str; 2] = [ENDLESS, "plugins=[]"];

impl Place {
    fn refused_training(&self, name: &str, sets: &[&str], code: i32) -> String {
        let args = self.train_args(name, sets);
        self.refused(&args.iter().map(String::as_str).collect::<Vec<_>>(), code)
    }

    fn checkpoints(&self, name: &str) -> PathBuf {
        let id = self.sql(&format!("select run_id from run where name = '{name}'"));
        self.path("data/checkpoints").join(id)
    }

    /// Names of what lies in the checkpoint folder of a run, sorted.
    fn on_disk(&self, name: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.checkpoints(name)).unwrap();
        let name = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name();
        let mut names: Vec<String> =
            entries.map(|entry| name(entry).to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    fn state(&self, name: &str) -> String {
        self.sql(&format!("select state, ending, reason from run where name = '{name}'"))
    }

    /// The newest resumption on record.
    fn resumed(&self) -> RunResumed {
        let newest = "select encode(payload, 'hex') from event where kind = 13 \
            order by recorded_at desc limit 1";
        match codec::decode(13, 1, &from_hex(&self.sql(newest))) {
            Ok(Event::RunResumed(resumed)) => resumed,
            other => panic!("no resumption: {other:?}"),
        }
    }
}

/// Flips bytes in the middle of a checkpoint's moments.
fn damage(folder: &std::path::Path) {
    let path = folder.join("moments.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 64].iter_mut().for_each(|byte| *byte ^= 0x55);
    std::fs::write(&path, bytes).unwrap();
}

#[test]
fn run_whose_last_checkpoint_cannot_be_saved_stays_unfinished_until_it_can() {
    let place = Place::with_run_file();
    let sets = [&PLAIN[..], &["checkpoint.every_steps=10000000"]].concat();
    let mut worker = place.train_in_background("full", &sets);
    place.wait_for_step("full", 5);
    let folder = place.checkpoints("full");
    // A file where the folder was: nothing can be saved below it, as on a full disk.
    std::fs::remove_dir(&folder).unwrap();
    std::fs::write(&folder, "full").unwrap();
    place.ok(&["runs", "stop", "full"]);
    worker.says("trying again in 1 s");
    assert_eq!(worker.interrupt(), Some(3));
    let state = place.state("full");
    assert!(state.starts_with("interrupted||stopped by"), "{state}");
    assert!(state.contains("the last checkpoint could not be saved"), "{state}");
    // The place is as it was: said at once, before anything is trained again.
    let text = place.refused_training("full", &sets, 2);
    assert!(text.contains("for checkpoints"), "{text}");

    std::fs::remove_file(&folder).unwrap();
    let steps = place.steps("full");
    let said = place.train("full", &sets);
    assert!(said.contains("ended: stopped by"), "{said}");
    assert!(place.state("full").starts_with("ended|stopped|stopped by"));
    assert_eq!(place.steps("full"), steps, "nothing is trained after the stop");
    assert!(place.final_checkpoint("full").starts_with(&format!("{steps}|")));
    assert_eq!(place.audit("full", &["--strict"], 0)["verdict"], "proved");
}

#[test]
fn interruption_that_cannot_be_saved_does_not_say_that_it_is() {
    let place = Place::with_run_file();
    let args = place.train_args("full", &PLAIN);
    let mut command = place.hm(&args.iter().map(String::as_str).collect::<Vec<_>>());
    let pipe = std::process::Stdio::piped;
    let worker = command.stdout(pipe()).stderr(pipe()).spawn().unwrap();
    place.wait_for_step("full", 5);
    let folder = place.checkpoints("full");
    while std::fs::remove_dir_all(&folder).is_err() || std::fs::write(&folder, "full").is_err() {}
    let id = worker.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    let output = worker.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("no checkpoint could be saved"), "{said}");
    assert!(!said.contains("saved; go on with"), "{said}");
    // Typed again as it was typed, the settings too.
    let hint = format!("hm train -c {} --set name=full --set {ENDLESS}", args[2]);
    assert!(said.contains(&hint), "{said}");
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
fn run_that_learns_nothing_more_fails_with_a_sentence_and_keeps_its_checkpoints() {
    let place = Place::with_run_file();
    // A slip in the exponent: the first update makes every loss after it no number.
    let sets = [
        ENDLESS,
        "plugins=[]",
        "training.learning_rate=1e30",
        "training.learning_rate_minimum=1e29",
        "training.warmup_steps=0",
        "checkpoint={\"every_steps\":5,\"keep\":1}",
    ];
    let args = place.train_args("fast", &sets);
    let output = place.output(&args.iter().map(String::as_str).collect::<Vec<_>>());
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("20 steps in a row, since step"), "{said}");
    assert!(said.contains("training.learning_rate"), "{said}");
    assert!(place.state("fast").starts_with("ended|failed|loss or gradients of 20 steps"));
    let kept = place.on_disk("fast").len();
    assert!(kept >= 4, "none is deleted while nothing is learned: {kept}");
    assert_eq!(place.audit("fast", &["--strict"], 0)["verdict"], "proved");
}

#[test]
fn error_that_ends_a_worker_stands_in_the_log() {
    let place = Place::with_run_file();
    let worker = place.train_in_background("run", &PLAIN);
    place.wait_for_step("run", 3);
    place.ok(&["runs", "learning-rate", "run", "5e-4"]);
    assert_eq!(worker.interrupt(), Some(130));
    // A rate that no step can be trained under, which neither a run file nor a person may ask for.
    forge(&place, 0, |event| match event {
        Event::LearningRateSet(set) => {
            set.peak = f64::INFINITY;
            true
        }
        _ => false,
    });
    let due = format!("step {} could not be trained: the learning rate is inf", place.steps("run"));
    let text = place.refused_training("run", &PLAIN, 2);
    assert!(text.contains(&due), "{text}");
    let state = place.state("run");
    assert!(state.starts_with(&format!("interrupted||{due}")), "{state}");
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

#[test]
fn same_command_after_the_end_says_what_happened_and_how_to_go_on() {
    let place = Place::with_run_file();
    let sets = ["plugins=[]", "training.steps=4"];
    place.train("run", &sets);
    for again in [sets, ["plugins=[]", "training.steps=8"]] {
        let text = place.refused_training("run", &again, 2);
        let due = "has ended already: completed at step 4 of 4";
        for part in [due, "ago (all steps are done)", "--new", "hm export", "hm import"] {
            assert!(text.contains(part), "{text}");
        }
    }
    assert_eq!(place.sql("select count(*) from run"), "1");
    let mut args = place.train_args("run", &sets);
    args.push("--new".to_owned());
    place.ok(&args.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(place.sql("select count(*), count(ending) from run"), "2|2");
}
