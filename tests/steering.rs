//! A living run asked from another terminal: what undoes a wish is said to who made it, and the database is
//! not taken from under a run.

use crate::place::Place;

impl Place {
    /// Standard error of a wish that was obeyed.
    fn wish_told(&self, args: &[&str]) -> String {
        let output = self.output(args);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "hm {args:?}: {errors}");
        errors
    }
}

#[test]
fn wish_that_a_policy_undoes_is_answered_so_until_the_policy_is_released() {
    let place = Place::with_run_file();
    let worker = place.train_in_background("live", &["training.steps=10000000"]);
    place.wait_for_step("live", 2);
    let mixture = ["runs", "mixture", "live", "plain=0.9"];
    let told = place.wish_told(&mixture);
    assert!(told.contains("policy odm (#0) is active and may move the mixture again"), "{told}");
    assert!(told.contains("hm plugin release "), "{told}");
    assert!(told.contains("will be read many times"), "as its worker's terminal says: {told}");
    let twice = place.refused(&["plugin", "bind", "live", "outlier"], 1);
    assert!(twice.contains("is bound already") && twice.contains("as #1"), "{twice}");
    place.ok(&["plugin", "release", "live", "odm"]);
    assert!(!place.wish_told(&mixture).contains("policy odm"));
    let id = place.sql("select run_id from run");
    let shown = place.ok(&["runs", "show", &id[..13]]);
    assert!(shown.contains("odm@") && shown.contains("released"), "{shown}");
    assert_eq!(worker.interrupt(), Some(130));
}
