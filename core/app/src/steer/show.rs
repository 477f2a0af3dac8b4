//! `hm runs ls` and `hm runs show`: what runs are there, who trains them, what waits.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use hm_domain::command::WISH_PATIENCE_S;
use hm_domain::event::Event;
use hm_domain::id::RunId;
use hm_store::{RunRow, StoreError, StoredCommand, Worker};
use indicatif::HumanDuration;
use serde_json::{Value, json};

use crate::terminal;
use crate::workplace::Workplace;

/// All runs, those that began last first.
pub(crate) fn list(workplace: &Workplace, is_json: bool) -> Result<u8> {
    let store = workplace.store_to_read()?;
    let (rows, workers) = workplace.runtime.block_on(async {
        let rows = store.runs().await?;
        let ids: Vec<RunId> = rows.iter().map(|row| RunId(row.run_id)).collect();
        let workers = store.workers(&ids).await?;
        Ok::<_, StoreError>((rows, workers))
    })?;
    if is_json {
        let rows = rows.iter().zip(&workers).map(|(row, worker)| with_worker(row, worker));
        println!("{}", serde_json::to_string_pretty(&rows.collect::<Result<Vec<_>>>()?)?);
        return Ok(0);
    }
    let states: Vec<String> =
        rows.iter().zip(&workers).map(|(row, worker)| state(row, worker)).collect();
    let longest = |lengths: &mut dyn Iterator<Item = usize>| lengths.max().unwrap_or(0);
    let name = longest(&mut rows.iter().map(|row| row.name.chars().count())).max(4);
    let wide = longest(&mut states.iter().map(|state| state.chars().count())).max(5);
    println!("{:36}  {:name$}  {:wide$}  {:>15}", "ID", "NAME", "STATE", "STEP");
    for (row, state) in rows.iter().zip(&states) {
        let step = format!("{}/{}", row.next_step, row.steps);
        println!("{}  {:name$}  {state:wide$}  {step:>15}", row.run_id, row.name);
    }
    Ok(0)
}

/// One run in full.
pub(crate) fn show(workplace: &Workplace, run: &str, is_json: bool) -> Result<u8> {
    let store = workplace.store_to_read()?;
    let found = workplace.find_run(&store, run)?;
    let id = found.run_id;
    let (row, first, worker, waiting, bindings, checkpoints, mixture) =
        workplace.runtime.block_on(async {
            Ok::<_, StoreError>((
                store.run(id).await?.ok_or(StoreError::NoRun(id))?,
                store.read(id, 0, 1).await?.pop(),
                store.worker(id).await?,
                store.pending_commands(id, 0).await?,
                store.bindings(id).await?,
                store.checkpoints(id).await?,
                store.newest_mixture(id).await?,
            ))
        })?;
    // The one that the run goes on from: no rollback has left it behind.
    let checkpoint = checkpoints.iter().find(|row| row["abandoned"] != true);
    let parent = first.and_then(|first| match first.event {
        Event::RunStarted(started) => started.parent,
        _ => None,
    });
    if is_json {
        let mut whole = with_worker(&row, &worker)?;
        let more = json!({
            "parent": parent.as_ref().map(|it| json!({ "run": it.run, "step": it.checkpoint.step })),
            "mixture": mixture.as_ref().map(|(shares, _)| shares),
            "bindings": bindings,
            "checkpoint": checkpoint,
            "waiting_commands": waiting,
        });
        let more = more.as_object().context("an object")?.clone();
        whole.as_object_mut().context("an object")?.extend(more);
        println!("{}", serde_json::to_string_pretty(&whole)?);
        return Ok(0);
    }
    println!("{found}");
    println!("state       {}", state(&row, &worker));
    if let Some(holder) = worker.living() {
        println!("worker      {}", terminal::line(holder));
    }
    if let Some(parent) = &parent {
        println!("fork of     {} at step {}", parent.run, parent.checkpoint.step);
    }
    if let Some(reason) = &row.reason {
        println!("reason      {}", terminal::line(reason));
    }
    println!("steps       {} of {}, {} tokens", row.next_step, row.steps, row.tokens);
    if let Some((shares, _)) = mixture {
        let share = |(name, share): (&String, f64)| format!("{} {share:.4}", terminal::line(name));
        let shares: Vec<String> = row.domains.iter().zip(shares).map(share).collect();
        println!("mixture     {}", shares.join(", "));
    }
    if let Some(checkpoint) = checkpoint {
        println!("checkpoint  of step {}: {}", checkpoint["step"], said(&checkpoint["folder"]));
    }
    for binding in &bindings {
        let (name, version) = (said(&binding["name"]), said(&binding["version"]));
        let (role, state) = (said(&binding["role"]), said(&binding["state"]));
        println!("plugin      {}: {name}@{version}, {role}, {state}", binding["binding"]);
    }
    for command in &waiting {
        println!("waits       {}", wish(command));
    }
    Ok(0)
}

fn said(value: &Value) -> String {
    terminal::line(value.as_str().unwrap_or("-"))
}

fn wish(command: &StoredCommand) -> String {
    let (kind, by) = (terminal::line(&command.kind), terminal::line(&command.by));
    let is_over = command.waited_s > WISH_PATIENCE_S;
    let over = if is_over { ": too long ago, and obeyed no more" } else { "" };
    format!("{kind}, asked by {by} {} ago{over}", ago(command.issued_at))
}

fn with_worker(row: &RunRow, worker: &Worker) -> Result<Value> {
    let mut row = serde_json::to_value(row)?;
    row["worker"] = serde_json::to_value(worker)?;
    Ok(row)
}

/// How a run is, in a few words. The log cannot say that a worker died: it only falls silent.
fn state(row: &RunRow, worker: &Worker) -> String {
    let state = &row.state;
    if let Some(ending) = &row.ending {
        return ending.clone();
    }
    match worker {
        Worker::Working { .. } => state.clone(),
        Worker::Waiting { .. } => format!("{state}, worker waits for the database"),
        Worker::Dead { heard_at, .. } => {
            format!("dead, last heard of {} ago", ago(*heard_at))
        }
        Worker::None if state == "interrupted" => state.clone(),
        Worker::None => format!("{state}, no worker"),
    }
}

/// How long ago, as people say it.
pub(crate) fn ago(micros: i64) -> HumanDuration {
    let then = UNIX_EPOCH + Duration::from_micros(micros.max(0) as u64);
    HumanDuration(SystemTime::now().duration_since(then).unwrap_or_default())
}
