//! Audit of decisions: every event of a log is made again from the state before it and the facts in it
//! ([`expected`]), and every plugin call that it claims is filed to be executed
//! again. Reading, threads and reporting belong to the caller.

mod segment;
mod shape;

use std::collections::BTreeMap;

use serde::Serialize;

pub use self::segment::{Carried, Proofs, Segment, Start};
use crate::calls;
use crate::chain::Envelope;
use crate::difference::{self, Difference};
use crate::event::*;
use crate::expected::{Expected, expected, expected_start};
use crate::id::BindingId;
use crate::record::Record;
use crate::state::{Phase, RunState};
use crate::tied;

/// Bytes of calls that wait for their kept state at most: beyond that they are executed in parts.
const OPEN_BYTES_MAX: usize = 64 << 20;

/// One place where the log is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Divergence {
    /// Event that says something else.
    pub seq: u64,
    /// Its step, if any.
    pub step: Option<u64>,
    /// Whose part it is: a plugin's, as name@version, or `host`, or `log`.
    pub plugin: String,
    /// What differs: the path of a field, or what kind of event may stand there.
    pub what: String,
    /// What the log says.
    pub logged: String,
    /// What follows or was computed.
    pub found: String,
}

/// Folds a run's log and holds every event against the one rule; cuts the plugins' part into segments.
#[derive(Clone)]
pub struct DecisionAudit {
    state: Option<RunState>,
    record: Record,
    open: BTreeMap<BindingId, Segment>,
    /// Bytes of what they hold, about.
    open_bytes: usize,
    /// How many these may be before they are handed out in parts.
    open_bytes_max: usize,
    /// Time and writer of the event before.
    last: Option<(i64, u64)>,
    /// Plugin calls that the log claims so far, a first state counted as one.
    claimed: u64,
    /// Of those the ones that no segment holds, since the log says not what was called.
    misplaced: u64,
    /// Whether an event was met that says nothing: what follows cannot be judged.
    lost: bool,
}

impl Default for DecisionAudit {
    fn default() -> Self {
        DecisionAudit::holding(OPEN_BYTES_MAX)
    }
}

impl DecisionAudit {
    /// One that holds about so many bytes of calls.
    pub(crate) fn holding(open_bytes_max: usize) -> DecisionAudit {
        DecisionAudit {
            state: None,
            record: Record::default(),
            open: BTreeMap::new(),
            open_bytes: 0,
            open_bytes_max,
            last: None,
            claimed: 0,
            misplaced: 0,
            lost: false,
        }
    }

    /// Folds the next event: where it is not as it must be, and segments that are complete.
    ///
    /// Takes any log. After an event that cannot be folded, which is named, it judges nothing more.
    pub fn fold(&mut self, envelope: &Envelope, event: &Event) -> (Vec<Divergence>, Vec<Segment>) {
        if self.lost {
            return (Vec::new(), Vec::new());
        }
        let mut found = Vec::new();
        let Some(state) = &mut self.state else {
            self.start(envelope, event, &mut found);
            return (found, Vec::new());
        };
        if let Some(wrong) = shape::wrong(state, event) {
            self.lost = true;
            let logged = difference::shown(event);
            found.push(host(envelope, event, "shape of the event", logged, wrong));
            return (found, Vec::new());
        }
        self.check_envelope(envelope, event, &mut found);
        let calls = self.check_event(envelope, event, &mut found);
        if matches!(event, Event::RolledBack(_)) && !found.is_empty() {
            // Nobody knows what state the run went on from.
            self.lost = true;
            return (found, Vec::new());
        }
        let mut complete = self.file(envelope.seq, event, calls);
        if self.open_bytes > self.open_bytes_max {
            self.open_bytes = 0;
            let filled = self.open.values_mut().filter(|segment| segment.claims() > 0);
            complete.extend(filled.map(Segment::take_part));
        }
        if let Some(state) = &mut self.state {
            self.record.note(state, envelope.seq, event);
            state.next_seq = envelope.seq;
            state.apply(event);
        }
        if let Event::RolledBack(_) = event {
            let open = std::mem::take(&mut self.open).into_values();
            complete.extend(open.filter(|segment| segment.claims() > 0));
            self.open_kept(envelope.seq);
        }
        (found, complete)
    }

