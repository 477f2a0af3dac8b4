//! Bad input is a sentence and a code, and nothing already stored is lost.

use crate::place::Place;

impl Place {
    /// What `hm train` says of `run.yaml` with one text in it replaced.
    fn train_refused(&self, from: &str, to: &str) -> String {
        let text = std::fs::read_to_string(self.path("run.yaml")).unwrap();
        assert!(text.contains(from), "{from}");
        std::fs::write(self.path("bad.yaml"), text.replace(from, to)).unwrap();
        self.refused(&["train", "-c", self.path("bad.yaml").to_str().unwrap()], 2)
    }
}

#[test]
fn run_file_with_a_mistake_is_refused_by_name_and_value() {
    let place = Place::with_run_file();
    let refused = |from: &str, to: &str| place.train_refused(from, to);
    let text = refused("training:", "trainning:");
    assert!(text.contains("did you mean `training`"), "{text}");
    let text = refused("preset: nano", "preset: nanno");
    assert!(text.contains(r#"model.preset is "nanno": must be one of nano, tiny"#), "{text}");
    let text = refused("preset: nano", "preset: nano, heads: 3, layers: 0");
    assert!(text.contains("model.layers is 0: must be at least 1"), "{text}");
    assert!(text.contains("model.heads is 3: must divide model.hidden_size 64"), "{text}");
    let text = refused("preset: nano", "preset: nano, sequence_length: 16000000");
    assert!(text.contains("of memory by plan") && text.contains("are free"), "{text}");
    let text = refused("steps: 120,", "steps: 120, learning_rate: 1.0e38,");
    assert!(text.contains("must be at most 3.4e31, or updates leave single precision"), "{text}");
    let text = refused("model:", "mixture: { plain: 0.9, numbers: 0.3 }\nmodel:");
    assert!(text.contains("sum to 1.2"), "{text}");
    let text = refused("model:", "mixture: { plane: 0.9 }\nmodel:");
    assert!(text.contains("`plane`") && text.contains("numbers, plain"), "{text}");
    let text = refused("sequences_per_step: 8", "sequences_per_step: 0");
    assert!(text.contains("sequences_per_step is 0"), "{text}");
    let text = refused("path: plain.jsonl", "path: plane.jsonl");
    assert!(text.contains("plane.jsonl"), "{text}");
    let text = refused("plugin: odm", "plugin: odn");
    assert!(text.contains("`odn`") && text.contains("hm plugin ls"), "{text}");
    let text = refused("  - plugin: outlier", "  - plugin: odm@0.1.0");
    assert!(text.contains("plugins.1.plugin is `odm@0.1.0`: must have the role shadow"), "{text}");
    let text = refused("plugin: odm", "plugin: odm\n    config: { smoothing: 7 }");
    assert!(text.contains("smoothing") && text.contains('7'), "{text}");
    assert_eq!(place.sql("select count(*) from run"), "0", "no run is left behind");
    assert!(place.refused(&["train", "-c", "/nowhere.yaml"], 2).contains("/nowhere.yaml"));
}

#[test]
fn every_fault_is_told_at_once_by_key_value_and_bound_and_leaves_nothing_behind() {
    let place = Place::with_run_file();
    let sets = [
        "name=\" \"",
        "optimizer.beta1=1",
        "optimizer.beta2=1.5",
        "optimizer.epsilon=0",
        "optimizer.weight_decay=-1",
        "optimizer.clip_norm=0",
        "rules.rate_limit=-3",
        "limits={\"plain\": {\"floor\": 0.9, \"cap\": 0.1, \"max_epochs\": -3}}",
        "mixture={\"plain\": -0.5, \"numbers\": 30}",
        "training.steps=0",
        "training.micro_batch_sequences=9",
        "training.z_loss=-1",
        "training.learning_rate=1e39",
        "training.learning_rate_minimum=null",
        "validation.sequences_per_domain=0",
        "checkpoint.keep=0",
        "decision_lag=18446744073709551615",
        "plugins.0.plugin=odn",
        "plugins.1.config={\"windows\": 3}",
    ];
    let keys = [
        "name",
        "optimizer.beta1",
        "optimizer.beta2",
        "optimizer.epsilon",
        "optimizer.weight_decay",
        "optimizer.clip_norm",
        "rules.rate_limit",
        "limits.plain.floor",
        "limits.plain.max_epochs",
        "mixture.plain",
        "mixture.numbers",
        "training.steps",
        "training.micro_batch_sequences",
        "training.z_loss",
        "training.learning_rate",
        "validation.sequences_per_domain",
        "checkpoint.keep",
        "decision_lag",
        "plugins.0.plugin",
        "plugins.1.config",
    ];
    let file = place.path("run.yaml");
    let prepared = |place: &Place| place.path("data/prepared").exists();
    for command in [&["train", "--dry-run"][..], &["train"]] {
        let mut args = command.to_vec();
        args.extend(["-c", file.to_str().unwrap()]);
        args.extend(sets.iter().flat_map(|set| ["--set", set]));
        let text = place.refused(&args, 2);
        for key in keys {
            assert!(text.contains(&format!("  {key} is ")), "{key}: {text}");
        }
        assert!(text.contains(&format!("{} settings cannot be used", keys.len())), "{text}");
        assert!(!prepared(&place), "nothing is prepared for a run that cannot be");
    }
    assert_eq!(place.sql("select count(*) from run"), "0", "no run is left behind");
}

#[test]
fn limits_that_hold_no_mixture_of_the_data_are_refused_by_name() {
    let place = Place::with_run_file();
    let refused = |limits: &str, due: &str| {
        let text = place.train_refused("model:", &format!("limits: {limits}\nmodel:"));
        assert!(text.contains(due), "{text}");
    };
    refused("{ plane: { cap: 0.5 } }", "did you mean `plain`?");
    refused(
        "{ plain: { cap: 30 } }",
        "limits.plain.cap is 30: must be a share from 0 to 1: 30 % is 0.3",
    );
    refused(
        "{ plain: { floor: 0.5, max_epochs: 1.0e-9 } }",
        "limits.plain.max_epochs is 1e-9: must be at least",
    );
    refused(
        "{ plain: { floor: 0.7 }, numbers: { floor: 0.7 } }",
        "limits.numbers.floor is 0.7: must be lowered, or limits.plain.floor 0.7",
    );
    refused(
        "{ plain: { cap: 0.3 }, numbers: { cap: 0.3 } }",
        "limits.numbers.cap is 0.3: must be raised, or limits.plain.cap 0.3",
    );
    refused(
        "{ plain: { max_epochs: 1 }, numbers: { max_epochs: 1 } }",
        "of the 61440 tokens that the run draws",
    );
    assert_eq!(place.sql("select count(*) from run"), "0", "no run is left behind");
}

#[test]
fn schedule_or_batch_that_contradicts_itself_is_refused_by_name_and_value() {
    let place = Place::with_run_file();
    let refused = |more: &str, due: &str| {
        let to = format!("sequences_per_step: 8, {more}");
        let text = place.train_refused("sequences_per_step: 8", &to);
        assert!(text.contains(due), "{text}");
    };
    refused(
        "warmup_steps: 5, warmup_tokens: 500",
        "training.warmup_steps is 5: must be left out, or training.warmup_tokens 500",
    );
    refused(
        "warmup_steps: 121",
        "training.warmup_steps is 121: must be at most the run's 120 steps",
    );
    refused(
        "warmup_sequences: 961",
        "training.warmup_sequences is 961: must be at most the run's 960",
    );
    refused("warmup_token: 5", "did you mean `warmup_tokens`?");
    refused("schedule: { kind: cosin }", "did you mean `cosine`?");
    refused("schedule: { kind: linear, decay_share: 0.1 }", "training.schedule.decay_share is 0.1");
    refused("learning_rate: 0", "training.learning_rate is 0: must be");
    refused("learning_rate_minimum: 0.1", "training.learning_rate_minimum is 0.1: must be");
    refused(
        "batch_ramp: { from: 2, by: 4, over_sequences: 90 }",
        "training.batch_ramp.by is 4: must divide the 6 sequences from 2 to 8",
    );
    refused(
        "batch_ramp: { from: 2, by: 2, over_sequences: 9000 }",
        "training.batch_ramp.over_sequences is 9000: must be at least 1 and at most the",
    );
    refused("batch_ramp: { from: 2, by: 2, over_samples: 90 }", "did you mean `over_sequences`?");
    assert_eq!(place.sql("select count(*) from run"), "0", "no run is left behind");
}

#[test]
fn knob_that_nobody_means_is_refused_before_it_is_sent() {
    let place = Place::new();
    // What is no number is no command; a number that no run takes is refused as any wish is.
    for (value, code, due) in [
        ("0", 1, "a learning rate of 0: it must be at least 1e-8"),
        ("-1e-3", 1, "a learning rate of -0.001: it must be"),
        ("nan", 1, "a learning rate of NaN: it must be"),
        ("fast", 2, "it is not a number"),
    ] {
        let text = place.refused(&["runs", "learning-rate", "run", value], code);
        assert!(text.contains(due), "{text}");
    }
    for (value, code) in [("0", 1), ("-3", 2), ("65537", 1), ("1.5", 2), ("99999999999", 2)] {
        let text = place.refused(&["runs", "batch", "run", value], code);
        assert!(text.contains("from 1 to 65536") || text.contains("at most 65536"), "{text}");
    }
}

#[test]
fn corpus_with_broken_lines_is_counted_reported_or_stopped_at() {
    let place = Place::with_run_file();
    let good = std::fs::read_to_string(place.path("plain.jsonl")).unwrap();
    std::fs::write(place.path("plain.jsonl"), format!("{good}{{\"text\": tru\n")).unwrap();
    let config = place.path("run.yaml");
    let config = config.to_str().unwrap();
    let text = place.ok(&["prepare", "-c", config]);
    assert!(text.contains("1 bad lines") && text.contains("301"), "{text}");
    let text = place.refused(&["prepare", "-c", config, "--set", "data.on_bad_line=stop"], 2);
    assert!(text.contains("plain.jsonl") && text.contains("301"), "{text}");
}

#[test]
fn file_that_is_no_plugin_is_refused_by_the_check_it_fails() {
    let place = Place::new();
    let file = place.path("not.wasm");
    std::fs::write(&file, "this is no component").unwrap();
    for command in ["check", "install"] {
        let output = place.output(&["plugin", command, file.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(1));
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("FAIL") && text.contains("not a WebAssembly component"), "{text}");
    }
    let listed = place.ok(&["plugin", "ls", "--json"]);
    assert_eq!(listed.trim(), "[]");
}

#[test]
fn database_that_goes_away_for_a_moment_costs_the_run_nothing() {
    let place = Place::with_run_file();
    let hold = place.hold_at_checkpoint(30);
    let mut worker = place.train_in_background("loop", &[]);
    hold.reached();
    // In the middle of a transaction; once the run has met it, it is started again.
    let told = String::from_utf8(place.output(&["db", "stop"]).stderr).unwrap();
    assert!(
        told.contains("stopped under runs that are trained on it") && told.contains("loop ("),
        "{told}"
    );
    worker.says("trying again");
    place.ok(&["db", "url"]);
    hold.release();
    let (code, errors) = worker.end();
    assert_eq!(code, Some(0), "{errors}");
    assert_eq!(place.sql("select count(*) from step_metric"), "120");
    assert_eq!(place.audit("loop", &["--strict"], 0)["steps"], 120);
}

/// A checkpoint that cannot be written is logged, and the run goes on.
#[test]
fn checkpoint_that_cannot_be_saved_is_logged_and_the_run_goes_on() {
    let place = Place::with_run_file();
    let hold = place.hold_at_checkpoint(30);
    let sets = ["training.steps=10000000", "plugins=[]"];
    let mut worker = place.train_in_background("loop", &sets);
    hold.reached();
    let id = place.sql("select run_id from run");
    let folder = place.path("data/checkpoints").join(id);
    // A file where the folder was: nothing more can be saved below it.
    std::fs::remove_dir_all(&folder).unwrap();
    std::fs::write(&folder, "full").unwrap();
    hold.release();
    worker.says("checkpoint at step 60 failed");
    std::fs::remove_file(&folder).unwrap();
    place.ok(&["runs", "stop", "loop"]);
    let (code, errors) = worker.end();
    assert_eq!(code, Some(0), "{errors}");
    assert_eq!(place.sql("select ending from run"), "stopped");
    let steps = place.steps("loop");
    assert!(place.final_checkpoint("loop").starts_with(&format!("{steps}|")));
    assert_eq!(place.audit("loop", &["--strict"], 0)["steps"], steps);
}
