//! The world `detector` as a trait.

use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bindings::detector;
use crate::bindings::policy::heurimentor::plugin::types::{
    Description, Error, Gated, State, Watched,
};
use crate::{DomainFacts, Finding, Observations, PreStep, RunFacts, Timing, Verdict, state};

/// Folds what training shows into findings, and may gate a step. The value is the state.
pub trait Detector: Serialize + DeserializeOwned {
    /// Name, as in name@version.
    const NAME: &'static str;
    /// Version, usually `env!("CARGO_PKG_VERSION")`.
    const VERSION: &'static str;
    /// One or more paragraphs for people.
    const DOCUMENTATION: &'static str;
    /// JSON Schema of the configuration, checked by the host before [`Detector::init`].
    const CONFIG_SCHEMA: &'static str = crate::NO_CONFIG;
    /// Columns of the catalogue that it wants to see.
    const COLUMNS: &'static [&'static str] = &[];
    /// Steps between calls of [`Detector::watch`], at least 1. A gate is called at every step.
    const EVERY_STEPS: u32 = 1;
    /// Whether [`Detector::gate`] is called. A gate costs every step a call.
    const GATES: bool;
    /// Whether [`Detector::watch`] is called.
    const WATCHES: bool;
    /// Whether `watch` is given wall-clock facts. Such a detector can alert, never bend training.
    const WANTS_TIMINGS: bool = false;
    /// The configuration, read from JSON.
    type Config: DeserializeOwned;

    /// The first state, or why this run or configuration does not suit.
    fn init(
        facts: &RunFacts,
        domains: &[DomainFacts],
        config: Self::Config,
    ) -> Result<Self, String>;

    /// Judges a step before the optimizer.
    fn gate(&mut self, _seen: &PreStep) -> Result<Verdict, String> {
        Ok(Verdict::Proceed)
    }

    /// Folds all that was seen since the last call that ended well; `timings` only if it wants them.
    fn watch(
        &mut self,
        _seen: &Observations,
        _timings: Option<&[Timing]>,
    ) -> Result<Vec<Finding>, String> {
        Ok(Vec::new())
    }
}

/// A detector as the component that the host calls.
pub struct DetectorComponent<D>(PhantomData<D>);

impl<D: Detector> detector::Guest for DetectorComponent<D> {
    fn describe() -> Description {
        Description {
            name: D::NAME.to_owned(),
            version: D::VERSION.to_owned(),
            documentation: D::DOCUMENTATION.to_owned(),
            config_schema: D::CONFIG_SCHEMA.to_owned(),
            columns: D::COLUMNS.iter().map(|&name| name.to_owned()).collect(),
            every_steps: D::EVERY_STEPS,
            gates: D::GATES,
            watches: D::WATCHES,
            wants_timings: D::WANTS_TIMINGS,
        }
    }

    fn init(
        facts: RunFacts,
        domains: Vec<DomainFacts>,
        config: String,
        _artefacts: Vec<Vec<u8>>,
    ) -> Result<State, Error> {
        let first = D::init(&facts, &domains, state::config(&config)?).map_err(Error::Refused)?;
        state::save(&first)
    }

    fn gate(kept: State, pre_step: PreStep) -> Result<Gated, Error> {
        let mut detector: D = state::load(&kept)?;
        let verdict = detector.gate(&pre_step).map_err(Error::Failed)?;
        Ok(Gated { state: state::save(&detector)?, verdict })
    }

    fn watch(
        kept: State,
        observations: Observations,
        timings: Option<Vec<Timing>>,
    ) -> Result<Watched, Error> {
        let mut detector: D = state::load(&kept)?;
        let findings = detector.watch(&observations, timings.as_deref()).map_err(Error::Failed)?;
        Ok(Watched { state: state::save(&detector)?, findings })
    }
}
