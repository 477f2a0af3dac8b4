//! Loads components once by digest and executes each call in a fresh instance.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};

use hm_domain::id::Digest;
use hm_domain::plugin::{Description, Limits, Outcome, Output, Plugins, Reply, Request, World};
use wasmtime::component::{Component, InstancePre, Linker};
use wasmtime::{Store, StoreLimits, StoreLimitsBuilder, Trap};

use crate::engine::{TICK, Ticking};
use crate::error::{HostError, Result};
use crate::v0_1_0::{self as v, detector::Detector, policy::Policy};

/// Fuel for making an instance and for `describe`: not part of a receipt.
const SETUP_FUEL: u64 = 1_000_000_000;

struct Guest {
    limits: StoreLimits,
}

/// A loaded plugin.
#[derive(Clone)]
pub struct Loaded {
    /// SHA-256 of its bytes.
    pub digest: Digest,
    /// World it implements.
    pub world: World,
    /// Interface version.
    pub interface: String,
    /// What it says of itself.
    pub description: Description,
    instance: InstancePre<Guest>,
}

struct Inner {
    ticking: Ticking,
    limits: Limits,
    loaded: RwLock<BTreeMap<Digest, Loaded>>,
}

/// The plugin host. Cloning shares the engine and what is loaded.
#[derive(Clone)]
pub struct Host {
    inner: Arc<Inner>,
}

type Value = (Vec<u8>, Output);
type Called = std::result::Result<std::result::Result<Value, Outcome>, wasmtime::Error>;

impl Host {
    /// A host under these limits.
    pub fn new(limits: Limits) -> Result<Host> {
        let ticking = Ticking::new(&limits)?;
        Ok(Host { inner: Arc::new(Inner { ticking, limits, loaded: RwLock::default() }) })
    }

    /// Limits of every call.
    pub fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    /// Engine, target, limits and interface: fuel compares only where this is equal.
    pub fn fingerprint(&self) -> Digest {
        self.inner.ticking.fingerprint(&self.inner.limits)
    }

    /// Whether a plugin is loaded.
    pub fn is_loaded(&self, digest: &Digest) -> bool {
        self.inner.loaded.read().expect("no panic while loading").contains_key(digest)
    }

    /// Compiles a component, checks what it imports and exports, and asks it for its description.
    pub fn load(&self, wasm: &[u8]) -> Result<Loaded> {
        let digest = Digest::of(wasm);
        if let Some(loaded) = self.inner.loaded.read().expect("no panic while loading").get(&digest)
        {
            return Ok(loaded.clone());
        }
        let refused = |sentence: String| HostError::Refused(sentence);
        let largest = self.inner.limits.upload_bytes_max;
        if wasm.len() as u64 > largest {
            return Err(refused(format!(
                "{} bytes are more than the {largest} allowed",
                wasm.len()
            )));
        }
        // Native code must never get as far as the compiler.
        if wasmtime::Engine::detect_precompiled(wasm).is_some() {
            let sentence = "precompiled native code: upload the component itself";
            return Err(refused(sentence.to_owned()));
        }
        match wasm.get(..8) {
            Some([0, b'a', b's', b'm', 0x0d, 0, 1, 0]) => {}
            Some([0, b'a', b's', b'm', 1, 0, 0, 0]) => {
                let sentence = "a core module, not a component: pack it with `hm plugin build`";
                return Err(refused(sentence.to_owned()));
            }
            _ => return Err(refused("not a WebAssembly component".to_owned())),
        }
        let engine = &self.inner.ticking.engine;
        let component = Component::new(engine, wasm)
            .map_err(|error| refused(format!("not a valid component: {error:#}")))?;
        let ty = component.component_type();
        for (name, _) in ty.imports(engine) {
            if name != "heurimentor:plugin/types@0.1.0" {
                let hint = if name.starts_with("wasi:") {
                    ": build for wasm32-unknown-unknown, without WASI"
                } else {
                    ": a plugin imports no function"
                };
                return Err(refused(format!("imports `{name}`{hint}")));
            }
        }
        let exports: Vec<String> = ty.exports(engine).map(|(name, _)| name.to_owned()).collect();
        let has = |name: &str| exports.iter().any(|export| export == name);
        let world = match (has("describe") && has("init"), has("step"), has("gate") && has("watch"))
        {
            (true, true, false) => World::Policy,
            (true, false, true) => World::Detector,
            _ => {
                let found = exports.join(", ");
                let sentence =
                    format!("exports [{found}], neither a policy nor a detector of 0.1.0");
                return Err(refused(sentence));
            }
        };
        let instance = Linker::new(engine)
            .instantiate_pre(&component)
            .map_err(|error| refused(format!("cannot be linked: {error:#}")))?;
        let description = self.describe(&instance, world)?;
        let interface = "0.1.0".to_owned();
        let loaded = Loaded { digest, world, interface, description, instance };
        let mut all = self.inner.loaded.write().expect("no panic while loading");
        all.insert(digest, loaded.clone());
        Ok(loaded)
    }

    fn describe(&self, instance: &InstancePre<Guest>, world: World) -> Result<Description> {
        let mut store = self.store();
        let made = instance.instantiate(&mut store).map_err(setup)?;
        // The two worlds share their types.
        let called = match world {
            World::Policy => {
                Policy::new(&mut store, &made).and_then(|guest| guest.call_describe(&mut store))
            }
            World::Detector => {
                Detector::new(&mut store, &made).and_then(|guest| guest.call_describe(&mut store))
            }
        };
        let description = called
            .map_err(|error| HostError::Refused(format!("describe does not run: {error:#}")))?;
        let description = v::description(description);
        hm_domain::catalogue::check_columns(&description.columns)
            .map_err(|error| HostError::Refused(error.to_string()))?;
        if description.name.is_empty() || description.version.is_empty() {
            let sentence = "describe gives no name or no version".to_owned();
            return Err(HostError::Refused(sentence));
        }
        Ok(description)
    }

