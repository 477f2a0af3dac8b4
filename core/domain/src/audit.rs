//! Audit of decisions: which plugin calls a log claims, whether the host's part follows from the log,
//! and what executing a call again shows. Reading, threads and reporting belong to the caller.

mod attempts;
mod host;
mod shape;

use std::collections::BTreeMap;

use serde::Serialize;

use self::attempts::Attempts;
use self::host::{
    check_ending, check_held, check_measured, check_place, check_start, check_step, check_turned,
    host,
};
use crate::calls::{self, PlannedCall};
use crate::effects::effects;
use crate::event::*;
use crate::id::{BindingId, Digest};
use crate::plugin::{Output, Plugins, Request};
use crate::settings::shown;
use crate::state::{Phase, RunState};

/// One place where the log and its re-execution differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Divergence {
    /// Event that says something else.
    pub seq: u64,
    /// Its step, if any.
    pub step: Option<u64>,
    /// Plugin concerned, as name@version, or `host`.
    pub plugin: String,
    /// What differs.
    pub what: String,
    /// What the log says.
    pub logged: String,
    /// What follows or was computed.
    pub found: String,
}

/// What executing calls again has shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Proofs {
    /// Calls that gave the same bytes.
    pub proved: u64,
    /// Calls that ended in a way nobody can repeat.
    pub not_provable: u64,
    /// Calls that gave something else.
    pub diverged: u64,
    /// The earliest of those.
    pub first: Option<Divergence>,
}

impl Proofs {
    /// Adds another part's results.
    pub fn add(&mut self, other: Proofs) {
        self.proved += other.proved;
        self.not_provable += other.not_provable;
        self.diverged += other.diverged;
        self.first = [self.first.take(), other.first]
            .into_iter()
            .flatten()
            .min_by_key(|divergence| divergence.seq);
    }

    /// Records a divergence.
    pub fn diverge(&mut self, divergence: Divergence) {
        self.add(Proofs { diverged: 1, first: Some(divergence), ..Proofs::default() });
    }
}

/// Where a segment's first state comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum Start {
    /// From `init`, called again.
    Init(Box<Request>),
    /// From a kept state of this digest.
    Kept(Digest),
}

/// Calls of one binding between two kept states: checkable alone.
#[derive(Clone, Debug, PartialEq)]
pub struct Segment {
    /// SHA-256 of the component.
    pub plugin: Digest,
    /// Engine that the log was made under.
    pub engine: Digest,
    /// Where it starts.
    pub start: Start,
    name: String,
    start_seq: u64,
    start_state: Digest,
    calls: Vec<(u64, PlannedCall, Receipt)>,
}

impl Segment {
    fn new(seq: u64, binding: &BindingChanged, start: Start, start_state: Digest) -> Segment {
        let description = &binding.description;
        Segment {
            plugin: binding.plugin,
            engine: binding.engine,
            start,
            name: format!("{}@{}", description.name, description.version),
            start_seq: seq,
            start_state,
            calls: Vec::new(),
        }
    }

    /// Executes the calls again. `kept` holds the bytes of a kept start; `engine` is the auditor's own.
    pub fn execute(&self, plugins: &dyn Plugins, kept: Option<Vec<u8>>, engine: Digest) -> Proofs {
        let mut proofs = Proofs::default();
        let same_engine = engine == self.engine;
        let Some(mut state) = self.first_state(plugins, kept, engine, &mut proofs) else {
            return proofs;
        };
        for (index, (seq, call, receipt)) in self.calls.iter().enumerate() {
            if !receipt.outcome.provable(same_engine) {
                proofs.not_provable += 1;
                continue;
            }
            let reply = plugins.call(&self.plugin, &call.request(state.clone()));
            if !reply.outcome.provable(same_engine) && reply.outcome != receipt.outcome {
                // The auditor's machine is at fault: what follows cannot be shown either way.
                proofs.not_provable += (self.calls.len() - index) as u64;
                return proofs;
            }
            let (after, output) = match reply.value {
                Some(value) => value,
                None => (state.clone(), Output::Nothing),
            };
            let differences = [
                ("outcome", format!("{:?}", receipt.outcome), format!("{:?}", reply.outcome)),
                ("output", format!("{:?}", receipt.output), format!("{output:?}")),
                ("state after", receipt.state_after.to_string(), Digest::of(&after).to_string()),
            ];
            match differences.into_iter().find(|(_, logged, found)| logged != found) {
                None => proofs.proved += 1,
                Some((what, logged, found)) => {
                    proofs.diverge(self.divergence(*seq, Some(call), what, logged, found));
                    // What follows would start from another state: its own segment decides again.
                    return proofs;
                }
            }
            if same_engine && receipt.fuel != reply.fuel {
                let (logged, found) = (receipt.fuel.to_string(), reply.fuel.to_string());
                proofs.diverge(self.divergence(*seq, Some(call), "fuel", logged, found));
            }
            state = after;
        }
        proofs
    }

