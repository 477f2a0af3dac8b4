//! The policy `static`: one mixture, from the configuration or the prior, for the whole run. The
//! baseline that every other policy must beat. The rule is in `rule.rs`.

pub mod rule;

use std::collections::BTreeMap;

use heurimentor::{Action, DomainFacts, Observations, Policy, RunFacts};
use rule::Memory;
use serde::{Deserialize, Serialize};

/// What is kept between calls.
#[derive(Serialize, Deserialize)]
pub struct Static(Memory);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    shares: Option<BTreeMap<String, f64>>,
}

impl Policy for Static {
    const NAME: &'static str = "static";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const DOCUMENTATION: &'static str = "Keeps one mixture for the whole run: the shares of its \
        configuration, or the prior. Asks for it when bound, and again while another is in force.";
    const CONFIG_SCHEMA: &'static str = r#"{
  "type": "object",
  "additionalProperties": false,
  "properties": {
    "shares": {"type": "object", "minProperties": 1,
      "additionalProperties": {"type": "number", "minimum": 0},
      "title": "Shares", "description": "Share of each domain by name, on any scale; 0 where none is named; without any, the prior"}
  }
}"#;
    type Config = Config;

    fn init(_: &RunFacts, domains: &[DomainFacts], config: Config) -> Result<Static, String> {
        let domains: Vec<_> =
            domains.iter().map(|domain| (domain.name.as_str(), domain.prior)).collect();
        Ok(Static(Memory::new(rule::target(&domains, config.shares.as_ref())?)))
    }

    fn step(&mut self, seen: &Observations) -> Result<Vec<Action>, String> {
        let Some(last) = seen.entries.last() else { return Ok(Vec::new()) };
        let asked = self.0.ask(last.step, &last.shares);
        Ok(asked
            .map(|target| Action::set_mixture(target, "the fixed mixture"))
            .into_iter()
            .collect())
    }
}

heurimentor::export_policy!(Static);
