//! A policy that misbehaves as its configuration says: for tests of the host.

use heurimentor::bindings::policy::heurimentor::plugin::types::{
    Action, Change, Description, DomainFacts, Error, Observations, RunFacts, State, Stepped,
};
use heurimentor::bindings::policy::{self, Guest};
use hostile::Plan;

struct HostilePolicy;

impl Guest for HostilePolicy {
    fn describe() -> Description {
        hostile::describe("hostile-policy", false)
    }

    fn init(
        _facts: RunFacts,
        _domains: Vec<DomainFacts>,
        config: String,
        _artefacts: Vec<Vec<u8>>,
    ) -> Result<State, Error> {
        Ok(Plan::from_config(&config)?.carry_out("init")?.0)
    }

    fn step(state: State, observations: Observations) -> Result<Stepped, Error> {
        let plan = Plan::from_state(&state);
        let (state, nonsense) = plan.carry_out("step")?;
        let count = observations.entries.first().map_or(1, |seen| seen.shares.len());
        let mut reason = "nonsense".to_owned();
        let mut diagnostics = Vec::new();
        let shares = match nonsense {
            "" => return Ok(Stepped { state, actions: Vec::new() }),
            "short" => vec![1.0; count - 1],
            "negative" => vec![-1.0; count],
            "novel" => {
                reason = hostile::novel();
                vec![1.0; count]
            }
            "aliases" => {
                diagnostics = hostile::aliases(1_000).into_iter().map(|text| (text, 0.0)).collect();
                vec![1.0; count]
            }
            _ => vec![f64::NAN; count],
        };
        let change = Change::SetMixture(shares);
        Ok(Stepped { state, actions: vec![Action { change, reason, diagnostics }] })
    }
}

policy::export!(HostilePolicy with_types_in policy);
