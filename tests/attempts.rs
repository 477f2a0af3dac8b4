//! Back to a checkpoint: a run that goes back repeats the same bits, a fork has its parent's, and a worker
//! that dies on the way leaves nothing half done.

use std::process::Command;

use crate::place::Place;

const SETS: [&str; 3] =
    ["checkpoint.keep=100", "training.steps=90", "plugins=[{\"plugin\":\"odm\"}]"];

impl Place {
    /// What steps of an attempt came to, without place and time.
    fn lived(&self, name: &str, attempt: u32, from: u64, to: u64) -> String {
        self.sql(&format!(
            "select string_agg(m::text, ';' order by m.step) from (select s.step, to_jsonb(s) - 'run_id' \
             - 'seq' - 'step_us' - 'recorded_at' - 'attempt' from step_metric s join run r using (run_id) \
             where r.name = '{name}' and s.attempt = {attempt} and s.step >= {from} and s.step < {to}) m"
        ))
    }

    fn rebuilt_alike(&self, name: &str) {
        let tables = ["run", "checkpoint", "rollback", "binding", "decision", "step_rollup"];
        let rows = || {
            tables.map(|table| {
                self.sql(&format!(
                    "select md5(coalesce(string_agg(t::text, ';' order by t::text), '')) from {table} t \
                     where run_id = (select run_id from run where name = '{name}')"
                ))
            })
        };
        let before = rows();
        self.ok(&["db", "rebuild", name]);
        assert_eq!(rows(), before);
    }

    fn fork(&self, parent: &str, at: u64, name: &str, sets: &[&str]) -> Command {
        let (at, file) = (at.to_string(), self.path("run.yaml").to_str().unwrap().to_owned());
        let mut args = vec!["runs".to_owned(), "fork".into(), parent.into(), "--at".into(), at];
        args.extend(["-c".to_owned(), file, "--set".into(), format!("name={name}")]);
        args.extend(sets.iter().flat_map(|set| ["--set".to_owned(), (*set).to_owned()]));
        self.hm(&args.iter().map(String::as_str).collect::<Vec<_>>())
    }
}

#[test]
fn rolled_back_run_repeats_the_same_bits() {
    let place = Place::with_run_file();
    let endless = [&SETS[..], &["training.steps=10000000"]].concat();
    let worker = place.train_in_background("back", &endless);
    place.wait_for_step("back", 60);
    place.ok(&["runs", "rollback", "back", "--to", "30", "--reason", "again"]);
    place.wait_for_step("back", 60);
    place.ok(&["runs", "stop", "back"]);
    assert_eq!(worker.end().0, Some(0));
    assert_eq!(place.sql("select attempt, to_step, reason from rollback"), "1|30|again");
    let first = place.lived("back", 0, 30, 60);
    assert!(!first.is_empty());
    assert_eq!(place.lived("back", 1, 30, 60), first);
    assert_eq!(place.sql("select attempt, state from run"), "1|ended");
    assert!(place.sql("select string_agg(folder, ' ') from checkpoint").contains("a001-s"));
    let report = place.audit("back", &["--strict"], 0);
    assert_eq!(report["verdict"], "proved");
    place.rebuilt_alike("back");
}

#[test]
fn rollback_waits_for_a_worker_and_one_that_is_killed_after_it_goes_on_right() {
    let place = Place::with_run_file();
    place.train("unbroken", &SETS);
    let hold = place.hold_at_checkpoint(60);
    let worker = place.train_in_background("back", &SETS);
    hold.reached();
    drop(worker);
    hold.release();
    // Nobody trains it: the wish waits, and one without a checkpoint is refused at once.
    let refused = place.refused(&["runs", "rollback", "back", "--to", "31"], 1);
    assert!(refused.contains("no checkpoint of step 31 is on record"), "{refused}");
    let told = place.refused(&["runs", "rollback", "back", "--to", "30"], 3);
    assert!(told.contains("waits in its inbox for the next `hm train`"), "{told}");
    // The next worker dies as it puts that on record, another before it has saved anything since.
    for (table, condition, on_record) in
        [("rollback", "true", "0"), ("checkpoint", "new.attempt = 1", "1")]
    {
        let hold = place.hold_at(table, condition);
        let worker = place.train_in_background("back", &SETS);
        hold.reached();
        assert_eq!(place.sql("select count(*) from rollback"), on_record);
        drop(worker);
        hold.release();
    }
    place.train("back", &SETS);
    assert_eq!(place.lived("back", 1, 30, 90), place.lived("unbroken", 0, 30, 90));
    let report = place.audit("back", &["--level", "training"], 0);
    assert_eq!(
        (&report["data"]["diverged"], &report["training"]["diverged"]),
        (&0.into(), &0.into())
    );
    assert!(report["training"]["steps"].as_u64().unwrap() >= 90, "{report}");
    place.rebuilt_alike("back");
}

