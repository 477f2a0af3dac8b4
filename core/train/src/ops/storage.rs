//! Tensors of burn's CPU backend as the slices that they are: read without a copy, written in place
//! where nobody else holds them.

use std::ops::{Deref, DerefMut};

use burn::backend::{BackendTypes, Flex};
use burn::tensor::{Device, Tensor, TensorData};

use super::Ops;

type Primitive = <Flex as BackendTypes>::FloatTensorPrimitive;

/// Whether tensors of this device lie in this process's memory.
pub(super) fn is_cpu(device: &Device) -> bool {
    Tensor::<2>::zeros([1, 1], device).try_into_primitive::<Flex>().is_ok()
}

/// A tensor's values in row order, from any device. What the device failed in since it was last waited
/// for comes to light here.
pub(crate) fn read(tensor: Tensor<2>) -> Result<Vec<f32>, DeviceFailed> {
    let data = tensor.try_into_data().map_err(|error| DeviceFailed(error.to_string()))?;
    Ok(data.try_to_vec().expect("what is read is f32"))
}

/// A copy on another device, in that device's own setting: burn moves the numbers, and leaves the tensor
/// in or out of automatic differentiation as it was.
pub(crate) fn moved(tensor: &Tensor<2>, device: &Device) -> Tensor<2> {
    let moved = tensor.clone().without_autodiff().to_device(&device.clone().without_autodiff());
    if device.is_autodiff() { moved.autodiff() } else { moved }
}

impl Ops {
    /// What `with` makes of a tensor's values in row order: where they lie on the CPU, of a copy else.
    pub(crate) fn numbers<T>(
        &self,
        tensor: &Tensor<2>,
        with: impl FnOnce(&[f32]) -> T,
    ) -> Result<T, DeviceFailed> {
        if self.kernels {
            return Ok(with(&slice(tensor)));
        }
        Ok(with(&read(tensor.clone())?))
    }
}

/// A device could not do what it was asked for; its own words.
#[derive(Clone, Debug)]
pub(crate) struct DeviceFailed(pub(crate) String);

/// The same of the CPU, which does not fail.
pub(crate) fn values(tensor: Tensor<2>) -> Vec<f32> {
    read(tensor).unwrap_or_else(|DeviceFailed(error)| panic!("{error}"))
}

/// What `with` makes of a CPU tensor's values in row order, where they lie.
pub(crate) fn shared<T>(tensor: &Tensor<2>, with: impl FnOnce(&[f32]) -> T) -> T {
    with(&slice(tensor))
}

/// A tensor as a slice to read.
pub(super) struct Slice(Primitive);

/// Borrows a CPU tensor's values, copying only where they do not lie in row order.
pub(super) fn slice(tensor: &Tensor<2>) -> Slice {
    Slice(primitive(tensor.clone()))
}

impl Deref for Slice {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        let count = self.0.layout().num_elements();
        &self.0.storage::<f32>()[..count]
    }
}

/// A tensor as a slice to write.
pub(super) struct SliceMut(Primitive);

/// Takes a CPU tensor's values, copying them only where another tensor shares them.
pub(super) fn slice_mut(tensor: Tensor<2>) -> SliceMut {
    SliceMut(primitive(tensor))
}

impl SliceMut {
    /// The tensor again, with what was written.
    pub(super) fn tensor(self) -> Tensor<2> {
        Tensor::from_primitive::<Flex>(self.0)
    }
}

impl Deref for SliceMut {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        let count = self.0.layout().num_elements();
        &self.0.storage::<f32>()[..count]
    }
}

impl DerefMut for SliceMut {
    fn deref_mut(&mut self) -> &mut [f32] {
        let count = self.0.layout().num_elements();
        &mut self.0.storage_mut::<f32>()[..count]
    }
}

fn primitive(tensor: Tensor<2>) -> Primitive {
    let tensor = tensor.try_into_primitive::<Flex>().expect("kernels are for CPU tensors alone");
    let in_order = tensor.is_contiguous() && tensor.layout().start_offset() == 0;
    if in_order { tensor } else { tensor.to_contiguous() }
}

/// A CPU tensor of these values, without a copy.
pub(super) fn tensor(values: Vec<f32>, shape: [usize; 2], device: &Device) -> Tensor<2> {
    Tensor::from_data(TensorData::new(values, shape), device)
}
