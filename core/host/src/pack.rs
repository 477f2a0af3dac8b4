//! Core modules become components. Knows no toolchain: building the module is the caller's.

use wit_component::ComponentEncoder;

use crate::error::{HostError, Result};

/// Packs a core module, whose generated bindings carry its world, into a component.
///
/// # Errors
/// When the module is malformed or does not carry and implement a world.
pub fn pack(module: &[u8]) -> Result<Vec<u8>> {
    ComponentEncoder::default()
        .validate(true)
        .module(module)
        .and_then(|encoder| encoder.encode())
        .map_err(|error| HostError::Pack(format!("{error:#}")))
}
