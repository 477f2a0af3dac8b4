//! Which plugin calls a step causes, in which order, and what each is shown. The mentor makes these
//! calls live; an audit makes them again.

use crate::catalogue::is_per_layer;
use crate::event::{Hook, StepRecorded};
use crate::id::BindingId;
use crate::observe::{self, Seen};
use crate::plugin::{
    Column, DomainFacts, Observation, Observations, Request, RunFacts, Timing, World,
};
use crate::spec::{DomainSpec, RunSpec};
use crate::state::{Binding, RunState};
use crate::step::LossSums;

/// A call that a step causes: all of it but the state, which only the calls before it can give.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedCall {
    /// Whose call.
    pub binding: BindingId,
    /// Which function.
    pub hook: Hook,
    /// First event it sees.
    pub from_seq: u64,
    /// Last event it sees.
    pub to_seq: u64,
    /// Older observations left out.
    pub dropped: u64,
    shown: Shown,
}

#[derive(Clone, Debug, PartialEq)]
enum Shown {
    Gate { step: u64, pre_step: crate::step::PreStep },
    Observations { observations: Observations, timings: Option<Vec<Timing>> },
}

impl PlannedCall {
    /// Bytes of what is shown, about.
    pub(crate) fn bytes(&self) -> usize {
        match &self.shown {
            Shown::Gate { pre_step, .. } => pre_step.losses.len() * size_of::<LossSums>(),
            Shown::Observations { observations, .. } => {
                let column = |column: &Column| {
                    size_of::<Column>() + column.name.len() + column.values.len() * 16
                };
                let entry = |entry: &Observation| {
                    size_of::<Observation>()
                        + entry.shares.len() * 8
                        + entry.columns.iter().map(column).sum::<usize>()
                };
                observations.entries.iter().map(entry).sum()
            }
        }
    }

    /// The request, with the state it starts from.
    pub fn request(&self, state: Vec<u8>) -> Request {
        match (&self.shown, self.hook) {
            (Shown::Gate { step, pre_step }, _) => {
                Request::Gate { state, step: *step, pre_step: pre_step.clone() }
            }
            (Shown::Observations { observations, .. }, Hook::Step) => {
                Request::Step { state, observations: observations.clone() }
            }
            (Shown::Observations { observations, timings }, _) => {
                let (observations, timings) = (observations.clone(), timings.clone());
                Request::Watch { state, observations, timings }
            }
        }
    }
}

/// Calls of `gate`, in order of binding.
pub fn gates(state: &RunState, step: u64, pre_step: &crate::step::PreStep) -> Vec<PlannedCall> {
    // The gate is asked before the weights are measured; the step's own event comes after that.
    let seq = state.next_seq + u64::from(weights_due(state));
    called(state, step)
        .filter(|(_, binding)| binding.facts.world == World::Detector)
        .filter(|(_, binding)| binding.facts.description.gates)
        .map(|(&binding, _)| PlannedCall {
            binding,
            hook: Hook::Gate,
            from_seq: seq,
            to_seq: seq,
            dropped: 0,
            shown: Shown::Gate { step, pre_step: pre_step.clone() },
        })
        .collect()
}

/// Calls of `step` and `watch`, in order of binding, `recorded` being the step's own event.
pub fn folds(state: &RunState, recorded: &StepRecorded) -> Vec<PlannedCall> {
    let newest = observe::step(state, state.next_seq, recorded);
    called(state, recorded.step)
        .filter(|(_, binding)| due(binding, recorded.step))
        .filter_map(|(&id, binding)| Some(fold(state, id, binding, hook(binding)?, &newest)))
        .collect()
}

/// Whether the weights must be measured after the next step, before it is recorded: a binding that asks
/// for a column of them, active or shadow, is called with that step. Measured once, they are not due.
pub fn weights_due(state: &RunState) -> bool {
    let step = state.next_step;
    state.measured_at(step).is_empty()
        && called(state, step).any(|(_, binding)| {
            due(binding, step)
                && hook(binding).is_some()
                && binding.facts.description.columns.iter().any(|name| is_per_layer(name))
        })
}

/// The function that folds observations, if it has one.
pub(crate) fn hook(binding: &Binding) -> Option<Hook> {
    match binding.facts.world {
        World::Policy => Some(Hook::Step),
        World::Detector => binding.facts.description.watches.then_some(Hook::Watch),
    }
}

fn fold(
    state: &RunState,
    id: BindingId,
    binding: &Binding,
    hook: Hook,
    newest: &Seen,
) -> PlannedCall {
    let window = observe::window(state, binding, newest);
    PlannedCall {
        binding: id,
        hook,
        from_seq: window.from_seq,
        to_seq: window.to_seq,
        dropped: window.observations.dropped,
        shown: Shown::Observations { observations: window.observations, timings: window.timings },
    }
}

fn called(state: &RunState, step: u64) -> impl Iterator<Item = (&BindingId, &Binding)> {
    state.bindings.iter().filter(move |(_, binding)| binding.live && step >= binding.facts.step)
}

fn due(binding: &Binding, step: u64) -> bool {
    let every = u64::from(binding.facts.description.every_steps.max(1));
    (step - binding.facts.step + 1).is_multiple_of(every)
}

/// The request that makes a binding's first state.
pub fn init(spec: &RunSpec, step: u64, config: &str) -> Request {
    Request::Init {
        facts: run_facts(spec, step),
        domains: spec.domains.iter().map(domain_facts).collect(),
        config: config.to_owned(),
        artefacts: Vec::new(),
    }
}

fn run_facts(spec: &RunSpec, bound_at_step: u64) -> RunFacts {
    RunFacts {
        seed: spec.seed,
        steps: spec.training.steps,
        bound_at_step,
        tokens_per_step: spec.tokens_of(u64::from(spec.training.sequences_per_step)),
        sequence_length: spec.model.sequence_length,
        sequences_per_step: spec.training.sequences_per_step,
        parameters: spec.model.parameter_count(),
        learning_rate_peak: spec.schedule.peak,
        warmup_steps: spec.warmup_steps(),
    }
}

fn domain_facts(domain: &DomainSpec) -> DomainFacts {
    let digests: Vec<u8> = domain.segments.iter().flat_map(|segment| segment.digest.0).collect();
    let bytes: u64 = domain.segments.iter().map(|segment| segment.bytes).sum();
    DomainFacts {
        name: domain.name.clone(),
        content: crate::id::Digest::of(&digests),
        tokens: domain.tokens(),
        documents: domain.segments.iter().map(|segment| segment.documents).sum(),
        bytes_per_token: bytes as f64 / domain.tokens().max(1) as f64,
        prior: domain.prior,
        floor: domain.floor,
        cap: domain.cap,
        max_epochs: domain.max_epochs,
    }
}
