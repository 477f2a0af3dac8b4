//! The gate of `SwiGLU`.

use burn::tensor::Tensor;
use burn::tensor::activation::sigmoid;

use super::storage::{slice, slice_mut, tensor};
use super::{Ops, full};
use crate::cpu;

impl Ops {
    /// `silu(gate) up`.
    pub(crate) fn gate(&self, gate_nf: &Tensor<2>, up_nf: &Tensor<2>) -> Tensor<2> {
        if !self.kernels {
            let (gate_nf, up_nf) = (full(gate_nf.clone()), full(up_nf.clone()));
            return self.lowered(gate_nf.clone() * sigmoid(gate_nf) * up_nf);
        }
        let shape = gate_nf.dims();
        let mut y = vec![0.0; shape[0] * shape[1]];
        cpu::gate::forward(&slice(gate_nf), &slice(up_nf), &mut y);
        tensor(y, shape, &self.device)
    }

    /// Gradients by gate and up, and the output again, which the caller needs and has not kept.
    pub(crate) fn gate_gradient(
        &self,
        gate_nf: Tensor<2>,
        up_nf: Tensor<2>,
        dy_nf: Tensor<2>,
    ) -> [Tensor<2>; 3] {
        if !self.kernels {
            let [gate_nf, up_nf, dy_nf] = [gate_nf, up_nf, dy_nf].map(full);
            let share = sigmoid(gate_nf.clone());
            let silu = gate_nf * share.clone();
            let slope = share.clone() + silu.clone() * (share.neg() + 1.0);
            let dgate = dy_nf.clone() * up_nf.clone() * slope;
            return [dgate, dy_nf * silu.clone(), silu * up_nf].map(|x| self.lowered(x));
        }
        let [mut gate, mut up, mut dy] = [gate_nf, up_nf, dy_nf].map(slice_mut);
        cpu::gate::backward(&mut gate, &mut up, &mut dy);
        [gate.tensor(), up.tensor(), dy.tensor()]
    }
}
