//! Checkpoints are written while training goes on: what that costs nobody, whatever dies or fails.

use std::path::PathBuf;
use std::process::Stdio;

use crate::place::{Background, Place};

const PLAIN: &str = "plugins=[]";

impl Place {
    /// Trains like `train_in_background`, but where no file may grow beyond so many KiB: a process that
    /// writes more is killed in the middle of a file, or with `spared` told that the file is too large.
    fn train_with_small_files(
        &self,
        name: &str,
        kib: u32,
        spared: bool,
        sets: &[&str],
    ) -> Background {
        let args = self.train_args(name, sets);
        let plain = self.hm(&args.iter().map(String::as_str).collect::<Vec<_>>());
        let spare = if spared { "trap '' XFSZ; " } else { "" };
        let mut command = std::process::Command::new("bash");
        command.arg("-c").arg(format!("{spare}ulimit -f {kib}; exec \"$@\"")).arg("bash");
        command.arg(plain.get_program()).args(plain.get_args());
        for (key, value) in plain.get_envs() {
            match value {
                Some(value) => command.env(key, value),
                None => command.env_remove(key),
            };
        }
        Background(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap())
    }

    fn saved_in(&self, name: &str) -> (PathBuf, Vec<String>) {
        let id = self.sql(&format!("select run_id from run where name = '{name}'"));
        let folder = self.path("data/checkpoints").join(id);
        let entries = std::fs::read_dir(&folder).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        (folder, names)
    }

    /// How many events of a kind a run has.
    fn count(&self, name: &str, kind: u16) -> u64 {
        let query = format!(
            "select count(*) from event e join run r using (run_id) where r.name = '{name}' and kind = {kind}"
        );
        self.sql(&query).parse().unwrap()
    }
}

/// KiB of a file that holds a part of a checkpoint's weights, and all else that a worker writes.
const HALF_A_CHECKPOINT_KIB: u32 = 200;

#[test]
fn worker_that_is_killed_while_a_checkpoint_is_written_leaves_nothing_and_loses_nothing() {
    let place = Place::with_run_file();
    let sets = ["training.steps=24", "checkpoint.every_steps=8", PLAIN];
    place.train("unbroken", &sets);
    let killed = place.train_with_small_files("run", HALF_A_CHECKPOINT_KIB, false, &sets);
    let (code, said) = killed.end();
    assert_eq!(code, None, "ended by a signal: {said}");
    assert_eq!((place.count("run", 22), place.count("run", 8)), (1, 0), "begun, and not saved");
    let (_, left) = place.saved_in("run");
    assert!(left.len() == 1 && left[0].ends_with(".part"), "half a checkpoint: {left:?}");

    place.train("run", &sets);
    assert_eq!(place.final_checkpoint("run"), place.final_checkpoint("unbroken"));
    assert_eq!(place.facts("run"), place.facts("unbroken"));
    let (_, left) = place.saved_in("run");
    assert!(left.len() == 2 && left.iter().all(|name| !name.ends_with(".part")), "{left:?}");
    assert_eq!(
        place.audit("run", &["--level", "training", "--strict"], 0)["training"]["steps"],
        24
    );
}

#[test]
fn checkpoint_that_fails_half_way_is_told_and_the_run_goes_on_without_it() {
    let place = Place::with_run_file();
    let sets = ["training.steps=24", "checkpoint.every_steps=8", PLAIN];
    place.train("unbroken", &sets);
    let mut worker = place.train_with_small_files("run", HALF_A_CHECKPOINT_KIB, true, &sets);
    worker.says("checkpoint at step 8 failed");
    worker.says("trying again in 1 s");
    assert_eq!(worker.interrupt(), Some(3));
    assert_eq!(
        (place.count("run", 9), place.count("run", 8)),
        (3, 0),
        "two on the way, one at the end"
    );
    assert_eq!(place.saved_in("run").1, Vec::<String>::new(), "nothing half written stays");

    place.train("run", &sets);
    assert_eq!(place.final_checkpoint("run"), place.final_checkpoint("unbroken"));
    assert_eq!(place.audit("run", &[], 0)["first"], serde_json::Value::Null);
}

#[test]
fn milestones_are_kept_whatever_is_deleted() {
    let place = Place::with_run_file();
    let sets = [
        "training.steps=36",
        "checkpoint={every_steps: 4, keep: 1, keep_every: 12}",
        "validation.every_steps=0",
        PLAIN,
    ];
    place.train("run", &sets);
    let (_, saved) = place.saved_in("run");
    let steps: Vec<u64> = saved.iter().map(|name| name[6..16].parse().unwrap()).collect();
    // The newest of all is a milestone by chance, and the one before it the newest that a step has followed.
    assert_eq!(steps, [12, 24, 32, 36]);
    let refused = place.refused_training("other", &["checkpoint.keep_every=45"], 2);
    assert!(refused.contains("checkpoint.keep_every is 45: must be a multiple"), "{refused}");

    let said = place.audit("run", &["--level", "training", "--segments", "12..24"], 0);
    assert_eq!(
        (&said["training"]["steps"], &said["training"]["checkpoints"]),
        (&12.into(), &3.into())
    );
}
