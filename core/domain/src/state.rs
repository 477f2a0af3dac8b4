//! A run's state as a fold of its log. `apply` is the only thing that changes it, and never refuses:
//! what the log says happened, happened.

mod binding;
mod checkpoint;

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

pub use self::binding::Binding;
pub use self::checkpoint::CheckpointInWriting;
use crate::attempt::{self, NotAParent};
use crate::batch::Cursor;
use crate::checkpoint::CheckpointState;
use crate::ending::{self, Due, Failure, NonFinite};
use crate::event::*;
use crate::follow::{BY_RUN_FILE, Owed};
use crate::id::BindingId;
use crate::knobs::Overrides;
use crate::mixture::Mixture;
use crate::observe::{self, Seen};
use crate::precision::LossScale;
use crate::rules;
use crate::settings::Faults;
use crate::spec::RunSpec;
use crate::step::{LossSums, Verdict};

/// What a run is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Training, or waiting for a worker.
    Running,
    /// Waiting at a step boundary.
    Paused,
    /// Over.
    Finished(Ending),
}

/// The state of one run after some prefix of its log.
///
/// It is kept beside checkpoints, and digests of it stand in the log (`snapshot`): a field added later is
/// left out where it says nothing, so that older logs keep theirs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunState {
    /// The resolved spec.
    pub spec: RunSpec,
    /// Counts up at each rollback.
    pub attempt: u32,
    /// Position of the next event.
    pub next_seq: u64,
    /// The next step to train.
    pub next_step: u64,
    /// Optimizer updates so far.
    pub updates: u64,
    /// Target tokens trained on so far.
    pub tokens: u64,
    /// Sequences drawn so far: what a batch ramp goes by.
    pub sequences: u64,
    /// Target tokens drawn so far, per domain.
    pub domain_tokens: Vec<u64>,
    /// One per domain.
    pub cursors: Vec<Cursor>,
    /// Carried error of the quotas, per domain.
    pub carries: Vec<i64>,
    /// Mixture of step 0.
    pub prior: Mixture,
    /// Mixture of the next step.
    pub mixture: Mixture,
    /// Decided mixtures that wait for their step, oldest first.
    pub pending: Vec<(u64, Mixture)>,
    /// One per domain.
    pub loss_weights: Vec<f64>,
    /// Scale of the next step's objective.
    pub loss_scale: LossScale,
    /// What commands have set in place of the spec's values.
    pub overrides: Overrides,
    /// Every binding there ever was.
    pub bindings: BTreeMap<BindingId, Binding>,
    /// Whether a policy asked for a validation at the next boundary.
    pub validation_due: bool,
    /// Steps trained before the last validation.
    pub validated: Option<u64>,
    /// Whether that gave a finite loss: whatever the steps before it did, the weights give numbers.
    pub validation_gave_numbers: bool,
    /// Whether limits that leave no mixture have given way, and that was said: until a person sets
    /// another mixture or batch.
    pub limits_gave_way: bool,
    /// Last checkpoint on record.
    pub checkpoint: Option<CheckpointSaved>,
    /// The checkpoint that a worker writes.
    pub begun: Option<CheckpointInWriting>,
    /// What was last tried for the run itself and failed. None once a step or a checkpoint has come of
    /// it.
    pub(crate) failed: Option<Failure>,
    /// The newest whose weights, or what became of them, have given a finite loss and finite gradients.
    /// One that no such step has followed may hold weights that are ruined already.
    pub proven: Option<CheckpointSaved>,
    /// Steps whose loss or gradients were no numbers.
    pub non_finite: NonFinite,
    /// What it is doing.
    pub phase: Phase,
    /// How it must end, once a gate, a fault or a person has said so.
    pub(crate) must_end: Option<Due>,
    /// What must come next, and what is on record for that.
    #[serde(default, skip_serializing_if = "Owed::is_nothing")]
    pub(crate) owed: Owed,
    /// What the weights were after the next step, if that is all that is left to record: nothing else may
    /// come between the two.
    pub measured: Option<WeightsMeasured>,
    /// Newest observations that some live binding has not seen, oldest first.
    pub(crate) seen: VecDeque<Seen>,
}

