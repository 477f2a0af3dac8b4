//! The whole loop through the real binary: real text, real components, a real private Postgres.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    /// Two domains of text made here, a run file, and our plugins installed.
    fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        // The private cluster drops to another user when the test runs as root.
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let place = Place { folder };
        for (name, words) in [("plain", "the cat sat on the mat"), ("numbers", "7 times 8 is 56")] {
            let line = |n: u32| format!("{{\"text\":\"{words} {} {n}\"}}\n", words.repeat(8));
            let lines: String = (0..300).map(line).collect();
            std::fs::write(place.path(&format!("{name}.jsonl")), lines).unwrap();
        }
        let run_file = "seed: 3\nname: loop\ndata:\n  vocabulary: 300\n  validation: { fraction: 0.1 }\n  sources:\n    \
            - { path: plain.jsonl, format: jsonl }\n    - { path: numbers.jsonl, format: jsonl }\n\
            model: { preset: nano }\ntraining: { steps: 120, sequences_per_step: 8 }\n\
            validation: { every_steps: 40, sequences_per_domain: 4 }\n\
            checkpoint: { every_steps: 30, keep: 2 }\nplugins:\n  - plugin: odm\n  - plugin: outlier\n";
        std::fs::write(place.path("run.yaml"), run_file).unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/build-plugins.sh");
        assert!(Command::new(script).status().unwrap().success());
        let target = std::env::var_os("HM_WASM_TARGET").map_or_else(
            || Path::new(&std::env::var_os("HOME").unwrap()).join(".cache/heurimentor/plugins"),
            PathBuf::from,
        );
        for name in ["odm", "outlier"] {
            let module = target.join(format!("wasm32-unknown-unknown/release/{name}.wasm"));
            let component = place.path(&format!("{name}.component.wasm"));
            let (module, component) = (module.to_str().unwrap(), component.to_str().unwrap());
            place.ok(&["plugin", "build", module, "-o", component]);
            place.ok(&["plugin", "install", component]);
        }
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn hm(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hm"));
        command.args(args).env("HM_DATA_DIR", self.path("data")).env_remove("DATABASE_URL");
        command
    }

    fn output(&self, args: &[&str]) -> Output {
        self.hm(args).output().unwrap()
    }

    fn ok(&self, args: &[&str]) -> String {
        let output = self.output(args);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "hm {args:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn sql(&self, query: &str) -> String {
        self.ok(&["db", "psql", "--", "-v", "ON_ERROR_STOP=1", "-Atc", query]).trim().to_owned()
    }

    fn train(&self, name: &str) -> Vec<String> {
        let run_file = self.path("run.yaml").to_str().unwrap().to_owned();
        let name = format!("name={name}");
        ["train", "-c", &run_file, "--set", &name].map(str::to_owned).to_vec()
    }

    fn facts(&self, name: &str) -> String {
        self.sql(&format!(
            "select string_agg(m::text, ';' order by m.step) from (select s.step, to_jsonb(s) - 'run_id' \
             - 'seq' - 'step_us' - 'recorded_at' from step_metric s join run r using (run_id) \
             where r.name = '{name}') m"
        ))
    }

    fn final_checkpoint(&self, name: &str) -> String {
        self.sql(&format!(
            "select c.step, c.digest from checkpoint c join run r using (run_id) \
             where r.name = '{name}' order by c.step desc limit 1"
        ))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = self.output(&["db", "stop"]);
    }
}

#[test]
fn killed_run_resumes_to_the_same_end_and_every_decision_audits_clean() {
    let place = Place::new();
    let args = |name| place.train(name);
    place.ok(&args("unbroken").iter().map(String::as_str).collect::<Vec<_>>());

    let broken = args("broken");
    let broken: Vec<&str> = broken.iter().map(String::as_str).collect();
    let mut worker = place.hm(&broken).stderr(Stdio::null()).spawn().unwrap();
    let steps =
        "select count(*) from step_metric s join run r using (run_id) where r.name = 'broken'";
    while place.sql(steps).parse::<u64>().unwrap() < 35 {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    worker.kill().unwrap();
    worker.wait().unwrap();
    place.ok(&broken);

    assert_eq!(place.final_checkpoint("broken"), place.final_checkpoint("unbroken"));
    assert!(place.final_checkpoint("unbroken").starts_with("120|"));
    assert_eq!(place.facts("broken"), place.facts("unbroken"));
    for name in ["broken", "unbroken"] {
        let report = place.ok(&["audit", name, "--strict", "--json"]);
        let report: serde_json::Value = serde_json::from_str(&report).unwrap();
        assert_eq!(report["verdict"], "proved");
        assert_eq!(report["steps"], 120);
        // 120 policy steps, gates and watches, and two inits.
        assert_eq!(report["proved"], 362);
    }
    let versions = "select count(distinct mixture_version) from step_metric s \
        join run r using (run_id) where r.name = 'unbroken'";
    assert!(place.sql(versions).parse::<u64>().unwrap() > 90, "the policy moved the mixture");
    flipped_bit_is_named(&place);
}

/// As a database owner with triggers off could do it.
fn flipped_bit_is_named(place: &Place) {
    let tamper = "set session_replication_role = replica; update event set payload = \
        set_byte(payload, 20, get_byte(payload, 20) # 1) where seq = 50 and run_id = \
        (select run_id from run where name = 'broken')";
    place.sql(tamper);
    let output = place.output(&["audit", "broken", "--level", "chain"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("first divergence at seq 50"), "{text}");
}

#[test]
fn bad_input_is_a_sentence_and_a_code() {
    let folder = tempfile::tempdir().unwrap();
    let run_file = folder.path().join("run.yaml");
    std::fs::write(&run_file, "name: x\ntrainning: {}\n").unwrap();
    let refused = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_hm"))
            .args(args)
            .env("HM_DATA_DIR", folder.path().join("data"))
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let text = refused(&["train", "-c", run_file.to_str().unwrap()]);
    assert!(text.contains("did you mean `training`"), "{text}");
    assert!(refused(&["train", "-c", "/nowhere.yaml"]).contains("/nowhere.yaml"));
    let text = refused(&["plugin", "check", run_file.to_str().unwrap()]);
    assert!(text.contains("not a WebAssembly component"), "{text}");
}
