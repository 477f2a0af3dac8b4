//! What can go wrong before a plugin is called. A call itself has an outcome, never an error.

/// A component that was refused, or an engine that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The engine cannot be made on this machine.
    #[error("the plugin engine cannot start: {0}")]
    Engine(String),
    /// Not a plugin that this host executes. The sentence says which check failed.
    #[error("{0}")]
    Refused(String),
    /// A core module that cannot become a component.
    #[error(
        "the module cannot be packed: {0}; build it for wasm32-unknown-unknown with the bindings of wit/"
    )]
    Pack(String),
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, HostError>;
