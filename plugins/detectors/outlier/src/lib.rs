//! The detector `outlier`: a step whose loss or gradient norm lies more than six standard deviations
//! above the mean of the last 128 accepted steps is skipped (the rule of OLMo-core's `SkipStep` and
//! Levanter's `skip_bad_steps`). The rule is in `rule.rs`.

pub mod rule;

use heurimentor::{
    Detector, DomainFacts, Finding, Observations, PreStep, Recommendation, RunFacts, Severity,
    Timing, Verdict,
};
use rule::{Judgement, Memory};
use serde::{Deserialize, Serialize};

/// What is kept between calls.
#[derive(Serialize, Deserialize)]
pub struct Outlier(Memory);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    #[serde(default = "six")]
    sigmas: f64,
}

fn six() -> f64 {
    6.0
}

impl Detector for Outlier {
    const NAME: &'static str = "outlier";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const DOCUMENTATION: &'static str = "Skips a step whose loss or gradient norm is an outlier \
        among the last 128 accepted steps; armed after 64.";
    const CONFIG_SCHEMA: &'static str = r#"{
  "type": "object",
  "additionalProperties": false,
  "properties": {
    "sigmas": {"type": "number", "exclusiveMinimum": 0, "default": 6,
      "title": "Sigmas", "description": "Standard deviations above the mean that make an outlier"}
  }
}"#;
    const GATES: bool = true;
    const WATCHES: bool = true;
    type Config = Config;

    fn init(_: &RunFacts, _: &[DomainFacts], config: Config) -> Result<Outlier, String> {
        Ok(Outlier(Memory::new(config.sigmas)))
    }

    fn gate(&mut self, seen: &PreStep) -> Result<Verdict, String> {
        let judgement = self.0.judge(seen.loss, seen.gradient_norm);
        let skip = judgement.is_some() || seen.nonfinite_count > 0;
        Ok(if skip { Verdict::Skip } else { Verdict::Proceed })
    }

    fn watch(
        &mut self,
        seen: &Observations,
        _timings: Option<&[Timing]>,
    ) -> Result<Vec<Finding>, String> {
        let last = seen.entries.last().map_or(0, |seen| seen.step);
        let finding = self.0.last.take().map(|Judgement { what, score, threshold }| Finding {
            kind: format!("{}-outlier", what.name()),
            severity: Severity::Warning,
            score,
            threshold,
            domains: Vec::new(),
            evidence: format!(
                "{} of step {last} is {score:.4}, above {threshold:.4}: skipped",
                what.name()
            ),
            recommendation: Recommendation::Alert,
        });
        Ok(finding.into_iter().collect())
    }
}

heurimentor::export_detector!(Outlier);
