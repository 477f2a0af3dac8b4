//! `RMSNorm` over rows.

use burn::tensor::Tensor;

use super::storage::{slice, slice_mut, tensor};
use super::{Ops, full};
use crate::cpu;

/// A normalised input, and what its gradient needs.
#[derive(Clone)]
pub(crate) struct Normed {
    /// The output.
    pub(crate) y_nc: Tensor<2>,
    /// One over the root mean square of each row.
    pub(crate) scale_n1: Tensor<2>,
}

impl Ops {
    /// Normalises each row, times `weight`.
    pub(crate) fn norm(&self, x_nc: &Tensor<2>, weight_1c: &Tensor<2>, epsilon: f64) -> Normed {
        let [rows, width] = x_nc.dims();
        if !self.kernels {
            let x_nc = full(x_nc.clone());
            let mean_square = (x_nc.clone() * x_nc.clone()).mean_dim(1);
            let scale_n1 = (mean_square + epsilon as f32).sqrt().recip();
            let y_nc = self.lowered(x_nc * scale_n1.clone() * weight_1c.clone());
            return Normed { y_nc, scale_n1 };
        }
        let (mut y, mut scales) = (vec![0.0; rows * width], vec![0.0; rows]);
        cpu::norm::forward(&slice(x_nc), &slice(weight_1c), epsilon as f32, &mut y, &mut scales);
        let y_nc = tensor(y, [rows, width], &self.device);
        Normed { y_nc, scale_n1: tensor(scales, [rows, 1], &self.device) }
    }

    /// The gradient by the input, added to `onto`, and the one by the weight.
    pub(crate) fn norm_gradient(
        &self,
        onto: Tensor<2>,
        dy_nc: &Tensor<2>,
        x_nc: &Tensor<2>,
        weight_1c: &Tensor<2>,
        scale_n1: &Tensor<2>,
    ) -> (Tensor<2>, Tensor<2>) {
        let width = x_nc.dims()[1];
        if !self.kernels {
            let (dy_nc, x_nc) = (full(dy_nc.clone()), full(x_nc.clone()));
            let normed = x_nc * scale_n1.clone();
            let by_normed = dy_nc.clone() * weight_1c.clone();
            let mean = (by_normed.clone() * normed.clone()).mean_dim(1);
            let dx = (by_normed - normed.clone() * mean) * scale_n1.clone();
            return (full(onto) + dx, (dy_nc * normed).sum_dim(0));
        }
        let mut dx = slice_mut(onto);
        let (dy, x) = (slice(dy_nc), slice(x_nc));
        let dweight = cpu::norm::backward(&dy, &x, &slice(weight_1c), &slice(scale_n1), &mut dx);
        (dx.tensor(), tensor(dweight, [1, width], &self.device))
    }
}
