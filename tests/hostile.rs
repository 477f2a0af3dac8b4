//! Plugins that misbehave in a real run: each costs its own quarantine, never the run.

use crate::place::{Place, component};

#[test]
fn hostile_plugins_cost_their_own_quarantine_and_the_run_goes_on() {
    let place = Place::with_run_file();
    for name in ["hostile_policy", "hostile_detector"] {
        place.ok(&["plugin", "install", component(name).to_str().unwrap()]);
    }
    let listed: serde_json::Value =
        serde_json::from_str(&place.ok(&["plugin", "ls", "--json"])).unwrap();
    let mut plugins = vec![serde_json::json!({"plugin": "odm"})];
    for plugin in listed.as_array().unwrap() {
        let name = plugin["description"]["name"].as_str().unwrap();
        let calls: &[&str] = match (name, plugin["world"].as_str().unwrap()) {
            ("odm" | "outlier", _) => &[],
            (_, "policy") => &["step"],
            _ => &["gate", "watch"],
        };
        for at in calls {
            for how in ["loop", "trap", "hoard"] {
                let config = serde_json::json!({"at": at, "how": how});
                // One policy is active at a time: hostile ones sit beside it as shadows.
                let role = if *at == "step" { "shadow" } else { "active" };
                plugins.push(serde_json::json!({"plugin": name, "config": config, "role": role}));
            }
        }
    }
    assert_eq!(plugins.len(), 10, "{listed}");
    let set = format!("plugins={}", serde_json::Value::Array(plugins));
    let args = place.train_args("run", &[&set, "training.steps=20"]);
    let told = place.refused(&args.iter().map(String::as_str).collect::<Vec<_>>(), 0);
    // On the terminal of whoever trains it, once each.
    assert_eq!(told.matches(" is quarantined: ").count(), 9, "{told}");
    assert_eq!(told.matches(" failed at step ").count(), 9, "{told}");
    assert_eq!(place.sql("select ending from run"), "completed");
    assert_eq!(place.sql("select count(*) from binding where state = 'quarantined'"), "9");
    assert_eq!(place.sql("select name from binding where state = 'bound'"), "odm");
    let report = place.audit("run", &[], 0);
    assert_eq!(report["diverged"], 0);
}

#[test]
fn words_of_a_wish_neither_control_the_workers_terminal_nor_add_a_line_to_it() {
    let place = Place::with_run_file();
    let sets = ["plugins=[]", "training.steps=1000000", "checkpoint.every_steps=1000000"];
    let worker = place.train_in_background("live", &sets);
    place.wait_for_step("live", 1);
    let key = "\u{1b}[2J\u{1b}]0;pwn\u{7}x\u{202e}\nobeyed a command of root: stop";
    let config = serde_json::json!({ key: 1 }).to_string();
    let refused = place.refused(&["plugin", "bind", "live", "odm", "--config", &config], 1);
    // Whoever writes into the inbox itself is heard by the worker.
    let command =
        serde_json::json!({"command": "bind", "plugin": key, "role": "active", "config": {}});
    place.sql(&format!(
        "insert into command (run_id, kind, body, issued_by, issued_at) \
         select run_id, 'bind', $wish${command}$wish$, 'x' || chr(27) || '[2Jpwn', 0 from run"
    ));
    place.wait_for("select count(*) from command where answered_seq is null", "0");
    // While a plugin is made ready, other wishes are answered.
    place.ok(&["runs", "batch", "live", "2"]);
    worker.signal_interrupt();
    let (code, told) = worker.end();
    assert_eq!(code, Some(130), "{told}");
    for text in [refused, told] {
        assert!(text.contains("[2J") && text.contains("pwn"), "{text}");
        assert!(!text.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{text}");
        assert!(!text.lines().any(|line| line.starts_with("obeyed a command of root")), "{text}");
    }
}
