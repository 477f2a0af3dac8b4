//! A worker takes a run: a new one from its spec, or an unfinished one by catching up with its log.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Error, Result, anyhow, bail};
use hm_data::Sampler;
use hm_domain::command::{Asked, Command};
use hm_domain::event::*;
use hm_domain::id::{BindingId, RunId};
use hm_domain::mentor::{Decided, Mentor};
use hm_domain::mixture::Mixture;
use hm_domain::spec::RunSpec;
use hm_domain::state::RunState;
use hm_store::{Journal, JournalLimits, Namesakes, Store, WriterLease};
use hm_train::{Devices, InitialWeights, Trainer};

use crate::checkpoints::Checkpoints;
use crate::environment::environment;
use crate::free_memory::free_memory;
use crate::interrupt::Interrupt;
use crate::memory;
use crate::notices::Notices;
use crate::preparations::Preparations;
use crate::progress::RunProgress;
use crate::registry::Registry;
use crate::resume::{self, CaughtUp};
use crate::run_file::PluginChoice;
use crate::run_loop::Run;
use crate::spec_change::difference;
use crate::throughput::Throughput;
use crate::train::How;
use crate::workplace::Workplace;

/// All that a run needs, before it is known whether it is a new one.
pub(crate) struct Worker<'a> {
    workplace: &'a Workplace,
    store: Store,
    registry: Registry,
    trainer: Trainer,
    sampler: Sampler,
    speed: Throughput,
    interrupt: Interrupt,
}

