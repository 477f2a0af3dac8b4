//! `hm train` under the name of a run that has ended.

use crate::place::Place;

#[test]
fn same_command_after_the_end_says_what_happened_and_how_to_go_on() {
    let place = Place::with_run_file();
    let sets = ["plugins=[]", "training.steps=4"];
    place.train("run", &sets);
    let text = place.refused_training("run", &sets, 2);
    let due = "has ended already: completed at step 4 of 4";
    for part in [due, "ago (all steps are done)", "--new", "runs fork"] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(place.sql("select count(*) from run"), "1");
    let mut args = place.train_args("run", &sets);
    args.push("--new".to_owned());
    place.ok(&args.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(place.sql("select count(*), count(ending) from run"), "2|2");
}

#[test]
fn another_command_under_an_ended_name_begins_another_run_and_says_so() {
    let place = Place::with_run_file();
    place.train("run", &["plugins=[]", "training.steps=4"]);
    let args = place.train_args("run", &["plugins=[]", "training.steps=6"]);
    let output = place.output(&args.iter().map(String::as_str).collect::<Vec<_>>());
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{text}");
    let due = [
        "has ended already: completed at step 4 of 4",
        "another run of that name, from step 0, since training.steps was 4, is 6",
    ];
    for part in due {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(place.sql("select count(*), count(ending) from run"), "2|2");
    place.refused_training("run", &["plugins=[]", "training.steps=6"], 2);
}
