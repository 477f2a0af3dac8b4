//! The operations of a decoder and their gradients, each in two spellings: kernels of our own on the
//! memory of burn's CPU backend, and burn's tensor operations for every other device.
//!
//! Which one is used is a fact of the device. Both are exact gradients of the same formula, and the
//! tests hold one against the other, against burn's automatic differentiation and finite differences.

mod attention;
mod cache;
mod embedding;
mod gate;
mod head;
mod linear;
mod norm;
mod rotary;
mod storage;
#[cfg(test)]
mod tests;
mod update;

use burn::tensor::Device;

pub(crate) use attention::Attended;
pub(crate) use cache::Cache;
pub(crate) use head::chunk_rows;
pub(crate) use norm::Normed;
pub(crate) use rotary::Angles;
pub(crate) use storage::values;

/// The operations of one device.
#[derive(Clone, Debug)]
pub(crate) struct Ops {
    device: Device,
    /// Kernels on slices, or tensor operations.
    kernels: bool,
}

impl Ops {
    /// Kernels on burn's CPU backend, tensor operations elsewhere.
    pub(crate) fn of(device: &Device) -> Ops {
        Ops { device: device.clone(), kernels: storage::is_cpu(device) }
    }

    /// Tensor operations on any device, to hold the kernels against.
    pub(crate) fn composed(device: &Device) -> Ops {
        Ops { device: device.clone(), kernels: false }
    }

    /// Where the tensors are.
    pub(crate) fn device(&self) -> &Device {
        &self.device
    }
}
