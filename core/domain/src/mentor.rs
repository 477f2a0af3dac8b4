//! The mentor: asks plugins, applies the host's rules, and says what happened as events.
//!
//! Two halves: `gate`, `decide` and `answer` make events and change nothing that the log decides;
//! `apply` folds them. In catch-up events come from the log and no plugin is called.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::batch::Batch;
use crate::calls::{self, PlannedCall};
use crate::command::Candidate;
use crate::effects::{effects, gate_verdict};
use crate::event::*;
use crate::id::{BindingId, Digest};
use crate::limits;
use crate::plugin::{Output, Plugins};
use crate::state::RunState;
use crate::step::{Knobs, PreStep, TrainReport, Verdict};

/// Calls between two kept states of a binding: what an audit segment costs at most.
pub const CALLS_PER_KEPT_STATE: u64 = 1024;

/// Events to be chained and applied, and the states they name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decided {
    /// In order.
    pub events: Vec<Event>,
    /// Plugin states named by `PluginStateSaved` among the events.
    pub states: Vec<Vec<u8>>,
}

/// One live run: its state, the plugins' states, and the port that calls them.
pub struct Mentor {
    state: RunState,
    plugin_states: BTreeMap<BindingId, Vec<u8>>,
    plugins: Arc<dyn Plugins>,
    gate_receipts: Vec<Receipt>,
}

impl Mentor {
    /// A mentor that goes on from `state`. States of live bindings are given with [`Mentor::restore`].
    pub fn new(state: RunState, plugins: Arc<dyn Plugins>) -> Mentor {
        Mentor { state, plugin_states: BTreeMap::new(), plugins, gate_receipts: Vec::new() }
    }

    /// The run as the log says it is.
    pub fn state(&self) -> &RunState {
        &self.state
    }

    /// Gives a binding its state back.
    ///
    /// # Panics
    /// When the bytes are not those the log names: the caller has checked them.
    pub fn restore(&mut self, binding: BindingId, bytes: Vec<u8>) {
        assert_eq!(Digest::of(&bytes), self.state.bindings[&binding].state, "state of {binding}");
        self.plugin_states.insert(binding, bytes);
    }

    /// Folds an event that has been chained.
    pub fn apply(&mut self, event: &Event) {
        self.state.apply(event);
    }

    /// What the log says the next step is trained under.
    pub fn knobs(&self) -> Knobs {
        self.state.knobs()
    }

    /// What must be recorded before the next step is drawn: its mixture, where a domain's epochs run
    /// out.
    pub fn hold(&self) -> Decided {
        let limited = limits::held(&self.state).map(Event::MixtureLimited);
        Decided { events: limited.into_iter().collect(), states: Vec::new() }
    }

    /// Whether the weights must be measured after the next step, and that recorded, before
    /// [`Mentor::decide`].
    pub fn weights_due(&self) -> bool {
        calls::weights_due(&self.state)
    }

    /// Asks the gates about the step being trained. Their receipts wait for [`Mentor::decide`].
    pub fn gate(&mut self, pre_step: &PreStep) -> Verdict {
        self.gate_receipts.clear();
        for call in calls::gates(&self.state, self.state.next_step, pre_step) {
            let receipt = self.call(&call);
            self.gate_receipts.push(receipt);
        }
        gate_verdict(&self.state, &self.gate_receipts)
    }

    /// What follows from a trained step: its event with all receipts, then quarantines and kept states.
    pub fn decide(&mut self, batch: &Batch, knobs: &Knobs, report: TrainReport) -> Decided {
        let tokens: u64 = report.pre_step.losses.iter().map(|sums| sums.tokens).sum();
        let mut recorded = StepRecorded {
            step: self.state.next_step,
            tokens: self.state.tokens + tokens,
            learning_rate: knobs.learning_rate,
            mixture_version: self.state.mixture.version,
            draws: batch.draws.clone(),
            batch: batch.digest(),
            pre_step: report.pre_step,
            verdict: report.verdict,
            effective_clip: report.effective_clip,
            step_us: report.step_us,
            receipts: std::mem::take(&mut self.gate_receipts),
        };
        for call in calls::folds(&self.state, &recorded) {
            recorded.receipts.push(self.call(&call));
        }
        let mut receipts = std::mem::take(&mut recorded.receipts);
        for receipt in &mut receipts {
            receipt.effects = effects(&self.state, &recorded, receipt);
        }
        recorded.receipts = receipts;
        self.follow_up(recorded)
    }

    /// Makes one call. Only `ok` advances the plugin's state.
    fn call(&mut self, call: &PlannedCall) -> Receipt {
        let binding = &self.state.bindings[&call.binding];
        let before = self.plugin_states[&call.binding].clone();
        let state_before = Digest::of(&before);
        let reply = self.plugins.call(&binding.facts.plugin, &call.request(before));
        let (state_after, output) = match reply.value {
            Some((after, output)) => {
                let digest = Digest::of(&after);
                self.plugin_states.insert(call.binding, after);
                (digest, output)
            }
            None => (state_before, Output::Nothing),
        };
        Receipt {
            binding: call.binding,
            hook: call.hook,
            from_seq: call.from_seq,
            to_seq: call.to_seq,
            dropped: call.dropped,
            state_before,
            state_after,
            outcome: reply.outcome,
            fuel: reply.fuel,
            output,
            effects: Vec::new(),
        }
    }

    fn follow_up(&mut self, recorded: StepRecorded) -> Decided {
        let next_step = recorded.step + 1;
        let mut decided = Decided::default();
        let faults = self.state.faults_after(&recorded.receipts);
        let mut calls: BTreeMap<BindingId, u64> = BTreeMap::new();
        for receipt in &recorded.receipts {
            *calls.entry(receipt.binding).or_default() += 1;
        }
        decided.events.push(Event::StepRecorded(Box::new(recorded)));
        for (id, faults) in faults {
            let binding = &self.state.bindings[&id];
            let calls = binding.calls + calls[&id];
            if faults >= binding.facts.quarantine_after {
                let quarantined = BindingQuarantined { binding: id, step: next_step, faults };
                decided.events.push(Event::BindingQuarantined(quarantined));
            } else if calls / CALLS_PER_KEPT_STATE > binding.calls / CALLS_PER_KEPT_STATE {
                self.keep_state(&mut decided, id, calls, next_step);
            }
        }
        decided
    }

    /// Kept states of all live bindings, as a checkpoint wants them.
    pub fn keep_states(&self) -> Decided {
        let mut decided = Decided::default();
        for (&id, binding) in &self.state.bindings {
            if binding.live {
                self.keep_state(&mut decided, id, binding.calls, self.state.next_step);
            }
        }
        decided
    }

    fn keep_state(&self, decided: &mut Decided, binding: BindingId, calls: u64, step: u64) {
        let bytes = self.plugin_states[&binding].clone();
        let state = Digest::of(&bytes);
        decided.events.push(Event::PluginStateSaved(PluginStateSaved {
            binding,
            step,
            calls,
            state,
        }));
        decided.states.push(bytes);
    }

    /// First state of a plugin that is to be bound, and what it took.
    pub(crate) fn begin(
        &self,
        candidate: &Candidate,
        config: &str,
    ) -> Result<(Vec<u8>, u64), String> {
        let here = (&self.state.spec, self.state.next_step);
        candidate.begin(&*self.plugins, here, config)
    }

    /// Takes in the first state of a binding that is being made.
    pub(crate) fn adopt(&mut self, binding: BindingId, bytes: Vec<u8>) {
        self.plugin_states.insert(binding, bytes);
    }
}

#[cfg(test)]
mod tests;