    /// The state before the second event.
    fn start(&mut self, envelope: &Envelope, event: &Event, found: &mut Vec<Divergence>) {
        let started = RunState::start(event).map_err(|error| error.to_string());
        let started = started.and_then(|state| match shape::wrong_start(&state) {
            Some(wrong) => Err(wrong),
            None => Ok(state),
        });
        match (started, event) {
            (Ok(state), Event::RunStarted(logged)) => {
                match expected_start(&state.spec, logged) {
                    Ok(due) => self.compare(envelope, event, &due, found),
                    Err(due) => found.push(place(envelope, event, due)),
                }
                self.last = Some((envelope.recorded_at, envelope.writer_epoch));
                self.record = Record::start(&state, logged);
                self.state = Some(state);
                self.open_kept(envelope.seq);
            }
            (started, _) => {
                self.lost = true;
                let wrong = started.err().unwrap_or_default();
                let logged = difference::shown(event);
                found.push(host(envelope, event, "start of the run", logged, wrong));
            }
        }
    }

    /// Opens a segment for every live binding that goes on from a kept state, without having been bound
    /// here: after a rollback, and in a fork.
    fn open_kept(&mut self, seq: u64) {
        let Some(state) = &self.state else { return };
        for (&id, binding) in state.bindings.iter().filter(|(_, binding)| binding.live) {
            let start = Start::Kept(binding.state);
            self.open.insert(id, Segment::new(seq, &binding.facts, start));
        }
    }

    /// Place, attempt, time and writer: seqs without gaps, and nothing that runs backwards.
    fn check_envelope(&mut self, envelope: &Envelope, event: &Event, found: &mut Vec<Divergence>) {
        let Some(state) = &self.state else { return };
        let (at, epoch) = self.last.unwrap_or((i64::MIN, 0));
        let Envelope { seq, attempt, step, recorded_at, writer_epoch, .. } = *envelope;
        // A writer is another only where it says that it has come, or ends the run from outside.
        let comes = match event {
            Event::RunResumed(_) => writer_epoch > epoch,
            Event::RunInterrupted(_) | Event::CommandAnswered(_) => writer_epoch >= epoch,
            _ => writer_epoch == epoch,
        };
        let mut hold = |holds: bool, what: &str, logged: String, due: String| {
            if !holds {
                found.push(host(envelope, event, what, logged, due));
            }
        };
        hold(seq == state.next_seq, "seq", seq.to_string(), state.next_seq.to_string());
        hold(attempt == state.attempt, "attempt", attempt.to_string(), state.attempt.to_string());
        hold(step == event.step(), "step", format!("{step:?}"), format!("{:?}", event.step()));
        hold(recorded_at >= at, "recorded_at", recorded_at.to_string(), format!("{at} or later"));
        hold(comes, "writer_epoch", writer_epoch.to_string(), format!("that after {epoch}"));
        self.last = Some((recorded_at.max(at), writer_epoch.max(epoch)));
    }

    /// Holds an event against the one rule; the calls that must have been made for it.
    fn check_event(
        &self,
        envelope: &Envelope,
        event: &Event,
        found: &mut Vec<Divergence>,
    ) -> Vec<calls::PlannedCall> {
        let Some(state) = &self.state else { return Vec::new() };
        match expected(state, &self.record, event) {
            Ok(Expected { event: due, calls }) => {
                let before = found.len();
                self.compare(envelope, event, &due, found);
                if before == found.len()
                    && let Some(Difference { field, logged, due }) =
                        tied::untenable(state, &self.record, event)
                {
                    found.push(host(envelope, event, &field, logged, due));
                }
                calls
            }
            Err(due) => {
                found.push(place(envelope, event, due));
                Vec::new()
            }
        }
    }

