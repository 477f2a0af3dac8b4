//! A detector that misbehaves as its configuration says: for tests of the host.

use heurimentor::bindings::detector::{self, Guest};
use heurimentor::bindings::policy::heurimentor::plugin::types::{
    Description, DomainFacts, Error, Finding, Gated, Observations, PreStep, Recommendation,
    RunFacts, Severity, State, Timing, Verdict, Watched,
};
use hostile::Plan;

struct HostileDetector;

impl Guest for HostileDetector {
    fn describe() -> Description {
        hostile::describe("hostile-detector", true)
    }

    fn init(
        _facts: RunFacts,
        _domains: Vec<DomainFacts>,
        config: String,
        _artefacts: Vec<Vec<u8>>,
    ) -> Result<State, Error> {
        Ok(Plan::from_config(&config)?.carry_out("init")?.0)
    }

    fn gate(state: State, _pre_step: PreStep) -> Result<Gated, Error> {
        let plan = Plan::from_state(&state);
        let (state, nonsense) = plan.carry_out("gate")?;
        let verdict =
            if nonsense.is_empty() { Verdict::Proceed } else { Verdict::ClipTo(f64::NAN) };
        Ok(Gated { state, verdict })
    }

    fn watch(
        state: State,
        _observations: Observations,
        _timings: Option<Vec<Timing>>,
    ) -> Result<Watched, Error> {
        let plan = Plan::from_state(&state);
        let (state, nonsense) = plan.carry_out("watch")?;
        if nonsense.is_empty() {
            return Ok(Watched { state, findings: Vec::new() });
        }
        let evidence = if nonsense == "novel" { hostile::novel() } else { nonsense.to_owned() };
        let finding = Finding {
            kind: "nonsense".to_owned(),
            severity: Severity::Critical,
            score: f64::NAN,
            threshold: f64::INFINITY,
            domains: vec![99],
            evidence,
            recommendation: Recommendation::Pause,
        };
        Ok(Watched { state, findings: vec![finding] })
    }
}

detector::export!(HostileDetector with_types_in detector);
