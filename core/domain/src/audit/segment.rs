//! Calls of one binding between two kept states, executed again.

use std::sync::{Arc, OnceLock};

use serde::Serialize;

use super::Divergence;
use crate::calls::PlannedCall;
use crate::difference;
use crate::event::{BindingChanged, Receipt};
use crate::id::Digest;
use crate::plugin::{Limits, Outcome, Output, Plugins, Reply, Request};

/// What executing calls again has shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Proofs {
    /// Calls that gave the same bytes.
    pub proved: u64,
    /// Calls that ended in a way nobody can repeat, or that come after one which gave something else,
    /// up to the next kept state.
    pub not_provable: u64,
    /// Calls that gave something else.
    pub diverged: u64,
    /// Proved calls whose fuel was not compared, since they were made under another engine.
    pub other_engine: u64,
    /// The earliest place that diverged.
    pub first: Option<Divergence>,
}

impl Proofs {
    /// Adds another part's results.
    pub fn add(&mut self, other: Proofs) {
        self.proved += other.proved;
        self.not_provable += other.not_provable;
        self.diverged += other.diverged;
        self.other_engine += other.other_engine;
        other.first.into_iter().for_each(|divergence| self.note(divergence));
    }

    /// Keeps the earliest of what diverged.
    pub fn note(&mut self, divergence: Divergence) {
        if self.first.as_ref().is_none_or(|first| divergence.seq < first.seq) {
            self.first = Some(divergence);
        }
    }
}

/// Where a segment's first state comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum Start {
    /// From `init`, called again.
    Init(Box<Request>),
    /// From a kept state of this digest.
    Kept(Digest),
    /// From where the part of the segment before it ended, which is executed first.
    Goes(Carried),
}

/// The state at the end of a part of a segment, once that is executed; none where it was lost.
pub type Carried = Arc<OnceLock<Option<Vec<u8>>>>;

/// Calls of one binding between two kept states: checkable alone.
#[derive(Clone, Debug, PartialEq)]
pub struct Segment {
    /// Where it starts.
    pub start: Start,
    seq: u64,
    bound: Box<BindingChanged>,
    calls: Vec<Claimed>,
    /// Bytes of what it holds, about.
    bytes: usize,
    /// Where its last state goes, if there is more of it.
    end: Option<Carried>,
}

/// A call, and what the log says that it gave.
#[derive(Clone, Debug, PartialEq)]
struct Claimed {
    seq: u64,
    call: PlannedCall,
    state_after: Digest,
    outcome: Outcome,
    fuel: u64,
    output: Output,
}

