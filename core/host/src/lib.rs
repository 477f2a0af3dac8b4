//! Executes plugins: WebAssembly components under limits, a fresh instance for every call.
//!
//! The only crate that knows wasmtime. What a call means for a run is decided elsewhere.

mod bounds;
mod call;
mod checks;
mod compiler;
mod engine;
mod error;
mod golden;
mod guest;
mod host;
mod load;
mod outcome;
mod pack;
mod producers;
mod schema;
mod size;
mod v0_1_0;

pub use checks::{Check, Checked};
pub use error::{HostError, Result};
pub use host::{Host, Loaded};
pub use pack::pack;
pub use schema::validate_config;
