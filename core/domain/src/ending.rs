//! When a run is over, and how: a rule of its log alone. A worker that dies between the reason and the
//! event that ends the run leaves that event to the next one, and an audit comes to the same.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::command::Command;
use crate::event::*;
use crate::plugin::Outcome;
use crate::precision::LossScale;
use crate::spec::PluginSpec;
use crate::state::RunState;
use crate::step::Verdict;

/// Steps in a row without a finite loss and finite gradients after which a run has failed. Each of them
/// is skipped, so the weights stay as they are and only other data could help: a step or two may be
/// such data, so many are not. An f16 run first lowers its loss scale to the floor.
pub const NON_FINITE_STEPS_MAX: u32 = 20;

/// How a run must end, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Due {
    /// How.
    pub ending: Ending,
    /// Why, in a sentence.
    pub reason: String,
}

impl Due {
    fn new(ending: Ending, reason: String) -> Due {
        Due { ending, reason }
    }

    /// The same, where the last weights could not be saved.
    fn unsaved(&self, error: &str) -> Due {
        Due::new(Ending::Failed, format!("{}, but {error}", self.reason))
    }
}

/// What was tried for the run itself and failed, why in a sentence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Failure {
    /// To bind the next plugin of its file.
    Unbound(String),
    /// To save a checkpoint.
    Unsaved(String),
}

/// Steps whose loss or gradients were no numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NonFinite {
    /// In the whole run.
    pub steps: u64,
    /// In a row, up to the last step.
    pub in_a_row: u64,
    /// Those of the row that no smaller loss scale could have helped.
    pub counted: u32,
    /// First step of the row.
    pub since: u64,
}

impl NonFinite {
    /// After a step that was trained under `scale`.
    pub(crate) fn after(self, step: &StepRecorded, scale: LossScale) -> NonFinite {
        if step.pre_step.is_finite() {
            return NonFinite { steps: self.steps, ..NonFinite::default() };
        }
        let first = self.in_a_row == 0;
        NonFinite {
            steps: self.steps + 1,
            in_a_row: self.in_a_row + 1,
            counted: self.counted + u32::from(scale.is_at_its_floor()),
            since: if first { step.step } else { self.since },
        }
    }

    /// Whether the newest steps gave no numbers, and not for the sake of a loss scale that comes down.
    fn is_serious(&self) -> bool {
        self.counted > 0
    }

    fn failure(&self, proven: Option<&CheckpointSaved>) -> String {
        let NonFinite { in_a_row, since, .. } = *self;
        let kept = proven.map_or("there is no checkpoint from before them".to_owned(), |saved| {
            let CheckpointSaved { step, folder, .. } = saved;
            format!("the newest checkpoint from before them is that of step {step} ({folder})")
        });
        format!(
            "loss or gradients of {in_a_row} steps in a row, since step {since}, were no finite \
             numbers and nothing was learned from them: try a smaller training.learning_rate, a \
             longer warm-up or a smaller optimizer.clip_norm; {kept}"
        )
    }
}

impl RunState {
    /// How the run must end now, if it must.
    pub fn ending_due(&self) -> Option<Due> {
        if let Some(due) = &self.must_end {
            return Some(self.with_skipped(due.clone()));
        }
        let done = self.next_step >= self.spec.training.steps;
        let has_failed = self.non_finite.counted >= NON_FINITE_STEPS_MAX
            || (done && self.non_finite.is_serious() && self.validation_gave_none());
        if has_failed {
            return Some(Due::new(Ending::Failed, self.non_finite.failure(self.proven.as_ref())));
        }
        let completed = || Due::new(Ending::Completed, "all steps are done".to_owned());
        done.then(|| self.with_skipped(completed()))
    }

