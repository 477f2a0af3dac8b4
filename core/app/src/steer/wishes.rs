//! A wish on its way to a run, from a terminal or from the page: checked before it is put down, and
//! answered at once where nobody is there to answer it at the next step.

use std::path::Path;

use anyhow::{Context as _, Result};
use hm_domain::command::Command;
use hm_domain::ending::Due;
use hm_domain::event::{CommandAnswered, Event, Recorded, RunFinished};
use hm_domain::id::RunId;
use hm_domain::state::RunState;
use hm_store::{Put, RunRow, Store, StoreError};
use serde_json::Value;

use crate::run_file::typed_again::typed_beside;
use crate::work::registry::installed;
use crate::workplace::checkpoints_in;

/// Events of a log that are folded at once.
const PAGE_EVENTS: u64 = 2048;

/// What became of a wish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It cannot be obeyed, whoever trains the run.
    Refused(String),
    /// It is in the inbox of a run that a worker holds: this one answers at its next step.
    Waits(u64),
    /// It is in the inbox of a run that nobody trains; what becomes of it there, in a sentence.
    Left(u64, String),
    /// It was obeyed on the spot; how, in a sentence.
    Done(u64, String),
}

/// What is to become of steps that no checkpoint holds where a run is stopped that nobody trains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unsaved {
    /// The next worker trains them again, saves and ends the run.
    Kept,
    /// They may be lost.
    Discarded,
}

/// What becomes of a wish that waits for a worker.
pub(crate) const LEFT: &str =
    "the command waits in its inbox for the next `hm train`, for a day at most";

/// Asks `row`'s run for something. Where it must be known what is saved, its checkpoints are looked at in
/// `data_dir`.
pub(crate) async fn ask(
    (store, data_dir): (&Store, &Path),
    row: &RunRow,
    (command, unsaved): (&Command, Unsaved),
    by: &str,
) -> Result<Fate> {
    let id = RunId(row.run_id);
    if row.ending.is_some() {
        let mut refusal = ended(row);
        if let Command::Rollback { to, .. } = command {
            refusal += &format!("; go on from there with `hm runs fork {id} --at {to} -c FILE`");
        }
        return Ok(Fate::Refused(refusal));
    }
    if let Err(reason) = command.check(&store.spec(id).await?) {
        return Ok(Fate::Refused(reason));
    }
    if let Some(reason) = unmet(store, id, command).await? {
        return Ok(Fate::Refused(reason));
    }
    let body = serde_json::to_value(command)?;
    let number = match store.put_command(id, command.kind(), &body, by).await? {
        Put::Waits(number) => number,
        Put::Full(waiting) => {
            return Ok(Fate::Refused(format!(
                "{waiting} commands wait in the inbox of run {} already: let a worker answer them \
                 first, with `hm train`",
                row.name
            )));
        }
        Put::Ended => return Ok(Fate::Refused(ended(row))),
    };
    if store.worker(id).await?.living().is_some() {
        return Ok(Fate::Waits(number));
    }
    match command {
        Command::Stop { .. } => stop((store, data_dir), id, (number, command, unsaved), by).await,
        _ => Ok(Fate::Left(number, LEFT.to_owned())),
    }
}

/// Why there is nothing here that a wish could be about, if so: its worker would find the same.
async fn unmet(store: &Store, id: RunId, command: &Command) -> Result<Option<String>> {
    Ok(match command {
        Command::Bind { plugin, config, .. } => {
            installed(store, plugin, config).await?.err().map(|unfit| unfit.to_string())
        }
        Command::Release { binding, .. } => {
            let bindings = store.bindings(id).await?;
            let number = |row: &Value| row["binding"].as_u64() == Some(u64::from(binding.0));
            let is_live = bindings.iter().any(|row| number(row) && row["state"] == "bound");
            (!is_live).then(|| format!("no live binding {binding}"))
        }
        Command::Rollback { to, .. } => {
            let saved = store.checkpoints(id).await?;
            let is_there = saved.iter().any(|row| row["step"].as_u64() == Some(*to));
            (!is_there).then(|| format!("no checkpoint of step {to} is on record"))
        }
        _ => None,
    })
}

/// Why a run that is over obeys nothing.
fn ended(row: &RunRow) -> String {
    let how = row.ending.as_deref().map(|ending| format!(" ({ending})")).unwrap_or_default();
    format!("run {} ({}) has ended{how} and takes no more commands", row.name, row.run_id)
}

