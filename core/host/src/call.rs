//! One call: a fresh instance, metered, its answer read within bounds.

use hm_domain::id::Digest;
use hm_domain::plugin::{Limits, Outcome, Output, Reply, Request, World};
use wasmtime::component::InstancePre;
use wasmtime::{Engine, Store};

use crate::engine::TICK;
use crate::guest::Guest;
use crate::outcome::{Phase, outcome};
use crate::v0_1_0::{self as v, detector, policy};

/// A linked component, ready to be instantiated.
#[derive(Clone)]
pub(crate) enum Program {
    Policy(policy::PolicyPre<Guest>),
    Detector(detector::DetectorPre<Guest>),
}

enum Running {
    Policy(policy::Policy),
    Detector(detector::Detector),
}

type Value = (Vec<u8>, Output);
/// The engine's failure outside, the plugin's own no inside.
type Called = wasmtime::Result<Result<Value, Outcome>>;

impl Program {
    pub(crate) fn new(linked: InstancePre<Guest>, world: World) -> wasmtime::Result<Program> {
        Ok(match world {
            World::Policy => Program::Policy(policy::PolicyPre::new(linked)?),
            World::Detector => Program::Detector(detector::DetectorPre::new(linked)?),
        })
    }

    /// Makes an instance, which may take as much fuel as a call, and gives the call its own.
    fn start(&self, store: &mut Store<Guest>, limits: &Limits) -> Result<Running, Outcome> {
        let running = match self {
            Program::Policy(program) => program.instantiate(&mut *store).map(Running::Policy),
            Program::Detector(program) => program.instantiate(&mut *store).map(Running::Detector),
        };
        let running = running.map_err(|error| outcome(&error, Phase::Setup))?;
        store.set_fuel(limits.fuel).expect("fuel is on");
        Ok(running)
    }

    /// What the plugin says of itself.
    pub(crate) fn describe(
        &self,
        engine: &Engine,
        plugin: Digest,
        limits: &Limits,
    ) -> Result<hm_domain::plugin::Description, Outcome> {
        let mut store = store(engine, plugin, limits);
        let said = match self.start(&mut store, limits)? {
            Running::Policy(guest) => guest.call_describe(&mut store),
            Running::Detector(guest) => guest.call_describe(&mut store),
        };
        let description = v::description(said.map_err(|error| outcome(&error, Phase::Call))?);
        match text_bytes(&description) {
            bytes if bytes > limits.output_bytes_max => {
                Err(Outcome::TooLarge(format!("description of {bytes} bytes")))
            }
            _ => Ok(description),
        }
    }

    /// Executes one request.
    pub(crate) fn execute(
        &self,
        engine: &Engine,
        plugin: Digest,
        limits: &Limits,
        request: &Request,
    ) -> Reply {
        let mut store = store(engine, plugin, limits);
        let running = match self.start(&mut store, limits) {
            Ok(running) => running,
            // Fuel of making an instance differs between platforms (wasmtime#14331): not told.
            Err(outcome) => return Reply { outcome, fuel: 0, value: None },
        };
        let called = running.call(&mut store, request);
        let fuel = limits.fuel - store.get_fuel().expect("fuel is on");
        let (outcome, value) = match called {
            Ok(Ok(value)) => match too_large(&value, limits) {
                Some(reason) => (Outcome::TooLarge(reason), None),
                None => (Outcome::Ok, Some(value)),
            },
            Ok(Err(Outcome::GuestError(text))) if text.len() as u64 > limits.output_bytes_max => {
                (Outcome::TooLarge(format!("error of {} bytes", text.len())), None)
            }
            Ok(Err(outcome)) => (outcome, None),
            Err(error) => (outcome(&error, Phase::Call), None),
        };
        Reply { outcome, fuel, value }
    }
}

impl Running {
    fn call(&self, store: &mut Store<Guest>, request: &Request) -> Called {
        Ok(match (self, request) {
            (_, Request::Init { facts, domains, config, artefacts }) => {
                let facts = v::run_facts(facts);
                let domains: Vec<_> = domains.iter().map(v::domain_facts).collect();
                let made = match self {
                    Running::Policy(guest) => {
                        guest.call_init(store, facts, &domains, config, artefacts)
                    }
                    Running::Detector(guest) => {
                        guest.call_init(store, facts, &domains, config, artefacts)
                    }
                };
                made?.map(|state| (state, Output::Nothing)).map_err(v::error)
            }
            (Running::Policy(guest), Request::Step { state, observations }) => guest
                .call_step(store, state, &v::observations(observations))?
                .map(|done| {
                    (done.state, Output::Actions(done.actions.into_iter().map(v::action).collect()))
                })
                .map_err(v::error),
            (Running::Detector(guest), Request::Gate { state, step, pre_step }) => guest
                .call_gate(store, state, &v::pre_step(*step, pre_step))?
                .map(|done| (done.state, Output::Verdict(v::verdict(done.verdict))))
                .map_err(v::error),
            (Running::Detector(guest), Request::Watch { state, observations, timings }) => {
                let timings: Option<Vec<_>> =
                    timings.as_ref().map(|timings| timings.iter().map(v::timing).collect());
                guest
                    .call_watch(store, state, &v::observations(observations), timings.as_deref())?
                    .map(|done| {
                        let findings = done.findings.into_iter().map(v::finding).collect();
                        (done.state, Output::Findings(findings))
                    })
                    .map_err(v::error)
            }
            (Running::Policy(_), Request::Gate { .. } | Request::Watch { .. })
            | (Running::Detector(_), Request::Step { .. }) => {
                let sentence = "the plugin's world has no such function".to_owned();
                Err(Outcome::NotCalled(sentence))
            }
        })
    }
}

/// A store under all limits.
fn store(engine: &Engine, plugin: Digest, limits: &Limits) -> Store<Guest> {
    let mut store = Store::new(engine, Guest::new(plugin, limits));
    store.limiter(|guest| &mut guest.bounds);
    store.set_fuel(limits.fuel).expect("fuel is on");
    // Whatever a guest claims to answer, no more than this is ever read from it. Values take a few
    // times the bytes in memory that they have as text; what is within is measured exactly after.
    let answer_bytes_max = limits.state_bytes_max + 4 * limits.output_bytes_max;
    store.set_hostcall_fuel(answer_bytes_max as usize);
    store.set_epoch_deadline((limits.deadline_ms / TICK.as_millis() as u64).max(1));
    store
}

fn too_large((state, output): &Value, limits: &Limits) -> Option<String> {
    if state.len() as u64 > limits.state_bytes_max {
        return Some(format!("state of {} bytes", state.len()));
    }
    let bytes = text_bytes(output);
    (bytes > limits.output_bytes_max).then(|| format!("output of {bytes} bytes"))
}

fn text_bytes(value: &impl serde::Serialize) -> u64 {
    serde_json::to_string(value).expect("plain values have a text").len() as u64
}
