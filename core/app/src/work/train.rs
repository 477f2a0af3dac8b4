//! `hm train`: prepare, find or start the run, catch up, train.

use anyhow::{Context as _, Result, bail};
use hm_data::Prepared;
use hm_domain::id::RunId;
use hm_domain::spec::{PluginSpec, RunSpec};
use hm_store::{Namesakes, RunRow, Store};
use hm_train::DeviceChoice;

use crate::cli::TrainArgs;
use crate::corpora::prepare::prepared;
use crate::corpora::read_report;
use crate::forecast::dry_run::dry_run;
use crate::forecast::outlook;
use crate::interrupt::Interrupt;
use crate::progress::Validation;
use crate::prove::anchors::Head;
use crate::run_file::RunFile;
use crate::run_file::resolve::{Known, resolve};
use crate::run_file::settings::Lookup;
use crate::run_file::spec_change::difference;
use crate::run_file::typed_again::{typed_again, typed_again_for};
use crate::steer::show::ago;
use crate::work::admit::{self, Admitted};
use crate::work::ended::Ended;
use crate::work::inbox::Inbox;
use crate::work::run_end::Outcome;
use crate::work::worker::{Means, Worker};
use crate::workplace::Workplace;

/// How to train, beside what the run file says.
#[derive(Clone, Debug)]
pub(crate) struct How {
    /// Start another run, even if one of this name is unfinished.
    pub(crate) new: bool,
    /// Go on with this one of the runs of its name.
    pub(crate) run: Option<RunId>,
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
    /// Where its log stands.
    pub(crate) head: Head,
    /// Loss of the last step that this worker trained.
    pub(crate) last_loss: Option<f64>,
    /// Its last validation.
    pub(crate) validation: Option<Validation>,
}

pub(crate) fn train(workplace: &Workplace, args: &TrainArgs) -> Result<u8> {
    let file = RunFile::read(&args.file.config, &args.file.sets)?;
    let device: DeviceChoice = args.device.parse()?;
    let TrainArgs { new, run, accept_divergence, peak_tflops, .. } = *args;
    let how = How { new, run, accept_divergence, device, peak_tflops };
    if args.dry_run {
        return dry_run(workplace, &file, &how, args.file.json);
    }
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
        if let Some(validation) = &trained.validation {
            println!("{}", validation.sentence());
        }
        match outcome {
            Outcome::Finished(ending, reason) => {
                println!("run {} ({id}) ended: {reason}", file.name);
                // The run is over, whatever becomes of the database.
                let ended = workplace.runtime.block_on(Ended::of(workplace, &store, *id));
                let ended = ended.unwrap_or_else(|_| Ended::unsaved(*id));
                let said = ended.sentences(*ending, trained.last_loss);
                said.iter().for_each(|sentence| println!("{sentence}"));
            }
            _ => {
                let named = workplace.runtime.block_on(store.runs_named(&file.name));
                // Where it is not known that the name is enough, the id is.
                let is_alone = run.is_some() || named.is_ok_and(|named| named.len() == 1);
                let again = if is_alone { typed_again() } else { typed_again_for(*id) };
                println!("{}", outcome.sentence(&again));
            }
        }
        println!("head of its log: {}", trained.head);
    }
    Ok(outcome.exit_code())
}

