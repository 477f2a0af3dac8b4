//! The gradients of one step, added up over its micro-batches, and their global norm.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor};

use crate::ops::{DeviceFailed, Ops, moved};
use crate::parameters::Parameters;

/// Gradients by parameter path, off the autodiff graph.
#[derive(Clone, Default)]
pub(crate) struct Gradients(BTreeMap<String, Tensor<2>>);

/// What all gradients together come to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct GlobalNorm {
    /// Root of the sum of squares; not finite exactly when some element is not.
    pub(crate) norm: f64,
    /// NaN or infinite elements.
    pub(crate) nonfinite_count: u64,
}

impl Gradients {
    /// Adds one micro-batch's gradient of a parameter.
    pub(crate) fn add(&mut self, path: &str, gradient: Tensor<2>) {
        let sum = match self.take(path) {
            Some(sum) => sum + gradient,
            None => gradient,
        };
        self.put(path, sum);
    }

    /// What was added so far of a parameter, to be added to in place and put back.
    pub(crate) fn take(&mut self, path: &str) -> Option<Tensor<2>> {
        self.0.remove(path)
    }

    /// Puts a parameter's sum in its place.
    pub(crate) fn put(&mut self, path: &str, sum: Tensor<2>) {
        self.0.insert(path.to_owned(), sum);
    }

    /// Zero, where the parameter is, for every one that nothing was added of.
    pub(crate) fn complete(&mut self, parameters: &Parameters) {
        if self.0.len() == parameters.len() {
            return;
        }
        for (path, parameter) in parameters {
            self.0.entry(path.clone()).or_insert_with(|| parameter.value.zeros_like());
        }
    }

    /// Copies on another device.
    pub(crate) fn on(&self, device: &Device) -> Gradients {
        let copy = |(path, sum): (&String, &Tensor<2>)| (path.clone(), moved(sum, device));
        Gradients(self.0.iter().map(copy).collect())
    }

    /// The global norm, before clipping. Parameters are added in order of path.
    pub(crate) fn global_norm(&self, ops: &Ops) -> Result<GlobalNorm, DeviceFailed> {
        let each = ops.square_sums(&self.0.values().collect::<Vec<_>>())?;
        let square: f64 = each.iter().map(|part| part.sum).sum();
        let nonfinite_count = each.iter().map(|part| part.nonfinite_count).sum();
        Ok(GlobalNorm { norm: square.sqrt(), nonfinite_count })
    }
}

impl IntoIterator for Gradients {
    type Item = (String, Tensor<2>);
    type IntoIter = std::collections::btree_map::IntoIter<String, Tensor<2>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;

    use super::*;

    fn gradients(rows: &[&[f32]]) -> Gradients {
        let mut gradients = Gradients::default();
        for (index, row) in rows.iter().enumerate() {
            let data = TensorData::new(row.to_vec(), [1, row.len()]);
            gradients.add(&format!("p{index}"), Tensor::from_data(data, &Device::flex()));
        }
        gradients
    }

    #[test]
    fn norm_is_over_all_parameters() {
        let found =
            gradients(&[&[3.0, 0.0], &[4.0]]).global_norm(&Ops::of(&Device::flex())).unwrap();
        assert_eq!(found, GlobalNorm { norm: 5.0, nonfinite_count: 0 });
    }

    #[test]
    fn squares_that_overflow_f32_still_give_the_norm() {
        // A square of 1e20 is beyond f32; so is the sum of four squares of 1.5e19.
        for (row, norm) in [(&[3e20, 4e20][..], 5e20), (&[1.5e19; 4][..], 3e19)] {
            let found = gradients(&[row]).global_norm(&Ops::of(&Device::flex())).unwrap();
            assert!((found.norm / norm - 1.0).abs() < 1e-6, "{found:?}");
            assert_eq!(found.nonfinite_count, 0);
        }
    }

    #[test]
    fn elements_that_are_not_finite_are_counted_one_by_one() {
        let found = gradients(&[&[f32::NAN, 1.0, f32::INFINITY], &[f32::NEG_INFINITY]]);
        let found = found.global_norm(&Ops::of(&Device::flex())).unwrap();
        assert!(!found.norm.is_finite());
        assert_eq!(found.nonfinite_count, 3);
    }
}
