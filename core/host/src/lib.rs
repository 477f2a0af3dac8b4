//! Executes plugins: WebAssembly components under limits, a fresh instance for every call.
//!
//! The only crate that knows wasmtime. What a call means for a run is decided elsewhere.

mod config;
mod engine;
mod error;
mod host;
mod pack;
mod v0_1_0;

pub use config::validate_config;
pub use error::{HostError, Result};
pub use host::{Host, Loaded};
pub use pack::pack;