fn summary(file: &RunFile, trained: &Trained) -> serde_json::Value {
    let Trained { id, outcome, throughput, data, head, last_loss, validation, .. } = trained;
    let ending = match outcome {
        Outcome::Finished(ending, _) => Some(ending),
        Outcome::Unsaved(_) | Outcome::Interrupted { .. } => None,
    };
    serde_json::json!({
        "run": id,
        "name": file.name,
        "ending": ending,
        "reason": outcome.reason(),
        "last_loss": last_loss,
        "head": head,
        "validation": validation.as_ref().map(Validation::json),
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
    let Admitted { plugins, devices } =
        admit::file(workplace, Lookup::In(store), file, &how.device)?;
    let unfinished =
        if how.new { None } else { unfinished(workplace, store, (file, &plugins), how.run)? };
    if let Some(id) = unfinished {
        admit::unfinished(workplace, store, id, (file, &plugins))?;
        admit::data(workplace, store, id, file, (u64::MAX, &|| interrupt.raised()))?;
    }
    let Prepared { manifest, folder } = prepared(workplace, file, &interrupt)?;
    for sentence in read_report::sentences(&manifest) {
        eprintln!("{sentence}");
    }
    let (spec, first) = resolve(file, &plugins, &Known::from(&manifest))?;
    let registry = workplace.registry(store)?;
    if unfinished.is_none() {
        admit::plugins_begin(&registry, &spec)?;
    }
    let copies = admit::memory(&spec, &devices)?;
    let weights = file.model.initial_weights()?;
    let places = (folder.as_path(), weights.as_ref());
    let means = Means { registry, devices, peak_tflops: how.peak_tflops, copies };
    let worker = Worker::new(workplace, store, &spec, places, means, interrupt)?;
    let mut run = match unfinished {
        Some(id) => {
            let run = worker.take_up(id, &spec, how.accept_divergence)?;
            for remark in outlook::resumed(run.mentor.state()) {
                eprintln!("{remark}");
            }
            run
        }
        None => {
            for remark in outlook::remarks(&spec, &first) {
                eprintln!("{remark}");
            }
            worker.start(&spec, first.mixture, None, how.namesakes())?
        }
    };
    let inbox = Inbox::open(store.clone(), run.id, workplace.runtime.handle());
    let outcome = run.train(&inbox);
    let (id, head) = (run.id, run.head());
    let (speed, throughput) = (run.progress.speed.sentence(), run.progress.speed.json());
    let (data, last_loss) = (read_report::json(&manifest), run.progress.last_loss());
    let validation = run.progress.validation().cloned();
    let outcome = run.give_back(outcome)?;
    Ok(Trained { id, outcome, speed, throughput, data, head, last_loss, validation })
}

/// The run to go on with: the newest of the file's name, unless another is wanted; none where there never
/// was one. One that has ended is not begun again by the same command typed again, and an older one is
/// not gone on with in its place: either would train something else without a word. Where the command is
/// another one, so is the run that it begins, and that is said.
pub(crate) fn unfinished(
    workplace: &Workplace,
    store: &Store,
    (file, plugins): (&RunFile, &[PluginSpec]),
    wanted: Option<RunId>,
) -> Result<Option<RunId>> {
    let name = &file.name;
    let runs = workplace.runtime.block_on(store.runs_named(name))?;
    let found = match wanted {
        Some(id) => runs.iter().find(|run| run.run_id == id.0).with_context(|| {
            format!("there is no run {id} of the name `{name}`: `hm runs ls` lists them")
        })?,
        None => match runs.first() {
            Some(newest) => newest,
            None => return Ok(None),
        },
    };
    let id = RunId(found.run_id);
    let others: Vec<&RunRow> =
        runs.iter().filter(|run| run.run_id != id.0 && run.ending.is_none()).collect();
    let RunRow { next_step, steps, ending, reason, last_at, .. } = found;
    let Some(ending) = ending else {
        if wanted.is_none() && !others.is_empty() {
            eprintln!("going on with run `{name}` ({id}), the newest{}", unfinished_too(&others));
        }
        return Ok(Some(id));
    };
    let reason = reason.as_ref().map_or(String::new(), |reason| format!(" ({reason})"));
    let ways_on = workplace.runtime.block_on(Ended::of(workplace, store, id))?.ways_on(ending);
    let has_ended = format!(
        "run `{name}` ({id}) has ended already: {ending} at step {next_step} of {steps}, {} ago{reason}",
        ago(*last_at)
    );
    if wanted.is_none() && others.is_empty() {
        let then = workplace.begun_with(store, id)?;
        if let Some(differs) = typed_otherwise(&then, file, plugins) {
            eprintln!(
                "{has_ended}; this is another run of that name, from step 0, since {differs}{ways_on}"
            );
            return Ok(None);
        }
    }
    let others = unfinished_too(&others);
    bail!("{has_ended}; --new starts another run of that name from step 0{ways_on}{others}")
}

/// What the file says otherwise than a run of its name was begun with, as far as that is typed.
fn typed_otherwise(then: &RunSpec, file: &RunFile, plugins: &[PluginSpec]) -> Option<String> {
    match resolve(file, plugins, &Known::from(then)) {
        Ok((now, _)) => difference(then, &now, &file.mixture),
        // What does not fit the data of then is meant for other data.
        Err(misfit) => Some(format!("it does not fit that run's data: {misfit}")),
    }
}

/// Tells of other runs of a name, which a person may mean, and how to go on with one.
fn unfinished_too(others: &[&RunRow]) -> String {
    let one = |run: &&RunRow| {
        let RunRow { run_id, next_step, steps, .. } = run;
        format!(
            "; another of that name is unfinished at step {next_step} of {steps}, go on with it, under the \
             settings it was begun with: {}",
            typed_again_for(RunId(*run_id))
        )
    };
    others.iter().map(one).collect()
}
