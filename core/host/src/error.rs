//! What can go wrong with a component before it is called. A call itself never errs: it has an
//! outcome (`hm_domain::plugin::Outcome`).

use hm_domain::plugin::Outcome;

/// Why a component was refused or an engine could not be made.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The machine or the limits do not allow an engine.
    #[error("no plugin engine could be made with these limits: {0}")]
    Engine(String),
    /// Larger than `Limits::upload_bytes_max`.
    #[error("{bytes} bytes are more than the limit of {limit} bytes; build with `opt-level = \"s\"` and `strip`")]
    TooLarge {
        /// Size offered.
        bytes: u64,
        /// Size allowed.
        limit: u64,
    },
    /// Compiled machine code of a wasmtime engine.
    #[error("this is precompiled machine code, which is never executed; upload the component it was made from")]
    Precompiled,
    /// A core module.
    #[error("this is a core module, not a component; pack it with `hm plugin build`")]
    CoreModule,
    /// Neither component nor module.
    #[error("this is no WebAssembly component: {0}; build one with `hm plugin build`")]
    NotAComponent(String),
    /// The component asks for something that plugins do not get.
    #[error("import `{0}` is not offered; {remedy}", remedy = import_remedy(.0))]
    Import(String),
    /// It exports no known interface.
    #[error("it exports {found}, but a plugin exports {known}; build it against wit/0.1.0")]
    World {
        /// Names it exports.
        found: String,
        /// Names that are known.
        known: String,
    },
    /// It names a known interface, but the functions or types differ.
    #[error("it exports `{interface}`, but not as released: {reason}; build it against wit/0.1.0")]
    Interface {
        /// The interface's name.
        interface: String,
        /// What differs.
        reason: String,
    },
    /// `describe` did not end well.
    #[error("`describe` ended with {0:?}; it must return at once and need no state")]
    Describe(Outcome),
    /// The description cannot be used.
    #[error("the description is not usable: {0}")]
    Description(String),
    /// A core module that cannot become a component.
    #[error("the module cannot be packed: {0}; register the plugin with the SDK's macro and build for wasm32-unknown-unknown")]
    Pack(String),
}

fn import_remedy(name: &str) -> &'static str {
    if name.starts_with("wasi") {
        "plugins have no WASI: build for wasm32-unknown-unknown, without clock, files or randomness"
    } else {
        "the only imports are `heurimentor:plugin/types@0.1.0` and `heurimentor:plugin/log@0.1.0`"
    }
}
