//! The run loop: commands at the boundary, draw, train, decide, record, then what is due.
//!
//! Owns one run on its own thread. Everything it knows of the run is in the mentor's state, which is
//! the fold of the log. How the run ends is in `run_end`.

use anyhow::{Context, Result, anyhow, bail};
use hm_data::Sampler;
use hm_domain::command::{Asked, Candidate, Command};
use hm_domain::ending::Due;
use hm_domain::event::*;
use hm_domain::id::{Digest, RunId};
use hm_domain::made;
use hm_domain::mentor::{Decided, Mentor};
use hm_domain::state::Phase;
use hm_domain::step::LossSums;
use hm_store::{Journal, Store};
use hm_train::Trainer;
use tokio::runtime::Handle;

use crate::forecast::outlook;
use crate::interrupt::Interrupt;
use crate::progress::RunProgress;
use crate::prove::anchors::{AnchorFile, Head};
use crate::run_file::typed_again::typed_beside;
use crate::steer::told;
use crate::work::checkpoints::Checkpoints;
use crate::work::inbox::{Inbox, Wish};
use crate::work::notices::Notices;
use crate::work::preparations::Preparations;
use crate::work::registry::Registry;
use crate::work::run_end::Outcome;
use crate::work::saving::Saving;
use crate::work::validation::validation;

/// One run in the hands of this worker.
pub(crate) struct Run {
    pub(crate) id: RunId,
    pub(crate) mentor: Mentor,
    pub(crate) journal: Journal,
    /// For what is only read; the journal writes.
    pub(crate) store: Store,
    pub(crate) runtime: Handle,
    pub(crate) sampler: Sampler,
    pub(crate) trainer: Trainer,
    pub(crate) registry: Registry,
    pub(crate) preparations: Preparations,
    pub(crate) notices: Notices,
    pub(crate) checkpoints: Checkpoints,
    pub(crate) anchors: AnchorFile,
    /// The checkpoint that is being written.
    pub(crate) saving: Option<Saving>,
    /// How the run must end, where its weights can never be saved and a wish to go back was refused.
    pub(crate) broken: Option<Due>,
    /// Whether there is memory to write checkpoints from a copy while training goes on.
    pub(crate) copies: bool,
    pub(crate) progress: RunProgress,
    /// Whether a checkpoint is due, now or once steps give numbers again.
    pub(crate) checkpoint_due: bool,
    /// Whether it goes on where a CPU disagrees with the log.
    pub(crate) accepts_divergence: bool,
    /// Ctrl-C: finish the step, checkpoint, end.
    pub(crate) interrupt: Interrupt,
}

impl Run {
    /// Where its log stands.
    pub(crate) fn head(&self) -> Head {
        Head { seq: self.journal.next_seq() - 1, hash: self.journal.chain() }
    }

    /// Trains until the run is over or this worker is asked to end.
    pub(crate) fn train_on(&mut self, inbox: &Inbox) -> Result<Outcome> {
        let newest = self.mentor.state().checkpoint.as_ref().map_or(0, |saved| saved.step);
        // Waited for: one that no event names yet looks like what a dead worker left.
        if let Some(broken) = self.save_what_is_due()?.or(self.wait_for_checkpoint()?) {
            return self.seal(broken);
        }
        self.remove_strays(newest);
        inbox.wait_for_first();
        let mut said_paused = false;
        loop {
            for wish in inbox.drain() {
                self.hear(wish)?;
            }
            self.bind_what_is_ready()?;
            if let Some(broken) = self.look_after_checkpoint()? {
                return self.seal(broken);
            }
            if let Some(due) = self.ending_due() {
                return self.finish(due);
            }
            if self.interrupt.raised() {
                return self.leave_in_good_order();
            }
            let state = self.mentor.state();
            if state.phase == Phase::Paused {
                if let Some(broken) = self.wait_for_checkpoint()? {
                    return self.seal(broken);
                }
                let state = self.mentor.state();
                if !said_paused {
                    let (step, run) = (state.next_step, self.id);
                    let resume = typed_beside(&["runs", "resume", &run.to_string()]);
                    self.progress.say(&format!("paused at step {step}; it goes on with: {resume}"));
                    said_paused = true;
                }
                self.journal.check()?;
                inbox.wait();
                continue;
            }
            said_paused = false;
            if state.validation_is_due() {
                self.validate()?;
            }
            self.hold_to_limits()?;
            self.step()?;
            if self.ending_due().is_none()
                && let Some(broken) = self.carry_out_what_is_due()?
            {
                return self.seal(broken);
            }
        }
    }

    /// Answers a wish and says so. A plugin that is to be bound is first made ready, beside the run.
    fn hear(&mut self, wish: Wish) -> Result<()> {
        let asked = match wish {
            Wish::Readable(asked) => asked,
            Wish::Unreadable { number, by, body, waited_s, why } => {
                self.progress.say(&format!("refused a command of {by} that cannot be read: {why}"));
                let reason = format!("it cannot be read: {why}");
                let refused = self.mentor.refuse((number, &by, waited_s), body, reason);
                return self.commit(refused);
            }
        };
        match self.preparations.begin(&self.registry, asked) {
            Some(asked) => self.settle(&asked, Err(String::new())),
            None => Ok(()),
        }
    }

