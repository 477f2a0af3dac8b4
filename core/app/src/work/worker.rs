//! A worker takes a run: a new one from its spec, or an unfinished one by catching up with its log.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Error, Result, anyhow, bail};
use hm_data::Sampler;
use hm_domain::command::Asked;
use hm_domain::event::*;
use hm_domain::follow::{BY_RUN_FILE, RUN_FILE};
use hm_domain::id::{BindingId, RunId};
use hm_domain::mentor::{Decided, Mentor};
use hm_domain::mixture::Mixture;
use hm_domain::spec::{PluginSpec, RunSpec};
use hm_domain::state::RunState;
use hm_store::{Journal, JournalLimits, Namesakes, Store, StoreError, WriterLease};
use hm_train::{Devices, InitialWeights, Trainer};

use crate::interrupt::{Interrupt, Interrupted};
use crate::progress::RunProgress;
use crate::prove::anchors::AnchorFile;
use crate::terminal;
use crate::work::admit::same;
use crate::work::anchor::{Anchor, load_parent};
use crate::work::checkpoints::Checkpoints;
use crate::work::environment::environment;
use crate::work::kept_states::KeptStates;
use crate::work::notices::Notices;
use crate::work::preparations::Preparations;
use crate::work::registry::Registry;
use crate::work::resume::{self, CaughtUp};
use crate::work::run_loop::Run;
use crate::work::throughput::Throughput;
use crate::workplace::Workplace;

/// How soon work that takes long is asked to end.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// How often it is asked whether a worker of another host has come back: each time over a new connection.
const ASK_INTERVAL: Duration = Duration::from_secs(1);

/// What a worker trains and asks with.
pub(crate) struct Means {
    /// Plugins of this process.
    pub(crate) registry: Registry,
    /// Where it trains.
    pub(crate) devices: Devices,
    /// Peak of one device, where a person knows it.
    pub(crate) peak_tflops: Option<f64>,
    /// Whether there is memory to write checkpoints from a copy.
    pub(crate) copies: bool,
}

/// All that a run needs, before it is known whether it is a new one.
pub(crate) struct Worker<'a> {
    workplace: &'a Workplace,
    store: Store,
    registry: Registry,
    trainer: Trainer,
    sampler: Sampler,
    speed: Throughput,
    copies: bool,
    interrupt: Interrupt,
}

/// A run at the end of its log.
struct Reached {
    is_fork: bool,
    checkpoints: Checkpoints,
    state: RunState,
    /// Of its plugins.
    states: BTreeMap<BindingId, Vec<u8>>,
    /// How it went.
    resumed: RunResumed,
}

