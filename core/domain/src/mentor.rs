//! The mentor: asks plugins, applies the host's rules, and says what happened as events.
//!
//! Two halves: `gate`, `decide` and `answer` make events and change nothing that the log decides;
//! `apply` folds them. In catch-up events come from the log and no plugin is called.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::batch::Batch;
use crate::calls::{self, PlannedCall};
use crate::command::Candidate;
use crate::effects::gate_verdict;
use crate::event::*;
use crate::follow;
use crate::id::{BindingId, Digest};
use crate::limits;
use crate::made::{self, Answer, StepFacts, StepMade};
use crate::plugin::{Output, Plugins, Reply};
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
    gate_answers: Vec<Answer>,
}

impl Mentor {
    /// A mentor that goes on from `state`. States of live bindings are given with [`Mentor::restore`].
    pub fn new(state: RunState, plugins: Arc<dyn Plugins>) -> Mentor {
        Mentor { state, plugin_states: BTreeMap::new(), plugins, gate_answers: Vec::new() }
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
        let Mentor { state, plugin_states, plugins, gate_answers } = self;
        gate_answers.clear();
        let mut verdicts = Vec::new();
        for call in calls::gates(state, state.next_step, pre_step) {
            let answer = asked(state, plugin_states, &**plugins, &call);
            verdicts.push((call.binding, answer.output.clone()));
            gate_answers.push(answer);
        }
        gate_verdict(state, verdicts.iter().map(|(binding, output)| (*binding, output)))
    }

    /// What follows from a trained step: its event with all receipts, then quarantines and kept states.
    ///
    /// # Errors
    /// When what the sampler drew or the trainer did is not what follows from the log, in a sentence.
    pub fn decide(&mut self, batch: &Batch, report: &TrainReport) -> Result<Decided, String> {
        let mut gates = std::mem::take(&mut self.gate_answers).into_iter();
        let Mentor { state, plugin_states, plugins, .. } = self;
        let facts = StepFacts::of(batch, report);
        let StepMade { recorded, .. } = made::step(state, &facts, |call| match call.hook {
            // It was asked while the step was trained.
            Hook::Gate => {
                gates.next().unwrap_or_else(|| asked(state, plugin_states, &**plugins, call))
            }
            Hook::Step | Hook::Watch => asked(state, plugin_states, &**plugins, call),
        });
        check(&recorded, batch, report)?;
        let follows = follow::after_step(&self.state, &recorded);
        let states = self.bytes_of(&follows);
        let mut events = vec![Event::StepRecorded(Box::new(recorded))];
        events.extend(follows);
        Ok(Decided { events, states })
    }

    /// Kept states of all live bindings, as a checkpoint wants them.
    pub fn keep_states(&self) -> Decided {
        let events: Vec<Event> = follow::states(&self.state).map(Event::PluginStateSaved).collect();
        let states = self.bytes_of(&events);
        Decided { events, states }
    }

    /// The states that are kept among `events`.
    fn bytes_of(&self, events: &[Event]) -> Vec<Vec<u8>> {
        let kept = events.iter().filter_map(|event| match event {
            Event::PluginStateSaved(saved) => self.plugin_states.get(&saved.binding).cloned(),
            _ => None,
        });
        kept.collect()
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

/// Makes one call. Only `ok` advances the plugin's state.
fn asked(
    state: &RunState,
    plugin_states: &mut BTreeMap<BindingId, Vec<u8>>,
    plugins: &dyn Plugins,
    call: &PlannedCall,
) -> Answer {
    let before = plugin_states[&call.binding].clone();
    let state_before = Digest::of(&before);
    let plugin = &state.bindings[&call.binding].facts.plugin;
    let Reply { outcome, fuel, value } = plugins.call(plugin, &call.request(before));
    let (state_after, output) = match value {
        Some((after, output)) => {
            let digest = Digest::of(&after);
            plugin_states.insert(call.binding, after);
            (digest, output)
        }
        None => (state_before, Output::Nothing),
    };
    Answer { outcome, fuel, output, state_after }
}

/// Whether what was drawn and trained is what the log now says of it.
fn check(recorded: &StepRecorded, batch: &Batch, report: &TrainReport) -> Result<(), String> {
    let step = recorded.step;
    if batch.draws != recorded.draws {
        let (drawn, due) = (&batch.draws, &recorded.draws);
        return Err(format!("step {step} drew {drawn:?}, but {due:?} follows from the log"));
    }
    let did = (report.verdict, report.effective_clip);
    let due = (recorded.verdict, recorded.effective_clip);
    if !report.pre_step.has_bits_of(&recorded.pre_step) || did != due {
        let (shown, seen) = (&report.pre_step, &recorded.pre_step);
        return Err(format!(
            "step {step} showed {shown:?} and was trained under {did:?}, but {seen:?} and {due:?} follow \
             from the log"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
