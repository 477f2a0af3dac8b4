//! Plugins of this process: fetched from the store by digest or name, loaded into the host once.

use anyhow::{Context, Result, anyhow};
use hm_domain::command::Candidate;
use hm_domain::id::Digest;
use hm_host::Host;
use hm_store::Store;
use serde_json::Value;

use crate::runtime::wait_for;

/// Loads plugins by what people call them.
#[derive(Clone)]
pub(crate) struct Registry {
    store: Store,
    pub(crate) host: Host,
    runtime: tokio::runtime::Handle,
}

impl Registry {
    pub(crate) fn new(store: Store, host: Host, runtime: tokio::runtime::Handle) -> Registry {
        Registry { store, host, runtime }
    }

    /// What a `Bind` names, with its configuration checked against the plugin's own schema.
    pub(crate) fn candidate(&self, plugin: &str, config: &Value) -> Result<Candidate, String> {
        let row = wait_for(&self.runtime, self.store.plugin(plugin))
            .map_err(|error| error.to_string())?
            .ok_or_else(|| format!("no plugin `{plugin}` is installed; see `hm plugin ls`"))?;
        self.load(&row.digest).map_err(|error| format!("{error:#}"))?;
        hm_host::validate_config(&row.description.config_schema, config)
            .map_err(|message| format!("config of {}: {message}", row.description.name))?;
        Ok(Candidate {
            plugin: row.digest,
            world: row.world,
            interface: row.interface,
            description: row.description,
            engine: self.host.fingerprint(),
            limits: self.host.limits().clone(),
        })
    }

    /// Compiles an installed plugin, once per process.
    pub(crate) fn load(&self, digest: &Digest) -> Result<()> {
        if self.host.is_loaded(digest) {
            return Ok(());
        }
        let wasm = wait_for(&self.runtime, self.store.plugin_wasm(*digest))?
            .ok_or_else(|| anyhow!("plugin {digest} is not in the database"))?;
        self.host.load(&wasm).with_context(|| format!("plugin {digest} does not load"))?;
        Ok(())
    }
}