impl<'a> Worker<'a> {
    /// Builds the model, from weights where the spec has any, and opens the shards in `prepared`.
    pub(crate) fn new(
        workplace: &'a Workplace,
        store: &Store,
        spec: &RunSpec,
        (prepared, weights): (&Path, Option<&InitialWeights>),
        Means { registry, devices, peak_tflops, copies }: Means,
        interrupt: Interrupt,
    ) -> Result<Worker<'a>> {
        if !hm_train::keep_freed_memory() {
            tracing::info!("this C library is not glibc: steps pay for memory that it gives back");
        }
        eprintln!("{devices}");
        let mut trainer = Trainer::on(spec, devices)?;
        if let (Some(weights), Some(digest)) = (weights, spec.initial_weights) {
            // Those that the spec names, even if the folder has been imported anew since.
            trainer.start_from(&InitialWeights { digest, ..weights.clone() })?;
        }
        let sampler = Sampler::open(prepared, spec.seed, spec.model.sequence_length)?;
        let speed = Throughput::new(&trainer, &spec.model, peak_tflops);
        let store = store.clone();
        Ok(Worker { workplace, store, registry, trainer, sampler, speed, copies, interrupt })
    }

    /// Starts a new run, from its parent's checkpoint if it is a fork, and binds what its file asks for,
    /// before the first step.
    pub(crate) fn start(
        mut self,
        spec: &RunSpec,
        prior: Mixture,
        parent: Option<Parent>,
        namesakes: Namesakes,
    ) -> Result<Run> {
        // What cannot be bound at all leaves no run behind.
        for plugin in &spec.plugins {
            let refused = |reason| anyhow!("plugin `{}` of the run file: {reason}", plugin.plugin);
            plugin.wish().check(spec).map_err(refused)?;
        }
        let started = Event::RunStarted(RunStarted {
            spec: serde_json::to_string(spec)?,
            prior,
            environment: environment(&self.trainer)?,
            parent,
        });
        let state = RunState::start(&started)?;
        load_parent(self.workplace, &started, &mut self.trainer)?;
        self.sampler.restore(&state.cursors, &state.carries)?;
        let (store, registry) = (&self.store, &self.registry);
        let inherited = KeptStates::of(&state);
        let inherited =
            inherited.execute(&state, store, registry, self.workplace, &self.interrupt)?;
        let id = new_run_id();
        let anchors = AnchorFile::open(&self.workplace.data_dir, id)?;
        let checkpoints = self.checkpoints(id)?;
        let starting = self.store.start_run(id, &spec.name, namesakes, started);
        let lease = self.workplace.runtime.block_on(starting).inspect_err(|_| {
            // Of a run that there is not; empty, or somebody else's and then it stays.
            let _ = std::fs::remove_dir(checkpoints.folder());
        })?;
        let journal = self.journal(lease);
        let mut run = self.run(id, state, journal, (checkpoints, anchors));
        for (binding, bytes) in inherited {
            run.mentor.restore(binding, bytes);
        }
        run.go_on(bind_all)
    }

    /// Takes the run. A worker of another host that was heard of a moment ago is given time to come back.
    fn acquire(&self, id: RunId) -> Result<WriterLease> {
        let mut is_told = false;
        loop {
            match self.workplace.runtime.block_on(self.store.acquire_writer(id)) {
                Err(StoreError::MayComeBack { holder, seconds, .. }) => {
                    if !is_told {
                        eprintln!(
                            "{} had this run a moment ago: unless it comes back, it is taken over in {seconds} s",
                            terminal::line(&holder)
                        );
                        is_told = true;
                    }
                }
                taken => return Ok(taken?),
            }
            if self.interrupt.wait(ASK_INTERVAL) {
                bail!(Interrupted("before it was taken over"));
            }
        }
    }

    /// Goes on with an unfinished run: refuses another spec, catches up, and says how it went.
    pub(crate) fn take_up(
        mut self,
        id: RunId,
        spec: &RunSpec,
        accept_divergence: bool,
    ) -> Result<Run> {
        let anchors = AnchorFile::open(&self.workplace.data_dir, id)?;
        let mut lease = self.acquire(id)?;
        let reached = match self.reach_the_end(id, spec, accept_divergence, &mut lease) {
            Ok(reached) => reached,
            Err(error) => {
                // One that is only dropped leaves a worker behind that counts as dead.
                if let Err(kept) = self.workplace.runtime.block_on(lease.release()) {
                    eprintln!("the run is not given back: {kept}");
                }
                return Err(error);
            }
        };
        let Reached { is_fork, checkpoints, state, states, resumed } = reached;
        let journal = self.journal(lease);
        let mut run = self.run(id, state, journal, (checkpoints, anchors));
        run.accepts_divergence = accept_divergence;
        let state = run.mentor.state();
        // A fork's first checkpoint is what lets its parent go.
        run.checkpoint_due = resume::is_worth_saving(&resumed, &state.spec.checkpoint)
            || (is_fork && state.checkpoint.is_none());
        for (binding, bytes) in states {
            run.mentor.restore(binding, bytes);
        }
        let event = Event::RunResumed(resumed);
        run.go_on(|run| {
            run.commit(Decided { events: vec![event], states: Vec::new() })?;
            // A worker that died before its first step may not have bound all that the file asks for.
            if !run.mentor.state().plugins_to_bind().is_empty() {
                bind_all(run)?;
            }
            Ok(())
        })
    }

    /// Reads the log to its end and trains what it holds, unless the run is another than `spec` says. Why
    /// not, the log says too, if it is whole.
    fn reach_the_end(
        &mut self,
        id: RunId,
        spec: &RunSpec,
        accept_divergence: bool,
        lease: &mut WriterLease,
    ) -> Result<Reached> {
        let (workplace, store) = (self.workplace, self.store.clone());
        same(&workplace.begun_with(&store, id)?, spec)?;
        let mut checkpoints = self.checkpoints(id)?;
        let anchor = Anchor::find(workplace, &store, id, &mut checkpoints, &mut self.trainer)
            .inspect_err(|error| self.leave_word(lease, error))?;
        let anchor = self.refuse_damaged(id, anchor)?;
        let is_fork = anchor.is_fork;
        let (state, states, resumed) = self
            .catch_up(id, anchor, &mut checkpoints, accept_divergence)
            .inspect_err(|error| self.leave_word(lease, error))?;
        Ok(Reached { is_fork, checkpoints, state, states, resumed })
    }

    /// Brings trainer and sampler to the end of the log: the run's state there, that of its plugins, and
    /// how it went.
    fn catch_up(
        &mut self,
        id: RunId,
        anchor: Anchor,
        checkpoints: &mut Checkpoints,
        accept_divergence: bool,
    ) -> Result<(RunState, BTreeMap<BindingId, Vec<u8>>, RunResumed)> {
        let held = (anchor, &mut self.trainer, &mut self.sampler);
        let (state, kept, caught_up) =
            resume::catch_up(self.workplace, &self.store, id, held, checkpoints, &self.interrupt)?;
        let CaughtUp { checkpoint, checkpoint_step, passed_over, steps, .. } = caught_up;
        let CaughtUp { folded_from, difference_max, disagreement, .. } = caught_up;
        eprintln!("resumed from step {checkpoint_step}, {steps} steps caught up");
        if let Some(sentence) = &disagreement {
            eprintln!("catch-up disagrees with the log: {sentence}");
            if !accept_divergence && self.trainer.is_exact() {
                bail!("on a CPU this must not be; go on all the same with --accept-divergence");
            }
        }
        let (store, registry) = (&self.store, &self.registry);
        let states = kept.execute(&state, store, registry, self.workplace, &self.interrupt)?;
        let resumed = RunResumed {
            step: state.next_step,
            checkpoint,
            checkpoint_step,
            folded_from,
            caught_up_steps: steps,
            agreed: disagreement.is_none(),
            difference_max,
            passed_over,
            environment: environment(&self.trainer)?,
        };
        Ok((state, states, resumed))
    }

    /// Leaves in the log why the run was not taken up, where that can still be written.
    fn leave_word(&self, lease: &mut WriterLease, error: &Error) {
        let (id, newest) = (lease.run_id(), lease.head().next_seq.saturating_sub(1));
        let reason = format!("the run could not be taken up: {error:#}");
        let written = self.workplace.runtime.block_on(async {
            let last = self.store.read(id, newest, 1).await?;
            let attempt = last.first().map_or(0, |last| match &last.event {
                Event::RolledBack(rolled) => rolled.attempt,
                _ => last.attempt,
            });
            let step = self.store.run(id).await?.map_or(0, |row| row.next_step.max(0) as u64);
            let interrupted = Event::RunInterrupted(RunInterrupted { step, reason });
            lease.append(attempt, vec![interrupted]).await
        });
        if let Err(unwritten) = written {
            eprintln!("the log does not say why this worker ends: {unwritten}");
        }
    }

    /// A damaged log is not gone on with. What lies before the anchor is not looked at: the digest of the
    /// state there stands in the part that is.
    fn refuse_damaged(&self, id: RunId, anchor: Anchor) -> Result<Anchor> {
        let place = "while it checked the log's chain; the run is as it was";
        let verified = self.store.verify_chain_from(id, anchor.verified_from);
        let chain = self.workplace.runtime.block_on(unless(&self.interrupt, place, verified))?;
        match chain.broken {
            Some((seq, reason)) => bail!("the log of run {id} is damaged at seq {seq}: {reason}"),
            None => Ok(anchor),
        }
    }

    /// Makes their folder, so that a place where none can be saved is known before anything is trained.
    fn checkpoints(&self, id: RunId) -> Result<Checkpoints> {
        let folder = self.workplace.checkpoints_of(id);
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("cannot make {} for checkpoints", folder.display()))?;
        Ok(Checkpoints::new(folder))
    }

    fn journal(&self, lease: WriterLease) -> Journal {
        let handle = self.workplace.runtime.handle().clone();
        let say = |notice: &str| eprintln!("{notice}");
        Journal::open(lease, handle, JournalLimits::default(), self.interrupt.flag(), say)
    }

    fn run(
        self,
        id: RunId,
        state: RunState,
        journal: Journal,
        (checkpoints, anchors): (Checkpoints, AnchorFile),
    ) -> Run {
        let progress = RunProgress::new(state.spec.training.steps, state.next_step, self.speed);
        Run {
            id,
            mentor: Mentor::new(state, Arc::new(self.registry.host.clone())),
            journal,
            store: self.store,
            runtime: self.workplace.runtime.handle().clone(),
            sampler: self.sampler,
            trainer: self.trainer,
            registry: self.registry,
            preparations: Preparations::default(),
            notices: Notices::default(),
            checkpoints,
            anchors,
            saving: None,
            broken: None,
            copies: self.copies,
            progress,
            checkpoint_due: false,
            accepts_divergence: false,
            interrupt: self.interrupt,
        }
    }
}

