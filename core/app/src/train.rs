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
use crate::outlook;
use crate::prepare::prepared;
use crate::resolve::resolve;
use crate::run_file::RunFile;
use crate::run_loop::Outcome;
use crate::settings;
use crate::worker::Worker;
use crate::workplace::Workplace;

/// How to train, beside what the run file says.
#[derive(Clone, Debug)]
pub(crate) struct How {
    /// Start another run, even if one of this name is unfinished.
    pub(crate) new: bool,
    /// Go on although steps trained again differ from the log.
    pub(crate) accept_divergence: bool,
    /// Where to train.
    pub(crate) device: DeviceChoice,
    /// Peak of one device, where a person knows it.
    pub(crate) peak_tflops: Option<f64>,
}

/// How a worker's part of a run went.
#[derive(Debug)]
pub(crate) struct Trained {
    pub(crate) id: RunId,
    pub(crate) outcome: Outcome,
    /// Speed, if any step was trained, in a sentence.
    pub(crate) speed: Option<String>,
    /// The same as data.
    pub(crate) throughput: serde_json::Value,
}

pub(crate) fn train(workplace: &Workplace, args: &TrainArgs) -> Result<u8> {
    let file = RunFile::read(&args.file.config, &args.file.sets)?;
    let device: DeviceChoice = args.device.parse()?;
    if args.dry_run {
        return dry_run(workplace, &file, args);
    }
    let (new, accept_divergence) = (args.new, args.accept_divergence);
    let how = How { new, accept_divergence, device, peak_tflops: args.peak_tflops };
    let interrupt = Interrupt::install()?;
    let store = workplace.store()?;
    let trained = run_to_its_end(workplace, &store, &file, &how, interrupt)?;
    if args.file.json {
        println!("{}", summary(&file, &trained));
    } else {
        if let Some(speed) = &trained.speed {
            println!("{speed}");
        }
        match &trained.outcome {
            Outcome::Finished(_, reason) => {
                println!("run {} ended: {reason}", file.name);
                println!("check it with: hm audit {}", file.name);
            }
            Outcome::Interrupted => {
                println!("saved; go on with: hm train -c {}", args.file.config.display());
            }
        }
    }
    Ok(match trained.outcome {
        Outcome::Finished(Ending::Completed | Ending::Stopped, _) => 0,
        Outcome::Finished(Ending::Halted | Ending::Failed, _) => 1,
        Outcome::Interrupted => 130,
    })
}

fn summary(file: &RunFile, trained: &Trained) -> serde_json::Value {
    let Trained { id, outcome, throughput, .. } = trained;
    let (ending, reason) = match outcome {
        Outcome::Finished(ending, reason) => (serde_json::json!(ending), reason.as_str()),
        Outcome::Interrupted => (serde_json::Value::Null, "interrupted"),
    };
    serde_json::json!({
        "run": id,
        "name": file.name,
        "ending": ending,
        "reason": reason,
        "throughput": throughput,
    })
}

/// Trains the unfinished run of the file's name, or a new one, until it ends or is interrupted.
pub(crate) fn run_to_its_end(
    workplace: &Workplace,
    store: &Store,
    file: &RunFile,
    how: &How,
    interrupt: Interrupt,
) -> Result<Trained> {
    settings::check(workplace, Some(store), file)?;
    let (manifest, folder) = prepared(workplace, file)?;
    let (spec, first) = resolve(file, &manifest)?;
    let unfinished = workplace.runtime.block_on(store.find_unfinished(&spec.name))?;
    let weights = file.initial_weights()?;
    let places = (folder.as_path(), weights.as_ref());
    let worker = Worker::new(workplace, store, &spec, places, how, interrupt)?;
    let mut run = match unfinished.filter(|_| !how.new) {
        Some(id) => worker.take_up(id, &spec, &file.plugins, how.accept_divergence)?,
        None => {
            for remark in outlook::remarks(&spec, &first) {
                eprintln!("{remark}");
            }
            worker.start(&spec, first.mixture, &file.plugins)?
        }
    };
    let inbox = Inbox::open(store.clone(), run.id, workplace.runtime.handle());
    let outcome = run.train(&inbox)?;
    run.journal.close()?;
    let (speed, throughput) = (run.progress.speed.sentence(), run.progress.speed.json());
    Ok(Trained { id: run.id, outcome, speed, throughput })
}