#[test]
fn checkpoint_on_record_that_the_log_does_not_name_is_not_gone_on_from() {
    let place = Place::with_run_file();
    let hold = place.hold_at_checkpoint(90);
    let worker = place.train_in_background("back", &SETS);
    hold.reached();
    drop(worker);
    hold.release();
    let another = "saves another checkpoint than";
    place.sql("update checkpoint set seq = seq + 1 where step = 60");
    let refused = place.refused_training("back", &SETS, 2);
    assert!(refused.contains(another), "{refused}");
    assert_eq!(place.sql("select count(*) from worker"), "0", "no worker that counts as dead");
    assert!(place.refused_training("back", &["seed=4"], 2).contains("seed"));
    assert_eq!(place.sql("select count(*) from worker"), "0");

    place.sql(
        "update checkpoint set seq = seq - 1 where step = 60; \
         update checkpoint set bytes = bytes + 1 where step = 30",
    );
    let refused = place.fork("back", 30, "child", &SETS).output().unwrap();
    let refused = String::from_utf8(refused.stderr).unwrap();
    assert!(refused.contains(another), "{refused}");
    place.refused(&["runs", "rollback", "back", "--to", "30"], 3);
    let args = place.train_args("back", &SETS);
    let output = place.output(&args.iter().map(String::as_str).collect::<Vec<_>>());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && said.contains(another), "{said}");
    assert_eq!(place.sql("select attempt, next_step from run"), "0|90");
}

#[test]
fn data_that_is_skipped_is_not_drawn_again() {
    let place = Place::with_run_file();
    let hold = place.hold_at_checkpoint(60);
    let worker = place.train_in_background("back", &SETS);
    hold.reached();
    drop(worker);
    hold.release();
    place.refused(&["runs", "rollback", "back", "--to", "30", "--skip-data"], 3);
    place.train("back", &SETS);
    assert_eq!(place.sql("select skipped_data from rollback"), "t");
    assert_ne!(place.lived("back", 1, 30, 40), place.lived("back", 0, 30, 40));
    assert_eq!(place.audit("back", &["--level", "data", "--strict"], 0)["verdict"], "proved");
}

#[test]
fn fork_with_the_same_file_gives_the_parents_bits() {
    let place = Place::with_run_file();
    place.train("parent", &SETS);
    let said = place.fork("parent", 30, "child", &SETS).output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let said = String::from_utf8(said.stdout).unwrap();
    assert!(said.contains("from step 30 of run"), "{said}");
    // What the parent had decided by then is what the fork goes on under.
    let decided = "select shares, version from decision d join run using (run_id) where kind = 'mixture' and name";
    assert_eq!(
        place.sql(&format!("{decided} = 'child'")),
        place.sql(&format!(
            "{decided} = 'parent' and d.seq < (select begun_seq from checkpoint c where c.run_id = d.run_id \
             and c.step = 30) order by d.seq desc, receipt desc, effect desc limit 1"
        ))
    );
    let report = place.audit("child", &["--strict"], 0);
    assert!(report["parent"].as_str().unwrap().contains("names the same checkpoint"), "{report}");
    // Its parent may go.
    let id = place.sql("select run_id from run where name = 'parent'");
    std::fs::remove_dir_all(place.path("data/checkpoints").join(id)).unwrap();
    place.train("child", &SETS);
    assert_eq!(place.lived("child", 0, 30, 90), place.lived("parent", 0, 30, 90));
    assert_eq!(
        place.sql(
            "select min(step) from step_metric s join run using (run_id) where name = 'child'"
        ),
        "30"
    );
    assert_eq!(place.audit("child", &["--strict"], 0)["verdict"], "proved");
    place.rebuilt_alike("child");
}

#[test]
fn fork_that_is_killed_before_its_first_checkpoint_goes_on_and_a_finished_run_goes_on_by_fork() {
    let place = Place::with_run_file();
    place.train("parent", &SETS);
    let refused = place.refused_training("parent", &SETS, 2);
    assert!(refused.contains("runs fork"), "{refused}");
    let longer = [&SETS[..], &["training.steps=120"]].concat();
    let hold = place.hold_at_checkpoint(0);
    let mut child = place.fork("parent", 90, "child", &longer).spawn().unwrap();
    hold.reached();
    child.kill().unwrap();
    child.wait().unwrap();
    hold.release();
    assert_eq!(
        place.sql("select count(*) from checkpoint join run using (run_id) where name = 'child'"),
        "0"
    );
    place.train("child", &longer);
    assert_eq!(place.sql("select next_step, state from run where name = 'child'"), "120|ended");
    assert_eq!(
        place.sql(
            "select min(c.step) from checkpoint c join run using (run_id) where name = 'child'"
        ),
        "90"
    );
    let report = place.audit("child", &["--level", "training", "--strict"], 0);
    assert_eq!((&report["verdict"], &report["training"]["steps"]), (&"proved".into(), &30.into()));
}

