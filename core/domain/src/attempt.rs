//! Going back to a checkpoint: in the same run, as another attempt, or in a new one that shares the past.
//! Both fold the state that was kept with the checkpoint, so neither needs more than its own log.

use std::ops::Range;

use crate::batch::Cursor;
use crate::command::{Asked, Command};
use crate::ending::NonFinite;
use crate::event::*;
use crate::id::Digest;
use crate::mentor::{Decided, Mentor};
use crate::mixture::Mixture;
use crate::precision::LossScale;
use crate::snapshot::NotASnapshot;
use crate::spec::{DomainSpec, PluginSpec, RunSpec};
use crate::state::{Binding, Phase, RunState};

/// A checkpoint that a run can go back to: on record, whole, and with the state that was kept with it.
#[derive(Clone, Debug, PartialEq)]
pub struct ReturnPoint {
    /// Seq of the event that it was saved by.
    pub seq: u64,
    /// What that event says.
    pub saved: CheckpointSaved,
    /// Digest of the state, as the event says that the checkpoint was begun by.
    pub digest: Digest,
    /// The state, as bytes.
    pub state: Vec<u8>,
}

impl RunState {
    /// The state once the run has gone back. What is bound since is over, and keeps its number.
    pub(crate) fn apply_rollback(&mut self, rolled: &RolledBack) {
        // What cannot be read changes nothing: an audit names it, and no worker writes it.
        let Ok(mut then) = RunState::from_snapshot(&rolled.state) else { return };
        if then.spec != self.spec {
            return;
        }
        if rolled.skipped_data {
            then.cursors.clone_from(&self.cursors);
            then.domain_tokens.clone_from(&self.domain_tokens);
        }
        for (&id, binding) in &self.bindings {
            let over = || Binding { live: false, ..binding.clone() };
            then.bindings.entry(id).or_insert_with(over);
        }
        let checkpoint = Some(rolled.checkpoint.clone());
        *self = RunState {
            attempt: rolled.attempt,
            next_seq: self.next_seq,
            phase: self.phase,
            must_end: None,
            failed: None,
            checkpoint,
            begun: None,
            measured: None,
            ..then
        };
    }

    /// The event by which a wish to go back is obeyed, or why it is not.
    ///
    /// # Errors
    /// A sentence.
    pub(crate) fn rolled_back(
        &self,
        (to, skip_data): (u64, bool),
        (by, reason): (&str, &str),
        point: &ReturnPoint,
    ) -> Result<RolledBack, String> {
        if let Some(due) = &self.must_end {
            return Err(format!(
                "the run must end ({}): fork it from that checkpoint instead",
                due.reason
            ));
        }
        if point.saved.step != to || Digest::of(&point.state) != point.digest {
            return Err(format!("the checkpoint at hand is not that of step {to} on record"));
        }
        let then = RunState::from_snapshot(&point.state).map_err(|error| error.to_string())?;
        if then.next_step != to {
            return Err(format!("the state kept with it is of step {}, not {to}", then.next_step));
        }
        if then.spec != self.spec {
            return Err(format!("the state kept with it is of another run, `{}`", then.spec.name));
        }
        Ok(RolledBack {
            step: self.next_step,
            to_step: to,
            attempt: self.attempt + 1,
            seq: point.seq,
            checkpoint: point.saved.clone(),
            state: point.state.clone(),
            skipped_data: skip_data,
            reason: reason.to_owned(),
            by: by.to_owned(),
        })
    }
}

impl Mentor {
    /// Answers a wish to go back; `point` is the checkpoint that it names, or why it cannot be had. The
    /// caller then gives the bindings that live their states, with [`Mentor::restore`].
    pub fn answer_rollback(&self, asked: &Asked, point: Result<ReturnPoint, String>) -> Decided {
        let state = self.state();
        let in_time = Asked::expiry(asked.waited_s).map_or(Ok(()), Err);
        let checked = in_time.and_then(|()| asked.command.check(&state.spec));
        let obeyed = checked.and_then(|()| match &asked.command {
            Command::Rollback { to, skip_data, reason } => {
                let turn = (*to, *skip_data);
                state.rolled_back(turn, (&asked.by, reason), &point?)
            }
            other => Err(format!("{} is no wish to go back", other.kind())),
        });
        let answered = CommandAnswered {
            command: asked.number,
            step: state.next_step,
            asked: serde_json::to_string(&asked.command).expect("a command is plain data"),
            by: asked.by.clone(),
            waited_s: asked.waited_s,
            refusal: obeyed.as_ref().err().cloned(),
        };
        let mut events = vec![Event::CommandAnswered(answered)];
        events.extend(obeyed.ok().map(|rolled| Event::RolledBack(Box::new(rolled))));
        Decided { events, states: Vec::new() }
    }
}

/// Which part of a log led to its end: the seqs that no rollback has left behind, oldest first. `turns`
/// are the rollbacks in order: the seq of each, and of the begin of the checkpoint that it went back to.
/// That begin is part of the way; a rollback is the first event of what follows it.
pub fn way(turns: &[(u64, u64)], end: u64) -> Vec<Range<u64>> {
    let (mut way, mut end) = (Vec::new(), end);
    for &(seq, begun) in turns.iter().rev() {
        if seq < end {
            way.push(seq..end);
            end = begun + 1;
        }
    }
    way.push(0..end);
    way.reverse();
    way
}

