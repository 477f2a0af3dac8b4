//! The one rule of an audit: the event that must stand in a place, made of the state before it and of
//! the facts that the logged event gives. Whatever is no fact comes out as it must be.

use crate::attempt::ReturnPoint;
use crate::calls::{self, PlannedCall};
use crate::command::Command;
use crate::ending::Due;
use crate::event::*;
use crate::follow::{self, BY_RUN_FILE, RUN_FILE};
use crate::id::Digest;
use crate::limits;
use crate::made::{self, Answer, FirstState, StepFacts, StepMade};
use crate::plugin::{Outcome, Output, World};
use crate::record::Record;
use crate::rules::RULES_VERSION;
use crate::spec::RunSpec;
use crate::state::{Phase, RunState};

/// What must stand in a place of the log.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Expected {
    /// The event.
    pub event: Event,
    /// Plugin calls that it claims, one per receipt.
    pub calls: Vec<PlannedCall>,
}

impl From<Event> for Expected {
    fn from(event: Event) -> Expected {
        Expected { event, calls: Vec::new() }
    }
}

/// The first event of a run, made of the spec in it.
pub(crate) fn expected_start(spec: &RunSpec, logged: &RunStarted) -> Result<Event, String> {
    if spec.rules.version != RULES_VERSION {
        return Err(format!("rules version {RULES_VERSION}: this program knows no other"));
    }
    let first = limits::first_mixture(spec).map_err(|refused| refused.to_string())?;
    Ok(Event::RunStarted(RunStarted {
        spec: serde_json::to_string(spec).map_err(|error| error.to_string())?,
        prior: first.mixture,
        environment: logged.environment.clone(),
        parent: logged.parent.clone(),
    }))
}

/// What must stand where `logged` does, after `state`.
///
/// # Errors
/// What must come instead, in words, where no event of this kind may.
pub(crate) fn expected(
    state: &RunState,
    record: &Record,
    logged: &Event,
) -> Result<Expected, String> {
    if let Phase::Finished(ending) = state.phase {
        return Err(format!("nothing, since the run has ended: {ending:?}"));
    }
    let step = state.next_step;
    match logged {
        // A worker comes and goes between any two events.
        Event::RunResumed(resumed) => return resumed_from(state, record, resumed).map(Into::into),
        Event::RunInterrupted(RunInterrupted { reason, .. }) => {
            let reason = reason.clone();
            return Ok(Event::RunInterrupted(RunInterrupted { step, reason }).into());
        }
        _ => {}
    }
    if let Some(due) = state.owed.events.front() {
        return Ok(due.clone().into());
    }
    match (logged, &state.owed.binding) {
        (Event::BindingChanged(changed), _) => return binding(state, changed).map(Into::into),
        (Event::RolledBack(logged), _) => {
            return rolled_back(state, record, logged).map(Into::into);
        }
        (_, Some(asked)) => return Err(format!("plugin {} bound, as was asked", asked.plugin)),
        _ => {}
    }
    if let Some(asked) = &state.owed.rollback {
        return Err(format!("the way back to step {}, as was asked", asked.to));
    }
    let event = match logged {
        Event::StepRecorded(logged) => return next_step(state, logged),
        Event::ValidationRecorded(logged) => {
            plugins_of_the_file_are_bound(state)?;
            if !state.validation_is_due() {
                return Err("no validation, since none is due".to_owned());
            }
            Event::ValidationRecorded(made::validation(state, &logged.losses))
        }
        Event::WeightsMeasured(logged) => {
            a_step_may_come(state)?;
            made::weights(state, &logged.kinds)
                .map(Event::WeightsMeasured)
                .ok_or("no measured weights, since no plugin is to see them")?
        }
        Event::MixtureLimited(_) => limits::held(state)
            .map(Event::MixtureLimited)
            .ok_or("the mixture as it is, which the limits hold")?,
        Event::PluginStateSaved(_) => follow::states(state)
            .next()
            .map(Event::PluginStateSaved)
            .ok_or("no plugin's state, since none is bound")?,
        Event::CheckpointBegun(_) => {
            states_are_kept(state)?;
            if let Some(other) = &state.begun {
                let of = other.step;
                return Err(format!(
                    "what becomes of the checkpoint of step {of}, which is written"
                ));
            }
            Event::CheckpointBegun(CheckpointBegun { step, state: state.digest() })
        }
        Event::CheckpointSaved(CheckpointSaved { begun, digest, bytes, .. }) => {
            let written = state.begun.filter(|written| written.seq == *begun);
            let written =
                written.ok_or_else(|| format!("a checkpoint that was begun, not at {begun}"))?;
            let place = (*begun, written.step);
            Event::CheckpointSaved(made::checkpoint(state, place, (*digest, *bytes)))
        }
        Event::CheckpointFailed(CheckpointFailed { reason, .. }) => {
            let written = state.begun.ok_or("no checkpoint failed, since none was begun")?;
            let (step, reason) = (written.step, reason.clone());
            Event::CheckpointFailed(CheckpointFailed { step, reason })
        }
        Event::CommandAnswered(answered) => {
            Event::CommandAnswered(answer(state, record, answered)?)
        }
        Event::RunFinished(finished) => Event::RunFinished(end(state, finished)?),
        Event::MixtureSet(_) | Event::LearningRateSet(_) | Event::BatchSizeSet(_) => {
            return Err("no knob turned, since nobody asked for it".to_owned());
        }
        Event::RunPaused(_) | Event::RunContinued(_) => {
            return Err("no pause and no end of one, since nobody asked for it".to_owned());
        }
        Event::BindingQuarantined(_) => {
            return Err("no quarantine, since no plugin has failed so often".to_owned());
        }
        // They are dealt with above.
        Event::BindingChanged(_)
        | Event::RolledBack(_)
        | Event::RunResumed(_)
        | Event::RunInterrupted(_) => return Err("no such event".to_owned()),
        Event::RunStarted(_) => return Err("a run that starts once".to_owned()),
        Event::PluginInstalled(_) => return Err("an event of a run".to_owned()),
    };
    Ok(event.into())
}