    /// A store under all limits, with fuel for setting up.
    fn store(&self) -> Store<Guest> {
        let limits = &self.inner.limits;
        let store_limits = StoreLimitsBuilder::new()
            .memory_size(limits.memory_bytes_max as usize)
            .table_elements(limits.table_elements_max as usize)
            .instances(limits.instances_max as usize)
            .tables(limits.instances_max as usize)
            .memories(4)
            // The guest never branches on a refusal that depends on the host.
            .trap_on_grow_failure(true)
            .build();
        let mut store = Store::new(&self.inner.ticking.engine, Guest { limits: store_limits });
        store.limiter(|guest| &mut guest.limits);
        store.set_fuel(SETUP_FUEL).expect("fuel is on");
        store.set_epoch_deadline((limits.deadline_ms / TICK.as_millis() as u64).max(1));
        store
    }

    fn execute(&self, loaded: &Loaded, request: &Request) -> Reply {
        let mut store = self.store();
        let made = match loaded.instance.instantiate(&mut store) {
            Ok(made) => made,
            Err(error) => return Reply { outcome: outcome(&error), fuel: 0, value: None },
        };
        let fuel = self.inner.limits.fuel;
        store.set_fuel(fuel).expect("fuel is on");
        let called = match loaded.world {
            World::Policy => Policy::new(&mut store, &made)
                .and_then(|guest| call_policy(&mut store, &guest, request)),
            World::Detector => Detector::new(&mut store, &made)
                .and_then(|guest| call_detector(&mut store, &guest, request)),
        };
        let used = fuel - store.get_fuel().expect("fuel is on");
        match called {
            Ok(Ok(value)) => match self.too_large(&value) {
                Some(reason) => {
                    Reply { outcome: Outcome::TooLarge(reason), fuel: used, value: None }
                }
                None => Reply { outcome: Outcome::Ok, fuel: used, value: Some(value) },
            },
            Ok(Err(outcome)) => Reply { outcome, fuel: used, value: None },
            Err(error) => Reply { outcome: outcome(&error), fuel: used, value: None },
        }
    }

    fn too_large(&self, (state, output): &Value) -> Option<String> {
        let limits = &self.inner.limits;
        if state.len() as u64 > limits.state_bytes_max {
            return Some(format!("state of {} bytes", state.len()));
        }
        let text = serde_json::to_string(output).map_or(0, |text| text.len());
        (text as u64 > limits.output_bytes_max).then(|| format!("output of {text} bytes"))
    }
}

fn setup(error: wasmtime::Error) -> HostError {
    HostError::Refused(format!("cannot be instantiated: {error:#}"))
}

fn foreign() -> Outcome {
    Outcome::GuestError("this function is not of the plugin's world".to_owned())
}

fn call_policy(store: &mut Store<Guest>, guest: &Policy, request: &Request) -> Called {
    Ok(match request {
        Request::Init { facts, domains, config, artefacts } => {
            let domains: Vec<_> = domains.iter().map(v::domain_facts).collect();
            guest
                .call_init(store, v::run_facts(facts), &domains, config, artefacts)?
                .map(|state| (state, Output::Nothing))
                .map_err(v::error)
        }
        Request::Step { state, observations } => guest
            .call_step(store, state, &v::observations(observations))?
            .map(|done| {
                (done.state, Output::Actions(done.actions.into_iter().map(v::action).collect()))
            })
            .map_err(v::error),
        Request::Gate { .. } | Request::Watch { .. } => Err(foreign()),
    })
}

fn call_detector(store: &mut Store<Guest>, guest: &Detector, request: &Request) -> Called {
    Ok(match request {
        Request::Init { facts, domains, config, artefacts } => {
            let domains: Vec<_> = domains.iter().map(v::domain_facts).collect();
            guest
                .call_init(store, v::run_facts(facts), &domains, config, artefacts)?
                .map(|state| (state, Output::Nothing))
                .map_err(v::error)
        }
        Request::Gate { state, step, pre_step } => guest
            .call_gate(store, state, &v::pre_step(*step, pre_step))?
            .map(|done| (done.state, Output::Verdict(v::verdict(done.verdict))))
            .map_err(v::error),
        Request::Watch { state, observations, timings } => {
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
        Request::Step { .. } => Err(foreign()),
    })
}

/// The class of a failed call. Backtraces differ between engines, so only the trap's kind is kept.
fn outcome(error: &wasmtime::Error) -> Outcome {
    match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => Outcome::OutOfFuel,
        Some(Trap::Interrupt) => Outcome::Deadline,
        Some(Trap::StackOverflow) => Outcome::StackOverflow,
        Some(trap) => Outcome::Trap(trap.to_string()),
        None => {
            let text = format!("{error:#}");
            let kind = if text.contains("forcing trap when growing memory") {
                "memory-limit".to_owned()
            } else {
                error.root_cause().to_string()
            };
            Outcome::Trap(kind)
        }
    }
}

impl Plugins for Host {
    fn call(&self, plugin: &Digest, request: &Request) -> Reply {
        let loaded = self.inner.loaded.read().expect("no panic while loading").get(plugin).cloned();
        match loaded {
            Some(loaded) => self.execute(&loaded, request),
            None => {
                let sentence = format!("plugin {} is not loaded here", plugin.short());
                Reply { outcome: Outcome::GuestError(sentence), fuel: 0, value: None }
            }
        }
    }
}
