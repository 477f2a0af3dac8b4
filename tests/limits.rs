//! Limits bind runs that no policy steers, and whoever starts a run hears of them.

use crate::place::Place;

impl Place {
    /// What `hm train` says on standard error of a run of `run.yaml` without plugins.
    fn told(&self, name: &str, more: &[&str]) -> String {
        let sets =
            [&["plugins=[]", "training.steps=20", "checkpoint.every_steps=0"], more].concat();
        let args = self.train_args(name, &sets);
        let output = self.output(&args.iter().map(String::as_str).collect::<Vec<_>>());
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{errors}");
        errors
    }

    /// Sequences drawn of each domain, in their order by name.
    fn drawn(&self, name: &str) -> String {
        self.sql(&format!(
            "select string_agg(n::text, ' ' order by name) from (select m.name, sum(sequences) n \
             from step_metric_domain m join run using (run_id) where run.name = '{name}' group by 1) t"
        ))
    }
}

#[test]
fn limits_hold_without_a_policy_and_are_told() {
    let place = Place::with_run_file();
    // 20 steps of 8 sequences.
    let told =
        place.told("capped", &["mixture={\"plain\": 0.9}", "limits={\"plain\": {\"cap\": 0.25}}"]);
    let due = "limits change the first mixture: numbers 0.1000 to 0.7500, plain 0.9000 to 0.2500; a cap \
               holds a share down";
    assert!(told.contains(due), "{told}");
    assert_eq!(place.drawn("capped"), "120 40");
    let told = place
        .told("epochs", &["mixture={\"plain\": 0.5}", "limits={\"plain\": {\"max_epochs\": 0.1}}"]);
    assert!(told.contains("; max_epochs holds a share down"), "{told}");
    assert!(!told.contains("read many times"), "{told}");
    let read = place.sql(
        "select sum(m.tokens) <= 0.1 * (select sum((s->>'tokens')::bigint) from \
         jsonb_array_elements(r.spec->'domains') d, jsonb_array_elements(d->'segments') s \
         where d->>'name' = 'plain') + 512 from step_metric_domain m join run r using (run_id) \
         where r.name = 'epochs' and m.name = 'plain' group by r.spec",
    );
    assert_eq!(read, "t");
    for name in ["capped", "epochs"] {
        place.audit(name, &["--strict"], 0);
    }
}

#[test]
fn domains_that_are_left_out_or_read_too_often_are_told_before_the_run() {
    let place = Place::with_run_file();
    let told = place.told("little", &["mixture={\"plain\": 0.001}"]);
    assert!(
        told.contains(
            "may never be drawn, at less than one of the 160 sequences to come: plain (0.160)"
        ),
        "{told}"
    );
    assert_eq!(place.drawn("little"), "160 0");
    let told = place.told("none", &["mixture={\"plain\": 1.0}", "data.validation.fraction=0"]);
    assert!(told.contains("nothing is left for it: numbers"), "{told}");
    assert!(told.contains("nothing is held out"), "{told}");
    let args = place.train_args("often", &["training.steps=100000", "plugins=[]"]);
    let mut args: Vec<&str> = args.iter().map(String::as_str).collect();
    args.push("--dry-run");
    let output = place.output(&args);
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert!(told.contains("will be read many times"), "{told}");
}
