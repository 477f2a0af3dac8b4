//! `hm runs`: list runs, and send one a command.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use hm_domain::command::Command;

use crate::cli::RunsCommand;
use crate::workplace::{Workplace, user};

/// How long an answer is waited for. A worker answers at the next step boundary.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

pub(crate) fn run(workplace: &Workplace, command: RunsCommand) -> Result<u8> {
    match command {
        RunsCommand::Ls { json } => {
            let store = workplace.store()?;
            let rows = serde_json::to_value(workplace.runtime.block_on(store.runs())?)?;
            if json {
                println!("{}", serde_json::to_string_pretty(&rows)?);
            } else {
                for row in rows.as_array().into_iter().flatten() {
                    let text = |key: &str| row[key].to_string().trim_matches('"').to_owned();
                    println!(
                        "{}  {}  {}  step {}",
                        text("run_id"),
                        text("name"),
                        text("state"),
                        text("next_step")
                    );
                }
            }
            Ok(0)
        }
        RunsCommand::Pause { run } => send(workplace, &run, &Command::Pause),
        RunsCommand::Resume { run } => send(workplace, &run, &Command::Resume),
        RunsCommand::Stop { run } => send(workplace, &run, &Command::Stop),
        RunsCommand::Mixture { run, shares } => {
            send(workplace, &run, &Command::SetMixture { shares })
        }
        RunsCommand::LearningRate { run, peak, reason } => {
            send(workplace, &run, &Command::SetLearningRate { peak, reason })
        }
        RunsCommand::Batch { run, sequences, reason } => {
            send(workplace, &run, &Command::SetBatchSize { sequences, reason })
        }
    }
}

/// Puts a command into a run's inbox and waits for the worker's answer.
pub(crate) fn send(workplace: &Workplace, run: &str, command: &Command) -> Result<u8> {
    let store = workplace.store()?;
    let id = workplace.find_run(&store, run)?;
    let body = serde_json::to_value(command)?;
    let kind = body["command"].as_str().unwrap_or("command").to_owned();
    let by = user();
    let number = workplace.runtime.block_on(store.put_command(id, &kind, &body, &by))?;
    let asked = Instant::now();
    while asked.elapsed() < ANSWER_TIMEOUT {
        if let Some(seq) = workplace.runtime.block_on(store.command_answer(number))? {
            let events = workplace.runtime.block_on(store.read(id, seq, 1))?;
            if let Some(hm_domain::event::Event::CommandAnswered(answered)) =
                events.first().map(|recorded| &recorded.event)
            {
                return match &answered.refusal {
                    None => {
                        println!("{kind}: done at step {}", answered.step);
                        Ok(0)
                    }
                    Some(reason) => {
                        eprintln!("{kind}: refused: {reason}");
                        Ok(1)
                    }
                };
            }
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    bail!("no worker has answered yet; the command waits in the inbox of {run}")
}