/// Ends a run that nobody trains, in a worker's place, where that loses nothing or may lose it.
async fn stop(
    (store, data_dir): (&Store, &Path),
    id: RunId,
    (number, command, unsaved): (u64, &Command, Unsaved),
    by: &str,
) -> Result<Fate> {
    // Looked at before it is taken: a worker of another host may have lost its connection for a moment,
    // and would find the run taken from it.
    let mut state = fold(store, id, None).await?;
    let first = first_step(store, id).await?;
    let at_stake = match unsaved_steps(&state, first) {
        Some(steps) => Some((steps, "without them")),
        None => damage(data_dir, id, &state).await?.map(|damage| (damage, "all the same")),
    };
    if let Some((what, how)) = &at_stake
        && unsaved == Unsaved::Kept
    {
        let end = typed_beside(&["runs", "end", &id.to_string(), "--reason", "WHY"]);
        return Ok(Fate::Left(
            number,
            format!(
                "{what}: the next `hm train` catches up with its log, saves and ends it; {end} ends it now \
                 {how}"
            ),
        ));
    }
    let mut lease = match store.acquire_writer(id).await {
        Ok(lease) => lease,
        // A worker has just come, or has just ended the run: it answers.
        Err(StoreError::Held { .. } | StoreError::MayComeBack { .. } | StoreError::Sealed(_)) => {
            return Ok(Fate::Waits(number));
        }
        Err(error) => return Err(error.into()),
    };
    // A worker that came and went meanwhile has answered, or the next one does.
    if lease.head().next_seq != state.next_seq {
        lease.release().await?;
        return Ok(Fate::Waits(number));
    }
    let (step, attempt) = (state.next_step, state.attempt);
    let answered = CommandAnswered {
        command: number,
        step,
        asked: serde_json::to_string(command)?,
        by: by.to_owned(),
        waited_s: 0,
        refusal: None,
    };
    let answered = Event::CommandAnswered(answered);
    state.apply(&answered);
    let Due { ending, reason } = state.ending_due().context("a stop ends a run")?;
    let events = vec![answered, Event::RunFinished(RunFinished { step, ending, reason })];
    let appended = lease.append(attempt, events).await;
    // Given back in any case: this process may live on for long.
    lease.release().await?;
    appended?;
    let what = match at_stake {
        Some((what, _)) => format!("{what}; what no checkpoint holds is lost"),
        None if step == first => "it had trained no step".to_owned(),
        None => "its newest checkpoint holds every step".to_owned(),
    };
    Ok(Fate::Done(number, format!("ended at step {step}; no worker held it, and {what}")))
}

/// The steps that the log holds and no checkpoint on record, in the beginning of a sentence.
fn unsaved_steps(state: &RunState, first: u64) -> Option<String> {
    let saved = state.checkpoint.as_ref().map_or(first, |saved| saved.step);
    let last = state.next_step.checked_sub(1).filter(|last| *last >= saved)?;
    Some(format!("steps {saved} to {last} are in no checkpoint"))
}

/// The first step that the run trains itself: a fork's parent has trained those before.
async fn first_step(store: &Store, id: RunId) -> Result<u64> {
    let first = store.read(id, 0, 1).await?;
    Ok(RunState::start(&first.first().context("the run has no events")?.event)?.next_step)
}

/// Why the newest checkpoint on record is none that this machine holds whole, if so. Where the run was
/// trained on another machine only that one can know.
async fn damage(data_dir: &Path, id: RunId, state: &RunState) -> Result<Option<String>> {
    let Some(saved) = state.checkpoint.clone() else { return Ok(None) };
    let folder = checkpoints_in(data_dir, id).join(&saved.folder);
    let model = state.spec.model.clone();
    let look = move || hm_train::verify_checkpoint(&model, &folder, saved.digest);
    // Of a large model this reads for a while.
    let found = tokio::task::spawn_blocking(look).await?;
    let step = saved.step;
    Ok(found.err().map(|error| {
        format!("its newest checkpoint, of step {step}, is not whole on this machine ({error})")
    }))
}

/// The run as its log says it is, or as it was at its first step after the event of seq `at`.
pub(crate) async fn fold(store: &Store, id: RunId, at: Option<u64>) -> Result<RunState> {
    let first = store.read(id, 0, 1).await?;
    let mut state = RunState::start(&first.first().context("the run has no events")?.event)?;
    let is_later = |Recorded { seq, event, .. }: &Recorded| {
        matches!(event, Event::StepRecorded(_)) && at.is_some_and(|at| *seq > at)
    };
    loop {
        let page = store.read(id, state.next_seq, PAGE_EVENTS).await?;
        if page.is_empty() {
            return Ok(state);
        }
        for recorded in page {
            if is_later(&recorded) {
                return Ok(state);
            }
            state.apply(&recorded.event);
        }
    }
}
