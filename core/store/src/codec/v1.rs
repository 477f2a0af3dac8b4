//! Version 1 of every payload. Frozen: never edit a field, its type or its order; add a version.

use hm_domain::{batch, event, mixture, plugin, step};

use super::frozen::Frozen;

/// A struct with the same field names as the domain's. Both sides are taken apart by name, so that a
/// field added to either does not compile.
macro_rules! record {
    ($name:ident of $domain:path { $($field:ident: $type:ty,)* }) => {
        #[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
        pub(super) struct $name {
            $(pub(super) $field: $type,)*
        }

        impl Frozen<$name> for $domain {
            fn freeze(&self) -> $name {
                let $domain { $($field,)* } = self;
                $name { $($field: $field.freeze(),)* }
            }
            fn thaw(frozen: $name) -> Self {
                let $name { $($field,)* } = frozen;
                $domain { $($field: Frozen::thaw($field),)* }
            }
        }
    };
}

/// An enum; a variant holds nothing, one value, or named fields.
macro_rules! choice {
    ($name:ident of $domain:path {
        $($unit:ident,)* ; $($one:ident($type:ty),)* ; $($many:ident { $($field:ident: $ftype:ty,)* },)*
    }) => {
        #[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
        pub(super) enum $name {
            $($unit,)*
            $($one($type),)*
            $($many { $($field: $ftype,)* },)*
        }

        impl Frozen<$name> for $domain {
            fn freeze(&self) -> $name {
                use $domain as Domain;
                match self {
                    $(Domain::$unit => $name::$unit,)*
                    $(Domain::$one(value) => $name::$one(value.freeze()),)*
                    $(Domain::$many { $($field,)* } => $name::$many { $($field: $field.freeze(),)* },)*
                }
            }
            fn thaw(frozen: $name) -> Self {
                use $domain as Domain;
                match frozen {
                    $($name::$unit => Domain::$unit,)*
                    $($name::$one(value) => Domain::$one(Frozen::thaw(value)),)*
                    $($name::$many { $($field,)* } => Domain::$many { $($field: Frozen::thaw($field),)* },)*
                }
            }
        }
    };
}

record! { Mixture of mixture::Mixture { version: u64, weights: Vec<u64>, } }

record! { Cursor of batch::Cursor { epoch: u32, segment: u32, rank: u64, token_offset: u64, } }

record! { DomainDraw of batch::DomainDraw { sequences: u32, from: Cursor, to: Cursor, carry: i64, } }

record! { LossSums of step::LossSums { loss_sum: f64, loss_square_sum: f64, tokens: u64, } }

record! { PreStep of step::PreStep {
    loss: f64, gradient_norm: f64, nonfinite_count: u64, losses: Vec<LossSums>,
} }

choice! { Verdict of step::Verdict { Proceed, Skip, Halt,; ClipTo(f64),; } }

choice! { World of plugin::World { Policy, Detector,;; } }

record! { Description of plugin::Description {
    name: String, version: String, documentation: String, config_schema: String,
    columns: Vec<String>, every_steps: u32, gates: bool, watches: bool, wants_timings: bool,
} }

record! { Limits of plugin::Limits {
    fuel: u64, deadline_ms: u64, memory_bytes_max: u64, instances_max: u32,
    table_elements_max: u32, stack_bytes_max: u64, state_bytes_max: u64,
    output_bytes_max: u64, log_bytes_max: u64, upload_bytes_max: u64,
} }

choice! { Change of plugin::Change {
    Validate, Note,; SetMixture(Vec<f64>), SetLossWeights(Vec<f64>),;
} }

record! { Action of plugin::Action {
    change: Change, reason: String, diagnostics: Vec<(String, f64)>,
} }

choice! { Severity of plugin::Severity { Info, Warning, Critical,;; } }

choice! { Recommendation of plugin::Recommendation { Alert, Checkpoint, Pause,;; } }

record! { Finding of plugin::Finding {
    kind: String, severity: Severity, score: f64, threshold: f64, domains: Vec<u32>,
    evidence: String, recommendation: Recommendation,
} }

choice! { Output of plugin::Output {
    Nothing,; Actions(Vec<Action>), Verdict(Verdict), Findings(Vec<Finding>),;
} }

choice! { Outcome of plugin::Outcome {
    Ok, OutOfFuel, Deadline, HostMemory, StackOverflow,;
    GuestError(String), Trap(String), TooLarge(String), NotCalled(String),;
} }

choice! { Hook of event::Hook { Step, Gate, Watch,;; } }

choice! { Effect of event::Effect {
    Validate, Noted,;;
    Mixture { mixture: Mixture, effective_step: u64, rules: Vec<String>, },
    LossWeights { weights: Vec<f64>, },
    Refused { reason: String, },
} }

