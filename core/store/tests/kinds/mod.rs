//! One event of every kind and every variant, each with a name that golden bytes are kept under.

use hm_domain::event::*;
use hm_domain::id::{BindingId, Digest, RunId};
use hm_domain::mixture::Mixture;
use hm_domain::plugin::{
    Action, Change, Description, Finding, Limits, Outcome, Output, Recommendation, Severity, World,
};
use hm_domain::step::{PreStep, Verdict};

use crate::samples;

/// Every kind at least once; together every variant of every enum in them.
pub(crate) fn every_kind() -> Vec<(String, Event)> {
    let mut events = vec![
        ("run-started".to_owned(), samples::started(2)),
        ("run-started.fork".to_owned(), fork()),
        ("step-recorded".to_owned(), Event::StepRecorded(Box::new(samples::step(3, 2)))),
        ("step-recorded.every-variant".to_owned(), Event::StepRecorded(Box::new(step(5)))),
    ];
    let verdicts =
        [("clip", Verdict::ClipTo(0.5)), ("skip", Verdict::Skip), ("halt", Verdict::Halt)];
    for (name, verdict) in verdicts {
        let step = StepRecorded { verdict, ..samples::step(4, 1) };
        events.push((format!("step-recorded.{name}"), Event::StepRecorded(Box::new(step))));
    }
    events.push(("step-recorded.no-number".to_owned(), no_number()));
    let validation = Event::ValidationRecorded(samples::validation(8, 2));
    events.push(("validation-recorded".to_owned(), validation));
    events.push(("weights-measured".to_owned(), Event::WeightsMeasured(measured())));
    events.extend(decided());
    events.extend(bindings());
    events.extend(checkpoints());
    events.extend(life());
    events
}

fn fork() -> Event {
    let Event::RunStarted(mut started) = samples::started(1) else { unreachable!() };
    started.parent = Some(Parent {
        run: RunId(uuid::Uuid::from_u128(9)),
        seq: 77,
        hash: Digest::of(b"hash"),
        checkpoint: saved(),
        state: vec![1, 2, 3],
    });
    Event::RunStarted(started)
}

/// A kind in two blocks, and one that a model has once, which is no number.
fn measured() -> WeightsMeasured {
    let (mut blocks, mut whole) = (KindState::new("q_proj"), KindState::new("norm"));
    blocks.push(4.0, 16);
    blocks.push(9.0, 16);
    whole.push(f64::NAN, 4);
    WeightsMeasured { step: 8, kinds: vec![blocks, whole] }
}

/// NaN and the infinities, as canonical bytes.
fn no_number() -> Event {
    let mut step = samples::step(6, 1);
    step.pre_step = PreStep {
        loss: -f64::NAN,
        gradient_norm: f64::INFINITY,
        nonfinite_count: 3,
        losses: step.pre_step.losses,
    };
    step.effective_clip = f64::NEG_INFINITY;
    Event::StepRecorded(Box::new(step))
}

