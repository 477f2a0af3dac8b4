//! The port to plugins: what they say of themselves, what they are shown, what they answer.
//!
//! Plugins are pure folds with explicit state (design section 6). These types are neither WIT nor
//! stored bytes: the host and the store each map them in one place.

use serde::{Deserialize, Serialize};

use crate::id::Digest;
pub use crate::outcome::Outcome;
use crate::step::{PreStep, Verdict};

/// Observations a plugin is shown at once; older ones are dropped and counted.
pub const OBSERVATIONS_MAX: usize = 1024;
/// Bytes of state a plugin may keep.
pub const STATE_BYTES_MAX: usize = 256 << 10;

/// Which of the two worlds a plugin implements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum World {
    /// Folds observations into mixture decisions.
    Policy,
    /// Folds observations into findings, and may gate a step.
    Detector,
}

/// What a plugin says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Description {
    /// Name, as in name@version.
    pub name: String,
    /// Version, as in name@version.
    pub version: String,
    /// One or more paragraphs for people.
    pub documentation: String,
    /// JSON Schema of its configuration.
    pub config_schema: String,
    /// Columns of the catalogue that it wants.
    pub columns: Vec<String>,
    /// Steps between calls of `step` or `watch`; at least 1.
    pub every_steps: u32,
    /// Whether `gate` is called (detectors only).
    pub gates: bool,
    /// Whether `watch` is called (detectors only).
    pub watches: bool,
    /// Whether `watch` is given wall-clock facts. Such a binding can alert, never bend training.
    pub wants_timings: bool,
}

/// Static facts of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunFacts {
    /// The run's seed: the only randomness a plugin has.
    pub seed: u64,
    /// Steps of the whole run.
    pub steps: u64,
    /// Step at which the plugin is bound.
    pub bound_at_step: u64,
    /// Target tokens of one full step, as `sequences_per_step` counts it.
    pub tokens_per_step: u64,
    /// Tokens of a sequence.
    pub sequence_length: u32,
    /// Sequences of a full step as the run file has it: after a ramp, before any command. What each
    /// step drew is in the column `sequences`.
    pub sequences_per_step: u32,
    /// Trainable parameters.
    pub parameters: u64,
    /// Highest learning rate as the run file has it. Each observation has its step's own.
    pub learning_rate_peak: f64,
    /// Steps of warm-up; planned ones where it is given in sequences or tokens.
    pub warmup_steps: u64,
}

/// Static facts of a domain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DomainFacts {
    /// What people call it.
    pub name: String,
    /// SHA-256 over the digests of its segments, in order: its identity between runs.
    pub content: Digest,
    /// Tokens of one epoch.
    pub tokens: u64,
    /// Documents of one epoch.
    pub documents: u64,
    /// Bytes of text per token.
    pub bytes_per_token: f64,
    /// Share of the prior mixture.
    pub prior: f64,
    /// Smallest share the host allows.
    pub floor: f64,
    /// Largest share the host allows.
    pub cap: f64,
    /// Most passes over the domain, if limited.
    pub max_epochs: Option<f64>,
}

/// What an observation is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ObservationKind {
    /// One training step.
    Step,
    /// One validation.
    Validation,
}

/// Values of one name, one per domain where present; of a weight column one per layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Column {
    /// A name of the catalogue.
    pub name: String,
    /// One per domain, or per layer: the catalogue says which.
    pub values: Vec<Option<f64>>,
}

/// What one step or validation showed: a fixed core and the columns asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    /// Of a step or of a validation.
    pub kind: ObservationKind,
    /// Counts up at each rollback.
    pub attempt: u32,
    /// Step, from 0.
    pub step: u64,
    /// Target tokens trained on so far, this step included.
    pub tokens: u64,
    /// Learning rate of the step.
    pub learning_rate: f64,
    /// Mean loss in nats per token over the step's (or validation's) tokens.
    pub loss: f64,
    /// Global gradient norm before clipping; 0 for a validation.
    pub gradient_norm: f64,
    /// Mixture the batch was drawn under.
    pub mixture_version: u64,
    /// Shares of that mixture, one per domain.
    pub shares: Vec<f64>,
    /// What was asked for, in catalogue order.
    pub columns: Vec<Column>,
}

/// All that a plugin has not seen since its last `ok`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Observations {
    /// Older ones left out because there were more than [`OBSERVATIONS_MAX`].
    pub dropped: u64,
    /// In order.
    pub entries: Vec<Observation>,
}

/// A wall-clock fact of one step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// The step.
    pub step: u64,
    /// Its duration in microseconds.
    pub step_us: u64,
    /// Target tokens in it.
    pub tokens: u64,
}

/// One thing a policy asks for, with its reason.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Action {
    /// What to change.
    pub change: Change,
    /// For people.
    pub reason: String,
    /// Named numbers behind it.
    pub diagnostics: Vec<(String, f64)>,
}

/// What a policy may change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "value")]
pub enum Change {
    /// Sampling shares, one per domain, on any positive scale.
    SetMixture(Vec<f64>),
    /// Loss weights, one per domain.
    SetLossWeights(Vec<f64>),
    /// A validation at the next boundary.
    Validate,
    /// Nothing: only the reason is kept.
    Note,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Good to know.
    Info,
    /// Somebody should look.
    Warning,
    /// The run is in danger.
    Critical,
}

/// What a detector suggests to people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Recommendation {
    /// Look at it.
    Alert,
    /// Save now.
    Checkpoint,
    /// Pause the run.
    Pause,
}