#[test]
fn resumed_worker_reads_the_log_from_its_checkpoint_and_says_so() {
    let place = Place::with_run_file();
    let hold = place.hold_at_checkpoint(60);
    let worker = place.train_in_background("cut", &SETS);
    hold.reached();
    drop(worker);
    hold.release();
    // What lies before is not read: it could not be.
    let id = place.sql("select run_id from run where name = 'cut'");
    place.sql(&format!(
        "set session_replication_role = replica; update event set payload = '\\x00' where run_id = '{id}' \
         and seq between 3 and 20"
    ));
    place.train("cut", &SETS);
    assert_eq!(place.sql("select next_step, state from run where name = 'cut'"), "90|ended");
    let begun = place.sql("select begun_seq from checkpoint where step = 30");
    assert!(begun.parse::<u64>().unwrap() > 30);
}

#[test]
fn fork_whose_parent_is_another_than_it_says_is_named_and_one_that_cannot_be_leaves_nothing() {
    let place = Place::with_run_file();
    place.train("parent", &SETS);
    let refused = |at: u64, name: &str, sets: &[&str]| {
        let output = place.fork("parent", at, name, &[&SETS[..], sets].concat()).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8(output.stderr).unwrap()
    };
    let said = refused(31, "child", &[]);
    assert!(
        said.contains("no checkpoint of step 31 is on record; the newest are of step 30, 60, 90"),
        "{said}"
    );
    let said = refused(30, "child", &["seed=4"]);
    assert!(said.contains("a fork cannot have another seed than its parent"), "{said}");
    let said = refused(90, "child", &[]);
    assert!(said.contains("training.steps is 90 and the fork begins at step 90"), "{said}");
    assert_eq!(place.sql("select count(*) from run_head where name = 'child'"), "0");

    let said = place.fork("parent", 60, "child", &SETS).output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    place.train("child", &SETS);
    // A parent that never was so, in a log that is whole.
    let parent = place.sql("select run_id from run where name = 'parent'");
    let saved = place.sql(
        "select seq from checkpoint join run using (run_id) where name = 'parent' and step = 60",
    );
    place.sql(&format!(
        "set session_replication_role = replica; update event set recorded_at = recorded_at + 1 \
         where run_id = '{parent}' and seq = {saved}"
    ));
    let report = place.audit("child", &[], 1);
    assert_eq!(report["first"]["what"], "parent", "{report}");
    // Without it the fork's own word is all there is, and that is said.
    place.sql(&format!(
        "set session_replication_role = replica; delete from run_head where run_id = '{parent}'"
    ));
    let report = place.audit("child", &["--strict"], 0);
    assert!(report["parent"].as_str().unwrap().contains("is not at hand"), "{report}");
}

#[test]
fn run_state_that_is_damaged_is_passed_over_for_an_older_one_and_kept_again() {
    let place = Place::with_run_file();
    place.train("unbroken", &SETS);
    let hold = place.hold_at_checkpoint(90);
    let worker = place.train_in_background("broken", &SETS);
    hold.reached();
    drop(worker);
    hold.release();
    let saved = |step: u64, column: &str| {
        place.sql(&format!(
            "select {column} from checkpoint join run using (run_id) where name = 'broken' and step = {step}"
        ))
    };
    let state = place.checkpoints("broken").join(saved(60, "folder")).join("run-state.bin");
    let whole = std::fs::read(&state).unwrap();
    std::fs::write(&state, &whole[..whole.len() / 2]).unwrap();
    let args = place.train_args("broken", &SETS);
    let output = place.output(&args.iter().map(String::as_str).collect::<Vec<_>>());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.success() && said.contains("the run state of step 60 is passed over"),
        "{said}"
    );
    let resumed = place.resumed();
    assert_eq!(
        (resumed.checkpoint_step, resumed.folded_from.to_string()),
        (60, saved(30, "begun_seq"))
    );
    assert_eq!(std::fs::read(&state).unwrap(), whole);
    assert_eq!(place.facts("broken"), place.facts("unbroken"));
    assert_eq!(place.audit("broken", &["--strict"], 0)["verdict"], "proved");
}
