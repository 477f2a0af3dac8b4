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
mod squares;
mod storage;
#[cfg(test)]
mod tests;
mod update;

use burn::tensor::{Device, FloatDType, Tensor};
use hm_domain::precision::Precision;

pub(crate) use attention::Attended;
pub(crate) use cache::Cache;
pub(crate) use head::{chunk_rows, composed_cross_entropy};
pub(crate) use norm::Normed;
pub(crate) use rotary::Angles;
pub(crate) use storage::{DeviceFailed, moved, read, shared, values};

/// The operations of one device.
#[derive(Clone, Debug)]
pub(crate) struct Ops {
    device: Device,
    /// Kernels on slices, or tensor operations.
    kernels: bool,
    /// What tensor operations multiply and keep; kernels know f32 alone.
    products: FloatDType,
}

impl Ops {
    /// Kernels on burn's CPU backend, tensor operations elsewhere.
    pub(crate) fn of(device: &Device) -> Ops {
        let kernels = storage::is_cpu(device);
        Ops { device: device.clone(), kernels, products: FloatDType::F32 }
    }

    /// The same, with products and what is kept for the gradient in `precision`; none where kernels are
    /// used and it is not f32.
    pub(crate) fn computing_in(self, precision: Precision) -> Option<Ops> {
        let products = match precision {
            Precision::F32 => FloatDType::F32,
            Precision::Bf16 => FloatDType::BF16,
            Precision::F16 => FloatDType::F16,
        };
        (!self.kernels || products == FloatDType::F32).then_some(Ops { products, ..self })
    }

    /// Tensor operations on any device, to hold the kernels against.
    pub(crate) fn composed(device: &Device) -> Ops {
        Ops { device: device.clone(), kernels: false, products: FloatDType::F32 }
    }

    /// Where the tensors are.
    pub(crate) fn device(&self) -> &Device {
        &self.device
    }

    /// Whether tensors are computed with by kernels, which is so on the CPU.
    pub(crate) fn are_kernels(&self) -> bool {
        self.kernels
    }

    /// Whether tensors lie in this process's memory.
    pub(crate) fn are_in_memory(&self) -> bool {
        storage::is_cpu(&self.device)
    }

    /// In the type of products.
    pub(crate) fn lowered<const D: usize>(&self, tensor: Tensor<D>) -> Tensor<D> {
        tensor.cast(self.products)
    }
}

/// In f32, as every sum over more than a product's inner axis is.
fn full<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    tensor.cast(FloatDType::F32)
}
