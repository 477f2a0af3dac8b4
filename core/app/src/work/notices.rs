//! What of a run's events its operator should hear at once: a plugin that fails, is not obeyed or is
//! called no more. Said once for each binding and kind; the log and the page have every case.

use std::collections::{BTreeMap, BTreeSet};

use hm_domain::event::{BindingQuarantined, Effect, Event, Receipt};
use hm_domain::id::BindingId;
use hm_domain::plugin::Outcome;
use hm_domain::state::Binding;

/// The run's.
type Bindings = BTreeMap<BindingId, Binding>;

/// What was said so far.
#[derive(Default)]
pub(crate) struct Notices {
    failed: BTreeSet<BindingId>,
    refused: BTreeSet<BindingId>,
    /// How each binding failed last.
    faults: BTreeMap<BindingId, String>,
}

impl Notices {
    /// What to say of an event, sentence by sentence.
    pub(crate) fn of(&mut self, event: &Event, bindings: &Bindings) -> Vec<String> {
        match event {
            Event::StepRecorded(step) => step
                .receipts
                .iter()
                .flat_map(|receipt| self.receipt(receipt, step.step, bindings))
                .collect(),
            Event::BindingQuarantined(quarantined) => vec![self.quarantined(quarantined, bindings)],
            _ => Vec::new(),
        }
    }

    fn receipt(&mut self, receipt: &Receipt, step: u64, bindings: &Bindings) -> Vec<String> {
        let mut said = Vec::new();
        let binding = receipt.binding;
        if receipt.outcome != Outcome::Ok {
            let how = receipt.outcome.to_string();
            if self.failed.insert(binding) {
                let name = name(binding, bindings);
                said.push(format!("{name} failed at step {step} and its state stays: {how}"));
            }
            self.faults.insert(binding, how);
        }
        let refused = receipt.effects.iter().find_map(|effect| match effect {
            Effect::Refused { reason } => Some(reason),
            _ => None,
        });
        if let Some(reason) = refused
            && self.refused.insert(binding)
        {
            let name = name(binding, bindings);
            said.push(format!("what {name} decided at step {step} is refused: {reason}"));
        }
        said
    }

    fn quarantined(&self, quarantined: &BindingQuarantined, bindings: &Bindings) -> String {
        let BindingQuarantined { binding, step, faults } = quarantined;
        let last = self.faults.get(binding).map(|how| format!(", the last: {how}"));
        format!(
            "{} is quarantined: {faults} faults in a row{}; from step {step} on it is called no more",
            name(*binding, bindings),
            last.unwrap_or_default()
        )
    }
}

/// What people call a binding.
fn name(binding: BindingId, bindings: &Bindings) -> String {
    match bindings.get(&binding) {
        Some(found) => {
            let description = &found.facts.description;
            format!("plugin {}@{} ({binding})", description.name, description.version)
        }
        None => format!("plugin {binding}"),
    }
}

#[cfg(test)]
mod tests {
    use hm_domain::event::{Hook, StepRecorded};
    use hm_domain::id::Digest;
    use hm_domain::plugin::Output;
    use hm_domain::step::{PreStep, Verdict};

    use super::*;

    fn step(step: u64, outcome: Outcome, effects: Vec<Effect>) -> Event {
        let receipt = Receipt {
            binding: BindingId(1),
            hook: Hook::Step,
            from_seq: 0,
            to_seq: 0,
            dropped: 0,
            state_before: Digest::ZERO,
            state_after: Digest::ZERO,
            outcome,
            fuel: 0,
            output: Output::Nothing,
            effects,
        };
        Event::StepRecorded(Box::new(StepRecorded {
            step,
            tokens: 0,
            learning_rate: 0.0,
            mixture_version: 0,
            draws: Vec::new(),
            batch: Digest::ZERO,
            pre_step: PreStep {
                loss: 1.0,
                gradient_norm: 1.0,
                nonfinite_count: 0,
                losses: Vec::new(),
            },
            verdict: Verdict::Proceed,
            effective_clip: 1.0,
            step_us: 0,
            receipts: vec![receipt],
        }))
    }

    #[test]
    fn a_plugin_that_fails_is_told_once_and_its_quarantine_with_the_last_reason() {
        let (mut notices, none) = (Notices::default(), Bindings::new());
        let mut say = |event: &Event| notices.of(event, &none);
        assert!(say(&step(6, Outcome::Ok, Vec::new())).is_empty());
        let first = say(&step(7, Outcome::GuestError("no data".to_owned()), Vec::new()));
        assert_eq!(first.len(), 1);
        assert!(first[0].starts_with("plugin #1 failed at step 7") && first[0].contains("no data"));
        assert!(say(&step(8, Outcome::Trap("unreachable".to_owned()), Vec::new())).is_empty());
        let quarantined = BindingQuarantined { binding: BindingId(1), step: 9, faults: 2 };
        let said = say(&Event::BindingQuarantined(quarantined)).concat();
        assert!(said.contains("plugin #1 is quarantined: 2 faults in a row, the last: "), "{said}");
        assert!(said.contains("unreachable") && said.contains("from step 9"), "{said}");
    }

    #[test]
    fn a_decision_that_is_not_obeyed_is_told_once_with_the_reason() {
        let (mut notices, none) = (Notices::default(), Bindings::new());
        let refused = || vec![Effect::Refused { reason: "weight 0 is NaN".to_owned() }];
        let said = notices.of(&step(3, Outcome::Ok, refused()), &none);
        assert_eq!(said, ["what plugin #1 decided at step 3 is refused: weight 0 is NaN"]);
        assert!(notices.of(&step(4, Outcome::Ok, refused()), &none).is_empty());
    }
}
