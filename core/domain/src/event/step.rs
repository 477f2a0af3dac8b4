//! One step and the receipts of the plugin calls it caused.

use serde::{Deserialize, Serialize};

use crate::batch::DomainDraw;
use crate::id::{BindingId, Digest};
use crate::mixture::Mixture;
use crate::plugin::{Outcome, Output};
use crate::step::{PreStep, Verdict};

/// See [`Event::StepRecorded`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepRecorded {
    /// Step, from 0.
    pub step: u64,
    /// Target tokens so far, this step included.
    pub tokens: u64,
    /// Knob in force.
    pub learning_rate: f64,
    /// Mixture the batch was drawn under.
    pub mixture_version: u64,
    /// One per domain.
    pub draws: Vec<DomainDraw>,
    /// SHA-256 of the batch's domain and token ids.
    pub batch: Digest,
    /// What the gates were shown, with the sums per domain.
    pub pre_step: PreStep,
    /// What they answered together.
    pub verdict: Verdict,
    /// Global norm limit in force.
    pub effective_clip: f64,
    /// Wall-clock microseconds: the only field that a re-execution may differ in.
    pub step_us: u64,
    /// One per plugin call, in call order.
    pub receipts: Vec<Receipt>,
}

/// Which function of a plugin was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hook {
    /// A policy's `step`.
    Step,
    /// A detector's `gate`.
    Gate,
    /// A detector's `watch`.
    Watch,
}

/// One plugin call: enough to execute it again and to see what the host made of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Receipt {
    /// Whose call.
    pub binding: BindingId,
    /// Which function.
    pub hook: Hook,
    /// First event it saw.
    pub from_seq: u64,
    /// Last event it saw.
    pub to_seq: u64,
    /// Older observations that did not fit.
    pub dropped: u64,
    /// State going in.
    pub state_before: Digest,
    /// State coming out; equal to the former unless the outcome is `Ok`.
    pub state_after: Digest,
    /// How it ended.
    pub outcome: Outcome,
    /// Fuel used.
    pub fuel: u64,
    /// What it answered, unchanged.
    pub output: Output,
    /// What the host made of it, one per action; empty for a shadow's.
    pub effects: Vec<Effect>,
}

/// What the host made of one action or verdict.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Effect {
    /// A mixture was decided.
    Mixture {
        /// After the host's rules.
        mixture: Mixture,
        /// First step drawn under it.
        effective_step: u64,
        /// Rules that changed the proposal, in order.
        rules: Vec<String>,
    },
    /// Loss weights were set, from the next step.
    LossWeights {
        /// One per domain.
        weights: Vec<f64>,
    },
    /// A validation was asked for.
    Validate,
    /// Logged only.
    Noted,
    /// Not obeyed.
    Refused {
        /// Why.
        reason: String,
    },
}
