//! What must follow: events that a step, an answer or a kept state asks for, in their order. Live they are
//! made here, and the fold remembers what is owed, so that an audit misses what does not come.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::command::{Asked, Command};
use crate::event::*;
use crate::id::{BindingId, Digest};
use crate::knobs;
use crate::made;
use crate::mentor::CALLS_PER_KEPT_STATE;
use crate::plugin::Outcome;
use crate::spec::PluginSpec;
use crate::state::{Binding, Phase, RunState};

/// Number of a command that no inbox held: the run file's own wish.
pub const BY_RUN_FILE: u64 = 0;
/// Who asks for what stands in the run file.
pub const RUN_FILE: &str = "run file";

impl PluginSpec {
    /// The wish that a run file's plugin is.
    pub fn wish(&self) -> Command {
        let PluginSpec { plugin, config, role, failure, .. } = self.clone();
        Command::Bind { plugin, config, role, failure, reason: String::new() }
    }
}

/// A wish to bind that is obeyed: what it says of the binding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BindingAsked {
    /// The plugin, as it is named.
    pub(crate) plugin: String,
    /// Its digest, where the run file knows it.
    pub(crate) digest: Option<Digest>,
    /// Configuration as JSON text.
    pub(crate) config: String,
    pub(crate) role: Role,
    pub(crate) failure: FailurePolicy,
    pub(crate) by: String,
}

/// What the log so far asks of what comes next.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Owed {
    /// Events that must come next, in this order.
    pub(crate) events: VecDeque<Event>,
    /// A binding that must come next.
    pub(crate) binding: Option<BindingAsked>,
    /// Whether the states of all live bindings are being kept.
    keeping: bool,
    /// Whether those of this boundary are kept.
    pub(crate) states_kept: bool,
    /// Plugins of the run file that must be bound before the first step.
    pub(crate) to_bind: VecDeque<PluginSpec>,
    /// A way back that must come next.
    pub(crate) rollback: Option<RollbackAsked>,
}

/// A wish to go back that is obeyed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RollbackAsked {
    pub(crate) to: u64,
    pub(crate) skip_data: bool,
    pub(crate) reason: String,
    pub(crate) by: String,
}

impl Owed {
    /// Of a run that is to bind these first.
    pub(crate) fn begin(to_bind: impl IntoIterator<Item = PluginSpec>) -> Owed {
        Owed { to_bind: to_bind.into_iter().collect(), ..Owed::default() }
    }

    /// Whether it says nothing.
    pub(crate) fn is_nothing(&self) -> bool {
        *self == Owed::default()
    }
}

/// What comes right after a step: quarantines, and states kept since a binding was called so often.
pub(crate) fn after_step(state: &RunState, step: &StepRecorded) -> Vec<Event> {
    let mut calls: BTreeMap<BindingId, (u64, Digest)> = BTreeMap::new();
    for receipt in &step.receipts {
        let (count, after) = calls.entry(receipt.binding).or_insert((0, receipt.state_after));
        (*count, *after) = (*count + 1, receipt.state_after);
    }
    let next_step = step.step.saturating_add(1);
    let mut events = Vec::new();
    for (id, faults) in state.faults_after(&step.receipts) {
        let (Some(binding), Some(&(more, after))) = (state.bindings.get(&id), calls.get(&id))
        else {
            continue;
        };
        let count = binding.calls + more;
        if faults >= binding.facts.quarantine_after {
            let quarantined = BindingQuarantined { binding: id, step: next_step, faults };
            events.push(Event::BindingQuarantined(quarantined));
        } else if count / CALLS_PER_KEPT_STATE > binding.calls / CALLS_PER_KEPT_STATE {
            let saved =
                PluginStateSaved { binding: id, step: next_step, calls: count, state: after };
            events.push(Event::PluginStateSaved(saved));
        }
    }
    events
}

/// The states of all live bindings, as a checkpoint wants them kept.
pub(crate) fn states(state: &RunState) -> impl Iterator<Item = PluginStateSaved> {
    let live = state.bindings.iter().filter(|(_, binding)| binding.live);
    live.map(|(&id, binding)| PluginStateSaved {
        binding: id,
        step: state.next_step,
        calls: binding.calls,
        state: binding.state,
    })
}

/// Why a wish is refused, as far as the log can tell; whether a plugin can be bound is its worker's to
/// say.
pub(crate) fn refusal(
    state: &RunState,
    command: &Command,
    (by, waited_s): (&str, u64),
) -> Option<String> {
    if let Some(expired) = Asked::expiry(waited_s) {
        return Some(expired);
    }
    if let Some(turned) = knobs::turned(state, command, by) {
        return turned.err();
    }
    if let Err(reason) = command.check(&state.spec) {
        return Some(reason);
    }
    match (command, state.phase == Phase::Paused) {
        (Command::Pause { .. }, true) => Some("the run is paused already".to_owned()),
        (Command::Resume { .. }, false) => Some("the run is not paused".to_owned()),
        (Command::Release { binding, .. }, _) => {
            let is_live = state.bindings.get(binding).is_some_and(|bound| bound.live);
            (!is_live).then(|| format!("no live binding {binding}"))
        }
        _ => None,
    }
}

/// The event by which a wish that is obeyed takes effect, if it is one event that follows from it.
pub(crate) fn effect(state: &RunState, command: &Command, by: &str) -> Option<Event> {
    let step = state.next_step;
    match command {
        Command::Pause { .. } => Some(Event::RunPaused(RunPaused { step })),
        Command::Resume { .. } => Some(Event::RunContinued(RunContinued { step })),
        Command::Release { binding, .. } => {
            let facts = &state.bindings.get(binding)?.facts;
            Some(Event::BindingChanged(Box::new(made::released(state, facts, None))))
        }
        // The run loop saves a checkpoint, and then the run ends.
        Command::Stop { .. } | Command::Bind { .. } | Command::Rollback { .. } => None,
        turning => knobs::turned(state, turning, by)?.ok(),
    }
}