    /// How the run may end now: as it must; or as failed, where what was tried for the run itself did. That
    /// this cannot be mended is the worker's word.
    pub fn endings(&self) -> Vec<Due> {
        let due = self.ending_due();
        let failed = match (&self.failed, &due) {
            (Some(Failure::Unbound(reason)), _) => self.unbound(reason),
            (Some(Failure::Unsaved(error)), None) => Some(self.broken(error)),
            (Some(Failure::Unsaved(error)), Some(due)) => Some(due.unsaved(error)),
            (None, _) => None,
        };
        due.into_iter().chain(failed).collect()
    }

    /// The end of a run whose next plugin of its file could not be bound.
    fn unbound(&self, reason: &str) -> Option<Due> {
        let name = &self.plugins_to_bind().front()?.plugin;
        let reason = format!("plugin `{name}` of the run file could not be bound: {reason}");
        Some(Due::new(Ending::Failed, reason))
    }

    /// The end of a run whose weights are such that none will ever be saved again.
    fn broken(&self, error: &str) -> Due {
        let newest =
            self.proven.as_ref().map_or("there is no checkpoint from before".to_owned(), |saved| {
                format!("the newest checkpoint is that of step {} ({})", saved.step, saved.folder)
            });
        let step = self.next_step;
        let advice = "try a smaller training.learning_rate";
        Due::new(Ending::Failed, format!("at step {step} {error}; {advice}; {newest}"))
    }

    /// How a run ends for whose sake something was tried that failed: none where nothing did.
    pub fn failed_end(&self) -> Option<Due> {
        self.failed.as_ref().and_then(|_| self.endings().pop())
    }

    /// Plugins of the run file that are not bound yet.
    pub fn plugins_to_bind(&self) -> &VecDeque<PluginSpec> {
        &self.owed.to_bind
    }

    /// Whether the newest steps came to no numbers: what they were computed from is not to be saved in the
    /// place of weights that are known to give some.
    pub fn learns_nothing(&self) -> bool {
        self.non_finite.in_a_row > 0
    }

    /// Whether the weights as they are have been validated, and gave no numbers.
    fn validation_gave_none(&self) -> bool {
        self.validated == Some(self.next_step) && !self.validation_gave_numbers
    }

    /// Says how many steps came to nothing: whoever looks at the end alone is to hear of it.
    fn with_skipped(&self, due: Due) -> Due {
        let (skipped, steps) = (self.non_finite.steps, self.next_step);
        if skipped == 0 {
            return due;
        }
        let reason = format!(
            "{}; skipped since loss or gradients were no finite numbers: {skipped} of {steps} steps",
            due.reason
        );
        Due { reason, ..due }
    }

    /// What a step says of the run's end: a gate's halt, or a fault that stops the run. `self` is the
    /// state before the step.
    pub(crate) fn ended_by_step(&self, step: &StepRecorded) -> Option<Due> {
        if step.verdict == Verdict::Halt {
            let reason = format!("a gate halted the run at step {}", step.step);
            return Some(Due::new(Ending::Halted, reason));
        }
        step.receipts.iter().find_map(|receipt| {
            let facts = &self.bindings.get(&receipt.binding)?.facts;
            let stops = receipt.outcome != Outcome::Ok
                && facts.role == Role::Active
                && facts.failure == FailurePolicy::StopRun;
            stops.then(|| {
                let (name, outcome) = (&facts.description.name, &receipt.outcome);
                let binding = receipt.binding;
                let reason = format!(
                    "plugin {name} (binding {binding}, failure stop-run) failed: {outcome}"
                );
                Due::new(Ending::Failed, reason)
            })
        })
    }
}

/// What an answer says of the run's end: whether it obeys a stop.
pub(crate) fn ended_by_answer(answered: &CommandAnswered) -> Option<Due> {
    if answered.refusal.is_some() {
        return None;
    }
    match serde_json::from_str(&answered.asked) {
        Ok(Command::Stop { reason }) => {
            let why = if reason.is_empty() { reason } else { format!(": {reason}") };
            Some(Due::new(Ending::Stopped, format!("stopped by {}{why}", answered.by)))
        }
        Ok(_) | Err(_) => None,
    }
}
