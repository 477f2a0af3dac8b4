//! Sums of squares of many tensors at once.

use burn::tensor::Tensor;

use super::Ops;

impl Ops {
    /// The sum of squared elements of each tensor in f64, in an order that depends on shapes alone.
    pub(crate) fn square_sums(&self, tensors: &[&Tensor<2>]) -> Vec<f64> {
        if self.kernels || tensors.is_empty() {
            return tensors.iter().map(|tensor| self.squares(tensor).0).collect();
        }
        // Rows on the device, and all of them read back together: every reading waits for the device.
        let rows = tensors.iter().map(|&tensor| (tensor.clone() * tensor.clone()).sum_dim(1));
        let rows = super::values(Tensor::cat(rows.collect(), 0));
        let mut rest = rows.as_slice();
        let sum = |&tensor: &&Tensor<2>| {
            let (own, others) = rest.split_at(tensor.dims()[0]);
            rest = others;
            let sum: f64 = own.iter().copied().map(f64::from).sum();
            // A square beyond f32, or an element that is not finite: that tensor alone, slowly.
            if sum.is_finite() { sum } else { self.squares(tensor).0 }
        };
        tensors.iter().map(sum).collect()
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
            let sums = ops.square_sums(&all);
            assert_eq!((sums[0], sums[1], sums[4]), (91.0, 0.5, 4.0));
            assert!((sums[2] / 25e40 - 1.0).abs() < 1e-6, "{sums:?}");
            assert!(sums[3].is_nan() && sums.len() == 5);
            assert_eq!(ops.square_sums(&[]), [0.0; 0]);
        }
    }
}