/// Whether the next step may be trained: nothing else is due before it.
fn a_step_may_come(state: &RunState) -> Result<(), String> {
    plugins_of_the_file_are_bound(state)?;
    if let Some(Due { ending, reason }) = state.ending_due() {
        return Err(format!("the end of the run, {ending:?}: {reason}"));
    }
    if state.phase == Phase::Paused {
        return Err("no step, since the run is paused".to_owned());
    }
    if state.validation_is_due() {
        return Err("a validation, which is due".to_owned());
    }
    if limits::held(state).is_some() {
        return Err("a mixture within the limits, which the one in force is not".to_owned());
    }
    Ok(())
}

fn next_step(state: &RunState, logged: &StepRecorded) -> Result<Expected, String> {
    a_step_may_come(state)?;
    if calls::weights_due(state) {
        return Err("measured weights, which a plugin is to see".to_owned());
    }
    let mut answers = logged.receipts.iter().map(Answer::of_recorded);
    let none = || Answer {
        outcome: Outcome::NotCalled("the log does not say".to_owned()),
        fuel: 0,
        output: Output::Nothing,
        state_after: Digest::ZERO,
    };
    let facts = StepFacts::of_recorded(logged);
    let StepMade { recorded, calls } =
        made::step(state, &facts, |_| answers.next().unwrap_or_else(none));
    Ok(Expected { event: Event::StepRecorded(Box::new(recorded)), calls })
}

/// One that was asked for, or that another takes the place of.
fn binding(state: &RunState, logged: &BindingChanged) -> Result<Event, String> {
    let Some(asked) = &state.owed.binding else {
        return Err("no binding changed, since nobody asked for it".to_owned());
    };
    let takes_a_place = asked.role == Role::Active;
    let replaced = state.active_policies().next().filter(|_| takes_a_place);
    let due = match (logged.change, replaced) {
        (BindingChange::Released, Some(replaced)) => {
            made::released(state, &replaced.facts, Some(&asked.by))
        }
        (BindingChange::Bound, Some(replaced)) if logged.world == World::Policy => {
            let name = &replaced.facts.description.name;
            return Err(format!("plugin {name} released, whose place it takes"));
        }
        _ if !asked.means(logged) => {
            return Err(format!("plugin {} bound, as was asked", asked.plugin));
        }
        _ => made::bound(state, asked, FirstState::of_recorded(logged)),
    };
    Ok(Event::BindingChanged(Box::new(due)))
}

