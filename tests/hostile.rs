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
    place.train("run", &[&set, "training.steps=20"]);
    assert_eq!(place.sql("select ending from run"), "completed");
    assert_eq!(place.sql("select count(*) from binding where state = 'quarantined'"), "9");
    assert_eq!(place.sql("select name from binding where state = 'bound'"), "odm");
    let report = place.audit("run", &[], 0);
    assert_eq!(report["diverged"], 0);
}
