//! What `hm train --dry-run` says a run will need, against what one needs.

use std::process::Stdio;

use wait4::Wait4 as _;

use crate::place::Place;

const TINY: &str = r#"model={"preset":"tiny"}"#;
const NANO: &str = r#"model={"preset":"nano"}"#;
const SMALL: &str = r#"model={"preset":"small","sequence_length":64}"#;

/// What a program's own pages vary by; a model that this matters to needs no plan.
const SMALL_BYTES: u64 = 8_000_000;

#[test]
fn dry_run_says_within_a_tenth_or_8_megabytes_what_memory_a_run_uses() {
    let place = Place::with_run_file();
    for (name, model, more) in [
        ("whole", TINY, "training.recompute_blocks=false"),
        ("again", TINY, "training.recompute_blocks=true"),
        ("parts", TINY, "training.micro_batch_sequences=8"),
        ("one", TINY, "training.micro_batch_sequences=1"),
        // Hardly any model: what the program itself takes, without plugins and with two.
        ("bare", NANO, "plugins=[]"),
        ("steered", NANO, r#"plugins=[{"plugin":"odm"},{"plugin":"outlier"}]"#),
        // Few activations beside many weights: the checkpoint would be the fullest moment if it copied.
        ("saved", SMALL, "training.micro_batch_sequences=1"),
    ] {
        let (used, expected) = measured(&place, name, &[model, more]);
        let tolerance = (expected / 10).max(SMALL_BYTES);
        assert!(
            used.abs_diff(expected) <= tolerance,
            "{name}: {used} bytes used, {expected} expected"
        );
    }
}

#[test]
fn checkpoint_written_while_training_goes_on_takes_no_more_memory_than_is_said() {
    let place = Place::with_run_file();
    let every_step = "checkpoint={every_steps: 1, keep: 1}";
    let sets = [SMALL, "training.micro_batch_sequences=1", every_step, "training.steps=3"];
    let (used, expected) = measured(&place, "copied", &sets);
    // How much of it is used is a race between disk and training.
    assert!(used <= expected + expected / 10, "{used} bytes used, {expected} expected");
}

/// Bytes that a run used, and that a dry run of it had said.
fn measured(place: &Place, name: &str, more: &[&str]) -> (u64, u64) {
    let sets = [
        "data.vocabulary=300",
        "training.sequences_per_step=24",
        "training.steps=2",
        "validation.sequences_per_domain=1",
        "plugins=[]",
    ];
    let arguments = place.train_args(name, &[&sets[..], more].concat());
    let mut dry: Vec<&str> = arguments.iter().map(String::as_str).collect();
    dry.extend(["--dry-run", "--json"]);
    let said: serde_json::Value = serde_json::from_str(&place.ok(&dry)).unwrap();
    let memory = said["costs"]["memory"].as_object().unwrap();
    let parts = memory.iter().filter(|(name, _)| name.ends_with("_bytes"));
    let expected = parts.map(|(_, bytes)| bytes.as_u64().unwrap()).sum::<u64>()
        + said["costs"]["process_bytes"].as_u64().unwrap();

    let run: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut worker = place.hm(&run).stdout(Stdio::null()).spawn().unwrap();
    // The kernel's own account of the process, of all its time.
    let ended = worker.wait4().unwrap();
    assert!(ended.status.success());
    (ended.rusage.maxrss, expected)
}
