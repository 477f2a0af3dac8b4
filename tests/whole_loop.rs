//! Kill, resume, audit: the promises of the log, through the binary.

use crate::place::Place;

impl Place {
    /// Every step's facts but its place in the log and its wall-clock time.
    pub(crate) fn facts(&self, name: &str) -> String {
        self.sql(&format!(
            "select string_agg(m::text, ';' order by m.step) from (select s.step, to_jsonb(s) - 'run_id' \
             - 'seq' - 'step_us' - 'recorded_at' from step_metric s join run r using (run_id) \
             where r.name = '{name}') m"
        ))
    }

    pub(crate) fn final_checkpoint(&self, name: &str) -> String {
        self.sql(&format!(
            "select c.step, c.digest from checkpoint c join run r using (run_id) \
             where r.name = '{name}' order by c.step desc limit 1"
        ))
    }
}

#[test]
fn killed_run_resumes_to_the_same_end_and_every_decision_audits_clean() {
    let place = Place::with_run_file();
    place.train("unbroken", &[]);

    // Past a checkpoint, while the next one is being put on record.
    let hold = place.hold_at_checkpoint(60);
    let worker = place.train_in_background("broken", &[]);
    hold.reached();
    drop(worker);
    hold.release();
    place.train("broken", &[]);

    assert_eq!(place.final_checkpoint("broken"), place.final_checkpoint("unbroken"));
    assert!(place.final_checkpoint("unbroken").starts_with("120|"));
    assert_eq!(place.facts("broken"), place.facts("unbroken"));
    for name in ["broken", "unbroken"] {
        let report = place.audit(name, &["--strict"], 0);
        assert_eq!(report["verdict"], "proved");
        assert_eq!(report["steps"], 120);
        // 120 policy steps, gates and watches, and two inits.
        assert_eq!(report["proved"], 362);
    }
    let versions = "select count(distinct mixture_version) from step_metric s \
        join run r using (run_id) where r.name = 'unbroken'";
    assert!(place.sql(versions).parse::<u64>().unwrap() > 90, "the policy moved the mixture");
}

#[test]
fn interrupted_run_goes_on_where_it_stood_and_ends_like_an_unbroken_one() {
    let place = Place::with_run_file();
    place.train("unbroken", &[]);

    let hold = place.hold_at_checkpoint(30);
    let worker = place.train_in_background("stopped", &[]);
    hold.reached();
    worker.signal_interrupt();
    hold.release();
    assert_eq!(worker.end().0, Some(130));
    let state = "select state from run where name = 'stopped'";
    assert_eq!(place.sql(state), "interrupted");
    place.train("stopped", &[]);

    assert_eq!(place.final_checkpoint("stopped"), place.final_checkpoint("unbroken"));
    assert_eq!(place.facts("stopped"), place.facts("unbroken"));
    let rebuilt = place.facts("stopped");
    place.ok(&["db", "rebuild", "stopped"]);
    assert_eq!(place.facts("stopped"), rebuilt);
}

/// A ramp from 2 to 8 sequences, a warm-up counted in tokens, and a decay at the end.
const RAMPED: [&str; 5] = [
    "training.batch_ramp={\"from\":2,\"by\":2,\"over_sequences\":150}",
    "training.warmup_tokens=4000",
    "training.schedule={\"kind\":\"warmup-stable-decay\",\"decay_share\":0.3,\"decay\":\"square-root\"}",
    "checkpoint.every_steps=20",
    "checkpoint.keep=100",
];

#[test]
fn killed_run_with_a_ramp_ends_like_an_unbroken_one_to_the_bit() {
    let place = Place::with_run_file();
    place.train("unbroken", &RAMPED);

    // Within the ramp, and past a checkpoint within it.
    let hold = place.hold_at_checkpoint(40);
    let worker = place.train_in_background("broken", &RAMPED);
    hold.reached();
    drop(worker);
    hold.release();
    place.train("broken", &RAMPED);

    assert_eq!(place.final_checkpoint("broken"), place.final_checkpoint("unbroken"));
    assert_eq!(place.facts("broken"), place.facts("unbroken"));
    let drawn = "select (select sum(s) from unnest(m.sequences) s), count(*) from step_metric m \
        join run r using (run_id) where r.name = 'unbroken' group by 1 order by 1";
    // 150 sequences in three increments of 50: 25 steps of 2, 13 of 4, 8 of 6, and 8 from then on.
    assert_eq!(place.sql(drawn), "2|25\n4|13\n6|8\n8|74");
    for name in ["broken", "unbroken"] {
        assert_eq!(place.audit(name, &["--strict"], 0)["verdict"], "proved");
    }
}

