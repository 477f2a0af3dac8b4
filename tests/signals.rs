//! Ctrl-C and its kin, and terminals that are gone or stand still: a run goes on or ends in good order.

use std::process::{Command, Stdio};

use nix::fcntl::{FcntlArg, fcntl};

use crate::place::{Background, Place};

/// More steps than any machine trains while a test looks on, and no checkpoint before the last.
const ENDLESS: [&str; 3] =
    ["training.steps=10000000", "plugins=[]", "checkpoint.every_steps=10000000"];

impl Place {
    /// A worker as a shell starts it: `shell` stands before the command.
    fn train_by_shell(&self, shell: &str, name: &str) -> Background {
        let args = self.train_args(name, &ENDLESS);
        let hm = self.hm(&args.iter().map(String::as_str).collect::<Vec<_>>());
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{shell} exec \"$@\""), "sh"]);
        command.arg(hm.get_program()).args(hm.get_args());
        command.env("HM_DATA_DIR", self.path("data")).env_remove("DATABASE_URL");
        Background(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap())
    }
}

fn signal(worker: &Background, signal: &str) {
    let id = worker.0.id().to_string();
    assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
}

#[test]
fn terminal_that_is_closed_ends_a_run_in_good_order_and_nohup_keeps_it() {
    let place = Place::with_run_file();
    let mut closed = place.train_by_shell("", "closed");
    place.wait_for_step("closed", 5);
    signal(&closed, "-HUP");
    assert_eq!(closed.0.wait().unwrap().code(), Some(130));
    assert_eq!(place.sql("select count(*) from checkpoint"), "1", "it has saved");

    let kept = place.train_by_shell("trap '' HUP;", "kept");
    place.wait_for_step("kept", 5);
    signal(&kept, "-HUP");
    let steps = place.steps("kept");
    place.wait_for_step("kept", steps + 50);
    assert_eq!(kept.interrupt(), Some(130));
}

/// As `timeout` does: the terminal has sent the signal to everybody, and the wrapper passes it on.
#[test]
fn signal_that_comes_twice_at_once_is_one() {
    let place = Place::with_run_file();
    let mut worker = place.train_by_shell("", "twice");
    place.wait_for_step("twice", 5);
    for _ in 0..3 {
        signal(&worker, "-INT");
    }
    assert_eq!(worker.0.wait().unwrap().code(), Some(130));
    assert_eq!(place.sql("select count(*) from checkpoint"), "1", "it has saved");
}

#[test]
fn run_does_not_stand_still_because_nobody_reads_what_it_says() {
    let place = Place::with_run_file();
    let worker = place.train_by_shell("", "unread");
    // A pipe that is soon full: a page of it holds some forty lines.
    fcntl(worker.0.stderr.as_ref().unwrap(), FcntlArg::F_SETPIPE_SZ(4096)).unwrap();
    place.wait_for_step("unread", 50 * 60);
    assert_eq!(worker.interrupt(), Some(130));
    assert_eq!(place.sql("select count(*) from checkpoint"), "1", "it has saved");
}
