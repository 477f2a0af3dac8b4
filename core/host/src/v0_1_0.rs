//! Interface 0.1.0: its bindings, and the only place where WIT types and domain types meet.
//!
//! A later interface gets a file of its own; this one is never edited after the release, because
//! old plugins must replay for ever.

use hm_domain::plugin as domain;
use hm_domain::plugin::{Output, Request, World};
use hm_domain::step::{PreStep, Verdict};
use wasmtime::Store;
use wasmtime::component::{Component, HasSelf, Linker};

use crate::guest::Guest;

/// This interface's version, as events name it.
pub(crate) const INTERFACE: &str = "0.1.0";
/// What a policy exports.
pub(crate) const POLICY: &str = "heurimentor:plugin/policy-api@0.1.0";
/// What a detector exports.
pub(crate) const DETECTOR: &str = "heurimentor:plugin/detector-api@0.1.0";
/// An import without functions.
pub(crate) const TYPES: &str = "heurimentor:plugin/types@0.1.0";
/// The one import with a function.
pub(crate) const LOG: &str = "heurimentor:plugin/log@0.1.0";

#[allow(missing_docs, unreachable_pub, reason = "generated from wit/0.1.0, which has the docs")]
mod policy {
    wasmtime::component::bindgen!({ path: "../../wit/0.1.0", world: "policy" });
}

#[allow(missing_docs, unreachable_pub, reason = "generated from wit/0.1.0, which has the docs")]
mod detector {
    wasmtime::component::bindgen!({
        path: "../../wit/0.1.0",
        world: "detector",
        with: {
            "heurimentor:plugin/types@0.1.0": super::policy::heurimentor::plugin::types,
            "heurimentor:plugin/log@0.1.0": super::policy::heurimentor::plugin::log,
        },
    });
}

use detector::exports::heurimentor::plugin::detector_api as watching;
use policy::exports::heurimentor::plugin::policy_api as steering;
use policy::heurimentor::plugin::{log, types};

impl log::Host for Guest {
    fn write(&mut self, line: String) {
        self.log(line);
    }
}

/// A compiled plugin, its imports resolved and its exports checked against the world.
pub(crate) enum Prepared {
    Policy(policy::PolicyPre<Guest>),
    Detector(detector::DetectorPre<Guest>),
}

/// One fresh instance, good for one call.
pub(crate) enum Instance {
    Policy(policy::Policy),
    Detector(detector::Detector),
}

/// The plugin's own answer: a state and an output, or its refusal in words.
pub(crate) type Answer = Result<(Vec<u8>, Output), String>;

impl Prepared {
    /// Resolves the component's imports for `world`.
    pub(crate) fn new(component: &Component, world: World) -> wasmtime::Result<Prepared> {
        let mut linker: Linker<Guest> = Linker::new(component.engine());
        log::add_to_linker::<_, HasSelf<Guest>>(&mut linker, |guest| guest)?;
        let pre = linker.instantiate_pre(component)?;
        Ok(match world {
            World::Policy => Prepared::Policy(policy::PolicyPre::new(pre)?),
            World::Detector => Prepared::Detector(detector::DetectorPre::new(pre)?),
        })
    }

    /// A fresh instance.
    pub(crate) fn instantiate(&self, store: &mut Store<Guest>) -> wasmtime::Result<Instance> {
        Ok(match self {
            Prepared::Policy(pre) => Instance::Policy(pre.instantiate(store)?),
            Prepared::Detector(pre) => Instance::Detector(pre.instantiate(store)?),
        })
    }
}

impl Instance {
    /// What the plugin says of itself.
    pub(crate) fn describe(
        &self,
        store: &mut Store<Guest>,
    ) -> wasmtime::Result<domain::Description> {
        let said = match self {
            Instance::Policy(policy) => {
                policy.heurimentor_plugin_policy_api().call_describe(store)?
            }
            Instance::Detector(detector) => {
                detector.heurimentor_plugin_detector_api().call_describe(store)?
            }
        };
        Ok(description(said))
    }

