//! A wish on its way to a run, from a terminal or from the page: checked before it is put down, and
//! answered at once where nobody is there to answer it at the next step.

use anyhow::{Context as _, Result};
use hm_domain::command::Command;
use hm_domain::ending::Due;
use hm_domain::event::{CommandAnswered, Event, RunFinished};
use hm_domain::id::RunId;
use hm_domain::state::RunState;
use hm_store::{Put, RunRow, Store, StoreError};
use serde_json::Value;

use crate::registry::installed;

/// Events of a log that are folded at once.
const PAGE_EVENTS: u64 = 2048;

/// What became of a wish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It cannot be obeyed, whoever trains the run.
    Refused(String),
    /// It is in the inbox of a run that a worker holds: this one answers at its next step.
    Waits(u64),
    /// It is in the inbox of a run that nobody trains: the next `hm train` answers.
    Left(u64),
    /// It was obeyed on the spot; how, in a sentence.
    Done(u64, String),
}

/// Asks `row`'s run for something.
pub(crate) async fn ask(store: &Store, row: &RunRow, command: &Command, by: &str) -> Result<Fate> {
    let id = RunId(row.run_id);
    if row.ending.is_some() {
        return Ok(Fate::Refused(ended(row)));
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
    if store.writer(id).await?.is_some() {
        return Ok(Fate::Waits(number));
    }
    match command {
        Command::Stop { .. } => stop(store, id, (number, command), by).await,
        _ => Ok(Fate::Left(number)),
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
        _ => None,
    })
}

/// Why a run that is over obeys nothing.
fn ended(row: &RunRow) -> String {
    let how = row.ending.as_deref().map(|ending| format!(" ({ending})")).unwrap_or_default();
    format!("run {} ({}) has ended{how} and takes no more commands", row.name, row.run_id)
}

/// Ends a run that nobody trains, in a worker's place. What no checkpoint holds is not trained again.
async fn stop(
    store: &Store,
    id: RunId,
    (number, command): (u64, &Command),
    by: &str,
) -> Result<Fate> {
    let mut lease = match store.acquire_writer(id).await {
        Ok(lease) => lease,
        // A worker has just come, or has just ended the run: it answers.
        Err(StoreError::Held { .. } | StoreError::Sealed(_)) => return Ok(Fate::Waits(number)),
        Err(error) => return Err(error.into()),
    };
    // As it stands now that nobody else can write.
    let mut state = fold(store, id).await?;
    let (step, attempt) = (state.next_step, state.attempt);
    let answered = CommandAnswered {
        command: number,
        step,
        asked: serde_json::to_string(command)?,
        by: by.to_owned(),
        refusal: None,
    };
    let answered = Event::CommandAnswered(answered);
    state.apply(&answered);
    let Due { ending, reason } = state.ending_due().context("a stop ends a run")?;
    let events = vec![answered, Event::RunFinished(RunFinished { step, ending, reason })];
    lease.append(attempt, events).await?;
    lease.release().await?;
    let saved = match store.checkpoints(id).await?.first().and_then(|row| row["step"].as_u64()) {
        Some(saved) => format!("its newest checkpoint is of step {saved}"),
        None => "it has no checkpoint".to_owned(),
    };
    Ok(Fate::Done(number, format!("ended at step {step}; no worker held it, and {saved}")))
}

/// The run as its log says it is.
async fn fold(store: &Store, id: RunId) -> Result<RunState> {
    let first = store.read(id, 0, 1).await?;
    let mut state = RunState::start(&first.first().context("the run has no events")?.event)?;
    loop {
        let page = store.read(id, state.next_seq, PAGE_EVENTS).await?;
        if page.is_empty() {
            return Ok(state);
        }
        page.iter().for_each(|recorded| state.apply(&recorded.event));
    }
}
