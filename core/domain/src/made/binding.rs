//! A plugin bound, as a wish asked for it.

use crate::command::Candidate;
use crate::event::*;
use crate::follow::BindingAsked;
use crate::id::{BindingId, Digest};
use crate::state::RunState;

/// Faults in a row that quarantine a binding.
const QUARANTINE_AFTER: u32 = 5;

/// What is known of a plugin once it has made its first state: all that a wish to bind it does not say.
#[derive(Clone, Debug, PartialEq)]
pub struct FirstState {
    /// The plugin.
    pub candidate: Candidate,
    /// Its first state.
    pub state: Digest,
    /// Fuel that it took.
    pub fuel: u64,
}

impl FirstState {
    /// Of a binding on record.
    pub(crate) fn of_recorded(bound: &BindingChanged) -> FirstState {
        let BindingChanged { plugin, world, engine, initial_state, initial_fuel, .. } = *bound;
        let candidate = Candidate {
            plugin,
            world,
            interface: bound.interface.clone(),
            description: bound.description.clone(),
            engine,
            limits: bound.limits.clone(),
        };
        FirstState { candidate, state: initial_state, fuel: initial_fuel }
    }
}

/// The binding that was asked for.
pub(crate) fn bound(state: &RunState, asked: &BindingAsked, first: FirstState) -> BindingChanged {
    let FirstState { candidate, state: initial_state, fuel: initial_fuel } = first;
    BindingChanged {
        binding: BindingId(state.bindings.len() as u32),
        change: BindingChange::Bound,
        step: state.next_step,
        role: asked.role,
        plugin: candidate.plugin,
        world: candidate.world,
        interface: candidate.interface,
        description: candidate.description,
        config_digest: Digest::of(asked.config.as_bytes()),
        config: asked.config.clone(),
        engine: candidate.engine,
        limits: candidate.limits,
        failure: asked.failure,
        quarantine_after: QUARANTINE_AFTER,
        initial_state,
        initial_fuel,
        by: asked.by.clone(),
    }
}

/// A binding that is called no more: for `by`, where another takes its place.
pub(crate) fn released(
    state: &RunState,
    facts: &BindingChanged,
    by: Option<&str>,
) -> BindingChanged {
    let by = by.map_or_else(|| facts.by.clone(), str::to_owned);
    let (change, step) = (BindingChange::Released, state.next_step);
    BindingChanged { change, step, by, ..facts.clone() }
}