    /// Executes one request. The outer error is the engine's, the inner one the plugin's.
    pub(crate) fn call(
        &self,
        store: &mut Store<Guest>,
        request: &Request,
    ) -> wasmtime::Result<Answer> {
        match self {
            Instance::Policy(policy) => call_policy(policy, store, request),
            Instance::Detector(detector) => call_detector(detector, store, request),
        }
    }
}

fn call_policy(
    policy: &policy::Policy,
    store: &mut Store<Guest>,
    request: &Request,
) -> wasmtime::Result<Answer> {
    let api = policy.heurimentor_plugin_policy_api();
    Ok(match request {
        Request::Init { facts, domains, config, artefacts } => api
            .call_init(store, run_facts(facts), &domain_facts(domains), config, artefacts)?
            .map(|state| (state, Output::Nothing))
            .map_err(words),
        Request::Step { state, observations: seen } => api
            .call_step(store, state, &observations(seen))?
            .map(|answer| {
                (answer.state, Output::Actions(answer.actions.into_iter().map(action).collect()))
            })
            .map_err(words),
        Request::Gate { .. } => Err("failed: a policy has no gate".to_owned()),
        Request::Watch { .. } => Err("failed: a policy does not watch".to_owned()),
    })
}

fn call_detector(
    detector: &detector::Detector,
    store: &mut Store<Guest>,
    request: &Request,
) -> wasmtime::Result<Answer> {
    let api = detector.heurimentor_plugin_detector_api();
    Ok(match request {
        Request::Init { facts, domains, config, artefacts } => api
            .call_init(store, run_facts(facts), &domain_facts(domains), config, artefacts)?
            .map(|state| (state, Output::Nothing))
            .map_err(words),
        Request::Gate { state, step, pre_step: seen } => api
            .call_gate(store, state, &pre_step(*step, seen))?
            .map(|answer| (answer.state, Output::Verdict(verdict(answer.verdict))))
            .map_err(words),
        Request::Watch { state, observations: seen, timings } => {
            let timings: Option<Vec<_>> =
                timings.as_ref().map(|timings| timings.iter().map(timing).collect());
            api.call_watch(store, state, &observations(seen), timings.as_deref())?
                .map(|answer| {
                    let findings = answer.findings.into_iter().map(finding).collect();
                    (answer.state, Output::Findings(findings))
                })
                .map_err(words)
        }
        Request::Step { .. } => Err("failed: a detector has no step".to_owned()),
    })
}

fn run_facts(facts: &domain::RunFacts) -> types::RunFacts {
    types::RunFacts {
        seed: facts.seed,
        steps: facts.steps,
        bound_at_step: facts.bound_at_step,
        tokens_per_step: facts.tokens_per_step,
        sequence_length: facts.sequence_length,
        sequences_per_step: facts.sequences_per_step,
        parameters: facts.parameters,
        learning_rate_peak: facts.learning_rate_peak,
        warmup_steps: facts.warmup_steps,
    }
}

fn domain_facts(domains: &[domain::DomainFacts]) -> Vec<types::DomainFacts> {
    let convert = |facts: &domain::DomainFacts| types::DomainFacts {
        name: facts.name.clone(),
        content: facts.content.0.to_vec(),
        tokens: facts.tokens,
        documents: facts.documents,
        bytes_per_token: facts.bytes_per_token,
        prior: facts.prior,
        floor: facts.floor,
        cap: facts.cap,
        max_epochs: facts.max_epochs,
    };
    domains.iter().map(convert).collect()
}

fn observations(seen: &domain::Observations) -> types::Observations {
    types::Observations {
        dropped: seen.dropped,
        entries: seen.entries.iter().map(observation).collect(),
    }
}