/// A step whose receipts hold every output, outcome and effect, and words that text columns dislike.
pub(crate) fn step(step: u64) -> StepRecorded {
    let mixture = Mixture::from_shares(step + 1, &[0.25, 0.75]).unwrap();
    let action = |change, reason: &str| Action {
        change,
        reason: reason.to_owned(),
        diagnostics: vec![("x".to_owned(), 0.5)],
    };
    let finding = |severity, recommendation, domains| Finding {
        kind: "loss-outlier\0".to_owned(),
        severity,
        score: 7.5,
        threshold: 6.0,
        domains,
        evidence: "loss is 7.5 deviations above its median".to_owned(),
        recommendation,
    };
    let outputs = [
        Output::Actions(vec![
            action(Change::SetMixture(vec![1.0, 3.0]), "because\0"),
            action(Change::SetLossWeights(vec![1.0, 2.0]), "weigh"),
            action(Change::Validate, "look"),
            action(Change::Note, "remember"),
            action(Change::SetMixture(vec![]), "wrong"),
        ]),
        Output::Findings(vec![
            finding(Severity::Info, Recommendation::Alert, vec![]),
            finding(Severity::Warning, Recommendation::Checkpoint, vec![1]),
            finding(Severity::Critical, Recommendation::Pause, vec![0, 1]),
        ]),
        Output::Verdict(Verdict::Proceed),
        Output::Nothing,
    ];
    let effects = vec![
        Effect::Mixture {
            mixture,
            effective_step: step + 1,
            rules: vec!["floor".into(), "cap".into()],
        },
        Effect::LossWeights { weights: vec![1.0, 2.0] },
        Effect::Validate,
        Effect::Noted,
        Effect::Refused { reason: "no mixture: 0 weights for 2 domains".into() },
    ];
    let outcomes = [
        Outcome::GuestError("no".into()),
        Outcome::Trap("unreachable".into()),
        Outcome::OutOfFuel,
        Outcome::Deadline,
        Outcome::HostMemory,
        Outcome::StackOverflow,
        Outcome::TooLarge("state".into()),
    ];
    let mut recorded = samples::step(step, 2);
    let pattern = recorded.receipts.remove(0);
    let with = |binding, outcome, output, effects| Receipt {
        binding: BindingId(binding),
        hook: [Hook::Step, Hook::Watch, Hook::Gate][binding as usize % 3],
        outcome,
        output,
        effects,
        ..pattern.clone()
    };
    let well = (0..).zip(outputs).map(|(binding, output)| {
        let effects = if binding == 0 { effects.clone() } else { Vec::new() };
        with(binding, Outcome::Ok, output, effects)
    });
    let badly = (4..)
        .zip(outcomes)
        .map(|(binding, outcome)| with(binding, outcome, Output::Nothing, vec![]));
    recorded.receipts = well.chain(badly).collect();
    recorded
}

fn decided() -> Vec<(String, Event)> {
    let mixture = Mixture::from_shares(4, &[0.5, 0.5]).unwrap();
    let answered = |refusal: Option<&str>| {
        Event::CommandAnswered(CommandAnswered {
            command: 1,
            step: 9,
            asked: "{\"kind\":\"pause\"}".into(),
            by: "me".into(),
            waited_s: 3,
            refusal: refusal.map(str::to_owned),
        })
    };
    vec![
        (
            "mixture-set".to_owned(),
            Event::MixtureSet(MixtureSet {
                step: 9,
                mixture,
                rules: vec!["cap".into()],
                reason: "more of it".into(),
                by: "me".into(),
            }),
        ),
        (
            "mixture-limited".to_owned(),
            Event::MixtureLimited(MixtureLimited {
                step: 9,
                mixture: Mixture::from_shares(5, &[0.25, 0.75]).unwrap(),
                rules: vec!["epoch-cap".into()],
            }),
        ),
        (
            "learning-rate-set".to_owned(),
            Event::LearningRateSet(LearningRateSet {
                step: 9,
                peak: 1.5e-4,
                reason: "spikes since the new segment\0".into(),
                by: "me".into(),
            }),
        ),
        (
            "batch-size-set".to_owned(),
            Event::BatchSizeSet(BatchSizeSet {
                step: 9,
                sequences: 1056,
                reason: String::new(),
                by: "me".into(),
            }),
        ),
        ("command-answered".to_owned(), answered(None)),
        ("command-answered.refused".to_owned(), answered(Some("the run is paused already"))),
    ]
}

