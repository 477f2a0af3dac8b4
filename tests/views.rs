//! What people read, and the table of plugins, held against the log; and what each command needs for it.

use crate::place::Place;

const RUN: &str = "run_id = (select run_id from run_head where name = 'run')";

#[test]
fn row_and_plugin_that_the_log_does_not_give_are_named() {
    let place = Place::with_run_file();
    place.train("run", &[]);
    assert_eq!(place.audit("run", &["--level", "views"], 0)["verdict"], "proved");
    assert!(place.ok(&["audit", "run"]).starts_with("audit of run ("));
    let system = place.ok(&["audit", "system"]);
    assert!(system.contains("unbroken") && system.contains("2 plugins installed"), "{system}");
    assert!(place.ok(&["db", "rebuild", "run", "--check"]).contains("are what its"));

    place.sql(&format!("update step_metric set loss = 0.001 where step = 7 and {RUN}"));
    place.audit("run", &[], 0);
    let first = &place.audit("run", &["--level", "views"], 1)["first"];
    assert_eq!(first["plugin"], "table step_metric");
    assert_eq!(first["what"], "its row (attempt 0, step 7), column loss");
    assert_eq!(first["found"], "0.001");
    let output = place.output(&["db", "rebuild", "run", "--check"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(place.ok(&["db", "rebuild", "run"]).contains("1 rows mended"));
    place.audit("run", &["--level", "views"], 0);

    // The bytes of one plugin under the digest of another: an error that names it, and no verdict.
    place.sql(
        "set session_replication_role = replica; alter table plugin drop constraint plugin_is_its_digest; \
         update plugin set wasm = (select wasm from plugin where name = 'outlier') where name = 'odm'",
    );
    let refusal = place.refused(&["audit", "run"], 2);
    assert!(refusal.contains("plugin odm@") && refusal.contains("other bytes"), "{refusal}");
    let system = place.output(&["audit", "system"]);
    assert_eq!(system.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&system.stdout).contains("plugin odm@"));

    // A name that was moved to another run is not followed.
    place.sql("update run_head set name = 'old' where name = 'run'");
    let refusal = place.refused(&["audit", "old"], 2);
    assert!(refusal.contains("is listed as old, and its log says run"), "{refusal}");
}

#[test]
fn reading_commands_change_no_tables() {
    let place = Place::new();
    // Of a server that somebody named; the private one is ours to make.
    let url = place.ok(&["db", "url"]);
    let output = place.hm(&["runs", "ls"]).env("DATABASE_URL", url.trim()).output().unwrap();
    let refusal = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{refusal}");
    assert!(refusal.contains("`hm train` makes them, or `hm db migrate`"), "{refusal}");
    assert_eq!(place.sql("select count(*) from pg_class where relname = 'event'").trim(), "0");
    place.ok(&["db", "migrate"]);
    assert!(place.ok(&["runs", "ls"]).starts_with("ID"));
    assert!(place.ok(&["db", "roles"]).contains("heurimentor_reader"));
}