    fn first_state(
        &self,
        plugins: &dyn Plugins,
        kept: Option<Vec<u8>>,
        engine: Digest,
        proofs: &mut Proofs,
    ) -> Option<Vec<u8>> {
        let bytes = match &self.start {
            Start::Init(request) => {
                let reply = plugins.call(&self.plugin, request);
                if !reply.outcome.provable(engine == self.engine) {
                    proofs.not_provable += 1 + self.calls.len() as u64;
                    return None;
                }
                reply.value.map(|(state, _)| state)
            }
            Start::Kept(_) => kept,
        };
        let found = bytes.as_deref().map(Digest::of);
        if found == Some(self.start_state) {
            if matches!(self.start, Start::Init(_)) {
                proofs.proved += 1;
            }
            return bytes;
        }
        let found = found.map_or("nothing".to_owned(), |digest| digest.to_string());
        let logged = self.start_state.to_string();
        proofs.diverge(self.divergence(self.start_seq, None, "first state", logged, found));
        None
    }

    fn divergence(
        &self,
        seq: u64,
        call: Option<&PlannedCall>,
        what: &str,
        logged: String,
        found: String,
    ) -> Divergence {
        let what = match call {
            Some(call) => format!("{what} of {:?}, binding {}", call.hook, call.binding),
            None => what.to_owned(),
        };
        Divergence { seq, step: None, plugin: self.name.clone(), what, logged, found }
    }
}

/// Folds a run's log, checks the host's part at once, and cuts the plugins' part into segments.
#[derive(Default)]
pub struct DecisionAudit {
    state: Option<RunState>,
    open: BTreeMap<BindingId, Segment>,
    /// The event that the wish just answered must be followed by.
    due: Option<Event>,
    attempts: Attempts,
    /// Whether an event was met that says nothing: what follows cannot be judged.
    lost: bool,
}

impl DecisionAudit {
    /// Folds the next event: what the host did otherwise than it must, and segments that are complete.
    ///
    /// Takes any log. After an event that cannot be folded, which is named, it judges nothing more.
    pub fn fold(&mut self, recorded: &Recorded) -> (Vec<Divergence>, Vec<Segment>) {
        if self.lost {
            return (Vec::new(), Vec::new());
        }
        let Some(state) = &mut self.state else { return (self.start(recorded), Vec::new()) };
        if let Some(wrong) = shape::wrong(state, &recorded.event) {
            self.lost = true;
            let logged = shown(&format!("{:?}", recorded.event));
            return (vec![host(recorded, "shape of the event", logged, wrong)], Vec::new());
        }
        let mut found = Vec::new();
        let mut complete = Vec::new();
        if state.next_seq != recorded.seq {
            let (logged, due) = (recorded.seq.to_string(), state.next_seq.to_string());
            found.push(host(recorded, "seq", logged, due));
            state.next_seq = recorded.seq;
        }
        check_place(state, recorded, &mut found);
        check_turned(state, &mut self.due, recorded, &mut found);
        check_held(state, recorded, &mut found);
        check_ending(state, recorded, &mut found);
        if !self.attempts.fold(state, recorded, &mut found) {
            self.lost = true;
            return (found, Vec::new());
        }
        match &recorded.event {
            Event::StepRecorded(step) => {
                check_step(state, recorded, step, &mut found);
                self.claim_calls(recorded, step, &mut found);
            }
            Event::WeightsMeasured(measured) => {
                check_measured(state, recorded, measured, &mut found);
            }
            Event::BindingChanged(changed) if changed.change == BindingChange::Bound => {
                let request = calls::init(&state.spec, changed.step, &changed.config);
                let start = Start::Init(Box::new(request));
                let segment = Segment::new(recorded.seq, changed, start, changed.initial_state);
                self.open.insert(changed.binding, segment);
            }
            Event::PluginStateSaved(saved) => {
                if let Some(binding) = state.bindings.get(&saved.binding) {
                    if binding.state != saved.state {
                        let (logged, due) = (saved.state.to_string(), binding.state.to_string());
                        found.push(host(recorded, "kept state", logged, due));
                    }
                    let start = Start::Kept(saved.state);
                    let next = Segment::new(recorded.seq, &binding.facts, start, saved.state);
                    complete.extend(self.open.insert(saved.binding, next));
                }
            }
            _ => {}
        }
        if let Some(state) = &mut self.state {
            state.apply(&recorded.event);
        }
        if let Event::RolledBack(_) = &recorded.event {
            complete.extend(std::mem::take(&mut self.open).into_values());
            self.open_kept(recorded.seq);
        }
        complete
            .retain(|segment| !segment.calls.is_empty() || matches!(segment.start, Start::Init(_)));
        (found, complete)
    }

