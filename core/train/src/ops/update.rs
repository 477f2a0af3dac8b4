//! One optimizer update of one parameter.

use super::Ops;
use super::storage::{slice, slice_mut};
use crate::cpu;
use crate::cpu::adamw::Update;
use crate::parameters::Parameter;
use burn::tensor::Tensor;

impl Ops {
    /// `AdamW` on a parameter and its moments; in place on the CPU.
    pub(crate) fn update(&self, parameter: &mut Parameter, gradient: &Tensor<2>, by: Update) {
        let Parameter { value, first_moment, second_moment, .. } = parameter;
        if self.kernels {
            // Taken out, so that each is held once and written where it lies.
            let nothing = || Tensor::zeros([1, 1], &self.device);
            let [mut v, mut m, mut s] = [&mut *value, &mut *first_moment, &mut *second_moment]
                .map(|tensor| slice_mut(std::mem::replace(tensor, nothing())));
            cpu::adamw::update(&mut v, &mut m, &mut s, &slice(gradient), by);
            (*value, *first_moment, *second_moment) = (v.tensor(), m.tensor(), s.tensor());
            return;
        }
        let gradient = gradient.clone() * by.scale;
        let square = gradient.clone() * gradient.clone();
        let first = first_moment.clone() * by.beta1 + gradient * (1.0 - by.beta1);
        let second = second_moment.clone() * by.beta2 + square * (1.0 - by.beta2);
        let root = (second.clone() * by.second_correction).sqrt() + by.epsilon;
        *value = value.clone() * by.decay - first.clone() / root * by.rate;
        (*first_moment, *second_moment) = (first, second);
    }
}
