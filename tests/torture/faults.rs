//! What may happen to a run, and a run that it happens to.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::Chance;
use crate::place::{Background, Place};

/// What happens to a run.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// SIGKILL, wherever it is.
    WorkerKilled,
    /// SIGKILL and a new start of the server, all its sessions with it.
    ServerKilled,
    /// Sessions cut: before a commit, after it, or between it and its answer.
    ConnectionCut,
    /// Statements cancelled while they wait for a lock.
    StatementCancelled,
    /// A table of a projection refuses every row.
    ProjectionFails,
    /// Killed by its limit on a file's size, in the middle of one of a checkpoint.
    CheckpointCutOff,
    /// The newest checkpoint is truncated, or bytes of it are flipped, while nobody looks.
    CheckpointDamaged,
    /// Another worker for the same run.
    SecondWorker,
    /// A person pauses it and lets it go on, and is told that this is done.
    Paused,
    /// Ctrl-C.
    Interrupted,
}

impl Fault {
    pub(crate) const ALL: [Fault; 10] = [
        Fault::WorkerKilled,
        Fault::ServerKilled,
        Fault::ConnectionCut,
        Fault::StatementCancelled,
        Fault::ProjectionFails,
        Fault::CheckpointCutOff,
        Fault::CheckpointDamaged,
        Fault::SecondWorker,
        Fault::Paused,
        Fault::Interrupted,
    ];
}

/// Sessions of workers and of commands that steer them.
const SESSIONS: &str = "from pg_stat_activity where application_name = 'heurimentor' \
                        and datname = current_database() and pid <> pg_backend_pid()";

/// A run in the storm.
pub(crate) struct Storm<'a> {
    place: &'a Place,
    name: String,
    args: Vec<String>,
    worker: Option<Background>,
    /// What happened so far.
    story: Vec<String>,
    /// Commands that were acknowledged.
    acknowledged: u64,
}