    /// Opens a segment for every live binding that goes on from a kept state, without having been bound
    /// here: after a rollback, and in a fork.
    fn open_kept(&mut self, seq: u64) {
        let Some(state) = &self.state else { return };
        for (&id, binding) in state.bindings.iter().filter(|(_, binding)| binding.live) {
            let start = Start::Kept(binding.state);
            self.open.insert(id, Segment::new(seq, &binding.facts, start, binding.state));
        }
    }

    /// The state before the second event.
    fn start(&mut self, recorded: &Recorded) -> Vec<Divergence> {
        let mut found = Vec::new();
        let started = RunState::start(&recorded.event).map_err(|error| error.to_string());
        match started.and_then(|state| match shape::wrong_start(&state) {
            Some(wrong) => Err(wrong),
            None => Ok(state),
        }) {
            Ok(state) => {
                check_start(&state, recorded, &mut found);
                self.state = Some(state);
                self.open_kept(recorded.seq);
            }
            Err(wrong) => {
                self.lost = true;
                let logged = shown(&format!("{:?}", recorded.event));
                found.push(host(recorded, "start of the run", logged, wrong));
            }
        }
        found
    }

    /// Whether the log says that the run has ended.
    pub fn has_ended(&self) -> bool {
        self.state.as_ref().is_some_and(|state| matches!(state.phase, Phase::Finished(_)))
    }

    /// Segments that no kept state has closed.
    pub fn finish(self) -> Vec<Segment> {
        self.open.into_values().filter(|segment| !segment.calls.is_empty()).collect()
    }

    /// Compares the calls that a step must cause with its receipts, and files them for execution.
    fn claim_calls(
        &mut self,
        recorded: &Recorded,
        step: &StepRecorded,
        found: &mut Vec<Divergence>,
    ) {
        let Some(state) = &self.state else { return };
        let mut planned = calls::gates(state, step.step, &step.pre_step);
        planned.extend(calls::folds(state, step));
        if planned.len() != step.receipts.len() {
            let (logged, due) = (step.receipts.len().to_string(), planned.len().to_string());
            found.push(host(recorded, "number of plugin calls", logged, due));
            return;
        }
        let mut states: BTreeMap<BindingId, Digest> = BTreeMap::new();
        for (call, receipt) in planned.into_iter().zip(&step.receipts) {
            let before =
                *states.entry(call.binding).or_insert_with(|| state.bindings[&call.binding].state);
            let due = (call.binding, call.hook, call.from_seq, call.to_seq, call.dropped, before);
            let logged = (
                receipt.binding,
                receipt.hook,
                receipt.from_seq,
                receipt.to_seq,
                receipt.dropped,
                receipt.state_before,
            );
            if due != logged {
                let text = (format!("{logged:?}"), format!("{due:?}"));
                found.push(host(recorded, "what a plugin was shown", text.0, text.1));
                continue;
            }
            states.insert(call.binding, receipt.state_after);
            let due = effects(state, step, receipt);
            if due != receipt.effects {
                let text = (format!("{:?}", receipt.effects), format!("{due:?}"));
                let mut divergence = host(recorded, "applied effects", text.0, text.1);
                divergence.plugin = plugin_name(state, call.binding);
                found.push(divergence);
            }
            if let Some(segment) = self.open.get_mut(&call.binding) {
                segment.calls.push((recorded.seq, call, receipt.clone()));
            }
        }
    }
}

fn plugin_name(state: &RunState, binding: BindingId) -> String {
    let description = &state.bindings[&binding].facts.description;
    format!("{}@{}", description.name, description.version)
}
