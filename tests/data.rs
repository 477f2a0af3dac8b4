//! From somebody's files to a run: what is lost is told, what is damaged is refused, what is interrupted
//! leaves nothing.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::Stdio;

use crate::place::{Background, Place};

/// A place with a run of two steps on `a.jsonl`, of which a few lines are bad.
fn place() -> Place {
    let place = Place::new();
    let line =
        |number: u32| format!("{{\"text\":\"document {number} has a score\",\"score\":NaN}}\n");
    let lines: String = (0..200).map(line).collect();
    let odd = "\u{feff}not json\n{\"text\":\"\"}\n{\"text\":\"half \\ud83d\"}\n";
    std::fs::write(place.path("a.jsonl"), lines + odd).unwrap();
    let run_file = "name: data\ndata:\n  vocabulary: 280\n  sources: [ { path: \"*.jsonl\", format: jsonl } ]\n\
        model: { preset: nano, sequence_length: 16 }\n\
        training: { steps: 2, sequences_per_step: 2 }\n";
    std::fs::write(place.path("run.yaml"), run_file).unwrap();
    place
}

/// What lies prepared.
fn folders(place: &Place) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(place.path("data/prepared")).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

#[test]
fn what_reading_lost_is_told_by_whoever_trains_on_the_rest() {
    let place = place();
    for name in ["first", "prepared-before"] {
        let mut arguments = place.train_args(name, &[]);
        arguments.push("--json".to_owned());
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let output = place.output(&arguments);
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{told}");
        assert!(
            told.contains("a.jsonl: 1 bad lines of 203, left out; the first: line 201"),
            "{told}"
        );
        assert!(told.contains("1 without text, left out, in 1 of 1 files"), "{told}");
        assert!(told.contains("1 halves of characters"), "{told}");
        let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(said["data"]["files_with_losses"][0]["documents"], 201);
    }
    assert_eq!(folders(&place).len(), 1);
}

#[test]
fn a_changed_shard_is_refused_before_a_run_exists() {
    let place = place();
    let config = place.path("run.yaml");
    let config = config.to_str().unwrap();
    place.ok(&["prepare", "-c", config]);
    let shard = folders(&place)[0].join("train-000.bin");
    let mut bytes = std::fs::read(&shard).unwrap();
    bytes[0] ^= 1;
    std::fs::write(&shard, &bytes).unwrap();
    for command in [&["train", "-c", config][..], &["prepare", "--verify", "-c", config]] {
        let refused = place.refused(command, 2);
        assert!(refused.contains("train-000 has digest "), "{refused}");
        assert!(refused.contains(" was prepared: it was changed or damaged; remove "), "{refused}");
    }
    assert_eq!(place.sql("select count(*) from run"), "0", "no run is left behind");
    bytes[0] ^= 1;
    std::fs::write(&shard, &bytes).unwrap();
    assert!(place.ok(&["prepare", "--verify", "-c", config]).contains("they have their digests"));
}

#[test]
fn ctrl_c_ends_a_preparation_at_once_and_leaves_nothing() {
    let place = place();
    let root = place.path("data/prepared");
    std::fs::create_dir_all(&root).unwrap();
    // Whoever prepares waits for this; so the signal meets a preparation on any machine.
    let held = File::create(root.join(".sweep.lock")).unwrap();
    held.lock().unwrap();
    let config = place.path("run.yaml");
    for command in ["prepare", "train"] {
        let mut hm = place.hm(&[command, "-c", config.to_str().unwrap()]);
        let child = hm.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut child = Background(child);
        let told = BufReader::new(child.0.stderr.take().unwrap());
        let begun = told.lines().any(|line| line.unwrap().starts_with("looking for changed files"));
        assert!(begun, "hm {command} did not begin");
        assert_eq!(child.interrupt(), Some(130), "hm {command}");
    }
    assert_eq!(folders(&place), Vec::<PathBuf>::new());
}

/// What a sample does not show may be there all the same: `hm train` of this file trains.
#[test]
fn a_dry_run_refuses_no_domain_that_it_has_not_met() {
    let place = place();
    let line = |language: &str| {
        let text = format!("the words of {language} ").repeat(40);
        format!("{{\"text\":\"{text}\",\"language\":\"{language}\"}}\n")
    };
    let text = line("en").repeat(12_000) + &line("zh").repeat(2_000);
    std::fs::write(place.path("all.jsonl"), text).unwrap();
    let source = "data.sources=[{path: all.jsonl, format: jsonl, domain_field: language}]";
    let dry = |sets: &[&str]| {
        let mut arguments = place.train_args("unseen", &[&[source][..], sets].concat());
        arguments.push("--dry-run".to_owned());
        let output = place.output(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said) = dry(&["mixture={zh: 0.5}", "limits={en: {cap: 0.5}}"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("`zh` is not in the text that was looked at"), "{said}");
    let (code, said) = dry(&["mixture={en: 1.5}"]);
    assert_eq!(code, Some(2), "{said}");
}

#[test]
fn a_dry_run_prepares_nothing() {
    let place = place();
    let mut arguments = place.train_args("dry", &[]);
    arguments.extend(["--dry-run", "--json"].map(str::to_owned));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let said: serde_json::Value = serde_json::from_str(&place.ok(&arguments)).unwrap();
    assert_eq!(
        (&said["data_is_estimated"], &said["spec"]["domains"][0]["name"]),
        (&true.into(), &"a".into())
    );
    assert!(!place.path("data").exists(), "nothing at all is written");
}
