//! The policy `odm`: Online Data Mixing in its perplexity form. The rule is in `rule.rs`.

pub mod rule;

use heurimentor::{Action, DomainFacts, Observations, Policy, RunFacts};
use rule::Rewards;
use serde::{Deserialize, Serialize};

/// What is kept between calls.
#[derive(Serialize, Deserialize)]
pub struct Odm {
    smoothing: f64,
    /// First step after which it decides.
    first_step: u64,
    rewards: Rewards,
    /// What people call the domains.
    names: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    #[serde(default = "half")]
    smoothing: f64,
    warmup_steps: Option<u64>,
}

fn half() -> f64 {
    0.5
}

impl Policy for Odm {
    const NAME: &'static str = "odm";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const DOCUMENTATION: &'static str = "Online Data Mixing (2312.02406), perplexity form: samples \
        more of the domains with the higher smoothed perplexity, never less than a shrinking floor. \
        A loss that is no number is left out, one above 20 nats counts as 20.";
    const CONFIG_SCHEMA: &'static str = r#"{
  "type": "object",
  "additionalProperties": false,
  "properties": {
    "smoothing": {"type": "number", "minimum": 0, "exclusiveMaximum": 1, "default": 0.5,
      "title": "Smoothing", "description": "Part of the old reward kept at each step"},
    "warmup_steps": {"type": "integer", "minimum": 0,
      "title": "Warm-up steps", "description": "Steps in which the prior stays; 2 % of the run by default"}
  }
}"#;
    const COLUMNS: &'static [&'static str] = &["loss_sum", "loss_tokens"];
    type Config = Config;

    fn init(facts: &RunFacts, domains: &[DomainFacts], config: Config) -> Result<Odm, String> {
        let warm_up = config.warmup_steps.unwrap_or(rule::warm_up(facts.steps));
        Ok(Odm {
            smoothing: config.smoothing,
            first_step: facts.bound_at_step + warm_up,
            rewards: Rewards(vec![None; domains.len()]),
            names: domains.iter().map(|domain| domain.name.clone()).collect(),
        })
    }

    fn step(&mut self, seen: &Observations) -> Result<Vec<Action>, String> {
        let mut last_step = None;
        for entry in &seen.entries {
            for (domain, loss) in entry.mean_losses()?.into_iter().enumerate() {
                if let Some(loss) = loss {
                    self.rewards.observe(domain, loss, self.smoothing);
                    last_step = Some(entry.step);
                }
            }
        }
        let Some(t) = last_step.map(|step| step + 1).filter(|&t| t >= self.first_step) else {
            return Ok(Vec::new());
        };
        let exploration = rule::exploration(self.rewards.0.len() as f64, t);
        let action = Action::set_mixture(self.rewards.shares(t), self.reason());
        Ok(vec![action.with("exploration", exploration)])
    }
}

impl Odm {
    /// What people read beside the decision.
    fn reason(&self) -> String {
        let told = |(domain, reward): (usize, f64)| format!("{reward:.2} ({})", self.names[domain]);
        match self.rewards.extremes().map(|extremes| extremes.map(told)) {
            Some([low, high]) => format!("smoothed perplexity from {low} to {high}"),
            None => "no perplexity yet".to_owned(),
        }
    }
}

heurimentor::export_policy!(Odm);