    fn compare(
        &self,
        envelope: &Envelope,
        event: &Event,
        due: &Event,
        found: &mut Vec<Divergence>,
    ) {
        if event.kind() != due.kind() {
            found.push(place(envelope, event, difference::shown(due)));
        } else if let Some(Difference { field, logged, due }) = difference::first(event, due) {
            let mut divergence = host(envelope, event, &field, logged, due);
            if let Some(plugin) = self.plugin_of(event, &field) {
                divergence.plugin = plugin;
            }
            found.push(divergence);
        }
    }

    /// The plugin whose receipt a field is in.
    fn plugin_of(&self, event: &Event, field: &str) -> Option<String> {
        let Event::StepRecorded(step) = event else { return None };
        let index = field.strip_prefix("receipts[")?.split(']').next()?.parse::<usize>().ok()?;
        let binding = step.receipts.get(index)?.binding;
        let description = &self.state.as_ref()?.bindings.get(&binding)?.facts.description;
        Some(format!("{}@{}", description.name, description.version))
    }

    /// Files what an event claims of plugins: a first state, calls, or a state from which the next
    /// segment starts.
    fn file(&mut self, seq: u64, event: &Event, calls: Vec<calls::PlannedCall>) -> Vec<Segment> {
        let Some(state) = &self.state else { return Vec::new() };
        let closed = match event {
            Event::StepRecorded(step) => {
                self.claimed += step.receipts.len() as u64;
                if calls.len() != step.receipts.len() {
                    self.misplaced += step.receipts.len() as u64;
                    return Vec::new();
                }
                for (call, receipt) in calls.into_iter().zip(&step.receipts) {
                    match self.open.get_mut(&call.binding) {
                        Some(segment) => {
                            let before = segment.bytes();
                            segment.file(seq, call, receipt);
                            self.open_bytes += segment.bytes() - before;
                        }
                        None => self.misplaced += 1,
                    }
                }
                None
            }
            Event::BindingChanged(bound) if bound.change == BindingChange::Bound => {
                self.claimed += 1;
                let request = calls::init(&state.spec, bound.step, &bound.config);
                let start = Start::Init(Box::new(request));
                self.open.insert(bound.binding, Segment::new(seq, bound, start))
            }
            Event::PluginStateSaved(saved) => {
                state.bindings.get(&saved.binding).and_then(|bound| {
                    let next = Segment::new(seq, &bound.facts, Start::Kept(saved.state));
                    self.open.insert(saved.binding, next)
                })
            }
            _ => None,
        };
        let closed: Vec<Segment> = closed.into_iter().filter(|it| it.claims() > 0).collect();
        let bytes: usize = closed.iter().map(Segment::bytes).sum();
        self.open_bytes = self.open_bytes.saturating_sub(bytes);
        closed
    }

    /// Whether the log says that the run has ended.
    pub fn has_ended(&self) -> bool {
        self.state.as_ref().is_some_and(|state| matches!(state.phase, Phase::Finished(_)))
    }

    /// The run as far as it is folded.
    pub fn state(&self) -> Option<&RunState> {
        self.state.as_ref()
    }

    /// Plugin calls that the log claims: as many as are proved, not provable or diverged once all
    /// segments are executed.
    pub fn claimed(&self) -> u64 {
        self.claimed
    }

    /// Segments that no kept state has closed, and what is known without executing anything.
    pub fn finish(self) -> (Vec<Segment>, Proofs) {
        let open = self.open.into_values().filter(|segment| segment.claims() > 0);
        (open.collect(), Proofs { diverged: self.misplaced, ..Proofs::default() })
    }
}

/// A place where the host did otherwise than it must.
fn host(
    envelope: &Envelope,
    event: &Event,
    what: &str,
    logged: String,
    found: String,
) -> Divergence {
    let (plugin, what) = ("host".to_owned(), what.to_owned());
    let (logged, found) = (difference::brief(&logged), difference::brief(&found));
    Divergence { seq: envelope.seq, step: event.step(), plugin, what, logged, found }
}

/// A place where an event of another kind must stand, or none.
fn place(envelope: &Envelope, event: &Event, due: String) -> Divergence {
    host(envelope, event, "what may come here", difference::shown(event), due)
}
