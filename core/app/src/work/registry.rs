//! Plugins of this process: fetched from the store by digest or name, loaded into the host once.

use anyhow::{Context, Result, anyhow, bail};
use hm_domain::command::Candidate;
use hm_domain::event::BindingChanged;
use hm_domain::id::Digest;
use hm_domain::plugin::{Limits, Plugins as _};
use hm_domain::settings::shown;
use hm_host::Host;
use hm_store::{PluginRow, Store, StoreError};
use serde_json::Value;

use crate::runtime::wait_for;

/// Why a plugin that a person names cannot be bound under a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// It is not there, or not one.
    Name(String),
    /// Its schema refuses the configuration.
    Config(String),
}

impl Unfit {
    pub(crate) fn not_installed(plugin: &str) -> Unfit {
        Unfit::Name(format!(
            "no plugin {} is installed: `hm plugin ls` lists them, `hm plugin install` adds one",
            shown(plugin)
        ))
    }
}

impl std::fmt::Display for Unfit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Unfit::Name(reason) => f.write_str(reason),
            Unfit::Config(must) => write!(f, "the configuration {must}"),
        }
    }
}

/// The installed plugin that a person names, if its schema takes this configuration: what terminal, API
/// and worker ask before a plugin is bound.
pub(crate) async fn installed(
    store: &Store,
    plugin: &str,
    config: &Value,
) -> Result<Result<PluginRow, Unfit>, StoreError> {
    let row = match store.plugin(plugin).await {
        Ok(Some(row)) => row,
        Ok(None) => return Ok(Err(Unfit::not_installed(plugin))),
        Err(error @ StoreError::Ambiguous { .. }) => {
            return Ok(Err(Unfit::Name(error.to_string())));
        }
        Err(error) => return Err(error),
    };
    Ok(match hm_host::validate_config(&row.description.config_schema, config) {
        Ok(()) => Ok(row),
        Err(why) => Err(Unfit::Config(format!("must suit {}: {why}", row.description.name))),
    })
}

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
        let row = wait_for(&self.runtime, installed(&self.store, plugin, config))
            .map_err(|error| error.to_string())?
            .map_err(|unfit| unfit.to_string())?;
        self.load(&row.digest).map_err(|error| format!("{error:#}"))?;
        // What the bytes say of themselves counts, not what a table says of them.
        let said = self.host.describe(&row.digest);
        let (world, interface, description) =
            said.ok_or_else(|| format!("plugin {} is not loaded", row.digest.short()))?;
        if description != row.description {
            return Err(format!(
                "the database says something else of plugin {} than its bytes do: delete its row and \
                 install it anew",
                row.digest.short()
            ));
        }
        Ok(Candidate {
            plugin: row.digest,
            world,
            interface,
            description,
            engine: self.host.fingerprint(),
            limits: self.host.limits().clone(),
        })
    }

    /// Makes a bound plugin ready to be called on under the limits that its binding records: an audit
    /// executes every call under those.
    pub(crate) fn load_as_bound(&self, bound: &BindingChanged) -> Result<()> {
        let apart = other_limits(&bound.limits, self.host.limits())?;
        if !apart.is_empty() {
            bail!(
                "plugin {} was bound under other limits ({}) by `hm` of another version: train with that one, or \
                 fork the run without this plugin and bind it anew",
                bound.description.name,
                apart.join(", ")
            );
        }
        self.load(&bound.plugin)
    }

    /// Compiles an installed plugin, once per process.
    pub(crate) fn load(&self, digest: &Digest) -> Result<()> {
        if self.host.is_loaded(digest) {
            return Ok(());
        }
        let wasm = wait_for(&self.runtime, self.store.plugin_wasm(*digest))?
            .ok_or_else(|| anyhow!("plugin {digest} is not in the database"))?;
        let found = Digest::of(&wasm);
        if found != *digest {
            bail!("the database holds other bytes for plugin {digest}: they have digest {found}");
        }
        self.host.load(&wasm).with_context(|| format!("plugin {digest} does not load"))?;
        Ok(())
    }
}

/// What is limited otherwise now than then.
fn other_limits(then: &Limits, now: &Limits) -> Result<Vec<String>> {
    let (then, now) = (serde_json::to_value(then)?, serde_json::to_value(now)?);
    let limits = now.as_object().into_iter().flatten();
    let apart = limits.filter(|(name, value)| then[name.as_str()] != **value);
    Ok(apart.map(|(name, value)| format!("{name} {} then, {value} here", then[name])).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_that_differ_are_named_with_both_values() {
        let then = Limits::default();
        assert_eq!(other_limits(&then, &then).unwrap(), Vec::<String>::new());
        let now = Limits { fuel: then.fuel + 1, ..then.clone() };
        let said = format!("fuel {} then, {} here", then.fuel, now.fuel);
        assert_eq!(other_limits(&then, &now).unwrap(), [said]);
    }
}
