//! A wish in a few words, and what whoever made it should know of the run's policies: that one of them
//! undoes it, or gives way to it.

use hm_domain::command::Command;
use hm_domain::event::Role;
use hm_domain::id::{BindingId, RunId};
use hm_domain::settings::number;
use hm_domain::state::RunState;
use serde_json::Value;

use crate::run_file::typed_again::typed_beside;

/// What a command asks, in a few words.
pub(crate) fn wish(command: &Command, domains: &[&str]) -> String {
    let kind = command.kind();
    match command {
        Command::Bind { plugin, role: Role::Active, .. } => format!("{kind} {plugin}"),
        Command::Bind { plugin, role: Role::Shadow, .. } => format!("{kind} {plugin} as shadow"),
        Command::Release { binding, .. } => format!("{kind} {binding}"),
        Command::SetMixture { shares, .. } => {
            let one = |(index, share): (usize, &f64)| {
                format!("{} {}", domains.get(index).unwrap_or(&"?"), rounded(*share))
            };
            format!("{kind} {}", shares.iter().enumerate().map(one).collect::<Vec<_>>().join(", "))
        }
        Command::SetLearningRate { peak, .. } => format!("{kind} {}", number(*peak)),
        Command::SetBatchSize { sequences, .. } => format!("{kind} {sequences}"),
        Command::Rollback { to, .. } => format!("{kind} to step {to}"),
        _ => kind.to_owned(),
    }
}

/// A share on whatever scale, as far as a line needs it.
fn rounded(share: f64) -> String {
    let rounded = (share * 1e4).round() / 1e4;
    number(if rounded == 0.0 { share } else { rounded })
}

/// A policy that is obeyed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Policy {
    id: BindingId,
    name: String,
}

/// The policies that a run obeys.
pub(crate) fn policies(state: &RunState) -> Vec<Policy> {
    let policies = state.active_policies().map(|binding| Policy {
        id: binding.facts.binding,
        name: binding.facts.description.name.clone(),
    });
    policies.collect()
}

/// The same out of the bindings on record.
pub(crate) fn policies_on_record(bindings: &[Value]) -> Vec<Policy> {
    let is_obeyed = |row: &&Value| {
        row["state"] == "bound" && row["role"] == "active" && row["world"] == "policy"
    };
    let policy = |row: &Value| {
        let id = BindingId(u32::try_from(row["binding"].as_u64()?).ok()?);
        Some(Policy { id, name: row["name"].as_str()?.to_owned() })
    };
    bindings.iter().filter(is_obeyed).filter_map(policy).collect()
}

/// The live binding that a person names by its number or its name.
pub(crate) fn live_binding(bindings: &[Value], typed: &str) -> Result<BindingId, String> {
    let live = bindings.iter().filter(|row| row["state"] == "bound").filter_map(|row| {
        let id = BindingId(u32::try_from(row["binding"].as_u64()?).ok()?);
        Some((id, row["name"].as_str()?))
    });
    let live: Vec<(BindingId, &str)> = live.collect();
    let number = typed.strip_prefix('#').unwrap_or(typed).parse::<u32>().ok().map(BindingId);
    let is_meant = |(id, name): &&(BindingId, &str)| Some(*id) == number || *name == typed;
    let meant: Vec<&(BindingId, &str)> = live.iter().filter(is_meant).collect();
    let told = |bindings: &[(BindingId, &str)]| {
        let one = |(id, name): &(BindingId, &str)| format!("{name} ({id})");
        bindings.iter().map(one).collect::<Vec<_>>().join(", ")
    };
    match (&meant[..], &live[..]) {
        ([(id, _)], _) => Ok(*id),
        ([], []) => Err("no plugin is bound to this run".to_owned()),
        ([], live) => Err(format!("no `{typed}` is bound to this run; there are {}", told(live))),
        (several, _) => {
            let several: Vec<(BindingId, &str)> = several.iter().map(|one| **one).collect();
            Err(format!(
                "`{typed}` is bound several times: name one by its number: {}",
                told(&several)
            ))
        }
    }
}

