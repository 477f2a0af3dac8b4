//! A policy that misbehaves as its configuration says: for tests of the host.

mod bindings {
    wit_bindgen::generate!({ path: "../../wit/0.1.0", world: "policy" });
}

use bindings::heurimentor::plugin::types::{Action, Change, Error};
use bindings::{Description, DomainFacts, Guest, Observations, RunFacts, State, Stepped};

struct Hostile;

impl Guest for Hostile {
    fn describe() -> Description {
        Description {
            name: "hostile".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            documentation: "Misbehaves on purpose.".to_owned(),
            config_schema: r#"{"type": "object"}"#.to_owned(),
            columns: Vec::new(),
            every_steps: 1,
            gates: false,
            watches: false,
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
        match config["how"].as_str() {
            Some(how) => Ok(how.as_bytes().to_vec()),
            None => Err(Error::Refused("config.how is missing".to_owned())),
        }
    }

    fn step(state: State, observations: Observations) -> Result<Stepped, Error> {
        let count = observations.entries.first().map_or(1, |seen| seen.shares.len());
        let shares = match state.as_slice() {
            b"loop" => loop {
                std::hint::black_box(&state);
            },
            b"hoard" => {
                let mut hoard = Vec::new();
                loop {
                    hoard.push(vec![1u8; 1 << 20]);
                    std::hint::black_box(&hoard);
                }
            }
            b"trap" => trap(),
            b"nan" => vec![f64::NAN; count],
            b"short" => vec![1.0; count - 1],
            b"large" => {
                return Ok(Stepped { state: vec![0; 300 << 10], actions: Vec::new() });
            }
            other => return Err(Error::Failed(String::from_utf8_lossy(other).into_owned())),
        };
        let change = Change::SetMixture(shares);
        let action = Action { change, reason: "nonsense".to_owned(), diagnostics: Vec::new() };
        Ok(Stepped { state, actions: vec![action] })
    }
}

mod glue {
    use super::*;
    bindings::export!(Hostile with_types_in bindings);
}

/// `unreachable` on the wasm target; natively the crate is only checked.
fn trap() -> ! {
    #[cfg(target_arch = "wasm32")]
    core::arch::wasm32::unreachable();
    #[cfg(not(target_arch = "wasm32"))]
    std::process::abort();
}
