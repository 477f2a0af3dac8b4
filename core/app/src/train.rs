//! `hm train`: prepare, find or start the run, catch up, train.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, anyhow, bail};
use hm_data::{Manifest, Sampler};
use hm_domain::command::{Asked, Command};
use hm_domain::event::*;
use hm_domain::id::{Digest, RunId};
use hm_domain::mentor::{Decided, Mentor};
use hm_domain::mixture::Mixture;
use hm_domain::plugin::Limits;
use hm_domain::spec::*;
use hm_domain::state::RunState;
use hm_host::Host;
use hm_store::{Journal, JournalLimits, Store};
use hm_train::{DeviceChoice, Trainer, preset};

use crate::Workplace;
use crate::cli::TrainArgs;
use crate::inbox::Inbox;
use crate::progress::RunProgress;
use crate::registry::Registry;
use crate::resume::{self, CaughtUp};
use crate::run_file::RunFile;
use crate::run_loop::{Outcome, Run};

/// Who sends commands from this terminal.
pub(crate) fn user() -> String {
    std::env::var("USER").unwrap_or_else(|_| "terminal".to_owned())
}

pub(crate) fn registry(workplace: &Workplace, store: &Store) -> Result<Registry> {
    let host = Host::new(Limits::default())?;
    Ok(Registry::new(store.clone(), host, workplace.runtime.handle().clone()))
}

/// The prepared data of a run file, prepared now if need be.
pub(crate) fn prepared(workplace: &Workplace, file: &RunFile) -> Result<(Manifest, PathBuf)> {
    let key = Digest::of(serde_json::to_string(&file.data)?.as_bytes());
    let folder = workplace.data_dir.join("prepared").join(key.short());
    let mut last = "";
    let manifest = hm_data::prepare(&file.data, &folder, &mut |progress| {
        if progress.phase != last {
            last = progress.phase;
            eprintln!("{last}: {} files", progress.files_total);
        }
    })?;
    Ok((manifest, folder))
}

/// What a run file means, given what was prepared.
fn resolve(file: &RunFile, manifest: &Manifest) -> Result<(RunSpec, Mixture)> {
    let mut model = preset(&file.model.preset).ok_or_else(|| {
        let known = hm_train::PRESETS.join(", ");
        anyhow!("model.preset `{}` is not one of {known}", file.model.preset)
    })?;
    model.vocabulary = manifest.vocabulary;
    model.sequence_length = file.model.sequence_length.unwrap_or(model.sequence_length);
    model.check()?;
    let known = |name: &String| manifest.domains.iter().any(|domain| domain.name == *name);
    if let Some(name) = file.mixture.keys().chain(file.limits.keys()).find(|name| !known(name)) {
        let names: Vec<_> = manifest.domains.iter().map(|domain| domain.name.as_str()).collect();
        bail!("`{name}` is no domain of the data; there are {}", names.join(", "));
    }
    let shares = prior(file, manifest)?;
    let segment = |entry: &hm_data::SegmentEntry| SegmentSpec {
        digest: entry.digest,
        documents: entry.documents,
        tokens: entry.tokens,
        bytes: entry.bytes,
    };
    let domains = manifest.domains.iter().zip(&shares).map(|(domain, &prior)| {
        let limits = file.limits.get(&domain.name);
        DomainSpec {
            name: domain.name.clone(),
            prior,
            floor: limits.map_or(0.0, |limits| limits.floor),
            cap: limits.map_or(1.0, |limits| limits.cap),
            max_epochs: limits.and_then(|limits| limits.max_epochs),
            segments: domain.segments.iter().map(segment).collect(),
            validation: domain.validation.as_ref().map(segment),
        }
    });
    let training = &file.training;
    if training.sequences_per_step == 0 {
        bail!("training.sequences_per_step is 0: a step needs at least one sequence");
    }
    let spec = RunSpec {
        name: file.name.clone(),
        seed: file.seed,
        model,
        training: TrainingSpec {
            steps: training.steps,
            sequences_per_step: training.sequences_per_step,
            micro_batch_sequences: training
                .micro_batch_sequences
                .unwrap_or(training.sequences_per_step),
        },
        optimizer: file.optimizer_spec(),
        schedule: file.schedule(),
        domains: domains.collect(),
        tokenizer: manifest.tokenizer,
        rules: file.rules_spec(),
        validation: file.validation_spec(),
        checkpoint: file.checkpoint_spec(),
        decision_lag: file.decision_lag,
    };
    Ok((spec, Mixture::from_shares(0, &shares)?))
}

