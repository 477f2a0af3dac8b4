//! Which field of which event is a fact and which is derived: the one table. It stands beside the code
//! that makes events (`made`, `follow`, `expected`, `tied`), and a test holds it to that code by changing
//! every field of a real log.

/// What holds a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It follows from the events before it and the facts: made again, and equal to the bit.
    Derived,
    /// Somebody said it, and arithmetic or the rest of the log ties it to other facts.
    Tied(Source),
    /// A plugin said it: executed again, and equal to the bit.
    Executed,
    /// Somebody said it, and nothing in the log can show that it is so.
    Fact(Source),
}

/// Who said a fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The trainer and its sampler.
    Trainer,
    /// The worker: what it did, and what befell it.
    Worker,
    /// A person.
    Person,
    /// A clock.
    Clock,
}

/// One field of one kind of event, in every element of the lists on its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// The kind, as the log's JSON names it.
    pub event: &'static str,
    /// The field's path; a field stands for all that is in it, unless that has a line of its own.
    pub path: &'static str,
    /// What holds it.
    pub standing: Standing,
}

use Source::{Clock, Person, Trainer, Worker};
use Standing::{Derived, Executed, Fact, Tied};

const fn field(event: &'static str, path: &'static str, standing: Standing) -> Field {
    Field { event, path, standing }
}

/// Every field that is not derived; all others are.
pub const FACTS: &[Field] = &[
    field("run-started", "spec", Fact(Person)),
    field("run-started", "environment", Fact(Worker)),
    field("run-started", "parent", Fact(Worker)),
    field("step-recorded", "draws[].to", Tied(Trainer)),
    field("step-recorded", "batch", Fact(Trainer)),
    field("step-recorded", "pre_step.losses[].loss_sum", Tied(Trainer)),
    field("step-recorded", "pre_step.losses[].loss_square_sum", Tied(Trainer)),
    field("step-recorded", "pre_step.gradient_norm", Tied(Trainer)),
    field("step-recorded", "pre_step.nonfinite_count", Tied(Trainer)),
    field("step-recorded", "step_us", Fact(Clock)),
    field("step-recorded", "receipts[].outcome", Executed),
    field("step-recorded", "receipts[].output", Executed),
    field("step-recorded", "receipts[].state_after", Executed),
    field("step-recorded", "receipts[].fuel", Executed),
    field("validation-recorded", "losses[].loss_sum", Tied(Trainer)),
    field("validation-recorded", "losses[].loss_square_sum", Tied(Trainer)),
    field("weights-measured", "kinds[].std", Fact(Trainer)),
    field("weights-measured", "kinds[].norm", Fact(Trainer)),
    field("binding-changed", "plugin", Tied(Worker)),
    field("binding-changed", "world", Executed),
    field("binding-changed", "interface", Executed),
    field("binding-changed", "description", Executed),
    field("binding-changed", "engine", Fact(Worker)),
    field("binding-changed", "limits", Fact(Worker)),
    field("binding-changed", "initial_state", Executed),
    field("binding-changed", "initial_fuel", Executed),
    field("checkpoint-saved", "begun", Tied(Worker)),
    field("checkpoint-saved", "digest", Fact(Worker)),
    field("checkpoint-saved", "bytes", Fact(Worker)),
    field("checkpoint-failed", "reason", Fact(Worker)),
    field("command-answered", "command", Tied(Person)),
    field("command-answered", "asked", Tied(Person)),
    field("command-answered", "by", Fact(Person)),
    field("command-answered", "waited_s", Fact(Clock)),
    field("command-answered", "refusal", Tied(Worker)),
    field("run-resumed", "checkpoint", Tied(Worker)),
    field("rolled-back", "seq", Tied(Worker)),
    field("rolled-back", "state", Tied(Worker)),
    field("run-resumed", "folded_from", Fact(Worker)),
    field("run-resumed", "agreed", Tied(Worker)),
    field("run-resumed", "difference_max", Tied(Worker)),
    field("run-resumed", "passed_over", Tied(Worker)),
    field("run-resumed", "environment", Fact(Worker)),
    field("run-interrupted", "reason", Fact(Worker)),
];