impl<'a> Storm<'a> {
    /// A new run.
    pub(crate) fn begin(place: &'a Place, name: &str, sets: &[&str]) -> Storm<'a> {
        let args = place.train_args(name, sets);
        let (name, worker) = (name.to_owned(), None);
        let mut storm = Storm { place, name, args, worker, story: Vec::new(), acknowledged: 0 };
        storm.start("");
        place.wait_for(&format!("select count(*) from run where name = '{}'", storm.name), "1");
        storm
    }

    fn log_path(&self) -> PathBuf {
        self.place.path(&format!("{}.log", self.name))
    }

    /// Starts a worker, as a shell does with `before` it, if the run has not ended.
    fn start(&mut self, before: &str) {
        let log = File::options().create(true).append(true).open(self.log_path()).unwrap();
        let hm = self.place.hm(&self.args.iter().map(String::as_str).collect::<Vec<_>>());
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{before} exec \"$@\""), "sh"]);
        command.arg(hm.get_program()).args(hm.get_args());
        command.env("HM_DATA_DIR", self.place.path("data")).env_remove("DATABASE_URL");
        let child = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        self.worker = Some(Background(child));
    }

    /// Whether the run is over.
    pub(crate) fn has_ended(&mut self) -> bool {
        let query = format!("select count(ending) from run where name = '{}'", self.name);
        self.place.sql(&query) == "1"
    }

    /// Whether a worker has the run now. One that has died of what happened before leaves its place to another.
    fn has_worker(&mut self) -> bool {
        if let Some(worker) = &mut self.worker
            && worker.0.try_wait().unwrap().is_none()
        {
            return true;
        }
        self.worker = None;
        false
    }

    fn stand_up(&mut self) {
        if !self.has_worker() && !self.has_ended() {
            self.start("");
        }
    }

    fn kill(&mut self) {
        // Dropped, it is killed and waited for.
        self.worker = None;
    }

    /// Waits until the worker has ended by itself.
    fn wait_for_its_end(&mut self) {
        let begun = Instant::now();
        while self.has_worker() {
            assert!(begun.elapsed() < Duration::from_secs(120), "{}: it does not end", self.told());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Lets it happen, and sees to it that a worker has the run afterwards.
    pub(crate) fn strike(&mut self, fault: Fault, chance: &mut Chance) {
        self.stand_up();
        let step = self.place.steps(&self.name);
        self.story.push(format!("{fault:?} near step {step}"));
        match fault {
            Fault::WorkerKilled => self.kill(),
            Fault::ServerKilled => self.kill_server(),
            Fault::ConnectionCut => {
                _ = self.place.sql(&format!("select pg_terminate_backend(pid) {SESSIONS}"))
            }
            Fault::StatementCancelled => self.cancel(),
            Fault::ProjectionFails => self.fail_projection(),
            Fault::CheckpointCutOff => {
                self.kill();
                // Blocks of 512 bytes: some of its files fit, and some do not.
                self.start(&format!("ulimit -f {};", 20 + chance.below(1500)));
                self.wait_for_its_end();
            }
            Fault::CheckpointDamaged => {
                self.kill();
                self.damage(chance);
            }
            Fault::SecondWorker => self.come_second(),
            Fault::Paused => self.pause_and_resume(),
            Fault::Interrupted => {
                if let Some(worker) = &self.worker {
                    worker.signal_interrupt();
                }
                self.wait_for_its_end();
            }
        }
        self.stand_up();
    }

    fn kill_server(&self) {
        let postmaster = self.place.path("data/postgres/postmaster.pid");
        let text = std::fs::read_to_string(&postmaster).unwrap();
        let process = text.lines().next().unwrap();
        assert!(Command::new("kill").args(["-KILL", process]).status().unwrap().success());
        // Whatever command comes next starts it again.
        let begun = Instant::now();
        while !self.place.output(&["db", "url"]).status.success() {
            assert!(begun.elapsed() < Duration::from_secs(60), "{}: no server", self.told());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Cancels what waits: a lock makes every append wait for a moment.
    fn cancel(&self) {
        self.place.sql(&format!(
            "begin; lock table step_metric in exclusive mode; select pg_sleep(0.2); \
             select pg_cancel_backend(pid) {SESSIONS} and wait_event_type = 'Lock'; commit"
        ));
    }

    /// The worker may end of it; what it could not write is trained again.
    fn fail_projection(&mut self) {
        self.place.sql(
            "create function refuse() returns trigger language plpgsql as $$ begin \
             raise exception 'no row today'; end $$; \
             create trigger refuse before insert on step_metric for each row execute function refuse()",
        );
        std::thread::sleep(Duration::from_millis(300));
        self.place.sql("drop trigger refuse on step_metric; drop function refuse");
        // It has either failed already or notices nothing.
        std::thread::sleep(Duration::from_millis(200));
    }

    fn damage(&self, chance: &mut Chance) {
        let query = format!(
            "select run_id || '/' || folder from checkpoint join run using (run_id) \
             where name = '{}' order by seq desc limit 1",
            self.name
        );
        let newest = self.place.path("data/checkpoints").join(self.place.sql(&query));
        let names = ["model.safetensors", "moments.safetensors", "state.json"];
        let path = newest.join(names[chance.below(names.len() as u64) as usize]);
        // There may be none yet, or none any more.
        let Ok(mut bytes) = std::fs::read(&path) else { return };
        let place = chance.below(bytes.len() as u64) as usize;
        match chance.below(2) {
            0 => bytes.truncate(place),
            _ => bytes[place] ^= 0x10,
        }
        std::fs::write(&path, bytes).unwrap();
    }

    fn come_second(&mut self) {
        let args: Vec<&str> = self.args.iter().map(String::as_str).collect();
        // It is the first where the other has just died.
        let output = self.place.output(&args);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success()
                || text.contains("is held by")
                || text.contains("has ended already"),
            "{}: {text}",
            self.told()
        );
    }

    fn pause_and_resume(&mut self) {
        for wish in ["pause", "resume"] {
            let output = self.place.output(&["runs", wish, &self.name]);
            self.acknowledged += u64::from(output.status.success());
        }
    }

    fn told(&self) -> String {
        let log = std::fs::read_to_string(self.log_path()).unwrap_or_default();
        format!("{}\n{log}", self.story.join(", "))
    }

    /// Lets it come to its end, and tells what happened.
    pub(crate) fn end(mut self) -> String {
        let begun = Instant::now();
        loop {
            self.stand_up();
            if self.has_ended() && !self.has_worker() {
                break;
            }
            assert!(begun.elapsed() < Duration::from_secs(300), "{}: no end", self.told());
            std::thread::sleep(Duration::from_millis(50));
        }
        let told = self.told();
        assert!(!told.contains("panicked"), "{told}");
        let answered = format!(
            "select count(*) from command join run using (run_id) where name = '{}' and answered_seq is not null",
            self.name
        );
        assert!(self.place.sql(&answered).parse::<u64>().unwrap() >= self.acknowledged, "{told}");
        let whole = format!(
            "select count(*) = max(step) + 1 and count(*) = count(distinct step) from step_metric \
             join run using (run_id) where name = '{}'",
            self.name
        );
        assert_eq!(self.place.sql(&whole), "t", "{told}");
        told
    }
}