fn bindings() -> Vec<(String, Event)> {
    let changed = |change, binding, role, world, failure| {
        Event::BindingChanged(Box::new(BindingChanged {
            binding: BindingId(binding),
            change,
            step: 10,
            role,
            plugin: Digest::of(b"plugin"),
            world,
            interface: "0.1.0".into(),
            description: Description {
                name: "odm".into(),
                version: "1.2.3".into(),
                documentation: "Online data mixing.".into(),
                config_schema: "{}".into(),
                columns: vec!["loss-sum".into(), "tokens".into()],
                every_steps: 2,
                gates: false,
                watches: true,
                wants_timings: true,
            },
            config: "{\"rate\":0.5}".into(),
            config_digest: Digest::of(b"config"),
            engine: Digest::of(b"engine"),
            limits: Limits {
                fuel: 1,
                deadline_ms: 2,
                memory_bytes_max: 3,
                instances_max: 4,
                table_elements_max: 5,
                stack_bytes_max: 6,
                state_bytes_max: 7,
                output_bytes_max: 8,
                log_bytes_max: 9,
                upload_bytes_max: 10,
            },
            failure,
            quarantine_after: 3,
            initial_state: Digest::of(b"state"),
            initial_fuel: 11,
            by: "me".into(),
        }))
    };
    let (policy, detector) = (World::Policy, World::Detector);
    let bound = BindingChange::Bound;
    let quarantined = BindingQuarantined { binding: BindingId(1), step: 12, faults: 3 };
    let kept =
        PluginStateSaved { binding: BindingId(0), step: 12, calls: 6, state: Digest::of(b"kept") };
    let named = |name: &str, event| (name.to_owned(), event);
    vec![
        named("binding-changed", changed(bound, 0, Role::Active, policy, FailurePolicy::HoldLast)),
        named(
            "binding-changed.shadow",
            changed(bound, 1, Role::Shadow, detector, FailurePolicy::FallBack),
        ),
        named(
            "binding-changed.third",
            changed(bound, 2, Role::Shadow, policy, FailurePolicy::StopRun),
        ),
        named(
            "binding-changed.role",
            changed(BindingChange::RoleChanged, 2, Role::Active, policy, FailurePolicy::StopRun),
        ),
        named(
            "binding-changed.released",
            changed(BindingChange::Released, 0, Role::Active, policy, FailurePolicy::HoldLast),
        ),
        named("binding-quarantined", Event::BindingQuarantined(quarantined)),
        named("plugin-state-saved", Event::PluginStateSaved(kept)),
    ]
}

fn saved() -> CheckpointSaved {
    CheckpointSaved {
        step: 12,
        begun: 40,
        digest: Digest::of(b"content"),
        folder: "0000-00000012-abcd".into(),
        bytes: 1 << 40,
    }
}

fn checkpoints() -> Vec<(String, Event)> {
    let begun = CheckpointBegun { step: 12, state: Digest::of(b"state") };
    let failed = CheckpointFailed { step: 13, reason: "no space left on device".into() };
    vec![
        ("checkpoint-begun".to_owned(), Event::CheckpointBegun(begun)),
        ("checkpoint-saved".to_owned(), Event::CheckpointSaved(saved())),
        ("checkpoint-failed".to_owned(), Event::CheckpointFailed(failed)),
    ]
}

fn life() -> Vec<(String, Event)> {
    let resumed = |checkpoint| {
        Event::RunResumed(RunResumed {
            step: 14,
            checkpoint,
            checkpoint_step: 12,
            folded_from: 9,
            caught_up_steps: 2,
            agreed: true,
            difference_max: 0.0,
            passed_over: vec![PassedOver {
                step: 13,
                checkpoint: Digest::of(b"newer"),
                reason: "state.json: no such file".into(),
            }],
            environment: samples::environment(),
        })
    };
    let rolled = RolledBack {
        step: 14,
        to_step: 12,
        attempt: 1,
        seq: 41,
        checkpoint: saved(),
        state: vec![1, 2, 3],
        skipped_data: true,
        reason: "it spiked".into(),
        by: "me".into(),
    };
    let interrupted = RunInterrupted { step: 14, reason: "interrupted from the terminal".into() };
    let installed = PluginInstalled {
        plugin: Digest::of(b"plugin"),
        name: "odm".into(),
        version: "1.2.3".into(),
        world: World::Policy,
        by: "me".into(),
    };
    let named = |name: &str, event| (name.to_owned(), event);
    let mut events = vec![
        named("run-paused", Event::RunPaused(RunPaused { step: 14 })),
        named("run-continued", Event::RunContinued(RunContinued { step: 14 })),
        named("run-interrupted", Event::RunInterrupted(interrupted)),
        named("rolled-back", Event::RolledBack(Box::new(rolled))),
        named("run-resumed", resumed(Some(Digest::of(b"content")))),
        named("run-resumed.from-the-beginning", resumed(None)),
        named("plugin-installed", Event::PluginInstalled(installed)),
    ];
    let endings = [
        ("completed", Ending::Completed),
        ("stopped", Ending::Stopped),
        ("halted", Ending::Halted),
        ("failed", Ending::Failed),
    ];
    for (name, ending) in endings {
        let finished = RunFinished { step: 20, ending, reason: "all steps are done".into() };
        events.push((format!("run-finished.{name}"), Event::RunFinished(finished)));
    }
    events
}
