//! The policy `odm`: Online Data Mixing in its perplexity form. The rule is in `rule.rs`.

pub mod rule;

mod bindings {
    wit_bindgen::generate!({ path: "../../../wit/0.1.0", world: "policy" });
}

use bindings::heurimentor::plugin::types::{Action, Change, Error};
use bindings::{Description, DomainFacts, Guest, Observations, RunFacts, State, Stepped};
use rule::Rewards;

struct Odm;

const SCHEMA: &str = r#"{
  "type": "object",
  "additionalProperties": false,
  "properties": {
    "smoothing": {"type": "number", "minimum": 0, "exclusiveMaximum": 1, "default": 0.5,
      "title": "Smoothing", "description": "Part of the old reward kept at each step"},
    "warmup_steps": {"type": "integer", "minimum": 0,
      "title": "Warm-up steps", "description": "Steps in which the prior stays; 2 % of the run by default"}
  }
}"#;

/// State: smoothing, first step that decides, steps seen, then the rewards.
struct Memory {
    smoothing: f64,
    first_step: u64,
    rewards: Rewards,
}

impl Memory {
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.smoothing.to_le_bytes().to_vec();
        bytes.extend(self.first_step.to_le_bytes());
        bytes.extend(self.rewards.to_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Memory {
        let eight = |at: usize| bytes[at..at + 8].try_into().expect("eight bytes");
        Memory {
            smoothing: f64::from_le_bytes(eight(0)),
            first_step: u64::from_le_bytes(eight(8)),
            rewards: Rewards::from_bytes(&bytes[16..]),
        }
    }
}

impl Guest for Odm {
    fn describe() -> Description {
        Description {
            name: "odm".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            documentation: "Online Data Mixing (2312.02406), perplexity form: samples more of the \
                domains with the higher smoothed perplexity, never less than a shrinking floor."
                .to_owned(),
            config_schema: SCHEMA.to_owned(),
            columns: vec!["loss_sum".to_owned(), "loss_tokens".to_owned()],
            every_steps: 1,
            gates: false,
            watches: false,
            wants_timings: false,
        }
    }

    fn init(
        facts: RunFacts,
        domains: Vec<DomainFacts>,
        config: String,
        _artefacts: Vec<Vec<u8>>,
    ) -> Result<State, Error> {
        let config: serde_json::Value = serde_json::from_str(&config)
            .map_err(|error| Error::Refused(format!("config is not JSON: {error}")))?;
        let warm_up = config["warmup_steps"].as_u64().unwrap_or(rule::warm_up(facts.steps));
        let memory = Memory {
            smoothing: config["smoothing"].as_f64().unwrap_or(0.5),
            first_step: facts.bound_at_step + warm_up,
            rewards: Rewards(vec![None; domains.len()]),
        };
        Ok(memory.to_bytes())
    }

    fn step(state: State, observations: Observations) -> Result<Stepped, Error> {
        let mut memory = Memory::from_bytes(&state);
        let mut last_step = None;
        for seen in &observations.entries {
            let [sums, tokens] = ["loss_sum", "loss_tokens"].map(|name| {
                seen.columns.iter().find(|column| column.name == name).map(|column| &column.values)
            });
            let (Some(sums), Some(tokens)) = (sums, tokens) else {
                return Err(Error::Failed("no loss columns were shown".to_owned()));
            };
            for (domain, pair) in sums.iter().zip(tokens).enumerate() {
                if let (Some(sum), Some(tokens)) = pair
                    && *tokens > 0.0
                {
                    memory.rewards.observe(domain, sum / tokens, memory.smoothing);
                    last_step = Some(seen.step);
                }
            }
        }
        let mut actions = Vec::new();
        if let Some(step) = last_step.filter(|step| step + 1 >= memory.first_step) {
            let t = step + 1;
            let count = memory.rewards.0.len() as f64;
            actions.push(Action {
                change: Change::SetMixture(memory.rewards.shares(t)),
                reason: "smoothed perplexity by domain".to_owned(),
                diagnostics: vec![("exploration".to_owned(), rule::exploration(count, t))],
            });
        }
        Ok(Stepped { state: memory.to_bytes(), actions })
    }
}

mod glue {
    use super::*;
    bindings::export!(Odm with_types_in bindings);
}
