//! What `hm train` asks before it trains, the cheapest first: nothing here writes, and a dry run asks
//! the same.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use hm_domain::id::RunId;
use hm_domain::settings::Faults;
use hm_domain::spec::{PluginSpec, RunSpec};
use hm_store::{Store, StoreError, Worker};
use hm_train::{DeviceChoice, Devices, MemoryPlan, TrainError};

use crate::corpora::changes;
use crate::forecast::free_memory::{free_memory, without_plugins};
use crate::forecast::memory;
use crate::run_file::RunFile;
use crate::run_file::resolve::{Known, resolve};
use crate::run_file::settings::{self, Lookup};
use crate::run_file::spec_change::difference;
use crate::run_file::typed_again::typed_beside;
use crate::work::registry::Registry;
use crate::workplace::Workplace;

/// What is known before any text is read.
pub(crate) struct Admitted {
    /// What the file's plugins are.
    pub(crate) plugins: Vec<PluginSpec>,
    /// Where to train.
    pub(crate) devices: Devices,
}

/// The file by itself, the plugins that it names and the devices: all faults at once.
pub(crate) fn file(
    workplace: &Workplace,
    lookup: Lookup<'_>,
    file: &RunFile,
    device: &DeviceChoice,
) -> Result<Admitted> {
    let mut faults = settings::faults(file);
    let plugins = settings::check_plugins(workplace, lookup, file, &mut faults)?;
    let training = file.training.training_spec();
    let is_sound = !faults.all().iter().any(|fault| fault.key.starts_with("training."));
    let opened = Devices::open(device).and_then(|devices| {
        // Of numbers that are refused already nothing follows.
        if is_sound {
            devices.admit(&training)?;
        }
        Ok(devices)
    });
    match opened {
        Ok(devices) => {
            faults.into_result()?;
            return Ok(Admitted { plugins, devices });
        }
        Err(TrainError::Precision { precision, device }) => {
            let must = format!(
                "the {device} computes in f32 alone: set f32, or train on a GPU with --device cuda"
            );
            faults.add("training.precision", precision.name(), must);
        }
        Err(error) => faults.add("--device", device.to_string(), error),
    }
    Err(faults.into())
}

/// The unfinished run that the file is to go on with: nobody holds it, and it was begun with the same,
/// as far as that is typed. Its data is compared when it is known.
pub(crate) fn unfinished(
    workplace: &Workplace,
    store: &Store,
    id: RunId,
    (file, plugins): (&RunFile, &[PluginSpec]),
) -> Result<()> {
    match workplace.runtime.block_on(store.worker(id))? {
        // One of another host is waited for, when the run is taken up.
        Worker::Waiting { dead_in_s: Some(_), .. } | Worker::Dead { .. } | Worker::None => {}
        Worker::Working { holder, .. } | Worker::Waiting { holder, .. } => {
            return Err(StoreError::Held { run_id: id, holder }.into());
        }
    }
    let compared = workplace.begun_with(store, id).and_then(|then| {
        // What does not fit the old data may fit the new.
        match resolve(file, plugins, &Known::from(&then)) {
            Ok((now, _)) => same_but(&then, &now, &file.mixture),
            Err(_) => Ok(()),
        }
    });
    if compared.is_err() {
        // Of a log that was changed nothing follows.
        let chain = workplace.runtime.block_on(store.verify_chain(id))?;
        if let Some((seq, reason)) = chain.broken {
            bail!("the log of run {id} is damaged at seq {seq}: {reason}");
        }
    }
    compared
}

/// Whether the data of an unfinished run is as it was, as far as that is known before it is prepared. At
/// most so many bytes are read for it.
pub(crate) fn data(
    workplace: &Workplace,
    store: &Store,
    id: RunId,
    file: &RunFile,
    reading: (u64, &dyn Fn() -> bool),
) -> Result<()> {
    let then = workplace.begun_with(store, id)?;
    let changes = changes::since(workplace, &then, file, reading)?;
    if changes.is_empty() {
        return Ok(());
    }
    bail!(
        "the data of the unfinished run `{}` is another than when it began: {}; give it back as it was, or \
         start another run of that name from step 0 with --new",
        file.name,
        changes.join("; ")
    )
}

/// Refuses to go on with a run under another spec than its own.
pub(crate) fn same(then: &RunSpec, now: &RunSpec) -> Result<()> {
    same_but(then, now, &BTreeMap::new())
}

/// The same, where shares of these domains are typed.
fn same_but(then: &RunSpec, now: &RunSpec, typed: &BTreeMap<String, f64>) -> Result<()> {
    let Some(differs) = difference(then, now, typed) else { return Ok(()) };
    let name = &now.name;
    bail!(
        "the unfinished run `{name}` has another spec: {differs}; its log is checked against what it began \
         with: train it as it was{}, or start another of that name from step 0 with --new",
        remedies(name, &differs)
    )
}

/// Commands that change in a run's course what its file cannot change any more.
fn remedies(name: &str, differs: &str) -> String {
    let ways = [
        ("training.learning_rate was", ["runs", "learning-rate", name, "PEAK"]),
        ("training.sequences_per_step was", ["runs", "batch", name, "SEQUENCES"]),
        ("mixture.", ["runs", "mixture", name, "DOMAIN=SHARE"]),
        ("plugins.", ["plugin", "bind", name, "PLUGIN"]),
    ];
    let ways = ways
        .iter()
        .filter(|(key, _)| differs.starts_with(key) || differs.contains(&format!("; {key}")));
    let ways: Vec<String> = ways.map(|(_, words)| typed_beside(words)).collect();
    match &ways[..] {
        [] => String::new(),
        ways => format!(", and change it in its course with {}", ways.join(", ")),
    }
}

/// Whether each plugin of the file begins in a run of this spec, as it will be asked to.
pub(crate) fn plugins_begin(registry: &Registry, spec: &RunSpec) -> Result<()> {
    let mut faults = Faults::default();
    for (place, plugin) in spec.plugins.iter().enumerate() {
        let begun =
            registry.candidate(&plugin.digest.to_string(), &plugin.config).and_then(|candidate| {
                candidate.begin(&registry.host, (spec, 0), &plugin.config.to_string())
            });
        if let Err(why) = begun {
            let must = format!("must suit {} in this run: {why}", plugin.plugin);
            faults.add(format!("plugins.{place}.config"), &plugin.config, must);
        }
    }
    Ok(faults.into_result()?)
}

/// Whether the run fits into memory, where that is known before it is full; a warning where it may be
/// just too much, and where plugins will not load: what refuses them knows nothing of the limit. Whether
/// there is more, for a copy from which a checkpoint is written while training goes on.
pub(crate) fn memory(spec: &RunSpec, devices: &Devices) -> Result<bool> {
    let plan = MemoryPlan::of(spec, spec.training.micro_batch_sequences);
    if !spec.plugins.is_empty()
        && let Some(warning) = without_plugins(plan.bytes())
    {
        eprintln!("{warning}");
    }
    let Some(free) = free_memory() else { return Ok(true) };
    let mut taken = 0;
    if devices.are_cpu() {
        taken = plan.bytes();
        if let Some(warning) = memory::admit(spec, free)? {
            eprintln!("{warning}");
        }
    }
    let copies = taken.saturating_add(plan.copy_bytes) <= free.bytes;
    if !copies {
        eprintln!(
            "training will stand still while a checkpoint is written: a copy of weights and moments, for \
             it to go on meanwhile, takes {} more, and {} are free {}",
            memory::shown(plan.copy_bytes),
            memory::shown(free.bytes.saturating_sub(taken)),
            free.bound
        );
    }
    Ok(copies)
}
