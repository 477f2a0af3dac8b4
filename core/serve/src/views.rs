//! What the API says, as JSON. Ids are text. Losses are means in nats per token; a number that does
//! not exist or is not finite is null. Plain data: nothing here computes.

pub use hm_domain::event::Role;
pub use hm_domain::plugin::Severity;
use serde::{Deserialize, Serialize};

/// A run in the list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunSummary {
    /// Its id.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// running, paused, interrupted or ended.
    pub status: String,
    /// Who trains it, which its log cannot say.
    pub worker: WorkerView,
    /// How it ended: completed, stopped, halted or failed.
    pub ending: Option<String>,
    /// Why it is not running, in a sentence.
    pub reason: Option<String>,
    /// Steps trained.
    pub step: u64,
    /// Steps of the whole run.
    pub steps: u64,
    /// Target tokens trained on.
    pub tokens: u64,
    /// Loss of the newest step.
    pub loss: Option<f64>,
    /// Microseconds since the Unix epoch.
    pub started_at_us: i64,
    /// Time of the newest event, in microseconds since the Unix epoch.
    pub last_at_us: i64,
}

/// The worker of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerView {
    /// none, working, waiting (it has lost the database and may come back) or dead.
    pub standing: String,
    /// Host and process.
    pub holder: Option<String>,
    /// When it was last heard of, in microseconds since the Unix epoch.
    pub heard_at_us: Option<i64>,
}

/// One run in full.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunDetail {
    /// What the list shows.
    #[serde(flatten)]
    pub summary: RunSummary,
    /// Counts up at each rollback.
    pub attempt: u32,
    /// What was asked for, line by line.
    pub spec: Vec<SpecLine>,
    /// Names, in the order of every list per domain.
    pub domains: Vec<String>,
    /// Newest sampling shares, one per domain, sum 1.
    pub mixture: Vec<f64>,
    /// Counts the mixtures of the run.
    pub mixture_version: u64,
    /// Plugins of the run, in the order they were bound.
    pub bindings: Vec<BindingSummary>,
}

/// A line of a run's specification.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SpecLine {
    /// What it is, as `peak learning rate`.
    pub label: String,
    /// Its value with unit, for people.
    pub value: String,
}

/// A plugin at work in a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BindingSummary {
    /// Its id in the run.
    pub id: String,
    /// Digest of the plugin.
    pub plugin: String,
    /// What the plugin calls itself.
    pub name: String,
    /// The plugin's version.
    pub version: String,
    /// policy or detector.
    pub world: String,
    /// Obeyed or only logged.
    pub role: Role,
    /// live, released or quarantined.
    pub state: String,
    /// Its configuration.
    pub config: serde_json::Value,
}

/// Steps as columns. Every list is as long as `steps`; lists per domain hold one such list each.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// The newest attempt: earlier steps are of those that led to it.
    pub attempt: u32,
    /// Steps that each point covers.
    pub span: u64,
    /// First step of each point.
    pub steps: Vec<u64>,
    /// Mean loss.
    pub loss: Vec<Option<f64>>,
    /// Mean loss per domain.
    pub domain_losses: Vec<Vec<Option<f64>>>,
    /// Share of the sequences drawn, per domain.
    pub shares: Vec<Vec<f64>>,
    /// Global norm of the gradients before clipping.
    pub gradient_norm: Vec<Option<f64>>,
    /// Learning rate.
    pub learning_rate: Vec<f64>,
    /// Target tokens per second of wall time.
    pub tokens_per_second: Vec<Option<f64>>,
}

impl Metrics {
    /// The last step covered, to ask for what comes after it; none if there are no points.
    pub fn last_step(&self) -> Option<u64> {
        self.steps.last().map(|step| step + self.span.max(1) - 1)
    }
}

/// One validation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Validation {
    /// Steps trained before it.
    pub step: u64,
    /// Mean loss over all held-out tokens.
    pub loss: Option<f64>,
    /// Mean loss per domain; null where a domain holds nothing out.
    pub domain_losses: Vec<Option<f64>>,
}

/// What a timeline entry is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TimelineKind {
    /// A mixture or loss weights were decided.
    Decision,
    /// A detector found something, or its gate stepped in.
    Finding,
    /// A binding was made, changed, released or quarantined.
    Binding,
    /// Somebody asked for something and was answered.
    Command,
    /// Weights were saved.
    Checkpoint,
    /// The run started, paused, went on, was taken up again or ended.
    Run,
}

/// Something that happened in a run, in words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TimelineEntry {
    /// Position of its event in the log. One event can have several entries.
    pub seq: u64,
    /// The step it happened at.
    pub step: Option<u64>,
    /// What it is about.
    pub kind: TimelineKind,
    /// How bad it is, for findings.
    pub severity: Option<Severity>,
    /// One line: what happened.
    pub title: String,
    /// Why, and what came of it; may be empty.
    pub detail: String,
}

/// An installed plugin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PluginSummary {
    /// SHA-256 of its bytes, in hexadecimal.
    pub digest: String,
    /// What it calls itself.
    pub name: String,
    /// Its own version.
    pub version: String,
    /// policy or detector.
    pub world: String,
    /// What it does.
    pub documentation: String,
    /// JSON Schema of its configuration.
    pub config_schema: serde_json::Value,
}

/// One check of an uploaded component.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckResult {
    /// What was checked.
    pub name: String,
    /// Whether it holds.
    pub passed: bool,
    /// What was found and, if it failed, how to mend it.
    pub message: String,
}

/// What became of an upload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UploadVerdict {
    /// Whether it is installed now.
    pub accepted: bool,
    /// SHA-256 of the bytes, in hexadecimal.
    pub digest: String,
    /// What it calls itself, if it could say so.
    pub name: Option<String>,
    /// Its version, if it could say so.
    pub version: Option<String>,
    /// Every check made, in order.
    pub checks: Vec<CheckResult>,
    /// What to know of it all the same, such as others that are called so.
    pub note: Option<String>,
}

/// A command is in the inbox. The answer is an event of the run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandAccepted {
    /// Its number there.
    pub command: String,
    /// Who answers it and when, or how it was obeyed: part of a sentence.
    pub note: String,
}
