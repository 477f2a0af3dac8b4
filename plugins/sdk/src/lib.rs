//! Makes a plugin of a struct and two functions.
//!
//! A policy implements [`Policy`] and says `heurimentor::export_policy!(MyPolicy);`, a detector
//! implements [`Detector`] and says `heurimentor::export_detector!(MyDetector);`. The struct *is* the
//! state: it is serialised after every call, kept and hashed by the host, and given back to the next
//! call, which runs in a fresh instance. Nothing else survives a call. There is no clock, no
//! randomness but `facts.seed`, no file and no network.
//!
//! The bytes of the state must not depend on chance: use `Vec` and `BTreeMap`, not `HashMap`.

#[allow(missing_docs, clippy::too_many_arguments, reason = "generated from wit/0.1.0")]
#[doc(hidden)]
pub mod bindings;
mod detector;
mod help;
mod policy;
mod state;

pub use bindings::policy::heurimentor::plugin::types::{
    Action, Change, Column, DomainFacts, Finding, Level, LossSums, Observation, ObservationKind,
    Observations, PreStep, Recommendation, RunFacts, Severity, Timing, Verdict,
};
pub use detector::Detector;
#[doc(hidden)]
pub use detector::DetectorComponent;
pub use policy::Policy;
#[doc(hidden)]
pub use policy::PolicyComponent;

/// The schema of a plugin that takes no configuration.
pub const NO_CONFIG: &str = r#"{"type": "object", "additionalProperties": false}"#;

/// The configuration of a plugin that takes none.
#[derive(Clone, Copy, Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoConfig {}

/// Hands the host a line for its log. It may cut or drop it and never answers; natively, in tests,
/// it goes nowhere.
pub fn log(level: Level, message: &str) {
    #[cfg(target_arch = "wasm32")]
    bindings::policy::log(level, message);
    #[cfg(not(target_arch = "wasm32"))]
    let _ = (level, message);
}

/// Makes the crate a component of the world `policy`.
#[macro_export]
macro_rules! export_policy {
    ($policy:ty) => {
        type HeurimentorPolicy = $crate::PolicyComponent<$policy>;
        $crate::bindings::policy::export!(
            HeurimentorPolicy with_types_in $crate::bindings::policy
        );
    };
}

/// Makes the crate a component of the world `detector`.
#[macro_export]
macro_rules! export_detector {
    ($detector:ty) => {
        type HeurimentorDetector = $crate::DetectorComponent<$detector>;
        $crate::bindings::detector::export!(
            HeurimentorDetector with_types_in $crate::bindings::detector
        );
    };
}
