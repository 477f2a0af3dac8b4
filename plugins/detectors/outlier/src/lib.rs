//! The detector `outlier`: a step whose loss or gradient norm lies more than six standard deviations
//! above the mean of the last 128 accepted steps is skipped (the rule of OLMo-core's `SkipStep` and
//! Levanter's `skip_bad_steps`). The rule is in `rule.rs`.

pub mod rule;

mod bindings {
    wit_bindgen::generate!({ path: "../../../wit/0.1.0", world: "detector" });
}

use bindings::heurimentor::plugin::types::{Error, Finding, Recommendation, Severity, Verdict};
use bindings::{
    Description, DomainFacts, Gated, Guest, Observations, PreStep, RunFacts, State, Timing, Watched,
};
use rule::{Judgement, Memory};

struct Outlier;

const SCHEMA: &str = r#"{
  "type": "object",
  "additionalProperties": false,
  "properties": {
    "sigmas": {"type": "number", "exclusiveMinimum": 0, "default": 6,
      "title": "Sigmas", "description": "Standard deviations above the mean that make an outlier"}
  }
}"#;

impl Guest for Outlier {
    fn describe() -> Description {
        Description {
            name: "outlier".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            documentation: "Skips a step whose loss or gradient norm is an outlier among the last \
                128 accepted steps; armed after 64."
                .to_owned(),
            config_schema: SCHEMA.to_owned(),
            columns: Vec::new(),
            every_steps: 1,
            gates: true,
            watches: true,
            wants_timings: false,
        }
    }

    fn init(
        _facts: RunFacts,
        _domains: Vec<DomainFacts>,
        config: String,
        _artefacts: Vec<Vec<u8>>,
    ) -> Result<State, Error> {
        let config: serde_json::Value = serde_json::from_str(&config)
            .map_err(|error| Error::Refused(format!("config is not JSON: {error}")))?;
        Ok(Memory::new(config["sigmas"].as_f64().unwrap_or(6.0)).to_bytes())
    }

    fn gate(state: State, pre_step: PreStep) -> Result<Gated, Error> {
        let mut memory = Memory::from_bytes(&state);
        let judgement = memory.judge(pre_step.loss, pre_step.gradient_norm);
        let verdict = if judgement.is_some() || pre_step.nonfinite_count > 0 {
            Verdict::Skip
        } else {
            Verdict::Proceed
        };
        Ok(Gated { state: memory.to_bytes(), verdict })
    }

    fn watch(
        state: State,
        observations: Observations,
        _timings: Option<Vec<Timing>>,
    ) -> Result<Watched, Error> {
        let mut memory = Memory::from_bytes(&state);
        let last = observations.entries.last().map_or(0, |seen| seen.step);
        let finding = memory.last.take().map(|Judgement { what, score, threshold }| Finding {
            kind: format!("{what}-outlier"),
            severity: Severity::Warning,
            score,
            threshold,
            domains: Vec::new(),
            evidence: format!("{what} of step {last} is {score:.4}, above {threshold:.4}: skipped"),
            recommendation: Recommendation::Alert,
        });
        Ok(Watched { state: memory.to_bytes(), findings: finding.into_iter().collect() })
    }
}

mod glue {
    use super::*;
    bindings::export!(Outlier with_types_in bindings);
}