/// Does what may take long, unless it is asked to end.
async fn unless<T>(
    interrupt: &Interrupt,
    place: &'static str,
    work: impl Future<Output = Result<T, StoreError>>,
) -> Result<T> {
    let mut work = std::pin::pin!(work);
    loop {
        match tokio::time::timeout(LOOK_INTERVAL, &mut work).await {
            Ok(done) => return Ok(done?),
            Err(_) if interrupt.raised() => bail!(Interrupted(place)),
            Err(_) => {}
        }
    }
}

/// Binds what the run file still asks for, as it was found before the run began. A refusal ends the run:
/// it is not the one that was asked for.
fn bind_all(run: &mut Run) -> Result<()> {
    let plugins: Vec<PluginSpec> = run.mentor.state().plugins_to_bind().iter().cloned().collect();
    for plugin in plugins {
        let (number, by) = (BY_RUN_FILE, RUN_FILE.to_owned());
        let asked = Asked { number, by, command: plugin.wish(), waited_s: 0 };
        let candidate = run.registry.candidate(&plugin.digest.to_string(), &plugin.config);
        run.answer(&asked, candidate)?;
        if let Some(failed) = run.mentor.state().failed_end() {
            let reason = failed.reason.clone();
            run.seal(failed)?;
            bail!(reason);
        }
    }
    Ok(())
}

/// An id that sorts by the clock, as far as the clock can be believed: one that stands before 1970 is
/// taken for 1970. What began last is asked of the log, not of ids.
fn new_run_id() -> RunId {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let time = uuid::Timestamp::from_unix(uuid::NoContext, since.as_secs(), since.subsec_nanos());
    RunId(uuid::Uuid::new_v7(time))
}