record! { Receipt of event::Receipt {
    binding: u32, hook: Hook, from_seq: u64, to_seq: u64, dropped: u64,
    state_before: [u8; 32], state_after: [u8; 32], outcome: Outcome, fuel: u64,
    output: Output, effects: Vec<Effect>,
} }

record! { Environment of event::Environment {
    build: [u8; 32], device: String, processor: String, instruction_set: String,
    c_library: String, threads: u32, host: String, process: u32,
} }

record! { CheckpointSaved of event::CheckpointSaved {
    step: u64, begun: u64, digest: [u8; 32], folder: String, bytes: u64,
} }

record! { Parent of event::Parent {
    run: [u8; 16], seq: u64, hash: [u8; 32], checkpoint: CheckpointSaved, state: Vec<u8>,
} }

record! { RunStarted of event::RunStarted {
    spec: String, prior: Mixture, environment: Environment, parent: Option<Parent>,
} }

record! { StepRecorded of event::StepRecorded {
    step: u64, tokens: u64, learning_rate: f64, mixture_version: u64, draws: Vec<DomainDraw>,
    batch: [u8; 32], pre_step: PreStep, verdict: Verdict, effective_clip: f64, step_us: u64,
    receipts: Vec<Receipt>,
} }

record! { ValidationRecorded of event::ValidationRecorded { step: u64, losses: Vec<LossSums>, } }

record! { MixtureSet of event::MixtureSet {
    step: u64, mixture: Mixture, rules: Vec<String>, reason: String, by: String,
} }

choice! { Role of event::Role { Active, Shadow,;; } }

choice! { FailurePolicy of event::FailurePolicy { HoldLast, FallBack, StopRun,;; } }

choice! { BindingChange of event::BindingChange { Bound, RoleChanged, Released,;; } }

record! { BindingChanged of event::BindingChanged {
    binding: u32, change: BindingChange, step: u64, role: Role, plugin: [u8; 32], world: World,
    interface: String, description: Description, config: String, config_digest: [u8; 32],
    engine: [u8; 32], limits: Limits, failure: FailurePolicy, quarantine_after: u32,
    initial_state: [u8; 32], initial_fuel: u64, by: String,
} }

record! { BindingQuarantined of event::BindingQuarantined { binding: u32, step: u64, faults: u32, } }

record! { PluginStateSaved of event::PluginStateSaved {
    binding: u32, step: u64, calls: u64, state: [u8; 32],
} }

record! { CheckpointBegun of event::CheckpointBegun { step: u64, state: [u8; 32], } }

record! { CheckpointFailed of event::CheckpointFailed { step: u64, reason: String, } }

record! { CommandAnswered of event::CommandAnswered {
    command: u64, step: u64, asked: String, by: String, waited_s: u64, refusal: Option<String>,
} }

record! { RunPaused of event::RunPaused { step: u64, } }

record! { RunContinued of event::RunContinued { step: u64, } }

record! { PassedOver of event::PassedOver { step: u64, checkpoint: [u8; 32], reason: String, } }

record! { RunResumed of event::RunResumed {
    step: u64, checkpoint: Option<[u8; 32]>, checkpoint_step: u64, folded_from: u64, caught_up_steps: u64,
    agreed: bool, difference_max: f64, passed_over: Vec<PassedOver>, environment: Environment,
} }

record! { RolledBack of event::RolledBack {
    step: u64, to_step: u64, attempt: u32, seq: u64, checkpoint: CheckpointSaved, state: Vec<u8>,
    skipped_data: bool, reason: String, by: String,
} }

record! { RunInterrupted of event::RunInterrupted { step: u64, reason: String, } }

choice! { Ending of event::Ending { Completed, Stopped, Halted, Failed,;; } }

record! { RunFinished of event::RunFinished { step: u64, ending: Ending, reason: String, } }

record! { PluginInstalled of event::PluginInstalled {
    plugin: [u8; 32], name: String, version: String, world: World, by: String,
} }

record! { LearningRateSet of event::LearningRateSet {
    step: u64, peak: f64, reason: String, by: String,
} }

record! { BatchSizeSet of event::BatchSizeSet {
    step: u64, sequences: u32, reason: String, by: String,
} }

record! { KindState of event::KindState { kind: String, std: Vec<f64>, norm: Vec<f64>, } }

record! { MixtureLimited of event::MixtureLimited {
    step: u64, mixture: Mixture, rules: Vec<String>,
} }

record! { WeightsMeasured of event::WeightsMeasured { step: u64, kinds: Vec<KindState>, } }
