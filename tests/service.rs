//! What people type and ask beside the training itself: wishes to runs that nobody trains, output that
//! nobody reads, names that stand for two things.

use std::process::Stdio;

use crate::place::Place;

impl Place {
    /// Exit code and standard error of a command whose output goes to a reader that is gone.
    fn unread(&self, args: &[&str]) -> (Option<i32>, String) {
        let mut command = self.hm(args);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    }
}

#[test]
fn wish_to_a_run_that_nobody_trains_is_answered_at_once() {
    let place = Place::with_run_file();
    let steps = ["training.steps=1000000", "plugins=[]", "checkpoint.every_steps=20"];
    let worker = place.train_in_background("left", &steps);
    place.wait_for_step("left", 60);
    let obeyed = place.ok(&["runs", "mixture", "left", "plain=0.25", "--reason", "less of it"]);
    assert!(
        obeyed.contains("set-mixture: done at step") && obeyed.contains("run left ("),
        "{obeyed}"
    );
    let decided = "select shares::text || reason from decision where binding is null";
    assert_eq!(place.sql(decided), "{0.75,0.25}less of it");
    // Killed: nobody says goodbye.
    drop(worker);
    assert!(place.ok(&["runs", "ls"]).contains("dead, last heard of "));

    let waits = place.refused(&["runs", "pause", "left"], 3);
    assert!(waits.contains("no worker holds run left (") && waits.contains("hm train"), "{waits}");
    for (wish, due) in [
        (&["nan", "1"][..], "weight 0 is NaN"),
        (&["1", "1", "1"], "3 weights for 2 domains: give one for each of numbers, plain"),
        (&["-1", "1"], "weight 0 is -1"),
        (&["plane=0.5"], "`plane` is no domain of the run; there are numbers, plain"),
    ] {
        let text = place.refused(&[&["runs", "mixture", "left"], wish].concat(), 1);
        assert!(text.contains(due), "{text}");
    }
    let text = place.refused(&["runs", "learning-rate", "left", "1"], 1);
    assert!(text.contains("more than 10 times"), "{text}");

    // Two rows that are no commands: the next worker answers them, and says so.
    place.sql(
        "insert into command (run_id, kind, body, issued_by, issued_at) select run_id, 'x', body, 'eve', 0 \
         from run, (values ('{\"command\":\"explode\"}'::jsonb), ('[1]')) v(body)",
    );
    // And two that are: one is of long ago, and obeyed no more.
    place.sql(
        "insert into command (run_id, kind, body, issued_by, issued_at) select run_id, kind, \
         jsonb_build_object('command', kind), by, us from run, (values ('pause', 'old', 1), \
         ('stop', 'ann', (extract(epoch from now()) * 1000000)::bigint)) v (kind, by, us)",
    );
    let (code, said) = place.train_in_background("left", &steps).end();
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(said.matches("refused a command of eve that cannot be read").count(), 2, "{said}");
    assert!(said.contains("obeyed a command of ann"), "{said}");
    assert!(said.contains("refused a command of old: pause: it was asked "), "{said}");
    assert_eq!(place.sql("select count(*) from command where answered_seq is null"), "0");
    place.audit("left", &["--strict"], 0);

    // A run without a worker is ended on the spot where that is wanted, and obeys nothing afterwards.
    let steps = ["training.steps=1000000", "plugins=[]", "checkpoint.every_steps=0"];
    let worker = place.train_in_background("gone", &steps);
    place.wait_for_step("gone", 30);
    drop(worker);
    place.refused(&["runs", "pause", "gone"], 3);
    let ended = place.ok(&["runs", "end", "gone", "--reason", "enough"]);
    let last = place.steps("gone") - 1;
    let lost = format!("steps 0 to {last} are in no checkpoint; what no checkpoint holds is lost");
    assert!(ended.contains("ended at step") && ended.contains(&lost), "{ended}");
    assert_eq!(place.sql("select ending from run where name = 'gone'"), "stopped");
    assert_eq!(place.sql("select count(*) from command where answered_seq is null"), "0");
    let over = place.refused(&["runs", "resume", "gone"], 1);
    assert!(over.contains("has ended (stopped) and takes no more commands"), "{over}");
    place.audit("gone", &["--strict"], 0);
}

#[test]
fn output_that_nobody_reads_ends_no_command_and_no_run() {
    let place = Place::with_run_file();
    let args = place.train_args("loop", &["training.steps=60", "plugins=[]"]);
    let mut command = place.hm(&args.iter().map(String::as_str).collect::<Vec<_>>());
    let mut worker = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // The window in which it was started is closed.
    (worker.stdout, worker.stderr) = (None, None);
    assert_eq!(worker.wait().unwrap().code(), Some(0));
    assert_eq!(place.sql("select ending from run"), "completed");
    for args in [&["runs", "ls"][..], &["runs", "ls", "--json"], &["audit", "loop"], &["--help"]] {
        assert_eq!(place.unread(args), (Some(0), String::new()), "hm {args:?}");
    }
    // Output that somebody wanted is not lost without a word.
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = place.hm(&["runs", "ls"]).stdout(full).output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(errors.contains("standard output could not be written: No space left"), "{errors}");

    // A folder of the run's name that is neither weights nor a checkpoint stands in nobody's way.
    let here = |args: &[&str]| place.hm(args).current_dir(place.path("")).output().unwrap();
    for _ in 0..2 {
        let generated = here(&["generate", "loop", "--prompt", "the cat", "-n", "2"]);
        assert!(generated.status.success(), "{generated:?}");
        let _ = std::fs::remove_dir_all(place.path("loop"));
        assert!(here(&["export", "loop", "--output", "loop"]).status.success());
    }
    std::fs::create_dir(place.path("empty")).unwrap();
    let neither = here(&["export", "empty", "--output", "out"]);
    let errors = String::from_utf8(neither.stderr).unwrap();
    assert!(errors.contains("the folder empty is neither"), "{errors}");

    // Without a word: the help, though the environment names a data folder.
    let alone = place.output(&[]);
    assert_eq!(alone.status.code(), Some(2));
    assert!(String::from_utf8(alone.stderr).unwrap().contains("Usage: hm"));
}
