//! Interface 0.1.0: its bindings, and the only place where WIT types and domain types meet.
//!
//! A later interface gets a file of its own; a released one is never edited, because old plugins
//! must replay for ever.

use hm_domain::plugin as domain;
use hm_domain::plugin::Outcome;
use hm_domain::step::{LossSums, PreStep, Verdict};

#[allow(missing_docs, unreachable_pub, reason = "generated from wit/0.1.0, which has the docs")]
pub(crate) mod policy {
    wasmtime::component::bindgen!({ path: "../../wit/0.1.0", world: "policy" });
}

#[allow(missing_docs, unreachable_pub, reason = "generated from wit/0.1.0, which has the docs")]
pub(crate) mod detector {
    wasmtime::component::bindgen!({
        path: "../../wit/0.1.0",
        world: "detector",
        // The two worlds share their types.
        with: { "heurimentor:plugin/types@0.1.0": super::policy::heurimentor::plugin::types },
    });
}

use policy::heurimentor::plugin::types;
pub(crate) use policy::heurimentor::plugin::types::Level;

pub(crate) fn run_facts(facts: &domain::RunFacts) -> types::RunFacts {
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

pub(crate) fn domain_facts(facts: &domain::DomainFacts) -> types::DomainFacts {
    types::DomainFacts {
        name: facts.name.clone(),
        content: facts.content.0.to_vec(),
        tokens: facts.tokens,
        documents: facts.documents,
        bytes_per_token: facts.bytes_per_token,
        prior: facts.prior,
        floor: facts.floor,
        cap: facts.cap,
        max_epochs: facts.max_epochs,
    }
}

pub(crate) fn observations(seen: &domain::Observations) -> types::Observations {
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

pub(crate) fn pre_step(step: u64, seen: &PreStep) -> types::PreStep {
    let sums = |sums: &LossSums| types::LossSums {
        loss_sum: sums.loss_sum,
        loss_square_sum: sums.loss_square_sum,
        tokens: sums.tokens,
    };
    types::PreStep {
        step,
        loss: seen.loss,
        gradient_norm: seen.gradient_norm,
        nonfinite_count: seen.nonfinite_count,
        losses: seen.losses.iter().map(sums).collect(),
    }
}

pub(crate) fn timing(timing: &domain::Timing) -> types::Timing {
    types::Timing { step: timing.step, step_us: timing.step_us, tokens: timing.tokens }
}

/// The plugin's no, in its own words.
pub(crate) fn error(error: types::Error) -> Outcome {
    match error {
        types::Error::Refused(message) => Outcome::GuestError(message),
        types::Error::Failed(message) => Outcome::GuestError(format!("failed: {message}")),
    }
}

pub(crate) fn description(said: types::Description) -> domain::Description {
    domain::Description {
        name: said.name,
        version: said.version,
        documentation: said.documentation,
        config_schema: said.config_schema,
        columns: said.columns,
        every_steps: said.every_steps,
        gates: said.gates,
        watches: said.watches,
        wants_timings: said.wants_timings,
    }
}

/// One bit pattern for all NaNs, before anything is logged.
fn canonical(value: f64) -> f64 {
    if value.is_nan() { f64::from_bits(0x7ff8_0000_0000_0000) } else { value }
}

pub(crate) fn action(action: types::Action) -> domain::Action {
    let all = |values: Vec<f64>| values.into_iter().map(canonical).collect();
    domain::Action {
        change: match action.change {
            types::Change::SetMixture(shares) => domain::Change::SetMixture(all(shares)),
            types::Change::SetLossWeights(weights) => domain::Change::SetLossWeights(all(weights)),
            types::Change::Validate => domain::Change::Validate,
            types::Change::Note => domain::Change::Note,
        },
        reason: action.reason,
        diagnostics: action
            .diagnostics
            .into_iter()
            .map(|(name, value)| (name, canonical(value)))
            .collect(),
    }
}

pub(crate) fn verdict(verdict: types::Verdict) -> Verdict {
    match verdict {
        types::Verdict::Proceed => Verdict::Proceed,
        types::Verdict::ClipTo(norm) => Verdict::ClipTo(canonical(norm)),
        types::Verdict::Skip => Verdict::Skip,
        types::Verdict::Halt => Verdict::Halt,
    }
}

pub(crate) fn finding(finding: types::Finding) -> domain::Finding {
    domain::Finding {
        kind: finding.kind,
        severity: match finding.severity {
            types::Severity::Info => domain::Severity::Info,
            types::Severity::Warning => domain::Severity::Warning,
            types::Severity::Critical => domain::Severity::Critical,
        },
        score: canonical(finding.score),
        threshold: canonical(finding.threshold),
        domains: finding.domains,
        evidence: finding.evidence,
        recommendation: match finding.recommendation {
            types::Recommendation::Alert => domain::Recommendation::Alert,
            types::Recommendation::Checkpoint => domain::Recommendation::Checkpoint,
            types::Recommendation::Pause => domain::Recommendation::Pause,
        },
    }
}
