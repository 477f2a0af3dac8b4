//! The world `policy` as a trait.

use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bindings::policy::heurimentor::plugin::types::{Description, Error, State, Stepped};
use crate::bindings::policy::{self};
use crate::{Action, DomainFacts, Observations, RunFacts, state};

/// Folds what training shows into what it should do next. The value is the state.
pub trait Policy: Serialize + DeserializeOwned {
    /// Name, as in name@version.
    const NAME: &'static str;
    /// Version, usually `env!("CARGO_PKG_VERSION")`.
    const VERSION: &'static str;
    /// One or more paragraphs for people.
    const DOCUMENTATION: &'static str;
    /// JSON Schema of the configuration, checked by the host before [`Policy::init`].
    const CONFIG_SCHEMA: &'static str = crate::NO_CONFIG;
    /// Columns of the catalogue that it wants to see.
    const COLUMNS: &'static [&'static str] = &[];
    /// Steps between calls, at least 1.
    const EVERY_STEPS: u32 = 1;
    /// The configuration, read from JSON.
    type Config: DeserializeOwned;

    /// The first state, or why this run or configuration does not suit.
    fn init(
        facts: &RunFacts,
        domains: &[DomainFacts],
        config: Self::Config,
    ) -> Result<Self, String>;

    /// Folds all that was seen since the last call that ended well. On `Err` the state stays what it
    /// was, and the same observations are shown again together with the next.
    fn step(&mut self, seen: &Observations) -> Result<Vec<Action>, String>;
}

/// A policy as the component that the host calls.
pub struct PolicyComponent<P>(PhantomData<P>);

impl<P: Policy> policy::Guest for PolicyComponent<P> {
    fn describe() -> Description {
        Description {
            name: P::NAME.to_owned(),
            version: P::VERSION.to_owned(),
            documentation: P::DOCUMENTATION.to_owned(),
            config_schema: P::CONFIG_SCHEMA.to_owned(),
            columns: P::COLUMNS.iter().map(|&name| name.to_owned()).collect(),
            every_steps: P::EVERY_STEPS,
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
        let first = P::init(&facts, &domains, state::config(&config)?).map_err(Error::Refused)?;
        state::save(&first)
    }

    fn step(kept: State, observations: Observations) -> Result<Stepped, Error> {
        let mut policy: P = state::load(&kept)?;
        let actions = policy.step(&observations).map_err(Error::Failed)?;
        Ok(Stepped { state: state::save(&policy)?, actions })
    }
}
