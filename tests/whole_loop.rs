//! Kill, resume, audit: the promises of the log, through the binary.

use crate::place::Place;

impl Place {
    /// Every step's facts but its place in the log and its wall-clock time.
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

#[test]
fn killed_run_resumes_to_the_same_end_and_every_decision_audits_clean() {
    let place = Place::with_run_file();
    place.train("unbroken", &[]);

    let mut worker = place.train_in_background("broken", &[]);
    place.wait_for_step("broken", 35);
    worker.0.kill().unwrap();
    drop(worker);
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

    let worker = place.train_in_background("stopped", &[]);
    place.wait_for_step("stopped", 20);
    assert_eq!(worker.interrupt(), Some(130));
    let state = "select state from run where name = 'stopped'";
    assert_eq!(place.sql(state), "interrupted");
    place.train("stopped", &[]);

    assert_eq!(place.final_checkpoint("stopped"), place.final_checkpoint("unbroken"));
    assert_eq!(place.facts("stopped"), place.facts("unbroken"));
    let rebuilt = place.facts("stopped");
    place.ok(&["db", "rebuild", "stopped"]);
    assert_eq!(place.facts("stopped"), rebuilt);
}

#[test]
fn unfinished_run_refuses_another_spec_and_names_the_difference() {
    let place = Place::with_run_file();
    let worker = place.train_in_background("loop", &[]);
    place.wait_for_step("loop", 5);
    assert_eq!(worker.interrupt(), Some(130));
    let args = place.train_args("loop", &["seed=4"]);
    let text = place.refused(&args.iter().map(String::as_str).collect::<Vec<_>>(), 2);
    assert!(text.contains("seed was 3, is 4") && text.contains("--new"), "{text}");
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
