//! `hm train`: prepare, find or start the run, catch up, train.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail};
use hm_data::Prepared;
use hm_domain::id::RunId;
use hm_store::{Namesakes, RunRow, Store};
use hm_train::DeviceChoice;
use indicatif::HumanDuration;

use crate::cli::TrainArgs;
use crate::dry_run::dry_run;
use crate::inbox::Inbox;
use crate::interrupt::Interrupt;
use crate::outlook;
use crate::prepare::prepared;
use crate::read_report;
use crate::resolve::resolve;
use crate::run_end::Outcome;
use crate::run_file::RunFile;
use crate::settings;
use crate::typed_again::{typed_again, typed_beside};
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

impl How {
    /// Whether a new run may begin beside an unfinished one of its name.
    fn namesakes(&self) -> Namesakes {
        if self.new { Namesakes::Allowed } else { Namesakes::Refused }
    }
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
    /// What the reading of its corpora lost.
    pub(crate) data: serde_json::Value,
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
    let Trained { id, outcome, .. } = &trained;
    if args.file.json {
        println!("{}", summary(&file, &trained));
    } else {
        if let Some(speed) = &trained.speed {
            println!("{speed}");
        }
        match outcome {
            Outcome::Finished(_, reason) => {
                println!("run {} ({id}) ended: {reason}", file.name);
                let audit = typed_beside(&["audit", &id.to_string()]);
                println!("check it with: {audit}");
            }
            _ => println!("{}", outcome.sentence(&typed_again())),
        }
    }
    Ok(outcome.exit_code())
}

fn summary(file: &RunFile, trained: &Trained) -> serde_json::Value {
    let Trained { id, outcome, throughput, data, .. } = trained;
    let ending = match outcome {
        Outcome::Finished(ending, _) => Some(ending),
        Outcome::Unsaved(_) | Outcome::Interrupted { .. } => None,
    };
    serde_json::json!({
        "run": id,
        "name": file.name,
        "ending": ending,
        "reason": outcome.reason(),
        "throughput": throughput,
        "data": data,
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
    let unfinished = if how.new { None } else { unfinished(workplace, store, &file.name)? };
    let Prepared { manifest, folder } = prepared(workplace, file, &interrupt)?;
    for sentence in read_report::sentences(&manifest) {
        eprintln!("{sentence}");
    }
    let (spec, first) = resolve(file, &manifest)?;
    let weights = file.model.initial_weights()?;
    let places = (folder.as_path(), weights.as_ref());
    let worker = Worker::new(workplace, store, &spec, places, how, interrupt)?;
    let mut run = match unfinished {
        Some(id) => {
            let run = worker.take_up(id, &spec, &file.plugins, how.accept_divergence)?;
            for remark in outlook::resumed(run.mentor.state()) {
                eprintln!("{remark}");
            }
            run
        }
        None => {
            for remark in outlook::remarks(&spec, &first) {
                eprintln!("{remark}");
            }
            worker.start(&spec, first.mixture, &file.plugins, how.namesakes())?
        }
    };
    let inbox = Inbox::open(store.clone(), run.id, workplace.runtime.handle());
    let outcome = run.train(&inbox)?;
    run.journal.close()?;
    let (speed, throughput) = (run.progress.speed.sentence(), run.progress.speed.json());
    let data = read_report::json(&manifest);
    Ok(Trained { id: run.id, outcome, speed, throughput, data })
}

/// The unfinished run of a name; none where there never was a run of it. One that has ended is not
/// begun again by the same command typed again: that would repeat its training without a word.
fn unfinished(workplace: &Workplace, store: &Store, name: &str) -> Result<Option<RunId>> {
    let runtime = &workplace.runtime;
    if let Some(id) = runtime.block_on(store.find_unfinished(name))? {
        return Ok(Some(id));
    }
    let Some(found) = runtime.block_on(store.find_run(name))? else { return Ok(None) };
    let id = found.run_id;
    let Some(RunRow { name: found, next_step, steps, ending, reason, last_at, .. }) =
        runtime.block_on(store.run(id))?
    else {
        return Ok(None);
    };
    // A name that is another run's id names no run of that name.
    let Some(ending) = ending.filter(|_| found == name) else { return Ok(None) };
    let reason = reason.map_or(String::new(), |reason| format!(" ({reason})"));
    let export = typed_beside(&["export", &id.to_string(), "--output", "FOLDER"]);
    bail!(
        "run `{name}` ({id}) has ended already: {ending} at step {next_step} of {steps}, {} \
         ago{reason}; --new starts another run of that name from step 0; to train its weights \
         further, {export}, then hm import FOLDER --output WEIGHTS, and a run of another name with \
         model: {{ from: WEIGHTS }}, which begins its data and its optimizer's moments anew",
        since(last_at)
    )
}

/// Time since then, as people say it.
fn since(micros: i64) -> HumanDuration {
    let then = UNIX_EPOCH + Duration::from_micros(micros.max(0) as u64);
    HumanDuration(SystemTime::now().duration_since(then).unwrap_or_default())
}
