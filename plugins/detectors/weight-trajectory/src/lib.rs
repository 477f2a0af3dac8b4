//! The detector `weight-trajectory`: how far the weights move, after the Aquila2 report
//! (arXiv 2408.07410, section 3.2.3). The distance is in `frechet.rs`, the rule in `rule.rs`.
//!
//! From the report: for each kind of parameter the standard deviation about 0 of every layer, the
//! Fréchet distance between these series of two checkpoints, divided by the billions of tokens between
//! them. Not in the report, and so ours: that the distance is the discrete one over the layers in order
//! and their deviations alone; which nine kinds there are (it names q, k, v and o, and discusses the
//! feed-forward and the norms); every hundred steps in place of checkpoints; and when a distance is too
//! far: it draws curves and leaves the judgement to people.

pub mod frechet;
pub mod rule;

use heurimentor::{
    Detector, DomainFacts, Finding, Observations, Recommendation, RunFacts, Severity, Timing,
};
use rule::{Measured, Memory, Rule};
use serde::{Deserialize, Serialize};

/// The kinds that are watched: all that every block has.
const KINDS: [&str; 9] = [
    "weight_std.q_proj",
    "weight_std.k_proj",
    "weight_std.v_proj",
    "weight_std.o_proj",
    "weight_std.gate_proj",
    "weight_std.up_proj",
    "weight_std.down_proj",
    "weight_std.input_layernorm",
    "weight_std.post_attention_layernorm",
];

/// What is kept between calls.
#[derive(Serialize, Deserialize)]
pub struct WeightTrajectory(Memory);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    #[serde(default = "three")]
    factor: f64,
    #[serde(default = "ten")]
    window: u32,
    #[serde(default = "five")]
    armed_after: u32,
}

fn three() -> f64 {
    3.0
}

fn ten() -> u32 {
    10
}

fn five() -> u32 {
    5
}

impl Detector for WeightTrajectory {
    const NAME: &'static str = "weight-trajectory";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const DOCUMENTATION: &'static str = "Every 100 steps and for each kind of parameter: the \
        Fréchet distance between its deviations over the layers now and 100 steps ago, per billion \
        tokens (the weight trajectory of the Aquila2 report). A distance far above the running mean \
        of the kind is a finding; what stays high is soon the mean. The report draws these curves \
        and gives no threshold: factor, window and arming are ours.";
    const CONFIG_SCHEMA: &'static str = r#"{
  "type": "object",
  "additionalProperties": false,
  "properties": {
    "factor": {"type": "number", "exclusiveMinimum": 1, "default": 3,
      "title": "Factor", "description": "Times the running mean of a kind that make a finding"},
    "window": {"type": "integer", "minimum": 1, "maximum": 10000, "default": 10,
      "title": "Window", "description": "Distances behind the running mean"},
    "armed_after": {"type": "integer", "minimum": 1, "maximum": 10000, "default": 5,
      "title": "Armed after", "description": "Distances of a kind before any is judged"}
  }
}"#;
    const COLUMNS: &'static [&'static str] = &KINDS;
    const EVERY_STEPS: u32 = 100;
    const GATES: bool = false;
    const WATCHES: bool = true;
    type Config = Config;

    fn init(_: &RunFacts, _: &[DomainFacts], config: Config) -> Result<WeightTrajectory, String> {
        let Config { factor, window, armed_after } = config;
        Ok(WeightTrajectory(Memory::new(Rule { factor, window, armed_after }, KINDS.len())))
    }

    fn watch(
        &mut self,
        seen: &Observations,
        _timings: Option<&[Timing]>,
    ) -> Result<Vec<Finding>, String> {
        let mut findings = Vec::new();
        for entry in &seen.entries {
            let stds = KINDS.map(|kind| entry.layers(kind).unwrap_or_default()).to_vec();
            if stds.iter().all(Vec::is_empty) {
                continue;
            }
            let (attempt, step, tokens) = (entry.attempt, entry.step, entry.tokens);
            let strayed = self.0.take(Measured { attempt, step, tokens, stds });
            findings.extend(strayed.into_iter().map(|strayed| {
                let kind = KINDS[strayed.kind].trim_start_matches("weight_std.");
                Finding {
                    kind: format!("weight-trajectory.{kind}"),
                    severity: Severity::Warning,
                    score: strayed.distance,
                    threshold: strayed.threshold,
                    domains: Vec::new(),
                    evidence: format!(
                        "deviations of {kind} over the layers moved {:.3e} per billion tokens from \
                         step {} to {step}, more than {:.3e}",
                        strayed.distance, strayed.since_step, strayed.threshold
                    ),
                    recommendation: Recommendation::Alert,
                }
            }));
        }
        Ok(findings)
    }
}

heurimentor::export_detector!(WeightTrajectory);
