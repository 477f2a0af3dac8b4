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
    assert!(text.contains("`nanno`") && text.contains("nano, tiny"), "{text}");
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
    let text = refused("plugin: odm", "plugin: odm\n    config: { smoothing: 7 }");
    assert!(text.contains("smoothing") && text.contains('7'), "{text}");
    assert_eq!(place.sql("select count(*) from run"), "0", "no run is left behind");
    assert!(place.refused(&["train", "-c", "/nowhere.yaml"], 2).contains("/nowhere.yaml"));
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
    let worker = place.train_in_background("loop", &["training.steps=400"]);
    place.wait_for_step("loop", 20);
    place.ok(&["db", "stop"]);
    // Starts it again.
    std::thread::sleep(std::time::Duration::from_secs(1));
    place.ok(&["db", "url"]);
    let (code, errors) = worker.end();
    assert_eq!(code, Some(0), "{errors}");
    assert_eq!(place.sql("select count(*) from step_metric"), "400");
    assert_eq!(place.audit("loop", &["--strict"], 0)["steps"], 400);
}

/// A checkpoint that cannot be written is logged, and the run goes on.
#[test]
fn checkpoint_that_cannot_be_saved_is_logged_and_the_run_goes_on() {
    let place = Place::with_run_file();
    let worker = place.train_in_background("loop", &["training.steps=200"]);
    place.wait_for_step("loop", 1);
    let id = place.sql("select run_id from run");
    let folder = place.path("data/checkpoints").join(id);
    // A file where the folder was: nothing can be saved below it.
    let begun = std::time::Instant::now();
    while std::fs::remove_dir_all(&folder).is_err() || std::fs::write(&folder, "full").is_err() {
        assert!(begun.elapsed().as_secs() < 20, "the folder comes back");
    }
    let (code, errors) = worker.end();
    assert_eq!(code, Some(0), "{errors}");
    assert!(errors.contains("checkpoint at step"), "{errors}");
    assert_eq!(place.sql("select ending from run"), "completed");
    assert_eq!(place.audit("loop", &["--strict"], 0)["steps"], 200);
}
