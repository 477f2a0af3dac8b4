//! `hm runs`: ask a run for something.

use std::time::{Duration, Instant};

use anyhow::Result;
use hm_domain::command::Command;
use hm_domain::event::Event;
use hm_domain::knobs::{check_batch_size, check_peak};
use hm_store::{FoundRun, Store, StoreError};

use crate::cli::RunsCommand;
use crate::forecast::outlook;
use crate::run_file::shares::shares;
use crate::run_file::typed_again::typed_beside;
use crate::steer::show;
use crate::steer::told::{Policy, aftermath, live_binding, policies_on_record};
use crate::steer::wishes::{Fate, LEFT, Unsaved, ask, fold};
use crate::terminal;
use crate::work::fork::fork;
use crate::workplace::{Workplace, user};

/// How long a living worker's answer is waited for. It answers at its next step boundary.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// How often the answer is looked for.
const ANSWER_POLL: Duration = Duration::from_millis(100);
/// How often it is asked whether the worker still lives.
const WORKER_POLL: Duration = Duration::from_secs(1);

/// Events of a log that is folded for a remark at most: a longer one would be waited for.
const FOLDED_EVENTS_MAX: u64 = 500_000;

/// Exit code of a wish that was refused.
const REFUSED: u8 = 1;
/// Exit code of a wish that waits in the inbox.
const UNANSWERED: u8 = 3;

pub(crate) fn run(workplace: &Workplace, command: RunsCommand) -> Result<u8> {
    match command {
        RunsCommand::Ls { json } => show::list(workplace, json),
        RunsCommand::Show { run, json } => show::show(workplace, &run, json),
        RunsCommand::End { run, reason } => end(workplace, &run, reason),
        RunsCommand::Pause { run, reason } => send(workplace, &run, &Command::Pause { reason }),
        RunsCommand::Resume { run, reason } => send(workplace, &run, &Command::Resume { reason }),
        RunsCommand::Stop { run, reason } => send(workplace, &run, &Command::Stop { reason }),
        RunsCommand::Fork(args) => fork(workplace, &args),
        RunsCommand::Rollback { run, to, skip_data, reason } => {
            send(workplace, &run, &Command::Rollback { to, skip_data, reason })
        }
        RunsCommand::Mixture { run, shares, reason } => mixture(workplace, &run, &shares, reason),
        RunsCommand::LearningRate { run, peak, reason } => {
            let command = Command::SetLearningRate { peak, reason };
            // No run takes what is none.
            match check_peak(peak, None) {
                Ok(()) => send(workplace, &run, &command),
                Err(reason) => Ok(refused(command.kind(), &reason)),
            }
        }
        RunsCommand::Batch { run, sequences, reason } => {
            let command = Command::SetBatchSize { sequences, reason };
            match check_batch_size(sequences) {
                Ok(()) => send(workplace, &run, &command),
                Err(reason) => Ok(refused(command.kind(), &reason)),
            }
        }
    }
}

fn refused(kind: &str, reason: &str) -> u8 {
    eprintln!("{kind}: refused: {}", terminal::line(reason));
    REFUSED
}

/// Ends a run that nobody trains, whatever its checkpoints hold.
fn end(workplace: &Workplace, run: &str, reason: String) -> Result<u8> {
    let store = workplace.store()?;
    let found = workplace.find_run(&store, run)?;
    let worker = workplace.runtime.block_on(store.worker(found.run_id))?;
    if let Some(holder) = worker.living() {
        let stop = typed_beside(&["runs", "stop", &found.run_id.to_string()]);
        return Ok(refused(
            "end",
            &format!("{found} has a worker, {holder}: {stop} asks it to end"),
        ));
    }
    send_to(workplace, &store, &found, (&Command::Stop { reason }, Unsaved::Discarded))
}

fn mixture(workplace: &Workplace, run: &str, words: &[String], reason: String) -> Result<u8> {
    let store = workplace.store()?;
    let found = workplace.find_run(&store, run)?;
    let (spec, newest) = workplace.runtime.block_on(async {
        let spec = store.spec(found.run_id).await?;
        Ok::<_, StoreError>((spec, store.newest_mixture(found.run_id).await?))
    })?;
    let domains: Vec<String> = spec.domains.iter().map(|domain| domain.name.clone()).collect();
    let priors = || spec.domains.iter().map(|domain| domain.prior).collect();
    let in_force = newest.map_or_else(priors, |(shares, _)| shares);
    match shares(words, &domains, &in_force) {
        Ok(shares) => {
            let command = Command::SetMixture { shares, reason };
            send_to(workplace, &store, &found, (&command, Unsaved::Kept))
        }
        Err(refusal) => Ok(refused("set-mixture", &refusal)),
    }
}

/// Asks a run to call one of its plugins no more, which is named by its number or its name.
pub(crate) fn release(
    workplace: &Workplace,
    run: &str,
    plugin: &str,
    reason: String,
) -> Result<u8> {
    let store = workplace.store()?;
    let found = workplace.find_run(&store, run)?;
    let bindings = workplace.runtime.block_on(store.bindings(found.run_id))?;
    match live_binding(&bindings, plugin) {
        Ok(binding) => {
            let command = Command::Release { binding, reason };
            send_to(workplace, &store, &found, (&command, Unsaved::Kept))
        }
        Err(reason) => Ok(refused("release", &reason)),
    }
}

