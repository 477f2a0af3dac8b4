//! `hm train`: prepare, find or start the run, catch up, train.

use anyhow::Result;
use hm_domain::event::Ending;
use hm_domain::id::RunId;
use hm_store::Store;
use hm_train::DeviceChoice;

use crate::cli::TrainArgs;
use crate::dry_run::dry_run;
use crate::inbox::Inbox;
use crate::interrupt::Interrupt;
use crate::prepare::prepared;
use crate::resolve::resolve;
use crate::run_file::RunFile;
use crate::run_loop::Outcome;
use crate::worker::Worker;
use crate::workplace::Workplace;

/// How to train, beside what the run file says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct How {
    /// Start another run, even if one of this name is unfinished.
    pub(crate) new: bool,
    /// Go on although steps trained again differ from the log.
    pub(crate) accept_divergence: bool,
    /// Where to train.
    pub(crate) device: DeviceChoice,
}

pub(crate) fn train(workplace: &Workplace, args: &TrainArgs) -> Result<u8> {
    let file = RunFile::read(&args.file.config, &args.file.sets)?;
    let device: DeviceChoice = args.device.parse()?;
    if args.dry_run {
        return dry_run(workplace, &file, args);
    }
    let how = How { new: args.new, accept_divergence: args.accept_divergence, device };
    let interrupt = Interrupt::install()?;
    let store = workplace.store()?;
    let (id, outcome) = run_to_its_end(workplace, &store, &file, how, interrupt)?;
    if args.file.json {
        println!("{}", summary(&file, id, &outcome));
    } else {
        match &outcome {
            Outcome::Finished(_, reason) => {
                println!("run {} ended: {reason}", file.name);
                println!("check it with: hm audit {}", file.name);
            }
            Outcome::Interrupted => {
                println!("saved; go on with: hm train -c {}", args.file.config.display());
            }
        }
    }
    Ok(match outcome {
        Outcome::Finished(Ending::Completed | Ending::Stopped, _) => 0,
        Outcome::Finished(Ending::Halted | Ending::Failed, _) => 1,
        Outcome::Interrupted => 130,
    })
}

fn summary(file: &RunFile, id: RunId, outcome: &Outcome) -> serde_json::Value {
    let (ending, reason) = match outcome {
        Outcome::Finished(ending, reason) => (serde_json::json!(ending), reason.as_str()),
        Outcome::Interrupted => (serde_json::Value::Null, "interrupted"),
    };
    serde_json::json!({"run": id, "name": file.name, "ending": ending, "reason": reason})
}

/// Trains the unfinished run of the file's name, or a new one, until it ends or is interrupted.
pub(crate) fn run_to_its_end(
    workplace: &Workplace,
    store: &Store,
    file: &RunFile,
    how: How,
    interrupt: Interrupt,
) -> Result<(RunId, Outcome)> {
    let (manifest, folder) = prepared(workplace, file)?;
    let (spec, prior) = resolve(file, &manifest)?;
    let unfinished = workplace.runtime.block_on(store.find_unfinished(&spec.name))?;
    let weights = file.initial_weights()?;
    let places = (folder.as_path(), weights.as_ref());
    let worker = Worker::new(workplace, store, &spec, places, how.device, interrupt)?;
    let mut run = match unfinished.filter(|_| !how.new) {
        Some(id) => worker.take_up(id, &spec, &file.plugins, how.accept_divergence)?,
        None => worker.start(&spec, prior, &file.plugins)?,
    };
    let inbox = Inbox::open(store.clone(), run.id, workplace.runtime.handle());
    let outcome = run.train(&inbox)?;
    run.journal.close()?;
    Ok((run.id, outcome))
}