/// What a detector saw.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// What it is, in the detector's words: `loss-outlier`.
    pub kind: String,
    /// How bad it is.
    pub severity: Severity,
    /// What was measured.
    pub score: f64,
    /// What it was held against.
    pub threshold: f64,
    /// Domains concerned; empty for the run as a whole.
    pub domains: Vec<u32>,
    /// For people.
    pub evidence: String,
    /// What to do.
    pub recommendation: Recommendation,
}

/// One call, with everything it may depend on beside the plugin's bytes.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// Makes the first state.
    Init {
        /// The run.
        facts: RunFacts,
        /// Its domains, in order.
        domains: Vec<DomainFacts>,
        /// JSON, valid under the plugin's schema.
        config: String,
        /// Opaque bytes named by the configuration.
        artefacts: Vec<Vec<u8>>,
    },
    /// A policy folds observations into actions.
    Step {
        /// State after the last `ok`.
        state: Vec<u8>,
        /// Everything since then.
        observations: Observations,
    },
    /// A detector judges a step before the optimizer.
    Gate {
        /// State after the last `ok`.
        state: Vec<u8>,
        /// Step, from 0.
        step: u64,
        /// What the step showed so far.
        pre_step: PreStep,
    },
    /// A detector folds observations into findings.
    Watch {
        /// State after the last `ok`.
        state: Vec<u8>,
        /// Everything since then.
        observations: Observations,
        /// One per step among them, if the detector asked for timings.
        timings: Option<Vec<Timing>>,
    },
}

/// What a call that ended well gave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "value")]
pub enum Output {
    /// `init` gives only a state.
    Nothing,
    /// From `step`.
    Actions(Vec<Action>),
    /// From `gate`.
    Verdict(Verdict),
    /// From `watch`.
    Findings(Vec<Finding>),
}

impl Output {
    /// Bytes that it takes, about.
    pub(crate) fn bytes(&self) -> usize {
        let action = |action: &Action| {
            let of_change = match &action.change {
                Change::SetMixture(values) | Change::SetLossWeights(values) => values.len() * 8,
                Change::Validate | Change::Note => 0,
            };
            let named = |(name, _): &(String, f64)| name.len() + size_of::<(String, f64)>();
            let diagnostics: usize = action.diagnostics.iter().map(named).sum();
            size_of::<Action>() + action.reason.len() + of_change + diagnostics
        };
        let finding = |finding: &Finding| {
            let texts = finding.kind.len() + finding.evidence.len();
            size_of::<Finding>() + texts + finding.domains.len() * 4
        };
        match self {
            Output::Nothing | Output::Verdict(_) => 0,
            Output::Actions(actions) => actions.iter().map(action).sum(),
            Output::Findings(findings) => findings.iter().map(finding).sum(),
        }
    }
}

/// The answer to a [`Request`].
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// How it ended.
    pub outcome: Outcome,
    /// Fuel used by the call itself.
    pub fuel: u64,
    /// The new state and the output, if and only if the outcome is `Ok`.
    pub value: Option<(Vec<u8>, Output)>,
}

/// What one call may use. Part of every binding's record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Fuel of one call.
    pub fuel: u64,
    /// Wall-clock watchdog in milliseconds, at least 20 times the fuel's worst time.
    pub deadline_ms: u64,
    /// Bytes of each linear memory.
    pub memory_bytes_max: u64,
    /// Core instances of a component.
    pub instances_max: u32,
    /// Elements of each table.
    pub table_elements_max: u32,
    /// Bytes of native stack.
    pub stack_bytes_max: u64,
    /// Bytes of state.
    pub state_bytes_max: u64,
    /// Bytes of all strings and lists of one answer.
    pub output_bytes_max: u64,
    /// Bytes of log lines that the host takes of one call; more are dropped.
    pub log_bytes_max: u64,
    /// Bytes of an uploaded component.
    pub upload_bytes_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            // About 0.4 ns a unit in compiled code: 40 ms.
            fuel: 100_000_000,
            deadline_ms: 2_000,
            memory_bytes_max: 64 << 20,
            // Python components need about 40.
            instances_max: 64,
            table_elements_max: 20_000,
            stack_bytes_max: 512 << 10,
            state_bytes_max: STATE_BYTES_MAX as u64,
            output_bytes_max: 1 << 20,
            log_bytes_max: 64 << 10,
            upload_bytes_max: 64 << 20,
        }
    }
}

impl Limits {
    /// Whether none is more than so many times what it is by default.
    pub fn within(&self, factor: u64) -> bool {
        let all = |limits: &Limits| {
            let Limits { fuel, deadline_ms, memory_bytes_max, stack_bytes_max, .. } = *limits;
            let Limits { state_bytes_max, output_bytes_max, .. } = *limits;
            let Limits { log_bytes_max, upload_bytes_max, .. } = *limits;
            let (instances, elements) = (limits.instances_max, limits.table_elements_max);
            let bytes = [memory_bytes_max, stack_bytes_max, state_bytes_max, output_bytes_max];
            let others = [fuel, deadline_ms, log_bytes_max, upload_bytes_max];
            [bytes.as_slice(), &others, &[instances.into(), elements.into()]].concat()
        };
        let default = all(&Limits::default());
        all(self).iter().zip(default).all(|(limit, default)| *limit <= default * factor)
    }
}

/// Executes plugins. A call depends on the plugin's bytes, the request and the limits, and on nothing else.
pub trait Plugins: Send + Sync {
    /// Calls the plugin with this digest in a fresh instance.
    fn call(&self, plugin: &Digest, request: &Request) -> Reply;

    /// World, interface version and description of the plugin with this digest; none where it is not
    /// loaded.
    fn describe(&self, plugin: &Digest) -> Option<(World, String, Description)>;
}