/// Asks a run for something and waits for the worker's answer, if it has a worker.
pub(crate) fn send(workplace: &Workplace, run: &str, command: &Command) -> Result<u8> {
    let store = workplace.store()?;
    let found = workplace.find_run(&store, run)?;
    send_to(workplace, &store, &found, (command, Unsaved::Kept))
}

fn send_to(
    workplace: &Workplace,
    store: &Store,
    found: &FoundRun,
    (command, unsaved): (&Command, Unsaved),
) -> Result<u8> {
    let kind = command.kind();
    let (fate, before) = workplace.runtime.block_on(async {
        let row = store.run(found.run_id).await?.ok_or(StoreError::NoRun(found.run_id))?;
        let before = policies_on_record(&store.bindings(found.run_id).await?);
        let fate = ask((store, &workplace.data_dir), &row, (command, unsaved), &user()).await?;
        Ok::<_, anyhow::Error>((fate, before))
    })?;
    match fate {
        Fate::Refused(reason) => Ok(refused(kind, &reason)),
        Fate::Done(_, how) => {
            println!("{kind}: {found} {how}");
            Ok(0)
        }
        Fate::Left(_, why) => {
            let code = left(kind, found, &why);
            say(&aftermath(found.run_id, command, &before, &before));
            Ok(code)
        }
        Fate::Waits(number) => wait(workplace, store, found, &Waiting { command, number, before }),
    }
}

/// A command that a worker is to answer.
struct Waiting<'a> {
    command: &'a Command,
    number: u64,
    /// Policies that the run obeyed before.
    before: Vec<Policy>,
}

fn say(remarks: &[String]) {
    remarks.iter().for_each(|remark| eprintln!("{}", terminal::line(remark)));
}

fn left(kind: &str, found: &FoundRun, why: &str) -> u8 {
    eprintln!("{kind}: no worker holds {found}: {why}");
    UNANSWERED
}

fn wait(
    workplace: &Workplace,
    store: &Store,
    found: &FoundRun,
    waiting: &Waiting<'_>,
) -> Result<u8> {
    let kind = waiting.command.kind();
    let (asked, mut worker_seen) = (Instant::now(), Instant::now());
    while asked.elapsed() < ANSWER_TIMEOUT {
        if let Some(code) = workplace.runtime.block_on(answer(store, found, waiting))? {
            return Ok(code);
        }
        if worker_seen.elapsed() >= WORKER_POLL {
            if workplace.runtime.block_on(store.worker(found.run_id))?.living().is_none() {
                // It may have answered and gone since the last look.
                let last = workplace.runtime.block_on(answer(store, found, waiting))?;
                return Ok(last.unwrap_or_else(|| left(kind, found, LEFT)));
            }
            worker_seen = Instant::now();
        }
        std::thread::sleep(ANSWER_POLL);
    }
    let seconds = ANSWER_TIMEOUT.as_secs();
    eprintln!(
        "{kind}: the worker of {found} has not answered in {seconds} s: the command waits in its inbox for the next step"
    );
    Ok(UNANSWERED)
}

/// Prints the answer to a wish and gives its exit code, once there is one.
async fn answer(store: &Store, found: &FoundRun, waiting: &Waiting<'_>) -> Result<Option<u8>> {
    let (kind, number) = (waiting.command.kind(), waiting.number);
    let Some(seq) = store.command_answer(number).await? else { return Ok(None) };
    let event = store.read(found.run_id, seq, 1).await?.into_iter().next();
    let refusal = match event.map(|recorded| recorded.event) {
        Some(Event::CommandAnswered(answered)) => match answered.refusal {
            None => {
                println!("{kind}: done at step {} of {found}", answered.step);
                say(&remarks(store, found, seq, waiting).await?);
                return Ok(Some(0));
            }
            Some(reason) => reason,
        },
        Some(Event::RunFinished(end)) => format!("{found} ended before: {}", end.reason),
        other => {
            anyhow::bail!("command {number} is answered by {other:?}: the database is damaged")
        }
    };
    Ok(Some(refused(kind, &refusal)))
}

/// What whoever made a wish that was obeyed at `seq` should know: the same that the worker's terminal says.
async fn remarks(
    store: &Store,
    found: &FoundRun,
    seq: u64,
    Waiting { command, before, .. }: &Waiting<'_>,
) -> Result<Vec<String>> {
    let id = found.run_id;
    let now = policies_on_record(&store.bindings(id).await?);
    let mut remarks = aftermath(id, command, before, &now);
    let bears_on_data =
        matches!(command, Command::SetMixture { .. } | Command::SetBatchSize { .. });
    if bears_on_data && seq <= FOLDED_EVENTS_MAX {
        remarks.extend(outlook::turned(&fold(store, id, Some(seq)).await?, command));
    } else if bears_on_data {
        remarks.push("what limits make of it its worker's terminal says".to_owned());
    }
    Ok(remarks)
}