impl BindingAsked {
    /// Of a wish; `number` is what it was in the inbox.
    pub(crate) fn of(
        state: &RunState,
        command: &Command,
        (number, by): (u64, &str),
    ) -> Option<Self> {
        let Command::Bind { plugin, config, role, failure, .. } = command else { return None };
        let of_file = state.owed.to_bind.front();
        Some(BindingAsked {
            plugin: plugin.clone(),
            digest: of_file.filter(|_| number == BY_RUN_FILE).map(|plugin| plugin.digest),
            config: config.to_string(),
            role: *role,
            failure: *failure,
            by: by.to_owned(),
        })
    }

    /// Whether the wish can mean this plugin: by its digest, its first digits, its name, or both names.
    pub(crate) fn means(&self, bound: &BindingChanged) -> bool {
        let BindingChanged { plugin, description, .. } = bound;
        let (name, version) = (&description.name, &description.version);
        let called = self.plugin == *name
            || self.plugin.strip_prefix(name.as_str()).and_then(|rest| rest.strip_prefix('@'))
                == Some(version.as_str());
        match self.digest {
            Some(digest) => digest == *plugin,
            None if called => true,
            None => {
                let digits = self.plugin.to_ascii_lowercase();
                Digest::may_begin_with(&digits) && plugin.to_string().starts_with(&digits)
            }
        }
    }
}

impl RunState {
    /// The policies that are obeyed: at most one, since binding another releases it first.
    pub fn active_policies(&self) -> impl Iterator<Item = &Binding> {
        self.bindings.values().filter(|binding| {
            binding.live
                && binding.facts.role == Role::Active
                && binding.facts.world == crate::plugin::World::Policy
        })
    }

    /// Steps in a row with a fault, of each binding that `receipts` of the next step call. A good call
    /// of one hook does not make up for a fault of another in the same step. A call that the machine could
    /// not make counts neither way.
    pub(crate) fn faults_after(&self, receipts: &[Receipt]) -> BTreeMap<BindingId, u32> {
        let mut faults = BTreeMap::new();
        for receipt in receipts {
            let Some(binding) = self.bindings.get(&receipt.binding) else { continue };
            let before = binding.faults;
            let count = faults.entry(receipt.binding).or_insert(0);
            if receipt.outcome.is_fault() {
                *count = before.saturating_add(1);
            } else if receipt.outcome != Outcome::Ok {
                *count = before.max(*count);
            }
        }
        faults
    }

    /// Remembers what `event` owes and settles what was owed; `self` is still the state before it.
    pub(crate) fn follow(&mut self, event: &Event) {
        let was_owed = self.owed.events.front().is_some_and(|due| due.kind() == event.kind());
        if was_owed {
            self.owed.events.pop_front();
        }
        match event {
            Event::StepRecorded(step) => {
                self.owed.events = after_step(self, step).into();
                (self.owed.keeping, self.owed.states_kept) = (false, false);
            }
            Event::CommandAnswered(answered) => self.follow_answer(answered),
            Event::BindingChanged(bound) if bound.change == BindingChange::Bound => {
                self.owed.binding = None;
                self.owed.events.push_back(Event::PluginStateSaved(PluginStateSaved {
                    binding: bound.binding,
                    step: bound.step,
                    calls: 0,
                    state: bound.initial_state,
                }));
            }
            Event::PluginStateSaved(saved) if !was_owed => {
                let others: Vec<Event> = states(self)
                    .filter(|other| other.binding > saved.binding)
                    .map(Event::PluginStateSaved)
                    .collect();
                (self.owed.events, self.owed.keeping) = (others.into(), true);
            }
            Event::RolledBack(_) => self.owed.rollback = None,
            // Whoever was keeping them is gone.
            Event::RunResumed(_) | Event::RunInterrupted(_) if self.owed.keeping => {
                self.owed.events.clear();
                self.owed.keeping = false;
            }
            _ => {}
        }
        if self.owed.keeping && self.owed.events.is_empty() {
            (self.owed.keeping, self.owed.states_kept) = (false, true);
        }
    }

    fn follow_answer(&mut self, answered: &CommandAnswered) {
        let CommandAnswered { command: number, asked, by, refusal, .. } = answered;
        if refusal.is_some() {
            return;
        }
        let Ok(command) = serde_json::from_str::<Command>(asked) else { return };
        self.owed.binding = BindingAsked::of(self, &command, (*number, by));
        if let Command::Rollback { to, skip_data, reason } = &command {
            let (to, skip_data) = (*to, *skip_data);
            let (reason, by) = (reason.clone(), by.clone());
            self.owed.rollback = Some(RollbackAsked { to, skip_data, reason, by });
        }
        self.owed.events.extend(effect(self, &command, by));
        if *number == BY_RUN_FILE {
            self.owed.to_bind.pop_front();
        }
    }

    /// Whether the states of all live bindings are kept as they are now.
    pub(crate) fn states_are_kept(&self) -> bool {
        self.owed.states_kept || !self.bindings.values().any(|binding| binding.live)
    }

    /// Whether held-out losses must be looked at before the run goes on, or ends as completed.
    pub fn validation_is_due(&self) -> bool {
        let every = self.spec.validation.every_steps;
        if self.validated == Some(self.next_step) {
            return false;
        }
        match self.ending_due() {
            Some(due) => due.ending == Ending::Completed,
            None => {
                self.next_step == 0
                    || self.validation_due
                    || (every > 0 && self.next_step.is_multiple_of(every))
            }
        }
    }
}