/// Shares as named; domains that are not named share the rest by tokens.
fn prior(file: &RunFile, manifest: &Manifest) -> Result<Vec<f64>> {
    let tokens = |domain: &hm_data::DomainEntry| -> f64 {
        domain.segments.iter().map(|segment| segment.tokens as f64).sum()
    };
    let named: f64 = file.mixture.values().sum();
    let unnamed: f64 = manifest
        .domains
        .iter()
        .filter(|domain| !file.mixture.contains_key(&domain.name))
        .map(tokens)
        .sum();
    let rest = 1.0 - named;
    if rest < -1e-9 || (unnamed == 0.0 && rest > 1e-9) || file.mixture.values().any(|&s| s < 0.0) {
        bail!("the shares in `mixture` sum to {named}: all together must be 1, none negative");
    }
    let share = |domain: &hm_data::DomainEntry| match file.mixture.get(&domain.name) {
        Some(&share) => share,
        None => rest.max(0.0) * tokens(domain) / unnamed,
    };
    Ok(manifest.domains.iter().map(share).collect())
}

pub(crate) fn train(workplace: &Workplace, args: &TrainArgs) -> Result<u8> {
    let file = RunFile::read(&args.file.config, &args.file.sets)?;
    let device: DeviceChoice = args.device.parse()?;
    let (manifest, folder) = prepared(workplace, &file)?;
    let (spec, prior) = resolve(&file, &manifest)?;
    if args.dry_run {
        println!("{}", serde_json::to_string_pretty(&spec)?);
        eprintln!("{} parameters", spec.model.parameter_count());
        return Ok(0);
    }
    let store = workplace.store()?;
    let registry = registry(workplace, &store)?;
    let unfinished = workplace.runtime.block_on(store.find_unfinished(&spec.name))?;
    let trainer = Trainer::new(&spec, device)?;
    let (seed, length) = (spec.seed, spec.model.sequence_length);
    let sampler = Sampler::open(&folder, seed, length, spec.training.sequences_per_step)?;
    let parts = Parts { workplace, store, registry, trainer, sampler };
    let mut started = match unfinished.filter(|_| !args.new) {
        Some(run) => parts.take_up(run, &spec, args.accept_divergence)?,
        None => parts.start(spec, prior)?,
    };
    let handle = workplace.runtime.handle();
    if started.fresh {
        bind_choices(&mut started.run, &file)?;
    }
    let inbox = Inbox::open(started.store.clone(), started.id, handle);
    let interrupted = Arc::clone(&started.run.interrupted);
    ctrlc::set_handler(move || interrupted.store(true, Ordering::Relaxed))?;
    let outcome = started.run.train(&inbox)?;
    started.run.journal.close()?;
    Ok(match outcome {
        Outcome::Finished(ending, reason) => {
            println!("run {} ended: {reason}", file.name);
            println!("check it with: hm audit {}", file.name);
            u8::from(ending != Ending::Completed && ending != Ending::Stopped)
        }
        Outcome::Interrupted => {
            let config = args.file.config.display();
            println!("saved; go on with: hm train -c {config}");
            130
        }
    })
}

/// Binds what the run file asks for; a refusal ends the command before the first step.
fn bind_choices(run: &mut Run, file: &RunFile) -> Result<()> {
    for choice in &file.plugins {
        let command = Command::Bind {
            plugin: choice.plugin.clone(),
            config: choice.config.clone(),
            role: choice.role,
            failure: choice.failure,
        };
        let bindings = run.mentor.state().bindings.len();
        run.answer(&Asked { number: 0, by: "run file".to_owned(), command })?;
        if run.mentor.state().bindings.len() == bindings {
            bail!("plugin `{}` of the run file could not be bound", choice.plugin);
        }
    }
    Ok(())
}

struct Parts<'a> {
    workplace: &'a Workplace,
    store: Store,
    registry: Registry,
    trainer: Trainer,
    sampler: Sampler,
}

struct Started {
    id: RunId,
    store: Store,
    run: Run,
    fresh: bool,
}

