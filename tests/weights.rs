//! Weights measured for a detector: at the steps it sees and no others, the same after a crash, audited.

use hm_domain::event::Event;

use crate::place::{Place, component};
use crate::tampering::forge;

/// 400 steps under `odm` and `weight-trajectory`, which looks every 100; no checkpoint but the last.
const WATCHED: [&str; 4] = [
    "training.steps=400",
    "checkpoint.every_steps=1000",
    "validation.every_steps=1000",
    "plugins=[{\"plugin\":\"odm\"},{\"plugin\":\"weight-trajectory\",\"role\":\"shadow\"}]",
];

fn place() -> Place {
    let place = Place::with_run_file();
    let plugin = component("weight_trajectory");
    place.ok(&["plugin", "install", plugin.to_str().unwrap()]);
    place
}

impl Place {
    /// Trains until the second measurement is on record, and kills the worker.
    fn kill_after_second_measurement(&self, name: &str, sets: &[&str]) {
        let hold = self.hold_at_checkpoint(300);
        let worker = self.train_in_background(name, sets);
        hold.reached();
        drop(worker);
        hold.release();
        assert!(self.measured(name).starts_with("99 199"), "{}", self.measured(name));
    }

    /// Steps at which a run was measured, from the log itself.
    fn measured(&self, name: &str) -> String {
        self.sql(&format!(
            "select string_agg(step::text, ' ' order by seq) from event \
             where kind = 19 and run_id = (select run_id from run where name = '{name}')"
        ))
    }

    /// All that was measured.
    fn weight_state(&self, name: &str) -> String {
        self.sql(&format!(
            "select step, kind, layer, std, norm from weight_state join run using (run_id) \
             where name = '{name}' order by step, kind, layer"
        ))
    }

    /// Two runs are one as far as training and decisions go, and both prove.
    fn assert_same(&self, broken: &str, unbroken: &str) {
        assert_eq!(self.final_checkpoint(broken), self.final_checkpoint(unbroken));
        assert_eq!(self.facts(broken), self.facts(unbroken));
        assert_eq!(self.measured(broken), self.measured(unbroken));
        assert_eq!(self.weight_state(broken), self.weight_state(unbroken));
        for name in [broken, unbroken] {
            let report = self.audit(name, &["--strict"], 0);
            assert_eq!(report["verdict"], "proved");
            // Two inits, 400 steps of the policy, four looks of the detector.
            assert_eq!(report["proved"], 406);
        }
    }
}

#[test]
fn measured_when_a_detector_looks_and_the_same_after_a_crash() {
    let place = place();
    let checkpointed = [&WATCHED[..], &["checkpoint.every_steps=150"]].concat();
    place.train("unbroken", &checkpointed);
    assert_eq!(place.measured("unbroken"), "99 199 299 399");
    // Nine kinds in each of two blocks, three that the model has once, four times.
    let state = place.weight_state("unbroken");
    assert_eq!(state.lines().count(), 4 * (9 * 2 + 3));
    let first = state.lines().find(|row| row.starts_with("99|q_proj|1|")).unwrap();
    let [std, norm] = [3, 4].map(|at| first.split('|').nth(at).unwrap().parse::<f64>().unwrap());
    // 64 by 64 elements that began at 0.02 and have moved a little.
    assert!(std > 0.015 && std < 0.06 && (norm / std - 64.0).abs() < 1e-9, "{first}");

    place.kill_after_second_measurement("broken", &checkpointed);
    place.train("broken", &checkpointed);
    place.assert_same("broken", "unbroken");
    place.ok(&["db", "rebuild", "broken"]);
    assert_eq!(place.weight_state("broken"), state);

    place.train("plain", &["training.steps=120"]);
    assert_eq!((place.measured("plain"), place.weight_state("plain")), Default::default());
}

/// A worker that died between the measurement and its step: the log ends with the measurement.
#[test]
fn log_that_ends_with_a_measurement_is_measured_again() {
    let place = place();
    place.train("unbroken", &WATCHED);
    place.kill_after_second_measurement("broken", &WATCHED);
    let run = "run_id = (select run_id from run where name = 'broken')";
    let last = format!("(select seq from event where kind = 19 and step = 199 and {run})");
    place.tamper(&format!(
        "update run_head set next_seq = {last} + 1, chain = (select hash from event where {run} and \
         seq = {last}) where {run}; delete from event where {run} and seq > {last};"
    ));
    place.ok(&["db", "rebuild", "broken"]);
    assert_eq!((place.steps("broken"), place.measured("broken").as_str()), (199, "99 199"));
    place.train("broken", &WATCHED);
    assert_eq!(place.measured("broken"), "99 199 199 299 399");
    assert_eq!(place.weight_state("broken"), place.weight_state("unbroken"));
    assert_eq!(place.audit("broken", &["--strict"], 0)["proved"], 406);
}

#[test]
fn measurement_that_training_does_not_repeat_stops_the_resumption() {
    let place = place();
    place.kill_after_second_measurement("run", &WATCHED);
    forge(&place, 1, |event| match event {
        Event::WeightsMeasured(measured) => {
            measured.kinds[0].std[1] *= 1.5;
            true
        }
        _ => false,
    });
    let args = place.train_args("run", &WATCHED);
    let text = place.refused(&args.iter().map(String::as_str).collect::<Vec<_>>(), 2);
    assert!(text.contains("disagrees with the log: step 99: a weight state"), "{text}");
}
