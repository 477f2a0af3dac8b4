//! A place of its own for each test: real text, our plugins installed, a private Postgres.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The repository.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Our plugins as components, built once per test run.
pub(crate) fn components() -> &'static Path {
    static COMPONENTS: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = COMPONENTS.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let script = repository().join("scripts/pack-plugins.sh");
        let status = Command::new(script)
            .arg(env!("CARGO_BIN_EXE_hm"))
            .env("HM_COMPONENTS", folder.path())
            .stdout(Stdio::null())
            .status();
        assert!(status.unwrap().success());
        folder
    });
    folder.path()
}

/// A folder with a data directory and a private database of its own.
pub(crate) struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    /// An empty place.
    pub(crate) fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        // The private cluster drops to another user when the test runs as root.
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
        Place { folder }
    }

    /// Two domains of text made here, a run file `run.yaml` of 120 steps, odm and outlier installed.
    pub(crate) fn with_run_file() -> Place {
        let place = Place::new();
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
        for name in ["odm", "outlier"] {
            place.ok(&["plugin", "install", component(name).to_str().unwrap()]);
        }
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn hm(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hm"));
        command.args(args).env("HM_DATA_DIR", self.path("data")).env_remove("DATABASE_URL");
        command
    }

    pub(crate) fn output(&self, args: &[&str]) -> Output {
        self.hm(args).output().unwrap()
    }

    /// Standard output of a command that ends well.
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let output = self.output(args);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "hm {args:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Standard error of a command that ends with `code`.
    pub(crate) fn refused(&self, args: &[&str], code: i32) -> String {
        let output = self.output(args);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "hm {args:?}: {errors}");
        errors
    }

    pub(crate) fn sql(&self, query: &str) -> String {
        self.ok(&["db", "psql", "--", "-v", "ON_ERROR_STOP=1", "-Atc", query]).trim().to_owned()
    }

    /// Trains `run.yaml` under another name, with more settings, to its end.
    pub(crate) fn train(&self, name: &str, sets: &[&str]) -> String {
        let args = self.train_args(name, sets);
        self.ok(&args.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// The same in the background, killed when dropped.
    pub(crate) fn train_in_background(&self, name: &str, sets: &[&str]) -> Background {
        let args = self.train_args(name, sets);
        let mut command = self.hm(&args.iter().map(String::as_str).collect::<Vec<_>>());
        Background(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap())
    }

    /// `hm serve` on a free port, and the address it prints.
    pub(crate) fn serve(&self) -> (Background, String) {
        let mut command = self.hm(&["serve", "--listen", "127.0.0.1:0"]);
        let mut server = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut address = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut address).unwrap();
        (Background(server), address.trim().to_owned())
    }

    pub(crate) fn train_args(&self, name: &str, sets: &[&str]) -> Vec<String> {
        let run_file = self.path("run.yaml").to_str().unwrap().to_owned();
        let mut args = vec!["train".to_owned(), "-c".to_owned(), run_file];
        for set in std::iter::once(format!("name={name}").as_str()).chain(sets.iter().copied()) {
            args.extend(["--set".to_owned(), set.to_owned()]);
        }
        args
    }

    /// Steps that the database shows of a run; 0 before there is one.
    pub(crate) fn steps(&self, name: &str) -> u64 {
        let query = format!("select coalesce(max(next_step), 0) from run where name = '{name}'");
        self.sql(&query).parse().unwrap()
    }

    /// Waits until a query answers so.
    pub(crate) fn wait_for(&self, query: &str, answer: &str) {
        let begun = Instant::now();
        while self.sql(query) != answer {
            assert!(begun.elapsed() < Duration::from_secs(300), "{query} does not answer {answer}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until a run has trained so many steps.
    pub(crate) fn wait_for_step(&self, name: &str, steps: u64) {
        let begun = Instant::now();
        while self.steps(name) < steps {
            assert!(begun.elapsed() < Duration::from_secs(300), "{name} did not reach {steps}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The audit's report; fails unless it exits with `code`.
    pub(crate) fn audit(&self, name: &str, more: &[&str], code: i32) -> serde_json::Value {
        let args = [&["audit", name, "--json"], more].concat();
        let output = self.output(&args);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "hm {args:?}: {errors}");
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Where no database was ever started there is none to stop.
        let _ = self.output(&["db", "stop"]);
    }
}

/// One of our plugins as a component.
pub(crate) fn component(name: &str) -> PathBuf {
    components().join(format!("{name}.component.wasm"))
}

/// A process that does not outlive its test.
pub(crate) struct Background(pub(crate) Child);

impl Background {
    /// Asks it to end in good order, as Ctrl-C does, and gives its exit code.
    pub(crate) fn interrupt(mut self) -> Option<i32> {
        self.signal_interrupt();
        self.0.wait().unwrap().code()
    }

    /// Asks it to end and does not wait.
    pub(crate) fn signal_interrupt(&self) {
        let id = self.0.id().to_string();
        assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    }

    /// Waits until it has written this to standard error.
    pub(crate) fn says(&mut self, text: &str) {
        let mut lines = BufReader::new(self.0.stderr.as_mut().unwrap()).lines();
        let found = lines.any(|line| line.unwrap().contains(text));
        assert!(found, "it ended and never said `{text}`");
    }

    /// Waits for its end: exit code and standard error.
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
        let mut errors = String::new();
        if let Some(pipe) = &mut self.0.stderr {
            std::io::Read::read_to_string(pipe, &mut errors).unwrap();
        }
        (self.0.wait().unwrap().code(), errors)
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