fn observation(seen: &domain::Observation) -> types::Observation {
    let column = |column: &domain::Column| types::Column {
        name: column.name.clone(),
        values: column.values.clone(),
    };
    types::Observation {
        kind: match seen.kind {
            domain::ObservationKind::Step => types::ObservationKind::Step,
            domain::ObservationKind::Validation => types::ObservationKind::Validation,
        },
        attempt: seen.attempt,
        step: seen.step,
        tokens: seen.tokens,
        learning_rate: seen.learning_rate,
        loss: seen.loss,
        gradient_norm: seen.gradient_norm,
        mixture_version: seen.mixture_version,
        shares: seen.shares.clone(),
        columns: seen.columns.iter().map(column).collect(),
    }
}

fn pre_step(step: u64, seen: &PreStep) -> watching::PreStep {
    let sums = |sums: &hm_domain::step::LossSums| watching::LossSums {
        loss_sum: sums.loss_sum,
        loss_square_sum: sums.loss_square_sum,
        tokens: sums.tokens,
    };
    watching::PreStep {
        step,
        loss: seen.loss,
        gradient_norm: seen.gradient_norm,
        nonfinite_count: seen.nonfinite_count,
        losses: seen.losses.iter().map(sums).collect(),
    }
}

fn timing(timing: &domain::Timing) -> watching::Timing {
    watching::Timing { step: timing.step, step_us: timing.step_us, tokens: timing.tokens }
}

fn words(error: types::Error) -> String {
    match error {
        types::Error::Refused(message) => format!("refused: {message}"),
        types::Error::Failed(message) => format!("failed: {message}"),
    }
}

fn description(said: types::Description) -> domain::Description {
    domain::Description {
        name: said.name,
        version: said.version,
        documentation: said.documentation,
        config_schema: said.config_schema,
        columns: said.columns,
        every_steps: said.every_steps,
        gates: said.hooks.contains(types::Hooks::GATE),
        watches: said.hooks.contains(types::Hooks::WATCH),
        wants_timings: said.wants_timings,
    }
}

/// One bit pattern for all NaNs, before anything is logged.
fn canonical(value: f64) -> f64 {
    if value.is_nan() { f64::from_bits(0x7ff8_0000_0000_0000) } else { value }
}

fn action(action: steering::Action) -> domain::Action {
    let all = |values: Vec<f64>| values.into_iter().map(canonical).collect();
    domain::Action {
        change: match action.change {
            steering::Change::SetMixture(shares) => domain::Change::SetMixture(all(shares)),
            steering::Change::SetLossWeights(weights) => {
                domain::Change::SetLossWeights(all(weights))
            }
            steering::Change::Validate => domain::Change::Validate,
            steering::Change::Note => domain::Change::Note,
        },
        reason: action.reason,
        diagnostics: action
            .diagnostics
            .into_iter()
            .map(|(name, value)| (name, canonical(value)))
            .collect(),
    }
}

fn verdict(verdict: watching::Verdict) -> Verdict {
    match verdict {
        watching::Verdict::Proceed => Verdict::Proceed,
        watching::Verdict::ClipTo(norm) => Verdict::ClipTo(canonical(norm)),
        watching::Verdict::Skip => Verdict::Skip,
        watching::Verdict::Halt => Verdict::Halt,
    }
}

fn finding(finding: watching::Finding) -> domain::Finding {
    domain::Finding {
        kind: finding.kind,
        severity: match finding.severity {
            watching::Severity::Info => domain::Severity::Info,
            watching::Severity::Warning => domain::Severity::Warning,
            watching::Severity::Critical => domain::Severity::Critical,
        },
        score: canonical(finding.score),
        threshold: canonical(finding.threshold),
        domains: finding.domains,
        evidence: finding.evidence,
        recommendation: match finding.recommendation {
            watching::Recommendation::Alert => domain::Recommendation::Alert,
            watching::Recommendation::Checkpoint => domain::Recommendation::Checkpoint,
            watching::Recommendation::Pause => domain::Recommendation::Pause,
        },
    }
}
