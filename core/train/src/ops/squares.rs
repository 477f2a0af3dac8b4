//! Sums of squares of many tensors at once.

use burn::tensor::Tensor;

use super::Ops;
use super::storage::{DeviceFailed, read, slice};
use crate::cpu;

/// Of one tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct SquareSum {
    /// The sum of squared elements; not finite exactly when some element is not.
    pub(crate) sum: f64,
    /// NaN or infinite elements.
    pub(crate) nonfinite_count: u64,
}

impl Ops {
    /// The sum of squared elements of each tensor, on the CPU in f64 and in an order that depends on
    /// shapes alone.
    pub(crate) fn square_sums(
        &self,
        tensors: &[&Tensor<2>],
    ) -> Result<Vec<SquareSum>, DeviceFailed> {
        let of_values = |values: &[f32]| {
            let (sum, nonfinite_count) = cpu::norm::squares(values);
            SquareSum { sum, nonfinite_count }
        };
        if self.kernels || tensors.is_empty() {
            return Ok(tensors.iter().map(|tensor| of_values(&slice(tensor))).collect());
        }
        // On the device, and all read back together: every reading waits for the device.
        let square = |&tensor: &&Tensor<2>| (tensor.clone() * tensor.clone()).sum_dim(1).sum_dim(0);
        let sums = read(Tensor::cat(tensors.iter().map(square).collect(), 0))?;
        let each = sums.into_iter().zip(tensors).map(|(sum, &tensor)| {
            if sum.is_finite() {
                return Ok(SquareSum { sum: f64::from(sum), nonfinite_count: 0 });
            }
            // A sum beyond f32, or an element that is not finite: that tensor alone, slowly.
            Ok(of_values(&read(tensor.clone())?))
        });
        each.collect()
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;

    fn tensor(values: &[f32], shape: [usize; 2]) -> Tensor<2> {
        Tensor::from_data(TensorData::new(values.to_vec(), shape), &Device::flex())
    }

    #[test]
    fn both_spellings_sum_each_tensor_by_itself() {
        let tensors = [
            tensor(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [3, 2]),
            tensor(&[0.5, -0.5], [1, 2]),
            tensor(&[3e20, 4e20], [2, 1]),
            tensor(&[f32::NAN, 1.0], [1, 2]),
            tensor(&[2.0], [1, 1]),
        ];
        let all: Vec<&Tensor<2>> = tensors.iter().collect();
        for ops in [Ops::of(&Device::flex()), Ops::composed(&Device::flex())] {
            let found = ops.square_sums(&all).unwrap();
            let sums: Vec<f64> = found.iter().map(|found| found.sum).collect();
            assert_eq!(found[3].nonfinite_count, 1);
            assert_eq!((sums[0], sums[1], sums[4]), (91.0, 0.5, 4.0));
            assert!((sums[2] / 25e40 - 1.0).abs() < 1e-6, "{sums:?}");
            assert!(sums[3].is_nan() && sums.len() == 5);
            assert!(ops.square_sums(&[]).unwrap().is_empty());
        }
    }
}
