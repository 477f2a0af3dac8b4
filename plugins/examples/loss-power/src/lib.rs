//! The policy `loss-power`: each domain's share is proportional to a power of its last mean loss.

use heurimentor::{Action, DomainFacts, Observations, Policy, RunFacts};
use serde::{Deserialize, Serialize};

/// The state: what one call leaves for the next.
#[derive(Serialize, Deserialize)]
pub struct LossPower {
    power: f64,
    losses: Vec<Option<f64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    #[serde(default = "one")]
    power: f64,
}

fn one() -> f64 {
    1.0
}

impl Policy for LossPower {
    const NAME: &'static str = "loss-power";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const DOCUMENTATION: &'static str = "Samples each domain in proportion to a power of its loss.";
    const CONFIG_SCHEMA: &'static str = r#"{
        "type": "object",
        "additionalProperties": false,
        "properties": {"power": {"type": "number", "minimum": 0, "default": 1}}
    }"#;
    const COLUMNS: &'static [&'static str] = &["loss_sum", "loss_tokens"];
    const EVERY_STEPS: u32 = 10;
    type Config = Config;

    fn init(_: &RunFacts, domains: &[DomainFacts], config: Config) -> Result<Self, String> {
        Ok(LossPower { power: config.power, losses: vec![None; domains.len()] })
    }

    fn step(&mut self, seen: &Observations) -> Result<Vec<Action>, String> {
        for entry in &seen.entries {
            for (kept, loss) in self.losses.iter_mut().zip(entry.mean_losses()?) {
                *kept = loss.or(*kept);
            }
        }
        // Until every domain was seen once, the mixture stays as it is.
        let powers: Option<Vec<f64>> =
            self.losses.iter().map(|loss| loss.map(|loss| loss.powf(self.power))).collect();
        Ok(powers
            .map(|shares| Action::set_mixture(shares, "power of the loss"))
            .into_iter()
            .collect())
    }
}

heurimentor::export_policy!(LossPower);
