//! The run loop: commands at the boundary, draw, train, decide, record, then what is due.
//!
//! Owns one run on its own thread. Everything it knows of the run is in the mentor's state, which is
//! the fold of the log.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use hm_data::Sampler;
use hm_domain::command::{Asked, Command};
use hm_domain::event::*;
use hm_domain::id::RunId;
use hm_domain::mentor::{Decided, Mentor};
use hm_domain::state::Phase;
use hm_domain::step::{LossSums, Verdict};
use hm_store::Journal;
use hm_train::Trainer;

use crate::inbox::Inbox;
use crate::interrupt::Interrupt;
use crate::outlook;
use crate::progress::RunProgress;
use crate::registry::Registry;

/// One run in the hands of this worker.
pub(crate) struct Run {
    pub(crate) id: RunId,
    pub(crate) mentor: Mentor,
    pub(crate) journal: Journal,
    pub(crate) sampler: Sampler,
    pub(crate) trainer: Trainer,
    pub(crate) registry: Registry,
    pub(crate) checkpoints: PathBuf,
    pub(crate) progress: RunProgress,
    /// Whether it goes on where a CPU disagrees with the log.
    pub(crate) accepts_divergence: bool,
    /// Ctrl-C: finish the step, checkpoint, end.
    pub(crate) interrupt: Interrupt,
}

/// Why the loop ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The run is over.
    Finished(Ending, String),
    /// This worker ends; the run can go on.
    Interrupted,
}

impl Run {
    /// Trains until the run is over or this worker is asked to end.
    pub(crate) fn train(&mut self, inbox: &Inbox) -> Result<Outcome> {
        loop {
            for asked in inbox.drain() {
                let refusal = self.answer(&asked)?;
                if let Some(reason) = &refusal {
                    self.progress.say(&format!("refused a command of {}: {reason}", asked.by));
                } else if asked.command == Command::Stop {
                    return self.finish(Ending::Stopped, format!("stopped by {}", asked.by));
                }
            }
            if self.interrupt.raised() {
                return self.interrupt();
            }
            let state = self.mentor.state();
            if state.phase == Phase::Paused {
                inbox.wait();
                continue;
            }
            if state.next_step >= state.spec.training.steps {
                return self.finish(Ending::Completed, "all steps are done".to_owned());
            }
            if state.next_step == 0 && !self.validated_at(0) {
                self.validate()?;
            }
            self.hold_to_limits()?;
            if let Some((ending, reason)) = self.step()? {
                return self.finish(ending, reason);
            }
            self.carry_out_what_is_due()?;
        }
    }

    /// Takes from domains that have been read as often as they may be, and says so.
    fn hold_to_limits(&mut self) -> Result<()> {
        let held = self.mentor.hold();
        if let Some(Event::MixtureLimited(limited)) = held.events.first() {
            let state = self.mentor.state();
            self.progress.say(&outlook::limited(&state.spec, &state.mixture, limited));
            return self.record(held);
        }
        Ok(())
    }

    /// One step. `Some` when it ends the run.
    fn step(&mut self) -> Result<Option<(Ending, String)>> {
        let state = self.mentor.state();
        let step = state.next_step;
        let knobs = self.mentor.knobs();
        let batch = self.sampler.draw(&state.mixture, state.next_sequences())?;
        let Run { mentor, trainer, .. } = self;
        let report = trainer
            .step(&batch, &knobs, &mut |pre_step| mentor.gate(pre_step))
            .with_context(|| format!("step {step} could not be trained"))?;
        self.progress.step(self.mentor.state(), &report);
        let verdict = report.verdict;
        self.measure_weights()?;
        let decided = self.mentor.decide(&batch, &knobs, report);
        let must_stop = self.mentor.must_stop(&decided);
        self.record(decided)?;
        if verdict == Verdict::Halt {
            return Ok(Some((Ending::Halted, format!("a gate halted the run at step {step}"))));
        }
        Ok(must_stop.map(|reason| (Ending::Failed, reason)))
    }

    /// Measures the weights if a plugin is to see them with the step just trained.
    fn measure_weights(&mut self) -> Result<()> {
        let step = self.mentor.state().next_step;
        let measure = |trainer: &Trainer| -> Result<WeightsMeasured> {
            Ok(WeightsMeasured { step, kinds: trainer.weight_state()? })
        };
        if self.mentor.weights_due() {
            let event = Event::WeightsMeasured(measure(&self.trainer)?);
            return self.record(Decided { events: vec![event], states: Vec::new() });
        }
        // A worker that died right after it had measured: the log stands, and is held against today.
        if let Some(logged) = &self.mentor.state().measured {
            let now = measure(&self.trainer)?;
            if !now.has_bits_of(logged) {
                let apart = format!(
                    "the weights after step {step} differ from the log's by {:e}",
                    now.difference(logged)
                );
                if !self.accepts_divergence && self.trainer.is_exact() {
                    bail!("{apart}: on a CPU this must not be");
                }
                self.progress.say(&apart);
            }
        }
        Ok(())
    }

    fn carry_out_what_is_due(&mut self) -> Result<()> {
        let state = self.mentor.state();
        let done = state.next_step;
        let last = done == state.spec.training.steps;
        let every = state.spec.validation.every_steps;
        let validate = last || state.validation_due || (every > 0 && done.is_multiple_of(every));
        let checkpoint = last || done.is_multiple_of(state.spec.checkpoint.every_steps);
        if validate && !self.validated_at(done) {
            self.validate()?;
        }
        if checkpoint {
            self.checkpoint()?;
        }
        Ok(())
    }

