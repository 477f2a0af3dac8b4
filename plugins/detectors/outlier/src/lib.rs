//! The detector `outlier`: a step whose loss or gradient norm lies more than six standard deviations
//! above what was due is skipped, after the rule of OLMo-core's `SkipStep` and Levanter's
//! `skip_bad_steps`. Theirs hold a step against the mean loss of the last 128 steps, which a new mixture
//! moves; ours holds it against what its own domains cost lately (`level.rs`). The rule is in `rule.rs`.

pub mod level;
pub mod rule;

use heurimentor::{
    Detector, DomainFacts, Finding, LossSums, ObservationKind, Observations, PreStep,
    Recommendation, RunFacts, Severity, Timing, Verdict,
};
use level::Drawn;
use rule::{Judgement, Measure, Memory, SKIPS_MAX, Setting, Step};
use serde::{Deserialize, Serialize};

/// What is kept between calls.
#[derive(Serialize, Deserialize)]
pub struct Outlier {
    memory: Memory,
    /// What people call the domains.
    names: Vec<String>,
}

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
    const DOCUMENTATION: &'static str = "Skips a step whose loss, held against what its domains cost \
        lately, or whose gradient norm is an outlier among the last 128 accepted steps; armed after 64. \
        A new mixture or new loss weights are no outlier. A level that ten draws in a row of a domain \
        keep is learned anew.";
    const CONFIG_SCHEMA: &'static str = r#"{
  "type": "object",
  "additionalProperties": false,
  "properties": {
    "sigmas": {"type": "number", "exclusiveMinimum": 0, "default": 6,
      "title": "Sigmas", "description": "Standard deviations above the mean that make an outlier"}
  }
}"#;
    const COLUMNS: &'static [&'static str] = &["loss_weight"];
    const GATES: bool = true;
    const WATCHES: bool = true;
    type Config = Config;

    fn init(facts: &RunFacts, domains: &[DomainFacts], config: Config) -> Result<Outlier, String> {
        let sequence_tokens = facts.tokens_per_step as f64 / f64::from(facts.sequences_per_step);
        let memory = Memory::new(config.sigmas, domains.len(), sequence_tokens);
        Ok(Outlier { memory, names: domains.iter().map(|domain| domain.name.clone()).collect() })
    }

    fn gate(&mut self, seen: &PreStep) -> Result<Verdict, String> {
        let drawn = |sums: &LossSums| Drawn { loss_sum: sums.loss_sum, tokens: sums.tokens };
        let judgement = self.memory.judge(&Step {
            step: seen.step,
            drawn: seen.losses.iter().map(drawn).collect(),
            weighted_loss: seen.loss,
            gradient_norm: seen.gradient_norm,
        });
        let skip = judgement.is_some() || seen.nonfinite_count > 0;
        Ok(if skip { Verdict::Skip } else { Verdict::Proceed })
    }

    fn watch(
        &mut self,
        seen: &Observations,
        _timings: Option<&[Timing]>,
    ) -> Result<Vec<Finding>, String> {
        let steps = seen.entries.iter().filter(|seen| seen.kind == ObservationKind::Step);
        if let Some(step) = steps.last() {
            let loss_weights =
                step.column("loss_weight")?.iter().map(|weight| weight.unwrap_or(1.0));
            let (shares, loss_weights) = (step.shares.clone(), loss_weights.collect());
            self.memory.told(Setting { shares, loss_weights });
        }
        let outlier = self.memory.last.take().map(|judged| self.outlier(judged));
        let forgotten = std::mem::take(&mut self.memory.forgotten);
        let anew = (!forgotten.is_empty()).then(|| self.learned_anew(&forgotten));
        Ok(outlier.into_iter().chain(anew).collect())
    }
}

impl Outlier {
    fn outlier(&self, judged: Judgement) -> Finding {
        let Judgement { step, what, score, due, threshold, domain } = judged;
        let name = what.name();
        let cause = match (what, domain) {
            (Measure::Loss, Some(domain)) => format!(", mostly by {}", self.names[domain]),
            _ => String::new(),
        };
        Finding {
            kind: format!("{name}-outlier"),
            severity: Severity::Warning,
            score,
            threshold,
            domains: domain.map(|domain| domain as u32).into_iter().collect(),
            evidence: format!(
                "{name} of step {step} is {score:.4} where {due:.4} was due, above {threshold:.4}{cause}: \
                 skipped"
            ),
            recommendation: Recommendation::Alert,
        }
    }

    fn learned_anew(&self, forgotten: &[usize]) -> Finding {
        let names: Vec<&str> =
            forgotten.iter().map(|&domain| self.names[domain].as_str()).collect();
        Finding {
            kind: "outlier-level".to_owned(),
            severity: Severity::Critical,
            score: f64::from(SKIPS_MAX),
            threshold: f64::from(SKIPS_MAX),
            domains: forgotten.iter().map(|&domain| domain as u32).collect(),
            evidence: format!(
                "{SKIPS_MAX} draws in a row of {} were skipped: how high they lie now is learned anew, and \
                 until it is known nothing of theirs is skipped",
                names.join(", ")
            ),
            recommendation: Recommendation::Alert,
        }
    }
}

heurimentor::export_detector!(Outlier);