/// What obeying `command` means beside the policies that a run obeyed `before` and obeys `now`.
pub(crate) fn aftermath(
    run: RunId,
    command: &Command,
    before: &[Policy],
    now: &[Policy],
) -> Vec<String> {
    match command {
        Command::SetMixture { .. } => now.iter().map(|policy| undone(run, policy)).collect(),
        Command::Bind { .. } => {
            let gone = before.iter().filter(|policy| !now.contains(policy));
            gone.map(|Policy { id, name }| {
                format!("it takes the place of policy {name} ({id}), which is released")
            })
            .collect()
        }
        _ => Vec::new(),
    }
}

fn undone(run: RunId, Policy { id, name }: &Policy) -> String {
    let (run, number) = (run.to_string(), id.0.to_string());
    let release = typed_beside(&["plugin", "release", &run, &number]);
    let shadow = typed_beside(&["plugin", "bind", &run, name, "--shadow"]);
    format!(
        "policy {name} ({id}) is active and may move the mixture again from the next step on: to hold these \
         shares release it with {release}; {shadow} then has it decide without being obeyed"
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn command(value: Value) -> Command {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn wish_is_told_with_its_value() {
        let told = |value: Value| wish(&command(value), &["code", "web"]);
        let mixture = json!({"command": "set-mixture", "shares": [0.5, 0.333_333_333]});
        assert_eq!(told(mixture), "set-mixture code 0.5, web 0.3333");
        assert_eq!(
            told(json!({"command": "set-learning-rate", "peak": 5e-4})),
            "set-learning-rate 0.0005"
        );
        let bind = json!({"command": "bind", "plugin": "odm", "config": {}, "role": "shadow"});
        assert_eq!(told(bind), "bind odm as shadow");
        assert_eq!(told(json!({"command": "release", "binding": 2})), "release #2");
    }

    #[test]
    fn mixture_that_a_policy_undoes_is_told_with_the_command_that_ends_it() {
        let row = |number: u32, role: &str, state: &str| json!({"binding": number, "name": "odm", "world": "policy", "role": role, "state": state});
        let rows = [row(0, "active", "released"), row(1, "shadow", "bound")];
        let (mixture, run) =
            (command(json!({"command": "set-mixture", "shares": [1.0]})), RunId::SYSTEM);
        assert!(aftermath(run, &mixture, &[], &policies_on_record(&rows)).is_empty());
        let now = policies_on_record(&[row(2, "active", "bound")]);
        let told = aftermath(run, &mixture, &now, &now);
        assert_eq!(told.len(), 1);
        assert!(told[0].starts_with("policy odm (#2) is active and may move"), "{told:?}");
        assert!(told[0].contains(&format!("hm plugin release {run} 2;")), "{told:?}");
    }

    #[test]
    fn plugin_to_release_is_named_by_its_number_or_its_only_name() {
        let row =
            |number: u32, name: &str| json!({"binding": number, "name": name, "state": "bound"});
        let gone = json!({"binding": 9, "name": "static", "state": "released"});
        let rows = [row(0, "odm"), row(1, "outlier"), row(2, "outlier"), gone];
        for typed in ["odm", "0", "#0"] {
            assert_eq!(live_binding(&rows, typed), Ok(BindingId(0)), "{typed}");
        }
        let why = live_binding(&rows, "outlier").unwrap_err();
        assert!(why.ends_with("by its number: outlier (#1), outlier (#2)"), "{why}");
        for gone in ["static", "9", "7"] {
            assert!(
                live_binding(&rows, gone).unwrap_err().contains("there are odm (#0), "),
                "{gone}"
            );
        }
        assert_eq!(live_binding(&[], "odm").unwrap_err(), "no plugin is bound to this run");
    }

    #[test]
    fn policy_that_gives_way_is_named() {
        let bind = json!({"command": "bind", "plugin": "static", "config": {}, "role": "active"});
        let policy = |id, name: &str| Policy { id: BindingId(id), name: name.to_owned() };
        let (before, now) = ([policy(0, "odm")], [policy(1, "static")]);
        let told = aftermath(RunId::SYSTEM, &command(bind), &before, &now);
        assert_eq!(told, ["it takes the place of policy odm (#0), which is released"]);
    }
}