/// Kinds of events that come when a worker or a person says so: that one came, and when between two
/// steps, is a fact too.
pub const COME_AND_GO: &[&str] = &[
    "binding-changed",
    "checkpoint-begun",
    "checkpoint-failed",
    "checkpoint-saved",
    "command-answered",
    "plugin-state-saved",
    "rolled-back",
    "run-interrupted",
    "run-resumed",
];

/// What holds a field, by its path in the log's JSON without the places in lists. What nothing is said
/// of is derived.
pub fn standing(event: &str, path: &str) -> Standing {
    let covers = |field: &&Field| {
        let rest = path.strip_prefix(field.path);
        field.event == event
            && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    FACTS.iter().find(covers).map_or(Derived, |field| field.standing)
}

/// What remains the word of whoever said it, whatever an audit of decisions finds: each source with its
/// fields. Those that the rest of the log ties are marked.
pub fn taken_at_their_word() -> Vec<(&'static str, Vec<String>)> {
    let sources =
        [(Trainer, "trainer"), (Worker, "worker"), (Person, "person who asked"), (Clock, "clock")];
    let of = |by: Source| {
        let said = |field: &Field| match field.standing {
            Tied(source) if source == by => Some(format!("{} {} (tied)", field.event, field.path)),
            Fact(source) if source == by => Some(format!("{} {}", field.event, field.path)),
            _ => None,
        };
        FACTS.iter().filter_map(said).collect()
    };
    let mut said: Vec<(&str, Vec<String>)> =
        sources.into_iter().map(|(by, name)| (name, of(by))).collect();
    for (by, fields) in &mut said {
        match *by {
            "worker" => {
                fields.extend(COME_AND_GO.iter().map(|kind| format!("that a {kind} came there")));
                fields.push("writer_epoch of every event (never lower)".to_owned());
            }
            "clock" => fields.push("recorded_at of every event (never earlier)".to_owned()),
            _ => {}
        }
    }
    said
}

/// The table as ARCHITECTURE has it.
pub fn table() -> String {
    let row = |field: &Field| {
        let (standing, by) = match field.standing {
            Derived => ("derived", String::new()),
            Executed => ("executed again", "plugin".to_owned()),
            Tied(by) => ("fact, tied to others", format!("{by:?}").to_lowercase()),
            Fact(by) => ("fact", format!("{by:?}").to_lowercase()),
        };
        format!("| `{}` | `{}` | {standing} | {by} |\n", field.event, field.path)
    };
    let rows: String = FACTS.iter().map(row).collect();
    format!("| event | field | standing | said by |\n|---|---|---|---|\n{rows}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARCHITECTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../ARCHITECTURE.md");
    const BEGIN: &str = "<!-- facts: made from core/domain/src/facts.rs -->\n";
    const END: &str = "<!-- end of facts -->";

    /// `HM_WRITE_TABLES=1` writes it anew.
    #[test]
    fn table_in_architecture_is_the_one_of_the_code() {
        let text = std::fs::read_to_string(ARCHITECTURE).unwrap();
        let (before, rest) = text.split_once(BEGIN).expect("a place for the table");
        let (found, after) = rest.split_once(END).expect("its end");
        let due = format!("\n{}\n", table());
        if std::env::var_os("HM_WRITE_TABLES").is_some() {
            std::fs::write(ARCHITECTURE, format!("{before}{BEGIN}{due}{END}{after}")).unwrap();
        } else {
            assert_eq!(found, due, "write it anew with HM_WRITE_TABLES=1");
        }
    }

    #[test]
    fn field_stands_for_all_that_is_in_it() {
        assert_eq!(standing("step-recorded", "draws[].to.epoch"), Tied(Trainer));
        assert_eq!(standing("step-recorded", "draws[].from.epoch"), Derived);
        assert_eq!(standing("step-recorded", "step_us"), Fact(Clock));
        assert_eq!(standing("step-recorded", "step"), Derived);
        assert_eq!(standing("binding-changed", "description.columns[]"), Executed);
        assert_eq!(standing("run-paused", "step"), Derived);
    }
}
