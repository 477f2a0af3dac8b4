//! What `hm train` asks before it trains, and that a dry run asks the same and changes nothing.

use crate::place::{Place, component};

const ENDLESS: &str = "training.steps=10000000";

impl Place {
    /// What `hm train`, or with `more` something else of it, says when it refuses `name`.
    fn train_refused_as(&self, name: &str, sets: &[&str], more: &[&str]) -> String {
        let args = self.train_args(name, sets);
        let args: Vec<&str> = args.iter().map(String::as_str).chain(more.iter().copied()).collect();
        self.refused(&args, 2)
    }

    /// A run that a worker has begun and left.
    fn left(&self, name: &str, sets: &[&str]) {
        let worker = self.train_in_background(name, sets);
        self.wait_for_step(name, 1);
        assert_eq!(worker.interrupt(), Some(130));
    }
}

#[test]
fn plugins_of_a_run_file_that_changed_are_told_and_not_passed_over() {
    let place = Place::with_run_file();
    place.left("run", &[ENDLESS, "plugins=[{plugin: odm, config: {smoothing: 0.5}}]"]);
    for (plugins, due) in [
        ("[]", "plugins.0.plugin was `odm`"),
        ("[{plugin: odm, config: {smoothing: 0.25}}]", "plugins.0.config was {\"smoothing\":0.5}"),
        (
            "[{plugin: odm, config: {smoothing: 0.5}}, {plugin: outlier}]",
            "plugins.1.plugin was not",
        ),
        ("[{plugin: odm, config: {smoothing: 0.5}, role: shadow}]", "plugins.0.role was active"),
        ("[{plugin: odm, config: {smoothing: 0.5}, failure: stop-run}]", "plugins.0.failure was"),
    ] {
        let set = format!("plugins={plugins}");
        for more in [&[][..], &["--dry-run"]] {
            let text = place.train_refused_as("run", &[ENDLESS, &set], more);
            assert!(text.contains(due) && text.contains("hm plugin bind"), "{plugins}: {text}");
            assert!(!text.contains("device:"), "told before anything is built: {text}");
        }
    }
    // As it was, it goes on.
    let steps = place.steps("run");
    let same = "plugins=[{plugin: odm, config: {smoothing: 0.5}}]";
    let worker = place.train_in_background("run", &[ENDLESS, same]);
    place.wait_for_step("run", steps + 1);
    assert_eq!(worker.interrupt(), Some(130));
    assert_eq!(place.sql("select count(*) from binding"), "1");
}

#[test]
fn what_a_plugin_refuses_in_this_run_leaves_no_run_behind() {
    let place = Place::with_run_file();
    place.ok(&["plugin", "install", component("static").to_str().unwrap()]);
    let bad = "plugins=[{plugin: static, config: {shares: {plane: 0.5, numbers: 0.5}}}]";
    for more in [&["--dry-run"][..], &[]] {
        let text = place.train_refused_as("run", &[bad], more);
        assert!(text.contains("plugins.0.config is {\"shares\""), "{text}");
        assert!(text.contains("`plane`: no such domain"), "{text}");
    }
    assert_eq!(place.sql("select count(*) from run"), "0");
    // The mended file trains.
    let good = "plugins=[{plugin: static, config: {shares: {plain: 0.5, numbers: 0.5}}}]";
    place.train("run", &[good, "training.steps=4"]);
    let text = place.train_refused_as("run", &[good, "training.steps=4"], &["--dry-run"]);
    assert!(text.contains("has ended already: completed at step 4 of 4"), "{text}");
}

#[test]
fn wish_about_what_is_not_there_is_refused_where_nobody_trains_the_run() {
    let place = Place::with_run_file();
    place.left("run", &[ENDLESS, "plugins=[]"]);
    let bind = |plugin: &str, config: &str| {
        place.refused(&["plugin", "bind", "run", plugin, "--config", config], 1)
    };
    assert!(bind("nope", "{}").contains("no plugin \"nope\" is installed: `hm plugin ls`"));
    let text = bind("odm", "{\"smoothing\": 7}");
    assert!(text.contains("the configuration must suit odm: at /smoothing: 7 must be"), "{text}");
    assert_eq!(place.sql("select count(*) from command"), "0");
}

#[test]
fn dry_run_starts_no_database_and_says_what_it_did_not_ask() {
    let place = Place::with_run_file();
    place.ok(&["db", "stop"]);
    let args = place.train_args("run", &[]);
    let args: Vec<&str> = args.iter().map(String::as_str).chain(["--dry-run"]).collect();
    let output = place.output(&args);
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert!(told.contains("the plugins (the private database is not running)"), "{told}");
    assert!(!place.path("data/postgres/postmaster.pid").exists(), "it was started");
}

#[test]
fn device_and_precision_that_are_not_there_are_told_at_once_with_all_other_faults() {
    let place = Place::with_run_file();
    let sets = ["training.precision=bf16", "optimizer.beta2=1.5", "plugins=[]"];
    for more in [&["--dry-run", "--device", "cpu"][..], &["--device", "cpu"]] {
        let text = place.train_refused_as("run", &sets, more);
        assert!(text.contains("training.precision is bf16: the cpu computes in f32"), "{text}");
        assert!(text.contains("optimizer.beta2 is 1.5"), "{text}");
    }
    assert!(!place.path("data/prepared").exists(), "nothing is prepared");
}

#[test]
fn address_of_another_database_is_refused_by_its_name() {
    let place = Place::new();
    for (url, due) in [
        ("foo", "DATABASE_URL is foo: it does not begin with postgres://"),
        ("mysql://h/d", "mysql is not PostgreSQL"),
        ("postgres://u:s3cret@127.0.0.1:1/d", "DATABASE_URL is postgres://u:...@127.0.0.1:1/d: "),
    ] {
        let output = place.hm(&["runs", "ls"]).env("DATABASE_URL", url).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(due) && text.contains("or unset it"), "{text}");
        assert!(!text.contains("s3cret"), "{text}");
    }
}
