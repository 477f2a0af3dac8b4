//! `hm runs fork`: a new run that shares another's past up to one of its checkpoints. It is begun here,
//! with a first checkpoint of its own, and trained by `hm train` like any other.

use anyhow::{Result, bail};
use hm_data::Prepared;
use hm_domain::attempt::forked;
use hm_domain::event::Parent;
use hm_domain::id::RunId;
use hm_store::{Namesakes, Store};

use crate::cli::ForkArgs;
use crate::corpora::prepare::prepared;
use crate::interrupt::Interrupt;
use crate::run_file::RunFile;
use crate::run_file::resolve::{Known, resolve};
use crate::run_file::settings::Lookup;
use crate::run_file::typed_again::typed_beside;
use crate::work::admit::{self, Admitted};
use crate::work::anchor::{Vouched, on_record, return_point};
use crate::work::rollback::others;
use crate::work::worker::{Means, Worker};
use crate::workplace::Workplace;

pub(crate) fn fork(workplace: &Workplace, args: &ForkArgs) -> Result<u8> {
    let store = workplace.store()?;
    let id = workplace.find_run(&store, &args.run)?.run_id;
    let file = RunFile::read(&args.file.config, &args.file.sets)?;
    let parent = parent(workplace, &store, id, args.at)?;
    let device = args.device.parse()?;
    let Admitted { plugins, devices } = admit::file(workplace, Lookup::In(&store), &file, &device)?;
    let interrupt = Interrupt::install()?;
    let Prepared { manifest, folder } = prepared(workplace, &file, &interrupt)?;
    let (spec, first) = resolve(&file, &plugins, &Known::from(&manifest))?;
    // What cannot be forked so leaves no run behind.
    forked(spec.clone(), &first.mixture, &parent)?;
    let registry = workplace.registry(&store)?;
    admit::plugins_begin(&registry, &spec)?;
    let copies = admit::memory(&spec, &devices)?;
    let means = Means { registry, devices, peak_tflops: None, copies };
    let worker = Worker::new(workplace, &store, &spec, (&folder, None), means, interrupt)?;
    let mut run = worker.start(&spec, first.mixture, Some(parent), Namesakes::Refused)?;
    let begun = run.id;
    let unsaved = run.checkpoint(&[]);
    let unsaved = run.give_back(unsaved)?;
    let name = &spec.name;
    if let Some(error) = unsaved {
        bail!(
            "run `{name}` ({}) is begun, but its first checkpoint could not be saved: {error}; until `hm \
             train` has saved one it needs its parent's",
            begun
        );
    }
    if args.file.json {
        println!(
            "{}",
            serde_json::json!({ "run": begun, "name": name, "parent": id, "step": args.at })
        );
    } else {
        println!("run {name} ({}) is begun, from step {} of run {id}", begun, args.at);
        let config = args.file.config.display().to_string();
        let sets = args.file.sets.iter().flat_map(|set| ["--set", set]);
        let words: Vec<&str> = ["train", "-c", &config].into_iter().chain(sets).collect();
        println!("train it with: {}", typed_beside(&words));
    }
    Ok(0)
}

/// The newest checkpoint of a step that can be forked from.
fn parent(workplace: &Workplace, store: &Store, run: RunId, step: u64) -> Result<Parent> {
    let runtime = workplace.runtime.handle();
    let on_record = on_record(runtime, store, run)?;
    let mut refused = format!("no checkpoint of step {step} is on record{}", others(&on_record));
    for (seq, saved) in on_record.iter().filter(|(_, saved)| saved.step == step) {
        let folder = workplace.checkpoints_of(run).join(&saved.folder);
        let point = match folder.is_dir() {
            true => return_point(runtime, store, run, (*seq, saved), &folder)?,
            false => Err(format!("{} is not there", folder.display())),
        };
        match point {
            Err(reason) => {
                refused = format!("the checkpoint of step {step} cannot be forked from: {reason}");
            }
            Ok(Vouched { point, hash, .. }) => {
                let (seq, checkpoint, state) = (point.seq, point.saved, point.state);
                return Ok(Parent { run, seq, hash, checkpoint, state });
            }
        }
    }
    bail!(refused)
}
