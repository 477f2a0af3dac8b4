//! Products with weights and their gradients. Weights are [outputs, inputs], as in files.

use burn::tensor::Tensor;

use super::storage::{slice, slice_mut, tensor};
use super::{Ops, full};
use crate::cpu::matrix::{Matrix, MatrixMut, Onto, multiply, product_of};

impl Ops {
    /// `x W^T`.
    pub(crate) fn linear(&self, x_ni: &Tensor<2>, weight_oi: &Tensor<2>) -> Tensor<2> {
        if !self.kernels {
            return self.matmul(x_ni.clone(), weight_oi.clone().transpose());
        }
        self.linear_product(None, x_ni, weight_oi)
    }

    /// `onto + x W^T`.
    pub(crate) fn linear_onto(
        &self,
        onto: Tensor<2>,
        x_ni: &Tensor<2>,
        weight_oi: &Tensor<2>,
    ) -> Tensor<2> {
        if !self.kernels {
            return onto + full(self.matmul(x_ni.clone(), weight_oi.clone().transpose()));
        }
        self.linear_product(Some(onto), x_ni, weight_oi)
    }

    fn linear_product(
        &self,
        onto: Option<Tensor<2>>,
        x_ni: &Tensor<2>,
        weight_oi: &Tensor<2>,
    ) -> Tensor<2> {
        let ([rows, inputs], [outputs, _]) = (x_ni.dims(), weight_oi.dims());
        let (x, weight) = (slice(x_ni), slice(weight_oi));
        let (x, weight) =
            (Matrix::new(&x, rows, inputs), Matrix::new(&weight, outputs, inputs).t());
        self.product(onto, [rows, outputs], x, weight)
    }

    /// The gradient by the inputs, `dy W`, added to `onto` if there is something.
    pub(crate) fn input_gradient(
        &self,
        onto: Option<Tensor<2>>,
        dy_no: &Tensor<2>,
        weight_oi: &Tensor<2>,
    ) -> Tensor<2> {
        if !self.kernels {
            let product = self.matmul(dy_no.clone(), weight_oi.clone());
            return match onto {
                Some(onto) => full(onto) + full(product),
                None => product,
            };
        }
        let ([rows, outputs], [_, inputs]) = (dy_no.dims(), weight_oi.dims());
        let (dy, weight) = (slice(dy_no), slice(weight_oi));
        let (dy, weight) = (Matrix::new(&dy, rows, outputs), Matrix::new(&weight, outputs, inputs));
        self.product(onto, [rows, inputs], dy, weight)
    }

    /// The gradient by the weight, `dy^T x`, added to `onto` if there is something.
    pub(crate) fn weight_gradient(
        &self,
        onto: Option<Tensor<2>>,
        dy_no: &Tensor<2>,
        x_ni: &Tensor<2>,
    ) -> Tensor<2> {
        if !self.kernels {
            let product = full(self.matmul(dy_no.clone().transpose(), x_ni.clone()));
            return match onto {
                Some(onto) => onto + product,
                None => product,
            };
        }
        let ([rows, outputs], [_, inputs]) = (dy_no.dims(), x_ni.dims());
        let (dy, x) = (slice(dy_no), slice(x_ni));
        let (dy, x) = (Matrix::new(&dy, rows, outputs).t(), Matrix::new(&x, rows, inputs));
        self.product(onto, [outputs, inputs], dy, x)
    }

    /// `a b` of tensor operations, in the type of products.
    pub(super) fn matmul<const D: usize>(&self, a: Tensor<D>, b: Tensor<D>) -> Tensor<D> {
        self.lowered(a).matmul(self.lowered(b))
    }

    /// `a b`, added to `onto` if there is something.
    pub(super) fn product(
        &self,
        onto: Option<Tensor<2>>,
        shape: [usize; 2],
        a: Matrix<'_>,
        b: Matrix<'_>,
    ) -> Tensor<2> {
        let [rows, columns] = shape;
        match onto {
            Some(onto) => {
                let mut out = slice_mut(onto);
                multiply(MatrixMut::new(&mut out, rows, columns), Onto::Old, a, b);
                out.tensor()
            }
            None => tensor(product_of(a, b), shape, &self.device),
        }
    }
}