#[test]
fn knobs_turned_while_it_trains_are_obeyed_logged_replayed_and_audited() {
    let place = Place::with_run_file();
    let sets = ["training.steps=400", "training.warmup_steps=10", "checkpoint.every_steps=100"];
    let hold = place.hold_at_checkpoint(100);
    let worker = place.train_in_background("run", &sets);
    hold.reached();
    // Asked for while the run stands at a checkpoint: it lies in the inbox when the run goes on.
    let mut pause = place.hm(&["runs", "pause", "run"]).spawn().unwrap();
    place.wait_for("select count(*) from command", "1");
    hold.release();
    assert!(pause.wait().unwrap().success());
    let reason = ["--reason", "spikes since the new segment"];
    let text = place.ok(&[&["runs", "learning-rate", "run", "5e-4"], &reason[..]].concat());
    assert!(text.contains("set-learning-rate: done at step"), "{text}");
    let text = place.ok(&["runs", "batch", "run", "3"]);
    assert!(text.contains("set-batch-size: done at step"), "{text}");
    // The worker's own bound, which the terminal does not know.
    let text = place.refused(&["runs", "learning-rate", "run", "0.5"], 1);
    assert!(text.contains("0.5 is more than 10 times the run's own of 0.001"), "{text}");
    let hold = place.hold_at_checkpoint(place.steps("run") + 1);
    place.ok(&["runs", "resume", "run"]);
    hold.reached();
    drop(worker);
    hold.release();
    // What came after the last checkpoint is trained again, under the knobs as they were turned.
    place.train("run", &sets);

    let decided = "select kind, value, issued_by is not null, reason from decision \
        where value is not null order by seq";
    let due = "learning-rate|0.0005|t|spikes since the new segment\nbatch-size|3|t|";
    assert_eq!(place.sql(decided), due);
    let agreed = place.sql("select state, ending from run");
    assert_eq!(agreed, "ended|completed");
    let drawn = "select count(*) from step_metric m where (select sum(s) from unnest(m.sequences) s) <> \
        case when step < (select step from decision where kind = 'batch-size') then 8 else 3 end";
    assert_eq!(place.sql(drawn), "0");
    let highest = "select max(learning_rate) from step_metric where step >= \
        (select step from decision where kind = 'learning-rate')";
    assert!(place.sql(highest).parse::<f64>().unwrap() <= 5e-4);
    let report = place.audit("run", &["--strict"], 0);
    assert_eq!((&report["verdict"], &report["steps"]), (&"proved".into(), &400.into()));
}

#[test]
fn unfinished_run_refuses_another_spec_and_names_the_difference() {
    let place = Place::with_run_file();
    let hold = place.hold_at_checkpoint(30);
    let worker = place.train_in_background("loop", &[]);
    hold.reached();
    drop(worker);
    hold.release();
    let args = place.train_args("loop", &["seed=4"]);
    let text = place.refused(&args.iter().map(String::as_str).collect::<Vec<_>>(), 2);
    assert!(text.contains("seed was 3, is 4") && text.contains("--new"), "{text}");

    // A changed setting names the command for it, and changed data its file, before any of it is prepared.
    let refused = |set: &str, due: &str| {
        for more in [None, Some("--dry-run")] {
            let args = place.train_args("loop", &[set]);
            let args: Vec<&str> = args.iter().map(String::as_str).chain(more).collect();
            let text = place.refused(&args, 2);
            assert!(text.contains(due) && text.lines().last().unwrap().len() < 500, "{text}");
            assert!(!text.contains("encoding"), "{text}");
        }
    };
    refused("training.learning_rate=0.0005", "with hm runs learning-rate loop PEAK");
    refused("checkpoint.keep=3", "checkpoint.keep was 2, is 3; its log is checked against");
    refused("data.vocabulary=310", "than when it began: data.vocabulary was 300, is 310; give it");
    let file = place.path("plain.jsonl");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{text}{{\"text\":\"one more\"}}\n")).unwrap();
    refused("seed=3", "than when it began: plain.jsonl has changed; give it");
}

#[test]
fn second_worker_is_refused_and_named() {
    let place = Place::with_run_file();
    let worker = place.train_in_background("loop", &["training.steps=100000"]);
    place.wait_for_step("loop", 3);
    let args = place.train_args("loop", &["training.steps=100000"]);
    let text = place.refused(&args.iter().map(String::as_str).collect::<Vec<_>>(), 2);
    assert!(text.contains(&worker.0.id().to_string()), "{text}");
}
