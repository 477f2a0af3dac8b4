//! The host: components loaded once by digest, each call in a fresh instance.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};

use hm_domain::id::Digest;
use hm_domain::plugin::{Description, Limits, Outcome, Plugins, Reply, Request, World};
use wasmtime::Engine;

use crate::call::Program;
use crate::checks::Protocol;
use crate::compiler::Compiler;
use crate::engine::Ticking;
use crate::error::{HostError, Result};
use crate::load;

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
    pub(crate) program: Program,
}

struct Inner {
    ticking: Ticking,
    compiler: Compiler,
    limits: Limits,
    loaded: RwLock<BTreeMap<Digest, Loaded>>,
}

/// The plugin host. Cloning shares the engine and what is loaded.
#[derive(Clone)]
pub struct Host {
    inner: Arc<Inner>,
}

impl Host {
    /// A host under these limits.
    ///
    /// # Errors
    /// When the machine cannot run the engine.
    pub fn new(limits: Limits) -> Result<Host> {
        let ticking = Ticking::new(&limits)?;
        let compiler = Compiler::new()?;
        Ok(Host { inner: Arc::new(Inner { ticking, compiler, limits, loaded: RwLock::default() }) })
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
        self.loaded(digest).is_some()
    }

    /// Compiles a component, checks what it imports and exports, and asks it for its description.
    /// Quick: what an upload must pass beyond that is [`Host::check`].
    ///
    /// # Errors
    /// With the first check that failed, in a sentence that says how to mend it.
    pub fn load(&self, wasm: &[u8]) -> Result<Loaded> {
        let digest = Digest::of(wasm);
        if let Some(loaded) = self.loaded(&digest) {
            return Ok(loaded);
        }
        let mut protocol = Protocol::default();
        let loaded = load::open(self, digest, wasm, &mut protocol)
            .map_err(|failed| HostError::Refused(failed.message))?;
        self.keep(&loaded);
        Ok(loaded)
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.inner.ticking.engine
    }

    pub(crate) fn compiler(&self) -> &Compiler {
        &self.inner.compiler
    }

    /// Forgets all plugins but those that are wanted: machine code takes some ten times its component.
    pub fn keep_only(&self, wanted: impl Fn(&Digest) -> bool) {
        let mut all = self.inner.loaded.write().expect("no panic while loading");
        all.retain(|digest, _| wanted(digest));
    }

    fn keep(&self, loaded: &Loaded) {
        let mut all = self.inner.loaded.write().expect("no panic while loading");
        all.insert(loaded.digest, loaded.clone());
    }

    pub(crate) fn execute(&self, loaded: &Loaded, request: &Request) -> Reply {
        loaded.program.execute(self.engine(), loaded.digest, self.limits(), request)
    }

    fn loaded(&self, digest: &Digest) -> Option<Loaded> {
        self.inner.loaded.read().expect("no panic while loading").get(digest).cloned()
    }
}

impl Plugins for Host {
    fn call(&self, plugin: &Digest, request: &Request) -> Reply {
        match self.loaded(plugin) {
            Some(loaded) => self.execute(&loaded, request),
            None => {
                let sentence = format!("plugin {} is not loaded here", plugin.short());
                Reply { outcome: Outcome::NotCalled(sentence), fuel: 0, value: None }
            }
        }
    }

    fn describe(&self, plugin: &Digest) -> Option<(World, String, Description)> {
        let Loaded { world, interface, description, .. } = self.loaded(plugin)?;
        Some((world, interface, description))
    }
}