/// A first event that starts no run.
#[derive(Debug, thiserror::Error)]
pub enum NotARun {
    /// Something else than `RunStarted`.
    #[error("the log does not begin with run-started")]
    NoStart,
    /// A spec that this build does not read.
    #[error("the spec in run-started cannot be read: {0}")]
    BadSpec(#[from] serde_json::Error),
    /// Batches that cannot be drawn.
    #[error("the spec in run-started cannot be obeyed: {0}")]
    BadBatch(#[from] Faults),
    /// A fork of what cannot be forked so.
    #[error(transparent)]
    NotAParent(#[from] NotAParent),
}

impl RunState {
    /// State after `RunStarted` at seq 0.
    pub fn start(event: &Event) -> Result<RunState, NotARun> {
        let Event::RunStarted(started) = event else { return Err(NotARun::NoStart) };
        let spec: RunSpec = serde_json::from_str(&started.spec)?;
        let mut faults = Faults::default();
        spec.training.check(&mut faults);
        faults.into_result()?;
        if let Some(parent) = &started.parent {
            let mut state = attempt::forked(spec, &started.prior, parent)?;
            state.owed = Owed::begin(attempt::bound_anew(&state));
            return Ok(state);
        }
        let count = spec.domains.len();
        Ok(RunState {
            attempt: 0,
            next_seq: 1,
            next_step: 0,
            updates: 0,
            tokens: 0,
            sequences: 0,
            domain_tokens: vec![0; count],
            cursors: vec![Cursor::default(); count],
            carries: vec![0; count],
            prior: started.prior.clone(),
            mixture: started.prior.clone(),
            pending: Vec::new(),
            loss_weights: vec![1.0; count],
            loss_scale: LossScale::first(spec.training.precision),
            overrides: Overrides::default(),
            bindings: BTreeMap::new(),
            validation_due: false,
            validated: None,
            validation_gave_numbers: false,
            limits_gave_way: false,
            checkpoint: None,
            begun: None,
            failed: None,
            proven: None,
            non_finite: NonFinite::default(),
            phase: Phase::Running,
            must_end: None,
            owed: Owed::begin(spec.plugins.iter().cloned()),
            measured: None,
            seen: VecDeque::new(),
            spec,
        })
    }

    /// The newest decided mixture, in force or waiting.
    pub fn newest_mixture(&self) -> &Mixture {
        self.pending.last().map_or(&self.mixture, |(_, mixture)| mixture)
    }

    /// What the weights were after `step`, if that is the next and they are measured; else nothing.
    pub(crate) fn measured_at(&self, step: u64) -> &[KindState] {
        match &self.measured {
            Some(measured) if measured.step == step => &measured.kinds,
            _ => &[],
        }
    }

    /// What a checkpoint saved now would hold beside the tensors.
    pub fn checkpoint_state(&self) -> CheckpointState {
        CheckpointState {
            attempt: self.attempt,
            next_step: self.next_step,
            updates: self.updates,
            tokens: self.tokens,
            cursors: self.cursors.clone(),
            carries: self.carries.clone(),
            mixture: self.mixture.clone(),
            pending: self.pending.clone(),
            loss_weights: self.loss_weights.clone(),
            overrides: self.overrides,
            plugin_states: self
                .bindings
                .iter()
                .filter(|(_, binding)| binding.live)
                .map(|(&id, binding)| (id, binding.state))
                .collect(),
        }
    }

    /// Folds the next event of the log.
    pub fn apply(&mut self, event: &Event) {
        self.follow(event);
        if !matches!(event, Event::StepRecorded(_)) {
            // What was measured is of the step as it was about to be. What comes in between, another worker
            // or a wish, may make another of it: then it is measured again.
            self.measured = None;
        }
        let seq = self.next_seq;
        self.next_seq += 1;
        match event {
            Event::StepRecorded(step) => self.apply_step(seq, step),
            Event::ValidationRecorded(validation) => {
                self.validation_due = false;
                self.validated = Some(validation.step);
                let mut means = validation.losses.iter().filter_map(LossSums::mean).peekable();
                self.validation_gave_numbers = means.peek().is_some() && means.all(f64::is_finite);
                let seen = observe::validation(self, seq, validation);
                self.remember(seen);
            }
            Event::MixtureSet(MixtureSet { step, mixture, .. })
            | Event::MixtureLimited(MixtureLimited { step, mixture, .. }) => {
                // What a policy has decided before, for steps to come, was decided after another mixture.
                self.pending = vec![(*step, mixture.clone())];
                self.limits_gave_way = match event {
                    Event::MixtureLimited(limited) => rules::limits_give_way(&limited.rules),
                    _ => false,
                };
            }
            Event::LearningRateSet(set) => self.overrides.learning_rate_peak = Some(set.peak),
            Event::BatchSizeSet(set) => {
                self.overrides.sequences_per_step = Some(set.sequences);
                self.limits_gave_way = false;
            }
            Event::BindingChanged(changed) => self.apply_binding(seq, changed),
            Event::BindingQuarantined(quarantined) => self.silence(quarantined.binding),
            Event::CheckpointBegun(begun) => {
                self.begun = Some(CheckpointInWriting::of(begun, seq));
            }
            Event::CheckpointSaved(saved) => {
                if self.begun.take().is_some_and(|begun| begun.gave_numbers) {
                    self.proven = Some(saved.clone());
                }
                (self.checkpoint, self.failed) = (Some(saved.clone()), None);
            }
            Event::CheckpointFailed(failed) => {
                self.begun = None;
                self.failed = Some(Failure::Unsaved(failed.reason.clone()));
            }
            Event::WeightsMeasured(measured) => self.measured = Some(measured.clone()),
            Event::RunPaused(_) => self.phase = Phase::Paused,
            Event::RunContinued(_) => self.phase = Phase::Running,
            Event::RunFinished(finished) => self.phase = Phase::Finished(finished.ending),
            Event::CommandAnswered(answered) => {
                self.must_end = self.must_end.take().or_else(|| ending::ended_by_answer(answered));
                if answered.command == BY_RUN_FILE {
                    self.failed = answered.refusal.clone().map(Failure::Unbound);
                }
            }
            Event::RolledBack(rolled) => self.apply_rollback(rolled),
            // What the worker before was writing is not of this one.
            Event::RunResumed(_) => self.begun = None,
            Event::RunStarted(_)
            | Event::PluginStateSaved(_)
            | Event::RunInterrupted(_)
            | Event::PluginInstalled(_) => {}
        }
        self.take_effect();
        self.forget_what_all_have_seen();
    }

    fn apply_step(&mut self, seq: u64, step: &StepRecorded) {
        let seen = observe::step(self, seq, step);
        self.must_end = self.must_end.take().or_else(|| self.ended_by_step(step));
        self.non_finite = self.non_finite.after(step, self.loss_scale);
        if !self.learns_nothing() {
            if self.proven != self.checkpoint {
                self.proven = self.checkpoint.clone();
            }
            if let Some(begun) = &mut self.begun {
                begun.gave_numbers = true;
            }
        }
        (self.measured, self.failed) = (None, None);
        self.next_step = step.step + 1;
        self.tokens = step.tokens;
        for (index, draw) in step.draws.iter().enumerate() {
            self.cursors[index] = draw.to;
            self.carries[index] = draw.carry;
            self.sequences += u64::from(draw.sequences);
            self.domain_tokens[index] += step.pre_step.losses[index].tokens;
        }
        if matches!(step.verdict, Verdict::Proceed | Verdict::ClipTo(_)) {
            self.updates += 1;
        }
        self.loss_scale = self.loss_scale.after(self.spec.training.precision, &step.pre_step);
        // Remembered first: whoever answered `ok` in this step has seen it.
        self.remember(seen);
        let faults = self.faults_after(&step.receipts);
        for receipt in &step.receipts {
            self.apply_receipt(receipt);
        }
        for (id, count) in faults {
            if let Some(binding) = self.bindings.get_mut(&id) {
                binding.faults = count;
            }
        }
    }

    /// Puts decided mixtures in force whose step has come.
    fn take_effect(&mut self) {
        while self.pending.first().is_some_and(|(step, _)| *step <= self.next_step) {
            self.mixture = self.pending.remove(0).1;
        }
    }
}