    /// Answers a wish; why not, if it is refused.
    pub(crate) fn answer(&mut self, asked: &Asked) -> Result<Option<String>> {
        let candidate = match &asked.command {
            Command::Bind { plugin, config, .. } => self.registry.candidate(plugin, config),
            _ => Err(String::new()),
        };
        let decided = self.mentor.answer(asked, candidate);
        let refusal = decided.events.iter().find_map(|event| match event {
            Event::CommandAnswered(answered) => answered.refusal.clone(),
            _ => None,
        });
        self.commit(decided)?;
        Ok(refusal)
    }

    fn validated_at(&self, step: u64) -> bool {
        self.mentor.state().validated == Some(step)
    }

    fn validate(&mut self) -> Result<()> {
        let spec = &self.mentor.state().spec;
        let sequences = spec.validation.sequences_per_domain;
        let mut losses = vec![LossSums::default(); spec.domains.len()];
        for batch in self.sampler.validation_batches(sequences) {
            for (sums, part) in losses.iter_mut().zip(self.trainer.validate(&batch)?) {
                sums.add(&part);
            }
        }
        let step = self.mentor.state().next_step;
        let event = Event::ValidationRecorded(ValidationRecorded { step, losses });
        self.record(Decided { events: vec![event], states: Vec::new() })
    }

    /// Keeps all plugin states and saves a checkpoint. A full disk is logged; the run goes on.
    pub(crate) fn checkpoint(&mut self) -> Result<()> {
        let state = self.mentor.state();
        let step = state.next_step;
        if state.checkpoint.as_ref().is_some_and(|saved| saved.step == step) {
            return Ok(());
        }
        let kept = self.mentor.keep_states();
        self.record(kept)?;
        let content = self.mentor.state().checkpoint_state();
        let event = match self.trainer.save(&self.checkpoints, &content) {
            Ok(saved) => Event::CheckpointSaved(CheckpointSaved {
                step,
                digest: saved.digest,
                folder: saved.folder,
                bytes: saved.bytes,
            }),
            Err(error) => {
                self.progress.say(&format!("checkpoint at step {step} failed: {error}"));
                let reason = error.to_string();
                Event::CheckpointFailed(CheckpointFailed { step, reason })
            }
        };
        let saved = matches!(event, Event::CheckpointSaved(_));
        self.commit(Decided { events: vec![event], states: Vec::new() })?;
        if saved && let Err(error) = self.prune() {
            self.progress.say(&format!("an old checkpoint stays: {error:#}"));
        }
        Ok(())
    }

    /// Deletes checkpoint folders beyond the newest `keep`. Only after a newer one is on record.
    fn prune(&self) -> Result<()> {
        let state = self.mentor.state();
        let keep = state.spec.checkpoint.keep as usize;
        let mut folders: Vec<PathBuf> = std::fs::read_dir(&self.checkpoints)
            .with_context(|| format!("cannot read {}", self.checkpoints.display()))?
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .filter(|path| path.is_dir())
            .collect();
        // Names begin with attempt and step at fixed width.
        folders.sort();
        let surplus = folders.len().saturating_sub(keep);
        let newest = state.checkpoint.as_ref().map(|saved| self.checkpoints.join(&saved.folder));
        for folder in folders.into_iter().take(surplus).filter(|path| Some(path) != newest.as_ref())
        {
            std::fs::remove_dir_all(&folder)
                .with_context(|| format!("cannot delete {}", folder.display()))?;
        }
        Ok(())
    }

    /// Ends a run that could not begin: nothing was trained, so there is nothing to save.
    pub(crate) fn give_up(&mut self, reason: String) -> Result<()> {
        let step = self.mentor.state().next_step;
        let event = Event::RunFinished(RunFinished { step, ending: Ending::Failed, reason });
        self.commit(Decided { events: vec![event], states: Vec::new() })
    }

    fn finish(&mut self, ending: Ending, reason: String) -> Result<Outcome> {
        self.checkpoint()?;
        let step = self.mentor.state().next_step;
        let event = Event::RunFinished(RunFinished { step, ending, reason: reason.clone() });
        self.commit(Decided { events: vec![event], states: Vec::new() })?;
        Ok(Outcome::Finished(ending, reason))
    }

    fn interrupt(&mut self) -> Result<Outcome> {
        self.progress.say("saving a checkpoint; Ctrl-C again ends at once");
        self.checkpoint()?;
        let step = self.mentor.state().next_step;
        let reason = "interrupted from the terminal".to_owned();
        let event = Event::RunInterrupted(RunInterrupted { step, reason });
        self.commit(Decided { events: vec![event], states: Vec::new() })?;
        Ok(Outcome::Interrupted)
    }

    /// Chains and applies; on disk within the journal's bound.
    fn record(&mut self, decided: Decided) -> Result<()> {
        let attempt = self.mentor.state().attempt;
        let recorded = self.journal.record(attempt, decided.events, decided.states)?;
        recorded.iter().for_each(|recorded| self.mentor.apply(&recorded.event));
        Ok(())
    }

    /// Chains, waits until it is on disk, and applies.
    pub(crate) fn commit(&mut self, decided: Decided) -> Result<()> {
        let attempt = self.mentor.state().attempt;
        let recorded = self.journal.commit(attempt, decided.events, decided.states)?;
        recorded.iter().for_each(|recorded| self.mentor.apply(&recorded.event));
        Ok(())
    }
}