/// A parent that a fork cannot start from.
#[derive(Debug, thiserror::Error)]
pub enum NotAParent {
    /// Its state is none.
    #[error("the state kept with the parent's checkpoint: {0}")]
    State(#[from] NotASnapshot),
    /// The spec does not fit.
    #[error("{0}")]
    Unlike(String),
}

/// What a fork of `spec` goes on from: the parent's state at the checkpoint, with what the spec sets
/// anew. A mixture, a peak or a batch set by hand or by a policy stays unless the spec's own differs
/// from the parent's; loss weights stay under a policy that goes on.
///
/// # Errors
/// A sentence that says what a fork cannot have.
pub fn forked(spec: RunSpec, prior: &Mixture, parent: &Parent) -> Result<RunState, NotAParent> {
    let mut state = RunState::from_snapshot(&parent.state)?;
    let then = std::mem::replace(&mut state.spec, spec);
    let now = &state.spec;
    check_fork(&then, now, state.next_step).map_err(NotAParent::Unlike)?;
    for (index, (then, now)) in then.domains.iter().zip(&now.domains).enumerate() {
        if !goes_on(then, now) {
            (state.cursors[index], state.domain_tokens[index]) = (Cursor::default(), 0);
        }
    }
    if state.prior.weights != prior.weights {
        let version = state.newest_mixture().version + 1;
        state.mixture = Mixture { version, ..prior.clone() };
        state.pending.clear();
    }
    state.prior = prior.clone();
    if then.schedule != now.schedule {
        state.overrides.learning_rate_peak = None;
    }
    let batch = |spec: &RunSpec| (spec.training.sequences_per_step, spec.training.batch_ramp);
    if batch(&then) != batch(now) {
        state.overrides.sequences_per_step = None;
    }
    if then.training.precision != now.training.precision {
        state.loss_scale = LossScale::first(now.training.precision);
    }
    inherit(&mut state);
    if state.active_policies().next().is_none() {
        // Only a policy sets them, so without one nothing could set them back.
        state.loss_weights.fill(1.0);
    }
    // The checkpoint is the parent's, and so is what its log said of its end.
    Ok(RunState {
        attempt: 0,
        next_seq: 1,
        phase: Phase::Running,
        must_end: None,
        failed: None,
        checkpoint: None,
        begun: None,
        proven: None,
        measured: None,
        non_finite: NonFinite::default(),
        limits_gave_way: false,
        ..state
    })
}

/// Whether a domain's cursor means the same: its segments are still there, in their places. New ones
/// may follow.
fn goes_on(then: &DomainSpec, now: &DomainSpec) -> bool {
    now.segments.starts_with(&then.segments)
}

/// What a fork at `step` cannot change.
fn check_fork(then: &RunSpec, now: &RunSpec, step: u64) -> Result<(), String> {
    let names = |spec: &RunSpec| -> Vec<String> {
        spec.domains.iter().map(|domain| domain.name.clone()).collect()
    };
    let cannot = |what: &str, advice: &str| {
        Err(format!("a fork cannot have another {what} than its parent: {advice}"))
    };
    if then.model != now.model {
        return cannot("model", "its weights are the parent's");
    }
    if then.tokenizer != now.tokenizer {
        return cannot("tokenizer", "name the parent's with data.tokenizer, or its vocabulary");
    }
    if then.initial_weights != now.initial_weights {
        return cannot("model.from", "its weights are those of the parent's checkpoint");
    }
    if then.seed != now.seed {
        return cannot("seed", "its cursors are places in an order that the seed gives");
    }
    let (had, has) = (names(then), names(now));
    if had != has {
        return Err(format!(
            "a fork has its parent's domains in their order, {}, not {}: its cursors and losses are \
             kept by them",
            had.join(", "),
            has.join(", ")
        ));
    }
    if now.training.steps <= step {
        return Err(format!(
            "training.steps is {} and the fork begins at step {step}: set more",
            now.training.steps
        ));
    }
    Ok(())
}

/// Bindings of the parent that the fork's file names again, with the same configuration, go on: state,
/// cadence and what they have not seen yet. They are numbered from 0 in the file's order; the rest of the
/// file is bound anew behind them.
fn inherit(state: &mut RunState) {
    let mut left: Vec<Binding> =
        std::mem::take(&mut state.bindings).into_values().filter(|binding| binding.live).collect();
    for plugin in &state.spec.plugins {
        let Some(found) = left.iter().position(|binding| is_of(binding, plugin)) else { continue };
        let mut binding = left.remove(found);
        let id = crate::id::BindingId(state.bindings.len() as u32);
        binding.facts.binding = id;
        (binding.facts.role, binding.facts.failure) = (plugin.role, plugin.failure);
        binding.seen_seq = 0;
        state.bindings.insert(id, binding);
    }
    // Seqs of the parent's log mean nothing in this one: what comes from there begins with this log.
    state.seen.iter_mut().for_each(|seen| seen.seq = 0);
}

fn is_of(binding: &Binding, plugin: &PluginSpec) -> bool {
    let config = plugin.config.to_string();
    (binding.facts.plugin, &binding.facts.config) == (plugin.digest, &config)
}

/// The plugins of the run's file that its first event does not bind already, in the file's order.
pub fn bound_anew(started: &RunState) -> Vec<PluginSpec> {
    let mut inherited: Vec<&Binding> = started.bindings.values().collect();
    let is_new = |plugin: &&PluginSpec| {
        let found = inherited.iter().position(|binding| is_of(binding, plugin));
        found.map(|place| inherited.remove(place)).is_none()
    };
    started.spec.plugins.iter().filter(is_new).cloned().collect()
}
