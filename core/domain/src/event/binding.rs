//! Plugins at work in a run: bound, changed, quarantined, their states kept.

use serde::{Deserialize, Serialize};

use crate::id::{BindingId, Digest};
use crate::plugin::{Description, Limits, World};

/// Whether a binding is obeyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Its decisions are applied.
    Active,
    /// It decides beside the active one and is only logged.
    Shadow,
}

/// What a fault of a binding costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailurePolicy {
    /// The last mixture stays.
    #[default]
    HoldLast,
    /// The prior mixture comes back.
    FallBack,
    /// The run stops.
    StopRun,
}

/// Why a binding changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BindingChange {
    /// It is new.
    Bound,
    /// A shadow became active, or an active one a shadow.
    RoleChanged,
    /// It is called no more.
    Released,
}

/// See [`Event::BindingChanged`]. What does not change from call to call stands here once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BindingChanged {
    /// Which binding.
    pub binding: BindingId,
    /// What happened to it.
    pub change: BindingChange,
    /// First step it is called for.
    pub step: u64,
    /// Role from now on.
    pub role: Role,
    /// SHA-256 of the component.
    pub plugin: Digest,
    /// World it implements.
    pub world: World,
    /// Interface version, as `0.1.0`.
    pub interface: String,
    /// What it says of itself.
    pub description: Description,
    /// Configuration as JSON text.
    pub config: String,
    /// SHA-256 of that text.
    pub config_digest: Digest,
    /// Engine and host interface: fuel compares only where it is equal.
    pub engine: Digest,
    /// Limits of each call.
    pub limits: Limits,
    /// What a fault costs.
    pub failure: FailurePolicy,
    /// Faults in a row before quarantine.
    pub quarantine_after: u32,
    /// State made by `init`.
    pub initial_state: Digest,
    /// Fuel of `init`.
    pub initial_fuel: u64,
    /// Who asked.
    pub by: String,
}

/// See [`Event::BindingQuarantined`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BindingQuarantined {
    /// Which binding.
    pub binding: BindingId,
    /// First step it is not called for.
    pub step: u64,
    /// Faults in a row.
    pub faults: u32,
}

/// See [`Event::PluginStateSaved`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PluginStateSaved {
    /// Whose state.
    pub binding: BindingId,
    /// Steps recorded before it.
    pub step: u64,
    /// Calls so far, all hooks together.
    pub calls: u64,
    /// SHA-256 of the state: names the blob.
    pub state: Digest,
}

/// See [`Event::PluginInstalled`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PluginInstalled {
    /// SHA-256 of the component.
    pub plugin: Digest,
    /// Name it gives itself.
    pub name: String,
    /// Version it gives itself.
    pub version: String,
    /// World it implements.
    pub world: World,
    /// Who installed it.
    pub by: String,
}