impl Parts<'_> {
    fn start(self, spec: RunSpec, prior: Mixture) -> Result<Started> {
        let id = RunId(uuid::Uuid::now_v7());
        let lease = self.workplace.runtime.block_on(self.store.start_run(id, &spec.name))?;
        let started = Event::RunStarted(RunStarted {
            spec: serde_json::to_string(&spec)?,
            prior,
            environment: environment(&self.trainer)?,
            parent: None,
        });
        let state = RunState::start(&started)?;
        let mut journal = self.journal(lease);
        journal.commit(0, vec![started], Vec::new())?;
        self.run(id, state, journal, true)
    }

    /// Goes on with an unfinished run: refuses another spec, catches up, and says how it went.
    fn take_up(mut self, id: RunId, spec: &RunSpec, accept_divergence: bool) -> Result<Started> {
        let runtime = &self.workplace.runtime;
        let lease = runtime.block_on(self.store.acquire_writer(id))?;
        let chain = runtime.block_on(self.store.verify_chain(id))?;
        if let Some((seq, reason)) = chain.broken {
            bail!("the log of run {id} is damaged at seq {seq}: {reason}");
        }
        let log = runtime.block_on(self.store.read(id, 0, u64::MAX >> 1))?;
        refuse_another_spec(&log, spec)?;
        let checkpoints = self.checkpoints(id);
        let mut say = |sentence: &str| eprintln!("{sentence}");
        let (state, caught_up) =
            resume::catch_up(&log, &mut self.trainer, &mut self.sampler, &checkpoints, &mut say)?;
        let CaughtUp { checkpoint, checkpoint_step, steps, difference_max, disagreement } =
            caught_up;
        eprintln!("resumed from step {checkpoint_step}, {steps} steps caught up");
        if let Some(sentence) = &disagreement {
            eprintln!("catch-up disagrees with the log: {sentence}");
            if !accept_divergence && self.trainer.device_name() == "cpu" {
                bail!("on a CPU this must not be; go on all the same with --accept-divergence");
            }
        }
        for binding in state.bindings.values().filter(|binding| binding.live) {
            self.registry.load(&binding.facts.plugin)?;
        }
        let store = self.store.clone();
        let states = resume::plugin_states(&log, &self.registry.host, &mut |digest| {
            let kept = runtime.block_on(store.blob(digest))?;
            kept.ok_or_else(|| anyhow!("kept plugin state {digest} is not in the database"))
        })?;
        let event = Event::RunResumed(RunResumed {
            step: state.next_step,
            checkpoint,
            checkpoint_step,
            caught_up_steps: steps,
            agreed: disagreement.is_none(),
            difference_max,
            environment: environment(&self.trainer)?,
        });
        let journal = self.journal(lease);
        let mut started = self.run(id, state, journal, false)?;
        for (binding, bytes) in states {
            started.run.mentor.restore(binding, bytes);
        }
        started.run.commit(Decided { events: vec![event], states: Vec::new() })?;
        Ok(started)
    }

    fn checkpoints(&self, id: RunId) -> PathBuf {
        self.workplace.data_dir.join("checkpoints").join(id.to_string())
    }

    fn journal(&self, lease: hm_store::WriterLease) -> Journal {
        let handle = self.workplace.runtime.handle().clone();
        let say = |notice: &str| eprintln!("{notice}");
        Journal::open(self.store.clone(), lease, handle, JournalLimits::default(), say)
    }

    fn run(self, id: RunId, state: RunState, journal: Journal, fresh: bool) -> Result<Started> {
        let checkpoints = self.checkpoints(id);
        std::fs::create_dir_all(&checkpoints)
            .with_context(|| format!("cannot make {}", checkpoints.display()))?;
        let progress = RunProgress::new(state.spec.training.steps, state.next_step);
        let run = Run {
            mentor: Mentor::new(state, Arc::new(self.registry.host.clone())),
            journal,
            sampler: self.sampler,
            trainer: self.trainer,
            registry: self.registry,
            checkpoints,
            progress,
            interrupted: Arc::new(AtomicBool::new(false)),
        };
        Ok(Started { id, store: self.store, run, fresh })
    }
}

/// A run goes on under the spec it started with; the difference is named.
fn refuse_another_spec(log: &[Recorded], spec: &RunSpec) -> Result<()> {
    let Some(Event::RunStarted(started)) = log.first().map(|recorded| &recorded.event) else {
        bail!("the log does not begin with run-started");
    };
    let then: serde_json::Value = serde_json::from_str(&started.spec)?;
    let now = serde_json::to_value(spec)?;
    match difference("", &then, &now) {
        None => Ok(()),
        Some(place) => bail!(
            "the unfinished run `{}` has another spec: {place}; train it as it was, or start another with --new",
            spec.name
        ),
    }
}

/// First place where two values differ, with both.
fn difference(place: &str, then: &serde_json::Value, now: &serde_json::Value) -> Option<String> {
    use serde_json::Value::{Array, Object};
    let below =
        |key: &str| if place.is_empty() { key.to_owned() } else { format!("{place}.{key}") };
    match (then, now) {
        (Object(a), Object(b)) if a.len() == b.len() => {
            a.iter().find_map(|(key, value)| difference(&below(key), value, b.get(key)?))
        }
        (Array(a), Array(b)) if a.len() == b.len() => (0..a.len())
            .find_map(|index| difference(&below(&index.to_string()), &a[index], &b[index])),
        _ => (then != now).then(|| format!("{place} was {then}, is {now}")),
    }
}

fn environment(trainer: &Trainer) -> Result<Environment> {
    let print = hm_train::fingerprint();
    let executable = std::env::current_exe().context("cannot find this executable")?;
    let bytes = std::fs::read(&executable)
        .with_context(|| format!("cannot read {}", executable.display()))?;
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    Ok(Environment {
        build: Digest::of(&bytes),
        device: trainer.device_name().to_owned(),
        processor: print.processor,
        instruction_set: print.instruction_set,
        c_library: print.c_library,
        threads: print.threads,
        host: host.trim().to_owned(),
        process: std::process::id(),
    })
}
