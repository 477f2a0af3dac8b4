//! How runs end, and how they do not: nothing trained is lost, and nothing is said that is not so.

use std::path::PathBuf;
use std::process::Command;

use hm_domain::event::{Event, RunResumed};
use hm_store::codec;

use crate::place::Place;
use crate::tampering::{forge, from_hex};

/// More steps than any machine trains while a test looks on.
const ENDLESS: &str = "training.steps=10000000";
pub(crate) const PLAIN: [&str; 2] = [ENDLESS, "plugins=[]"];

impl Place {
    pub(crate) fn refused_training(&self, name: &str, sets: &[&str], code: i32) -> String {
        let args = self.train_args(name, sets);
        self.refused(&args.iter().map(String::as_str).collect::<Vec<_>>(), code)
    }

    pub(crate) fn checkpoints(&self, name: &str) -> PathBuf {
        let id = self.sql(&format!("select run_id from run where name = '{name}'"));
        self.path("data/checkpoints").join(id)
    }

    /// Names of what lies in the checkpoint folder of a run, sorted.
    pub(crate) fn on_disk(&self, name: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.checkpoints(name)).unwrap();
        let name = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name();
        let mut names: Vec<String> =
            entries.map(|entry| name(entry).to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    pub(crate) fn state(&self, name: &str) -> String {
        self.sql(&format!("select state, ending, reason from run where name = '{name}'"))
    }

    /// The newest resumption on record.
    pub(crate) fn resumed(&self) -> RunResumed {
        let newest = "select encode(payload, 'hex') from event where kind = 13 \
            order by recorded_at desc limit 1";
        match codec::decode(13, 1, &from_hex(&self.sql(newest))) {
            Ok(Event::RunResumed(resumed)) => resumed,
            other => panic!("no resumption: {other:?}"),
        }
    }
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
    assert_eq!(place.audit("full", &["--strict"], 0)["verdict"], "host part follows");
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
fn run_that_learns_nothing_more_fails_with_a_sentence_that_names_the_last_good_checkpoint() {
    let place = Place::with_run_file();
    // Slips in the exponent. The first update makes every loss after it no number; the second takes a few.
    let fast = |name: &str, rate: &str, checkpoint: &str| {
        let sets = [
            ENDLESS,
            "plugins=[]",
            &format!("training.learning_rate={rate}"),
            &format!("training.learning_rate_minimum={rate}"),
            "training.warmup_steps=0",
            &format!("checkpoint={checkpoint}"),
        ];
        let args = place.train_args(name, &sets);
        let output = place.output(&args.iter().map(String::as_str).collect::<Vec<_>>());
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("20 steps in a row, since step"), "{said}");
        assert!(said.contains("training.learning_rate"), "{said}");
        assert!(place.state(name).starts_with("ended|failed|loss or gradients of 20 steps"));
        assert_eq!(place.audit(name, &["--strict"], 0)["verdict"], "host part follows");
        (said, place.on_disk(name))
    };
    let (said, kept) = fast("first", "1e30", "{\"every_steps\":5,\"keep\":1}");
    assert!(said.contains("there is no checkpoint from before them"), "{said}");
    assert_eq!(kept.len(), 1, "all there is, and once: {kept:?}");

    let (said, kept) = fast("later", "1e4", "{\"every_steps\":1,\"keep\":1}");
    // The newest holds the weights that give no numbers; the one before it gave a step with numbers.
    let [good, ruined] = &kept[..] else { panic!("two are kept: {kept:?}") };
    let since = |name: &str| name[6..16].parse::<u64>().unwrap();
    assert!(said.contains(&format!("since step {}, were", since(ruined))), "{said}");
    assert_eq!(since(good) + 1, since(ruined));
    assert!(said.contains(&format!("is that of step {} ({good})", since(good))), "{said}");
    // It is the one that everybody is given.
    assert!(said.contains(&format!("weights of step {}: ", since(good))), "{said}");
    let output = place.path("good");
    let exported = place.ok(&["export", "later", "--output", output.to_str().unwrap()]);
    assert!(exported.contains(&format!("weights of step {} into", since(good))), "{exported}");
}

#[test]
fn stop_of_a_run_that_nobody_trains_loses_no_step() {
    let place = Place::with_run_file();
    let sets = [&PLAIN[..], &["checkpoint.every_steps=0"]].concat();
    let worker = place.train_in_background("killed", &sets);
    place.wait_for_step("killed", 5);
    drop(worker);
    let steps = place.steps("killed");
    let left = place.refused(&["runs", "stop", "killed"], 3);
    let due = format!("steps 0 to {} are in no checkpoint: the next `hm train`", steps - 1);
    assert!(left.contains(&due) && left.contains("hm runs end "), "{left}");
    assert!(place.state("killed").starts_with("running|"));
    let said = place.train("killed", &sets);
    assert!(said.contains("ended: stopped by"), "{said}");
    let ended = place.steps("killed");
    assert!(ended >= steps && place.final_checkpoint("killed").starts_with(&format!("{ended}|")));

    // Where the last worker has saved nothing is to be lost.
    let worker = place.train_in_background("saved", &sets);
    place.wait_for_step("saved", 5);
    assert_eq!(worker.interrupt(), Some(130));
    // A checkpoint on record that is not on the disk holds nothing.
    let (folder, aside) = (place.checkpoints("saved"), place.path("aside"));
    std::fs::rename(&folder, &aside).unwrap();
    let left = place.refused(&["runs", "stop", "saved"], 3);
    assert!(left.contains("is not whole on this machine"), "{left}");
    assert!(left.contains(": the next `hm train` catches up") && left.contains("hm runs end "));
    assert!(place.state("saved").starts_with("interrupted|"));
    std::fs::rename(&aside, &folder).unwrap();
    let ended = place.ok(&["runs", "stop", "saved"]);
    assert!(ended.contains("its newest checkpoint holds every step"), "{ended}");
    assert!(place.state("saved").starts_with("ended|stopped|"));
}

#[test]
fn of_several_runs_of_a_name_the_newest_is_meant_unless_another_is_named() {
    let place = Place::with_run_file();
    // Trains so many steps more, is asked to end, and says how to go on.
    let a_while = |more: &[&str]| {
        let args =
            [place.train_args("run", &PLAIN), more.iter().map(ToString::to_string).collect()];
        let args = args.concat();
        let mut command = place.hm(&args.iter().map(String::as_str).collect::<Vec<_>>());
        let pipe = std::process::Stdio::piped;
        let before =
            place.sql("select coalesce(sum(next_step), 0) from run").parse::<u64>().unwrap();
        let worker = command.stdout(pipe()).stderr(pipe()).spawn().unwrap();
        place.wait_for(&format!("select sum(next_step) > {} from run", before + 3), "t");
        let id = worker.id().to_string();
        assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
        let output = worker.wait_with_output().unwrap();
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        assert_eq!(output.status.code(), Some(130), "{said:?}");
        said
    };
    let newest = || {
        place
            .sql("select run_id from run join run_head using (run_id) order by number desc limit 1")
    };
    let [hint, _] = a_while(&[]);
    assert!(!hint.contains("--run"), "{hint}");
    let first = newest();

    // Another that has ended: the first is not gone on with in its place.
    let mut args = place.train_args("run", &["plugins=[]", "training.steps=4"]);
    args.push("--new".to_owned());
    place.ok(&args.iter().map(String::as_str).collect::<Vec<_>>());
    let text = place.refused_training("run", &PLAIN, 2);
    let due = format!("--run {first}");
    assert!(text.contains("has ended already: completed at step 4 of 4"), "{text}");
    assert!(text.contains("another of that name is unfinished") && text.contains(&due), "{text}");
    let steps = |id: &str| place.sql(&format!("select next_step from run where run_id = '{id}'"));
    let before = steps(&first);
    let [hint, _] = a_while(&["--run", &first]);
    assert!(hint.contains("saved; go on with: hm train") && hint.contains(&due), "{hint}");
    assert_ne!(steps(&first), before);

    // Two that are unfinished: each is told how it is gone on with, and the newest is taken.
    let [hint, _] = a_while(&["--new"]);
    let second = newest();
    assert!(hint.contains(&format!("--run {second}")) && !hint.contains("--new"), "{hint}");
    let before = steps(&first);
    let [_, told] = a_while(&[]);
    assert!(told.contains(&format!("going on with run `run` ({second}), the newest")), "{told}");
    assert!(told.contains(&due), "{told}");
    assert_eq!(steps(&first), before);
    let mut args = place.train_args("run", &PLAIN);
    args.extend(["--run", "00000000-0000-0000-0000-000000000001"].map(str::to_owned));
    let text = place.refused(&args.iter().map(String::as_str).collect::<Vec<_>>(), 2);
    assert!(text.contains("there is no run") && text.contains("hm runs ls"), "{text}");
}

#[test]
fn error_that_ends_a_worker_stands_in_the_log() {
    let place = Place::with_run_file();
    // Without a checkpoint, whose state would be believed.
    let sets = [&PLAIN[..], &["checkpoint.every_steps=10000000"]].concat();
    let worker = place.train_in_background("run", &sets);
    place.wait_for_step("run", 3);
    place.ok(&["runs", "learning-rate", "run", "5e-4"]);
    drop(worker);
    // A rate that no step can be trained under, which neither a run file nor a person may ask for.
    forge(&place, 0, |event| match event {
        Event::LearningRateSet(set) => {
            set.peak = f64::INFINITY;
            true
        }
        _ => false,
    });
    let due = format!("step {} could not be trained: the learning rate is inf", place.steps("run"));
    let text = place.refused_training("run", &sets, 2);
    assert!(text.contains(&due), "{text}");
    let state = place.state("run");
    assert!(state.starts_with(&format!("interrupted||{due}")), "{state}");
}

#[test]
fn stop_that_was_obeyed_is_not_forgotten_by_a_worker_that_dies_as_it_saves() {
    let place = Place::with_run_file();
    let sets = [&PLAIN[..], &["checkpoint.every_steps=10000000"]].concat();
    let worker = place.train_in_background("stopped", &sets);
    place.wait_for_step("stopped", 5);
    let hold = place.hold_at_checkpoint(0);
    place.ok(&["runs", "stop", "stopped"]);
    hold.reached();
    drop(worker);
    hold.release();
    let steps = place.steps("stopped");
    assert!(place.state("stopped").starts_with("running|"));
    let said = place.train("stopped", &sets);
    assert!(said.contains("ended: stopped by"), "{said}");
    assert_eq!(place.steps("stopped"), steps, "nothing is trained after the stop");
    assert!(place.final_checkpoint("stopped").starts_with(&format!("{steps}|")));
}