/// The answer that the log gives to a wish. Whether a plugin could be bound is the worker's word, and so
/// is why it could not read a wish.
fn answer(
    state: &RunState,
    record: &Record,
    logged: &CommandAnswered,
) -> Result<CommandAnswered, String> {
    let CommandAnswered { command: number, asked, by, waited_s, refusal, .. } = logged;
    if record.answered.contains(number) {
        return Err(format!("no second answer to command {number}"));
    }
    let by_file = (*number == BY_RUN_FILE).then(|| {
        let next = state.owed.to_bind.front();
        next.ok_or("no wish of the run file, since all its plugins are bound".to_owned())
    });
    let due = match by_file.transpose()? {
        Some(plugin) => Ok(plugin.wish()),
        None => serde_json::from_str::<Command>(asked),
    };
    let (asked, refusal) = match due {
        Ok(command) => {
            let due = follow::refusal(state, &command, (by, *waited_s));
            let unbound = || {
                refusal
                    .clone()
                    .filter(|_| matches!(command, Command::Bind { .. } | Command::Rollback { .. }))
            };
            let asked = serde_json::to_string(&command).map_err(|error| error.to_string())?;
            (asked, due.or_else(unbound))
        }
        Err(error) => {
            let why = format!("it cannot be read: {error}");
            (asked.clone(), refusal.clone().or(Some(why)))
        }
    };
    let by = if *number == BY_RUN_FILE { RUN_FILE.to_owned() } else { by.clone() };
    let (command, step, waited_s) = (*number, state.next_step, *waited_s);
    Ok(CommandAnswered { command, step, asked, by, waited_s, refusal })
}

/// A worker that takes the run up from a checkpoint on record, or from its beginning.
fn resumed_from(state: &RunState, record: &Record, logged: &RunResumed) -> Result<Event, String> {
    let mut resumed = logged.clone();
    let on_record = |digest: Digest| {
        let step = record.steps.get(&digest).copied();
        step.ok_or_else(|| format!("a checkpoint on record, not {}", digest.short()))
    };
    resumed.step = state.next_step;
    resumed.checkpoint_step = logged.checkpoint.map_or(Ok(0), on_record)?;
    // Without any it lives the run again from its beginning, which of a fork is its parent's checkpoint.
    let from = logged.checkpoint.map_or(record.first_step, |_| resumed.checkpoint_step);
    resumed.caught_up_steps = state.next_step.saturating_sub(from);
    resumed.agreed = logged.agreed && logged.difference_max == 0.0;
    for passed in &mut resumed.passed_over {
        passed.step = on_record(passed.checkpoint)?;
    }
    Ok(Event::RunResumed(resumed))
}

/// The way back that was asked for, to a checkpoint on record.
fn rolled_back(state: &RunState, record: &Record, logged: &RolledBack) -> Result<Event, String> {
    let Some(asked) = &state.owed.rollback else {
        return Err("no way back, since nobody asked for it".to_owned());
    };
    let found = record.saved.get(&logged.seq);
    let (saved, digest) =
        found.ok_or_else(|| format!("a checkpoint on record, not at {}", logged.seq))?;
    let point = ReturnPoint {
        seq: logged.seq,
        saved: saved.clone(),
        digest: *digest,
        state: logged.state.clone(),
    };
    let turn = (asked.to, asked.skip_data);
    let due = state.rolled_back(turn, (&asked.by, &asked.reason), &point)?;
    Ok(Event::RolledBack(Box::new(due)))
}

/// The end that the log gives, of those that may be: as a rule there is one.
fn end(state: &RunState, logged: &RunFinished) -> Result<RunFinished, String> {
    let mut may_be = state.endings();
    let same = |due: &Due| due.ending == logged.ending && due.reason == logged.reason;
    let index = may_be.iter().position(same).unwrap_or(0);
    if may_be.is_empty() {
        return Err("the run goes on".to_owned());
    }
    let Due { ending, reason } = may_be.swap_remove(index);
    let saved = state.checkpoint.as_ref().map(|saved| saved.step);
    if ending == Ending::Completed && state.validation_is_due() {
        return Err("a validation, which is due".to_owned());
    }
    if ending == Ending::Completed && saved != Some(state.next_step) {
        return Err(
            "a checkpoint of the last weights, without which no run is completed".to_owned()
        );
    }
    Ok(RunFinished { step: state.next_step, ending, reason })
}

fn states_are_kept(state: &RunState) -> Result<(), String> {
    let kept = state.states_are_kept();
    kept.then_some(()).ok_or("the states of all plugins, which a checkpoint rests on".to_owned())
}

fn plugins_of_the_file_are_bound(state: &RunState) -> Result<(), String> {
    match state.owed.to_bind.front() {
        None => Ok(()),
        Some(plugin) => Err(format!("plugin {} bound, as the run file asks", plugin.plugin)),
    }
}