    fn bind_what_is_ready(&mut self) -> Result<()> {
        let ready = self.preparations.ready();
        if ready.is_empty() {
            return Ok(());
        }
        for (asked, candidate) in ready {
            self.settle(&asked, candidate)?;
        }
        if self.preparations.are_done() {
            // What was refused, replaced or released keeps no memory.
            let bindings = &self.mentor.state().bindings;
            let bound = |digest: &Digest| {
                bindings.values().any(|binding| binding.live && binding.facts.plugin == *digest)
            };
            self.registry.host.keep_only(bound);
        }
        Ok(())
    }

    /// Answers a wish and says so.
    fn settle(&mut self, asked: &Asked, candidate: Result<Candidate, String>) -> Result<()> {
        let Asked { command, by, .. } = asked;
        let domains = self.mentor.state().spec.domains.iter().map(|domain| &*domain.name);
        let wish = told::wish(command, &domains.collect::<Vec<_>>());
        let before = told::policies(self.mentor.state());
        let refusal = match command {
            Command::Rollback { .. } => self.go_back(asked)?,
            _ => self.answer(asked, candidate)?,
        };
        if let Some(reason) = refusal {
            self.progress.say(&format!("refused a command of {by}: {wish}: {reason}"));
        } else {
            let step = self.mentor.state().next_step;
            self.progress.say(&format!("obeyed a command of {by} at step {step}: {wish}"));
            let now = told::policies(self.mentor.state());
            for remark in told::aftermath(self.id, command, &before, &now) {
                self.progress.say(&remark);
            }
            // A larger batch may change the mixture: what is told of the rest is told of that one.
            self.hold_to_limits()?;
            for remark in outlook::turned(self.mentor.state(), command) {
                self.progress.say(&remark);
            }
        }
        Ok(())
    }

    /// Takes from domains that would be read more often than they may be, and says so.
    fn hold_to_limits(&mut self) -> Result<()> {
        let held = self.mentor.hold();
        if let Some(Event::MixtureLimited(limited)) = held.events.first() {
            let state = self.mentor.state();
            self.progress.say(&outlook::limited(&state.spec, &state.mixture, limited));
            return self.record(held);
        }
        Ok(())
    }

    fn ending_due(&self) -> Option<Due> {
        self.mentor.state().ending_due()
    }

    fn step(&mut self) -> Result<()> {
        let state = self.mentor.state();
        let step = state.next_step;
        let knobs = self.mentor.knobs();
        let batch = self.sampler.draw(&state.mixture, state.next_sequences())?;
        let Run { mentor, trainer, .. } = self;
        let report = trainer
            .step(&batch, &knobs, &mut |pre_step| mentor.gate(pre_step))
            .with_context(|| format!("step {step} could not be trained"))?;
        self.progress.step(self.mentor.state(), &report);
        self.measure_weights()?;
        let decided = self.mentor.decide(&batch, &report).map_err(|apart| anyhow!(apart))?;
        let proven = self.proven_step();
        self.record(decided)?;
        if self.proven_step() != proven {
            // What was kept until the newest checkpoint had shown that it gives numbers.
            self.prune();
        }
        Ok(())
    }

    fn proven_step(&self) -> Option<u64> {
        self.mentor.state().proven.as_ref().map(|saved| saved.step)
    }

    /// Measures the weights if a plugin is to see them with the step just trained.
    fn measure_weights(&mut self) -> Result<()> {
        if !self.mentor.weights_due() {
            return Ok(());
        }
        let kinds = self.trainer.weight_state()?;
        let measured = made::weights(self.mentor.state(), &kinds).map(Event::WeightsMeasured);
        self.record(Decided { events: measured.into_iter().collect(), states: Vec::new() })
    }

    /// Answers a wish; why not, if it is refused.
    pub(crate) fn answer(
        &mut self,
        asked: &Asked,
        candidate: Result<Candidate, String>,
    ) -> Result<Option<String>> {
        let decided = self.mentor.answer(asked, candidate);
        let refusal = decided.events.iter().find_map(|event| match event {
            Event::CommandAnswered(answered) => answered.refusal.clone(),
            _ => None,
        });
        self.commit(decided)?;
        Ok(refusal)
    }

    pub(crate) fn validate(&mut self) -> Result<()> {
        let losses = validation(&self.mentor.state().spec, &self.trainer, &self.sampler)?;
        let recorded = made::validation(self.mentor.state(), &losses);
        let apart = |(due, found): (&LossSums, &LossSums)| due.tokens != found.tokens;
        if recorded.losses.iter().zip(&losses).any(apart) {
            let due = recorded.losses;
            bail!("held-out tokens gave {losses:?}, but {due:?} follows from the run's spec");
        }
        let event = Event::ValidationRecorded(recorded);
        self.record(Decided { events: vec![event], states: Vec::new() })
    }

    /// Chains and applies; on disk within the journal's bound.
    pub(crate) fn record(&mut self, decided: Decided) -> Result<()> {
        let attempt = self.mentor.state().attempt;
        let recorded = self.journal.record(attempt, decided.events, decided.states)?;
        for Recorded { event, .. } in &recorded {
            self.mentor.apply(event);
            self.progress.heed(event, &self.mentor.state().spec);
            let said = self.notices.of(event, &self.mentor.state().bindings);
            said.iter().for_each(|sentence| self.progress.say(sentence));
        }
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