impl<'a> Worker<'a> {
    /// Builds the model, from weights where the spec has any, and opens the shards in `prepared`.
    pub(crate) fn new(
        workplace: &'a Workplace,
        store: &Store,
        spec: &RunSpec,
        (prepared, weights): (&Path, Option<&InitialWeights>),
        how: &How,
        interrupt: Interrupt,
    ) -> Result<Worker<'a>> {
        if !hm_train::keep_freed_memory() {
            tracing::info!("this C library is not glibc: steps pay for memory that it gives back");
        }
        let devices = Devices::open(&how.device)?;
        eprintln!("{devices}");
        // What a GPU has is not known before it is full.
        if devices.are_cpu()
            && let Some(free) = free_memory()
            && let Some(warning) = memory::admit(spec, free)?
        {
            eprintln!("{warning}");
        }
        let mut trainer = Trainer::on(spec, devices)?;
        if let (Some(weights), Some(digest)) = (weights, spec.initial_weights) {
            // Those that the spec names, even if the folder has been imported anew since.
            trainer.start_from(&InitialWeights { digest, ..weights.clone() })?;
        }
        let sampler = Sampler::open(prepared, spec.seed, spec.model.sequence_length)?;
        let registry = workplace.registry(store)?;
        let speed = Throughput::new(&trainer, &spec.model, how.peak_tflops);
        let store = store.clone();
        Ok(Worker { workplace, store, registry, trainer, sampler, speed, interrupt })
    }

    /// Starts a new run and binds what its file asks for, before the first step.
    pub(crate) fn start(
        self,
        spec: &RunSpec,
        prior: Mixture,
        plugins: &[PluginChoice],
        namesakes: Namesakes,
    ) -> Result<Run> {
        // What cannot be bound at all leaves no run behind.
        for choice @ PluginChoice { plugin, config, .. } in plugins {
            let refused = |reason| anyhow!("plugin `{plugin}` of the run file: {reason}");
            bind(choice.clone()).check(spec).map_err(refused)?;
            self.registry.candidate(plugin, config).map_err(refused)?;
        }
        let id = new_run_id();
        let checkpoints = self.checkpoints(id)?;
        let started = Event::RunStarted(RunStarted {
            spec: serde_json::to_string(spec)?,
            prior,
            environment: environment(&self.trainer)?,
            parent: None,
        });
        let state = RunState::start(&started)?;
        let starting = self.store.start_run(id, &spec.name, namesakes, started);
        let lease = self.workplace.runtime.block_on(starting).inspect_err(|_| {
            // Of a run that there is not; empty, or somebody else's and then it stays.
            let _ = std::fs::remove_dir(checkpoints.folder());
        })?;
        let journal = self.journal(lease);
        let mut run = self.run(id, state, journal, checkpoints);
        bind_all(&mut run, plugins)?;
        Ok(run)
    }

    /// Goes on with an unfinished run: refuses another spec, catches up, and says how it went.
    pub(crate) fn take_up(
        mut self,
        id: RunId,
        spec: &RunSpec,
        plugins: &[PluginChoice],
        accept_divergence: bool,
    ) -> Result<Run> {
        let lease = self.workplace.runtime.block_on(self.store.acquire_writer(id))?;
        self.refuse_damaged_or_another(id, spec)?;
        let mut checkpoints = self.checkpoints(id)?;
        let (state, states, resumed) = match self.catch_up(id, &mut checkpoints, accept_divergence)
        {
            Ok(caught_up) => caught_up,
            Err(error) => {
                self.leave_word(lease, &error);
                return Err(error);
            }
        };
        let journal = self.journal(lease);
        let mut run = self.run(id, state, journal, checkpoints);
        run.accepts_divergence = accept_divergence;
        for (binding, bytes) in states {
            run.mentor.restore(binding, bytes);
        }
        let event = Event::RunResumed(resumed);
        run.commit(Decided { events: vec![event], states: Vec::new() })?;
        // A worker that died before its first step may not have bound all that the file asks for.
        let bound = run.mentor.state().bindings.len();
        if run.mentor.state().next_step == 0 && bound < plugins.len() {
            bind_all(&mut run, &plugins[bound..])?;
        }
        Ok(run)
    }

    /// Brings trainer and sampler to the end of the log: the run's state there, that of its plugins, and
    /// how it went.
    fn catch_up(
        &mut self,
        id: RunId,
        checkpoints: &mut Checkpoints,
        accept_divergence: bool,
    ) -> Result<(RunState, BTreeMap<BindingId, Vec<u8>>, RunResumed)> {
        let held = (&mut self.trainer, &mut self.sampler);
        let (state, kept, caught_up) =
            resume::catch_up(self.workplace, &self.store, id, held, checkpoints, &self.interrupt)?;
        let CaughtUp { checkpoint, checkpoint_step, passed_over, steps, .. } = caught_up;
        let CaughtUp { difference_max, disagreement, .. } = caught_up;
        eprintln!("resumed from step {checkpoint_step}, {steps} steps caught up");
        if let Some(sentence) = &disagreement {
            eprintln!("catch-up disagrees with the log: {sentence}");
            if !accept_divergence && self.trainer.is_exact() {
                bail!("on a CPU this must not be; go on all the same with --accept-divergence");
            }
        }
        let states = kept.execute(&state, &self.store, &self.registry, self.workplace)?;
        let resumed = RunResumed {
            step: state.next_step,
            checkpoint,
            checkpoint_step,
            caught_up_steps: steps,
            agreed: disagreement.is_none(),
            difference_max,
            passed_over,
            environment: environment(&self.trainer)?,
        };
        Ok((state, states, resumed))
    }

    /// Leaves in the log why the run was not taken up, where that can still be written.
    fn leave_word(&self, mut lease: WriterLease, error: &Error) {
        let (id, newest) = (lease.run_id(), lease.head().next_seq.saturating_sub(1));
        let reason = format!("the run could not be taken up: {error:#}");
        let written = self.workplace.runtime.block_on(async {
            let attempt =
                self.store.read(id, newest, 1).await?.first().map_or(0, |last| last.attempt);
            let step = self.store.run(id).await?.map_or(0, |row| row.next_step.max(0) as u64);
            let interrupted = Event::RunInterrupted(RunInterrupted { step, reason });
            lease.append(attempt, vec![interrupted]).await
        });
        if let Err(unwritten) = written {
            eprintln!("the log does not say why this worker ends: {unwritten}");
        }
    }

    /// A damaged log is not gone on with; neither is a run under another spec than its own.
    fn refuse_damaged_or_another(&self, id: RunId, spec: &RunSpec) -> Result<()> {
        let runtime = &self.workplace.runtime;
        let chain = runtime.block_on(self.store.verify_chain(id))?;
        if let Some((seq, reason)) = chain.broken {
            bail!("the log of run {id} is damaged at seq {seq}: {reason}");
        }
        let first = runtime.block_on(self.store.read(id, 0, 1))?.into_iter().next();
        let Some(Event::RunStarted(started)) = first.map(|recorded| recorded.event) else {
            bail!("the log of run {id} does not begin with run-started");
        };
        let then: RunSpec = serde_json::from_str(&started.spec)?;
        match difference(&then, spec) {
            None => Ok(()),
            Some(differs) => bail!(
                "the unfinished run `{}` has another spec: {differs}; train it as it was, or start \
                 another of that name from step 0 with --new",
                spec.name
            ),
        }
    }

    /// Makes their folder, so that a place where none can be saved is known before anything is trained.
    fn checkpoints(&self, id: RunId) -> Result<Checkpoints> {
        let folder = self.workplace.data_dir.join("checkpoints").join(id.to_string());
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("cannot make {} for checkpoints", folder.display()))?;
        Ok(Checkpoints::new(folder))
    }

    fn journal(&self, lease: WriterLease) -> Journal {
        let handle = self.workplace.runtime.handle().clone();
        let say = |notice: &str| eprintln!("{notice}");
        Journal::open(lease, handle, JournalLimits::default(), self.interrupt.flag(), say)
    }

    fn run(self, id: RunId, state: RunState, journal: Journal, checkpoints: Checkpoints) -> Run {
        let progress = RunProgress::new(state.spec.training.steps, state.next_step, self.speed);
        Run {
            id,
            mentor: Mentor::new(state, Arc::new(self.registry.host.clone())),
            journal,
            sampler: self.sampler,
            trainer: self.trainer,
            registry: self.registry,
            preparations: Preparations::default(),
            notices: Notices::default(),
            checkpoints,
            progress,
            accepts_divergence: false,
            interrupt: self.interrupt,
        }
    }
}

/// Binds what the run file asks for. A refusal ends the run: it is not the one that was asked for.
fn bind_all(run: &mut Run, plugins: &[PluginChoice]) -> Result<()> {
    for choice in plugins {
        let (name, command) = (&choice.plugin, bind(choice.clone()));
        let asked = Asked { number: 0, by: "run file".to_owned(), command };
        let candidate = run.registry.candidate(name, &choice.config);
        if let Some(reason) = run.answer(&asked, candidate)? {
            let reason = format!("plugin `{name}` of the run file could not be bound: {reason}");
            run.give_up(reason.clone())?;
            bail!(reason);
        }
    }
    Ok(())
}

/// The wish that a run file's plugin is.
fn bind(choice: PluginChoice) -> Command {
    let PluginChoice { plugin, config, role, failure } = choice;
    Command::Bind { plugin, config, role, failure, reason: String::new() }
}

/// An id that sorts by the clock, as far as the clock can be believed: one that stands before 1970 is
/// taken for 1970. What began last is asked of the log, not of ids.
fn new_run_id() -> RunId {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let time = uuid::Timestamp::from_unix(uuid::NoContext, since.as_secs(), since.subsec_nanos());
    RunId(uuid::Uuid::new_v7(time))
}