/// Something that a call gave now, and not then.
type Apart = (&'static str, String, String);

impl Segment {
    pub(super) fn new(seq: u64, bound: &BindingChanged, start: Start) -> Segment {
        let bound = Box::new(bound.clone());
        Segment { start, seq, bound, calls: Vec::new(), bytes: 0, end: None }
    }

    /// Takes out all that it holds: a part that can be executed, and is before the rest.
    pub(super) fn take_part(&mut self) -> Segment {
        let end = Carried::default();
        let rest = Segment::new(self.seq, &self.bound, Start::Goes(end.clone()));
        Segment { end: Some(end), ..std::mem::replace(self, rest) }
    }

    pub(super) fn file(&mut self, seq: u64, call: PlannedCall, receipt: &Receipt) {
        let Receipt { state_after, fuel, .. } = *receipt;
        let (outcome, output) = (receipt.outcome.clone(), receipt.output.clone());
        self.bytes += size_of::<Claimed>() + call.bytes() + output.bytes();
        self.calls.push(Claimed { seq, call, state_after, outcome, fuel, output });
    }

    /// SHA-256 of the component.
    pub fn plugin(&self) -> Digest {
        self.bound.plugin
    }

    /// Limits that every call runs under.
    pub fn limits(&self) -> &Limits {
        &self.bound.limits
    }

    /// Bytes of what it holds, about.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether another segment goes on where this one ends: then it is executed before that.
    pub fn has_more(&self) -> bool {
        self.end.is_some()
    }

    /// Calls that it holds, a first state counted as one: as many are proved, not provable or diverged.
    pub fn claims(&self) -> u64 {
        self.calls.len() as u64 + u64::from(matches!(self.start, Start::Init(_)))
    }

    /// Executes the calls again. `kept` holds the bytes of a kept start, `engine` is the auditor's own.
    pub fn execute(&self, plugins: &dyn Plugins, kept: Option<Vec<u8>>, engine: Digest) -> Proofs {
        let mut proofs = Proofs::default();
        let same_engine = engine == self.bound.engine;
        let first = match &self.start {
            Start::Init(request) => self.init(plugins, request, same_engine, &mut proofs),
            Start::Kept(_) => kept,
            Start::Goes(state) => state.get().cloned().flatten(),
        };
        let mut calls = self.calls.iter();
        let mut state_left = None;
        if let Some(mut state) = first {
            let mut is_known = true;
            for claimed in calls.by_ref() {
                if !claimed.outcome.provable(same_engine) {
                    proofs.not_provable += 1;
                    continue;
                }
                let reply = plugins.call(&self.bound.plugin, &claimed.call.request(state.clone()));
                if !reply.outcome.provable(same_engine) && reply.outcome != claimed.outcome {
                    // The auditor's machine is at fault: what follows cannot be shown either way.
                    proofs.not_provable += 1;
                    is_known = false;
                    break;
                }
                match claimed.apart(&reply, same_engine) {
                    None => {
                        proofs.proved += 1;
                        proofs.other_engine += u64::from(!same_engine);
                        state = reply.value.map_or(state, |(after, _)| after);
                    }
                    Some((what, logged, found)) => {
                        proofs.diverged += 1;
                        let PlannedCall { hook, binding, .. } = claimed.call;
                        let what = format!("{what} of {hook:?}, binding {binding}");
                        proofs.note(self.divergence(claimed.seq, what, logged, found));
                        // What follows would start from another state: its own segment decides again.
                        is_known = false;
                        break;
                    }
                }
            }
            state_left = is_known.then_some(state);
        }
        if let Some(end) = &self.end {
            // Executed once, so nothing is there yet.
            let _ = end.set(state_left);
        }
        proofs.not_provable += calls.len() as u64;
        proofs
    }

    /// The first state, if the plugin gives the one on record and is what the log says of it.
    fn init(
        &self,
        plugins: &dyn Plugins,
        request: &Request,
        same_engine: bool,
        proofs: &mut Proofs,
    ) -> Option<Vec<u8>> {
        let Reply { outcome, fuel, value } = plugins.call(&self.bound.plugin, request);
        if !outcome.provable(same_engine) {
            proofs.not_provable += 1;
            return None;
        }
        match self.init_apart(
            plugins,
            value.as_ref().map(|(state, _)| &state[..]),
            same_engine.then_some(fuel),
        ) {
            None => {
                proofs.proved += 1;
                proofs.other_engine += u64::from(!same_engine);
                value.map(|(state, _)| state)
            }
            Some((what, logged, found)) => {
                proofs.diverged += 1;
                proofs.note(self.divergence(self.seq, what.to_owned(), logged, found));
                None
            }
        }
    }

    fn init_apart(
        &self,
        plugins: &dyn Plugins,
        state: Option<&[u8]>,
        fuel: Option<u64>,
    ) -> Option<Apart> {
        let BindingChanged { initial_state, initial_fuel, world, interface, description, .. } =
            &*self.bound;
        let found = state.map(Digest::of);
        if found != Some(*initial_state) {
            let found = found.map_or("nothing".to_owned(), |found| found.to_string());
            return Some(("initial_state", initial_state.to_string(), found));
        }
        if let Some(fuel) = fuel.filter(|fuel| fuel != initial_fuel) {
            return Some(("initial_fuel", initial_fuel.to_string(), fuel.to_string()));
        }
        let logged = (*world, interface.clone(), description.clone());
        let found = plugins.describe(&self.bound.plugin)?;
        (found != logged).then(|| ("description", format!("{logged:?}"), format!("{found:?}")))
    }

    fn divergence(&self, seq: u64, what: String, logged: String, found: String) -> Divergence {
        let description = &self.bound.description;
        let plugin = format!("{}@{}", description.name, description.version);
        let (logged, found) = (difference::brief(&logged), difference::brief(&found));
        Divergence { seq, step: None, plugin, what, logged, found }
    }
}

impl Claimed {
    /// The first thing that a call gave otherwise. Numbers compare by their bits.
    fn apart(&self, reply: &Reply, same_engine: bool) -> Option<Apart> {
        let nothing = Output::Nothing;
        let (after, output) = match &reply.value {
            Some((after, output)) => (Digest::of(after), output),
            None => (self.call_before(), &nothing),
        };
        if self.outcome != reply.outcome {
            return Some((
                "outcome",
                format!("{:?}", self.outcome),
                format!("{:?}", reply.outcome),
            ));
        }
        if !same_bits(&self.output, output) {
            return Some(("output", format!("{:?}", self.output), format!("{output:?}")));
        }
        if self.state_after != after {
            return Some(("state after", self.state_after.to_string(), after.to_string()));
        }
        (same_engine && self.fuel != reply.fuel)
            .then(|| ("fuel", self.fuel.to_string(), reply.fuel.to_string()))
    }

    /// A call that did not end well leaves the state: that it did so is held elsewhere.
    fn call_before(&self) -> Digest {
        self.state_after
    }
}

fn same_bits(one: &Output, other: &Output) -> bool {
    let bytes = |output: &Output| postcard::to_allocvec(output).unwrap_or_default();
    bytes(one) == bytes(other)
}
